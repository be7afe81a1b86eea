/*
 * The steps of one reconcile, in their order (enum step). Each begins one asynchronous thing and returns; its callback picks the
 * next step with go(). A step that finds the world changed goes back to HEAD: R2 is looked at before the file, always.
 */
#include "sync/reconcile.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/keypath.h"
#include "base/mem.h"
#include "base/str.h"

/* Kernels stamp ctimes in ticks: two writes in one tick look alike. A younger file is looked at again after that long. */
#define TICK_MS 10
/* So often the world may change under one reconcile before it gives the key back. */
#define ROUNDS_MAX 5
/* A listing is believed about a file's headers only if the object is younger than the file's last change by more than this. */
#define LISTED_MARGIN_MS 2000

enum step {
	STEP_COMPARE,	/* no lease yet: does the listing say that nothing is to do? Hash the file (pool) */
	STEP_LEASE,	/* the exclusive right to touch the key; the mark as it stands */
	STEP_ABORT,	/* a takeover: end the dead holder's unfinished uploads */
	STEP_HEAD,	/* what has R2? */
	STEP_LOOK,	/* then the file: open, stat, lock, hash (pool) */
	STEP_YOUNG,	/* its last change is less than a tick ago: wait */
	STEP_PUT,	/* R2 gets the file, fenced by what HEAD saw */
	STEP_DELETE,	/* R2 loses the object: a tombstone stands, and the file is proven absent */
	STEP_AGAIN,	/* has the file changed meanwhile? (pool) */
	STEP_FINISH,	/* one script: clear the mark at the gen seen, drop the lease */
	STEP_DROP,	/* not finished: drop the lease, leave the mark */
	STEP_END	/* tell the caller */
};

struct reconcile {
	const struct reconcile_env *env;
	char *key;
	size_t klen;
	reconcile_done *done;
	void *arg;
	enum step step;
	unsigned rounds;
	/* The listing's word. */
	bool hinted;
	struct reconcile_hint hint;
	char hint_etag[80];
	/* The lease. */
	struct lease lease;
	bool leased;
	bool on_wire;			/* a PUT or DELETE is out: until it is answered the lease must not be dropped */
	struct loop_timer renew, until, young;
	struct cluster_call *call, *renewing;
	/* R2's side. */
	struct store_op *op;
	bool there;
	struct store_meta head;
	/* The file's side. */
	struct pool_job job;
	struct local *local;
	enum err look_err;
	int fd;
	bool locked, young_file;
	struct local_stat st, again;
	uint8_t md5[DIGEST_MD5_LEN], sha256[DIGEST_SHA256_LEN];
	struct loop_call begin;
	struct reconcile_report report;
};

static void go(struct reconcile *r, enum step step);

const char *
reconcile_result_name(enum reconcile_result result)
{
	static const char *const names[] = {
		[RECONCILE_EQUAL] = "equal",
		[RECONCILE_COPIED] = "copied",
		[RECONCILE_DELETED] = "deleted",
		[RECONCILE_ORPHAN] = "orphan",
		[RECONCILE_UNHOLDABLE] = "unholdable",
		[RECONCILE_DEFERRED] = "deferred",
		[RECONCILE_FAILED] = "failed",
	};

	return names[result];
}

static void
close_file(struct reconcile *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
}

static void
release(void *arg)
{
	struct reconcile *r = arg;

	close_file(r);
	store_meta_fini(&r->head);
	mem_free(r->key);
	mem_free(r);
}

/* Stops everything that could still call back. */
static void
quiet(struct reconcile *r)
{
	loop_call_cancel(&r->begin);
	loop_timer_fini(&r->renew);
	loop_timer_fini(&r->until);
	loop_timer_fini(&r->young);
	cluster_cancel(&r->renewing);
	store_cancel(r->env->r2, &r->op);
}

/* Ends with a result that is no success; why may be NULL. A lease that may be dropped is. */
static void
give_up(struct reconcile *r, enum reconcile_result result, enum err e, const char *why)
{
	r->report.result = result;
	r->report.e = e;
	snprintf(r->report.why, sizeof(r->report.why), "%s", why != NULL ? why : err_text(e));
	if (r->leased && !r->on_wire)
		go(r, STEP_DROP);
	else
		go(r, STEP_END);
}

static void
fail(struct reconcile *r, enum err e, const char *what)
{
	char why[sizeof(r->report.why)];

	snprintf(why, sizeof(why), "%s: %s", what, err_text(e));
	give_up(r, RECONCILE_FAILED, e, why);
}

/* The world changed under us: look at R2 and the file again. */
static void
start_again(struct reconcile *r, enum err e, const char *why)
{
	close_file(r);
	if (++r->rounds >= ROUNDS_MAX)
		give_up(r, RECONCILE_DEFERRED, e, why);
	else
		go(r, STEP_HEAD);
}

/* The lease. */

static void
until_cb(void *arg)
{
	struct reconcile *r = arg;

	/* Our time is over and others may come after the quarantine: not another byte. */
	store_cancel(r->env->r2, &r->op);
	cluster_cancel(&r->call);
	r->leased = false;
	if (r->job.busy) {
		/* The pool's job cannot be awaited here and its result is of no use: end when it is back. */
		r->look_err = ERR_LEASE_LOST;
		return;
	}
	give_up(r, RECONCILE_FAILED, ERR_LEASE_LOST, NULL);
}

static void
renewed_cb(void *arg, enum err e)
{
	struct reconcile *r = arg;
	uint64_t now = clock_mono_ms();

	r->renewing = NULL;
	if (e != ERR_OK)
		return;		/* `until` stands as it was, and ends us in time */
	loop_timer_set(&r->until, r->lease.until_mono_ms > now ? r->lease.until_mono_ms - now : 0);
}

static void
renew_cb(void *arg)
{
	struct reconcile *r = arg;

	loop_timer_set(&r->renew, r->env->conf->lease / 3);
	if (r->renewing != NULL)
		return;
	/* Counted from before the request is sent. */
	r->lease.until_mono_ms = marks_lease_until(r->env->cluster);
	r->renewing = marks_renew(r->env->cluster, r->key, r->klen, &r->lease, renewed_cb, r);
}

static void
leased_cb(void *arg, enum err e, const struct lease *l)
{
	struct reconcile *r = arg;
	uint64_t now = clock_mono_ms();

	r->call = NULL;
	if (e != ERR_OK) {
		if (e == ERR_BUSY)
			give_up(r, RECONCILE_DEFERRED, e, NULL);
		else
			fail(r, e, "no lease");
		return;
	}
	r->lease = *l;
	r->leased = true;
	if (l->until_mono_ms <= now) {
		r->leased = false;
		give_up(r, RECONCILE_FAILED, ERR_LEASE_LOST, NULL);
		return;
	}
	loop_timer_set(&r->until, l->until_mono_ms - now);
	loop_timer_set(&r->renew, r->env->conf->lease / 3);
	if (l->seen.gen != 0 && l->seen.side != MARK_LOCAL)
		give_up(r, RECONCILE_FAILED, ERR_UNSUPPORTED, "R2 was written first: this version has no such phase");
	else if (l->open)
		give_up(r, RECONCILE_DEFERRED, ERR_BUSY, "a write on it is open");
	else
		go(r, l->takeover ? STEP_ABORT : STEP_HEAD);
}

static void
aborted_cb(void *arg, enum err e, const char *etag)
{
	struct reconcile *r = arg;

	(void)etag;
	r->op = NULL;
	if (e == ERR_OK || e == ERR_UNSUPPORTED)
		go(r, STEP_HEAD);
	else
		fail(r, e, "R2, unfinished uploads");
}

/* R2's side. */

static void
headed_cb(void *arg, enum err e, const struct store_meta *m)
{
	struct reconcile *r = arg;

	r->op = NULL;
	store_meta_fini(&r->head);
	store_meta_init(&r->head);
	r->there = e == ERR_OK;
	if (e != ERR_OK && e != ERR_NOTFOUND) {
		fail(r, e, "R2");
		return;
	}
	if (r->there) {
		r->head = *m;
		r->head.content_type = mem_strdup(m->content_type);
		r->head.cache_control = mem_strdup(m->cache_control);
		r->head.content_disposition = r->head.content_encoding = r->head.spelling = NULL;
	}
	go(r, STEP_LOOK);
}

/* The file's side. */

static enum err
look_at_absence(struct reconcile *r)
{
	enum err e = local_sentinel(r->local, NULL);

	if (e == ERR_OK)
		e = local_look(r->local, r->key, r->klen, &r->st);
	if (e == ERR_OK && r->st.exists)
		e = ERR_CHANGED;	/* it was not there a moment ago */
	return e;
}

static void
look_work(void *arg)
{
	struct reconcile *r = arg;
	int64_t age_ns;

	r->locked = r->young_file = false;
	memset(&r->st, 0, sizeof(r->st));
	r->look_err = local_open_key(r->local, r->key, r->klen, &r->fd, &r->st);
	if (r->look_err == ERR_NOTFOUND) {
		r->fd = -1;
		r->look_err = look_at_absence(r);
		return;
	}
	if (r->look_err != ERR_OK) {
		r->fd = -1;
		return;
	}
	r->st.exists = true;
	r->locked = local_is_locked(r->fd);
	age_ns = (int64_t)clock_real_us() * 1000 - r->st.ctime_ns;
	r->young_file = age_ns >= 0 && age_ns < (int64_t)TICK_MS * 1000000;
	if (!r->locked && !r->young_file)
		r->look_err = local_digest(r->fd, r->st.size, r->md5, r->sha256, &r->job.cancelled);
}

/* What the object of this file should bear. */
static void
wanted_meta(const struct reconcile *r, struct store_meta *m)
{
	const struct conf *c = r->env->conf;
	const struct conf_prefix *p;
	struct str path = STR_INIT;

	str_addz(&path, c->media_url);
	str_add(&path, r->key, r->klen);
	p = conf_prefix_for(c, path.p, path.len);
	str_fini(&path);
	store_meta_init(m);
	local_meta(&r->st, r->key, r->klen, p != NULL ? p->cache_control : NULL, m);
}

static bool
same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool
sides_equal(const struct reconcile *r)
{
	struct store_meta want;
	bool same;

	if (!r->there || r->head.size != r->st.size || !r->head.has_md5 || memcmp(r->head.md5, r->md5, sizeof(r->md5)) != 0)
		return false;
	wanted_meta(r, &want);
	same = r->head.has_mtime && r->head.mtime_ns == want.mtime_ns && same_text(r->head.content_type, want.content_type) &&
	    same_text(r->head.cache_control, want.cache_control);
	store_meta_fini(&want);
	return same;
}

/* Does the listing alone say that the object is this file's, headers and all? */
static bool
listing_says_equal(const struct reconcile *r)
{
	struct str hex = STR_INIT;
	bool same;

	if (r->hint.absent || r->hint.size != r->st.size || r->hint.last_modified_ms < r->st.ctime_ns / 1000000 + LISTED_MARGIN_MS)
		return false;
	str_add_hex(&hex, r->md5, sizeof(r->md5));
	same = strcmp(str_z(&hex), r->hint_etag) == 0;
	str_fini(&hex);
	return same;
}

static void
compared_cb(void *arg)
{
	struct reconcile *r = arg;
	bool equal = r->look_err == ERR_OK && r->st.exists && !r->locked && !r->young_file && listing_says_equal(r);

	close_file(r);
	if (!equal) {
		go(r, STEP_LEASE);
		return;
	}
	r->report.result = RECONCILE_EQUAL;
	go(r, STEP_END);
}

static void
choose(struct reconcile *r)
{
	if (r->st.exists)
		go(r, sides_equal(r) ? STEP_FINISH : STEP_PUT);
	else if (!r->there)
		go(r, STEP_FINISH);
	else if (r->lease.seen.gen != 0 && r->lease.seen.op == MARK_DELETE)
		go(r, STEP_DELETE);
	else
		give_up(r, RECONCILE_ORPHAN, ERR_OK, "an object without a file, and no evidence of a delete: the census decides");
}

static void
looked_cb(void *arg)
{
	struct reconcile *r = arg;

	if (!r->leased)
		give_up(r, RECONCILE_FAILED, ERR_LEASE_LOST, NULL);
	else if (r->look_err == ERR_CHANGED)
		start_again(r, ERR_CHANGED, "the file changes all the time");
	else if (r->look_err != ERR_OK)
		fail(r, r->look_err, "the disk");
	else if (r->locked)
		give_up(r, RECONCILE_DEFERRED, ERR_CHANGED, "its writer holds a lock: not finished");
	else if (r->young_file)
		go(r, STEP_YOUNG);
	else
		choose(r);
}

static void
young_cb(void *arg)
{
	struct reconcile *r = arg;

	close_file(r);
	go(r, STEP_LOOK);
}

/* The copy. An answer that did not come leaves the request on the wire: the lease is then left to its quarantine. */

static bool
unanswered(enum err e)
{
	return e == ERR_TIMEOUT || e == ERR_CLOSED;
}

static void
put_cb(void *arg, enum err e, const char *etag)
{
	struct reconcile *r = arg;

	(void)etag;
	r->op = NULL;
	r->on_wire = unanswered(e);
	if (e == ERR_PRECOND) {
		start_again(r, e, "R2 holds another spelling of this name, or somebody else keeps writing it");
	} else if (e == ERR_CHANGED) {
		start_again(r, e, "the file changes all the time");
	} else if (e != ERR_OK) {
		fail(r, e, "R2, put");
	} else {
		r->report.result = RECONCILE_COPIED;
		r->report.bytes += r->st.size;
		go(r, STEP_AGAIN);
	}
}

static void
deleted_cb(void *arg, enum err e, const char *etag)
{
	struct reconcile *r = arg;

	(void)etag;
	r->op = NULL;
	r->on_wire = unanswered(e);
	if (e != ERR_OK) {
		fail(r, e, "R2, delete");
		return;
	}
	r->report.result = RECONCILE_DELETED;
	go(r, STEP_AGAIN);
}

static void
again_work(void *arg)
{
	struct reconcile *r = arg;

	memset(&r->again, 0, sizeof(r->again));
	r->look_err = local_look(r->local, r->key, r->klen, &r->again);
}

static void
again_cb(void *arg)
{
	struct reconcile *r = arg;
	bool same = r->again.exists == r->st.exists && (!r->st.exists || local_same(&r->again, &r->st));

	if (!r->leased)
		give_up(r, RECONCILE_FAILED, ERR_LEASE_LOST, NULL);
	else if (r->look_err != ERR_OK)
		fail(r, r->look_err, "the disk");
	else if (!same)
		start_again(r, ERR_CHANGED, "the file changes all the time");
	else
		go(r, STEP_FINISH);
}

static void
finished_cb(void *arg, enum err e, bool cleared)
{
	struct reconcile *r = arg;

	r->call = NULL;
	r->leased = false;
	if (e != ERR_OK) {
		r->report.result = RECONCILE_FAILED;
		r->report.e = e;
		snprintf(r->report.why, sizeof(r->report.why), "the sides are equal, but the mark could not be cleared: %s", err_text(e));
	} else {
		r->report.clean = cleared;
		r->report.gen = r->lease.seen.gen;
	}
	go(r, STEP_END);
}

static void
dropped_cb(void *arg, enum err e)
{
	struct reconcile *r = arg;

	(void)e;
	r->call = NULL;
	r->leased = false;
	go(r, STEP_END);
}

static void
end(struct reconcile *r)
{
	reconcile_done *done = r->done;
	void *arg = r->arg;
	struct reconcile_report report = r->report;

	quiet(r);
	release(r);
	done(arg, &report);
}

static void
put(struct reconcile *r)
{
	struct store_meta meta;
	struct store_put p = {.key = r->key, .klen = r->klen, .fd = r->fd, .size = r->st.size, .meta = &meta,
	    .limit_ms = r->env->conf->r2_request_limit};

	memcpy(p.md5, r->md5, sizeof(p.md5));
	memcpy(p.sha256, r->sha256, sizeof(p.sha256));
	p.fence.if_absent = !r->there;
	p.fence.if_etag = r->there ? r->head.etag : NULL;
	wanted_meta(r, &meta);
	r->on_wire = true;
	r->op = store_put(r->env->r2, &p, put_cb, r);
	store_meta_fini(&meta);
}

/* Begins a step. */
static void
go(struct reconcile *r, enum step step)
{
	const struct reconcile_env *env = r->env;
	uint64_t limit = env->conf->r2_request_limit;

	r->step = step;
	switch (step) {
	case STEP_COMPARE:
		pool_submit(env->pool, &r->job, look_work, compared_cb, r);
		return;
	case STEP_LEASE:
		r->call = marks_lease(env->cluster, r->key, r->klen, leased_cb, r);
		return;
	case STEP_ABORT:
		r->op = store_abort_uploads(env->r2, r->key, r->klen, aborted_cb, r);
		return;
	case STEP_HEAD:
		r->op = store_head(env->r2, r->key, r->klen, limit, headed_cb, r);
		return;
	case STEP_LOOK:
		pool_submit(env->pool, &r->job, look_work, looked_cb, r);
		return;
	case STEP_YOUNG:
		loop_timer_set(&r->young, TICK_MS);
		return;
	case STEP_PUT:
		put(r);
		return;
	case STEP_DELETE:
		r->on_wire = true;
		r->op = store_del(env->r2, r->key, r->klen, limit, deleted_cb, r);
		return;
	case STEP_AGAIN:
		close_file(r);
		pool_submit(env->pool, &r->job, again_work, again_cb, r);
		return;
	case STEP_FINISH:
		close_file(r);
		r->call = marks_finish(env->cluster, r->key, r->klen, &r->lease, r->lease.seen.gen, finished_cb, r);
		return;
	case STEP_DROP:
		r->call = marks_drop(env->cluster, r->key, r->klen, &r->lease, dropped_cb, r);
		return;
	case STEP_END:
		end(r);
		return;
	}
}

static void
begin_cb(void *arg)
{
	struct reconcile *r = arg;
	enum keypath_fault f = keypath_check(r->key, r->klen);

	if (f == KEYPATH_OK)
		go(r, r->hinted && !r->hint.absent ? STEP_COMPARE : STEP_LEASE);
	else if (keypath_servable(f))
		give_up(r, RECONCILE_UNHOLDABLE, ERR_OK, keypath_fault_text(f));
	else
		give_up(r, RECONCILE_FAILED, ERR_INVAL, keypath_fault_text(f));
}

struct reconcile *
reconcile_start(const struct reconcile_env *env, const char *key, size_t klen, const struct reconcile_hint *hint, reconcile_done *done,
    void *arg)
{
	struct reconcile *r = mem_zalloc(sizeof(*r));

	r->env = env;
	r->local = env->local;
	r->key = mem_strndup(key, klen);
	r->klen = klen;
	r->done = done;
	r->arg = arg;
	r->fd = -1;
	store_meta_init(&r->head);
	if (hint != NULL && hint->listed) {
		r->hinted = true;
		r->hint = *hint;
		snprintf(r->hint_etag, sizeof(r->hint_etag), "%s", hint->etag != NULL ? hint->etag : "");
		r->hint.etag = r->hint_etag;
	}
	loop_timer_init(&r->renew, env->loop, renew_cb, r);
	loop_timer_init(&r->until, env->loop, until_cb, r);
	loop_timer_init(&r->young, env->loop, young_cb, r);
	loop_call_init(&r->begin, env->loop, begin_cb, r);
	loop_call_soon(&r->begin);
	return r;
}

void
reconcile_cancel(struct reconcile **rp)
{
	struct reconcile *r = *rp;

	if (r == NULL)
		return;
	*rp = NULL;
	quiet(r);
	if (r->step == STEP_LEASE)
		marks_lease_cancel(&r->call);
	else
		cluster_cancel(&r->call);
	if (r->leased && !r->on_wire && r->step != STEP_FINISH && r->step != STEP_DROP)
		(void)marks_drop(r->env->cluster, r->key, r->klen, &r->lease, NULL, NULL);
	if (r->job.busy)
		pool_cancel(&r->job, release);
	else
		release(r);
}
