#include "sync/reconcile.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/keypath.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/trip.h"
#include "sync/reconcile_int.h"

enum {
	ROUNDS_MAX = 5,		/* looks at the sides before somebody else's turn comes */
	OPEN_MS = 1000,		/* a key is dirty for so long before it is copied while a write on it is open */
	SURE_MS = 2000		/* an object this much younger than the file's ctime was made from that file, whatever the clocks say */
};

static enum go name_check(struct reconcile *r);
static enum go mark_get(struct reconcile *r);
static enum go peek_head(struct reconcile *r);
static enum go peek_look(struct reconcile *r);
static enum go lease_take(struct reconcile *r);
static enum go finish(struct reconcile *r);

static const struct {
	const char *name;
	enum go (*run)(struct reconcile *r);
} steps[STEP_COUNT] = {
	[STEP_NAME] = { "name", name_check },
	[STEP_MARK] = { "mark", mark_get },
	[STEP_PEEK_HEAD] = { "peek-head", peek_head },
	[STEP_PEEK_LOOK] = { "peek-look", peek_look },
	[STEP_LEASE] = { "lease", lease_take },
	[STEP_SETTLE] = { "settle", reconcile_settle },
	[STEP_RECORD] = { "record", reconcile_record },
	[STEP_FORGET] = { "forget", reconcile_forget },
	[STEP_UPLOADS] = { "uploads", reconcile_forth_uploads },
	[STEP_HEAD] = { "head", reconcile_forth_head },
	[STEP_LOOK] = { "look", reconcile_forth_look },
	[STEP_PACE] = { "pace", reconcile_forth_pace },
	[STEP_PUT] = { "put", reconcile_forth_put },
	[STEP_AGAIN] = { "again", reconcile_forth_again },
	[STEP_GONE] = { "gone", reconcile_forth_gone },
	[STEP_DELETE] = { "delete", reconcile_forth_delete },
	[STEP_GONE_AGAIN] = { "gone-again", reconcile_forth_gone_again },
	[STEP_BACK_LOOK] = { "back-look", reconcile_back_look },
	[STEP_BACK_HEAD] = { "back-head", reconcile_back_head },
	[STEP_BACK_SURE] = { "back-sure", reconcile_back_sure },
	[STEP_BACK_COMPARE] = { "back-compare", reconcile_back_compare },
	[STEP_BACK_FETCH] = { "back-fetch", reconcile_back_fetch },
	[STEP_BACK_SWAP] = { "back-swap", reconcile_back_swap },
	[STEP_BACK_OUT] = { "back-out", reconcile_back_out },
	[STEP_BACK_AGAIN] = { "back-again", reconcile_back_again },
	[STEP_FINISH] = { "finish", finish },
};

const char *
reconcile_result_name(enum reconcile_result r)
{
	static const char *const name[] = { "equal", "copied", "deleted", "restored", "removed", "orphan", "unholdable", "deferred", "failed" };

	return name[r];
}

enum go
reconcile_to(struct reconcile *r, enum step s)
{
	log_debug("reconcile", "%s: %s -> %s", log_key(r->key, r->klen), steps[r->step].name, steps[s].name);
	r->step = s;
	return GO_ON;
}

void
reconcile_drive(struct reconcile *r)
{
	do
		TRIP_STEP("reconcile", steps[r->step].name);
	while (steps[r->step].run(r) == GO_ON);
}

/* The end. */

static void
reconcile_free(struct reconcile *r)
{
	if (r->fd >= 0)
		close(r->fd);
	reconcile_fetch_free(r);
	local_swap_free(&r->swap);
	loop_call_cancel(&r->begin);
	loop_timer_fini(&r->wait);
	store_meta_fini(&r->meta);
	store_meta_fini(&r->want);
	conf_unref(&r->conf);
	mem_free(r);
}

/* Gives the lease back, or leaves it to its quarantine if a request may still be on the wire, or a thread may still rename. */
static void
let_go(struct reconcile *r)
{
	if (r->in_flight || r->swapping)
		hold_park(&r->hold);
	else
		hold_drop(&r->hold);
}

enum go
reconcile_end(struct reconcile *r, enum reconcile_result result, enum err e, const char *why)
{
	reconcile_done *done = r->done;
	void *arg = r->arg;
	struct reconcile_report report;

	let_go(r);
	r->report.result = result;
	r->report.e = e;
	snprintf(r->report.why, sizeof r->report.why, "%s", why);
	report = r->report;
	log_debug("reconcile", "%s: %s%s%s", log_key(r->key, r->klen), reconcile_result_name(result), why[0] != '\0' ? ": " : "", why);
	reconcile_free(r);
	done(arg, &report);
	return GO_WAIT;
}

enum go
reconcile_fail(struct reconcile *r, enum err e, const char *what)
{
	char why[256];

	snprintf(why, sizeof why, "%s: %s", what, err_text(e));
	return reconcile_end(r, RECONCILE_FAILED, e, why);
}

enum go
reconcile_fail_r2(struct reconcile *r, enum err e, const char *what)
{
	r->report.r2 = true;
	return reconcile_fail(r, e, what);
}

enum go
reconcile_defer(struct reconcile *r, enum err e, const char *why)
{
	return reconcile_end(r, RECONCILE_DEFERRED, e, why);
}

enum go
reconcile_orphan(struct reconcile *r)
{
	return reconcile_end(r, RECONCILE_ORPHAN, ERR_OK, "an object without a file, and nothing says that it was deleted");
}

enum go
reconcile_anew(struct reconcile *r, enum step s, enum err e, const char *why)
{
	if (++r->rounds >= ROUNDS_MAX)
		return reconcile_defer(r, e, why);
	return reconcile_to(r, s);
}

/* 1. The name. */

static enum go
name_check(struct reconcile *r)
{
	enum keypath_fault f = keypath_check(r->key, r->klen);

	if (f != KEYPATH_OK && !keypath_servable(f))
		return reconcile_end(r, RECONCILE_FAILED, ERR_INVAL, keypath_fault_text(f));
	if (f != KEYPATH_OK)
		r->report.result = RECONCILE_UNHOLDABLE;
	else if (r->hinted && r->hint.listed && r->hint.absent)
		return reconcile_to(r, STEP_LEASE);	/* it will want copying: the lease tells of the mark, too */
	return reconcile_to(r, STEP_MARK);
}

static bool
unholdable(const struct reconcile *r)
{
	return r->report.result == RECONCILE_UNHOLDABLE;
}

/* 2. Without a lease: a key that is clean and equal costs no lease. */

static void
on_mark(void *arg, enum err e, const struct mark *m)
{
	struct reconcile *r = arg;
	enum go go;

	r->call = NULL;
	if (e != ERR_OK) {
		go = reconcile_fail(r, e, "Redis");
	} else if (m->gen > 0) {
		go = reconcile_to(r, STEP_LEASE);
	} else if (unholdable(r)) {
		r->report.clean = true;
		go = reconcile_end(r, RECONCILE_UNHOLDABLE, ERR_OK, keypath_fault_text(keypath_check(r->key, r->klen)));
	} else {
		go = reconcile_to(r, STEP_PEEK_HEAD);
	}
	if (go == GO_ON)
		reconcile_drive(r);
}

static enum go
mark_get(struct reconcile *r)
{
	r->call = marks_get(r->env.cluster, r->key, r->klen, on_mark, r);
	return GO_WAIT;
}

static bool
hint_single_part(const struct reconcile *r, uint8_t md5[16])
{
	size_t n;

	return r->hinted && r->hint.listed && !r->hint.absent && strlen(r->hint_etag) == 32 && str_unhex(r->hint_etag, 32, md5, 16, &n) && n == 16;
}

static char *
copy_text(const char *s)
{
	return s != NULL ? mem_strdup(s) : NULL;
}

void
reconcile_take_meta(struct reconcile *r, const struct store_meta *m)
{
	store_meta_fini(&r->meta);
	r->remote = m != NULL;
	if (m == NULL)
		return;
	r->meta.size = m->size;
	memcpy(r->meta.etag, m->etag, sizeof r->meta.etag);
	r->meta.has_md5 = m->has_md5;
	memcpy(r->meta.md5, m->md5, sizeof r->meta.md5);
	r->meta.has_mtime = m->has_mtime;
	r->meta.mtime_ns = m->mtime_ns;
	r->meta.last_modified_s = m->last_modified_s;
	r->meta.has_mode = m->has_mode;
	r->meta.mode = m->mode;
	r->meta.uid = m->uid;
	r->meta.gid = m->gid;
	r->meta.content_type = copy_text(m->content_type);
	r->meta.cache_control = copy_text(m->cache_control);
}

static void
on_head(void *arg, enum err e, const struct store_meta *m)
{
	struct reconcile *r = arg;
	enum go go;

	r->op = NULL;
	if (e != ERR_OK && e != ERR_NOTFOUND)
		go = reconcile_fail_r2(r, e, "R2, HEAD");
	else
		go = r->seen(r, e == ERR_OK ? m : NULL);
	if (go == GO_ON)
		reconcile_drive(r);
}

enum go
reconcile_ask(struct reconcile *r, enum go (*seen)(struct reconcile *r, const struct store_meta *m))
{
	r->seen = seen;
	r->op = store_head(r->env.r2, r->key, r->klen, cluster_limit_ms(r->env.cluster), on_head, r);
	return GO_WAIT;
}

static enum go
peek_seen(struct reconcile *r, const struct store_meta *m)
{
	reconcile_take_meta(r, m);
	return reconcile_to(r, STEP_PEEK_LOOK);
}

static enum go
peek_head(struct reconcile *r)
{
	uint8_t md5[16];

	/* The listing said enough: the file is looked at first, and perhaps R2 need not be asked at all. */
	if (!r->asked && hint_single_part(r, md5))
		return reconcile_to(r, STEP_PEEK_LOOK);
	r->asked = true;
	return reconcile_ask(r, peek_seen);
}

static void
young_over(void *arg)
{
	reconcile_drive(arg);
}

static enum go
equal_and_clean(struct reconcile *r)
{
	r->report.clean = true;
	return reconcile_end(r, RECONCILE_EQUAL, ERR_OK, "");
}

/* The listing's word alone: good enough if the bytes are equal and the object is surely younger than the file. */
static enum go
compare_hint(struct reconcile *r, const uint8_t md5[16])
{
	const struct reconcile_look *l = &r->look;

	if (l->exists && (l->st.size != r->hint.size || memcmp(md5, l->md5, sizeof l->md5) != 0))
		return reconcile_to(r, STEP_LEASE);
	if (l->exists && r->hint.last_modified_ms > l->st.ctime_ns / 1000000 + SURE_MS)
		return equal_and_clean(r);
	r->asked = true;	/* a HEAD says whether the headers are equal, and whether it is still there */
	return reconcile_to(r, STEP_PEEK_HEAD);
}

static enum go
compare_head(struct reconcile *r)
{
	if (!r->look.exists)
		return r->remote ? reconcile_orphan(r) : equal_and_clean(r);
	reconcile_look_meta(r);
	return reconcile_look_equal(r) ? equal_and_clean(r) : reconcile_to(r, STEP_LEASE);
}

static void
on_peeked(void *arg)
{
	struct reconcile *r = arg;
	const struct reconcile_look *l = &r->look;
	uint8_t md5[16];
	enum go go;

	if (l->unsettled)
		go = reconcile_to(r, STEP_LEASE);	/* that comes first, and wants the lease */
	else if (l->e == ERR_CHANGED || (l->e == ERR_OK && (l->locked || l->young)))
		go = reconcile_to(r, STEP_LEASE);	/* being written: the lease's own look waits for it */
	else if (l->e != ERR_OK)
		go = reconcile_fail(r, l->e, "the file");
	else if (!r->asked && hint_single_part(r, md5))
		go = compare_hint(r, md5);
	else
		go = compare_head(r);
	if (go == GO_ON)
		reconcile_drive(r);
}

static enum go
peek_look(struct reconcile *r)
{
	/* Bytes are read only if they may turn out equal. */
	r->want_hash = !r->asked || (r->remote && r->meta.has_md5);
	reconcile_look_start(r, on_peeked);
	return GO_WAIT;
}

/* 3. The lease. */

static void
on_lost(void *arg, enum err e)
{
	struct reconcile *r = arg;

	store_cancel(r->env.r2, &r->op);
	if (r->job.busy) {
		r->over = true;
		__atomic_store_n(&r->stop, true, __ATOMIC_RELAXED);
		return;
	}
	cluster_cancel(&r->call);
	loop_timer_cancel(&r->wait);
	reconcile_fail(r, e, "the lease");
}

static void
on_lease(void *arg, enum err e, const struct lease *l)
{
	struct reconcile *r = arg;

	if (e == ERR_BUSY || e == ERR_QUARANTINE) {
		reconcile_defer(r, e, err_text(e));
		return;
	}
	if (e != ERR_OK) {
		reconcile_fail(r, e, "Redis");
		return;
	}
	r->lease = *l;
	/* It would have to be copied again; but one that is always being written must not wait for ever. */
	if (l->open && !unholdable(r) && (l->seen.gen == 0 || clock_real_ms() < l->seen.since_ms + OPEN_MS)) {
		reconcile_defer(r, ERR_BUSY, "a write on it is open");
		return;
	}
	r->rounds = 0;
	if (unholdable(r))
		reconcile_to(r, STEP_FINISH);	/* the disk serves it: nothing can be owed to R2 */
	else
		reconcile_to(r, STEP_SETTLE);
	reconcile_drive(r);
}

static enum go
lease_take(struct reconcile *r)
{
	static const struct hold_cb cb = { on_lease, on_lost };

	r->hold = hold_new(r->env.cluster, r->key, r->klen, 0, false, &cb, r);
	return GO_WAIT;
}

bool
reconcile_job_ended(struct reconcile *r)
{
	r->swapping = false;
	if (!r->over)
		return false;
	reconcile_fail(r, ERR_LEASE_LOST, "the lease");
	return true;
}

/* 4. Forth and back have files of their own. Behind both: clear the mark, if nobody wrote since the lease was taken; drop the lease. */

static void
on_finished(void *arg, enum err e, bool cleared)
{
	struct reconcile *r = arg;
	enum reconcile_result result = r->report.result;

	r->call = NULL;
	if (e != ERR_OK) {
		reconcile_fail(r, e, "Redis");
		return;
	}
	hold_spent(&r->hold);
	r->report.clean = cleared;
	r->report.gen = cleared ? r->lease.seen.gen : 0;
	reconcile_end(r, result, ERR_OK, unholdable(r) ? keypath_fault_text(keypath_check(r->key, r->klen)) : "");
}

static enum go
finish(struct reconcile *r)
{
	hold_last(r->hold);
	r->call = marks_finish(r->env.cluster, r->key, r->klen, &r->lease, r->lease.seen.gen, on_finished, r);
	return GO_WAIT;
}

/* Beginning and breaking off. */

static void
on_begin(void *arg)
{
	reconcile_drive(arg);
}

struct reconcile *
reconcile_start(const struct reconcile_env *env, const char *key, size_t klen, const struct reconcile_hint *hint, reconcile_done *done, void *arg)
{
	struct reconcile *r = mem_zalloc(sizeof *r + klen + 1);

	r->env = *env;
	r->conf = conf_ref(env->conf);
	r->done = done;
	r->arg = arg;
	r->step = STEP_NAME;
	r->fd = -1;
	r->klen = klen;
	memcpy(r->key, key, klen);
	store_meta_init(&r->meta);
	store_meta_init(&r->want);
	if (hint != NULL) {
		r->hinted = true;
		r->hint = *hint;
		snprintf(r->hint_etag, sizeof r->hint_etag, "%s", hint->etag != NULL ? hint->etag : "");
		r->hint.etag = r->hint_etag;
	}
	loop_call_init(&r->begin, env->loop, on_begin, r);
	loop_timer_init(&r->wait, env->loop, young_over, r);
	loop_call_soon(&r->begin);
	return r;
}

static void
on_dropped(void *arg)
{
	reconcile_free(arg);
}

void
reconcile_cancel(struct reconcile **rp)
{
	struct reconcile *r = *rp;

	if (r == NULL)
		return;
	*rp = NULL;
	loop_call_cancel(&r->begin);
	loop_timer_cancel(&r->wait);
	cluster_cancel(&r->call);
	store_cancel(r->env.r2, &r->op);
	let_go(r);
	if (r->job.busy) {
		__atomic_store_n(&r->stop, true, __ATOMIC_RELAXED);
		pool_cancel(&r->job, on_dropped);
	} else {
		reconcile_free(r);
	}
}
