#include <string.h>

#include <hiredis/hiredis.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "coord/cluster_int.h"
#include "coord/keys.h"
#include "coord/lua.h"

struct cluster_call {
	struct list node;
	struct cluster *c;
	struct rds_call *rds;	/* NULL: it fails by itself */
	struct loop_call fail;
	rds_cb *cb;
	void *arg, *ctx;
};

void
cluster_key(const struct cluster *c, const char *name, struct str *out)
{
	str_printf(out, KEYS_PREFIX "%s", c->site, name);
}

struct rds_arg *
cluster_keys(const struct cluster *c, const char *const *names, size_t n, struct str *buf)
{
	struct rds_arg *v = mem_calloc(n > 0 ? n : 1, sizeof *v);
	size_t at = 0;

	for (size_t i = 0; i < n; i++) {
		cluster_key(c, names[i], buf);
		v[i].len = buf->len - at;
		at = buf->len;
	}
	at = 0;
	for (size_t i = 0; i < n; i++) {
		v[i].p = buf->p + at;
		at += v[i].len;
	}
	return v;
}

static void
call_end(struct cluster_call *call, enum err e, const struct redisReply *r)
{
	void *ctx = call->ctx;
	rds_cb *cb = call->cb;
	void *arg = call->arg;

	list_del(&call->node);
	mem_free(call);
	if (e != ERR_OK)
		metrics_add(METRIC_REDIS_ERRORS, err_name(e), 1);
	cb(arg, e, r);
	mem_free(ctx);
}

static void
on_call(void *arg, enum err e, const struct redisReply *r)
{
	struct cluster_call *call = arg;
	struct cluster *c = call->c;

	if (e == ERR_PROTO && r != NULL && r->type == REDIS_REPLY_ERROR) {
		if (strncmp(r->str, "EPOCH", 5) == 0) {
			e = ERR_EPOCH;
			if (c->state == CLUSTER_UP)
				loop_call_soon(&c->lost);
		} else {
			log_error("cluster", "a script failed: %s", r->str);
		}
	}
	call_end(call, e, r);
}

static void
on_call_fail(void *arg)
{
	call_end(arg, ERR_CONNECT, NULL);
}

static struct cluster_call *
start_call(struct cluster *c, struct rds_script *s, rds_cb *cb, void *arg, void *ctx, const char *const *names, size_t nkeys,
    const struct rds_arg *args, size_t nargs)
{
	struct cluster_call *call = mem_zalloc(sizeof *call);
	struct rds_arg *keys, *argv;
	struct str buf = STR_INIT, epoch = STR_INIT;

	*call = (struct cluster_call){ .c = c, .cb = cb, .arg = arg, .ctx = ctx };
	list_add_tail(&c->calls, &call->node);
	loop_call_init(&call->fail, c->loop, on_call_fail, call);
	if (c->state != CLUSTER_UP) {
		loop_call_soon(&call->fail);
		return call;
	}
	keys = cluster_keys(c, names, nkeys, &buf);
	str_printf(&epoch, "%llu", (unsigned long long)c->epoch);
	argv = mem_calloc(nargs + 1, sizeof *argv);
	argv[0] = RDS_B(epoch.p, epoch.len);
	for (size_t i = 0; i < nargs; i++)
		argv[i + 1] = args[i];
	call->rds = rds_eval(c->rds, s, on_call, call, keys, nkeys, argv, nargs + 1);
	mem_free(argv);
	mem_free(keys);
	str_fini(&epoch);
	str_fini(&buf);
	return call;
}

struct cluster_call *
cluster_eval(struct cluster *c, struct rds_script *s, rds_cb *cb, void *arg, const char *const *keynames, size_t nkeys,
    const struct rds_arg *args, size_t nargs)
{
	return start_call(c, s, cb, arg, NULL, keynames, nkeys, args, nargs);
}

struct cluster_call *
cluster_run(struct cluster *c, struct lua *s, rds_cb *cb, void *ctx, const struct rds_arg *args, size_t nargs)
{
	return start_call(c, &s->script, cb, ctx, ctx, s->keys, s->nkeys, args, nargs);
}

struct do_ctx {
	void (*done)(void *arg, enum err e);
	void *arg;
};

static void
on_did(void *arg, enum err e, const struct redisReply *r)
{
	const struct do_ctx *x = arg;

	(void)r;
	if (x->done != NULL)
		x->done(x->arg, e);
}

struct cluster_call *
cluster_do(struct cluster *c, struct lua *s, const struct rds_arg *args, size_t nargs, void (*done)(void *arg, enum err e), void *arg)
{
	struct do_ctx x = { done, arg };

	return cluster_run(c, s, on_did, mem_dup(&x, sizeof x), args, nargs);
}

void *
cluster_ctx(const struct cluster_call *call)
{
	return call->ctx;
}

void
cluster_cancel(struct cluster_call **callp)
{
	struct cluster_call *call = *callp;

	if (call == NULL)
		return;
	*callp = NULL;
	if (call->rds != NULL)
		rds_cancel(call->rds);
	loop_call_cancel(&call->fail);
	list_del(&call->node);
	mem_free(call->ctx);
	mem_free(call);
}

void
cluster_call_fini(struct cluster *c)
{
	while (!list_empty(&c->calls)) {
		struct cluster_call *call = LIST_FIRST(&c->calls, struct cluster_call, node);

		cluster_cancel(&call);
	}
}
