/*
 * keyidx: the sorted index of a bucket's keys, by their bytes, for lookups and listings. Two levels: an array of chunks,
 * each a sorted array of node pointers; an insert moves at most one chunk. The node lives in the caller's object, the
 * index owns nothing of it. A position is valid until the index changes. One thread.
 */
#ifndef SANDBOX_KEYIDX_H
#define SANDBOX_KEYIDX_H

#include <stdbool.h>
#include <stddef.h>

struct keyidx;

struct keyidx_node {
	char *key;		/* the caller's; must not change while it is in the index */
	size_t klen;
};

struct keyidx_pos {
	size_t chunk, at;
};

struct keyidx *keyidx_new(void);
/* Frees the index, not the nodes. Takes NULL, clears the pointer. */
void keyidx_free(struct keyidx **ix);
size_t keyidx_count(const struct keyidx *ix);
struct keyidx_node *keyidx_get(const struct keyidx *ix, const char *key, size_t klen);
/* The key must not be there yet. */
void keyidx_add(struct keyidx *ix, struct keyidx_node *n);
/* Removes, and returns the node; NULL: there was none. */
struct keyidx_node *keyidx_del(struct keyidx *ix, const char *key, size_t klen);

/* The first key that is not before (after: that is behind) the given one. */
struct keyidx_pos keyidx_seek(const struct keyidx *ix, const char *key, size_t klen, bool after);
/* The node at a position, and a step on; NULL at the end. */
struct keyidx_node *keyidx_next(const struct keyidx *ix, struct keyidx_pos *pos);
/* Order of two keys: by bytes, a prefix first. */
int keyidx_cmp(const char *a, size_t an, const char *b, size_t bn);

#endif
