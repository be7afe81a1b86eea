/*
 * reconcile_int: what reconcile's files share. reconcile.c: what drives the steps, those up to the lease, the last one. reconcile_look.c:
 * the disk's side, on the pool. reconcile_forth.c: from the disk to R2. reconcile_back.c, reconcile_fetch.c: from R2 to the disk.
 */
#ifndef SYNC_RECONCILE_INT_H
#define SYNC_RECONCILE_INT_H

#include "base/digest.h"
#include "base/str.h"
#include "coord/hold.h"
#include "store/local_swap.h"
#include "sync/reconcile.h"

/* What a step's function says. */
enum go {
	GO_ON,			/* run the step that is set now */
	GO_WAIT			/* something is out; its answer goes on. Or all is over */
};

/* The steps, in their order. */
enum step {
	STEP_NAME,		/* can R2 hold the name at all */
	STEP_MARK,		/* without a lease: is there a mark */
	STEP_PEEK_HEAD,		/* ... what has R2, if the listing did not say enough */
	STEP_PEEK_LOOK,		/* ... and is the file the same: then all is done */
	STEP_LEASE,		/* the exclusive right to touch the key */
	STEP_SETTLE,		/* what a swap has left beside the file, perhaps one of a dead process, is judged */
	STEP_RECORD,		/* ... the mark follows: another base, or the disk was written last */
	STEP_FORGET,		/* ... and nothing is left */
	STEP_UPLOADS,		/* side local. A takeover: abort what the last holder left unfinished */
	STEP_HEAD,		/* what has R2 */
	STEP_LOOK,		/* then the file: stat, digest */
	STEP_PACE,		/* they differ: does R2 take a write of the key now */
	STEP_PUT,		/* ... and only if R2 has what the HEAD said */
	STEP_AGAIN,		/* stat again: written meanwhile? */
	STEP_GONE,		/* no file: with a tombstone the object goes */
	STEP_DELETE,
	STEP_GONE_AGAIN,	/* a file that came meanwhile */
	STEP_BACK_LOOK,		/* side r2: the disk's file */
	STEP_BACK_HEAD,		/* then: what has R2 */
	STEP_BACK_SURE,		/* nothing, it says: but a HEAD's 404 does not say what is missing */
	STEP_BACK_COMPARE,	/* it looks equal: is it */
	STEP_BACK_FETCH,	/* the bytes, into a file beside it */
	STEP_BACK_SWAP,		/* in, if the file still is the mark's base */
	STEP_BACK_OUT,		/* R2 has none: the file goes, if it still is the base */
	STEP_BACK_AGAIN,	/* R2 once more: written meanwhile? Then SETTLE, RECORD, FORGET */
	STEP_FINISH,		/* clear the mark at the gen seen, drop the lease */
	STEP_COUNT
};

/* The disk's side of a key at one moment. */
struct reconcile_look {
	enum err e;		/* OK, or why nothing is known; CHANGED: it was written meanwhile */
	bool exists;		/* false with OK: proven absence */
	bool locked;		/* under an exclusive flock: not finished */
	bool young;		/* its ctime is too near to now: two writes may look alike */
	bool unsettled;		/* a swap has left something beside it */
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
	bool swapping;			/* the pool has a job that may rename files */
	bool over;			/* the lease has ended; only the pool is waited for */
	struct cluster_call *call;
	struct loop_timer wait;

	struct store_op *op;
	enum go (*seen)(struct reconcile *r, const struct store_meta *m);	/* goes on with the answer to a HEAD */
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

	/* The way back. */
	struct local_swap *swap;	/* NULL: none is going on */
	struct reconcile_fetch {
		struct str waiting, writing;	/* the loop's; the pool's */
		struct digest *md5;
		uint64_t got, written;		/* bytes */
		uint8_t sum[16];
		bool begun, paused, ended;
		enum err e, work_e;
		int fd;				/* swap's */
		void (*done)(struct reconcile *r, enum err e, bool r2);
	} fetch;
	enum err swap_e;
	enum local_swap_result swapped;
	struct local_stat swap_st;
	bool carried;			/* our swap is done; R2 has not been asked again */
	bool asked_again;		/* it has */
	bool moved;			/* R2 has something else by now */
	bool settled;			/* the leavings of others have been judged */

	size_t klen;
	char key[];
};

enum go reconcile_to(struct reconcile *r, enum step s);
void reconcile_drive(struct reconcile *r);
enum go reconcile_end(struct reconcile *r, enum reconcile_result result, enum err e, const char *why);
enum go reconcile_fail(struct reconcile *r, enum err e, const char *what);
enum go reconcile_fail_r2(struct reconcile *r, enum err e, const char *what);
enum go reconcile_defer(struct reconcile *r, enum err e, const char *why);
/* An object without a file, and no tombstone: left alone. */
enum go reconcile_orphan(struct reconcile *r);
/* The sides have moved: at s again, or, if that has happened too often, another time. */
enum go reconcile_anew(struct reconcile *r, enum step s, enum err e, const char *why);
/* A pool job has ended, but the lease is over: all ends. */
bool reconcile_job_ended(struct reconcile *r);
/* What has R2? seen(r, m) goes on; m NULL: it has no object. Where R2 does not say, all has failed. */
enum go reconcile_ask(struct reconcile *r, enum go (*seen)(struct reconcile *r, const struct store_meta *m));
/* R2's word on the object, NULL: it has none. */
void reconcile_take_meta(struct reconcile *r, const struct store_meta *m);

/* reconcile_forth.c: the steps of side local. */
enum go reconcile_forth_uploads(struct reconcile *r);
enum go reconcile_forth_head(struct reconcile *r);
enum go reconcile_forth_look(struct reconcile *r);
enum go reconcile_forth_pace(struct reconcile *r);
enum go reconcile_forth_put(struct reconcile *r);
enum go reconcile_forth_again(struct reconcile *r);
enum go reconcile_forth_gone(struct reconcile *r);
enum go reconcile_forth_delete(struct reconcile *r);
enum go reconcile_forth_gone_again(struct reconcile *r);

/* reconcile_back.c: the steps of side r2. */
enum go reconcile_settle(struct reconcile *r);
enum go reconcile_record(struct reconcile *r);
enum go reconcile_forget(struct reconcile *r);
enum go reconcile_back_look(struct reconcile *r);
enum go reconcile_back_head(struct reconcile *r);
enum go reconcile_back_sure(struct reconcile *r);
enum go reconcile_back_compare(struct reconcile *r);
enum go reconcile_back_fetch(struct reconcile *r);
enum go reconcile_back_swap(struct reconcile *r);
enum go reconcile_back_out(struct reconcile *r);
enum go reconcile_back_again(struct reconcile *r);

/* reconcile_fetch.c: R2's object into swap's file. done(r, OK): all bytes are in it, and their digest is right. CHANGED: the
 * object has changed or gone. NOSPACE. r2: it was R2 that failed it. The free: between any two steps. */
void reconcile_fetch_start(struct reconcile *r, void (*done)(struct reconcile *r, enum err e, bool r2));
void reconcile_fetch_free(struct reconcile *r);

/* reconcile_look.c. Opens, stats, hashes (want_hash) on the pool; done(r) on the loop. Closes what was open. */
void reconcile_look_start(struct reconcile *r, void (*done)(void *r));
/* The lease's own look has ended. true: the file is at rest, or it is proven that there is none. false: *go says how it goes on: at s
 * again, when it is old enough, another time, or not at all. */
bool reconcile_look_rests(struct reconcile *r, enum step s, enum go *go);
/* Stats the file and its path once more, into `again`. */
void reconcile_look_again(struct reconcile *r, void (*done)(void *r));
/* Has the object exactly what a put of the file would give it? */
bool reconcile_look_equal(const struct reconcile *r);
/* The headers and metadata that the file gives its object, into `want`. */
void reconcile_look_meta(struct reconcile *r);

#endif
