/*
 * backfill: the feeder. One migrator at a time merges the walk of the disk with R2's listing, both in key order:
 *   a file without an object, or with one: into a batch, with what the listing said (workers compare, and copy what differs)
 *   an object without a file: a candidate of the census
 * Batches are queued while fewer than migrator.queue-max wait. The cursor in Redis says how far a run has come: whoever feeds
 * next goes on there. A pass can also be a census alone (nothing is queued).
 *
 * Census: a candidate is looked at a second time when the pass is over (no mark, no file below a readable parent and the sentinel, the
 * object still there) and is then marked as deleted, unless there are more than migrator.max-delete of them: then none is.
 * Loop thread; the walk runs on the pool.
 */
#ifndef MIGRATE_BACKFILL_H
#define MIGRATE_BACKFILL_H

#include <stdbool.h>

#include "coord/run.h"
#include "sync/reconcile.h"

struct backfill;

struct backfill *backfill_new(const struct reconcile_env *env);
/* Begins a pass for the run (census_only: whatever the run's state). false: the last one still has a call out, try again in a moment.
 * done(ok): it has reached the end and said so in Redis. */
bool backfill_start(struct backfill *b, const struct run *r, bool census_only, void (*done)(void *arg, bool ok, const char *why), void *arg);
bool backfill_active(const struct backfill *b);
/* Stops where it is; done will not run. The cursor stands in Redis. */
void backfill_stop(struct backfill *b);
void backfill_free(struct backfill **b);

#endif
