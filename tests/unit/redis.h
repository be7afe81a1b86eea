/* redis: a redis-server of the test's own, on a Unix socket in a temporary folder, and commands to it over a second connection. */
#ifndef UNIT_REDIS_H
#define UNIT_REDIS_H

#include <stdbool.h>

#include "io/loop.h"

struct redisReply;

struct redis {
	char dir[64], address[96];	/* address: "unix:..." */
	int pid;
	struct redisContext *ctx;
};

void redis_start(struct redis *r, const char *const *extra_args);
/* The folder stays: redis_start on the same struct begins a new process with the same data. */
void redis_kill(struct redis *r);
void redis_again(struct redis *r, const char *const *extra_args);
void redis_stop(struct redis *r);
/* A command, printf form of hiredis; the reply is freed by the next one. */
struct redisReply *redis_do(struct redis *r, const char *fmt, ...);
long long redis_int(struct redis *r, const char *fmt, ...);

/* Runs the loop until the flag, or fails the test. */
void redis_wait(struct loop *l, const bool *flag);

#endif
