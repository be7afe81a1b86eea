/*
 * pool: threads for blocking work (hash, fsync, stat, walk). work runs on a pool thread, done on the loop's thread.
 * A job is embedded in its caller's object, which must live until done has run, or, after pool_cancel, until drop has.
 */
#ifndef IO_POOL_H
#define IO_POOL_H

#include <stdbool.h>

#include "base/list.h"
#include "io/loop.h"

struct pool;

struct pool_job {
	struct list node;
	struct loop_call call;
	struct pool *pool;
	void (*work)(void *arg);	/* on a pool thread */
	void (*done)(void *arg);	/* on the loop */
	void (*drop)(void *arg);	/* on the loop, instead of done, after a cancel */
	void *arg;
	bool busy;
	bool cancelled;			/* work may look at it (atomically) and stop early */
};

struct pool *pool_new(struct loop *l, unsigned nthreads);
/* Waits for running work; no done runs any more, and queued work is dropped. Of cancelled jobs drop runs here, of others
 * nothing: their memory is free to go when this returns. Takes NULL, clears the pointer. */
void pool_free(struct pool **p);
void pool_submit(struct pool *p, struct pool_job *j, void (*work)(void *), void (*done)(void *), void *arg);
/* done will not run; drop(arg) (may be NULL) runs on the loop, later, when the job's memory is no longer in use. Only for a
 * job that is busy and not cancelled yet. */
void pool_cancel(struct pool_job *j, void (*drop)(void *));
bool pool_job_cancelled(const struct pool_job *j);

#endif
