/* What anybody may do to the queue without being a consumer. */
#include "coord/queue.h"

#include <stdio.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "base/digest.h"
#include "base/mem.h"
#include "coord/lua.h"

enum {
	PAUSE_MS = 500,		/* after a key's first failure; it doubles */
	PAUSE_MAX_MS = 60000
};

struct fail_ctx {
	void (*done)(void *arg, enum err e, bool dead);
	void *arg;
};

static void
on_failed(void *arg, enum err e, const struct redisReply *r)
{
	const struct fail_ctx *x = arg;

	if (x->done != NULL)
		x->done(x->arg, e, e == ERR_OK && r->type == REDIS_REPLY_INTEGER && r->integer == 1);
}

void
queue_fail(struct cluster *c, const struct conf *conf, const char *key, size_t klen, const char *why,
    void (*done)(void *arg, enum err e, bool dead), void *arg)
{
	struct fail_ctx x = { done, arg };
	char attempts[24], first[16], top[16], random[16];
	uint16_t r;

	digest_random(&r, sizeof r);
	snprintf(attempts, sizeof attempts, "%lld", (long long)conf->migrator_attempts);
	snprintf(first, sizeof first, "%d", PAUSE_MS);
	snprintf(top, sizeof top, "%d", PAUSE_MAX_MS);
	snprintf(random, sizeof random, "%u", r % 1000u);
	cluster_run(c, &lua_fail, on_failed, mem_dup(&x, sizeof x), (struct rds_arg[]){ RDS_B(key, klen), RDS_Z(why), RDS_Z(attempts), RDS_Z(first),
		RDS_Z(top), RDS_Z(random), RDS_Z("0") }, 7);
}

void
queue_poison(struct cluster *c, const char *key, size_t klen, const char *why, void (*done)(void *arg, enum err e, bool dead), void *arg)
{
	struct fail_ctx x = { done, arg };

	cluster_run(c, &lua_fail, on_failed, mem_dup(&x, sizeof x), (struct rds_arg[]){ RDS_B(key, klen), RDS_Z(why), RDS_Z("1"), RDS_Z("0"),
		RDS_Z("0"), RDS_Z("0"), RDS_Z("1") }, 7);
}

void
queue_hint(struct cluster *c, const char *key, size_t klen)
{
	cluster_do(c, &lua_hint, (struct rds_arg[]){ RDS_B(key, klen) }, 1, NULL, NULL);
}

void
queue_add_batch(struct cluster *c, const char *json, size_t len, void (*done)(void *arg, enum err e), void *arg)
{
	cluster_do(c, &lua_batch, (struct rds_arg[]){ RDS_B(json, len) }, 1, done, arg);
}

struct depth_ctx {
	void (*done)(void *arg, enum err e, const struct queue_depth *d);
	void *arg;
};

static void
on_depth(void *arg, enum err e, const struct redisReply *r)
{
	const struct depth_ctx *x = arg;
	struct queue_depth d = { 0 };
	uint64_t *const field[6] = { &d.live, &d.live_pending, &d.backfill, &d.backfill_pending, &d.dead, &d.due };

	if (e == ERR_OK && (r->type != REDIS_REPLY_ARRAY || r->elements != 6))
		e = ERR_PROTO;
	for (size_t i = 0; e == ERR_OK && i < 6; i++)
		*field[i] = (uint64_t)r->element[i]->integer;
	x->done(x->arg, e, &d);
}

void
queue_depth(struct cluster *c, void (*done)(void *arg, enum err e, const struct queue_depth *d), void *arg)
{
	struct depth_ctx x = { done, arg };

	cluster_run(c, &lua_depth, on_depth, mem_dup(&x, sizeof x), NULL, 0);
}

struct dead_ctx {
	struct cluster *c;
	void (*each)(void *arg, const char *key, size_t klen, const char *json);
	void (*done)(void *arg, enum err e);
	void *arg;
};

static void dead_page(const struct dead_ctx *x, const char *cursor);

static void
on_dead(void *arg, enum err e, const struct redisReply *r)
{
	const struct dead_ctx *x = arg;

	if (e == ERR_OK && (r->type != REDIS_REPLY_ARRAY || r->elements != 2 || r->element[1]->type != REDIS_REPLY_ARRAY))
		e = ERR_PROTO;
	if (e != ERR_OK) {
		x->done(x->arg, e);
		return;
	}
	for (size_t i = 0; i + 1 < r->element[1]->elements; i += 2)
		x->each(x->arg, r->element[1]->element[i]->str, (size_t)r->element[1]->element[i]->len, r->element[1]->element[i + 1]->str);
	if (strcmp(r->element[0]->str, "0") == 0)
		x->done(x->arg, ERR_OK);
	else
		dead_page(x, r->element[0]->str);
}

static void
dead_page(const struct dead_ctx *x, const char *cursor)
{
	cluster_run(x->c, &lua_dead_list, on_dead, mem_dup(x, sizeof *x), (struct rds_arg[]){ RDS_Z(cursor) }, 1);
}

void
queue_dead(struct cluster *c, void (*each)(void *arg, const char *key, size_t klen, const char *json), void (*done)(void *arg, enum err e), void *arg)
{
	struct dead_ctx x = { c, each, done, arg };

	dead_page(&x, "0");
}

struct retry_ctx {
	struct cluster *c;
	uint64_t n;
	void (*done)(void *arg, enum err e, uint64_t n);
	void *arg;
};

static void
on_retried(void *arg, enum err e, const struct redisReply *r)
{
	const struct retry_ctx *x = arg;
	struct retry_ctx next = *x;

	if (e == ERR_OK && (r->type != REDIS_REPLY_ARRAY || r->elements != 2))
		e = ERR_PROTO;
	if (e == ERR_OK)
		next.n += (uint64_t)r->element[0]->integer;
	if (e == ERR_OK && r->element[1]->integer > 0)
		cluster_run(x->c, &lua_dead_retry, on_retried, mem_dup(&next, sizeof next), NULL, 0);
	else if (x->done != NULL)
		x->done(x->arg, e, next.n);
}

void
queue_dead_retry(struct cluster *c, void (*done)(void *arg, enum err e, uint64_t n), void *arg)
{
	struct retry_ctx x = { .c = c, .done = done, .arg = arg };

	cluster_run(c, &lua_dead_retry, on_retried, mem_dup(&x, sizeof x), NULL, 0);
}
