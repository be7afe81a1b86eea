#include "coord/run.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "coord/keys.h"
#include "coord/lua.h"
#include "coord/phase.h"
#include "io/rds.h"

const char *
run_state_name(enum run_state s)
{
	static const char *const names[] = {
		[RUN_IDLE] = "idle",
		[RUN_FEEDING] = "feeding",
		[RUN_FED] = "fed",
		[RUN_STOPPED] = "stopped",
		[RUN_COMPLETE] = "complete",
	};

	return names[s];
}

static void
texts_free(char **v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		mem_free(v[i]);
	mem_free(v);
}

static char **
texts_copy(const struct redisReply *r, size_t *n)
{
	char **v = mem_calloc(r->elements + 1, sizeof(*v));

	for (*n = 0; *n < r->elements; (*n)++)
		v[*n] = mem_strndup(r->element[*n]->str, r->element[*n]->len);
	return v;
}

void
run_fini(struct run *r)
{
	mem_free(r->cursor);
	mem_free(r->verify);
	texts_free(r->member_json, r->nmember_json);
	texts_free(r->worker_json, r->nworkers);
	members_fini(&r->members);
	memset(r, 0, sizeof(*r));
}

/* The hash's number fields and where they go. */
static const struct {
	const char *name;
	size_t offset;
} run_fields[] = {
	{"id", offsetof(struct run, id)},
	{"started", offsetof(struct run, started_ms)},
	{"finished", offsetof(struct run, finished_ms)},
	{"files", offsetof(struct run, files)},
	{"bytes", offsetof(struct run, bytes)},
	{"all", offsetof(struct run, all)},
	{"queued", offsetof(struct run, queued)},
	{"skipped", offsetof(struct run, skipped)},
	{"copied", offsetof(struct run, copied)},
	{"copied-bytes", offsetof(struct run, copied_bytes)},
	{"equal", offsetof(struct run, equal)},
	{"deleted", offsetof(struct run, deleted)},
	{"failed", offsetof(struct run, failed)},
	{"unholdable", offsetof(struct run, unholdable)},
	{"symlinks", offsetof(struct run, symlinks)},
	{"specials", offsetof(struct run, specials)},
	{"walk-errors", offsetof(struct run, walk_errors)},
	{"census-found", offsetof(struct run, census_found)},
	{"census-marked", offsetof(struct run, census_marked)},
	{KEYS_SITE_LEFT_PASSTHROUGH, offsetof(struct run, left_passthrough_ms)},
	{KEYS_SITE_LAST_FALLBACK, offsetof(struct run, last_fallback_ms)},
	{KEYS_SITE_CENSUS_DUE, offsetof(struct run, census_due_ms)},
	{KEYS_SITE_CENSUS_DONE, offsetof(struct run, census_done_ms)},
	{KEYS_SITE_ARMED, offsetof(struct run, armed_ms)},
	{KEYS_SITE_COMMITTED, offsetof(struct run, committed_ms)},
	{KEYS_SITE_LAST_DISK_WRITE, offsetof(struct run, last_disk_write_ms)},
};

static void
field_set(struct run *r, const char *name, size_t len, const char *value, size_t vlen)
{
	uint64_t v;

	if (str_slice_eq(name, len, "state")) {
		for (int s = RUN_IDLE; s <= RUN_COMPLETE; s++)
			if (str_slice_eq(value, vlen, run_state_name((enum run_state)s)))
				r->state = (enum run_state)s;
	} else if (str_slice_eq(name, len, "cursor") && vlen > 0) {
		mem_free(r->cursor);
		r->cursor = mem_strndup(value, vlen);
		r->cursor_len = vlen;
	} else if (str_to_u64(value, vlen, &v)) {
		for (size_t i = 0; i < sizeof(run_fields) / sizeof(run_fields[0]); i++)
			if (str_slice_eq(name, len, run_fields[i].name))
				memcpy((char *)r + run_fields[i].offset, &v, sizeof(v));
	}
}

struct getting {
	struct run run;
	void (*done)(void *arg, enum err e, const struct run *r);
	void *arg;
};

static void
got_cb(void *arg, enum err e, const struct redisReply *r)
{
	struct getting *g = arg;

	/* {run-state as pairs, site as pairs, feeder, heartbeats, verify, migrators, members, time, quarantine} */
	if (e == ERR_OK && (r->type != REDIS_REPLY_ARRAY || r->elements != 9 || !members_read(&g->run.members, r->element[6])))
		e = ERR_PROTO;
	for (size_t h = 0; e == ERR_OK && h < 2; h++) {
		const struct redisReply *hash = r->element[h];

		for (size_t i = 0; i + 1 < hash->elements; i += 2)
			field_set(&g->run, hash->element[i]->str, hash->element[i]->len, hash->element[i + 1]->str, hash->element[i + 1]->len);
	}
	if (e == ERR_OK) {
		snprintf(g->run.feeder, sizeof(g->run.feeder), "%s", r->element[2]->str);
		g->run.member_json = texts_copy(r->element[3], &g->run.nmember_json);
		g->run.worker_json = texts_copy(r->element[5], &g->run.nworkers);
		if (r->element[4]->len > 0)
			g->run.verify = mem_strndup(r->element[4]->str, r->element[4]->len);
		g->run.now_ms = (uint64_t)r->element[7]->integer;
		g->run.quarantine_ms = (uint64_t)r->element[8]->integer;
	}
	g->run.phase_low = members_low(&g->run.members);
	g->run.phase_high = members_high(&g->run.members);
	g->done(g->arg, e, &g->run);
	run_fini(&g->run);
}

void
run_get(struct cluster *c, void (*done)(void *arg, enum err e, const struct run *r), void *arg)
{
	struct getting g = {.done = done, .arg = arg};

	(void)cluster_run(c, &lua_run_get, got_cb, mem_dup(&g, sizeof(g)), NULL, 0);
}

struct setting {
	void (*done)(void *arg, enum err e);
	void *arg;
};

static void
set_cb(void *arg, enum err e, const struct redisReply *r)
{
	struct setting *s = arg;

	if (e == ERR_OK && r->type == REDIS_REPLY_INTEGER && r->integer == 0)
		e = ERR_STATE;
	s->done(s->arg, e);
}

static void
set_state(struct cluster *c, const char *verb, uint64_t id, void (*done)(void *arg, enum err e), void *arg)
{
	struct setting s = {done, arg};
	char num[24];
	struct rds_arg args[2];

	snprintf(num, sizeof(num), "%llu", (unsigned long long)id);
	args[0] = RDS_Z(verb);
	args[1] = RDS_Z(num);
	(void)cluster_run(c, &lua_run_set, set_cb, mem_dup(&s, sizeof(s)), args, 2);
}

void
run_start(struct cluster *c, bool all, void (*done)(void *arg, enum err e), void *arg)
{
	set_state(c, "start", all, done, arg);
}

void
run_stop(struct cluster *c, void (*done)(void *arg, enum err e), void *arg)
{
	set_state(c, "stop", 0, done, arg);
}

void
run_fed(struct cluster *c, uint64_t id, void (*done)(void *arg, enum err e), void *arg)
{
	set_state(c, "fed", id, done, arg);
}

void
run_complete(struct cluster *c, uint64_t id, void (*done)(void *arg, enum err e), void *arg)
{
	set_state(c, "complete", id, done, arg);
}

static void
ignore_cb(void *arg, enum err e, const struct redisReply *r)
{
	(void)arg;
	(void)e;
	(void)r;
}

/* HINCRBY or HSET of a field of a hash; nobody waits. */
static void
hash_command(struct cluster *c, const char *verb, const char *hash, const char *field, const void *value, size_t len)
{
	struct str key = STR_INIT;
	struct rds_arg argv[4];

	cluster_key(c, hash, &key);
	argv[0] = RDS_Z(verb);
	argv[1] = RDS_B(key.p, key.len);
	argv[2] = RDS_Z(field);
	argv[3] = RDS_B(value, len);
	(void)rds_command(cluster_rds(c), 0, ignore_cb, NULL, argv, 4);
	str_fini(&key);
}

void
run_count(struct cluster *c, const char *field, uint64_t n)
{
	char num[24];

	snprintf(num, sizeof(num), "%llu", (unsigned long long)n);
	hash_command(c, "HINCRBY", KEYS_RUNSTATE, field, num, strlen(num));
}

void
run_cursor(struct cluster *c, const char *key, size_t klen)
{
	hash_command(c, "HSET", KEYS_RUNSTATE, "cursor", key, klen);
}

void
run_note(struct cluster *c, const char *site_field, uint64_t value)
{
	char num[24];

	snprintf(num, sizeof(num), "%llu", (unsigned long long)value);
	hash_command(c, "HSET", KEYS_SITE, site_field, num, strlen(num));
}

void
run_disk_write(struct cluster *c)
{
	if (cluster_armed(c, NULL) == CLUSTER_ARMED)
		run_note(c, KEYS_SITE_LAST_DISK_WRITE, clock_real_ms());
}

static void
stored_cb(void *arg, enum err e, const struct redisReply *r)
{
	struct setting *s = arg;

	(void)r;
	s->done(s->arg, e);
	mem_free(s);
}

void
run_verified(struct cluster *c, const char *json, void (*done)(void *arg, enum err e), void *arg)
{
	struct setting *s = mem_zalloc(sizeof(*s));
	struct str key = STR_INIT;
	struct rds_arg argv[3];

	s->done = done;
	s->arg = arg;
	cluster_key(c, KEYS_VERIFY, &key);
	argv[0] = RDS_Z("SET");
	argv[1] = RDS_B(key.p, key.len);
	argv[2] = RDS_Z(json);
	(void)rds_command(cluster_rds(c), 0, stored_cb, s, argv, 3);
	str_fini(&key);
}

struct arming {
	void (*done)(void *arg, enum err e, uint64_t since_ms, const char *below);
	void *arg;
};

static void
armed_cb(void *arg, enum err e, const struct redisReply *r)
{
	const struct arming *a = arg;
	struct str below = STR_INIT;
	uint64_t since = 0;

	if (e == ERR_OK && (r->type != REDIS_REPLY_ARRAY || r->elements != 2 || r->element[1]->type != REDIS_REPLY_ARRAY))
		e = ERR_PROTO;
	if (e == ERR_OK) {
		since = (uint64_t)r->element[0]->integer;
		for (size_t i = 0; i < r->element[1]->elements; i++)
			str_printf(&below, "%s%s", i > 0 ? ", " : "", r->element[1]->element[i]->str);
	}
	a->done(a->arg, e, since, str_z(&below));
	str_fini(&below);
}

void
run_arm(struct cluster *c, void (*done)(void *arg, enum err e, uint64_t since_ms, const char *below), void *arg)
{
	struct arming a = {done, arg};

	(void)cluster_run(c, &lua_arm, armed_cb, mem_dup(&a, sizeof(a)), (struct rds_arg[]){RDS_Z("ask")}, 1);
}

static void
forgot_cb(void *arg, enum err e, const struct redisReply *r)
{
	const struct setting *s = arg;

	if (e == ERR_OK && (r->type != REDIS_REPLY_INTEGER || r->integer <= 0))
		e = r->type == REDIS_REPLY_INTEGER && r->integer < 0 ? ERR_BUSY : ERR_NOTFOUND;
	s->done(s->arg, e);
}

void
run_forget(struct cluster *c, const char *id, bool force, uint64_t silent_ms, void (*done)(void *arg, enum err e), void *arg)
{
	struct setting s = {done, arg};
	char num[24];

	snprintf(num, sizeof(num), "%llu", (unsigned long long)silent_ms);
	(void)cluster_run(c, &lua_member_forget, forgot_cb, mem_dup(&s, sizeof(s)),
	    (struct rds_arg[]){RDS_Z(id), RDS_Z(force ? "1" : "0"), RDS_Z(num)}, 3);
}

struct locking {
	void (*done)(void *arg, bool ours);
	void *arg;
};

static void
locked_cb(void *arg, enum err e, const struct redisReply *r)
{
	struct locking *k = arg;

	k->done(k->arg, e == ERR_OK && r->type == REDIS_REPLY_INTEGER && r->integer == 1);
}

void
run_feeder(struct cluster *c, uint64_t ms, void (*done)(void *arg, bool ours), void *arg)
{
	struct locking k = {done, arg};
	struct rds_arg args[2];
	char num[24];

	snprintf(num, sizeof(num), "%llu", (unsigned long long)ms);
	args[0] = RDS_Z(cluster_id(c));
	args[1] = RDS_Z(num);
	(void)cluster_run(c, &lua_run_feeder, locked_cb, mem_dup(&k, sizeof(k)), args, 2);
}
