#include "redis.h"

#include "child.h"
#include "unit.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

static redisReply *last;

static void
launch(struct redis *r, const char *const *extra_args)
{
	const char *argv[32] = { "redis-server", "--port", "0", "--save", "", "--maxmemory-policy", "noeviction", "--appendonly", "yes", "--dir", r->dir,
		"--unixsocket", r->address + 5, "--loglevel", "warning" };
	size_t n = 15;
	int tries;

	while (extra_args != NULL && *extra_args != NULL)
		argv[n++] = *extra_args++;
	r->pid = child_start(argv, NULL, -1);
	for (tries = 0; tries < 1000; tries++) {
		r->ctx = redisConnectUnix(r->address + 5);
		if (r->ctx != NULL && r->ctx->err == 0) {
			redisReply *reply = redisCommand(r->ctx, "PING");
			bool pong = reply != NULL && reply->type == REDIS_REPLY_STATUS;

			freeReplyObject(reply);
			if (pong)
				return;
		}
		if (r->ctx != NULL)
			redisFree(r->ctx);
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	fail_msg("redis-server does not start");
}

void
redis_start(struct redis *r, const char *const *extra_args)
{
	memset(r, 0, sizeof *r);
	snprintf(r->dir, sizeof r->dir, "/tmp/r2shim-redis-XXXXXX");
	assert_non_null(mkdtemp(r->dir));
	snprintf(r->address, sizeof r->address, "unix:%s/s", r->dir);
	launch(r, extra_args);
}

void
redis_kill(struct redis *r)
{
	if (last != NULL)
		freeReplyObject(last);
	last = NULL;
	redisFree(r->ctx);
	r->ctx = NULL;
	child_kill(r->pid);
	unlink(r->address + 5);
}

void
redis_again(struct redis *r, const char *const *extra_args)
{
	launch(r, extra_args);
}

static void
remove_tree(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *de;

	while (d != NULL && (de = readdir(d)) != NULL) {
		char sub[512];

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		snprintf(sub, sizeof sub, "%s/%s", path, de->d_name);
		if (de->d_type == DT_DIR)
			remove_tree(sub);
		else
			unlink(sub);
	}
	if (d != NULL)
		closedir(d);
	rmdir(path);
}

void
redis_stop(struct redis *r)
{
	redis_kill(r);
	remove_tree(r->dir);
}

static void
command(struct redis *r, const char *fmt, va_list ap)
{
	if (last != NULL)
		freeReplyObject(last);
	last = redisvCommand(r->ctx, fmt, ap);
	assert_non_null(last);
}

struct redisReply *
redis_do(struct redis *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	command(r, fmt, ap);
	va_end(ap);
	return last;
}

long long
redis_int(struct redis *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	command(r, fmt, ap);
	va_end(ap);
	return last->type == REDIS_REPLY_INTEGER ? last->integer : last->type == REDIS_REPLY_NIL ? -1 : atoll(last->str);
}

void
redis_wait(struct loop *l, const bool *flag)
{
	assert_true(loop_run_until(l, flag, 10000));
}
