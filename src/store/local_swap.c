#include "store/local_swap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/trip.h"
#include "store/local_swap_int.h"

#define SWAP_PREFIX KEYPATH_OURS_PREFIX "-swap-"
enum { HASH_LEN = 16 };

const char *
local_swap_result_name(enum local_swap_result r)
{
	static const char *const name[] = {"none", "done", "same", "later-write", "later-delete"};

	return name[r];
}

/* Names of fixed length: a key's own last component may be as long as the file system allows. */
static void
make_names(struct local_swap *s)
{
	const char *slash = memrchr(s->key, '/', s->klen), *last = slash != NULL ? slash + 1 : s->key;
	uint8_t sum[DIGEST_SHA256_LEN];
	struct str name = STR_INIT;

	digest_sha256(last, s->klen - (size_t)(last - s->key), sum);
	str_addz(&name, SWAP_PREFIX);
	str_add_hex(&name, sum, HASH_LEN);
	(void)snprintf(s->tmp, sizeof(s->tmp), "%s", str_z(&name));
	(void)snprintf(s->note, sizeof(s->note), "%s.note", str_z(&name));
	str_fini(&name);
}

struct local_swap *
local_swap_new(struct local *l, const char *key, size_t klen, const struct local_stat *base)
{
	struct local_swap *s = mem_zalloc(sizeof(*s) + klen + 1);

	s->l = l;
	s->base = *base;
	s->fd = -1;
	s->klen = klen;
	memcpy(s->key, key, klen);
	make_names(s);
	return s;
}

void
local_swap_watch(struct local_swap *s, void (*at)(void *arg, const char *step), void *arg)
{
	s->at = at;
	s->at_arg = arg;
}

void
local_swap_until(struct local_swap *s, uint64_t until_mono_ms, const bool *stop)
{
	s->until_mono_ms = until_mono_ms;
	s->stop = stop;
}

bool
swap_may(const struct local_swap *s)
{
	if (s->stop != NULL && __atomic_load_n(s->stop, __ATOMIC_RELAXED))
		return false;
	return s->until_mono_ms == 0 || clock_mono_ms() < s->until_mono_ms;
}

void
swap_at(struct local_swap *s, const char *step)
{
	TRIP_STEP("swap", step);
	if (s->at != NULL)
		s->at(s->at_arg, step);
}

struct swap_id
swap_id(const struct local_stat *st)
{
	struct swap_id id = {.exists = st->exists};

	if (st->exists) {
		id.ino = st->ino;
		id.size = st->size;
		id.mtime_ns = st->mtime_ns;
	}
	return id;
}

bool
swap_is(const struct swap_id *id, const struct local_stat *st)
{
	/* a base that has been a text in a mark has an inode of 63 bits */
	return id->exists && st->exists && ((id->ino ^ st->ino) & INT64_MAX) == 0 && id->size == st->size && id->mtime_ns == st->mtime_ns;
}

static enum err
open_folder(const struct local_swap *s, int *dir)
{
	struct local_split k;
	enum err e = local_split_key(&k, s->key, s->klen);

	*dir = -1;
	if (e == ERR_OK && (*dir = local_open_parent(s->l, &k)) < 0)
		e = err_from_errno(errno);
	return e;
}

static enum err
unlink_if(int dir, const char *name)
{
	return unlinkat(dir, name, 0) == 0 || errno == ENOENT ? ERR_OK : err_from_errno(errno);
}

void
local_swap_free(struct local_swap **sp)
{
	struct local_swap *s = *sp;
	int dir;

	*sp = NULL;
	if (s == NULL)
		return;
	if (s->fd >= 0)
		(void)close(s->fd);
	if (s->created && swap_may(s) && open_folder(s, &dir) == ERR_OK) {
		(void)unlinkat(dir, s->tmp, 0);
		(void)close(dir);
	}
	mem_free(s);
}

bool
local_swap_pending(struct local *l, const char *key, size_t klen)
{
	static const struct local_stat none;
	struct local_swap *s = local_swap_new(l, key, klen, &none);
	struct stat st;
	bool pending = false;
	int dir;

	/* The note is written before anything is touched. */
	if (open_folder(s, &dir) == ERR_OK) {
		pending = fstatat(dir, s->note, &st, AT_SYMLINK_NOFOLLOW) == 0;
		(void)close(dir);
	}
	local_swap_free(&s);
	return pending;
}

/* ---- before and after ---- */

enum err
local_swap_settle(struct local_swap *s, enum local_swap_result *r, struct local_stat *st)
{
	struct swap_note n;
	enum err e, synced;
	int dir, held = -1;

	*r = LOCAL_SWAP_NONE;
	*st = (struct local_stat){.exists = false};
	/* no such folder, or a link in its place: nothing can have been begun there */
	if ((e = open_folder(s, &dir)) != ERR_OK)
		return e == ERR_NOTFOUND || (e == ERR_DENIED && (errno == ELOOP || errno == EXDEV)) ? ERR_OK : e;
	if ((e = swap_note_read(s, dir, &n)) == ERR_OK && n.records == 0) {
		/* no note, or one that was never finished: nothing was renamed, and what lies there is an unfinished
		 * file of ours */
		if ((e = unlink_if(dir, s->tmp)) == ERR_OK && n.present)
			e = unlink_if(dir, s->note);
	} else if (e == ERR_OK) {
		e = swap_judge(s, dir, &n, &held, false, r, st);
		synced = local_fsync(dir);
		if (e == ERR_OK)
			e = synced;
	}
	(void)close(dir);
	return e == ERR_OK && n.records > 0 && *r == LOCAL_SWAP_NONE ? local_swap_forget(s) : e;
}

enum err
local_swap_forget(struct local_swap *s)
{
	enum err e;
	int dir;

	if ((e = open_folder(s, &dir)) != ERR_OK)
		return e == ERR_NOTFOUND ? ERR_OK : e;
	/* the note first, for good: our file without it is an unfinished one, the note without our file says that it is
	 * in place */
	swap_at(s, "forget");
	if (!swap_may(s)) {
		(void)close(dir);
		return ERR_LEASE_LOST;
	}
	if ((e = unlink_if(dir, s->note)) == ERR_OK && (e = local_fsync(dir)) == ERR_OK) {
		swap_at(s, "forgotten");
		e = unlink_if(dir, s->tmp);
	}
	(void)close(dir);
	return e;
}

/* ---- the swap ---- */

enum err
local_swap_create(struct local_swap *s, int *fd)
{
	struct local_split k;
	enum err e;
	int dir;

	*fd = -1;
	ASSERT(s->fd < 0);
	if ((e = local_split_key(&k, s->key, s->klen)) != ERR_OK || (e = local_make_parent(s->l, &k, &dir)) != ERR_OK)
		return e;
	if (faccessat(dir, s->note, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		e = ERR_STATE;
	else if ((s->fd = local_open_beneath(dir, s->tmp, O_RDWR | O_CREAT | O_EXCL, 0666)) < 0)
		e = errno == EEXIST ? ERR_STATE : err_from_errno(errno);
	(void)close(dir);
	s->created = s->fd >= 0;
	*fd = s->fd;
	return e;
}

/* Owner and mode as far as we may: who is not privileged cannot give files away. */
static enum err
set_meta(struct local_swap *s, const struct local_swap_meta *m)
{
	struct timespec t[2] = {
	    {.tv_nsec = UTIME_NOW}, {.tv_sec = m->mtime_ns / 1000000000, .tv_nsec = m->mtime_ns % 1000000000}};
	struct local_stat now;
	uint32_t mode = m->mode, uid = m->uid, gid = m->gid;
	bool known = m->has_mode;

	if (t[1].tv_nsec < 0) {
		t[1].tv_nsec += 1000000000;
		t[1].tv_sec--;
	}
	if (local_look(s->l, s->key, s->klen, &now) == ERR_OK && now.exists) {
		mode = now.mode;
		uid = now.uid;
		gid = now.gid;
		known = true;
	}
	if (known && fchown(s->fd, uid, gid) < 0 && fchown(s->fd, (uid_t)-1, gid) < 0 && errno != EPERM)
		return err_from_errno(errno);
	/* never set-user-ID: the mode comes from a bucket */
	if ((known && fchmod(s->fd, mode & 0777) < 0) || futimens(s->fd, t) < 0)
		return err_from_errno(errno);
	return ERR_OK;
}

/*
 * The key's file under a lease, which *held keeps: from now on nobody writes to it unseen, so its stat, ctime and all,
 * says whether anybody has written since the base was looked at. That is why the ctime need not be compared after the
 * rename, which moves it. OK with *held < 0: it is not the base, *r says what.
 */
static enum err
hold_base(struct local_swap *s, int dir, int *held, enum local_swap_result *r, struct local_stat *st)
{
	struct local_split k;
	struct stat sb;
	enum err e;
	int fd;

	*held = -1;
	if ((e = local_split_key(&k, s->key, s->klen)) != ERR_OK)
		return e;
	swap_at(s, "hold");
	if ((fd = local_open_beneath(dir, k.base, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0)) < 0) {
		if (errno != ENOENT && errno != ELOOP && errno != ENXIO)
			return err_from_errno(errno);
		e = local_look(s->l, s->key, s->klen, st);
		if (e == ERR_OK && st->exists)
			e = ERR_CHANGED;
		*r = LOCAL_SWAP_LATER_DELETE;
		return e;
	}
	e = swap_lease(fd);
	if (fstat(fd, &sb) < 0) {
		e = err_from_errno(errno);
	} else if (!S_ISREG(sb.st_mode)) {
		*r = LOCAL_SWAP_LATER_DELETE;
		e = local_sentinel(s->l, NULL);
	} else {
		local_fill_stat(st, &sb);
		if (!swap_is(&(struct swap_id){1, s->base.ino, s->base.size, s->base.mtime_ns}, st) ||
		    s->base.ctime_ns != st->ctime_ns) {
			*r = LOCAL_SWAP_LATER_WRITE;
			e = ERR_OK;
		} else if (e == ERR_OK) {
			*held = fd;
			return ERR_OK;
		}
	}
	local_close(fd);
	return e;
}

/* Nothing was renamed: as if nothing had been begun. Our file may only go if the note has gone for good. */
static void
undo(struct local_swap *s, int dir)
{
	swap_at(s, "undo");
	if (unlink_if(dir, s->note) != ERR_OK || local_fsync(dir) != ERR_OK)
		s->created = false;
}

/* What a rename that failed says: EINVAL and ENOSYS are of its flags, which not every file system knows. */
static enum err
rename_failed(void)
{
	return errno == EINVAL || errno == ENOSYS ? ERR_UNSUPPORTED : err_from_errno(errno);
}

static enum err
rename_in(struct local_swap *s, int dir, const struct swap_id *ours)
{
	struct local_split k;
	struct stat sb;
	enum err e = local_split_key(&k, s->key, s->klen);

	if (e != ERR_OK)
		return e;
	swap_at(s, "rename");
	/* One that was stopped for so long that others have gone on here must not act on what is theirs. */
	if (!swap_may(s))
		return ERR_LEASE_LOST;
	if (fstatat(dir, s->tmp, &sb, AT_SYMLINK_NOFOLLOW) < 0 || sb.st_ino != ours->ino)
		return ERR_LEASE_LOST;
	if (renameat2(dir, s->tmp, dir, k.base, s->base.exists ? RENAME_EXCHANGE : RENAME_NOREPLACE) == 0)
		return ERR_OK;
	/* gone, or come: the judge looks at what is there. (Without a base only our own file can be missing.) */
	if (errno == (s->base.exists ? ENOENT : EEXIST))
		return ERR_OK;
	return rename_failed();
}

static enum err
rename_out(struct local_swap *s, int dir)
{
	struct local_split k;
	enum err e = local_split_key(&k, s->key, s->klen);

	if (e != ERR_OK)
		return e;
	swap_at(s, "rename");
	if (!swap_may(s))
		return ERR_LEASE_LOST;
	if (renameat2(dir, k.base, dir, s->tmp, RENAME_NOREPLACE) == 0 || errno == ENOENT)
		return ERR_OK;
	return errno == EEXIST ? ERR_STATE : rename_failed();
}

/* Note, look, rename, judge. */
static enum err
act(struct local_swap *s, enum swap_kind kind, const struct swap_id *ours, enum local_swap_result *r,
    struct local_stat *st)
{
	struct swap_id base = swap_id(&s->base);
	struct swap_note n;
	enum err e, synced;
	bool created;
	int dir, held = -1;

	if ((e = open_folder(s, &dir)) != ERR_OK)
		return e == ERR_NOTFOUND ? ERR_STATE : e;
	if (kind == SWAP_PUT && faccessat(dir, s->tmp, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		e = ERR_STATE;
	else if ((e = swap_note_write(s, dir, kind, &base, ours)) != ERR_OK && e != ERR_STATE)
		undo(s, dir);
	if (e != ERR_OK) {
		(void)close(dir);
		return e;
	}
	if (s->base.exists)
		e = hold_base(s, dir, &held, r, st);
	if (s->base.exists == (held >= 0) &&
	    (e = kind == SWAP_PUT ? rename_in(s, dir, ours) : rename_out(s, dir)) == ERR_OK) {
		created = s->created;
		s->created = false; /* from here on settle decides */
		if ((e = swap_note_read(s, dir, &n)) == ERR_OK)
			e = n.records > 0 ? swap_judge(s, dir, &n, &held, true, r, st) : ERR_IO;
		if (e == ERR_OK && *r == LOCAL_SWAP_NONE) { /* something that is no file stands there, and did before */
			s->created = created;
			undo(s, dir);
			e = ERR_EXISTS;
		}
	} else if (e == ERR_LEASE_LOST) {
		s->created = false; /* the next holder's, note and all */
	} else {
		undo(s, dir);
	}
	if (held >= 0)
		local_close(held);
	synced = local_fsync(dir);
	(void)close(dir);
	return e == ERR_OK ? synced : e;
}

enum err
local_swap_in(struct local_swap *s, const struct local_swap_meta *m, enum local_swap_result *r, struct local_stat *st)
{
	struct local_stat ours;
	struct swap_id id;
	struct stat sb;
	enum err e;

	*r = LOCAL_SWAP_NONE;
	*st = (struct local_stat){.exists = false};
	ASSERT(s->fd >= 0);
	if ((e = set_meta(s, m)) != ERR_OK)
		return e;
	if (fsync(s->fd) < 0 || fstat(s->fd, &sb) < 0)
		return err_from_errno(errno);
	local_fill_stat(&ours, &sb);
	id = swap_id(&ours);
	/* not even we may have it open for writing */
	(void)close(s->fd);
	s->fd = -1;
	return act(s, SWAP_PUT, &id, r, st);
}

enum err
local_swap_out(struct local_swap *s, enum local_swap_result *r, struct local_stat *st)
{
	static const struct swap_id none;

	*r = LOCAL_SWAP_NONE;
	*st = (struct local_stat){.exists = false};
	ASSERT(s->fd < 0 && s->base.exists);
	return act(s, SWAP_DELETE, &none, r, st);
}

/* ---- can it be done here ---- */

static enum err
say(struct errbuf *eb, const struct local *l, const char *what, int errnum)
{
	return err_set(eb, ERR_UNSUPPORTED,
	    "%s: its file system has no %s (%s): what was written to R2 first cannot be carried back to it safely",
	    l->path, what, strerror(errnum));
}

static enum err
try_lease(const struct local *l, const char *name, int writer, struct errbuf *eb)
{
	int fd = local_open_beneath(l->fd, name, O_RDONLY, 0);
	enum err e;

	if (fd < 0)
		return err_set(eb, err_from_errno(errno), "%s/%s: %s", l->path, name, strerror(errno));
	e = swap_lease(fd);
	if (writer >= 0 && e == ERR_BUSY)
		e = ERR_OK;
	else if (writer >= 0 && e == ERR_OK)
		e = err_set(eb, ERR_UNSUPPORTED,
		    "%s: its file system gives a lease (fcntl F_SETLEASE) on a file that is open for writing", l->path);
	else if (e != ERR_OK)
		e = say(eb, l, "leases (fcntl F_SETLEASE; see fs.leases-enable)", errno);
	local_close(fd);
	return e;
}

static enum err
try_renames(const struct local *l, const char *a, const char *b, struct errbuf *eb)
{
	if (renameat2(l->fd, a, l->fd, b, RENAME_EXCHANGE) < 0)
		return say(eb, l, "exchange of two names (renameat2 RENAME_EXCHANGE)", errno);
	if (renameat2(l->fd, a, l->fd, b, RENAME_NOREPLACE) == 0)
		return say(eb, l, "rename that replaces nothing (renameat2 RENAME_NOREPLACE)", 0);
	return errno == EEXIST ? ERR_OK
			       : say(eb, l, "rename that replaces nothing (renameat2 RENAME_NOREPLACE)", errno);
}

enum err
local_swap_supported(struct local *l, struct errbuf *eb)
{
	char name[2][SWAP_NAME_MAX] = {"", ""};
	uint8_t random[8];
	struct str hex = STR_INIT;
	int fd[2] = {-1, -1};
	enum err e = ERR_OK;

	digest_random(random, sizeof(random));
	str_add_hex(&hex, random, sizeof(random));
	for (int i = 0; i < 2 && e == ERR_OK; i++) {
		(void)snprintf(name[i], sizeof(name[i]), SWAP_PREFIX "probe-%s-%d", str_z(&hex), i);
		if ((fd[i] = local_open_beneath(l->fd, name[i], O_RDWR | O_CREAT | O_EXCL, 0600)) < 0)
			e = err_set(eb, err_from_errno(errno), "%s/%s: %s", l->path, name[i], strerror(errno));
	}
	str_fini(&hex);
	if (e == ERR_OK)
		e = try_lease(l, name[0], fd[0], eb);
	if (e == ERR_OK) {
		(void)close(fd[0]);
		fd[0] = -1;
		e = try_lease(l, name[0], -1, eb);
	}
	if (e == ERR_OK)
		e = try_renames(l, name[0], name[1], eb);
	for (int i = 0; i < 2; i++) {
		if (name[i][0] != '\0')
			(void)unlinkat(l->fd, name[i], 0);
		if (fd[i] >= 0)
			(void)close(fd[i]);
	}
	return e;
}
