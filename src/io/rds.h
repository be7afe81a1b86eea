/*
 * rds: a Redis connection on the loop with a deadline for each command, reconnecting by itself. hiredis parses the replies;
 * the socket is ours, because hiredis's async contexts know no deadlines, free themselves and assert what a peer sends.
 * Arguments are binary safe. A command given while disconnected fails at once with ERR_CONNECT (never queued: who calls
 * decides). One rds for commands; a second one for blocking reads, whose deadline is longer.
 */
#ifndef IO_RDS_H
#define IO_RDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "io/loop.h"

struct rds;
struct redisReply;
struct rds_call;

struct rds_opts {
	const char *address;	/* "host:port" or "unix:/path" */
	int db;
	const char *user, *password;	/* NULL: none */
	uint64_t timeout_ms;	/* per command, and to connect */
	/* On each change; up = connected, authenticated, database selected. */
	void (*state)(void *arg, bool up);
	void *arg;
};

struct rds *rds_new(struct loop *l, const struct rds_opts *o);
/* Pending calls' callbacks do not run. Takes NULL, clears the pointer. */
void rds_free(struct rds **r);
bool rds_up(const struct rds *r);
/* Why it is down, for a person. */
const char *rds_why(const struct rds *r);

/* e is ERR_OK, or why there is no reply. An error reply of Redis (e.g. "-NOPERM ...") gives ERR_PROTO, "-LOADING",
 * "-READONLY", "-BUSY", "-MISCONF", "-OOM" and the like give ERR_UNAVAIL; r is then the error reply. r is valid during the callback only. */
typedef void rds_cb(void *arg, enum err e, const struct redisReply *r);

struct rds_arg {
	const void *p;
	size_t len;
};
#define RDS_Z(z) ((struct rds_arg){(z), strlen(z)})
#define RDS_B(p, n) ((struct rds_arg){(p), (n)})

/* timeout_ms 0: the connection's. The arguments are copied. Returns a handle for rds_cancel; valid until cb runs. */
struct rds_call *rds_command(struct rds *r, uint64_t timeout_ms, rds_cb *cb, void *arg, const struct rds_arg *argv, size_t argc);
/* A Lua script: EVALSHA, and EVAL once where the server does not know it: it then runs after commands given behind it.
 * Keys first, then arguments. */
struct rds_script {
	const char *name;
	const char *body;
	char sha[41];		/* filled on first use */
};
struct rds_call *rds_eval(struct rds *r, struct rds_script *s, rds_cb *cb, void *arg, const struct rds_arg *keys, size_t nkeys,
    const struct rds_arg *args, size_t nargs);
/* cb will not run. The command may still be carried out. */
void rds_cancel(struct rds_call *c);

#endif
