#include "cli/cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/addr.h"
#include "io/loop.h"
#include "sandbox/sandbox.h"

const char *const cmd_sandbox_help[] = {
	"Checks signatures, payload hashes, Content-MD5, conditions and part sizes, and",
	"answers with R2's own statuses, codes and texts. For demonstrations, tests and",
	"benchmarks.",
	"",
	"  --listen ADDR        host:port to listen on; port 0: a free one (default",
	"                       127.0.0.1:9000)",
	"  --dir DIR            where buckets and objects are kept; made if missing",
	"  --bucket NAME        a bucket, made if missing; may be repeated",
	"  --key-id ID          the access key's id",
	"  --secret-file FILE   file with the secret key",
	"  --secret-env VAR     ... or the environment variable that holds it",
	"  --key-rate on|off    one write a second and key, with a small burst, then 429",
	"                       (default on, as R2)",
	"  --discard            hash contents and drop them: a sink for benchmarks;",
	"                       nothing survives a restart",
	"  --faults FILE        rules of what to do wrong, to begin with",
	"",
	"Prints \"r2shim sandbox: ready on http://HOST:PORT\" when it listens, and runs",
	"until SIGTERM or SIGINT. Buckets are found by path",
	"(http://HOST:PORT/BUCKET/KEY) or by name (http://BUCKET.localhost:PORT/KEY).",
	"",
	"Faults are set while it runs, from this machine, without a signature:",
	"  curl --data-binary 'put 503 5%' http://127.0.0.1:9000/.sandbox/faults",
	"A rule a line: OP ACTION [N%] [next N] [key=NAME|key=PREFIX*].",
	"  OP       put, get, head, delete, deletes, copy, list, create, part, partcopy,",
	"           complete, abort, parts, uploads, bucket, buckets, read, write or *",
	"  ACTION   a status (429, 500, 503 ...), down, delay TIME, hold TAG (both also",
	"           -commit and -answer: before it is applied, before the answer),",
	"           cut N (bytes of the answer), drop N (bytes of the request), lost",
	"           (applied, not answered)",
	"Other lines: release TAG, clear, seed N, reset. GET /.sandbox/faults lists the",
	"rules, GET /.sandbox/stats counts operations by status, as JSON.",
	NULL,
};

struct args {
	struct sandbox_opts o;
	const char *buckets[64];
	const char *secret_file, *secret_env, *faults_file;
	struct str secret, faults;
};

enum {
	OPT_LISTEN = 1,
	OPT_DIR,
	OPT_BUCKET,
	OPT_KEY_ID,
	OPT_SECRET_FILE,
	OPT_SECRET_ENV,
	OPT_KEY_RATE,
	OPT_DISCARD,
	OPT_FAULTS
};

static const struct option options[] = {{"listen", required_argument, NULL, OPT_LISTEN},
    {"dir", required_argument, NULL, OPT_DIR}, {"bucket", required_argument, NULL, OPT_BUCKET},
    {"key-id", required_argument, NULL, OPT_KEY_ID}, {"secret-file", required_argument, NULL, OPT_SECRET_FILE},
    {"secret-env", required_argument, NULL, OPT_SECRET_ENV}, {"key-rate", required_argument, NULL, OPT_KEY_RATE},
    {"discard", no_argument, NULL, OPT_DISCARD}, {"faults", required_argument, NULL, OPT_FAULTS}, {NULL, 0, NULL, 0}};

static bool
complain(const char *what, const char *name)
{
	fprintf(stderr, "r2shim sandbox: %s%s\n", what, name);
	return false;
}

static bool
take_option(struct args *a, int opt, const char *value)
{
	switch (opt) {
	case OPT_LISTEN:
		a->o.listen = value;
		return true;
	case OPT_DIR:
		a->o.dir = value;
		return true;
	case OPT_BUCKET:
		if (a->o.nbuckets == sizeof(a->buckets) / sizeof(a->buckets[0]))
			return complain("too many buckets", "");
		a->buckets[a->o.nbuckets++] = value;
		return true;
	case OPT_KEY_ID:
		a->o.key_id = value;
		return true;
	case OPT_SECRET_FILE:
		a->secret_file = value;
		return true;
	case OPT_SECRET_ENV:
		a->secret_env = value;
		return true;
	case OPT_KEY_RATE:
		a->o.key_rate = strcmp(value, "on") == 0;
		return a->o.key_rate || strcmp(value, "off") == 0 || complain("--key-rate is on or off, not ", value);
	case OPT_DISCARD:
		a->o.discard = true;
		return true;
	case OPT_FAULTS:
		a->faults_file = value;
		return true;
	default:
		return false; /* getopt has said why */
	}
}

static bool
parse_args(struct args *a, int argc, char **argv)
{
	int opt;

	a->o.listen = "127.0.0.1:9000";
	a->o.key_rate = true;
	a->o.buckets = a->buckets;
	optind = 1;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (!take_option(a, opt, optarg))
			return false;
	if (optind < argc)
		return complain("unexpected argument: ", argv[optind]);
	if (a->o.dir == NULL)
		return complain("--dir is needed", "");
	if (a->o.key_id == NULL)
		return complain("--key-id is needed", "");
	if ((a->secret_file == NULL) == (a->secret_env == NULL))
		return complain("one of --secret-file and --secret-env is needed", "");
	return true;
}

/* A small file, whole. */
static bool
read_file(const char *path, size_t max, struct str *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;

	while (fd >= 0 && out->len <= max && (n = read(fd, str_reserve(out, 4096), 4096)) > 0) {
		out->len += (size_t)n;
		out->p[out->len] = '\0';
	}
	if (n < 0)
		fprintf(stderr, "r2shim sandbox: %s: %s\n", path, strerror(errno));
	else if (n > 0)
		fprintf(stderr, "r2shim sandbox: %s: too large\n", path);
	if (fd >= 0)
		close(fd);
	return n == 0;
}

static bool
read_secret(struct args *a)
{
	const char *v;

	if (a->secret_env != NULL) {
		v = getenv(a->secret_env);
		if (v != NULL)
			str_addz(&a->secret, v);
	} else if (!read_file(a->secret_file, 4096, &a->secret))
		return false;
	while (a->secret.len > 0 && strchr("\r\n \t", a->secret.p[a->secret.len - 1]) != NULL)
		a->secret.p[--a->secret.len] = '\0';
	if (a->secret.len == 0)
		return complain("the secret is empty: ", a->secret_env != NULL ? a->secret_env : a->secret_file);
	a->o.secret = a->secret.p;
	return true;
}

static void
on_signal(void *arg)
{
	loop_stop(arg);
}

static void
announce(const struct sandbox *sb, const char *listen)
{
	const char *colon = strrchr(listen, ':');

	if (strncmp(listen, "unix:", 5) == 0)
		printf("r2shim sandbox: ready on %s\n", listen);
	else
		printf("r2shim sandbox: ready on http://%.*s:%u\n",
		    (int)(colon == NULL ? (ptrdiff_t)strlen(listen) : colon - listen), listen, sandbox_port(sb));
	fflush(stdout);
}

static enum cmd_exit
run(const struct sandbox_opts *o)
{
	struct errbuf eb = {""};
	struct loop *l = loop_new();
	struct sandbox *sb;
	enum cmd_exit r = CMD_OK;

	if (sandbox_new(&sb, l, o, &eb) == ERR_OK) {
		loop_signal(l, SIGTERM, on_signal, l);
		loop_signal(l, SIGINT, on_signal, l);
		announce(sb, o->listen);
		loop_run(l);
		sandbox_free(&sb);
	} else {
		fprintf(stderr, "r2shim sandbox: %s\n", eb.text);
		r = CMD_FAILED;
	}
	loop_free(&l);
	return r;
}

enum cmd_exit
cmd_sandbox(int argc, char **argv)
{
	struct args *a = mem_zalloc(sizeof(*a));
	enum cmd_exit r = CMD_USAGE;

	if (parse_args(a, argc, argv)) {
		r = CMD_FAILED;
		if (read_secret(a) && (a->faults_file == NULL || read_file(a->faults_file, 256 * 1024, &a->faults))) {
			if (a->faults_file != NULL)
				a->o.faults = str_z(&a->faults);
			r = run(&a->o);
		}
	}
	if (a->secret.p != NULL)
		explicit_bzero(a->secret.p, a->secret.len);
	str_fini(&a->secret);
	str_fini(&a->faults);
	mem_free(a);
	return r;
}
