/*
 * worker: carries work out: live keys before batches, at most migrator.concurrency keys at once. What fails because R2 or Redis is
 * away is tried again in place and burns no attempt; what fails for the key's own sake is handed to queue_fail, and its batch
 * goes on.
 */
#ifndef MIGRATE_WORKER_H
#define MIGRATE_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/reconcile.h"

struct worker;

/* What this process has done since its start. */
struct worker_counts {
	uint64_t keys, copied, copied_bytes, equal, deleted, orphans, unholdable, failed, retried, batches;
	size_t running;
	char trouble[128];	/* why it waits, "" if it does not */
};

struct worker *worker_new(const struct reconcile_env *env, const char *name);
const struct worker_counts *worker_counts(const struct worker *w);
/* Adds what is new to the run's counters in Redis. */
void worker_flush(struct worker *w);
/* Takes nothing new; gives back what only waits; stopped(arg) when what runs has ended. */
void worker_stop(struct worker *w, void (*stopped)(void *arg), void *arg);
void worker_free(struct worker **w);

#endif
