#include "migrate/gate.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/keypath.h"
#include "base/mem.h"
#include "base/str.h"
#include "coord/queue.h"
#include "coord/run.h"
#include "migrate/verify.h"
#include "store/local_swap.h"

/* The mirror keeps up if no mark gets older than this. */
#define MARK_AGE_MS 10000

/* What the gates look at, gathered first; the gates themselves are pure. */
struct facts {
	const struct conf *conf;
	struct local *local;
	enum phase to;
	const struct run *run;
	uint64_t now_ms;
	uint64_t marks, oldest_ms, owed;
	uint64_t waited_ms;		/* since the gates were asked */
	struct queue_depth depth;
	bool verified;
	struct verify_report verify;
	char preflight[256];		/* "": all is well */
};

/* What is true a moment later is waited for: a proxy's heartbeat says its phase a second after it has moved; marks are cleared. */
#define PATIENCE_MS 3000
#define AGAIN_MS 200

typedef bool gate_fn(const struct facts *f, char *text, size_t n);

static bool
preflight(const struct facts *f, char *text, size_t n)
{
	snprintf(text, n, "%s", *f->preflight ? f->preflight : "R2, Redis, disk and clock are fit");
	return *f->preflight == '\0';
}

/* The members that are not fit, by name: what, "a, b". */
static bool
each_member(const struct facts *f, bool (*fit)(const struct facts *f, const struct member *m), const char *what, char *text, size_t n)
{
	const struct members *m = &f->run->members;
	size_t bad = 0, at = 0;

	for (size_t i = 0; i < m->n; i++) {
		if (fit(f, &m->v[i]))
			continue;
		if (at < n)
			at += (size_t)snprintf(text + at, n - at, "%s%s", bad == 0 ? what : ", ", m->v[i].id);
		bad++;
	}
	if (bad == 0)
		snprintf(text, n, "%zu", m->n);
	return bad == 0;
}

/* Only neighbours are safe together: a proxy that lags two phases behind does not mirror what the others read from R2. */
static bool
follows(const struct facts *f, const struct member *m)
{
	return m->phase >= (int)f->to - 1;
}

static bool
members_follow(const struct facts *f)
{
	return f->run->members.n == 0 || f->run->phase_low >= (int)f->to - 1;
}

static bool
members(const struct facts *f, char *text, size_t n)
{
	char what[64];

	snprintf(what, sizeof(what), "not in %s yet: ", phase_row((enum phase)((int)f->to - 1))->name);
	return each_member(f, follows, what, text, n);
}

static bool
acknowledged(const struct facts *f, const struct member *m)
{
	return m->armed_ms == f->run->armed_ms;
}

static bool
armed(const struct facts *f, char *text, size_t n)
{
	if (f->run->armed_ms != 0)
		return each_member(f, acknowledged, "not acknowledged by: ", text, n);
	snprintf(text, n, "not asked yet: phase set r2-primary asks each proxy, and waits for it");
	return false;
}

static bool
marks_drain(const struct facts *f, char *text, size_t n)
{
	snprintf(text, n, "%llu marks, the oldest %.1f s", (unsigned long long)f->marks, (double)f->oldest_ms / 1000);
	return f->oldest_ms <= MARK_AGE_MS;
}

/* Were all that stood when the gates were asked cleared since? Under load there always is a young one. */
static bool
marks_cleared(const struct facts *f)
{
	return f->marks == 0 || f->oldest_ms < f->waited_ms;
}

static bool
marks_none(const struct facts *f, char *text, size_t n)
{
	bool ok = marks_cleared(f);

	snprintf(text, n, "%llu marks, %llu of them owed to the disk, the oldest %.1f s%s", (unsigned long long)f->marks, (unsigned long long)f->owed,
	    (double)f->oldest_ms / 1000, ok ? "" : ": r2shim status says why they wait");
	return ok;
}

static bool
dead_letters(const struct facts *f, char *text, size_t n)
{
	snprintf(text, n, f->depth.dead == 0 ? "none" : "%llu keys were set aside: r2shim status names them",
	    (unsigned long long)f->depth.dead);
	return f->depth.dead == 0;
}

static bool
backfill(const struct facts *f, char *text, size_t n)
{
	const struct run *r = f->run;

	if (r->state != RUN_COMPLETE) {
		snprintf(text, n, "the backfill is %s%s", run_state_name(r->state), r->state == RUN_IDLE ? ": r2shim backfill start" : "");
		return false;
	}
	if (r->started_ms <= r->left_passthrough_ms) {
		snprintf(text, n, "it began before passthrough was left: run it again (r2shim backfill start)");
		return false;
	}
	if (r->walk_errors != 0) {
		snprintf(text, n, "%llu folders could not be read: see the migrator's log", (unsigned long long)r->walk_errors);
		return false;
	}
	snprintf(text, n, "complete: %llu files", (unsigned long long)r->files);
	return true;
}

static bool
census(const struct facts *f, char *text, size_t n)
{
	const struct run *r = f->run;

	if (r->census_done_ms < r->census_due_ms) {
		snprintf(text, n, "one is due: a migrator takes it in every phase from dual-write on; wait, or start one");
		return false;
	}
	if (r->census_found > r->census_marked) {
		snprintf(text, n, "%llu objects have no file, more than migrator.max-delete (%lld): look, raise it, run the backfill again",
		    (unsigned long long)r->census_found, (long long)f->conf->max_delete);
		return false;
	}
	snprintf(text, n, "done");
	return true;
}

static bool
verified(const struct facts *f, bool full, char *text, size_t n)
{
	const struct verify_report *v = &f->verify;
	uint64_t bad = v->n[VERIFY_MISSING] + v->n[VERIFY_DIFFERENT] + v->n[VERIFY_OWED] + v->n[VERIFY_R2_NEWER] + v->n[VERIFY_METADATA] +
	    v->n[VERIFY_UNREADABLE] + v->n[VERIFY_ERROR];

	if (!f->verified || (full && !v->full)) {
		snprintf(text, n, "there was none: r2shim verify --%s", full ? "full" : "full (or --sample N)");
		return false;
	}
	if (!v->clean) {
		snprintf(text, n, "the last one found %llu differences and %llu objects without a file", (unsigned long long)bad,
		    (unsigned long long)v->n[VERIFY_EXTRA]);
		return false;
	}
	if (v->started_ms <= f->run->left_passthrough_ms || v->started_ms <= f->run->finished_ms) {
		snprintf(text, n, "the last one is older than the backfill's end: run it again");
		return false;
	}
	if (f->now_ms - v->ended_ms > f->conf->gate_verify_age) {
		snprintf(text, n, "the last one is older than gate.verify-age: run it again");
		return false;
	}
	snprintf(text, n, "%s, clean, %llu files", v->full ? "full" : "sample", (unsigned long long)v->files);
	return true;
}

static bool
verify(const struct facts *f, char *text, size_t n)
{
	return verified(f, false, text, n);
}

static bool
full_verify(const struct facts *f, char *text, size_t n)
{
	return verified(f, true, text, n);
}

static bool
full_verify_since(const struct facts *f, char *text, size_t n)
{
	if (!verified(f, true, text, n))
		return false;
	if (f->verify.started_ms > f->run->armed_ms)
		return true;
	snprintf(text, n, "the last one is older than the first write to R2: run it again");
	return false;
}

static bool
canary(const struct facts *f, char *text, size_t n)
{
	snprintf(text, n, "canary is %lld", (long long)f->conf->canary);
	return f->conf->canary == 100;
}

static bool
no_fallback(const struct facts *f, char *text, size_t n)
{
	uint64_t quiet = f->now_ms - f->run->last_fallback_ms;

	if (f->run->last_fallback_ms != 0 && quiet < f->conf->gate_window) {
		snprintf(text, n, "the last fallback was %.0f s ago, gate.window is %.0f s", (double)quiet / 1000, (double)f->conf->gate_window / 1000);
		return false;
	}
	snprintf(text, n, "none within gate.window");
	return true;
}

static bool
no_disk_write(const struct facts *f, char *text, size_t n)
{
	uint64_t quiet = f->now_ms - f->run->last_disk_write_ms;

	if (f->run->last_disk_write_ms != 0 && quiet < f->conf->gate_window) {
		snprintf(text, n, "the last write straight to the disk was %.0f s ago, gate.window is %.0f s", (double)quiet / 1000,
		    (double)f->conf->gate_window / 1000);
		return false;
	}
	snprintf(text, n, "none within gate.window");
	return true;
}

/* check refuses r2-primary without it: here it is seen before. */
static bool
write_auth(const struct facts *f, char *text, size_t n)
{
	for (size_t i = 0; i < f->conf->nprefixes; i++) {
		const struct conf_prefix *p = &f->conf->prefixes[i];

		if (p->writes == CONF_WRITES_NONE || p->token != NULL || p->auth != NULL)
			continue;
		snprintf(text, n, "prefix \"%s\" takes writes from anybody: it needs a token-file or auth", p->url);
		return false;
	}
	snprintf(text, n, "every prefix that takes writes has a token or asks the application");
	return true;
}

/* What is written to R2 first has to be carried to the disk, under the site's feet. */
static bool
swap(const struct facts *f, char *text, size_t n)
{
	struct errbuf eb;

	if (local_swap_supported(f->local, &eb) != ERR_OK) {
		snprintf(text, n, "%.255s", eb.text);
		return false;
	}
	snprintf(text, n, "it has leases and exchanges names");
	return true;
}

static bool
names(const struct facts *f, char *text, size_t n)
{
	uint64_t bad = f->verified && f->verify.full ? f->verify.n[VERIFY_UNHOLDABLE] : f->run->unholdable;

	if (bad == 0)
		snprintf(text, n, "R2 can hold every name");
	else
		snprintf(text, n, "%llu names that R2 cannot hold (r2shim verify --full names them): rename them, or waive this", (unsigned long long)bad);
	return bad == 0;
}

static const struct {
	enum phase to;
	const char *name, *asks;
	gate_fn *fn;
} gates[] = {
#define GATE(phase, name, fn, asks) {PHASE_##phase, name, asks, fn},
#include "migrate/gate.def"
#undef GATE
};
#define NGATES (sizeof(gates) / sizeof(gates[0]))

/* Gathering, one thing after the other. */
struct gathering {
	const struct reconcile_env *env;
	enum phase to;
	gate_done *done;
	void *arg;
	struct facts f;
	struct gate_result results[NGATES];
	struct loop_timer again;
	uint64_t began_ms;
	/* preflight's object */
	char key[64], body[32];
	size_t got;
	bool got_equal;
	bool there;		/* the object was put, and is not deleted yet */
};

static void
evaluate(struct gathering *g, const char *trouble)
{
	size_t n = 0;
	bool all = true;

	g->f.now_ms = clock_real_ms();
	for (size_t i = 0; i < NGATES; i++) {
		struct gate_result *r = &g->results[n];

		if (gates[i].to != g->to)
			continue;
		r->name = gates[i].name;
		r->asks = gates[i].asks;
		if (trouble != NULL) {
			r->ok = false;
			snprintf(r->text, sizeof(r->text), "%s", trouble);
		} else {
			r->ok = gates[i].fn(&g->f, r->text, sizeof(r->text));
		}
		all = all && r->ok;
		n++;
	}
	g->done(g->arg, g->results, n, all);
	loop_timer_fini(&g->again);
	mem_free(g);
}

static void
run_cb(void *arg, enum err e, const struct run *r)
{
	struct gathering *g = arg;

	if (e != ERR_OK) {
		evaluate(g, "Redis did not answer");
		return;
	}
	g->f.run = r;
	if ((!members_follow(&g->f) || (g->to >= PHASE_R2_PRIMARY && !marks_cleared(&g->f))) && g->f.waited_ms < PATIENCE_MS) {
		loop_timer_set(&g->again, AGAIN_MS);
		return;
	}
	g->f.verified = r->verify != NULL && verify_report_parse(r->verify, &g->f.verify);
	evaluate(g, NULL);
}

static void
depth_cb(void *arg, enum err e, const struct queue_depth *d)
{
	struct gathering *g = arg;

	if (e != ERR_OK) {
		evaluate(g, "Redis did not answer");
		return;
	}
	g->f.depth = *d;
	run_get(g->env->cluster, run_cb, g);
}

static void
marks_cb(void *arg, enum err e, uint64_t n, uint64_t oldest_ms, uint64_t owed)
{
	struct gathering *g = arg;

	if (e != ERR_OK) {
		evaluate(g, "Redis did not answer");
		return;
	}
	g->f.waited_ms = clock_mono_ms() - g->began_ms;
	g->f.marks = n;
	g->f.owed = owed;
	g->f.oldest_ms = oldest_ms;
	queue_depth(g->env->cluster, depth_cb, g);
}

static void
again_cb(void *arg)
{
	struct gathering *g = arg;

	marks_count(g->env->cluster, marks_cb, g);
}

static void
preflight_end(struct gathering *g)
{
	again_cb(g);
}

/* The test object is gone, or cannot be deleted: what failed before is what is told. */
static void
cleaned_cb(void *arg, enum err e, const char *etag)
{
	(void)e;
	(void)etag;
	preflight_end(arg);
}

static bool
preflight_failed(struct gathering *g, enum err e, const char *what)
{
	if (e == ERR_OK)
		return false;
	snprintf(g->f.preflight, sizeof(g->f.preflight), "%s: %s", what, err_text(e));
	if (g->there) {
		g->there = false;
		(void)store_del(g->env->r2, g->key, strlen(g->key), g->env->conf->r2_request_limit, cleaned_cb, g);
	} else {
		preflight_end(g);
	}
	return true;
}

static void
redis_cb(void *arg, enum err e, const char *text)
{
	struct gathering *g = arg;
	struct errbuf eb;
	uint64_t bytes;

	if (e != ERR_OK || *text) {
		snprintf(g->f.preflight, sizeof(g->f.preflight), "Redis: %s", *text ? text : err_text(e));
	} else if (local_sentinel(g->env->local, &eb) != ERR_OK) {
		snprintf(g->f.preflight, sizeof(g->f.preflight), "%.255s", eb.text);
	} else if (local_free_space(g->env->local, &bytes) != ERR_OK || bytes < g->env->conf->min_free) {
		snprintf(g->f.preflight, sizeof(g->f.preflight), "the media root has less than media.min-free free");
	}
	preflight_end(g);
}

static void
deleted_cb(void *arg, enum err e, const char *etag)
{
	struct gathering *g = arg;

	(void)etag;
	g->there = false;
	if (!preflight_failed(g, e, "R2 does not take a delete"))
		cluster_preflight(g->env->cluster, redis_cb, g);
}

static void
headed_cb(void *arg, enum err e, const struct store_meta *m)
{
	struct gathering *g = arg;

	if (e == ERR_OK && m->size != strlen(g->body))
		e = ERR_PROTO;
	if (!preflight_failed(g, e, "R2 does not take a head"))
		(void)store_del(g->env->r2, g->key, strlen(g->key), g->env->conf->r2_request_limit, deleted_cb, g);
}

static void
meta_cb(void *arg, const struct store_meta *m, bool partial, uint64_t first, uint64_t n, uint64_t total)
{
	(void)arg;
	(void)m;
	(void)partial;
	(void)first;
	(void)n;
	(void)total;
}

static void
data_cb(void *arg, const void *p, size_t n)
{
	struct gathering *g = arg;

	g->got_equal = g->got_equal && g->got + n <= strlen(g->body) && memcmp(g->body + g->got, p, n) == 0;
	g->got += n;
}

static void
gotten_cb(void *arg, enum err e)
{
	struct gathering *g = arg;

	if (e == ERR_OK && (!g->got_equal || g->got != strlen(g->body)))
		e = ERR_BADDIGEST;
	if (!preflight_failed(g, e, "R2 does not give back what was put"))
		(void)store_head(g->env->r2, g->key, strlen(g->key), g->env->conf->r2_request_limit, headed_cb, g);
}

static void
put_cb(void *arg, enum err e, const char *etag)
{
	static const struct store_get_cb cb = {meta_cb, data_cb, gotten_cb};
	struct gathering *g = arg;
	struct store_get get = {.key = g->key, .klen = strlen(g->key), .first_byte_ms = g->env->conf->r2_request_limit,
	    .stall_ms = g->env->conf->r2_request_limit};

	(void)etag;
	g->there = e == ERR_OK;
	if (!preflight_failed(g, e, "R2 does not take a put"))
		(void)store_get(g->env->r2, &get, &cb, g);
}

static void
probed_cb(void *arg, enum err e, const char *why)
{
	struct gathering *g = arg;
	struct store_meta meta;
	struct store_put put = {.key = g->key, .klen = strlen(g->key), .fd = -1, .body = g->body, .size = strlen(g->body), .meta = &meta,
	    .limit_ms = g->env->conf->r2_request_limit};

	if (e != ERR_OK) {
		snprintf(g->f.preflight, sizeof(g->f.preflight), "R2: %s", *why ? why : err_text(e));
		preflight_end(g);
		return;
	}
	store_meta_init(&meta);
	meta.content_type = mem_strdup("text/plain");
	digest_md5(g->body, put.size, put.md5);
	digest_sha256(g->body, put.size, put.sha256);
	(void)store_put(g->env->r2, &put, put_cb, g);
	store_meta_fini(&meta);
}

void
gate_check(const struct reconcile_env *env, enum phase to, gate_done *done, void *arg)
{
	struct gathering *g = mem_zalloc(sizeof(*g));
	uint8_t rnd[8];
	struct str name = STR_INIT;

	g->env = env;
	g->to = to;
	g->done = done;
	g->arg = arg;
	g->f.conf = env->conf;
	g->f.local = env->local;
	g->f.to = to;
	g->began_ms = clock_mono_ms();
	loop_timer_init(&g->again, env->loop, again_cb, g);
	g->got_equal = true;
	if (to != PHASE_DUAL_WRITE) {
		preflight_end(g);
		return;
	}
	digest_random(rnd, sizeof(rnd));
	str_add_hex(&name, rnd, sizeof(rnd));
	snprintf(g->key, sizeof(g->key), KEYPATH_OURS_PREFIX "-preflight-%s", str_z(&name));
	snprintf(g->body, sizeof(g->body), "%s", str_z(&name));
	str_fini(&name);
	(void)store_probe(env->r2, probed_cb, g);
}
