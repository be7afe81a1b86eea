#include "coord/cluster.h"

#include <string.h>

#include <hiredis/hiredis.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "coord/keys.h"
#include "coord/lua.h"

enum {
	BEAT_MS = 1000,
	AGAIN_MS = 1000		/* a hello that failed while Redis answers is said again */
};

enum cluster_state {
	CLUSTER_DOWN,		/* no connection */
	CLUSTER_HELLO,		/* connected; asking what Redis is and which epoch it has */
	CLUSTER_REFUSED,	/* connected, but not usable: `why` says it; asked again by and by */
	CLUSTER_UP
};

/* What Redis says of itself. */
struct inspect {
	struct list node;
	struct cluster *c;
	char run_id[48], policy[32];
	bool aof;
	void (*done)(struct inspect *i, enum err e, const char *why);
	void (*user)(void *arg, enum err e, const char *text);	/* preflight's */
	void *arg;
};

struct cluster_call {
	struct list node;
	struct cluster *c;
	struct rds_call *rds;	/* NULL: it fails by itself */
	struct loop_call fail;
	rds_cb *cb;
	void *arg, *ctx;
};

struct cluster {
	struct loop *loop;
	struct rds *rds;
	struct cluster_cb cb;
	void *arg;
	char *site, *role, *id, *address, *user, *password;
	int db;
	uint64_t timeout_ms, lease_ms, limit_ms;
	bool allow_unsafe, warned;

	enum cluster_state state;
	struct errbuf why;
	uint64_t epoch, told;		/* now, and the last one that up() was called with */
	uint64_t known_epoch, known_gen;
	enum cluster_armed armed;	/* by Redis's last word */
	uint64_t armed_ms, committed;
	struct members members;
	char run_id[48];
	struct loop_timer again;
	struct loop_call lost;		/* a script found another epoch */
	struct list calls, inspects;

	struct loop_timer beat;
	struct cluster_call *beating;
	uint64_t beaten_ms;		/* when Redis last took one, by the monotonic clock; 0: never */
	char *json;
	bool must_announce, announced, left;
};

static void hello(struct cluster *c);

/* What the scripts' armed() says. */
static void
set_armed(struct cluster *c, const struct redisReply *r)
{
	if (r->type != REDIS_REPLY_INTEGER)
		return;
	c->armed = r->integer > 0 ? CLUSTER_ARMED : r->integer == 0 ? CLUSTER_UNARMED : CLUSTER_UNKNOWN;
	c->armed_ms = r->integer > 0 ? (uint64_t)r->integer : 0;
}

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

void
cluster_key(const struct cluster *c, const char *name, struct str *out)
{
	str_printf(out, KEYS_PREFIX "%s", c->site, name);
}

/* The names as keys, in one buffer that the caller frees after use. */
static struct rds_arg *
full_keys(const struct cluster *c, const char *const *names, size_t n, struct str *buf)
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

/* Scripts. */

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
	keys = full_keys(c, names, nkeys, &buf);
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

/* What Redis is. */

static void
info_field(const struct redisReply *r, const char *name, char *out, size_t cap)
{
	size_t n = strlen(name), len;
	const char *p = r->str;

	out[0] = '\0';
	while ((p = strstr(p, name)) != NULL) {
		if ((p == r->str || p[-1] == '\n') && p[n] == ':') {
			p += n + 1;
			len = strcspn(p, "\r\n");
			if (len >= cap)
				len = cap - 1;
			memcpy(out, p, len);
			out[len] = '\0';
			return;
		}
		p += n;
	}
}

static void
inspect_end(struct inspect *i, enum err e, const char *why)
{
	list_del(&i->node);
	i->done(i, e, why);
	mem_free(i);
}

static void
inspect_judge(struct inspect *i, bool persists)
{
	struct errbuf why;

	if (strcmp(i->policy, "noeviction") != 0)
		inspect_end(i, err_set(&why, ERR_STATE, "Redis: maxmemory-policy is %s: set it to noeviction", i->policy), why.text);
	else if (!persists)
		inspect_end(i, err_set(&why, ERR_STATE, "Redis does not persist: set appendonly yes (or save)"), why.text);
	else
		inspect_end(i, ERR_OK, "");
}

static void
on_save(void *arg, enum err e, const struct redisReply *r)
{
	struct inspect *i = arg;

	if (e == ERR_PROTO && r != NULL)	/* forbidden: what cannot be seen is not there */
		inspect_judge(i, false);
	else if (e != ERR_OK)
		inspect_end(i, e, err_text(e));
	else
		inspect_judge(i, r->type == REDIS_REPLY_ARRAY && r->elements == 2 && r->element[1]->len > 0);
}

static void
on_info(void *arg, enum err e, const struct redisReply *r)
{
	struct inspect *i = arg;
	char aof[8];

	if (e != ERR_OK || r->type != REDIS_REPLY_STRING) {
		inspect_end(i, e != ERR_OK ? e : ERR_PROTO, r != NULL && r->str != NULL ? r->str : err_text(e));
		return;
	}
	info_field(r, "run_id", i->run_id, sizeof i->run_id);
	info_field(r, "maxmemory_policy", i->policy, sizeof i->policy);
	info_field(r, "aof_enabled", aof, sizeof aof);
	if (i->run_id[0] == '\0')
		inspect_end(i, ERR_PROTO, "Redis does not tell its run_id");
	else if (strcmp(aof, "1") == 0)
		inspect_judge(i, true);
	else
		(void)rds_command(i->c->rds, 0, on_save, i, (struct rds_arg[]){ RDS_Z("CONFIG"), RDS_Z("GET"), RDS_Z("save") }, 3);
}

static struct inspect *
inspect(struct cluster *c, void (*done)(struct inspect *i, enum err e, const char *why))
{
	struct inspect *i = mem_zalloc(sizeof *i);

	i->c = c;
	i->done = done;
	list_add_tail(&c->inspects, &i->node);
	(void)rds_command(c->rds, 0, on_info, i, (struct rds_arg[]){ RDS_Z("INFO") }, 1);
	return i;
}

static void
preflight_done(struct inspect *i, enum err e, const char *why)
{
	i->user(i->arg, e, why);
}

void
cluster_preflight(struct cluster *c, void (*done)(void *arg, enum err e, const char *text), void *arg)
{
	struct inspect *i = inspect(c, preflight_done);

	i->user = done;
	i->arg = arg;
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

	if (e != ERR_OK || r->type != REDIS_REPLY_ARRAY || r->elements != 2 || r->element[0]->type != REDIS_REPLY_STRING ||
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
	set_armed(c, r->element[1]);
	cluster_know(c, epoch, 0);
	c->why.text[0] = '\0';
	set_state(c, CLUSTER_UP);
	loop_timer_set(&c->beat, 0);
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
	keys = full_keys(c, lua_hello.keys, lua_hello.nkeys, &buf);
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
hello_inspected(struct inspect *i, enum err e, const char *why)
{
	struct cluster *c = i->c;

	if (e == ERR_STATE && c->allow_unsafe) {
		if (!c->warned)
			log_warn("cluster", "%s (redis.allow-unsafe is set: acknowledged work may be lost)", why);
		c->warned = true;
	} else if (e != ERR_OK) {
		refuse(c, e, why);
		return;
	}
	memcpy(c->run_id, i->run_id, sizeof c->run_id);
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
	(void)inspect(c, hello_inspected);
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

/* Heartbeats. */

static void
on_beaten(void *arg, enum err e, const struct redisReply *r)
{
	struct cluster *c = *(struct cluster **)arg;

	c->beating = NULL;
	if (e != ERR_OK || r->type != REDIS_REPLY_ARRAY || r->elements != 3)
		return;
	set_armed(c, r->element[0]);
	if (r->element[1]->type == REDIS_REPLY_INTEGER && r->element[1]->integer > 0)
		c->committed = (uint64_t)r->element[1]->integer;
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
cluster_heartbeat(struct cluster *c, const char *json)
{
	bool first = c->json == NULL;

	mem_free(c->json);
	c->json = mem_strdup(json);
	if (first && c->state == CLUSTER_UP)
		loop_timer_set(&c->beat, 0);
}

void
cluster_beat_now(struct cluster *c)
{
	if (c->state == CLUSTER_UP)
		loop_timer_set(&c->beat, 0);
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
	if (c->state == CLUSTER_UP)
		loop_timer_set(&c->beat, 0);
}

struct leaving {
	void (*done)(void *arg);
	void *arg;
};

static void
on_left(void *arg, enum err e, const struct redisReply *r)
{
	const struct leaving *v = arg;

	(void)e;
	(void)r;
	if (v->done != NULL)
		v->done(v->arg);
}

void
cluster_leave(struct cluster *c, void (*done)(void *arg), void *arg)
{
	struct leaving v = { done, arg };

	c->left = true;
	cluster_run(c, &lua_leave, on_left, mem_dup(&v, sizeof v), (struct rds_arg[]){ RDS_Z(c->id) }, 1);
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
	c->announced = true;
	c->armed = CLUSTER_UNKNOWN;
	err_set(&c->why, ERR_CONNECT, "not connected yet");
	list_init(&c->calls);
	list_init(&c->inspects);
	loop_timer_init(&c->again, l, on_again, c);
	loop_timer_init(&c->beat, l, on_beat, c);
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
	struct list *it, *nxt;

	if (c == NULL)
		return;
	*cp = NULL;
	while (!list_empty(&c->calls)) {
		struct cluster_call *call = LIST_FIRST(&c->calls, struct cluster_call, node);

		cluster_cancel(&call);
	}
	LIST_FOREACH(it, nxt, &c->inspects)
		mem_free(LIST_ENTRY(it, struct inspect, node));
	rds_free(&c->rds);
	members_fini(&c->members);
	loop_timer_fini(&c->again);
	loop_timer_fini(&c->beat);
	loop_call_cancel(&c->lost);
	metrics_set(METRIC_REDIS_UP, NULL, 0);
	mem_free(c->json);
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
