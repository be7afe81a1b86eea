/* check: the configuration; with --online everything that it names. */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "cli/session.h"
#include "coord/cluster.h"
#include "coord/phase.h"
#include "store/local_swap.h"
#include "proxy/listen.h"
#include "proxy/upstream.h"
#include "proxy/watch.h"

const char *const cmd_check_help[] = {
	"  -c FILE          the configuration (default " CMD_DEFAULT_CONF ")",
	"  --online         connect as well: R2 (keys, bucket, clock), Redis (policy,",
	"                   persistence), the media root's sentinel, the limits of",
	"                   inotify, and whether its file system allows r2-primary",
	"  --show           print every option's value; secrets as ***",
	"  --list-options   print every option with its type, range and default, and do",
	"                   nothing else",
	"  --json           with --list-options: as JSON",
	"",
	"Lists every mistake with its file and line; starts nothing.",
	NULL,
};

/* So long are directories counted. */
#define COUNT_MS 10000

struct probing {
	bool done;
	enum err e;
	char why[512];
};

static void
probed_cb(void *arg, enum err e, const char *why)
{
	struct probing *p = arg;

	p->done = true;
	p->e = e;
	snprintf(p->why, sizeof(p->why), "%s", why != NULL && *why ? why : err_text(e));
}

static void
preflight_cb(void *arg, enum err e, const char *text)
{
	struct probing *p = arg;

	p->done = true;
	p->e = e == ERR_OK && *text ? ERR_STATE : e;
	snprintf(p->why, sizeof(p->why), "%s", *text ? text : err_text(e));
}

/* Prints a line for one thing that was looked at; returns whether it is well. */
static bool
tell(const char *what, bool ok, const char *text)
{
	printf("%-10s %s%s%s\n", what, ok ? "ok" : "FAILED", *text ? ": " : "", text);
	return ok;
}

static bool
check_r2(struct session *s)
{
	struct probing p = {0};

	(void)store_probe(s->env.r2, probed_cb, &p);
	if (!session_wait(s, &p.done, s->conf->r2_request_limit * 2))
		snprintf(p.why, sizeof(p.why), "no answer from %s", s->conf->r2_endpoint);
	return tell("R2", p.done && p.e == ERR_OK, p.done && p.e == ERR_OK ? s->conf->r2_bucket : p.why);
}

static bool
check_redis(struct session *s, const char *conf_path)
{
	struct session r;
	struct probing p = {0};
	bool ok;

	if (session_open(&r, conf_path, SESSION_REDIS, "check") != CMD_OK)
		return tell("Redis", false, "see above");
	cluster_preflight(r.env.cluster, preflight_cb, &p);
	(void)session_wait(&r, &p.done, s->conf->redis_timeout * 2);
	ok = tell("Redis", p.done && p.e == ERR_OK, p.done && p.e == ERR_OK ? s->conf->redis_address : p.why);
	session_close(&r);
	return ok;
}

static bool
check_root(struct session *s)
{
	struct errbuf eb;
	bool ok = local_open(&s->env.local, s->conf->media_root, s->conf->site, &eb) == ERR_OK;

	return tell("media root", ok, ok ? s->conf->media_root : eb.text);
}

/* From r2-primary on what R2 got first is carried to the disk. Below it is only said that the way ends before. */
static bool
check_swap(struct session *s)
{
	struct errbuf eb;
	bool ok = local_swap_supported(s->env.local, &eb) == ERR_OK;

	if (ok || s->conf->phase >= PHASE_R2_PRIMARY)
		return tell("r2-primary", ok, ok ? "the file system has leases and exchanges names" : eb.text);
	printf("%-10s not possible here: %s\n", "r2-primary", eb.text);
	return true;
}

/* The proxy watches each directory below the media root: are the kernel's limits wide enough? */
static bool
check_watcher(struct session *s)
{
	struct watch_limits lim;
	char text[256];
	uint64_t dirs;
	bool all = watch_count_dirs(s->env.local, COUNT_MS, &dirs), ok;

	watch_limits(&lim);
	watch_limits_text(&lim, dirs, !all, text, sizeof(text));
	ok = *text == '\0';
	if (ok)
		snprintf(text, sizeof(text), "%s%llu directories, %s = %llu", all ? "" : "more than ", (unsigned long long)dirs,
		    lim.watches_name, (unsigned long long)lim.watches);
	return tell("watcher", ok, text);
}

static enum cmd_exit
check_online(const char *conf_path)
{
	struct session s;
	enum cmd_exit x = session_open(&s, conf_path, SESSION_R2, "check");
	bool root, r2, redis;

	if (x != CMD_OK)
		return x;
	root = check_root(&s);
	if (root) {
		bool watcher = s.conf->source != CONF_SOURCE_DISK || check_watcher(&s);

		root = check_swap(&s) && watcher;
	}
	r2 = check_r2(&s);
	redis = check_redis(&s, conf_path);
	session_close(&s);
	if (!r2 || !redis)
		return CMD_UNREACHABLE;
	return root ? CMD_OK : CMD_FAILED;
}

/* What TLS would take at the start, and how long the certificates hold. */
static bool
check_tls(const struct conf *c)
{
	struct tls_server *ours;
	struct upstream_tls upstream = { { NULL } };
	struct errbuf eb;
	struct str text = STR_INIT;
	bool ok = listen_tls(c, &ours, &eb) == ERR_OK && upstream_tls_new(&upstream, c, &eb) == ERR_OK;

	if (!ok)
		fprintf(stderr, "%s: %s\n", c->path, eb.text);
	tls_server_free(&ours);
	upstream_tls_free(&upstream);
	conf_warnings(c, &text);
	printf("%s", str_z(&text));
	str_fini(&text);
	return ok;
}

enum cmd_exit
cmd_check(int argc, char **argv)
{
	bool online = false, list = false, json = false, show = false, tls;
	const struct session_opt opts[] = {
		{"--online", NULL, &online}, {"--list-options", NULL, &list}, {"--json", NULL, &json}, {"--show", NULL, &show}};
	struct str text = STR_INIT;
	const char *path;
	struct conf *c;
	unsigned n;

	if (!session_args(argc, argv, &path, opts, 4, NULL, 0, &n))
		return CMD_USAGE;
	if (list) {
		conf_list_options(&text, json);
		printf("%s", str_z(&text));
		str_fini(&text);
		return CMD_OK;
	}
	c = cmd_conf(path);
	if (c == NULL)
		return CMD_CONFIG;
	if (show) {
		conf_dump(c, &text);
		printf("%s", str_z(&text));
		str_fini(&text);
	}
	tls = check_tls(c);
	conf_unref(&c);
	if (!tls)
		return CMD_CONFIG;
	printf("%s: ok\n", path);
	return online ? check_online(path) : CMD_OK;
}
