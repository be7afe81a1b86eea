#include "coord/cluster_int.h"

#include <stdio.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "coord/keys.h"
#include "coord/lua.h"

enum { AGAIN_MS = 1000 };	/* a hello that failed while Redis answers is said again */

static void hello(struct cluster *c);

static void
set_state(struct cluster *c, enum cluster_state s)
{
	static const char *const name[] = { "down", "hello", "refused", "up" };
	bool was_up = c->state == CLUSTER_UP;

	if (s == c->state)
		return;
	log_debug("cluster", "%s -> %s", name[c->state], name[s]);
	c->state = s;
	metrics_set(METRIC_REDIS_UP, NULL, s == CLUSTER_UP);
	if (was_up)
		loop_timer_cancel(&c->beat);
}

/* Hello: what is Redis, is another process of the site here, which epoch. */

static void
refuse(struct cluster *c, enum err e, const char *why)
{
	if (c->state == CLUSTER_DOWN)
		return;
	if (strcmp(c->why.text, why) != 0)
		log_warn("cluster", "%s", why);
	err_set(&c->why, e, "%s", why);
	set_state(c, CLUSTER_REFUSED);
	loop_timer_set(&c->again, AGAIN_MS);
	if (e == ERR_STATE && c->cb.unsafe != NULL)
		c->cb.unsafe(c->arg, c->why.text);
}

static void
ignore(void *arg, enum err e, const struct redisReply *r)
{
	(void)arg;
	(void)e;
	(void)r;
}

static void
client_name(const struct cluster *c, struct str *out)
{
	str_printf(out, KEYS_PREFIX, c->site);
	/* No spaces and nothing unprintable in a connection's name. */
	str_add_uri(out, c->id, strlen(c->id), false);
}

static void
on_hello(void *arg, enum err e, const struct redisReply *r)
{
	struct cluster *c = arg;
	struct str name = STR_INIT;
	uint64_t epoch;
	bool fresh;

	if (e != ERR_OK || r->type != REDIS_REPLY_ARRAY || r->elements != 3 || r->element[0]->type != REDIS_REPLY_STRING ||
	    !str_to_u64(r->element[0]->str, (size_t)r->element[0]->len, &epoch)) {
		refuse(c, e != ERR_OK ? e : ERR_PROTO, r != NULL && r->str != NULL ? r->str : err_text(e));
		return;
	}
	client_name(c, &name);
	(void)rds_command(c->rds, 0, ignore, NULL, (struct rds_arg[]){ RDS_Z("CLIENT"), RDS_Z("SETNAME"), { name.p, name.len } }, 3);
	str_fini(&name);
	fresh = epoch != c->told;
	/* Who starts within the epoch that it remembers is late with its news, as anybody may be: leases need not wait for it. */
	if (epoch != c->known_epoch)
		c->announced = !c->must_announce;
	if (fresh)
		log_info("cluster", "epoch %llu", (unsigned long long)epoch);
	c->epoch = c->told = epoch;
	cluster_beat_site(c, r->element[1], r->element[2]);
	cluster_know(c, epoch, 0);
	c->why.text[0] = '\0';
	set_state(c, CLUSTER_UP);
	cluster_beat_now(c);
	c->cb.up(c->arg, fresh);
}

static void
say_hello(struct cluster *c, bool alone)
{
	struct rds_arg *keys, args[5];
	struct str buf = STR_INIT, num[3] = { STR_INIT, STR_INIT, STR_INIT };

	/* Loaded beforehand, so that scripts run in the order in which they are called. */
	for (struct lua *const *s = lua_all; *s != NULL; s++)
		(void)rds_command(c->rds, 0, ignore, NULL, (struct rds_arg[]){ RDS_Z("SCRIPT"), RDS_Z("LOAD"), RDS_Z((*s)->script.body) }, 3);
	keys = cluster_keys(c, lua_hello.keys, lua_hello.nkeys, &buf);
	str_printf(&num[0], "%llu", (unsigned long long)c->known_epoch);
	str_printf(&num[1], "%llu", (unsigned long long)(c->lease_ms + c->limit_ms));
	str_printf(&num[2], "%llu", (unsigned long long)c->known_gen);
	args[0] = RDS_Z(num[0].p);
	args[1] = RDS_Z(c->run_id);
	args[2] = RDS_Z(num[1].p);
	args[3] = RDS_Z(alone ? "1" : "0");
	args[4] = RDS_Z(num[2].p);
	(void)rds_eval(c->rds, &lua_hello.script, on_hello, c, keys, lua_hello.nkeys, args, 5);
	mem_free(keys);
	str_fini(&buf);
	for (int i = 0; i < 3; i++)
		str_fini(&num[i]);
}

/*
 * A process without a past that finds nothing of the site in Redis may skip the quarantine, but only if nobody who had an epoch is
 * here: those bear a name. If it is forbidden to look, it is not proven.
 */
static void
on_clients(void *arg, enum err e, const struct redisReply *r)
{
	struct cluster *c = arg;
	struct str name = STR_INIT;
	bool alone;

	if (e != ERR_OK && e != ERR_PROTO) {
		refuse(c, e, err_text(e));
		return;
	}
	str_printf(&name, " name=" KEYS_PREFIX, c->site);
	alone = e == ERR_OK && r->type == REDIS_REPLY_STRING && strstr(r->str, name.p) == NULL;
	str_fini(&name);
	say_hello(c, alone);
}

static void
on_inspected(struct cluster *c, enum err e, const char *why, const char *run_id)
{
	if (e == ERR_STATE && c->allow_unsafe) {
		if (!c->warned)
			log_warn("cluster", "%s (redis.allow-unsafe is set: acknowledged work may be lost)", why);
		c->warned = true;
	} else if (e != ERR_OK) {
		refuse(c, e, why);
		return;
	}
	snprintf(c->run_id, sizeof c->run_id, "%s", run_id);
	if (c->known_epoch == 0)
		(void)rds_command(c->rds, 0, on_clients, c, (struct rds_arg[]){ RDS_Z("CLIENT"), RDS_Z("LIST") }, 2);
	else
		say_hello(c, false);
}

static void
hello(struct cluster *c)
{
	loop_timer_cancel(&c->again);
	set_state(c, CLUSTER_HELLO);
	cluster_inspect(c, on_inspected);
}

static void
on_again(void *arg)
{
	struct cluster *c = arg;

	if (c->state == CLUSTER_REFUSED)
		hello(c);
}

static void
on_lost(void *arg)
{
	struct cluster *c = arg;

	if (c->state != CLUSTER_UP)
		return;
	log_warn("cluster", "Redis is not in epoch %llu any more", (unsigned long long)c->epoch);
	err_set(&c->why, ERR_EPOCH, "%s", err_text(ERR_EPOCH));
	hello(c);
	c->cb.down(c->arg);
}

static void
on_state(void *arg, bool up)
{
	struct cluster *c = arg;
	bool was_up = c->state == CLUSTER_UP;

	if (up) {
		hello(c);
		return;
	}
	loop_timer_cancel(&c->again);
	set_state(c, CLUSTER_DOWN);
	err_set(&c->why, ERR_CONNECT, "%s", rds_why(c->rds));
	if (was_up)
		c->cb.down(c->arg);
}

/* The rest. */

void
cluster_know(struct cluster *c, uint64_t epoch, uint64_t gen)
{
	if (epoch > c->known_epoch)
		c->known_epoch = epoch;
	if (gen > c->known_gen)
		c->known_gen = gen;
}

void
cluster_rds_opts(const struct cluster *c, struct rds_opts *o)
{
	*o = (struct rds_opts){ .address = c->address, .db = c->db, .user = c->user, .password = c->password, .timeout_ms = c->timeout_ms };
}

struct cluster *
cluster_new(struct loop *l, const struct conf *conf, const char *role, const char *id, const struct cluster_cb *cb, void *arg)
{
	struct cluster *c = mem_zalloc(sizeof *c);
	struct rds_opts o;

	c->loop = l;
	c->cb = *cb;
	c->arg = arg;
	c->role = mem_strdup(role);
	c->id = mem_strdup(id);
	c->site = mem_strdup(conf->site);
	c->address = mem_strdup(conf->redis_address);
	c->user = mem_strdup(conf->redis_user);
	c->password = mem_strdup(conf->redis_password);
	c->db = (int)conf->redis_db;
	c->timeout_ms = conf->redis_timeout;
	c->lease_ms = conf->lease;
	c->limit_ms = conf->r2_request_limit;
	c->allow_unsafe = conf->redis_allow_unsafe;
	err_set(&c->why, ERR_CONNECT, "not connected yet");
	list_init(&c->calls);
	list_init(&c->inspects);
	loop_timer_init(&c->again, l, on_again, c);
	cluster_beat_init(c);
	loop_call_init(&c->lost, l, on_lost, c);
	cluster_rds_opts(c, &o);
	o.state = on_state;
	o.arg = c;
	c->rds = rds_new(l, &o);
	return c;
}

void
cluster_free(struct cluster **cp)
{
	struct cluster *c = *cp;

	if (c == NULL)
		return;
	*cp = NULL;
	cluster_call_fini(c);
	rds_free(&c->rds);
	cluster_inspect_fini(c);
	cluster_beat_fini(c);
	loop_timer_fini(&c->again);
	loop_call_cancel(&c->lost);
	metrics_set(METRIC_REDIS_UP, NULL, 0);
	mem_free(c->role);
	mem_free(c->id);
	mem_free(c->site);
	mem_free(c->address);
	mem_free(c->user);
	if (c->password != NULL)
		mem_wipe_free(c->password, strlen(c->password));
	mem_free(c);
}

bool
cluster_up(const struct cluster *c)
{
	return c->state == CLUSTER_UP;
}

const char *
cluster_why(const struct cluster *c)
{
	/* While it connects the connection knows better. */
	return c->state == CLUSTER_DOWN ? rds_why(c->rds) : c->why.text;
}

uint64_t
cluster_epoch(const struct cluster *c)
{
	return c->epoch;
}

struct rds *
cluster_rds(struct cluster *c)
{
	return c->rds;
}

struct loop *
cluster_loop(struct cluster *c)
{
	return c->loop;
}

const char *
cluster_id(const struct cluster *c)
{
	return c->id;
}

uint64_t
cluster_lease_ms(const struct cluster *c)
{
	return c->lease_ms;
}

uint64_t
cluster_limit_ms(const struct cluster *c)
{
	return c->limit_ms;
}

uint64_t
cluster_timeout_ms(const struct cluster *c)
{
	return c->timeout_ms;
}
