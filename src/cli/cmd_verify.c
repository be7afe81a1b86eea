/* verify: compares the disk with R2. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "cli/out.h"
#include "cli/session.h"
#include "coord/run.h"
#include "migrate/verify.h"

const char *const cmd_verify_help[] = {
	"  --full        digest every file, compare with every object, name objects",
	"                without a file",
	"  --sample N    the same for N files chosen at random; objects without a file",
	"                are not looked for",
	"  --json        the report as JSON; findings as an array",
	"",
	"Every path falls into one class: equal, missing (in R2), extra (no file),",
	"different, owed (R2 was written first, the disk is to get it), r2-newer (the",
	"same, but no mark says so: Redis and a journal were lost), metadata,",
	"unholdable (a name that R2 cannot hold: the disk serves it), unreadable,",
	"error. Exit code 0 if all are equal or unholdable, else 1.",
	NULL,
};

/* Findings that are printed; all are counted. */
#define FINDINGS_MAX 1000

struct verifying {
	struct session s;
	bool json, done, counted;
	struct out_progress progress;
	uint64_t total;
	json_t *findings;
	uint64_t nfindings;
	enum err e;
	struct verify_report report;
	char why[512];
};

static void
progress_cb(void *arg, uint64_t done, uint64_t bytes)
{
	struct verifying *v = arg;

	out_progress(&v->progress, done, v->total, bytes);
}

static void
finding_cb(void *arg, enum verify_class class, const char *key, size_t klen, const char *why)
{
	struct verifying *v = arg;
	struct str safe = STR_INIT;

	if (++v->nfindings > FINDINGS_MAX)
		return;
	str_add_safe(&safe, key, klen);
	if (v->json) {
		json_array_append_new(v->findings, json_pack("{s:s, s:s, s:s}", "class", verify_class_name(class), "key", str_z(&safe), "why", why));
	} else {
		out_progress_end(&v->progress);
		printf("%-10s %s%s%s\n", verify_class_name(class), str_z(&safe), *why ? ": " : "", why);
	}
	str_fini(&safe);
}

static void
done_cb(void *arg, enum err e, const struct verify_report *r, const char *why)
{
	struct verifying *v = arg;

	v->done = true;
	v->e = e;
	v->report = *r;
	snprintf(v->why, sizeof(v->why), "%s", why);
}

static void
print_json(struct verifying *v)
{
	const struct verify_report *r = &v->report;
	json_t *j = json_pack("{s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:s, s:O}", "full", r->full, "clean", r->clean, "started",
	    (json_int_t)r->started_ms, "ended", (json_int_t)r->ended_ms, "files", (json_int_t)r->files, "bytes", (json_int_t)r->bytes, "objects",
	    (json_int_t)r->objects, "error", v->e == ERR_OK ? "" : v->why, "findings", v->findings);

	for (int i = 0; i < VERIFY_CLASSES; i++)
		json_object_set_new(j, verify_class_name((enum verify_class)i), json_integer((json_int_t)r->n[i]));
	json_dumpf(j, stdout, JSON_INDENT(2));
	printf("\n");
	json_decref(j);
}

static void
print_text(struct verifying *v)
{
	const struct verify_report *r = &v->report;
	char a[40], b[40], c[40];

	if (v->nfindings > FINDINGS_MAX)
		printf("... and %s more\n", out_count(a, v->nfindings - FINDINGS_MAX));
	if (v->e != ERR_OK) {
		fprintf(stderr, "r2shim verify: stopped: %s\n", v->why);
		return;
	}
	printf("%s verify: %s files, %s, in %s\n", r->full ? "full" : "sample", out_count(a, r->files), out_size(b, r->bytes),
	    out_duration(c, r->ended_ms - r->started_ms));
	for (int i = 0; i < VERIFY_CLASSES; i++)
		if (r->n[i] != 0 || i == VERIFY_EQUAL || (i == VERIFY_EXTRA && r->full))
			printf("  %-10s %s%s\n", verify_class_name((enum verify_class)i), out_count(a, r->n[i]),
			    i == VERIFY_EXTRA ? " objects without a file" : "");
	if (!r->full && r->n[VERIFY_EQUAL] == r->files && r->files > 0)
		printf("  0 bad of %s: below %.3f %% are bad, with 95 %% confidence\n", out_count(a, r->files), 300.0 / (double)r->files);
	if (*v->why)
		printf("  %s\n", v->why);
	if (r->n[VERIFY_METADATA] != 0)
		printf("  metadata is mended by: r2shim backfill start --all\n");
	printf("%s\n", r->clean ? "clean" : "NOT clean");
}

static void
total_cb(void *arg, enum err e, const struct run *r)
{
	struct verifying *v = arg;

	if (e == ERR_OK)
		v->total = r->files;
	v->counted = true;	/* perhaps when the verify runs already */
}

static enum cmd_exit
run(struct verifying *v, uint64_t sample)
{
	static const struct verify_cb cb = {progress_cb, finding_cb, done_cb};
	struct verify *vf;

	/* How many there are is known from the backfill; it only shapes the bar. */
	run_get(v->s.env.cluster, total_cb, v);
	(void)session_wait(&v->s, &v->counted, v->s.conf->redis_timeout);
	if (sample != 0)
		v->total = sample;
	out_progress_begin(&v->progress, "verify");
	vf = verify_start(&v->s.env, sample, (unsigned)v->s.conf->migrator_concurrency, &cb, v);
	while (!v->done)
		(void)session_wait(&v->s, &v->done, 1000);
	verify_cancel(&vf);
	out_progress_end(&v->progress);
	if (v->json)
		print_json(v);
	else
		print_text(v);
	if (v->e != ERR_OK)
		return err_retryable(v->e) ? CMD_UNREACHABLE : CMD_FAILED;
	return v->report.clean ? CMD_OK : CMD_FAILED;
}

enum cmd_exit
cmd_verify(int argc, char **argv)
{
	bool full = false, json = false;
	const char *path, *sample = NULL;
	const struct session_opt opts[] = {{"--full", NULL, &full}, {"--sample", &sample, NULL}, {"--json", NULL, &json}};
	struct verifying v = {0};
	uint64_t n = 0;
	enum cmd_exit x;
	unsigned words;

	if (!session_args(argc, argv, &path, opts, 3, NULL, 0, &words))
		return CMD_USAGE;
	if (full == (sample != NULL) || (sample != NULL && (!str_to_u64(sample, strlen(sample), &n) || n == 0 || n > 100000000))) {
		fprintf(stderr, "r2shim verify: --full, or --sample N with N from 1 to 100000000\n");
		return CMD_USAGE;
	}
	x = session_open(&v.s, path, SESSION_ROOT | SESSION_R2 | SESSION_REDIS, "command");
	if (x != CMD_OK)
		return x;
	v.json = json;
	v.findings = json_array();
	x = run(&v, n);
	json_decref(v.findings);
	session_close(&v.s);
	return x;
}
