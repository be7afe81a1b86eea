/* status: how the site is doing, from Redis and from this machine's proxy. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "cli/admin_client.h"
#include "cli/out.h"
#include "cli/session.h"
#include "coord/marks.h"
#include "coord/phase.h"
#include "coord/queue.h"
#include "coord/run.h"

const char *const cmd_status_help[] = {
	"  --watch    print it again every second, until interrupted",
	"  --json     as one JSON object (with --watch: one a line)",
	"",
	"Shows the phase, keys whose sides may differ (marks), the queue, the backfill,",
	"every proxy and migrator that has been heard, dead letters, and whatever is",
	"degraded.",
	NULL,
};

#define WATCH_MS 1000
/* A process that has not been heard for so long is called silent. */
#define SILENT_MS 5000
#define DEAD_SHOWN 10

/* Gathered, then printed in one form or the other. */
struct status {
	struct session s;
	json_t *j;
	bool step_done;
	enum err e;
};

static json_t *
array_of(char **texts, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n; i++) {
		json_t *o = json_loads(texts[i], 0, NULL);

		if (o != NULL)
			json_array_append_new(a, o);
	}
	return a;
}

static void
degraded(struct status *st, const char *text)
{
	json_array_append_new(json_object_get(st->j, "degraded"), json_string(text));
}

static void
run_cb(void *arg, enum err e, const struct run *r)
{
	struct status *st = arg;
	bool running = r->state == RUN_FEEDING || r->state == RUN_FED;
	json_t *verify = e == ERR_OK && r->verify != NULL ? json_loads(r->verify, 0, NULL) : NULL;

	st->step_done = true;
	st->e = e;
	if (e != ERR_OK)
		return;
	json_object_set_new(st->j, "backfill",
	    json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:I}", "state",
	    running ? "running" : run_state_name(r->state), "step", run_state_name(r->state), "started", (json_int_t)r->started_ms, "finished",
	    (json_int_t)r->finished_ms, "files", (json_int_t)r->files, "bytes", (json_int_t)r->bytes, "queued", (json_int_t)r->queued, "done",
	    (json_int_t)(r->copied + r->equal), "copied", (json_int_t)r->copied, "copied_bytes", (json_int_t)r->copied_bytes, "equal",
	    (json_int_t)r->equal, "deleted", (json_int_t)r->deleted, "failed", (json_int_t)r->failed, "feeder", r->feeder, "unholdable",
	    (json_int_t)r->unholdable, "walk_errors", (json_int_t)r->walk_errors));
	json_object_set_new(st->j, "census", json_pack("{s:b, s:I, s:I, s:I, s:I}", "due", r->census_due_ms > r->census_done_ms, "done_ms",
	    (json_int_t)r->census_done_ms, "due_ms", (json_int_t)r->census_due_ms, "found", (json_int_t)r->census_found, "marked",
	    (json_int_t)r->census_marked));
	json_object_set_new(st->j, "last_fallback_ms", json_integer((json_int_t)r->last_fallback_ms));
	json_object_set_new(st->j, "armed", json_boolean(r->armed_ms != 0));
	json_object_set_new(st->j, "committed", json_boolean(r->committed_ms != 0));
	json_object_set_new(st->j, "verify", verify != NULL ? verify : json_null());
	json_object_set_new(st->j, "proxies", array_of(r->member_json, r->nmember_json));
	json_object_set_new(st->j, "migrators", array_of(r->worker_json, r->nworkers));
}

static void
depth_cb(void *arg, enum err e, const struct queue_depth *d)
{
	struct status *st = arg;

	st->step_done = true;
	st->e = e;
	if (e != ERR_OK)
		return;
	json_object_set_new(st->j, "queue", json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "live", (json_int_t)d->live, "live_pending",
	    (json_int_t)d->live_pending, "backfill", (json_int_t)d->backfill, "backfill_pending", (json_int_t)d->backfill_pending, "dead",
	    (json_int_t)d->dead, "due", (json_int_t)d->due));
}

static void
marks_cb(void *arg, enum err e, uint64_t n, uint64_t oldest_ms, uint64_t owed)
{
	struct status *st = arg;

	st->step_done = true;
	st->e = e;
	if (e != ERR_OK)
		return;
	json_object_set_new(st->j, "marks", json_integer((json_int_t)n));
	json_object_set_new(st->j, "owed_to_disk", json_integer((json_int_t)owed));
	json_object_set_new(st->j, "oldest_mark_ms", json_integer((json_int_t)oldest_ms));
}

static void
dead_cb(void *arg, const char *key, size_t klen, const char *json)
{
	struct status *st = arg;
	json_t *o = json_loads(json, 0, NULL), *dead = json_object_get(st->j, "dead_letters");
	struct str safe = STR_INIT;

	if (json_array_size(dead) >= DEAD_SHOWN) {
		json_decref(o);
		return;
	}
	str_add_safe(&safe, key, klen);
	if (!json_is_object(o)) {
		json_decref(o);
		o = json_object();
	}
	json_object_set_new(o, "key", json_string(str_z(&safe)));
	json_array_append_new(dead, o);
	str_fini(&safe);
}

static void
dead_done_cb(void *arg, enum err e)
{
	struct status *st = arg;

	st->step_done = true;
	st->e = e;
}

static bool
step(struct status *st)
{
	bool ok = session_wait(&st->s, &st->step_done, st->s.conf->redis_timeout * 2) && st->e == ERR_OK;

	st->step_done = false;
	return ok;
}

/* What Redis knows. false: it does not answer. */
static bool
ask_redis(struct status *st)
{
	struct cluster *c = st->s.env.cluster;

	run_get(c, run_cb, st);
	if (!step(st))
		return false;
	queue_depth(c, depth_cb, st);
	if (!step(st))
		return false;
	marks_count(c, marks_cb, st);
	if (!step(st))
		return false;
	queue_dead(c, dead_cb, dead_done_cb, st);
	return step(st);
}

/* What this machine's proxy says of itself. */
static void
ask_proxy(struct status *st)
{
	struct str body = STR_INIT, text = STR_INIT;
	struct errbuf eb;
	json_t *own, *list, *v;
	int http = 0;
	size_t i;

	if (admin_client(st->s.conf, "GET", "/status", &http, &body, &eb) != ERR_OK || http != 200) {
		str_printf(&text, "proxy: %s", http == 0 ? eb.text : "its admin listener refuses");
		degraded(st, str_z(&text));
		str_fini(&text);
	} else if ((own = json_loads(str_z(&body), 0, NULL)) != NULL) {
		list = json_object_get(own, "degraded");
		json_array_foreach(list, i, v)
			degraded(st, json_string_value(v));
		json_object_set(st->j, "phase", json_object_get(own, "phase"));
		if (json_object_get(st->j, "marks") == NULL)
			json_object_set(st->j, "marks", json_object_get(own, "marks"));
		json_object_set_new(st->j, "proxy", own);
	}
	str_fini(&body);
}

static void
gather(struct status *st)
{
	const struct conf *c = st->s.conf;
	struct str text = STR_INIT;

	json_decref(st->j);
	st->j = json_pack("{s:s, s:s, s:I, s:[], s:[]}", "site", c->site, "phase", phase_row((enum phase)c->phase)->name, "time",
	    (json_int_t)clock_real_ms(), "degraded", "dead_letters");
	if (!cluster_up(st->s.env.cluster) || !ask_redis(st)) {
		str_printf(&text, "redis: %s: %s", c->redis_address, cluster_up(st->s.env.cluster) ? "does not answer" : cluster_why(st->s.env.cluster));
		degraded(st, str_z(&text));
	}
	json_object_set_new(st->j, "epoch", json_integer((json_int_t)cluster_epoch(st->s.env.cluster)));
	ask_proxy(st);
	/* The same shape, whatever could be asked. */
	if (json_object_get(st->j, "queue") == NULL)
		json_object_set_new(st->j, "queue", json_pack("{s:n, s:n, s:n}", "live", "backfill", "dead"));
	if (json_object_get(st->j, "backfill") == NULL)
		json_object_set_new(st->j, "backfill", json_pack("{s:s}", "state", "unknown"));
	str_fini(&text);
}

/* For people. */

static uint64_t
num(const json_t *o, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(o, name));
}

static const char *
word(const json_t *o, const char *name)
{
	const char *z = json_string_value(json_object_get(o, name));

	return z != NULL ? z : "";
}

static void
print_backfill(const json_t *j)
{
	const json_t *b = json_object_get(j, "backfill"), *q = json_object_get(j, "queue");
	char a[40], c[40], d[40];
	uint64_t queued = num(b, "queued"), done = num(b, "done");

	if (*word(b, "step") == '\0') {
		printf("backfill   not known without Redis\n");
		return;
	}
	printf("backfill   %s", word(b, "step"));
	if (queued != 0)
		printf(": %s of %s keys done, %s copied", out_count(a, done > queued ? queued : done), out_count(c, queued),
		    out_size(d, num(b, "copied_bytes")));
	printf("\n");
	printf("queue      %s live, %s batches, %s dead letters\n", out_count(a, num(q, "live")), out_count(c, num(q, "backfill")),
	    out_count(d, num(q, "dead")));
}

static void
print_processes(const json_t *j, const char *list, const char *title, bool migrators)
{
	uint64_t now = clock_real_ms();
	size_t i;
	json_t *p;
	char a[40], b[40];

	json_array_foreach(json_object_get(j, list), i, p) {
		uint64_t age = now - num(p, "time");

		printf("%-10s ", i == 0 ? title : "");
		if (migrators)
			printf("%s: %s keys, %s%s%s%s", word(p, "name"), out_count(a, num(p, "keys")), out_size(b, num(p, "bytes")),
			    json_is_true(json_object_get(p, "feeding")) ? ", feeding" : "", *word(p, "trouble") ? ", " : "", word(p, "trouble"));
		else
			printf("%s: %s", *word(p, "id") ? word(p, "id") : word(p, "admin"), word(p, "phase"));
		if (num(p, "time") != 0 && age > SILENT_MS)
			printf(", silent for %s", out_duration(a, age));
		printf("\n");
	}
}

/* This machine's proxy tells; one server alone is no news. */
static void
print_upstreams(const json_t *j)
{
	const json_t *list = json_object_get(json_object_get(j, "proxy"), "upstreams");
	size_t i;
	json_t *o;

	if (json_array_size(list) < 2)
		return;
	json_array_foreach(list, i, o)
		printf("%-10s %s: %s, %llu requests in work\n", i == 0 ? "upstreams" : "", word(o, "address"),
		    json_is_true(json_object_get(o, "up")) ? "up" : "down", (unsigned long long)num(o, "busy"));
}

static void
print_text(const json_t *j)
{
	const json_t *v = json_object_get(j, "verify");
	size_t i;
	json_t *o;
	char a[40], b[40];

	printf("site       %s\n", word(j, "site"));
	printf("phase      %s\n", word(j, "phase"));
	printf("marks      %s", out_count(a, num(j, "marks")));
	if (num(j, "oldest_mark_ms") != 0)
		printf(", the oldest %s", out_duration(b, num(j, "oldest_mark_ms")));
	if (num(j, "owed_to_disk") != 0)
		printf(", %s owed to the disk", out_count(a, num(j, "owed_to_disk")));
	printf("\n");
	if (json_is_true(json_object_get(j, "armed")))
		printf("armed      R2 may be written first, writes take leases\n");
	if (json_is_true(json_object_get(j, "committed")))
		printf("committed  every proxy was in r2-only: there is no way back\n");
	print_backfill(j);
	if (json_is_object(v))
		printf("verify     %s, %s, %s ago, %s files\n", json_is_true(json_object_get(v, "full")) ? "full" : "sample",
		    json_is_true(json_object_get(v, "clean")) ? "clean" : "NOT clean", out_duration(a, clock_real_ms() - num(v, "ended")),
		    out_count(b, num(v, "files")));
	print_processes(j, "proxies", "proxies", false);
	print_processes(j, "migrators", "migrators", true);
	print_upstreams(j);
	json_array_foreach(json_object_get(j, "dead_letters"), i, o)
		printf("%-10s %s: %s\n", i == 0 ? "dead" : "", word(o, "key"), word(o, "why"));
	json_array_foreach(json_object_get(j, "degraded"), i, o)
		printf("%-10s %s\n", i == 0 ? "DEGRADED" : "", json_string_value(o));
}

static void
print(struct status *st, bool json, bool watch)
{
	if (json) {
		json_dumpf(st->j, stdout, watch ? JSON_COMPACT : JSON_INDENT(2));
		printf("\n");
	} else {
		if (watch && isatty(STDOUT_FILENO))
			printf("\033[H\033[J");
		print_text(st->j);
		if (watch && !isatty(STDOUT_FILENO))
			printf("\n");
	}
	fflush(stdout);
}

enum cmd_exit
cmd_status(int argc, char **argv)
{
	bool json = false, watch = false, never = false;
	const char *path;
	const struct session_opt opts[] = {{"--json", NULL, &json}, {"--watch", NULL, &watch}};
	struct status st = {0};
	enum cmd_exit x;
	unsigned n;

	if (!session_args(argc, argv, &path, opts, 2, NULL, 0, &n))
		return CMD_USAGE;
	x = session_open(&st.s, path, SESSION_REDIS_MAYBE, "command");
	if (x != CMD_OK)
		return x;
	do {
		gather(&st);
		print(&st, json, watch);
	} while (watch && !ferror(stdout) && !session_wait(&st.s, &never, WATCH_MS));
	json_decref(st.j);
	session_close(&st.s);
	return CMD_OK;
}
