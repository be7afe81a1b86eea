/* local_int: what local.c (looking and reading), local_sync.c (making last), local_write.c (writing) and local_swap*.c (replacing what may be
 * written meanwhile) share. Nobody else includes it.
 */
#ifndef STORE_LOCAL_INT_H
#define STORE_LOCAL_INT_H

#include <limits.h>
#include <sys/types.h>

#include "base/keypath.h"
#include "store/local.h"

#define LOCAL_TMP_PREFIX KEYPATH_OURS_PREFIX "-tmp-"

struct local {
	char *path, *site;
	int fd;
	dev_t dev;
	ino_t ino;
	struct local_folders *folders;
};

/* A key as a terminated path, split before its last component. */
struct local_split {
	char path[PATH_MAX];
	size_t dirlen; /* of the parent's path, without its slash; 0: the root itself */
	const char *base;
};
enum err local_split_key(struct local_split *s, const char *key, size_t klen) ERR_MUST_CHECK;
/* The only way in: never above the root, never through a symlink. -1 and errno. */
int local_open_beneath(int dir, const char *path, int flags, mode_t mode);
/* The folder that the key is in, for reading. -1 and errno. */
int local_open_parent(const struct local *l, struct local_split *s);
/*
 * Nothing answers to the key. Is that proof? Walk up to the deepest component that is there: it must be a folder that
 * we may read, the one below it must be missing (or be no folder: ENOTDIR), and the root must be the right one.
 * NOTFOUND, or why not.
 */
enum err local_prove_absence(struct local *l, struct local_split *s) ERR_MUST_CHECK;
/* close, and errno as it was. */
void local_close(int fd);
void local_fill_stat(struct local_stat *out, const struct stat *st);
/* The folder of a key, made as needed; each new one is synced into its parent at once. */
enum err local_make_parent(struct local *l, struct local_split *s, int *out) ERR_MUST_CHECK;
/* local_sync.c: what it remembers. */
struct local_folders *local_folders_new(void);
void local_folders_free(struct local_folders **f);
/* fsync, where the file system can. */
enum err local_fsync(int fd) ERR_MUST_CHECK;

#endif
