/*
 * reconcile_back: the steps for a key whose last write went to R2 first: the disk is made equal to R2. The file is only replaced,
 * or removed, if it still is the one that the writer found (the mark's base); any other is a later write, and the mark says so.
 * The swap itself is store/local_swap.c.
 */
#include "sync/reconcile_int.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"

static const char unproven_text[] = "R2 has no object, and nothing says that it was deleted: the file is left alone";

static struct local_stat
base_of(const struct reconcile *r)
{
	const struct mark_base *b = &r->lease.seen.base;

	return (struct local_stat){ .exists = b->exists, .ino = b->ino, .size = b->size, .mtime_ns = b->mtime_ns, .ctime_ns = b->ctime_ns };
}

static bool
side_is_r2(const struct reconcile *r)
{
	return r->lease.seen.gen > 0 && r->lease.seen.side == MARK_R2;
}

/* A swap for the mark's base as it is now. */
static void
swap_new(struct reconcile *r)
{
	struct local_stat base = base_of(r);

	local_swap_free(&r->swap);
	r->swap = local_swap_new(r->env.local, r->key, r->klen, &base);
}

static void
swap_submit(struct reconcile *r, void (*work)(void *), void (*done)(void *))
{
	if (r->swap == NULL)
		swap_new(r);
	local_swap_until(r->swap, hold_lease(r->hold)->until_mono_ms, &r->stop);
	r->swapping = true;
	pool_submit(r->env.pool, &r->job, work, done, r);
}

static enum go
swap_failed(struct reconcile *r)
{
	switch ((int)r->swap_e) {
	case ERR_BUSY:
		return reconcile_defer(r, ERR_BUSY, "somebody has the file open for writing");
	case ERR_CHANGED:
		return reconcile_defer(r, ERR_CHANGED, "the file is being written");
	case ERR_DENIED:
		return reconcile_fail(r, ERR_DENIED, "the file cannot be replaced: it is another user's (CAP_LEASE is needed), or its folder is");
	case ERR_UNSUPPORTED:
		return reconcile_fail(r, ERR_UNSUPPORTED, "the file cannot be replaced: the file system has no leases or no exchange of names");
	case ERR_EXISTS:
		return reconcile_fail(r, ERR_EXISTS, "the file cannot be made: a folder, a link or a file stands in its way");
	default:
		return reconcile_fail(r, r->swap_e, "the file");
	}
}

/* Before everything: what has an earlier swap of the key left? Also, at the end, what has ours. */

static void
settle_work(void *arg)
{
	struct reconcile *r = arg;

	r->swap_e = local_swap_settle(r->swap, &r->swapped, &r->swap_st);
}

static enum go
local_begin(struct reconcile *r)
{
	return reconcile_to(r, r->lease.takeover ? STEP_UPLOADS : STEP_HEAD);
}

/* Nothing is left of any swap, and the mark says what is. */
static enum go
settled(struct reconcile *r)
{
	bool ours = r->asked_again;

	r->asked_again = false;
	if (!side_is_r2(r))
		return local_begin(r);
	if (!r->settled) {
		r->settled = true;
		return reconcile_to(r, STEP_BACK_LOOK);
	}
	if (ours && r->swapped == LOCAL_SWAP_DONE && !r->moved)
		return reconcile_to(r, STEP_FINISH);
	return reconcile_anew(r, STEP_BACK_LOOK, ERR_CHANGED, r->moved ? "the object was written meanwhile" : "the file is in use");
}

static void
on_settled(void *arg)
{
	struct reconcile *r = arg;
	enum go go;

	if (reconcile_job_ended(r))
		return;
	if (r->swap_e != ERR_OK)
		go = swap_failed(r);
	else if (r->swapped != LOCAL_SWAP_NONE)
		go = reconcile_to(r, STEP_RECORD);
	else
		go = settled(r);
	if (go == GO_ON)
		reconcile_drive(r);
}

enum go
reconcile_settle(struct reconcile *r)
{
	swap_submit(r, settle_work, on_settled);
	return GO_WAIT;
}

/* What the swap has found becomes the mark's: under the lease, in Redis, before its traces are removed. */

static enum go
recorded(struct reconcile *r)
{
	/* Ours is in place, but what it has replaced is looked at once more, and R2 too. */
	if (r->swapped == LOCAL_SWAP_DONE && r->carried)
		return reconcile_to(r, STEP_BACK_AGAIN);
	return reconcile_to(r, STEP_FORGET);
}

/* A base that was never confirmed stays so: rebased without the doubt, it would let events pass for old ones. */
static struct mark_base
base_now(const struct reconcile *r)
{
	struct mark_base b = reconcile_base(&r->swap_st);

	b.unconfirmed = side_is_r2(r) && r->lease.seen.base.unconfirmed;
	return b;
}

static void
on_rebased(void *arg, enum err e)
{
	struct reconcile *r = arg;

	r->call = NULL;
	if (e == ERR_LEASE_LOST) {
		reconcile_defer(r, ERR_BUSY, "it was written meanwhile");
		return;
	}
	if (e != ERR_OK) {
		reconcile_fail(r, e, "Redis");
		return;
	}
	r->lease.seen.base = base_now(r);
	recorded(r);
	reconcile_drive(r);
}

static void
on_later(void *arg, enum err e, const struct mark *m)
{
	struct reconcile *r = arg;

	r->call = NULL;
	if (e != ERR_OK) {
		reconcile_fail(r, e, "Redis");
		return;
	}
	r->lease.seen = *m;
	r->report.result = RECONCILE_EQUAL;
	recorded(r);
	reconcile_drive(r);
}

enum go
reconcile_record(struct reconcile *r)
{
	bool later = r->swapped == LOCAL_SWAP_LATER_WRITE || r->swapped == LOCAL_SWAP_LATER_DELETE;
	struct mark_base now = base_now(r);

	if (later) {
		log_info("reconcile", "%s: the disk's %s is the later write: it goes to R2", log_key(r->key, r->klen),
		    r->swapped == LOCAL_SWAP_LATER_WRITE ? "file" : "delete");
		r->call = marks_set_held(r->env.cluster, r->key, r->klen, MARK_DISK(r->swapped == LOCAL_SWAP_LATER_WRITE ? MARK_PUT : MARK_DELETE),
		    0, &r->lease, on_later, r);
		return GO_WAIT;
	}
	if (!side_is_r2(r) || marks_base_same(&now, &r->lease.seen.base))
		return recorded(r);
	r->call = marks_rebase(r->env.cluster, r->key, r->klen, &r->lease, r->lease.seen.gen, &now, on_rebased, r);
	return GO_WAIT;
}

static void
forget_work(void *arg)
{
	struct reconcile *r = arg;

	r->swap_e = local_swap_forget(r->swap);
}

static void
on_forgotten(void *arg)
{
	struct reconcile *r = arg;
	enum go go;

	if (reconcile_job_ended(r))
		return;
	go = r->swap_e != ERR_OK ? swap_failed(r) : settled(r);
	if (go == GO_ON)
		reconcile_drive(r);
}

enum go
reconcile_forget(struct reconcile *r)
{
	swap_submit(r, forget_work, on_forgotten);
	return GO_WAIT;
}

/* The disk, then R2. In this order: what is written to R2 after the HEAD is seen by the second one. */

static void
on_looked(void *arg)
{
	struct reconcile *r = arg;
	enum go go;

	if (reconcile_job_ended(r))
		return;
	if (reconcile_look_rests(r, STEP_BACK_LOOK, &go))
		go = reconcile_to(r, STEP_BACK_HEAD);
	if (go == GO_ON)
		reconcile_drive(r);
}

enum go
reconcile_back_look(struct reconcile *r)
{
	if (!r->lease.seen.base.known)
		return reconcile_fail(r, ERR_STATE, "the mark does not say which file may be replaced");
	r->moved = false;
	r->want_hash = false;
	reconcile_look_start(r, on_looked);
	return GO_WAIT;
}

/* Is the disk's file another one than the writer to R2 has found? Then it is later, and r says so. */
static bool
is_later(struct reconcile *r)
{
	const struct reconcile_look *l = &r->look;
	struct mark_base now;

	r->swap_st = l->exists ? l->st : (struct local_stat){ .exists = false };
	now = reconcile_base(&r->swap_st);
	if (marks_base_same(&now, &r->lease.seen.base))
		return false;
	r->swapped = l->exists ? LOCAL_SWAP_LATER_WRITE : LOCAL_SWAP_LATER_DELETE;
	return true;
}

/* The two differ. */
static enum go
carry(struct reconcile *r)
{
	if (is_later(r))
		return reconcile_to(r, STEP_RECORD);
	/* Every proxy is in r2-only: nobody reads the disk any more. */
	if (cluster_committed(r->env.cluster) != 0)
		return reconcile_to(r, STEP_FINISH);
	swap_new(r);
	return reconcile_to(r, r->remote ? STEP_BACK_FETCH : STEP_BACK_OUT);
}

static enum go
head_seen(struct reconcile *r, const struct store_meta *m)
{
	const struct reconcile_look *l = &r->look;

	reconcile_take_meta(r, m);
	if (m == NULL)
		return reconcile_to(r, STEP_BACK_SURE);
	if (l->exists && l->st.size == r->meta.size && r->meta.has_md5 && (!r->meta.has_mtime || l->st.mtime_ns == r->meta.mtime_ns))
		return reconcile_to(r, STEP_BACK_COMPARE);
	return carry(r);
}

enum go
reconcile_back_head(struct reconcile *r)
{
	return reconcile_ask(r, head_seen);
}

/* The bucket may be missing, not the key. The answer to a GET tells them apart. */

static enum go
absent(struct reconcile *r)
{
	if (!r->look.exists)
		return reconcile_to(r, STEP_FINISH);
	return r->lease.seen.op == MARK_DELETE ? carry(r) : reconcile_fail(r, ERR_NOTFOUND, unproven_text);
}

static void
on_present(void *arg, const struct store_meta *m, bool partial, uint64_t first, uint64_t n, uint64_t total)
{
	struct reconcile *r = arg;

	(void)m;
	(void)partial;
	(void)first;
	(void)n;
	(void)total;
	store_cancel(r->env.r2, &r->op);
	if (reconcile_anew(r, STEP_BACK_LOOK, ERR_CHANGED, "the object was written meanwhile") == GO_ON)
		reconcile_drive(r);
}

static void
on_byte(void *arg, const void *p, size_t n)
{
	(void)arg;
	(void)p;
	(void)n;
}

static void
on_sure(void *arg, enum err e)
{
	struct reconcile *r = arg;
	enum go go;

	r->op = NULL;
	go = e == ERR_NOTFOUND ? absent(r) : reconcile_fail_r2(r, e, "R2, GET");
	if (go == GO_ON)
		reconcile_drive(r);
}

enum go
reconcile_back_sure(struct reconcile *r)
{
	static const struct store_get_cb cb = { on_present, on_byte, on_sure };
	struct store_get g = { .key = r->key, .klen = r->klen };

	g.first_byte_ms = g.stall_ms = cluster_limit_ms(r->env.cluster);
	r->op = store_get(r->env.r2, &g, &cb, r);
	return GO_WAIT;
}

static void
on_compared(void *arg)
{
	struct reconcile *r = arg;
	const struct reconcile_look *l = &r->look;
	enum go go;

	if (reconcile_job_ended(r))
		return;
	if (l->e == ERR_OK && l->hashed && l->st.size == r->meta.size && memcmp(l->md5, r->meta.md5, sizeof l->md5) == 0 &&
	    (!r->meta.has_mtime || l->st.mtime_ns == r->meta.mtime_ns))
		go = reconcile_to(r, STEP_FINISH);
	else if (l->e == ERR_OK && (!l->exists || l->hashed))
		go = carry(r);
	else if (l->e == ERR_OK || l->e == ERR_CHANGED)
		go = reconcile_anew(r, STEP_BACK_LOOK, ERR_CHANGED, "the file is being written");
	else
		go = reconcile_fail(r, l->e, "the file");
	if (go == GO_ON)
		reconcile_drive(r);
}

enum go
reconcile_back_compare(struct reconcile *r)
{
	r->want_hash = true;
	reconcile_look_start(r, on_compared);
	return GO_WAIT;
}

/* The bytes, and the swap. */

static void
on_fetched(struct reconcile *r, enum err e, bool r2)
{
	enum go go;

	if (e == ERR_OK) {
		go = reconcile_to(r, STEP_BACK_SWAP);
	} else if (r2 && e == ERR_CHANGED) {
		local_swap_free(&r->swap);
		go = reconcile_anew(r, STEP_BACK_LOOK, ERR_CHANGED, "the object was written meanwhile");
	} else if (r2) {
		go = reconcile_fail_r2(r, e, "R2, GET");
	} else if (e == ERR_NOSPACE) {
		go = reconcile_defer(r, ERR_NOSPACE, "the disk has less than media.min-free left: nothing is fetched");
	} else {
		r->swap_e = e;
		go = swap_failed(r);
	}
	if (go == GO_ON)
		reconcile_drive(r);
}

enum go
reconcile_back_fetch(struct reconcile *r)
{
	reconcile_fetch_start(r, on_fetched);
	return GO_WAIT;
}

static void
on_swapped(void *arg)
{
	struct reconcile *r = arg;
	enum go go;

	if (reconcile_job_ended(r))
		return;
	if (r->swap_e != ERR_OK) {
		go = swap_failed(r);
	} else {
		r->carried = r->swapped == LOCAL_SWAP_DONE;
		if (r->carried)
			r->report.result = r->remote ? RECONCILE_RESTORED : RECONCILE_REMOVED;
		if (r->carried && r->remote)
			r->report.placed = reconcile_base(&r->swap_st);
		go = reconcile_to(r, STEP_RECORD);
	}
	if (go == GO_ON)
		reconcile_drive(r);
}

static void
swap_work(void *arg)
{
	struct reconcile *r = arg;
	struct local_swap_meta m = { .mtime_ns = r->meta.has_mtime ? r->meta.mtime_ns : r->meta.last_modified_s * 1000000000,
		.has_mode = r->meta.has_mode, .mode = r->meta.mode, .uid = r->meta.uid, .gid = r->meta.gid };

	r->swap_e = local_swap_in(r->swap, &m, &r->swapped, &r->swap_st);
}

enum go
reconcile_back_swap(struct reconcile *r)
{
	swap_submit(r, swap_work, on_swapped);
	return GO_WAIT;
}

static void
out_work(void *arg)
{
	struct reconcile *r = arg;

	r->swap_e = local_swap_out(r->swap, &r->swapped, &r->swap_st);
}

enum go
reconcile_back_out(struct reconcile *r)
{
	swap_submit(r, out_work, on_swapped);
	return GO_WAIT;
}

/* R2 once more. Then what the swap took out is judged for good: a request to R2 later, whoever was about to open it has done so. */

static enum go
again_seen(struct reconcile *r, const struct store_meta *m)
{
	r->carried = false;
	r->asked_again = true;
	r->moved = (m != NULL) != r->remote || (r->remote && strcmp(m->etag, r->meta.etag) != 0);
	return reconcile_to(r, STEP_SETTLE);
}

enum go
reconcile_back_again(struct reconcile *r)
{
	return reconcile_ask(r, again_seen);
}
