/*
 * reconcile_int: what reconcile's files share. reconcile.c: the steps and what drives them. reconcile_look.c: the disk's side, on the pool.
 */
#ifndef SYNC_RECONCILE_INT_H
#define SYNC_RECONCILE_INT_H

#include "coord/hold.h"
#include "sync/reconcile.h"

/* The disk's side of a key at one moment. */
struct reconcile_look {
	enum err e;		/* OK, or why nothing is known; CHANGED: it was written meanwhile */
	bool exists;		/* false with OK: proven absence */
	bool locked;		/* under an exclusive flock: not finished */
	bool young;		/* its ctime is too near to now: two writes may look alike */
	bool hashed;		/* md5 and sha256 are of exactly this stat */
	struct local_stat st;
	uint8_t md5[16], sha256[32];
};

struct reconcile {
	struct reconcile_env env;
	struct conf *conf;
	reconcile_done *done;
	void *arg;
	int step;
	struct reconcile_report report;
	unsigned rounds;		/* how often the sides have been looked at again */
	struct loop_call begin;

	bool hinted;
	struct reconcile_hint hint;
	char hint_etag[80];
	bool asked;			/* R2 was asked with a HEAD, no lease held */

	struct hold *hold;		/* the lease, asked for or held */
	struct lease lease;		/* ... as it was given */
	bool in_flight;			/* a request that changes R2 is out, or its end is unknown */
	bool over;			/* the lease has ended; only the pool is waited for */
	struct cluster_call *call;
	struct loop_timer wait;

	struct store_op *op;
	bool remote;			/* R2 has an object ... */
	struct store_meta meta;		/* ... and this is it */
	struct store_meta want;		/* what the file gives it */

	struct pool_job job;
	int fd;
	bool want_hash, stop;
	struct reconcile_look look;
	struct local_stat again;	/* the second stat, through the path */
	enum err again_e;
	bool gone;			/* a second look has shown absence as well */

	size_t klen;
	char key[];
};

/* Opens, stats, hashes (want_hash) on the pool; done(r) on the loop. Closes what was open. */
void reconcile_look_start(struct reconcile *r, void (*done)(void *r));
/* Stats the file and its path once more, into `again`. */
void reconcile_look_again(struct reconcile *r, void (*done)(void *r));
/* Has the object exactly what a put of the file would give it? */
bool reconcile_look_equal(const struct reconcile *r);
/* The headers and metadata that the file gives its object, into `want`. */
void reconcile_look_meta(struct reconcile *r);

#endif
