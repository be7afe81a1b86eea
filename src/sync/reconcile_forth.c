/*
 * reconcile_forth: the steps for a key whose last write went to the disk, or that has no mark: R2 is made equal to the disk. It is only
 * overwritten if it still has what its HEAD said, and the file is looked at again behind that: a later write is seen, and carried too.
 */
#include "sync/reconcile_int.h"

#include <string.h>

#include "base/trip.h"

static const char doubt_text[] = "R2 has other bytes, or none; the site is armed, and no mark says which side was written last: see r2shim verify";

/* The sides have moved: look at both again. */
static enum go
anew(struct reconcile *r, enum err e, const char *why)
{
	return reconcile_anew(r, STEP_HEAD, e, why);
}

static void
on_uploads(void *arg, enum err e, const char *etag)
{
	struct reconcile *r = arg;

	(void)etag;
	r->op = NULL;
	if (e != ERR_OK && e != ERR_UNSUPPORTED && e != ERR_NOTFOUND) {
		reconcile_fail_r2(r, e, "R2, unfinished uploads");
		return;
	}
	reconcile_to(r, STEP_HEAD);
	reconcile_drive(r);
}

enum go
reconcile_forth_uploads(struct reconcile *r)
{
	r->op = store_abort_uploads(r->env.r2, r->key, r->klen, on_uploads, r);
	return GO_WAIT;
}

/* What has R2? Then the file. In this order. */

static enum go
head_seen(struct reconcile *r, const struct store_meta *m)
{
	reconcile_take_meta(r, m);
	return reconcile_to(r, STEP_LOOK);
}

enum go
reconcile_forth_head(struct reconcile *r)
{
	return reconcile_ask(r, head_seen);
}

/*
 * On an armed site every write leaves a mark. Where the bytes differ and none stands, one was lost, perhaps of a write that R2 had first: the
 * file is no ground to overwrite that. Verify names the key, and a person decides.
 */
static bool
in_doubt(const struct reconcile *r)
{
	return r->lease.seen.gen == 0 && cluster_armed(r->env.cluster, NULL) == CLUSTER_ARMED &&
	    !(r->remote && r->look.hashed && r->meta.has_md5 && memcmp(r->meta.md5, r->look.md5, sizeof r->look.md5) == 0);
}

static enum go
compare(struct reconcile *r)
{
	reconcile_look_meta(r);
	if (in_doubt(r))
		return reconcile_end(r, RECONCILE_ORPHAN, ERR_OK, doubt_text);
	return reconcile_to(r, reconcile_look_equal(r) ? STEP_FINISH : STEP_PACE);
}

static void
on_looked(void *arg)
{
	struct reconcile *r = arg;
	enum go go;

	if (reconcile_job_ended(r))
		return;
	if (reconcile_look_rests(r, STEP_HEAD, &go))
		go = r->look.exists ? compare(r) : reconcile_to(r, STEP_GONE);
	if (go == GO_ON)
		reconcile_drive(r);
}

enum go
reconcile_forth_look(struct reconcile *r)
{
	r->want_hash = true;
	reconcile_look_start(r, on_looked);
	return GO_WAIT;
}

/* R2 takes one write a second of a key. Who has to wait holds nothing meanwhile. */

static void
on_pace(void *arg, enum err e, uint64_t wait_ms)
{
	struct reconcile *r = arg;

	r->call = NULL;
	if (e != ERR_OK) {
		reconcile_fail(r, e, "Redis");
		return;
	}
	if (wait_ms > 0) {
		r->report.wait_ms = wait_ms;
		reconcile_defer(r, ERR_BUSY, "it was written a moment ago, and R2 takes one write a second");
		return;
	}
	r->report.wait_ms = r->conf->r2_write_interval;
	reconcile_to(r, r->look.exists ? STEP_PUT : STEP_DELETE);
	reconcile_drive(r);
}

enum go
reconcile_forth_pace(struct reconcile *r)
{
	/* A backfill's first copy of a file that nobody has touched. */
	bool first = r->lease.seen.gen == 0 && !r->remote && r->look.exists;

	if (r->conf->r2_write_interval == 0 || first)
		return reconcile_to(r, r->look.exists ? STEP_PUT : STEP_DELETE);
	r->call = marks_pace(r->env.cluster, r->key, r->klen, r->conf->r2_write_interval, on_pace, r);
	return GO_WAIT;
}

/* The bytes. */

/* The end of a request that changes R2. false: it failed, and all is over. */
static bool
changed(struct reconcile *r, enum err e, const char *what)
{
	r->op = NULL;
	/* Cut off: R2 may still carry it out. The lease's quarantine covers that. */
	r->in_flight = e == ERR_TIMEOUT || e == ERR_CLOSED;
	if (e == ERR_OK)
		return true;
	reconcile_fail_r2(r, e, what);
	return false;
}

static void
on_put(void *arg, enum err e, const char *etag)
{
	struct reconcile *r = arg;

	(void)etag;	/* the store has compared it with the digest */
	if (e == ERR_PRECOND || e == ERR_CHANGED) {
		r->op = NULL;
		r->in_flight = false;
		if (anew(r, e, e == ERR_PRECOND ? "R2 has something else than it said" : "the file is being written") == GO_ON)
			reconcile_drive(r);
		return;
	}
	if (!changed(r, e, "R2, PUT"))
		return;
	r->report.bytes += r->look.st.size;
	r->report.result = RECONCILE_COPIED;
	reconcile_to(r, STEP_AGAIN);
	reconcile_drive(r);
}

enum go
reconcile_forth_put(struct reconcile *r)
{
	struct store_put p = { .key = r->key, .klen = r->klen, .fd = r->fd, .size = r->look.st.size, .meta = &r->want,
		.limit_ms = cluster_limit_ms(r->env.cluster) };

	memcpy(p.md5, r->look.md5, sizeof p.md5);
	memcpy(p.sha256, r->look.sha256, sizeof p.sha256);
	if (r->remote)
		p.fence.if_etag = r->meta.etag;
	else
		p.fence.if_absent = true;
	r->in_flight = true;
	r->op = store_put(r->env.r2, &p, on_put, r);
	return GO_WAIT;
}

static void
on_again(void *arg)
{
	struct reconcile *r = arg;
	enum go go;

	if (reconcile_job_ended(r))
		return;
	if (r->again_e != ERR_OK)
		go = reconcile_fail(r, r->again_e, "the file");
	else if (!local_same(&r->again, &r->look.st))
		go = anew(r, ERR_CHANGED, "the file was written meanwhile");
	else
		go = reconcile_to(r, STEP_FINISH);
	if (go == GO_ON)
		reconcile_drive(r);
}

enum go
reconcile_forth_again(struct reconcile *r)
{
	reconcile_look_again(r, on_again);
	return GO_WAIT;
}

/* No file, and that is proven. */

enum go
reconcile_forth_gone(struct reconcile *r)
{
	/* A tombstone is carried out though R2 has said that there is nothing: a HEAD's 404 has no body, and could be the bucket's. */
	if ((r->lease.seen.gen > 0 && r->lease.seen.op == MARK_DELETE) || TRIP_MUTANT("delete-on-error"))
		return reconcile_to(r, STEP_PACE);
	return r->remote ? reconcile_orphan(r) : reconcile_to(r, STEP_FINISH);
}

static void
on_deleted(void *arg, enum err e, const char *etag)
{
	struct reconcile *r = arg;

	(void)etag;
	if (!changed(r, e == ERR_NOTFOUND ? ERR_OK : e, "R2, DELETE"))
		return;
	if (r->remote)
		r->report.result = RECONCILE_DELETED;
	reconcile_to(r, STEP_GONE_AGAIN);
	reconcile_drive(r);
}

enum go
reconcile_forth_delete(struct reconcile *r)
{
	r->in_flight = true;
	r->op = store_del(r->env.r2, r->key, r->klen, cluster_limit_ms(r->env.cluster), on_deleted, r);
	return GO_WAIT;
}

static void
on_gone_again(void *arg)
{
	struct reconcile *r = arg;
	enum go go;

	if (reconcile_job_ended(r))
		return;
	if (r->again_e != ERR_OK)
		go = reconcile_fail(r, r->again_e, "the file");
	else if (!r->gone)
		go = anew(r, ERR_CHANGED, "a file came back meanwhile");
	else
		go = reconcile_to(r, STEP_FINISH);
	if (go == GO_ON)
		reconcile_drive(r);
}

enum go
reconcile_forth_gone_again(struct reconcile *r)
{
	reconcile_look_again(r, on_gone_again);
	return GO_WAIT;
}
