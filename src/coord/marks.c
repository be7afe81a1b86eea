#include "coord/marks.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/trip.h"
#include "coord/keys.h"
#include "coord/lua.h"

enum { MANY_MAX = 500 };

static struct rds_arg
number(struct str *buf, uint64_t n)
{
	str_clear(buf);
	str_printf(buf, "%llu", (unsigned long long)n);
	return RDS_B(buf->p, buf->len);
}

/* An intent's name among all members': "member/intent", "" for none. */
static struct rds_arg
intent_name(struct str *buf, const struct cluster *c, uint64_t id)
{
	if (id == 0)
		return RDS_B("", 0);
	str_printf(buf, "%s/%llu", cluster_id(c), (unsigned long long)id);
	return RDS_B(buf->p, buf->len);
}

static struct rds_arg
op_arg(enum mark_op op)
{
	return op == MARK_DELETE ? RDS_Z("d") : RDS_Z("p");
}

static struct rds_arg
side_arg(enum mark_side side)
{
	return side == MARK_R2 ? RDS_Z("r") : RDS_Z("l");
}

/* Words that sep divides, `most` at the most; how many there are. */
static size_t
split(const char *p, size_t n, char sep, const char **word, size_t *len, size_t most)
{
	const char *end = p + n;
	size_t k = 0;

	while (k < most) {
		const char *next = k + 1 < most ? memchr(p, sep, (size_t)(end - p)) : NULL;

		word[k] = p;
		len[k++] = (size_t)((next != NULL ? next : end) - p);
		if (next == NULL)
			break;
		p = next + 1;
	}
	return k;
}

const char *
marks_base_text(const struct mark_base *b, char buf[MARK_BASE_MAX])
{
	const char *doubt = b->unconfirmed ? "?" : "";

	if (!b->known)
		buf[0] = '\0';
	else if (!b->exists)
		snprintf(buf, MARK_BASE_MAX, "%s-", doubt);
	else
		snprintf(buf, MARK_BASE_MAX, "%s%" PRIu64 ".%" PRIu64 ".%" PRId64 ".%" PRId64, doubt, b->ino & INT64_MAX, b->size, b->mtime_ns, b->ctime_ns);
	return buf;
}

static bool
to_i64(const char *p, size_t n, int64_t *out)
{
	bool minus = n > 0 && *p == '-';
	uint64_t u;

	if (!str_to_u64(p + minus, n - minus, &u) || u > INT64_MAX)
		return false;
	*out = minus ? -(int64_t)u : (int64_t)u;
	return true;
}

bool
marks_base_parse(const char *p, size_t n, struct mark_base *b)
{
	const char *word[4];
	size_t len[4];

	*b = (struct mark_base){ .known = n > 0 };
	b->unconfirmed = n > 0 && *p == '?';
	p += b->unconfirmed;
	n -= b->unconfirmed;
	if (n == 0)
		return !b->unconfirmed;
	if (n == 1 && *p == '-')
		return true;
	b->exists = true;
	return split(p, n, '.', word, len, 4) == 4 && str_to_u64(word[0], len[0], &b->ino) && str_to_u64(word[1], len[1], &b->size) &&
	    to_i64(word[2], len[2], &b->mtime_ns) && to_i64(word[3], len[3], &b->ctime_ns);
}

bool
marks_base_same(const struct mark_base *a, const struct mark_base *b)
{
	if (!a->known || !b->known || a->exists != b->exists)
		return false;
	return !a->exists || ((a->ino & INT64_MAX) == (b->ino & INT64_MAX) && a->size == b->size && a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns);
}

bool
marks_parse(const char *p, size_t n, struct mark *m)
{
	const char *word[6];
	size_t len[6], k = split(p, n, ' ', word, len, 6);

	*m = (struct mark){ .gen = 0 };
	if (k < 5 || len[1] != 1 || len[2] != 1 || !str_to_u64(word[3], len[3], &m->since_ms) || !str_to_u64(word[4], len[4], &m->epoch))
		return false;
	m->side = *word[1] == 'r' ? MARK_R2 : MARK_LOCAL;
	m->op = *word[2] == 'd' ? MARK_DELETE : MARK_PUT;
	if (m->side == MARK_LOCAL ? k > 5 : k < 6 || !marks_base_parse(word[5], len[5], &m->base) || !m->base.known)
		return false;
	return str_to_u64(word[0], len[0], &m->gen);
}

/* Scripts whose reply is the text of a mark. */

struct set_ctx {
	marks_set_done *done;
	void *arg;
};

static void
on_mark(void *arg, enum err e, const struct redisReply *r)
{
	const struct set_ctx *x = arg;
	struct mark m = { .gen = 0 };

	if (e == ERR_OK && r->type == REDIS_REPLY_INTEGER)
		e = ERR_LEASE_LOST;
	else if (e == ERR_OK && (r->type != REDIS_REPLY_STRING || (r->len > 0 && !marks_parse(r->str, (size_t)r->len, &m))))
		e = ERR_PROTO;
	if (x->done != NULL)
		x->done(x->arg, e, &m);
}

static void *
set_ctx(marks_set_done *done, void *arg)
{
	struct set_ctx x = { done, arg };

	return mem_dup(&x, sizeof x);
}

struct cluster_call *
marks_intent(struct cluster *c, uint64_t id, const char *key, size_t klen, struct mark_write w, uint64_t deadline_ms, marks_done *done,
    void *arg)
{
	struct str name = STR_INIT, ms = STR_INIT;
	char base[MARK_BASE_MAX];
	struct cluster_call *call;

	call = cluster_do(c, &lua_intent_open, (struct rds_arg[]){ intent_name(&name, c, id), RDS_B(key, klen), op_arg(w.op), side_arg(w.side),
		RDS_Z(marks_base_text(&w.base, base)), number(&ms, deadline_ms) }, 6, done, arg);
	str_fini(&name);
	str_fini(&ms);
	return call;
}

struct cluster_call *
marks_abandon(struct cluster *c, uint64_t intent, marks_done *done, void *arg)
{
	struct str name = STR_INIT;
	struct cluster_call *call;

	call = cluster_do(c, &lua_intent_close, (struct rds_arg[]){ intent_name(&name, c, intent) }, 1, done, arg);
	str_fini(&name);
	return call;
}

static struct cluster_call *
set_one(struct cluster *c, uint64_t intent, const char *key, size_t klen, const struct mark_write *w, bool known, uint64_t due_ms,
    const struct lease *l, bool drop, marks_set_done *done, void *arg)
{
	struct str name = STR_INIT, ms = STR_INIT;
	char base[MARK_BASE_MAX];
	struct cluster_call *call;
	struct rds_arg op = known ? op_arg(w->op) : w->op == MARK_DELETE ? RDS_Z("D") : RDS_Z("P");

	call = cluster_run(c, &lua_mark_set, on_mark, set_ctx(done, arg), (struct rds_arg[]){ number(&ms, due_ms), intent_name(&name, c, intent),
		RDS_Z(l != NULL ? l->token : ""), RDS_Z(drop ? "1" : "0"), RDS_B(key, klen), op, side_arg(w->side),
		RDS_Z(marks_base_text(&w->base, base)) }, 8);
	str_fini(&name);
	str_fini(&ms);
	return call;
}

struct cluster_call *
marks_set(struct cluster *c, uint64_t intent, const char *key, size_t klen, struct mark_write w, uint64_t due_ms, const struct lease *l,
    marks_set_done *done, void *arg)
{
	return set_one(c, intent, key, klen, &w, true, due_ms, l, true, done, arg);
}

struct cluster_call *
marks_set_held(struct cluster *c, const char *key, size_t klen, struct mark_write w, uint64_t due_ms, const struct lease *l, marks_set_done *done,
    void *arg)
{
	return set_one(c, 0, key, klen, &w, true, due_ms, l, false, done, arg);
}

struct cluster_call *
marks_set_unknown(struct cluster *c, uint64_t intent, const char *key, size_t klen, struct mark_write w, marks_set_done *done, void *arg)
{
	return set_one(c, intent, key, klen, &w, false, 0, NULL, false, done, arg);
}

struct census_ctx {
	void (*done)(void *arg, enum err e, uint64_t busy);
	void *arg;
};

static void
on_census(void *arg, enum err e, const struct redisReply *r)
{
	const struct census_ctx *x = arg;

	if (e == ERR_OK && r->type != REDIS_REPLY_INTEGER)
		e = ERR_PROTO;
	x->done(x->arg, e, e == ERR_OK ? (uint64_t)r->integer : 0);
}

struct cluster_call *
marks_census(struct cluster *c, const struct marks_key *v, size_t n, void (*done)(void *arg, enum err e, uint64_t busy), void *arg)
{
	struct rds_arg args[MANY_MAX];
	struct census_ctx x = { done, arg };

	ASSERT(n > 0 && 2 * n <= MANY_MAX);
	for (size_t i = 0; i < n; i++) {
		args[2 * i] = RDS_B(v[i].key, v[i].klen);
		args[2 * i + 1] = side_arg(v[i].side);
	}
	return cluster_run(c, &lua_mark_census, on_census, mem_dup(&x, sizeof x), args, 2 * n);
}

struct cluster_call *
marks_announce(struct cluster *c, const char *key, size_t klen, const struct mark *m, marks_set_done *done, void *arg)
{
	struct str gen = STR_INIT, since = STR_INIT;
	char base[MARK_BASE_MAX];
	struct cluster_call *call;

	call = cluster_run(c, &lua_mark_announce, on_mark, set_ctx(done, arg), (struct rds_arg[]){ RDS_B(key, klen), number(&gen, m->gen),
		side_arg(m->side), op_arg(m->op), number(&since, m->since_ms), RDS_Z(marks_base_text(&m->base, base)) }, 6);
	str_fini(&gen);
	str_fini(&since);
	return call;
}

struct cluster_call *
marks_get(struct cluster *c, const char *key, size_t klen, marks_set_done *done, void *arg)
{
	return cluster_run(c, &lua_mark_get, on_mark, set_ctx(done, arg), (struct rds_arg[]){ RDS_B(key, klen) }, 1);
}

/* Leases. */

/* How long after a lease's end its holder's last request may still be on the wire. */
static uint64_t
wire_ms(const struct cluster *c)
{
	return TRIP_MUTANT("no-quarantine") ? 0 : cluster_limit_ms(c);
}

struct lease_ctx {
	struct cluster *c;
	marks_lease_done *done;
	void *arg;
	bool cancelled;
	struct lease lease;
	size_t klen;
	char key[];
};

uint64_t
marks_lease_until(const struct cluster *c)
{
	uint64_t ms = cluster_lease_ms(c);

	/* The margin is for clocks that run at different speeds, and for a request that is being cut. */
	return clock_mono_ms() + ms - ms / 5;
}

static void
on_lease(void *arg, enum err e, const struct redisReply *r)
{
	struct lease_ctx *x = arg;
	bool given = false;

	if (e == ERR_OK && r->type == REDIS_REPLY_STRING) {
		e = r->len == 1 && r->str[0] == 'Q' ? ERR_QUARANTINE : ERR_BUSY;
	} else if (e == ERR_OK) {
		given = r->type == REDIS_REPLY_ARRAY && r->elements == 3 && r->element[1]->type == REDIS_REPLY_STRING;
		if (!given)
			e = ERR_PROTO;
	}
	if (given) {
		x->lease.epoch = cluster_epoch(x->c);
		x->lease.takeover = r->element[0]->integer != 0;
		x->lease.open = r->element[2]->integer > 0;
		if (r->element[1]->len > 0 && !marks_parse(r->element[1]->str, (size_t)r->element[1]->len, &x->lease.seen))
			e = ERR_PROTO;
	}
	if (given && (x->cancelled || e != ERR_OK))
		marks_drop(x->c, x->key, x->klen, &x->lease, NULL, NULL);
	if (!x->cancelled)
		x->done(x->arg, e, &x->lease);
}

struct cluster_call *
marks_lease(struct cluster *c, const char *key, size_t klen, marks_lease_done *done, void *arg)
{
	struct lease_ctx *x = mem_zalloc(sizeof *x + klen);
	struct str hex = STR_INIT, ms = STR_INIT, limit = STR_INIT;
	struct cluster_call *call;
	uint8_t token[16];

	digest_random(token, sizeof token);
	str_add_hex(&hex, token, sizeof token);
	memcpy(x->lease.token, hex.p, sizeof x->lease.token);
	x->c = c;
	x->done = done;
	x->arg = arg;
	x->klen = klen;
	memcpy(x->key, key, klen);
	/* Reckoned from before the request is sent: Redis's own begins later. */
	x->lease.until_mono_ms = marks_lease_until(c);
	call = cluster_run(c, &lua_lease, on_lease, x, (struct rds_arg[]){ RDS_B(key, klen), { hex.p, hex.len }, number(&ms, cluster_lease_ms(c)),
		number(&limit, wire_ms(c)) }, 4);
	str_fini(&hex);
	str_fini(&ms);
	str_fini(&limit);
	return call;
}

void
marks_lease_cancel(struct cluster_call **callp)
{
	struct lease_ctx *x;

	if (*callp == NULL)
		return;
	x = cluster_ctx(*callp);
	x->cancelled = true;
	*callp = NULL;
}

struct yes_ctx {
	marks_done *done;
	void (*finished)(void *arg, enum err e, bool cleared);
	void *arg;
};

static void
on_yes(void *arg, enum err e, const struct redisReply *r)
{
	const struct yes_ctx *x = arg;

	if (e == ERR_OK && (r->type != REDIS_REPLY_INTEGER || r->integer != 1))
		e = ERR_LEASE_LOST;
	x->done(x->arg, e);
}

struct cluster_call *
marks_renew(struct cluster *c, const char *key, size_t klen, const struct lease *l, marks_done *done, void *arg)
{
	struct yes_ctx x = { .done = done, .arg = arg };
	struct str ms = STR_INIT, limit = STR_INIT;
	struct cluster_call *call;

	call = cluster_run(c, &lua_renew, on_yes, mem_dup(&x, sizeof x), (struct rds_arg[]){ RDS_B(key, klen), RDS_Z(l->token),
		number(&ms, cluster_lease_ms(c)), number(&limit, wire_ms(c)) }, 4);
	str_fini(&ms);
	str_fini(&limit);
	return call;
}

#ifdef R2SHIM_FAULTS
/* "clear-any-gen": cuts the comparison of the gens out of the script. */
static void
mutant_clear_any_gen(void)
{
	static const char check[] = "if gen ~= ARGV[4] then\n";
	char *text, *at;

	if (!TRIP_MUTANT("clear-any-gen") || lua_finish.script.sha[0] != '\0')
		return;
	text = mem_strdup(lua_finish.script.body);
	at = strstr(text, check);
	ASSERT(at != NULL);
	memcpy(at, "if 1 > 2 then --", 16);
	lua_finish.script.body = text;
}
#define MUTANT_CLEAR_ANY_GEN() mutant_clear_any_gen()
#else
#define MUTANT_CLEAR_ANY_GEN() ((void)0)
#endif

static void
on_finished(void *arg, enum err e, const struct redisReply *r)
{
	const struct yes_ctx *x = arg;

	if (e == ERR_OK && r->type != REDIS_REPLY_INTEGER)
		e = ERR_PROTO;
	if (e == ERR_OK && r->integer < 0)
		e = ERR_LEASE_LOST;
	x->finished(x->arg, e, e == ERR_OK && r->integer == 1);
}

struct cluster_call *
marks_finish(struct cluster *c, const char *key, size_t klen, const struct lease *l, uint64_t seen_gen,
    void (*done)(void *arg, enum err e, bool cleared), void *arg)
{
	struct yes_ctx x = { .finished = done, .arg = arg };
	struct str gen = STR_INIT;
	struct cluster_call *call;

	MUTANT_CLEAR_ANY_GEN();
	call = cluster_run(c, &lua_finish, on_finished, mem_dup(&x, sizeof x), (struct rds_arg[]){ RDS_B(key, klen), RDS_Z(l->token),
		number(&gen, seen_gen) }, 3);
	str_fini(&gen);
	return call;
}

struct cluster_call *
marks_drop(struct cluster *c, const char *key, size_t klen, const struct lease *l, marks_done *done, void *arg)
{
	return cluster_do(c, &lua_drop, (struct rds_arg[]){ RDS_B(key, klen), RDS_Z(l->token) }, 2, done, arg);
}

struct cluster_call *
marks_park(struct cluster *c, const char *key, size_t klen, const struct lease *l)
{
	struct str limit = STR_INIT;
	struct cluster_call *call;

	call = cluster_do(c, &lua_park, (struct rds_arg[]){ RDS_B(key, klen), RDS_Z(l->token), number(&limit, wire_ms(c)) }, 3, NULL, NULL);
	str_fini(&limit);
	return call;
}

struct pace_ctx {
	void (*done)(void *arg, enum err e, uint64_t wait_ms);
	void *arg;
};

static void
on_paced(void *arg, enum err e, const struct redisReply *r)
{
	const struct pace_ctx *x = arg;

	if (e == ERR_OK && (r->type != REDIS_REPLY_INTEGER || r->integer < 0))
		e = ERR_PROTO;
	x->done(x->arg, e, e == ERR_OK ? (uint64_t)r->integer : 0);
}

struct cluster_call *
marks_pace(struct cluster *c, const char *key, size_t klen, uint64_t interval_ms, void (*done)(void *arg, enum err e, uint64_t wait_ms), void *arg)
{
	struct pace_ctx x = { done, arg };
	struct str ms = STR_INIT;
	struct cluster_call *call;

	call = cluster_run(c, &lua_pace, on_paced, mem_dup(&x, sizeof x), (struct rds_arg[]){ RDS_B(key, klen), number(&ms, interval_ms) }, 2);
	str_fini(&ms);
	return call;
}

struct cluster_call *
marks_rebase(struct cluster *c, const char *key, size_t klen, const struct lease *l, uint64_t seen_gen, const struct mark_base *b,
    marks_done *done, void *arg)
{
	struct yes_ctx x = { .done = done, .arg = arg };
	struct str gen = STR_INIT;
	char base[MARK_BASE_MAX];
	struct cluster_call *call;

	call = cluster_run(c, &lua_mark_rebase, on_yes, mem_dup(&x, sizeof x), (struct rds_arg[]){ RDS_B(key, klen), RDS_Z(l->token),
		number(&gen, seen_gen), RDS_Z(marks_base_text(b, base)) }, 4);
	str_fini(&gen);
	return call;
}

struct count_ctx {
	void (*done)(void *arg, enum err e, uint64_t n, uint64_t oldest_ms, uint64_t owed);
	void *arg;
};

static void
on_count(void *arg, enum err e, const struct redisReply *r)
{
	const struct count_ctx *x = arg;

	if (e == ERR_OK && (r->type != REDIS_REPLY_ARRAY || r->elements != 3))
		e = ERR_PROTO;
	if (e == ERR_OK)
		x->done(x->arg, e, (uint64_t)r->element[0]->integer, (uint64_t)r->element[1]->integer, (uint64_t)r->element[2]->integer);
	else
		x->done(x->arg, e, 0, 0, 0);
}

struct cluster_call *
marks_count(struct cluster *c, void (*done)(void *arg, enum err e, uint64_t n, uint64_t oldest_ms, uint64_t owed), void *arg)
{
	struct count_ctx x = { done, arg };

	return cluster_run(c, &lua_mark_count, on_count, mem_dup(&x, sizeof x), NULL, 0);
}
