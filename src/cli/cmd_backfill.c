/* backfill: start or stop moving existing files. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cli/session.h"
#include "coord/phase.h"
#include "coord/run.h"

const char *const cmd_backfill_help[] = {
	"  start    begin a run, or go on from the cursor of a stopped one; needs phase",
	"           backfill or later",
	"           --all: look at the headers of every object, not only at those that",
	"           the listing shows to differ: after a change of cache-control, or",
	"           where other programs have filled the bucket",
	"  stop     stop feeding; what is queued is finished",
	"",
	"The work is done by `r2shim migrator` processes. Progress: r2shim status",
	"--watch",
	NULL,
};

/* So long may a proxy's new phase be unheard; how often it is asked for. */
#define HEARD_MS 3000
#define ASK_AGAIN_MS 50

struct waiting {
	bool done;
	enum err e;
	int phase_low, phase_high;
	size_t workers;
};

static void
done_cb(void *arg, enum err e)
{
	struct waiting *w = arg;

	w->done = true;
	w->e = e;
}

static void
run_cb(void *arg, enum err e, const struct run *r)
{
	struct waiting *w = arg;

	w->done = true;
	w->e = e;
	w->phase_low = r->phase_low;
	w->phase_high = r->phase_high;
	w->workers = r->nworkers;
}

/* Runs one call to Redis; says what is wrong. */
static bool
wait(struct session *s, struct waiting *w)
{
	if (session_wait(s, &w->done, s->conf->redis_timeout * 2) && w->e == ERR_OK)
		return true;
	if (!w->done || w->e != ERR_STATE)
		fprintf(stderr, "r2shim backfill: Redis: %s\n", err_text(w->done ? w->e : ERR_TIMEOUT));
	w->done = false;
	return false;
}

static bool
all_backfill(const struct waiting *w)
{
	return w->phase_low >= 0 && phase_row((enum phase)w->phase_low)->backfill && phase_row((enum phase)w->phase_high)->backfill;
}

static enum cmd_exit
start(struct session *s, bool all)
{
	struct waiting w, w2 = {0};
	uint64_t until = clock_mono_ms() + HEARD_MS;
	bool never = false;

	/* A proxy that was moved a moment ago may not have been heard since. */
	do {
		memset(&w, 0, sizeof(w));
		run_get(s->env.cluster, run_cb, &w);
		if (!wait(s, &w))
			return CMD_UNREACHABLE;
	} while (!all_backfill(&w) && phase_row((enum phase)s->conf->phase)->backfill && clock_mono_ms() < until &&
	    !session_wait(s, &never, ASK_AGAIN_MS));
	if (!all_backfill(&w)) {
		if (w.phase_low < 0)
			fprintf(stderr, "r2shim backfill: no proxy of the site runs\n");
		else
			fprintf(stderr, "r2shim backfill: every proxy must be in phase backfill, read-r2 or validate; one is in %s\n",
			    phase_row((enum phase)w.phase_low)->name);
		return CMD_REFUSED;
	}
	run_start(s->env.cluster, all, done_cb, &w2);
	if (!wait(s, &w2)) {
		if (w2.e != ERR_STATE)
			return CMD_UNREACHABLE;
		fprintf(stderr, "r2shim backfill: it runs already: r2shim status\n");
		return CMD_REFUSED;
	}
	printf("backfill started%s\n", w.workers == 0 ? "; no migrator is running yet: start r2shim migrator" : "");
	return CMD_OK;
}

static enum cmd_exit
stop(struct session *s)
{
	struct waiting w = {0};

	run_stop(s->env.cluster, done_cb, &w);
	if (!wait(s, &w)) {
		if (w.e != ERR_STATE)
			return CMD_UNREACHABLE;
		fprintf(stderr, "r2shim backfill: nothing is being fed\n");
		return CMD_REFUSED;
	}
	printf("backfill stopped; r2shim backfill start goes on from here\n");
	return CMD_OK;
}

enum cmd_exit
cmd_backfill(int argc, char **argv)
{
	const char *path, *words[1];
	struct session s;
	enum cmd_exit x;
	unsigned n;
	bool all = false;
	const struct session_opt opts[] = {{"--all", NULL, &all}};

	if (!session_args(argc, argv, &path, opts, 1, words, 1, &n))
		return CMD_USAGE;
	if (n != 1 || (strcmp(words[0], "start") != 0 && strcmp(words[0], "stop") != 0)) {
		fprintf(stderr, "r2shim backfill: start or stop? See r2shim backfill --help\n");
		return CMD_USAGE;
	}
	x = session_open(&s, path, SESSION_REDIS, "command");
	if (x != CMD_OK)
		return x;
	x = strcmp(words[0], "start") == 0 ? start(&s, all) : stop(&s);
	session_close(&s);
	return x;
}
