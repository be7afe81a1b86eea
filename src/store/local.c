#include "store/local_int.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/keypath.h"
#include "base/mem.h"
#include "base/trip.h"
#include "base/utf8.h"
#include "store/mime.h"
#include "store/store.h"

#define READ_CHUNK (256 << 10)
#define SITE_MAX   64 /* bytes of the sentinel */
#define YOUNG_NS   (10 * 1000 * 1000)

enum err
local_split_key(struct local_split *s, const char *key, size_t klen)
{
	const char *slash;

	if (klen == 0 || key[0] == '/' || key[klen - 1] == '/' || memchr(key, '\0', klen) != NULL)
		return ERR_INVAL;
	if (klen >= sizeof(s->path))
		return ERR_TOOBIG;
	memcpy(s->path, key, klen);
	s->path[klen] = '\0';
	slash = strrchr(s->path, '/');
	s->dirlen = slash != NULL ? (size_t)(slash - s->path) : 0;
	s->base = slash != NULL ? slash + 1 : s->path;
	return ERR_OK;
}

int
local_open_beneath(int dir, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
	    .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOFOLLOW),
	    .mode = mode,
	    .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	do
		fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return (int)fd;
}

int
local_open_parent(const struct local *l, struct local_split *s)
{
	int fd;

	if (s->dirlen == 0)
		return local_open_beneath(l->fd, ".", O_RDONLY | O_DIRECTORY, 0);
	s->path[s->dirlen] = '\0';
	fd = local_open_beneath(l->fd, s->path, O_RDONLY | O_DIRECTORY, 0);
	s->path[s->dirlen] = '/';
	return fd;
}

void
local_close(int fd)
{
	int saved = errno;

	(void)close(fd);
	errno = saved;
}

/* ---- the root and its sentinel ---- */

static enum err
read_sentinel(int dir, char site[SITE_MAX + 1], struct errbuf *eb, const char *root)
{
	int fd = local_open_beneath(dir, KEYPATH_SENTINEL, O_RDONLY | O_NONBLOCK, 0);
	ssize_t n;

	if (fd < 0)
		return err_set(eb, ERR_SENTINEL,
		    "%s: no %s there (%s): is the disk mounted? `r2shim init` writes it once", root, KEYPATH_SENTINEL,
		    strerror(errno));
	n = pread(fd, site, SITE_MAX, 0);
	local_close(fd);
	if (n < 0)
		return err_set(eb, ERR_SENTINEL, "%s/%s: %s", root, KEYPATH_SENTINEL, strerror(errno));
	site[n] = '\0';
	site[strcspn(site, "\r\n")] = '\0';
	return ERR_OK;
}

static enum err
check_sentinel(int dir, const char *site, struct errbuf *eb, const char *root)
{
	char found[SITE_MAX + 1];
	enum err e = read_sentinel(dir, found, eb, root);

	if (e == ERR_OK && strcmp(found, site) != 0)
		e = err_set(
		    eb, ERR_SENTINEL, "%s/%s names the site \"%s\", not \"%s\"", root, KEYPATH_SENTINEL, found, site);
	return e;
}

enum err
local_open(struct local **out, const char *root, const char *site, struct errbuf *eb)
{
	struct local *l = mem_zalloc(sizeof(*l));
	struct stat st;
	enum err e = ERR_OK;
	int probe;

	*out = NULL;
	l->folders = local_folders_new();
	l->path = mem_strdup(root);
	l->site = mem_strdup(site);
	if ((l->fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 || fstat(l->fd, &st) < 0) {
		e = err_set(eb, err_from_errno(errno), "%s: %s", root, strerror(errno));
	} else if ((probe = local_open_beneath(l->fd, ".", O_PATH, 0)) < 0 && (errno == ENOSYS || errno == EPERM)) {
		e = err_set(eb, ERR_UNSUPPORTED,
		    "%s: openat2: %s: Linux 5.6 or newer is needed, and a container must allow it", root,
		    strerror(errno));
	} else {
		if (probe >= 0)
			(void)close(probe);
		l->dev = st.st_dev;
		l->ino = st.st_ino;
		e = check_sentinel(l->fd, site, eb, root);
	}
	if (e != ERR_OK)
		local_free(&l);
	*out = l;
	return e;
}

void
local_free(struct local **l)
{
	struct local *x = *l;

	*l = NULL;
	if (x == NULL)
		return;
	if (x->fd >= 0)
		(void)close(x->fd);
	local_folders_free(&x->folders);
	mem_free(x->path);
	mem_free(x->site);
	mem_free(x);
}

/* By the path, as the application sees it: our descriptor would keep an unmounted disk alive. */
enum err
local_sentinel(struct local *l, struct errbuf *eb)
{
	struct stat st;
	enum err e;
	int fd = open(l->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_set(eb, ERR_SENTINEL, "%s: %s", l->path, strerror(errno));
	if (fstat(fd, &st) < 0)
		e = err_set(eb, ERR_SENTINEL, "%s: %s", l->path, strerror(errno));
	else if (st.st_dev != l->dev || st.st_ino != l->ino)
		e = err_set(eb, ERR_SENTINEL,
		    "%s is not the folder that it was at the start: mounted, unmounted or replaced since", l->path);
	else
		e = check_sentinel(fd, l->site, eb, l->path);
	(void)close(fd);
	return e;
}

static enum err
write_sentinel_file(int dir, const char *site)
{
	static const char tmp[] = LOCAL_TMP_PREFIX "sentinel";
	int fd = local_open_beneath(dir, tmp, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	size_t n = strlen(site);
	bool ok;

	if (fd < 0)
		return err_from_errno(errno);
	ok = write(fd, site, n) == (ssize_t)n && write(fd, "\n", 1) == 1 && fsync(fd) == 0;
	local_close(fd);
	if (ok && renameat(dir, tmp, dir, KEYPATH_SENTINEL) == 0 && fsync(dir) == 0)
		return ERR_OK;
	return err_from_errno(errno);
}

enum err
local_sentinel_write(const char *root, const char *site, struct errbuf *eb)
{
	char found[SITE_MAX + 1];
	int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	enum err e;

	if (fd < 0)
		return err_set(eb, err_from_errno(errno), "%s: %s", root, strerror(errno));
	if (faccessat(fd, KEYPATH_SENTINEL, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		e = read_sentinel(fd, found, eb, root);
		if (e == ERR_OK && strcmp(found, site) != 0)
			e = err_set(
			    eb, ERR_STATE, "%s belongs to the site \"%s\" already (%s)", root, found, KEYPATH_SENTINEL);
	} else if ((e = write_sentinel_file(fd, site)) != ERR_OK) {
		(void)err_set(eb, e, "%s/%s: cannot write it: %s", root, KEYPATH_SENTINEL, strerror(errno));
	}
	(void)close(fd);
	return e;
}

int
local_root_fd(const struct local *l)
{
	return l->fd;
}

const char *
local_root_path(const struct local *l)
{
	return l->path;
}

/* ---- looking and reading ---- */

void
local_fill_stat(struct local_stat *out, const struct stat *st)
{
	out->dev = st->st_dev;
	out->ino = st->st_ino;
	out->size = (uint64_t)st->st_size;
	out->mtime_ns = clock_timespec_ns(&st->st_mtim);
	out->ctime_ns = clock_timespec_ns(&st->st_ctim);
	out->mode = st->st_mode & 07777;
	out->uid = st->st_uid;
	out->gid = st->st_gid;
	out->exists = true;
}

enum err
local_prove_absence(struct local *l, struct local_split *s)
{
	enum err e = local_sentinel(l, NULL);
	bool is_parent = true;
	struct stat st;

	while (e == ERR_OK) {
		int dir = local_open_parent(l, s);

		if (dir >= 0) {
			if (fstatat(dir, s->base, &st, AT_SYMLINK_NOFOLLOW) == 0)
				/* there after all: it came this moment; above the parent a file in a folder's place is
				 * proof, a symlink is not: what lies behind it was never ours to judge */
				e = is_parent || S_ISDIR(st.st_mode) ? ERR_CHANGED
				    : S_ISLNK(st.st_mode)            ? ERR_UNSUPPORTED
								     : ERR_NOTFOUND;
			else
				e = errno == ENOENT         ? ERR_NOTFOUND
				    : errno == ENAMETOOLONG ? ERR_TOOBIG
							    : err_from_errno(errno);
			(void)close(dir);
		} else if (errno == ELOOP || errno == EXDEV) {
			e = ERR_UNSUPPORTED;
		} else if (errno != ENOENT && errno != ENOTDIR) {
			e = err_from_errno(errno);
		} else if (s->dirlen == 0) {
			e = ERR_SENTINEL; /* the root itself is gone */
		} else {
			/* the parent is missing, or no folder: then it is its absence that wants proof */
			char *slash;

			s->path[s->dirlen] = '\0';
			slash = strrchr(s->path, '/');
			s->dirlen = slash != NULL ? (size_t)(slash - s->path) : 0;
			s->base = slash != NULL ? slash + 1 : s->path;
			is_parent = false;
		}
	}
	/* the sentinel again: the disk may have gone while we looked */
	if (e == ERR_NOTFOUND && local_sentinel(l, NULL) != ERR_OK)
		e = ERR_SENTINEL;
	return e;
}

enum err
local_open_key(struct local *l, const char *key, size_t klen, int *fd, struct local_stat *st)
{
	struct local_split s;
	struct stat sb;
	enum err e;

	*fd = -1;
	memset(st, 0, sizeof(*st));
	if (klen > 0 && key[klen - 1] == '/')
		return ERR_NOTFOUND;
	if ((e = local_split_key(&s, key, klen)) != ERR_OK)
		return e == ERR_TOOBIG ? ERR_NOTFOUND : e;
	/* a FIFO does not block (O_NONBLOCK), a terminal does not become ours */
	*fd = TRIP("disk", "open") ? -1 : local_open_beneath(l->fd, s.path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (*fd < 0) {
		if (errno == ENOENT || errno == ENOTDIR) {
			e = local_prove_absence(l, &s);
			return e == ERR_UNSUPPORTED || e == ERR_TOOBIG ? ERR_NOTFOUND : e;
		}
		if (errno == ELOOP || errno == EXDEV || errno == ENXIO || errno == ENODEV || errno == ENAMETOOLONG)
			return ERR_NOTFOUND;
		return err_from_errno(errno);
	}
	if (fstat(*fd, &sb) < 0)
		e = err_from_errno(errno);
	else if (!S_ISREG(sb.st_mode))
		e = ERR_NOTFOUND;
	else
		local_fill_stat(st, &sb);
	if (e != ERR_OK) {
		(void)close(*fd);
		*fd = -1;
	}
	return e;
}

enum err
local_look(struct local *l, const char *key, size_t klen, struct local_stat *st)
{
	struct local_split s;
	struct stat sb;
	enum err e;
	int fd;

	memset(st, 0, sizeof(*st));
	if ((e = local_split_key(&s, key, klen)) != ERR_OK)
		return e;
	/* O_PATH: a symlink or a FIFO in the last place is looked at, not followed or opened */
	if ((fd = TRIP("disk", "stat") ? -1 : local_open_beneath(l->fd, s.path, O_PATH, 0)) < 0) {
		if (errno == ELOOP || errno == EXDEV)
			return ERR_UNSUPPORTED;
		if (errno != ENOENT && errno != ENOTDIR)
			return err_from_errno(errno);
		e = local_prove_absence(l, &s);
		return e == ERR_NOTFOUND ? ERR_OK : e == ERR_OK ? ERR_CHANGED : e;
	}
	if (fstat(fd, &sb) < 0)
		e = err_from_errno(errno);
	else if (S_ISREG(sb.st_mode))
		local_fill_stat(st, &sb);
	else
		e = local_sentinel(l, NULL);
	(void)close(fd);
	return e;
}

bool
local_same(const struct local_stat *a, const struct local_stat *b)
{
	if (!a->exists || !b->exists)
		return a->exists == b->exists;
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns &&
	       a->ctime_ns == b->ctime_ns;
}

bool
local_still(struct local *l, const char *key, size_t klen, const struct local_stat *was)
{
	struct local_split s;
	struct local_stat now;
	struct stat sb;

	if (TRIP("disk", "open") || local_split_key(&s, key, klen) != ERR_OK || fstatat(l->fd, s.path, &sb, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(sb.st_mode))
		return false;
	local_fill_stat(&now, &sb);
	return local_same(&now, was) && now.mode == was->mode && now.uid == was->uid && now.gid == was->gid;
}

bool
local_is_young(const struct local_stat *st)
{
	int64_t age = (int64_t)clock_real_us() * 1000 - st->ctime_ns;

	return st->exists && age >= 0 && age < YOUNG_NS;
}

bool
local_is_locked(int fd)
{
	if (flock(fd, LOCK_SH | LOCK_NB) < 0)
		return errno == EWOULDBLOCK;
	(void)flock(fd, LOCK_UN);
	return false;
}

enum err
local_digest(int fd, uint64_t size, uint8_t md5[16], uint8_t sha256[32], const bool *stop)
{
	struct digest *m = digest_new(DIGEST_MD5), *s = digest_new(DIGEST_SHA256);
	char *buf = mem_alloc(READ_CHUNK);
	uint64_t off = 0;
	enum err e = ERR_OK;

	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	/* one read beyond the size: a file that has grown is another file */
	while (e == ERR_OK) {
		ssize_t n = TRIP("disk", "read") ? -1 : pread(fd, buf, READ_CHUNK, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			e = err_from_errno(errno);
		else if (n == 0)
			break;
		else if ((off += (uint64_t)n) > size)
			e = ERR_CHANGED;
		else if (stop != NULL && __atomic_load_n(stop, __ATOMIC_RELAXED))
			e = ERR_CANCELLED;
		else {
			digest_update(m, buf, (size_t)n);
			digest_update(s, buf, (size_t)n);
		}
	}
	if (e == ERR_OK && off != size)
		e = ERR_CHANGED;
	digest_final(m, md5);
	digest_final(s, sha256);
	digest_free(&m);
	digest_free(&s);
	mem_free(buf);
	return e;
}

enum err
local_free_space(struct local *l, uint64_t *bytes)
{
	struct statvfs v;

	if (fstatvfs(l->fd, &v) < 0)
		return err_from_errno(errno);
	*bytes = (uint64_t)v.f_bavail * v.f_frsize;
	return ERR_OK;
}

void
local_meta(const struct local_stat *st, const char *key, size_t klen, const char *cache_control, struct store_meta *m)
{
	store_meta_init(m);
	m->size = st->size;
	m->mtime_ns = st->mtime_ns;
	m->has_mtime = true;
	m->mode = st->mode;
	m->uid = st->uid;
	m->gid = st->gid;
	m->has_mode = true;
	m->content_type = mem_strdup(mime_type(key, klen));
	m->cache_control = mem_strdup(cache_control);
	if (!utf8_is_nfc(key, klen))
		m->spelling = mem_strndup(key, klen);
}
