#include "cli/phase_wait.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "cli/admin_client.h"
#include "cli/out.h"
#include "cli/session.h"
#include "coord/run.h"

#define ASK_MS 100
#define SILENT_MS 5000
/* A proxy acknowledges when the writes that began before have ended: uploads of large files take their time. */
#define ACKNOWLEDGE_MS 120000
/* This machine's proxy learns from its next heartbeat what the others have acknowledged. */
#define OWN_MS 10000

struct waiting {
	struct session s;
	char own[MEMBER_ID_MAX];
	enum phase to;
	bool done;
	enum err e;
	/* The answers. */
	struct str others;	/* who is not as it should be, "" if all are */
	uint64_t since_ms, owed, committed_ms;
	/* Of this machine's proxy. */
	bool runs;
	uint64_t own_owed;
	struct str refused;	/* why it would not take the next phase */
};

static bool
answered(struct waiting *w)
{
	bool ok = session_wait(&w->s, &w->done, w->s.conf->redis_timeout * 2) && w->e == ERR_OK;

	w->done = false;
	return ok;
}

static void
name_other(struct waiting *w, const struct run *r, const struct member *m, const char *what)
{
	str_printf(&w->others, "%s%s %s", w->others.len > 0 ? "; " : "", m->id, what);
	if (m->heard_ms == 0 || r->now_ms > m->heard_ms + SILENT_MS)
		str_addz(&w->others, " and is silent (if it will never come back: r2shim cluster forget)");
}

static void
acknowledged_cb(void *arg, enum err e, const struct run *r)
{
	struct waiting *w = arg;

	w->done = true;
	w->e = e;
	for (size_t i = 0; e == ERR_OK && i < r->members.n; i++)
		if (r->members.v[i].armed_ms != w->since_ms)
			name_other(w, r, &r->members.v[i], "has not acknowledged that the site is armed");
}

static void
below_cb(void *arg, enum err e, const struct run *r)
{
	struct waiting *w = arg;
	char what[200];

	w->done = true;
	w->e = e;
	w->committed_ms = r->committed_ms;
	for (size_t i = 0; e == ERR_OK && i < r->members.n; i++) {
		const struct member *m = &r->members.v[i];

		if (m->phase <= (int)w->to + 1 || strcmp(m->id, w->own) == 0)
			continue;
		snprintf(what, sizeof(what), "is in %s: r2shim phase set %s there", phase_row((enum phase)m->phase)->name,
		    phase_row((enum phase)((int)w->to + 1))->name);
		name_other(w, r, m, what);
	}
}

static void
armed_cb(void *arg, enum err e, uint64_t since_ms, const char *below)
{
	struct waiting *w = arg;

	w->done = true;
	w->e = e;
	w->since_ms = since_ms;
	str_addz(&w->others, below);
}

static void
ask_proxy(struct waiting *w)
{
	struct str body = STR_INIT;
	struct errbuf eb;
	int status = 0;
	json_t *j = NULL;
	const char *refused;

	str_clear(&w->refused);
	w->runs = admin_client(w->s.conf, "GET", "/status", &status, &body, &eb) == ERR_OK && status == 200;
	if (w->runs)
		j = json_loads(str_z(&body), 0, NULL);
	w->own_owed = (uint64_t)json_integer_value(json_object_get(j, "owed_to_disk"));
	refused = json_string_value(json_object_get(j, "next_refused"));
	str_addz(&w->refused, refused != NULL ? refused : "");
	json_decref(j);
	str_fini(&body);
}

static enum cmd_exit
begin(struct waiting *w, const struct conf *c, const char *conf_path, enum phase to, int what)
{
	memset(w, 0, sizeof(*w));
	w->to = to;
	member_id(c->state_dir, w->own);
	return session_open(&w->s, conf_path, what, "command");
}

static void
end(struct waiting *w)
{
	str_fini(&w->others);
	str_fini(&w->refused);
	session_close(&w->s);
}

static bool
pause_now(struct waiting *w)
{
	bool never = false;

	return !session_wait(&w->s, &never, ASK_MS);
}

static enum cmd_exit
unreachable(struct waiting *w)
{
	fprintf(stderr, "r2shim phase: Redis at %s does not answer\n", w->s.conf->redis_address);
	return CMD_UNREACHABLE;
}

/* Every proxy's heartbeat says that it has acknowledged. */
static enum cmd_exit
arm(struct waiting *w)
{
	uint64_t until = clock_mono_ms() + ACKNOWLEDGE_MS;
	struct out_progress progress;

	run_arm(w->s.env.cluster, armed_cb, w);
	if (!answered(w))
		return unreachable(w);
	if (w->since_ms == 0) {
		fprintf(stderr, "r2shim phase: the site is not armed: not in validate: %s\n", str_z(&w->others));
		return CMD_REFUSED;
	}
	out_progress_begin(&progress, "arming");
	do {
		str_clear(&w->others);
		run_get(w->s.env.cluster, acknowledged_cb, w);
		if (!answered(w)) {
			out_progress_end(&progress);
			return unreachable(w);
		}
		if (w->others.len == 0) {
			out_progress_end(&progress);
			return CMD_OK;
		}
		out_progress_text(&progress, str_z(&w->others));
	} while (pause_now(w) && clock_mono_ms() < until);
	out_progress_end(&progress);
	fprintf(stderr, "r2shim phase: not acknowledged within %d s: %s\n", ACKNOWLEDGE_MS / 1000, str_z(&w->others));
	fprintf(stderr, "r2shim phase: the site stays armed, writes take leases: ask again, or step back to read-r2, which disarms it\n");
	return CMD_REFUSED;
}

/* This machine's proxy knows it, too. */
static enum cmd_exit
own_ready(struct waiting *w)
{
	uint64_t until = clock_mono_ms() + OWN_MS;

	do {
		ask_proxy(w);
		if (!w->runs) {
			fprintf(stderr, "r2shim phase: %s is entered by a running proxy only, and this one does not run\n", phase_row(w->to)->name);
			return CMD_UNREACHABLE;
		}
		if (w->refused.len == 0)
			return CMD_OK;
	} while (pause_now(w) && clock_mono_ms() < until);
	fprintf(stderr, "r2shim phase: %s is refused by the proxy: %s\n", phase_row(w->to)->name, str_z(&w->refused));
	return CMD_REFUSED;
}

enum cmd_exit
phase_wait_up(const struct conf *c, const char *conf_path, enum phase to)
{
	struct waiting w;
	enum cmd_exit x = begin(&w, c, conf_path, to, SESSION_REDIS);

	if (x != CMD_OK)
		return x;
	if (to == PHASE_R2_PRIMARY)
		x = arm(&w);
	if (x == CMD_OK)
		x = own_ready(&w);
	end(&w);
	return x;
}

/* What a step down waits for now, in words; "": nothing. */
static void
look_down(struct waiting *w, struct str *text)
{
	struct cluster *cl = w->s.env.cluster;
	bool redis = cluster_up(cl);

	str_clear(text);
	str_clear(&w->others);
	ask_proxy(w);
	if (redis) {
		run_get(cl, below_cb, w);
		redis = answered(w);
	}
	if (!redis || session_owed(&w->s, &w->owed) != ERR_OK) {
		redis = false;
		w->owed = w->own_owed;
	}
	if (w->others.len > 0)
		str_addz(text, str_z(&w->others));
	else if (w->to == PHASE_PASSTHROUGH && w->owed + w->own_owed > 0)
		str_printf(text, "the disk is owed %llu keys still", (unsigned long long)(w->owed > w->own_owed ? w->owed : w->own_owed));
	if (!redis && text->len > 0)
		str_addz(text, "; Redis does not answer");
}

enum cmd_exit
phase_wait_down(const struct conf *c, const char *conf_path, enum phase to)
{
	struct out_progress progress;
	struct waiting w;
	struct str text = STR_INIT;
	enum cmd_exit x = begin(&w, c, conf_path, to, SESSION_REDIS_MAYBE);

	if (x != CMD_OK)
		return x;
	out_progress_begin(&progress, phase_row(to)->name);
	for (;;) {
		look_down(&w, &text);
		if (w.committed_ms != 0 || text.len == 0)
			break;
		out_progress_text(&progress, str_z(&text));
		(void)pause_now(&w);
	}
	out_progress_end(&progress);
	if (w.committed_ms != 0 && to == PHASE_R2_PRIMARY) {
		fprintf(stderr, "r2shim phase: every proxy was in r2-only: since then the disk gets nothing, and there is no way back\n");
		x = CMD_REFUSED;
	} else if (w.owed > 0 && to >= PHASE_DUAL_WRITE) {
		printf("the disk is owed %llu keys: they are served from R2 until they are there\n", (unsigned long long)w.owed);
	}
	str_fini(&text);
	end(&w);
	return x;
}
