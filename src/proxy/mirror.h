/*
 * mirror: the keys that are on their way from "noticed" to "equal on both sides". For each: look at the disk and fsync what is
 * there (pool), mark it (journal, Redis), reconcile it with R2, again with a growing pause until it is clean. An item goes
 * away when its key is clean and nothing new was noticed.
 *
 * A waiter is attached to items and hears when all of them are durable marks, and when all are mirrored or one try has
 * failed. Loop thread only.
 */
#ifndef PROXY_MIRROR_H
#define PROXY_MIRROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "coord/dirty.h"
#include "sync/reconcile.h"

struct looks;
struct mirror;

/* Embedded in who waits. changed runs from the loop's own turns whenever one of the counts reached 0. */
struct mirror_wait {
	struct list links;
	struct loop_call call;
	void (*changed)(void *arg);
	void *arg;
	unsigned unmarked;	/* keys that are not durable yet */
	unsigned unmirrored;	/* keys that R2 does not have yet, and whose first try has not failed */
	bool failed;		/* a try failed: R2 is behind, the marks stay */
	enum err e;		/* the worst error of marking */
};

/* sight: looks at the files; freed after us. */
struct mirror *mirror_new(const struct reconcile_env *env, struct dirty *d, struct looks *sight);
void mirror_set_env(struct mirror *m, const struct reconcile_env *env);
/* From now on a key is looked at, and marked, under its lease: another proxy may write R2 first. */
void mirror_set_armed(struct mirror *m, bool armed);
/* Are looks on their way that began without a lease? */
bool mirror_unleased(const struct mirror *m);
/* r2-only: the disk's files may be reclaimed. A file that is gone is no deleted one. */
void mirror_set_reclaim(struct mirror *m, bool reclaim);
/* After dirty_close: marks on their way do not come back. */
void mirror_free(struct mirror **m);

/* Noticed by the watcher: look whether it is there, sync it, mark it, mirror it. op: what the notice says has happened; the look decides. */
void mirror_noticed(struct mirror *m, const char *key, size_t klen, enum mark_op op, uint64_t seq);
/* It is marked already (confirmed, or replayed from the journal): mirror it. */
void mirror_owed(struct mirror *m, const char *key, size_t klen);
/* A write to R2 has found no file, up to this event. Absence has no identity: what a later event tells of came after that write, though it
 * shows absence again. */
void mirror_absent(struct mirror *m, const char *key, size_t klen, uint64_t seq);
/* Somebody else cleared it. */
void mirror_cleared(struct mirror *m, const char *key, size_t klen);

void mirror_wait_init(struct mirror_wait *w, struct loop *l, void (*changed)(void *arg), void *arg);
/* Attach to every item noticed with from < seq <= to, or to one key's item. */
void mirror_wait_seqs(struct mirror *m, struct mirror_wait *w, uint64_t from, uint64_t to);
void mirror_wait_key(struct mirror *m, struct mirror_wait *w, const char *key, size_t klen);
/* Of a write that is marked: for its copy only. What the watcher says of the key besides is not that write's to wait for, nor to fail by. */
void mirror_wait_copy(struct mirror *m, struct mirror_wait *w, const char *key, size_t klen);
void mirror_wait_fini(struct mirror_wait *w);

/* room runs when the number of keys has come down to n. */
void mirror_set_room(struct mirror *m, size_t n, void (*room)(void *arg), void *arg);
size_t mirror_count(const struct mirror *m);
size_t mirror_running(const struct mirror *m);
/* Age of the oldest key that R2 does not have yet; 0: none. */
uint64_t mirror_oldest_ms(const struct mirror *m);
/* Why keys wait ("R2: cannot connect"); NULL if the last try went well. */
const char *mirror_trouble(const struct mirror *m);
/* The seq below which everything noticed is a durable mark; UINT64_MAX: all of it. */
uint64_t mirror_unmarked_seq(const struct mirror *m);

#endif
