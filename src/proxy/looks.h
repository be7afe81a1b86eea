/*
 * looks: looks at keys that were written, on threads, and makes last what is there (store/local.h). When more keys wait than there are
 * threads, a thread takes several: what they have to write goes out together, a folder is synced once for all, and the loop wakes once.
 * A large file goes alone then: nobody waits for another's bytes.
 * Loop thread only.
 */
#ifndef PROXY_LOOKS_H
#define PROXY_LOOKS_H

#include <stdbool.h>
#include <stddef.h>

#include "io/loop.h"
#include "io/pool.h"
#include "store/local.h"

struct looks;
struct look;

/* seen: its key is gone after the call. swapping: a swap's leftover lies beside the file (store/local_swap.h); only with `swaps`. */
typedef void look_done(void *arg, const struct local_seen *seen, bool swapping);

/* The threads are the caller's, and are freed after us. */
struct looks *looks_new(struct loop *l, struct local *local, struct pool *pool);
/* Takes NULL, clears the pointer. No done runs any more. */
void looks_free(struct looks **s);
/* key is copied. done runs once, later, unless it is cancelled. */
struct look *look_at(struct looks *s, const char *key, size_t klen, bool swaps, look_done *done, void *arg);
/* Takes NULL, clears the pointer. */
void look_cancel(struct look **look);

#endif
