#include <string.h>

#include <hiredis/hiredis.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "coord/cluster_int.h"
#include "coord/lua.h"

enum { BEAT_MS = 1000 };

void
cluster_beat_site(struct cluster *c, const struct redisReply *armed, const struct redisReply *committed)
{
	if (armed->type != REDIS_REPLY_INTEGER || committed->type != REDIS_REPLY_INTEGER)
		return;
	c->armed = armed->integer > 0 ? CLUSTER_ARMED : armed->integer == 0 ? CLUSTER_UNARMED : CLUSTER_UNKNOWN;
	c->armed_ms = armed->integer > 0 ? (uint64_t)armed->integer : 0;
	/* Nobody takes it back: a Redis that does not know of it is an emptied one. */
	if (committed->integer > 0)
		c->committed = (uint64_t)committed->integer;
}

static void
on_beaten(void *arg, enum err e, const struct redisReply *r)
{
	struct cluster *c = *(struct cluster **)arg;

	c->beating = NULL;
	if (e != ERR_OK || r->type != REDIS_REPLY_ARRAY || r->elements != 3)
		return;
	cluster_beat_site(c, r->element[0], r->element[1]);
	if (!members_read(&c->members, r->element[2]))
		log_error("cluster", "the answer to the heartbeat is not understood");
	c->beaten_ms = clock_mono_ms();
	if (c->cb.heard != NULL)
		c->cb.heard(c->arg);
}

static void
on_beat(void *arg)
{
	struct cluster *c = arg;
	bool proxy = strcmp(c->role, "proxy") == 0;
	struct str wait = STR_INIT;
	struct cluster **ctx;

	if (c->state != CLUSTER_UP || c->left)
		return;
	loop_timer_set(&c->beat, BEAT_MS);
	if (c->beating != NULL || (c->json == NULL && strcmp(c->role, "command") == 0))
		return;
	str_printf(&wait, "%llu", (unsigned long long)(c->lease_ms + c->limit_ms));
	ctx = mem_dup(&c, sizeof c);
	c->beating = cluster_run(c, &lua_beat, on_beaten, ctx, (struct rds_arg[]){ RDS_Z(c->id), RDS_Z(c->json != NULL ? c->json : ""),
		RDS_Z(proxy ? "p" : "w"), RDS_Z(c->announced ? "1" : "0"), { wait.p, wait.len } }, 5);
	str_fini(&wait);
}

void
cluster_beat_now(struct cluster *c)
{
	if (c->state == CLUSTER_UP)
		loop_timer_set(&c->beat, 0);
}

void
cluster_heartbeat(struct cluster *c, const char *json)
{
	bool first = c->json == NULL;

	mem_free(c->json);
	c->json = mem_strdup(json);
	if (first)
		cluster_beat_now(c);
}

void
cluster_must_announce(struct cluster *c)
{
	c->must_announce = true;
}

void
cluster_announced(struct cluster *c)
{
	if (c->announced)
		return;
	c->announced = true;
	cluster_beat_now(c);
}

void
cluster_leave(struct cluster *c, void (*done)(void *arg, enum err e), void *arg)
{
	c->left = true;
	(void)cluster_do(c, &lua_leave, (struct rds_arg[]){ RDS_Z(c->id) }, 1, done, arg);
}

enum cluster_armed
cluster_armed(const struct cluster *c, uint64_t *ms)
{
	if (ms != NULL)
		*ms = c->armed_ms;
	return c->armed;
}

void
cluster_arm(struct cluster *c, enum cluster_arm why)
{
	(void)cluster_do(c, &lua_arm, (struct rds_arg[]){ RDS_Z(why == CLUSTER_ARM_AGAIN ? "again" : "stay") }, 1, NULL, NULL);
}

void
cluster_disarm(struct cluster *c)
{
	(void)cluster_do(c, &lua_disarm, NULL, 0, NULL, NULL);
}

const struct members *
cluster_members(const struct cluster *c)
{
	return &c->members;
}

uint64_t
cluster_committed(const struct cluster *c)
{
	return c->committed;
}

uint64_t
cluster_beaten_ms(const struct cluster *c)
{
	return c->beaten_ms;
}

void
cluster_beat_init(struct cluster *c)
{
	c->announced = true;
	c->armed = CLUSTER_UNKNOWN;
	loop_timer_init(&c->beat, c->loop, on_beat, c);
}

void
cluster_beat_fini(struct cluster *c)
{
	loop_timer_fini(&c->beat);
	members_fini(&c->members);
	mem_free(c->json);
}
