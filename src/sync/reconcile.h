/*
 * reconcile: the one verb. Looks at both sides of a key as they are now and makes the stale one equal to the one confirmed
 * last. Everything that moves bytes is this function: the proxy's mirror, the migrators' backfill, promote-on-read, repair.
 * Doing it twice, late, or from two machines in turn is harmless.
 *
 * The steps are in reconcile_int.h in their order (docs/protocol.md, "One rule for a key"). Loop thread; blocking work goes to the pool.
 */
#ifndef SYNC_RECONCILE_H
#define SYNC_RECONCILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"
#include "coord/marks.h"
#include "io/loop.h"
#include "io/pool.h"
#include "store/local.h"
#include "store/store.h"

enum reconcile_result {
	RECONCILE_EQUAL,	/* nothing was to do */
	RECONCILE_COPIED,	/* R2 now has the file's bytes */
	RECONCILE_DELETED,	/* the object was deleted: the tombstone was carried out */
	RECONCILE_RESTORED,	/* side r2: the disk now has R2's bytes */
	RECONCILE_REMOVED,	/* side r2: the file was removed, as R2's object had been */
	RECONCILE_ORPHAN,	/* an object without a file and without evidence of a delete; on an armed site any difference without a mark:
				 * left alone; a census or a person decides */
	RECONCILE_UNHOLDABLE,	/* a name that R2 cannot hold: the disk serves it */
	RECONCILE_DEFERRED,	/* the file is being written, or somebody holds the lease: look again later */
	RECONCILE_FAILED	/* see the error */
};
const char *reconcile_result_name(enum reconcile_result r);

struct reconcile_report {
	enum reconcile_result result;
	enum err e;		/* FAILED and DEFERRED: why */
	bool r2;		/* FAILED: it was R2 that failed it, not the disk or Redis */
	bool clean;		/* the sides are equal and no mark stands: nobody wrote meanwhile */
	uint64_t gen;		/* the mark's gen that was cleared (clean) */
	uint64_t bytes;		/* sent, or fetched */
	struct mark_base placed;	/* RESTORED: the file that is there now; an event that shows it is our own */
	uint64_t wait_ms;	/* so long R2 takes no other write of this key; 0: nothing is known */
	char why[256];		/* for a person; "" if all is well */
};

/* What it works with; lives longer than every reconcile. */
struct reconcile_env {
	struct loop *loop;
	struct pool *pool;
	struct cluster *cluster;
	struct store *r2;
	struct local *local;
	const struct conf *conf;
};

/* What R2's listing said, to save requests. */
struct reconcile_hint {
	bool listed;		/* the listing was looked at */
	bool absent;		/* ... and had nothing under the key */
	const char *etag;
	uint64_t size;
	int64_t last_modified_ms;
};

/* A file as a write that goes to R2 first finds it (marks.h). */
struct mark_base reconcile_base(const struct local_stat *st);

struct reconcile;
typedef void reconcile_done(void *arg, const struct reconcile_report *r);
/* hint may be NULL. The key is copied. */
struct reconcile *reconcile_start(const struct reconcile_env *env, const char *key, size_t klen, const struct reconcile_hint *hint,
    reconcile_done *done, void *arg);
/* done will not run; a running PUT is cut, the lease is dropped or left to its quarantine. */
void reconcile_cancel(struct reconcile **r);

#endif
