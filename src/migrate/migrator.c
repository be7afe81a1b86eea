#include "migrate/migrator.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "coord/phase.h"
#include "coord/run.h"
#include "migrate/backfill.h"
#include "migrate/worker.h"

#define TICK_MS 500
/* The feeder's lock outlives a few missed ticks, not more. */
#define FEEDER_MS 5000
/* A pass that failed is not begun again at once. */
#define PAUSE_MS 3000

struct migrator {
	const struct reconcile_env *env;
	char *name;
	struct worker *worker;
	struct backfill *backfill;
	struct loop_timer tick;
	uint64_t run_id;		/* of the pass that runs */
	bool census_only;
	uint64_t pause_until;
	bool ours;			/* we hold the feeder's lock */
	bool asking;			/* an answer from Redis is awaited */
	bool stopping;
	char trouble[128];		/* the feeder's */
	void (*stopped)(void *arg);
	void *stopped_arg;
};

static void
heartbeat(struct migrator *m)
{
	const struct worker_counts *c = worker_counts(m->worker);
	json_t *j = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:s, s:I}", "name", m->name, "keys",
	    (json_int_t)c->keys, "copied", (json_int_t)c->copied, "bytes", (json_int_t)c->copied_bytes, "equal", (json_int_t)c->equal,
	    "deleted", (json_int_t)c->deleted, "failed", (json_int_t)c->failed, "retried", (json_int_t)c->retried, "batches",
	    (json_int_t)c->batches, "running", (json_int_t)c->running, "feeding", backfill_active(m->backfill), "trouble",
	    *c->trouble ? c->trouble : m->trouble, "time", (json_int_t)clock_real_ms());
	char *text = json_dumps(j, JSON_COMPACT);

	cluster_heartbeat(m->env->cluster, text);
	free(text);
	json_decref(j);
}

static void
pass_done(void *arg, bool ok, const char *why)
{
	struct migrator *m = arg;

	if (ok) {
		log_info("backfill", m->census_only ? "census done" : "everything is queued");
		m->trouble[0] = '\0';
	} else {
		snprintf(m->trouble, sizeof(m->trouble), "feeder: %s", why);
		log_warn("backfill", "the pass stopped: %s; it goes on from the cursor", why);
		m->pause_until = clock_mono_ms() + PAUSE_MS;
	}
}

/* What the site wants of its feeder now. */
enum want { WANT_NOTHING, WANT_FEED, WANT_CENSUS, WANT_COMPLETE };

static enum want
wanted(const struct run *r)
{
	int low = r->phase_low, high = r->phase_high;

	if (low < 0 || !phase_row((enum phase)low)->mirror)
		return WANT_NOTHING;	/* a proxy that mirrors nothing: what is copied now may be stale at once */
	if (r->state == RUN_FEEDING && phase_row((enum phase)low)->backfill && phase_row((enum phase)high)->backfill)
		return WANT_FEED;
	if (r->state == RUN_FED)
		return WANT_COMPLETE;
	if (r->census_due_ms > r->census_done_ms && r->state != RUN_FEEDING)
		return WANT_CENSUS;
	return WANT_NOTHING;
}

/* May the pass that runs go on? One that feeds ends with a census: by then the run is fed, or complete already. */
static bool
may_go_on(const struct migrator *m, const struct run *r, enum want want)
{
	if (m->census_only)
		return want == WANT_CENSUS || want == WANT_COMPLETE;
	if (r->id != m->run_id || r->phase_low < 0 || !phase_row((enum phase)r->phase_low)->mirror)
		return false;
	return want == WANT_FEED || r->state == RUN_FED || r->state == RUN_COMPLETE;
}

static void
completed_cb(void *arg, enum err e)
{
	struct migrator *m = arg;

	m->asking = false;
	if (e == ERR_OK)
		log_info("backfill", "complete: nothing is left in the queue");
}

static void
lock_cb(void *arg, bool ours)
{
	struct migrator *m = arg;

	m->asking = false;
	if (m->ours && !ours && backfill_active(m->backfill)) {
		log_warn("backfill", "another migrator feeds now");
		backfill_stop(m->backfill);
	}
	m->ours = ours;
}

static void
run_cb(void *arg, enum err e, const struct run *r)
{
	struct migrator *m = arg;
	enum want want = e == ERR_OK && !m->stopping ? wanted(r) : WANT_NOTHING;
	bool feeding;

	m->asking = false;
	if (e != ERR_OK)
		return;
	if (backfill_active(m->backfill) && !may_go_on(m, r, want)) {
		log_info("backfill", "feeding stops: %s", run_state_name(r->state));
		backfill_stop(m->backfill);
	}
	if (want == WANT_COMPLETE) {
		m->asking = true;
		run_complete(m->env->cluster, r->id, completed_cb, m);
		return;
	}
	if (m->ours && want != WANT_NOTHING && !backfill_active(m->backfill) && clock_mono_ms() >= m->pause_until) {
		m->run_id = r->id;
		m->census_only = want == WANT_CENSUS;
		if (backfill_start(m->backfill, r, m->census_only, pass_done, m))
			log_info("backfill", m->census_only ? "taking a census" : "feeding");
	}
	feeding = want != WANT_NOTHING || backfill_active(m->backfill);
	if (feeding || m->ours) {
		m->asking = true;
		run_feeder(m->env->cluster, feeding ? FEEDER_MS : 0, lock_cb, m);
	}
}

static void
tick_cb(void *arg)
{
	struct migrator *m = arg;

	loop_timer_set(&m->tick, TICK_MS);
	heartbeat(m);
	worker_flush(m->worker);
	if (!cluster_up(m->env->cluster) || m->asking)
		return;
	m->asking = true;
	run_get(m->env->cluster, run_cb, m);
}

struct migrator *
migrator_new(const struct reconcile_env *env, const char *name)
{
	struct migrator *m = mem_zalloc(sizeof(*m));

	m->env = env;
	m->name = mem_strdup(name);
	m->worker = worker_new(env, name);
	m->backfill = backfill_new(env);
	loop_timer_init(&m->tick, env->loop, tick_cb, m);
	loop_timer_set(&m->tick, 0);
	return m;
}

void
migrator_up(struct migrator *m)
{
	m->asking = false;
	loop_timer_set(&m->tick, 0);
}

void
migrator_down(struct migrator *m)
{
	m->ours = false;
	backfill_stop(m->backfill);
}

static void
left_cb(void *arg, enum err e)
{
	struct migrator *m = arg;

	(void)e;
	m->stopped(m->stopped_arg);
}

static void
worker_stopped_cb(void *arg)
{
	struct migrator *m = arg;

	cluster_leave(m->env->cluster, left_cb, m);
}

static void
unlocked_cb(void *arg, bool ours)
{
	(void)arg;
	(void)ours;
}

void
migrator_stop(struct migrator *m, void (*stopped)(void *arg), void *arg)
{
	m->stopping = true;
	m->stopped = stopped;
	m->stopped_arg = arg;
	loop_timer_cancel(&m->tick);
	backfill_stop(m->backfill);
	if (m->ours)
		run_feeder(m->env->cluster, 0, unlocked_cb, NULL);
	worker_stop(m->worker, worker_stopped_cb, m);
}

void
migrator_free(struct migrator **mp)
{
	struct migrator *m = *mp;

	if (m == NULL)
		return;
	*mp = NULL;
	loop_timer_fini(&m->tick);
	backfill_free(&m->backfill);
	worker_free(&m->worker);
	mem_free(m->name);
	mem_free(m);
}
