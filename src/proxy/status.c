#include "proxy/status.h"

#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "proxy/server.h"

struct lines {
	json_t *list;
	struct str *text;
};

static void
add(struct lines *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void
add(struct lines *l, const char *fmt, ...)
{
	struct errbuf eb;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(eb.text, sizeof eb.text, fmt, ap);
	va_end(ap);
	if (l->list != NULL)
		json_array_append_new(l->list, json_string(eb.text));
	if (l->text != NULL) {
		if (l->text->len > 0)
			str_addz(l->text, ", ");
		str_addz(l->text, eb.text);
	}
}

/* What keeps the proxy from doing its work: reading a file, taking a write. */
static void
gather_needed(const struct server *sv, const struct writer_state *w, struct lines *l)
{
	struct errbuf eb = { "" };
	enum err e = writer_ready(sv->writer);

	if (local_sentinel(sv->local, &eb) != ERR_OK)
		add(l, "media root: %s", eb.text);
	if (w->journal != ERR_OK)
		add(l, "journal: %s", err_text(w->journal));
	if (w->watch_trouble == NULL && !w->watching && phase_row(sv->snap->phase)->mirror)
		add(l, "watcher: it could not start, no write is taken; fs.inotify.max_user_instances?");
	if (e == ERR_NOSPACE && w->journal == ERR_OK)
		add(l, "disk: less than media.min-free is free: no write is taken");
}

/* One alone gets every request, up or down: its failures are the client's to see. */
static void
gather_upstream(const struct upstream *up, struct lines *l)
{
	struct upstream_state s;
	unsigned i;

	for (i = 0; upstream_count(up) > 1 && i < upstream_count(up); i++) {
		upstream_state(up, i, &s);
		if (!s.up)
			add(l, "upstream: %s is down: %s", s.address, s.why);
	}
}

static json_t *
upstreams(const struct upstream *up, int *idle)
{
	json_t *list = json_array();
	struct upstream_state s;
	unsigned i;

	*idle = 0;
	for (i = 0; i < upstream_count(up); i++) {
		upstream_state(up, i, &s);
		*idle += (int)s.idle;
		json_array_append_new(list, json_pack("{s:s, s:b, s:s, s:i, s:i}", "address", s.address, "up", s.up, "why", s.why, "busy",
		    (int)s.busy, "idle", (int)s.idle));
	}
	return list;
}

/* Everything else that is not as it should be: the proxy serves all the same. */
static void
gather(const struct server *sv, const struct writer_state *w, struct lines *l)
{
	struct str ids = STR_INIT;

	if (!cluster_up(sv->cluster))
		add(l, "redis: %s", cluster_why(sv->cluster));
	if (sv->r2_err != ERR_OK)
		add(l, "r2: %s", sv->r2_why);
	else if (sv->r2_breaker.state != BREAKER_CLOSED)
		add(l, "r2: reads fail, the disk serves");
	if (w->mirror_trouble != NULL)
		add(l, "mirror: %s", w->mirror_trouble);
	if (w->watch_trouble != NULL)
		add(l, "watcher: %s", w->watch_trouble);
	gather_upstream(sv->upstream, l);
	if (arming_waits_for(&sv->arming, &ids))
		add(l, "members: no lease is given until these have announced their marks: %s (r2shim cluster show)", str_z(&ids));
	str_fini(&ids);
	gather_needed(sv, w, l);
}

bool
status_degraded(const struct server *sv, struct str *out)
{
	struct lines l = { NULL, out };
	struct writer_state w;
	size_t before = out->len;

	writer_state(sv->writer, &w);
	gather(sv, &w, &l);
	return out->len > before;
}

bool
status_ready(const struct server *sv, struct str *why)
{
	struct lines l = { NULL, why };
	struct writer_state w;
	size_t before = why->len;

	if (sv->draining) {
		str_addz(why, "draining");
		return false;
	}
	/* Passed through, nothing of ours is needed. */
	if (sv->snap->phase == PHASE_PASSTHROUGH)
		return true;
	writer_state(sv->writer, &w);
	gather_needed(sv, &w, &l);
	return why->len == before;
}

static json_t *
text_or_null(const char *z)
{
	return z == NULL ? json_null() : json_string(z);
}

static json_t *
common(const struct server *sv, const struct writer_state *w)
{
	struct lines l = { json_array(), NULL };

	gather(sv, w, &l);
	return json_pack("{s:s, s:s, s:i, s:I, s:I, s:i, s:s, s:o, s:I, s:I, s:I, s:I, s:b, s:b, s:b, s:I}", "version", PACKAGE_VERSION, "phase",
	    phase_row(sv->snap->phase)->name, "phase_number", (int)sv->snap->phase, "epoch", (json_int_t)cluster_epoch(sv->cluster), "time",
	    (json_int_t)clock_real_ms(), "pid", (int)getpid(), "admin", sv->snap->conf->admin_listen, "degraded", l.list, "marks",
	    (json_int_t)w->marks, "owed_to_disk", (json_int_t)writer_owed(sv->writer), "intents", (json_int_t)w->intents, "oldest_mark_ms", (json_int_t)w->oldest_ms, "watching", w->watching,
	    "crawling", w->crawling, "armed", sv->arming.acked_ms != 0, "armed_ms", (json_int_t)sv->arming.acked_ms);
}

static void
dump(json_t *j, struct str *out)
{
	char *text;

	ASSERT(j != NULL);
	text = json_dumps(j, JSON_COMPACT);
	ASSERT(text != NULL);
	str_addz(out, text);
	free(text);
	json_decref(j);
}

void
status_heartbeat(const struct server *sv, struct str *out)
{
	struct writer_state w;
	json_t *j;

	writer_state(sv->writer, &w);
	j = common(sv, &w);
	json_object_set_new(j, "id", json_string(cluster_id(sv->cluster)));
	dump(j, out);
}

/* Why a reload would not take the next phase, as far as it is for the proxy to say. */
static json_t *
next_refused(const struct server *sv)
{
	struct str why = STR_INIT;
	enum phase now = sv->snap->phase;
	json_t *j = json_null();

	if (now + 1 < PHASE_COUNT && !arming_allows(&sv->arming, now, now + 1, &why))
		j = json_string(str_z(&why));
	str_fini(&why);
	return j;
}

void
status_json(const struct server *sv, struct str *out)
{
	static const char *const breaker[] = { "closed", "open", "half-open" };
	struct str why = STR_INIT;
	bool ready = status_ready(sv, &why);
	struct writer_state w;
	json_t *j, *more, *servers;
	int idle;

	writer_state(sv->writer, &w);
	j = common(sv, &w);
	servers = upstreams(sv->upstream, &idle);
	more = json_pack("{s:s, s:s, s:b, s:b, s:I, s:i, s:i, s:i, s:o, s:o, s:I, s:I, s:I, s:o, s:b, s:s}", "id", cluster_id(sv->cluster),
	    "site", sv->snap->conf->site, "ready", ready, "draining", sv->draining, "uptime_ms", (json_int_t)(clock_mono_ms() - sv->started_ms),
	    "canary", (int)sv->snap->conf->canary, "connections", (int)http_server_conns(sv->http), "upstream_idle",
	    idle, "redis",
	    json_pack("{s:b, s:s}", "up", cluster_up(sv->cluster), "why", cluster_up(sv->cluster) ? "" : cluster_why(sv->cluster)), "r2",
	    json_pack("{s:b, s:s, s:s}", "up", sv->r2_err == ERR_OK, "why", sv->r2_why, "breaker", breaker[sv->r2_breaker.state]),
	    "mirroring", (json_int_t)w.mirroring, "waiting", (json_int_t)w.waiting, "watched_dirs", (json_int_t)w.watched_dirs,
	    "watch_trouble", text_or_null(w.watch_trouble), "census_due", w.census_due, "journal", err_name(w.journal));
	ASSERT(j != NULL && more != NULL);
	json_object_update(j, more);
	json_decref(more);
	json_object_set_new(j, "upstreams", servers);
	json_object_set_new(j, "committed", json_boolean(roster_committed(sv->arming.roster) != 0));
	json_object_set_new(j, "next_refused", next_refused(sv));
	dump(j, out);
	str_fini(&why);
}
