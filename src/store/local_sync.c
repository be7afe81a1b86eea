/*
 * local_sync: making last what others wrote: fsync of a file, or of its absence, and of the folders that lead to it. See local.h.
 *
 * A folder's own entry, in the folder above, has to be synced once in its life. Which ones were is remembered while a watcher
 * tells of folders that are renamed; a folder is known by its path, inode and time of birth.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/trip.h"
#include "store/local_int.h"

/* More than a site writes to within a short time; then all is forgotten. */
enum { KNOWN_MAX = 4096 };

struct folder {
	uint64_t ino;
	int64_t born_ns;
};

struct local_folders {
	pthread_mutex_t mutex;
	struct map *known;	/* path -> struct folder: its entry lasts */
	uint64_t turn;		/* grows whenever what was known is not known any more */
	bool watched;
};

struct local_folders *
local_folders_new(void)
{
	struct local_folders *f = mem_zalloc(sizeof(*f));

	ASSERT(pthread_mutex_init(&f->mutex, NULL) == 0);
	f->known = map_new();
	return f;
}

/* The lock is held, or nobody else is there. */
static void
forget(struct local_folders *f)
{
	size_t pos = 0, len;
	const void *key;
	void *value;

	f->turn++;
	if (map_count(f->known) == 0)
		return;
	while (map_next(f->known, &pos, &key, &len, &value))
		mem_free(value);
	map_free(&f->known);
	f->known = map_new();
}

void
local_folders_free(struct local_folders **fp)
{
	struct local_folders *f = *fp;

	if (f == NULL)
		return;
	*fp = NULL;
	forget(f);
	map_free(&f->known);
	(void)pthread_mutex_destroy(&f->mutex);
	mem_free(f);
}

void
local_folders_watched(struct local *l, bool watched)
{
	struct local_folders *f = l->folders;

	(void)pthread_mutex_lock(&f->mutex);
	if (f->watched != watched)
		forget(f);
	f->watched = watched;
	(void)pthread_mutex_unlock(&f->mutex);
}

void
local_folders_moved(struct local *l)
{
	(void)pthread_mutex_lock(&l->folders->mutex);
	forget(l->folders);
	(void)pthread_mutex_unlock(&l->folders->mutex);
}

/* What an open folder is; false: the file system does not say when it was made, and its inode may be an older one's. */
static bool
identify(int fd, struct folder *out)
{
	struct statx x;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &x) < 0 || (x.stx_mask & STATX_BTIME) == 0)
		return false;
	out->ino = x.stx_ino;
	out->born_ns = x.stx_btime.tv_sec * INT64_C(1000000000) + x.stx_btime.tv_nsec;
	return true;
}

static bool
is_known(struct local_folders *f, const char *path, size_t n, const struct folder *d)
{
	const struct folder *k;
	bool yes;

	(void)pthread_mutex_lock(&f->mutex);
	k = map_get(f->known, path, n);
	yes = k != NULL && k->ino == d->ino && k->born_ns == d->born_ns;
	(void)pthread_mutex_unlock(&f->mutex);
	return yes;
}

static void
remember(struct local_folders *f, const char *path, size_t n, const struct folder *d, uint64_t turn)
{
	(void)pthread_mutex_lock(&f->mutex);
	if (map_count(f->known) >= KNOWN_MAX)
		forget(f);
	else if (f->watched && f->turn == turn)
		mem_free(map_set(f->known, path, n, mem_dup(d, sizeof(*d))));
	(void)pthread_mutex_unlock(&f->mutex);
}

static uint64_t
turn_now(struct local_folders *f)
{
	uint64_t turn;

	(void)pthread_mutex_lock(&f->mutex);
	turn = f->turn;
	(void)pthread_mutex_unlock(&f->mutex);
	return turn;
}

enum err
local_fsync(int fd)
{
	if (TRIP("disk", "fsync"))
		return err_from_errno(errno);
	/* file systems that cannot sync a folder say EINVAL: nothing more to be had there */
	return fsync(fd) == 0 || errno == EINVAL || errno == EROFS ? ERR_OK : err_from_errno(errno);
}

/* One folder up; the path is cut there. */
static void
climb(struct local_split *s)
{
	char *slash;

	s->path[s->dirlen] = '\0';
	slash = strrchr(s->path, '/');
	s->dirlen = slash != NULL ? (size_t)(slash - s->path) : 0;
}

/* The folders above what was synced, up to the first that is known to last, or the root. NOTFOUND: they are gone. */
static enum err
sync_folders(struct local *l, const char *key, size_t klen)
{
	struct folder below = { 0, 0 }, here;	/* the one whose entry the next fsync makes last */
	uint64_t turn = turn_now(l->folders);
	size_t below_len = 0;			/* 0: none */
	struct local_split s;
	enum err e = local_split_key(&s, key, klen);

	while (e == ERR_OK) {
		bool sure;
		int fd = local_open_parent(l, &s);

		if (fd < 0)
			return errno == ENOENT || errno == ENOTDIR ? ERR_NOTFOUND : err_from_errno(errno);
		sure = s.dirlen > 0 && identify(fd, &here);
		e = local_fsync(fd);
		(void)close(fd);
		if (e == ERR_OK && below_len > 0)
			remember(l->folders, key, below_len, &below, turn);
		if (s.dirlen == 0 || (sure && is_known(l->folders, key, s.dirlen, &here)))
			break;
		below = here;
		below_len = sure ? s.dirlen : 0;
		climb(&s);
	}
	return e;
}

/* The folder that a key without a file was in, or the nearest one above that is there. */
static enum err
sync_absence(struct local *l, const char *key, size_t klen)
{
	struct local_split s;
	enum err e = local_split_key(&s, key, klen);

	while (e == ERR_OK) {
		int fd = local_open_parent(l, &s);

		if (fd >= 0) {
			e = local_fsync(fd);
			(void)close(fd);
			break;
		}
		if (s.dirlen == 0 || (errno != ENOENT && errno != ENOTDIR))
			return err_from_errno(errno);
		climb(&s);
	}
	return e;
}

/* Nothing to open: absent for certain, or something that is no file. */
static void
settle_absent(struct local *l, struct local_seen *v)
{
	v->e = local_look(l, v->key, v->klen, &v->st);
	/* A delete must outlive a power cut, too. */
	if (v->e == ERR_OK && !v->st.exists)
		v->e = sync_absence(l, v->key, v->klen);
}

/* Opens it, and has its bytes sent to the disk; -1: it is done with. */
static int
settle_begin(struct local *l, struct local_seen *v, size_t n)
{
	int fd;

	v->alone = false;
	v->e = local_open_key(l, v->key, v->klen, &fd, &v->st);
	if (v->e == ERR_OK && local_is_locked(fd))
		v->e = ERR_CHANGED;
	else if (v->e == ERR_OK && n > 1 && v->st.size > LOCAL_SETTLE_ALONE)
		v->alone = true;
	else if (v->e == ERR_OK)
		/* A hint: the fsync does it, and tells of what goes wrong. */
		(void)(n > 1 && sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
	else
		settle_absent(l, v);
	if (v->e == ERR_OK && v->st.exists && !v->alone)
		return fd;
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

static size_t
folder_len(const struct local_seen *v)
{
	const char *slash = memrchr(v->key, '/', v->klen);

	return slash != NULL ? (size_t)(slash - v->key) : 0;
}

/* An earlier one's folder is this one's: it was synced when both files were in it. */
static const struct local_seen *
same_folder(const struct local_seen *v, const int *fds, size_t i)
{
	size_t len = folder_len(&v[i]);

	for (size_t k = i; k-- > 0;)
		if (fds[k] >= 0 && folder_len(&v[k]) == len && memcmp(v[k].key, v[i].key, len) == 0)
			return &v[k];
	return NULL;
}

void
local_settle(struct local *l, struct local_seen *v, size_t n)
{
	int fds[LOCAL_SETTLE_MAX];
	enum err folder[LOCAL_SETTLE_MAX];

	ASSERT(n <= LOCAL_SETTLE_MAX);
	for (size_t i = 0; i < n; i++)
		fds[i] = settle_begin(l, &v[i], n);
	for (size_t i = 0; i < n; i++) {
		if (fds[i] < 0)
			continue;
		v[i].e = local_fsync(fds[i]);
		(void)close(fds[i]);
	}
	for (size_t i = 0; i < n; i++) {
		const struct local_seen *same;

		if (fds[i] < 0)
			continue;
		same = same_folder(v, fds, i);
		folder[i] = same != NULL ? folder[same - v] : sync_folders(l, v[i].key, v[i].klen);
		if (v[i].e == ERR_OK && folder[i] == ERR_NOTFOUND)
			settle_absent(l, &v[i]);
		else if (v[i].e == ERR_OK)
			v[i].e = folder[i];
	}
}
