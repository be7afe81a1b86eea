/*
 * openfiles: files of the media root that were asked for a moment ago, kept open, so that the next request for one spends a stat on it
 * instead of opening, looking and closing.
 *
 * Nothing is remembered of a file but its descriptor: before each use the key is looked up on the disk again, and must lead to this very
 * file (device and inode, which no other can have while it is open), unchanged in size, times and mode. A file that was written,
 * replaced, renamed, removed or closed to us is therefore opened anew, whoever did it; its bytes are read at each request. What the
 * look cannot see is a folder on the way that has become a symlink to where the same file is now. So a descriptor lives
 * OPENFILES_MS at most, which also gives a removed file's space back.
 *
 * Loop thread only.
 */
#ifndef STORE_OPENFILES_H
#define STORE_OPENFILES_H

#include <stddef.h>

#include "base/err.h"
#include "store/local.h"

enum { OPENFILES_MS = 1000 };

struct loop;
struct openfiles;

/* max: descriptors, above 0. The root is the caller's and must outlive it. */
struct openfiles *openfiles_new(struct loop *l, struct local *root, size_t max);
/* Closes them all. Takes NULL, clears the pointer. */
void openfiles_free(struct openfiles **o);
/* As local_open_key, but *fd stays the table's, valid until its next call or the loop's next turn: who needs it longer duplicates it. */
enum err openfiles_get(struct openfiles *o, const char *key, size_t klen, int *fd, struct local_stat *st) ERR_MUST_CHECK;
size_t openfiles_count(const struct openfiles *o);

#endif
