/*
 * local: the media root on disk. Opens only below the root (openat2 RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
 * RESOLVE_NO_MAGICLINKS), regular files only, never blocks on a FIFO. Calls block: for the loop only open+fstat of what a
 * client asked for; hashing, syncing and writing belong on the pool. Thread safe (a root is immutable).
 *
 * Absence needs evidence: only ENOENT or ENOTDIR of the last component below a readable parent, with the sentinel in place,
 * is NOTFOUND here. Everything else is an error to retry.
 */
#ifndef STORE_LOCAL_H
#define STORE_LOCAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"

struct local;
struct store_meta;

/* Identity of a file's contents at one moment. */
struct local_stat {
	uint64_t dev, ino, size;
	int64_t mtime_ns, ctime_ns;
	uint32_t mode, uid, gid;
	bool exists;
};

/* Opens the root; site: the id that the sentinel must show. SENTINEL if it is missing or another site's. */
enum err local_open(struct local **l, const char *root, const char *site, struct errbuf *eb) ERR_MUST_CHECK;
void local_free(struct local **l);
/* Is the sentinel there right now, on the same device? OK or SENTINEL. */
enum err local_sentinel(struct local *l, struct errbuf *eb) ERR_MUST_CHECK;
/* Writes the sentinel (init). OK if it is there with the same id, STATE if with another's. */
enum err local_sentinel_write(const char *root, const char *site, struct errbuf *eb) ERR_MUST_CHECK;
int local_root_fd(const struct local *l);
const char *local_root_path(const struct local *l);

/* Opens a key for reading and stats it. NOTFOUND as a client sees it: missing, a directory, a symlink, a FIFO. *fd is the caller's. */
enum err local_open_key(struct local *l, const char *key, size_t klen, int *fd, struct local_stat *st) ERR_MUST_CHECK;
/* Is the key still the file that was opened as `was`, unchanged, mode and owner too? Only while that is open: an inode's number is given
 * to another file once it is gone. */
bool local_still(struct local *l, const char *key, size_t klen, const struct local_stat *was);
/* stat without opening; OK with exists = false is proven absence (see above), any doubt is an error. A directory, symlink
 * or special file is "absent" as a key: exists = false. Behind a symlink nothing is ours to judge: UNSUPPORTED. */
enum err local_look(struct local *l, const char *key, size_t klen, struct local_stat *st) ERR_MUST_CHECK;
bool local_same(const struct local_stat *a, const struct local_stat *b);
/* Was it written less than 10 ms ago? Kernels stamp in ticks: a second write in this one would look alike. A ctime in the future is as
 * good as an old one: nobody can wait for it. */
bool local_is_young(const struct local_stat *st);
/* Is somebody holding an exclusive flock on it (Django saves under one)? */
bool local_is_locked(int fd);

/* Reads the whole file by pread once: MD5 and SHA-256. CHANGED if fewer or more bytes than size came. stop: may become true to end early (CANCELLED). */
enum err local_digest(int fd, uint64_t size, uint8_t md5[16], uint8_t sha256[32], const bool *stop) ERR_MUST_CHECK;
/* A key that somebody else wrote, and what became of it. */
struct local_seen {
	const char *key;
	size_t klen;
	enum err e;		/* OK: st is what lasts (or that nothing is there). CHANGED: its writer holds a lock on it. Else a doubt */
	struct local_stat st;
	bool alone;		/* nothing was done: it is larger than LOCAL_SETTLE_ALONE bytes, and the others must not wait for it */
};
enum { LOCAL_SETTLE_MAX = 32, LOCAL_SETTLE_ALONE = 1024 * 1024 };
/* Looks at n keys (LOCAL_SETTLE_MAX at most) and makes last what is there: fsync of each file and of its folders, up to the first that is
 * known to last, or the root; where no file is, of the nearest folder that it was in. What several have to write is sent together, and a
 * folder that they share is synced once. */
void local_settle(struct local *l, struct local_seen *v, size_t n);
/* Does somebody watch every folder, and tell of the renamed ones? Only then folders are known to last. */
void local_folders_watched(struct local *l, bool watched);
/* A folder was renamed: it may last elsewhere. */
void local_folders_moved(struct local *l);

/* Writing by ourselves (writes = disk): a temporary file ".r2shim-tmp-*" beside the target, folders made. */
enum err local_tmp_create(struct local *l, const char *key, size_t klen, int *fd, char **tmp_key) ERR_MUST_CHECK;
/* fsync, rename over key, fsync of the folder; frees tmp_key (discarded if it fails). fd stays the caller's. created: there
 * was no such file. EXISTS: a folder, or below a file. */
enum err local_tmp_commit(struct local *l, int fd, char **tmp_key, const char *key, size_t klen, bool *created) ERR_MUST_CHECK;
/* The same, but never over anything: PRECOND if the name is taken. */
enum err local_tmp_commit_new(struct local *l, int fd, char **tmp_key, const char *key, size_t klen) ERR_MUST_CHECK;
void local_tmp_discard(struct local *l, char **tmp_key);
/* A name in an open folder: is it such a file? One whose writer is dead is removed. */
bool local_tmp_sweep(int dir, const char *name);
/* unlink and fsync of the folder. */
enum err local_unlink(struct local *l, const char *key, size_t klen) ERR_MUST_CHECK;
/* A folder's names, a page at a time: those behind `after` (exclusive; NULL: from the beginning), ascending by their bytes, at most
 * max. Files and folders only: no symlinks, nothing special, no names of ours. folder: "" or ending in '/'.
 * NOTFOUND: no such folder, proven as a key's absence is. Reads the whole folder once for each page; memory for one page. out is
 * empty after an error, and wants local_names_fini in any case. */
struct local_name {
	char *name;
	size_t len;
	bool is_folder;
	uint64_t size;
	int64_t mtime_ns;
};
struct local_names {
	struct local_name *v;	/* room for max + 1 */
	size_t n;
	char *last;		/* where the next page begins behind; NULL: this is the last one */
};
enum err local_list(struct local *l, const char *folder, size_t flen, const char *after, size_t max, struct local_names *out) ERR_MUST_CHECK;
void local_names_fini(struct local_names *names);
/* Free bytes of the file system. */
enum err local_free_space(struct local *l, uint64_t *bytes) ERR_MUST_CHECK;

/* The metadata that an object of this file bears: mtime, mode, owner, Content-Type by name (mime.h). */
void local_meta(const struct local_stat *st, const char *key, size_t klen, const char *cache_control, struct store_meta *m);

#endif
