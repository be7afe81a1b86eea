#include "cli/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "coord/cluster.h"
#include "coord/marks.h"
#include "store/mime.h"
#include "store/r2.h"

/* Commands work beside a running site: few threads. */
#define POOL_THREADS 2

static void
up_cb(void *arg, bool fresh)
{
	struct session *s = arg;

	(void)fresh;
	s->redis_up = s->redis_changed = true;
}

static void
down_cb(void *arg)
{
	struct session *s = arg;

	s->redis_up = false;
	s->redis_changed = true;
}

static void
unsafe_cb(void *arg, const char *why)
{
	struct session *s = arg;

	(void)why;
	s->redis_changed = true;
}

static enum cmd_exit
open_root(struct session *s)
{
	struct errbuf eb;

	if (local_open(&s->env.local, s->conf->media_root, s->conf->site, &eb) == ERR_OK)
		return CMD_OK;
	fprintf(stderr, "r2shim: %s\n", eb.text);
	return CMD_FAILED;
}

static enum cmd_exit
open_redis(struct session *s, const char *role, bool optional)
{
	static const struct cluster_cb cb = {.up = up_cb, .down = down_cb, .unsafe = unsafe_cb};
	char *host = mem_printf("%s-%ld", role, (long)getpid());

	s->env.cluster = cluster_new(s->env.loop, s->conf, role, host, &cb, s);
	mem_free(host);
	(void)session_wait(s, &s->redis_changed, s->conf->redis_timeout * 2);
	if (s->redis_up || optional)
		return CMD_OK;
	fprintf(stderr, "r2shim: Redis at %s: %s\n", s->conf->redis_address, cluster_why(s->env.cluster));
	return CMD_UNREACHABLE;
}

enum cmd_exit
session_open(struct session *s, const char *conf_path, int what, const char *role)
{
	enum cmd_exit x = CMD_OK;

	memset(s, 0, sizeof(*s));
	s->conf = cmd_conf(conf_path);
	if (s->conf == NULL)
		return CMD_CONFIG;
	/* Whoever typed the command wants its answer, not the news that everything is as it should be. */
	log_setup(s->conf->log_level == LOG_LVL_INFO ? LOG_LVL_WARN : (enum log_level)s->conf->log_level, s->conf->log_format != 0);
	mime_init(&s->conf->types);
	s->env.conf = s->conf;
	s->env.loop = loop_new();
	s->env.pool = pool_new(s->env.loop, POOL_THREADS);
	if (what & SESSION_ROOT)
		x = open_root(s);
	if (x == CMD_OK && (what & SESSION_R2))
		s->env.r2 = r2_new(s->env.loop, s->env.pool, s->conf);
	if (x == CMD_OK && (what & (SESSION_REDIS | SESSION_REDIS_MAYBE)))
		x = open_redis(s, role, !(what & SESSION_REDIS));
	if (x != CMD_OK)
		session_close(s);
	return x;
}

bool
session_wait(struct session *s, const bool *flag, uint64_t ms)
{
	return loop_run_until(s->env.loop, flag, ms);
}

struct counting {
	bool done;
	enum err e;
	uint64_t owed;
};

static void
count_cb(void *arg, enum err e, uint64_t n, uint64_t oldest_ms, uint64_t owed)
{
	struct counting *k = arg;

	(void)n;
	(void)oldest_ms;
	*k = (struct counting){true, e, owed};
}

enum err
session_owed(struct session *s, uint64_t *owed)
{
	struct counting k = {.e = ERR_TIMEOUT};
	struct cluster_call *call = marks_count(s->env.cluster, count_cb, &k);

	if (!session_wait(s, &k.done, s->conf->redis_timeout * 2))
		cluster_cancel(&call);
	if (k.e == ERR_OK)
		*owed = k.owed;
	return k.e;
}

void
session_close(struct session *s)
{
	cluster_free(&s->env.cluster);
	store_free(&s->env.r2);
	pool_free(&s->env.pool);
	local_free(&s->env.local);
	loop_free(&s->env.loop);
	mime_fini();
	conf_unref(&s->conf);
}

static const struct session_opt *
find_opt(const struct session_opt *opts, unsigned nopts, const char *name)
{
	for (unsigned i = 0; i < nopts; i++)
		if (strcmp(opts[i].name, name) == 0)
			return &opts[i];
	return NULL;
}

bool
session_args(int argc, char **argv, const char **conf_path, const struct session_opt *opts, unsigned nopts, const char **words,
    unsigned max, unsigned *nwords)
{
	*conf_path = CMD_DEFAULT_CONF;
	*nwords = 0;
	for (int i = 1; i < argc; i++) {
		const struct session_opt *o = find_opt(opts, nopts, argv[i]);
		bool conf = strcmp(argv[i], "-c") == 0;

		if ((conf || (o != NULL && o->value != NULL)) && i + 1 == argc) {
			fprintf(stderr, "r2shim %s: %s needs a value\n", argv[0], argv[i]);
			return false;
		}
		if (conf) {
			*conf_path = argv[++i];
		} else if (o != NULL) {
			if (o->value != NULL)
				*o->value = argv[++i];
			if (o->given != NULL)
				*o->given = true;
		} else if (argv[i][0] == '-' && argv[i][1] != '\0') {
			fprintf(stderr, "r2shim %s: unknown option %s: see r2shim %s --help\n", argv[0], argv[i], argv[0]);
			return false;
		} else if (*nwords == max) {
			fprintf(stderr, "r2shim %s: \"%s\" is one word too many: see r2shim %s --help\n", argv[0], argv[i], argv[0]);
			return false;
		} else {
			words[(*nwords)++] = argv[i];
		}
	}
	return true;
}
