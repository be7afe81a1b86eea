/* cluster: the site's proxies, and what waits for each of them. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "cli/audit.h"
#include "cli/out.h"
#include "cli/session.h"
#include "coord/phase.h"
#include "coord/run.h"

const char *const cmd_cluster_help[] = {
	"  show         every proxy that is registered: phase, last heartbeat, whether it",
	"               has acknowledged that the site is armed, and what waits for it",
	"  forget ID    one that was killed will never come back: nothing waits for it",
	"               any more. Goes to the audit trail. What only its journal knew is",
	"               lost: keep its state-dir until a verify is clean",
	"  --force      with forget: although it is heard",
	"  --json       with show: as JSON",
	"",
	"A proxy is registered from its start until its clean end. One that is silent",
	"is not dead: nobody can know.",
	NULL,
};

/* A proxy that has not been heard for so long is called silent: five heartbeats. */
#define SILENT_MS 5000

struct asking {
	struct session s;
	bool done;
	enum err e;
	json_t *j;
};

/* What waits for a member, one text each. */
static json_t *
held_up(const struct run *r, const struct member *m)
{
	json_t *a = json_array();
	int high = r->phase_high;

	if (!m->announced && (r->armed_ms != 0 || m->until_ms > r->now_ms))
		json_array_append_new(a, json_string(r->armed_ms != 0 ? "no lease is given until it has announced its marks, or is forgotten" :
		    "no lease is given until it has announced its marks, or its time is up"));
	if (r->armed_ms != 0 && m->armed_ms != r->armed_ms)
		json_array_append_new(a, json_string("r2-primary waits until it has acknowledged that the site is armed"));
	if (m->phase < high)
		json_array_append_new(a, json_string("the next phase waits until it has come up"));
	return a;
}

static uint64_t
epoch_of(const struct run *r, const char *id)
{
	uint64_t epoch = 0;

	for (size_t i = 0; i < r->nmember_json && epoch == 0; i++) {
		json_t *j = json_loads(r->member_json[i], 0, NULL);
		const char *name = json_string_value(json_object_get(j, "id"));

		if (name != NULL && strcmp(name, id) == 0)
			epoch = (uint64_t)json_integer_value(json_object_get(j, "epoch"));
		json_decref(j);
	}
	return epoch;
}

static void
run_cb(void *arg, enum err e, const struct run *r)
{
	struct asking *a = arg;
	json_t *list = json_array();

	a->done = true;
	a->e = e;
	for (size_t i = 0; e == ERR_OK && i < r->members.n; i++) {
		const struct member *m = &r->members.v[i];

		json_array_append_new(list,
		    json_pack("{s:s, s:s?, s:I, s:I, s:I, s:b, s:b, s:I, s:o}", "id", m->id, "phase", m->phase < 0 ? NULL : phase_row((enum phase)m->phase)->name,
		    "epoch", (json_int_t)epoch_of(r, m->id), "heard_ms", (json_int_t)m->heard_ms, "silent_ms",
		    (json_int_t)(m->heard_ms == 0 ? -1 : r->now_ms > m->heard_ms ? (json_int_t)(r->now_ms - m->heard_ms) : 0), "announced", m->announced,
		    "armed", r->armed_ms != 0 && m->armed_ms == r->armed_ms, "armed_ms", (json_int_t)m->armed_ms, "waiting", held_up(r, m)));
	}
	a->j = json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "site", a->s.conf->site, "epoch", (json_int_t)cluster_epoch(a->s.env.cluster), "armed_ms",
	    (json_int_t)r->armed_ms, "committed_ms", (json_int_t)r->committed_ms, "quarantine_ms",
	    (json_int_t)(r->quarantine_ms > r->now_ms ? r->quarantine_ms - r->now_ms : 0), "members", list);
}

static void
done_cb(void *arg, enum err e)
{
	struct asking *a = arg;

	a->done = true;
	a->e = e;
}

static enum cmd_exit
unreachable(enum err e)
{
	fprintf(stderr, "r2shim cluster: Redis: %s\n", err_text(e));
	return CMD_UNREACHABLE;
}

/* What Redis says of it; TIMEOUT: nothing. */
static enum err
wait(struct asking *a)
{
	return session_wait(&a->s, &a->done, a->s.conf->redis_timeout * 2) ? a->e : ERR_TIMEOUT;
}

static void
print_member(const json_t *m, bool armed)
{
	const char *phase = json_string_value(json_object_get(m, "phase"));
	json_int_t silent = json_integer_value(json_object_get(m, "silent_ms"));
	char a[40];
	json_t *t;
	size_t i;

	printf("%s: %s", json_string_value(json_object_get(m, "id")), phase != NULL ? phase : "phase not known");
	if (armed)
		printf(", %s", json_is_true(json_object_get(m, "armed")) ? "armed" : "NOT armed");
	if (silent < 0)
		printf(", not heard since Redis was emptied");
	else if (silent > SILENT_MS)
		printf(", SILENT for %s", out_duration(a, (uint64_t)silent));
	else
		printf(", heard %s ago", out_duration(a, (uint64_t)silent));
	printf("\n");
	json_array_foreach(json_object_get(m, "waiting"), i, t)
		printf("           %s\n", json_string_value(t));
}

static void
print_text(const json_t *j)
{
	json_int_t armed = json_integer_value(json_object_get(j, "armed_ms")), quarantine = json_integer_value(json_object_get(j, "quarantine_ms"));
	char a[40];
	json_t *m;
	size_t i;

	printf("site       %s, epoch %lld\n", json_string_value(json_object_get(j, "site")), (long long)json_integer_value(json_object_get(j, "epoch")));
	printf("armed      %s\n", armed != 0 ? "yes: R2 may be written first" : "no: the disk is always written first");
	printf("owed       %s\n", out_count(a, (uint64_t)json_integer_value(json_object_get(j, "owed_to_disk"))));
	if (json_integer_value(json_object_get(j, "committed_ms")) != 0)
		printf("committed  every proxy was in r2-only: there is no way back\n");
	if (quarantine != 0)
		printf("quarantine Redis was found new or emptied: no lease is given for another %s\n", out_duration(a, (uint64_t)quarantine));
	json_array_foreach(json_object_get(j, "members"), i, m) {
		printf("%-10s ", i == 0 ? "proxies" : "");
		print_member(m, armed != 0);
	}
}

static enum cmd_exit
show(struct asking *a, bool json)
{
	uint64_t owed;
	enum err e = session_owed(&a->s, &owed);

	if (e != ERR_OK)
		return unreachable(e);
	run_get(a->s.env.cluster, run_cb, a);
	e = wait(a);
	if (e != ERR_OK) {
		json_decref(a->j);
		return unreachable(e);
	}
	json_object_set_new(a->j, "owed_to_disk", json_integer((json_int_t)owed));
	if (json) {
		json_dumpf(a->j, stdout, JSON_INDENT(2));
		printf("\n");
	} else {
		print_text(a->j);
	}
	json_decref(a->j);
	return CMD_OK;
}

static enum cmd_exit
forget(struct asking *a, const char *id, bool force)
{
	enum err e;

	if (!audit_write(a->s.conf, "cluster-forget", json_pack("{s:s, s:b}", "id", id, "force", force)))
		return CMD_FAILED;
	run_forget(a->s.env.cluster, id, force, SILENT_MS, done_cb, a);
	e = wait(a);
	if (e == ERR_NOTFOUND) {
		fprintf(stderr, "r2shim cluster: no proxy of this site is called %s: see r2shim cluster show\n", id);
		return CMD_REFUSED;
	}
	if (e == ERR_BUSY) {
		fprintf(stderr, "r2shim cluster: %s was heard a moment ago: stop it, and it leaves by itself (--force: forget it all the same)\n", id);
		return CMD_REFUSED;
	}
	if (e != ERR_OK)
		return unreachable(e);
	printf("%s is forgotten. Keep its state-dir until r2shim verify --full is clean: its journal may know of writes that Redis does not\n", id);
	return CMD_OK;
}

enum cmd_exit
cmd_cluster(int argc, char **argv)
{
	bool json = false, force = false;
	const struct session_opt opts[] = {{"--json", NULL, &json}, {"--force", NULL, &force}};
	const char *path, *words[2];
	struct asking a = {0};
	enum cmd_exit x;
	unsigned n;
	bool showing;

	if (!session_args(argc, argv, &path, opts, 2, words, 2, &n))
		return CMD_USAGE;
	showing = n == 1 && strcmp(words[0], "show") == 0;
	if (!showing && (n != 2 || strcmp(words[0], "forget") != 0)) {
		fprintf(stderr, "r2shim cluster: show, or forget ID? See r2shim cluster --help\n");
		return CMD_USAGE;
	}
	x = session_open(&a.s, path, SESSION_REDIS, "command");
	if (x != CMD_OK)
		return x;
	x = showing ? show(&a, json) : forget(&a, words[1], force);
	session_close(&a.s);
	return x;
}
