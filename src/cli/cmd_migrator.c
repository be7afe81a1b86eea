/* migrator: one worker process, until SIGTERM or SIGINT. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/session.h"
#include "coord/cluster.h"
#include "migrate/migrator.h"
#include "store/mime.h"
#include "store/r2.h"

const char *const cmd_migrator_help[] = {
	"  -c FILE        the configuration, the same as the proxy's (default",
	"                 " CMD_DEFAULT_CONF ")",
	"  --name NAME    a stable name, unique among the site's migrators (default:",
	"                 host-pid)",
	"",
	"Copies what the queue holds: changed keys before batches of the backfill.",
	"Start as many as you like, on any machine that sees media.root. SIGTERM",
	"finishes what is in hand and ends; a killed one loses nothing: others take",
	"over what it held.",
	NULL,
};

#define THREADS 4

struct process {
	struct reconcile_env env;
	struct migrator *migrator;
	bool stopping;
};

static void
stopped_cb(void *arg)
{
	struct process *p = arg;

	loop_stop(p->env.loop);
}

static void
signal_cb(void *arg)
{
	struct process *p = arg;

	if (p->stopping)
		return;
	p->stopping = true;
	log_info("migrator", "stopping: finishing what is in hand");
	if (p->migrator == NULL)
		loop_stop(p->env.loop);
	else
		migrator_stop(p->migrator, stopped_cb, p);
}

static void
hup_cb(void *arg)
{
	(void)arg;
	log_warn("migrator", "SIGHUP: a migrator reads its configuration at its start only: SIGTERM, then start it again");
}

static void
up_cb(void *arg, bool fresh)
{
	struct process *p = arg;

	(void)fresh;
	if (p->migrator != NULL)
		migrator_up(p->migrator);
}

static void
down_cb(void *arg)
{
	struct process *p = arg;

	log_warn("migrator", "no Redis (%s): no lease, no copying; waiting", cluster_why(p->env.cluster));
	if (p->migrator != NULL)
		migrator_down(p->migrator);
}

static char *
default_name(void)
{
	char host[128] = "host";

	(void)gethostname(host, sizeof(host) - 1);
	return mem_printf("%s-%ld", host, (long)getpid());
}

static enum cmd_exit
run(struct conf *c, const char *name)
{
	static const struct cluster_cb cb = {.up = up_cb, .down = down_cb};
	struct process p = {0};
	struct errbuf eb;

	if (local_open(&p.env.local, c->media_root, c->site, &eb) != ERR_OK) {
		fprintf(stderr, "r2shim migrator: %s\n", eb.text);
		return CMD_FAILED;
	}
	mime_init(&c->types);
	p.env.conf = c;
	p.env.loop = loop_new();
	p.env.pool = pool_new(p.env.loop, THREADS);
	p.env.r2 = r2_new(p.env.loop, p.env.pool, c);
	p.env.cluster = cluster_new(p.env.loop, c, "migrator", name, &cb, &p);
	p.migrator = migrator_new(&p.env, name);
	loop_signal(p.env.loop, SIGTERM, signal_cb, &p);
	loop_signal(p.env.loop, SIGINT, signal_cb, &p);
	loop_signal(p.env.loop, SIGHUP, hup_cb, &p);
	printf("r2shim migrator: ready\n");
	fflush(stdout);
	loop_run(p.env.loop);
	migrator_free(&p.migrator);
	cluster_free(&p.env.cluster);
	store_free(&p.env.r2);
	pool_free(&p.env.pool);
	local_free(&p.env.local);
	loop_free(&p.env.loop);
	mime_fini();
	return CMD_OK;
}

enum cmd_exit
cmd_migrator(int argc, char **argv)
{
	const char *path, *name = NULL;
	const struct session_opt opts[] = {{"--name", &name, NULL}};
	enum cmd_exit x;
	struct conf *c;
	char *given;
	unsigned n;

	if (!session_args(argc, argv, &path, opts, 1, NULL, 0, &n))
		return CMD_USAGE;
	c = cmd_conf(path);
	if (c == NULL)
		return CMD_CONFIG;
	log_setup((enum log_level)c->log_level, c->log_format != 0);
	log_program("migrator");
	given = name != NULL ? mem_strdup(name) : default_name();
	x = run(c, given);
	mem_free(given);
	conf_unref(&c);
	return x;
}
