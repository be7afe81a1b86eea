#include "proxy/unseen.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "coord/keys.h"
#include "coord/run.h"

static bool
redis_is_up(const struct unseen *u)
{
	return u->cluster != NULL && cluster_up(u->cluster);
}

static void
noted_cb(void *arg, enum err e, const struct redisReply *r)
{
	struct unseen *u = arg;

	(void)r;
	if (e != ERR_OK) {
		log_warn("writer", "cannot note in Redis that a census is due: %s; it is told again", err_text(e));
	} else {
		if (u->census_ms == u->noting_ms)
			u->census_ms = 0;
		if (u->noting_left)
			u->left_passthrough = false;
	}
	u->noting_ms = 0;
	u->noting_left = false;
}

static void
note(struct unseen *u)
{
	struct rds_arg argv[6];
	struct str key = STR_INIT, now = STR_INIT;
	size_t n = 0;

	if (u->census_ms == 0 || u->noting_ms != 0 || !redis_is_up(u))
		return;
	u->noting_ms = u->census_ms;
	u->noting_left = u->left_passthrough;
	cluster_key(u->cluster, KEYS_SITE, &key);
	str_printf(&now, "%llu", (unsigned long long)u->census_ms);
	argv[n++] = RDS_Z("HSET");
	argv[n++] = RDS_B(key.p, key.len);
	argv[n++] = RDS_Z(KEYS_SITE_CENSUS_DUE);
	argv[n++] = RDS_B(now.p, now.len);
	if (u->left_passthrough) {
		argv[n++] = RDS_Z(KEYS_SITE_LEFT_PASSTHROUGH);
		argv[n++] = RDS_B(now.p, now.len);
	}
	(void)rds_command(cluster_rds(u->cluster), 0, noted_cb, u, argv, n);
	str_fini(&key);
	str_fini(&now);
}

static void
asked_cb(void *arg, enum err e, const struct run *r)
{
	struct unseen *u = arg;

	u->asking = false;
	/* One that found too much has marked nothing: a person is asked, and until then the disk decides. */
	u->told = e == ERR_OK && r->census_done_ms >= u->blind_ms && r->census_found <= r->census_marked;
}

/* A census's marks come by another way than the word that it is done: they get one turn more. */
static void
see_again(struct unseen *u)
{
	if (u->blind_ms == 0 || u->asking)
		return;
	if (u->told) {
		u->blind_ms = 0;
		u->told = false;
		log_info("watch", "a census has told what was deleted while events were lost: R2 is read again");
	} else if (redis_is_up(u)) {
		u->asking = true;
		run_get(u->cluster, asked_cb, u);
	}
}

void
unseen_init(struct unseen *u, struct cluster *c)
{
	*u = (struct unseen){ .cluster = c };
}

void
unseen_census(struct unseen *u, const char *why)
{
	if (u->census_ms == 0)
		log_info("writer", "a census is due: %s", why);
	u->census_ms = clock_real_ms();
	note(u);
}

void
unseen_left_passthrough(struct unseen *u)
{
	u->left_passthrough = true;
}

void
unseen_events(struct unseen *u, const char *why)
{
	u->blind_ms = clock_real_ms();
	u->told = false;
	unseen_census(u, why);
}

void
unseen_up(struct unseen *u)
{
	note(u);
}

void
unseen_turn(struct unseen *u)
{
	note(u);
	see_again(u);
}

bool
unseen_blind(const struct unseen *u)
{
	return u->blind_ms != 0;
}

bool
unseen_due(const struct unseen *u)
{
	return u->census_ms != 0;
}
