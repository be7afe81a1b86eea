/* phase: show the phase and its gates, or move to another one. */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "cli/admin_client.h"
#include "cli/audit.h"
#include "cli/phase_wait.h"
#include "cli/session.h"
#include "coord/phase.h"
#include "coord/run.h"
#include "migrate/gate.h"

const char *const cmd_phase_help[] = {
	"  show                 the phase, and what the gates to the next one say",
	"  set PHASE            move there: forward one phase at a time, if every gate",
	"                       holds; backward as far as you like, never refused (but",
	"                       it waits for proxies that are further up, and before",
	"                       passthrough until the disk is owed nothing).",
	"                       Rewrites the phase file and reloads the proxy",
	"  --waive GATE         with set: pass this gate although it does not hold ...",
	"  --reason TEXT        ... because; both go to the audit trail",
	"                       (state-dir/audit.jsonl)",
	"  --commit             with set r2-only: when the last proxy is there the way",
	"                       back closes",
	"  --json               with show: as JSON",
	"",
	"Phases: passthrough, dual-write, backfill, read-r2, validate, r2-primary,",
	"r2-only.",
	NULL,
};

#define GATES_MAX 16

struct gating {
	bool done, all_ok;
	struct gate_result v[GATES_MAX];
	size_t n;
	/* Of the site. */
	enum err e;
	bool armed, committed;
	uint64_t owed;
};

static void
gates_cb(void *arg, const struct gate_result *v, size_t n, bool all_ok)
{
	struct gating *g = arg;

	ASSERT(n <= GATES_MAX);
	memcpy(g->v, v, n * sizeof(*v));
	g->n = n;
	g->all_ok = all_ok;
	g->done = true;
}

static void
run_cb(void *arg, enum err e, const struct run *r)
{
	struct gating *g = arg;

	g->done = true;
	g->e = e;
	g->armed = r->armed_ms != 0;
	g->committed = r->committed_ms != 0;
}

static bool
answered(struct session *s, struct gating *g, uint64_t ms)
{
	bool ok = session_wait(s, &g->done, ms) && g->e == ERR_OK;

	g->done = false;
	return ok;
}

/* What the site says, and the gates to a phase (PHASE_COUNT: none). */
static enum cmd_exit
ask_gates(const char *conf_path, enum phase to, struct gating *g)
{
	struct session s;
	enum cmd_exit x = session_open(&s, conf_path, SESSION_ROOT | SESSION_R2 | SESSION_REDIS, "command");
	bool ok = true;

	if (x != CMD_OK)
		return x;
	memset(g, 0, sizeof(*g));
	if (to < PHASE_COUNT) {
		gate_check(&s.env, to, gates_cb, g);
		ok = answered(&s, g, s.conf->r2_request_limit * 5);
	}
	if (ok) {
		run_get(s.env.cluster, run_cb, g);
		ok = answered(&s, g, s.conf->redis_timeout * 2);
	}
	if (!ok || session_owed(&s, &g->owed) != ERR_OK) {
		fprintf(stderr, "r2shim phase: the gates' questions were not answered in time\n");
		x = CMD_UNREACHABLE;
	}
	session_close(&s);
	return x;
}

static void
print_gates(FILE *f, const struct gating *g, const char *waived)
{
	for (size_t i = 0; i < g->n; i++)
		fprintf(f, "  %-14s %-7s %s\n", g->v[i].name,
		    g->v[i].ok ? "ok" : waived != NULL && strcmp(waived, g->v[i].name) == 0 ? "waived" : "MISSING", g->v[i].text);
}

static enum cmd_exit
show_json(const struct conf *c, const struct gating *g, int next)
{
	json_t *gates = json_array(), *j;

	for (size_t i = 0; i < g->n; i++)
		json_array_append_new(gates,
		    json_pack("{s:s, s:s, s:b, s:s}", "name", g->v[i].name, "asks", g->v[i].asks, "ok", g->v[i].ok, "text", g->v[i].text));
	j = json_pack("{s:s, s:i, s:s?, s:b, s:I, s:b, s:o}", "phase", phase_row((enum phase)c->phase)->name, "number", c->phase, "next",
	    next < PHASE_COUNT ? phase_row((enum phase)next)->name : NULL, "armed", g->armed, "owed_to_disk", (json_int_t)g->owed, "committed",
	    g->committed, "gates", gates);
	json_dumpf(j, stdout, JSON_INDENT(2));
	printf("\n");
	json_decref(j);
	return CMD_OK;
}

static enum cmd_exit
show(const struct conf *c, const char *conf_path, bool json)
{
	const struct phase_row *row = phase_row((enum phase)c->phase);
	int next = c->phase + 1;
	struct gating g = {0};
	enum cmd_exit x;

	if (!json)
		printf("%d %s: %s\n", c->phase, row->name, row->text);
	x = ask_gates(conf_path, (enum phase)next, &g);
	if (x != CMD_OK)
		return x;
	if (json)
		return show_json(c, &g, next);
	if (g.armed)
		printf("the site is armed: R2 may be written first; the disk is owed %llu keys\n", (unsigned long long)g.owed);
	if (g.committed)
		printf("every proxy was in r2-only: there is no way back\n");
	if (next >= PHASE_COUNT)
		return CMD_OK;
	printf("next: %d %s\n", next, phase_row((enum phase)next)->name);
	print_gates(stdout, &g, NULL);
	return CMD_OK;
}

/* Writes one step and has the proxy take it. A proxy that does not run takes it when it starts. */
static enum cmd_exit
step(const struct conf *c, enum phase to)
{
	struct errbuf eb;
	struct str body = STR_INIT;
	enum cmd_exit x = CMD_OK;
	enum err e;
	int status = 0;

	if (conf_write_phase(c, phase_row(to)->name, &eb) != ERR_OK) {
		fprintf(stderr, "r2shim phase: %s\n", eb.text);
		return CMD_FAILED;
	}
	e = admin_client(c, "POST", "/reload", &status, &body, &eb);
	if (e == ERR_CONNECT && to < PHASE_R2_PRIMARY) {
		printf("%s (the proxy does not run: it takes the phase when it starts)\n", phase_row(to)->name);
	} else if (e != ERR_OK || status != 200) {
		struct errbuf back;

		fprintf(stderr, "r2shim phase: the proxy did not take %s: %s\n", phase_row(to)->name, e != ERR_OK ? eb.text : str_z(&body));
		if (conf_write_phase(c, phase_row((enum phase)c->phase)->name, &back) != ERR_OK)
			fprintf(stderr, "r2shim phase: and the phase file could not be put back: %s\n", back.text);
		x = e != ERR_OK ? CMD_UNREACHABLE : CMD_FAILED;
	} else {
		printf("%s\n", phase_row(to)->name);
	}
	str_fini(&body);
	return x;
}

/* The gate "armed" is opened by the move itself: it is waited for, and never waived. */
static bool
gates_hold(const struct gating *g, const char *waived)
{
	for (size_t i = 0; i < g->n; i++)
		if (!g->v[i].ok && strcmp(g->v[i].name, "armed") != 0 && (waived == NULL || strcmp(waived, g->v[i].name) != 0))
			return false;
	return true;
}

static bool
is_gate(const struct gating *g, const char *name)
{
	for (size_t i = 0; i < g->n; i++)
		if (strcmp(g->v[i].name, name) == 0 && strcmp(name, "armed") != 0)
			return true;
	return false;
}

static enum cmd_exit
forward(const struct conf *c, const char *conf_path, int to, const char *waived, const char *reason)
{
	struct gating g;
	enum cmd_exit x;

	if (to != c->phase + 1) {
		fprintf(stderr, "r2shim phase: from %s the next phase is %s: none is skipped\n", phase_row((enum phase)c->phase)->name,
		    phase_row((enum phase)(c->phase + 1))->name);
		return CMD_REFUSED;
	}
	x = ask_gates(conf_path, (enum phase)to, &g);
	if (x != CMD_OK)
		return x;
	if (waived != NULL && !is_gate(&g, waived)) {
		fprintf(stderr, "r2shim phase: there is no gate %s on the way to %s that can be waived\n", waived, phase_row((enum phase)to)->name);
		return CMD_USAGE;
	}
	if (!gates_hold(&g, waived)) {
		fprintf(stderr, "r2shim phase: %s is refused:\n", phase_row((enum phase)to)->name);
		print_gates(stderr, &g, waived);
		return CMD_REFUSED;
	}
	if (!audit_write(c, "phase", json_pack("{s:s, s:s, s:s?, s:s?}", "from", phase_row((enum phase)c->phase)->name, "to",
	    phase_row((enum phase)to)->name, "waived", waived, "reason", reason)))
		return CMD_FAILED;
	if (to >= PHASE_R2_PRIMARY)
		x = phase_wait_up(c, conf_path, (enum phase)to);
	if (x != CMD_OK)
		return x;
	return step(c, (enum phase)to);
}

/* Walks down, a neighbour at a time. */
static enum cmd_exit
backward(struct conf **c, const char *conf_path, int to)
{
	while ((*c)->phase > to) {
		enum phase next = (enum phase)((*c)->phase - 1);
		enum cmd_exit x;

		x = phase_wait_down(*c, conf_path, next);
		if (x != CMD_OK)
			return x;
		if (!audit_write(*c, "phase", json_pack("{s:s, s:s}", "from", phase_row((enum phase)(*c)->phase)->name, "to", phase_row(next)->name)))
			return CMD_FAILED;
		x = step(*c, next);
		if (x != CMD_OK)
			return x;
		conf_unref(c);
		*c = cmd_conf(conf_path);
		if (*c == NULL)
			return CMD_CONFIG;
	}
	return CMD_OK;
}

static enum cmd_exit
set(struct conf **c, const char *conf_path, const char *name, const char *waived, const char *reason, bool commit)
{
	int to = phase_by_name(name);

	if (to < 0) {
		fprintf(stderr, "r2shim phase: there is no phase \"%s\": see r2shim phase --help\n", name);
		return CMD_USAGE;
	}
	if (to == (*c)->phase) {
		printf("%s already\n", name);
		return CMD_OK;
	}
	if (to == PHASE_R2_ONLY && !commit) {
		fprintf(stderr, "r2shim phase: in r2-only nothing is carried to the disk any more, and when the last proxy is there no phase below can be\n"
		    "entered again. If that is meant, say --commit\n");
		return CMD_REFUSED;
	}
	return to > (*c)->phase ? forward(*c, conf_path, to, waived, reason) : backward(c, conf_path, to);
}

enum cmd_exit
cmd_phase(int argc, char **argv)
{
	const char *path, *words[2], *waived = NULL, *reason = NULL;
	bool json = false, commit = false;
	const struct session_opt opts[] = {
		{"--waive", &waived, NULL}, {"--reason", &reason, NULL}, {"--json", NULL, &json}, {"--commit", NULL, &commit}};
	enum cmd_exit x = CMD_USAGE;
	struct conf *c;
	unsigned n;

	if (!session_args(argc, argv, &path, opts, 4, words, 2, &n))
		return CMD_USAGE;
	if ((waived != NULL) != (reason != NULL)) {
		fprintf(stderr, "r2shim phase: --waive GATE and --reason TEXT go together\n");
		return CMD_USAGE;
	}
	c = cmd_conf(path);
	if (c == NULL)
		return CMD_CONFIG;
	if (n == 1 && strcmp(words[0], "show") == 0)
		x = show(c, path, json);
	else if (n == 2 && strcmp(words[0], "set") == 0)
		x = set(&c, path, words[1], waived, reason, commit);
	else
		fprintf(stderr, "r2shim phase: show, or set PHASE? See r2shim phase --help\n");
	conf_unref(&c);
	return x;
}
