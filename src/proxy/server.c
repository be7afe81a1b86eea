#include "proxy/server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "proxy/accesslog.h"
#include "proxy/client.h"
#include "proxy/listen.h"
#include "proxy/status.h"
#include "store/mime.h"
#include "store/r2.h"

enum {
	POOL_THREADS = 4,
	OPENFILES_MOST = 1024,
	BREAKER_FAILURES = 5,
	BREAKER_OPEN_MS = 2000,
	TICK_MS = 1000,
	REDIS_FIRST_MS = 250,	/* at the start, for Redis's first answer */
	PROBE_TICKS = 10,	/* between probes of an R2 that failed */
	REGISTER_MS = 5000,
	LEAVE_MS = 2000,
	MIRROR_LEAST_MS = 1000	/* for the mirror's last work, however long the requests took */
};

static void server_probe(struct server *sv);

static bool
same(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* Would a store made from b be the same as one made from a? */
static bool
same_r2(const struct conf *a, const struct conf *b)
{
	return same(a->r2_endpoint, b->r2_endpoint) && same(a->r2_bucket, b->r2_bucket) && same(a->r2_region, b->r2_region) &&
	    same(a->r2_access_key, b->r2_access_key) && same(a->r2_secret, b->r2_secret) && same(a->r2_ca_file, b->r2_ca_file) &&
	    a->r2_allow_http == b->r2_allow_http && a->r2_multipart_threshold == b->r2_multipart_threshold &&
	    a->r2_part_size == b->r2_part_size && a->r2_connect_timeout == b->r2_connect_timeout &&
	    a->r2_request_limit == b->r2_request_limit && a->r2_connections == b->r2_connections;
}

/* A snapshot of c, whose R2 store is prev's if nothing of it changed. Takes c over. */
static enum err
snapshot_new(struct server *sv, struct conf *c, const struct snapshot *prev, struct snapshot **out, struct errbuf *eb)
{
	struct snapshot *s = mem_zalloc(sizeof *s);
	enum err e;

	list_init(&s->node);
	s->conf = c;
	s->phase = (enum phase)c->phase;
	e = forward_trust_new(&s->trust, c, eb);
	if (e != ERR_OK) {
		forward_trust_free(&s->trust);
		mem_free(s);
		return e;
	}
	s->owns_r2 = prev == NULL || !same_r2(prev->conf, c);
	s->r2 = s->owns_r2 ? r2_new(sv->loop, sv->pool, c) : prev->r2;
	s->env = (struct reconcile_env){ sv->loop, sv->pool, sv->cluster, s->r2, sv->local, c };
	*out = s;
	return ERR_OK;
}

static void
snapshot_use(struct server *sv, struct snapshot *s)
{
	list_add_tail(&sv->snapshots, &s->node);
	sv->snap = s;
	metrics_set(METRIC_PHASE, NULL, (int64_t)s->phase);
}

static void
snapshots_free(struct server *sv)
{
	struct list *it, *nxt;

	LIST_FOREACH(it, nxt, &sv->snapshots) {
		struct snapshot *s = LIST_ENTRY(it, struct snapshot, node);

		list_del(it);
		if (s->owns_r2)
			store_free(&s->r2);
		forward_trust_free(&s->trust);
		conf_unref(&s->conf);
		mem_free(s);
	}
}

/* Is the phase a neighbour of the one that runs, and may it be entered? */
static bool
phase_allowed(const struct server *sv, const struct conf *c, struct str *errors)
{
	enum phase now, next = (enum phase)c->phase;
	struct str why = STR_INIT;

	if (sv->snap == NULL)
		return true;
	now = sv->snap->phase;
	if (next > now + 1 || now > next + 1) {
		str_printf(errors, "%s: from %s to %s: only neighbours follow each other\n", c->phase_file, phase_row(now)->name,
		    phase_row(next)->name);
		return false;
	}
	if (next == now || arming_allows(&sv->arming, now, next, &why))
		return true;
	str_printf(errors, "%s: phase %s is refused: %s\n", c->phase_file, phase_row(next)->name, str_z(&why));
	str_fini(&why);
	return false;
}

static void
apply_log(const struct conf *c)
{
	log_setup((enum log_level)c->log_level, c->log_format == 1);
}

static void
warn(const struct conf *c)
{
	struct str text = STR_INIT;

	conf_warnings(c, &text);
	for (const char *p = str_z(&text); *p != '\0'; p += strcspn(p, "\n") + 1)
		log_warn("proxy", "%.*s", (int)strcspn(p, "\n"), p);
	str_fini(&text);
}

static void
heartbeat(struct server *sv)
{
	struct str beat = STR_INIT;

	status_heartbeat(sv, &beat);
	cluster_heartbeat(sv->cluster, str_z(&beat));
	str_fini(&beat);
}

bool
server_reload(struct server *sv, struct str *errors)
{
	struct snapshot *s, *old = sv->snap;
	struct tls_server *tls = NULL;
	struct upstream_tls upstream_side = { { NULL } };
	struct errbuf eb;
	struct conf *c = conf_load(old->conf->path, errors);
	const char *fixed = c == NULL ? NULL : conf_needs_restart(old->conf, c);
	bool ok = c != NULL && fixed == NULL && phase_allowed(sv, c, errors);

	if (fixed != NULL)
		str_printf(errors, "%s: %s cannot change without a restart\n", c->path, fixed);
	if (ok && (listen_tls(c, &tls, &eb) != ERR_OK || upstream_tls_new(&upstream_side, c, &eb) != ERR_OK ||
	    snapshot_new(sv, c, old, &s, &eb) != ERR_OK)) {
		str_printf(errors, "%s: %s\n", c->path, eb.text);
		ok = false;
	}
	metrics_add(METRIC_RELOADS, ok ? "ok" : "refused", 1);
	if (!ok) {
		log_error("proxy", "reload refused, the old configuration stays: %.*s", (int)strcspn(str_z(errors), "\n"), str_z(errors));
		tls_server_free(&tls);
		upstream_tls_free(&upstream_side);
		conf_unref(&c);
		return false;
	}
	snapshot_use(sv, s);
	apply_log(c);
	listen_use(sv->http, c, &tls);
	warn(c);
	upstream_set_conf(sv->upstream, c, &upstream_side);
	if (s->owns_r2)
		breaker_init(&sv->r2_breaker, BREAKER_FAILURES, BREAKER_OPEN_MS);
	arming_set_phase(&sv->arming, s->phase);
	writer_reload(sv->writer, &s->env, (int)s->phase);
	server_probe(sv);
	heartbeat(sv);
	cluster_beat_now(sv->cluster);
	log_info("proxy", "reloaded: phase %s%s%s", phase_row(s->phase)->name, s->phase == old->phase ? "" : ", was ",
	    s->phase == old->phase ? "" : phase_row(old->phase)->name);
	return true;
}

static void
on_hup(void *arg)
{
	struct server *sv = arg;
	struct str errors = STR_INIT;

	if (sv->accesslog != NULL)
		accesslog_reopen(sv->accesslog);
	if (!sv->draining)
		(void)server_reload(sv, &errors);
	str_fini(&errors);
}

static void
on_usr1(void *arg)
{
	struct server *sv = arg;

	if (sv->accesslog != NULL)
		accesslog_reopen(sv->accesslog);
}

/* The end: requests drain, then the mirror, then the membership is given back; each bounded in time. */
static void
on_left(void *arg, enum err e)
{
	struct server *sv = arg;

	(void)e;
	loop_stop(sv->loop);
}

static void
on_mirrored(void *arg)
{
	struct server *sv = arg;

	if (!cluster_up(sv->cluster)) {
		log_warn("proxy", "without Redis we stay a member: what the journal alone knows waits until a proxy is started on this state-dir");
		loop_stop(sv->loop);
		return;
	}
	/* Should Redis be lost while we are away, leases must wait for what our journal knows. */
	if (!arming_may_leave(&sv->arming)) {
		log_warn("proxy", "the site is armed and not all of our marks are cleared: we stay a member (r2shim cluster show)");
		loop_stop(sv->loop);
		return;
	}
	roster_leave(sv->arming.roster);
	loop_timer_set(&sv->drain_timer, LEAVE_MS);
	cluster_leave(sv->cluster, on_left, sv);
}

static void
on_requests_drained(void *arg)
{
	struct server *sv = arg;
	uint64_t now = clock_mono_ms(), ms = 0;

	if (sv->leaving)
		return;
	sv->leaving = true;
	loop_timer_cancel(&sv->drain_timer);
	if (http_server_conns(sv->http) > 0)
		log_warn("proxy", "drain-timeout: %u connections are cut", http_server_conns(sv->http));
	http_server_free(&sv->http);
	/* Marks are durable. To wait for them helps only where they can be mirrored now. */
	if (cluster_up(sv->cluster) && sv->r2_err == ERR_OK)
		ms = sv->drain_until > now + MIRROR_LEAST_MS ? sv->drain_until - now : MIRROR_LEAST_MS;
	writer_drain(sv->writer, ms, on_mirrored, sv);
}

static void
on_drain_timer(void *arg)
{
	struct server *sv = arg;

	if (sv->leaving)
		loop_stop(sv->loop);
	else
		on_requests_drained(sv);
}

void
server_conn_closed(struct server *sv)
{
	if (sv->draining && !sv->leaving)
		loop_call_soon(&sv->drained);
}

static void
on_maybe_drained(void *arg)
{
	struct server *sv = arg;

	if (!sv->leaving && http_server_conns(sv->http) == 0)
		on_requests_drained(sv);
}

/* Another process goes on with our listening sockets: no client may be left with a request that nobody reads. An idle connection gets
 * time to send its next one, and is told with the answer that it was the last; later the client finds it closed as by idle-timeout. */
static uint64_t
idle_grace(const struct server *sv)
{
	uint64_t idle = sv->snap->conf->idle_timeout, half = sv->snap->conf->drain_timeout / 2;

	if (!sv->inherited)
		return 0;
	return idle < half ? idle : half;
}

static void
on_term(void *arg)
{
	struct server *sv = arg;

	if (sv->draining) {
		loop_stop(sv->loop);
		return;
	}
	log_info("proxy", "stopping: %u connections", http_server_conns(sv->http));
	sv->draining = true;
	sv->drain_until = clock_mono_ms() + sv->snap->conf->drain_timeout;
	loop_timer_set(&sv->drain_timer, sv->snap->conf->drain_timeout);
	http_server_drain(sv->http, idle_grace(sv));
	loop_call_soon(&sv->drained);
}

static void
on_probed(void *arg, enum err e, const char *why)
{
	struct server *sv = arg;

	sv->probe = NULL;
	if (e != sv->r2_err) {
		if (e == ERR_OK)
			log_info("r2", "%s: usable", sv->snap->conf->r2_bucket);
		else
			log_warn("r2", "%s: %s; the disk serves and writes wait as marks", sv->snap->conf->r2_bucket, why);
	}
	sv->r2_err = e;
	snprintf(sv->r2_why, sizeof sv->r2_why, "%s", e == ERR_OK || why == NULL ? "" : why);
}

static void
server_probe(struct server *sv)
{
	if (sv->probe != NULL)
		store_cancel(sv->probed, &sv->probe);
	sv->probed = sv->snap->r2;
	sv->probe = store_probe(sv->probed, on_probed, sv);
}

static void
on_tick(void *arg)
{
	struct server *sv = arg;

	heartbeat(sv);
	if (sv->r2_err != ERR_OK && sv->probe == NULL && ++sv->ticks % PROBE_TICKS == 0)
		server_probe(sv);
	loop_timer_set(&sv->tick, TICK_MS);
}

static void
on_cluster_up(void *arg, bool fresh)
{
	struct server *sv = arg;

	sv->redis_settled = true;
	log_info("redis", "connected, epoch %llu%s", (unsigned long long)cluster_epoch(sv->cluster), fresh ? " (new)" : "");
	if (sv->writer != NULL) {
		arming_up(&sv->arming);
		writer_up(sv->writer, fresh);
	}
}

static void
on_cluster_heard(void *arg)
{
	struct server *sv = arg;

	/* Others may wait for what we acknowledge. */
	if (sv->writer != NULL && arming_heard(&sv->arming)) {
		heartbeat(sv);
		cluster_beat_now(sv->cluster);
	}
}

static void
on_cluster_down(void *arg)
{
	struct server *sv = arg;

	log_warn("redis", "%s; writes go on with the journal alone", cluster_why(sv->cluster));
	if (sv->writer != NULL) {
		arming_down(&sv->arming);
		writer_down(sv->writer);
	}
}

static void
on_cluster_unsafe(void *arg, const char *why)
{
	struct server *sv = arg;

	(void)why;
	sv->redis_unsafe = sv->redis_settled = true;
}

static void
on_admin_status(void *arg, struct str *json)
{
	status_json(arg, json);
}

static bool
on_admin_ready(void *arg, struct str *why)
{
	return status_ready(arg, why);
}

static bool
on_admin_reload(void *arg, struct str *errors)
{
	return server_reload(arg, errors);
}

/* Refuses to start: one line, and the exit code. */
static enum server_exit
refuse(enum server_exit code, const struct conf *c, const char *text)
{
	fprintf(stderr, "r2shim proxy: %s: %s\n", c->path, text);
	return code;
}

/* A small share of the descriptors: most are for connections. */
static size_t
openfiles_max(void)
{
	struct rlimit limit;
	size_t n = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY ? limit.rlim_cur / 32 : OPENFILES_MOST;

	return n == 0 ? 1 : n > OPENFILES_MOST ? OPENFILES_MOST : n;
}

static enum server_exit
start_sides(struct server *sv, struct conf *c)
{
	static const struct cluster_cb cluster_cb = { on_cluster_up, on_cluster_down, on_cluster_heard, on_cluster_unsafe };
	struct snapshot *s;
	struct errbuf eb = { "" };
	char id[MEMBER_ID_MAX];
	enum err e;

	if (local_open(&sv->local, c->media_root, c->site, &eb) != ERR_OK)
		return refuse(SERVER_CONFIG, c, eb.text);
	sv->openfiles = openfiles_new(sv->loop, sv->local, openfiles_max());
	e = upstream_new(&sv->upstream, sv->loop, c, &eb);
	if (e != ERR_OK)
		return refuse(e == ERR_CONNECT ? SERVER_UNREACHABLE : SERVER_CONFIG, c, eb.text);
	member_id(c->state_dir, id);
	sv->cluster = cluster_new(sv->loop, c, "proxy", id, &cluster_cb, sv);
	if (arming_open(&sv->arming, sv->cluster, c->state_dir, &eb) != ERR_OK)
		return refuse(SERVER_CONFIG, c, eb.text);
	if (!arming_may_start(&sv->arming, (enum phase)c->phase, &eb))
		return refuse(SERVER_CONFIG, c, eb.text);
	if (snapshot_new(sv, conf_ref(c), NULL, &s, &eb) != ERR_OK) {
		conf_unref(&c);
		return refuse(SERVER_CONFIG, c, eb.text);
	}
	snapshot_use(sv, s);
	breaker_init(&sv->r2_breaker, BREAKER_FAILURES, BREAKER_OPEN_MS);
	e = writer_new(&sv->writer, &s->env, (int)s->phase, &eb);
	if (e != ERR_OK)
		return refuse(e == ERR_STATE ? SERVER_FAILED : SERVER_CONFIG, c, eb.text);
	sv->arming.writer = sv->writer;
	arming_set_phase(&sv->arming, s->phase);
	server_probe(sv);
	heartbeat(sv);
	/* A Redis that is away is waited for while we serve. One that would lose marks is no start at all. */
	(void)loop_run_until(sv->loop, &sv->redis_settled, REDIS_FIRST_MS);
	if (sv->redis_unsafe)
		return refuse(SERVER_REFUSED, c, cluster_why(sv->cluster));
	/* Who is no member may not have been asked whether the site be armed. */
	if (s->phase < PHASE_VALIDATE || roster_registered(sv->arming.roster) || loop_run_until(sv->loop, &sv->arming.heard, REGISTER_MS))
		return SERVER_OK;
	return refuse(SERVER_UNREACHABLE, c, "in validate and above a proxy that is no member of its site (it is new, or had left) starts only "
	    "with Redis");
}

static enum server_exit
start_listeners(struct server *sv, const struct conf *c, struct str *ready)
{
	static const struct admin_cb admin_cb = { on_admin_ready, on_admin_status, on_admin_reload };
	struct http_server_opts opts;
	struct tls_server *tls;
	struct errbuf eb = { "" };
	enum err e;

	if (c->access_log != NULL && accesslog_open(&sv->accesslog, sv->loop, c->access_log, &eb) != ERR_OK)
		return refuse(SERVER_CONFIG, c, eb.text);
	if (listen_tls(c, &tls, &eb) != ERR_OK)
		return refuse(SERVER_CONFIG, c, eb.text);
	client_opts(c, &opts);
	sv->http = http_server_new(sv->loop, &opts, &client_callbacks, sv);
	listen_use(sv->http, c, &tls);
	e = listen_start(sv->http, c, &sv->inherited, ready, &eb);
	if (e != ERR_OK)
		return refuse(e == ERR_INVAL ? SERVER_CONFIG : SERVER_FAILED, c, eb.text);
	if (admin_new(&sv->admin, sv->loop, c, &admin_cb, sv, &eb) != ERR_OK)
		return refuse(SERVER_FAILED, c, eb.text);
	return SERVER_OK;
}

static void
stop(struct server *sv)
{
	admin_free(&sv->admin);
	http_server_free(&sv->http);
	loop_timer_fini(&sv->tick);
	loop_timer_fini(&sv->drain_timer);
	loop_call_cancel(&sv->drained);
	if (sv->probe != NULL)
		store_cancel(sv->probed, &sv->probe);
	upstream_free(&sv->upstream);
	if (sv->writer != NULL)
		writer_free(&sv->writer);
	arming_close(&sv->arming);
	cluster_free(&sv->cluster);
	snapshots_free(sv);
	accesslog_close(&sv->accesslog);
	pool_free(&sv->pool);
	openfiles_free(&sv->openfiles);
	local_free(&sv->local);
	mem_free(sv->small);
	loop_free(&sv->loop);
	mime_fini();
	mem_free(sv);
}

enum server_exit
server_run(struct conf *c)
{
	struct server *sv = mem_zalloc(sizeof *sv);
	struct str ready = STR_INIT, errors = STR_INIT;
	enum server_exit rc = SERVER_OK;

	apply_log(c);
	log_program("proxy");
	/* The process holds keys: no core, no debugger. */
	prctl(PR_SET_DUMPABLE, 0);
	mime_init(&c->types);
	sv->started_ms = clock_mono_ms();
	list_init(&sv->snapshots);
	sv->loop = loop_new();
	sv->pool = pool_new(sv->loop, POOL_THREADS);
	sv->small = mem_alloc(SERVER_SMALL);
	loop_timer_init(&sv->tick, sv->loop, on_tick, sv);
	loop_timer_init(&sv->drain_timer, sv->loop, on_drain_timer, sv);
	loop_call_init(&sv->drained, sv->loop, on_maybe_drained, sv);
	if (!phase_allowed(sv, c, &errors)) {
		fprintf(stderr, "r2shim proxy: %s", str_z(&errors));
		rc = SERVER_CONFIG;
	}
	if (rc == SERVER_OK)
		rc = start_sides(sv, c);
	if (rc == SERVER_OK)
		rc = start_listeners(sv, c, &ready);
	if (rc == SERVER_OK) {
		warn(c);
		loop_signal(sv->loop, SIGHUP, on_hup, sv);
		loop_signal(sv->loop, SIGUSR1, on_usr1, sv);
		loop_signal(sv->loop, SIGTERM, on_term, sv);
		loop_signal(sv->loop, SIGINT, on_term, sv);
		on_tick(sv);
		printf("r2shim proxy: ready on %s, admin %s\n", str_z(&ready), c->admin_listen);
		fflush(stdout);
		loop_run(sv->loop);
		log_info("proxy", "stopped");
	}
	stop(sv);
	conf_unref(&c);
	str_fini(&ready);
	str_fini(&errors);
	return rc;
}
