/* cluster and marks against a real Redis: epochs, quarantine, gens, clearing, leases, intents that run out, announcing. */
#include "ground.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "base/clock.h"
#include "base/mem.h"
#include "coord/cluster.h"
#include "coord/hold.h"
#include "coord/keys.h"
#include "coord/marks.h"

enum { LIMIT = 400 };

struct peer {
	struct conf conf;
	struct cluster *c;
	bool up, fresh, down, got, cleared;
	unsigned ups, downs;
	enum err e;
	struct mark m;
	struct lease l;
	uint64_t n, oldest, owed;
	char text[300];
};

static void
on_up(void *arg, bool fresh)
{
	struct peer *p = arg;

	p->up = true;
	p->down = false;
	p->fresh = fresh;
	p->ups++;
}

static void
on_down(void *arg)
{
	struct peer *p = arg;

	p->up = false;
	p->down = true;
	p->downs++;
}

static const struct cluster_cb cbs = { .up = on_up, .down = on_down };

static struct peer *
peer_new(const char *role, const char *id)
{
	struct peer *p = mem_zalloc(sizeof *p);

	p->conf = ground_conf(2000, LIMIT);
	p->c = cluster_new(loop, &p->conf, role, id, &cbs, p);
	return p;
}

static struct peer *
peer_up(const char *role, const char *id)
{
	struct peer *p = peer_new(role, id);

	redis_wait(loop, &p->up);
	return p;
}

static void
peer_free(struct peer *p)
{
	cluster_free(&p->c);
	mem_free(p);
}

static void
on_mark(void *arg, enum err e, const struct mark *m)
{
	struct peer *p = arg;

	p->got = true;
	p->e = e;
	p->m = *m;
}

static void
on_lease(void *arg, enum err e, const struct lease *l)
{
	struct peer *p = arg;

	p->got = true;
	p->e = e;
	p->l = *l;
}

static void
on_done(void *arg, enum err e)
{
	struct peer *p = arg;

	p->got = true;
	p->e = e;
}

static void
on_finish(void *arg, enum err e, bool cleared)
{
	struct peer *p = arg;

	p->got = true;
	p->e = e;
	p->cleared = cleared;
}

static void
on_count(void *arg, enum err e, uint64_t n, uint64_t oldest, uint64_t owed)
{
	struct peer *p = arg;

	p->got = true;
	p->e = e;
	p->n = n;
	p->oldest = oldest;
	p->owed = owed;
}

static void
on_text(void *arg, enum err e, const char *text)
{
	struct peer *p = arg;

	p->got = true;
	p->e = e;
	snprintf(p->text, sizeof p->text, "%s", text);
}

static void
on_pace(void *arg, enum err e, uint64_t wait_ms)
{
	struct peer *p = arg;

	p->got = true;
	p->e = e;
	p->n = wait_ms;
}

static enum err
await(struct peer *p)
{
	assert_false(p->got);
	redis_wait(loop, &p->got);
	p->got = false;
	return p->e;
}

static enum err
set(struct peer *p, uint64_t intent, const char *key, enum mark_op op)
{
	marks_set(p->c, intent, KEY(key), MARK_DISK(op), 5000, NULL, on_mark, p);
	return await(p);
}

static enum err
lease(struct peer *p, const char *key)
{
	marks_lease(p->c, KEY(key), on_lease, p);
	return await(p);
}

static enum err
finish(struct peer *p, const char *key, uint64_t gen)
{
	marks_finish(p->c, KEY(key), &p->l, gen, on_finish, p);
	return await(p);
}

static enum err
get(struct peer *p, const char *key)
{
	marks_get(p->c, KEY(key), on_mark, p);
	return await(p);
}

static void
intent(struct peer *p, uint64_t id, const char *key, enum mark_op op, uint64_t ms)
{
	marks_intent(p->c, id, KEY(key), MARK_DISK(op), ms, on_done, p);
	assert_int_equal(await(p), ERR_OK);
}

/* Asks again and again until the lease is given, or another error comes. */
static uint64_t
lease_when_free(struct peer *p, const char *key, enum err refusal)
{
	uint64_t began = clock_mono_ms();
	enum err e;

	while ((e = lease(p, key)) == refusal) {
		assert_true(clock_mono_ms() - began < 8000);
		run_for(20);
	}
	assert_int_equal(e, ERR_OK);
	return clock_mono_ms() - began;
}

static void
test_parse(void **state)
{
	struct mark m;
	static const char *const bad[] = { "", "1", "1 l p 2", "1 l p 2 ", "x l p 1 2", "1 l p 1 2 3", "1 ll p 1 2", "1  p 1 2" };

	(void)state;
	assert_true(marks_parse("1790000000000001 l d 1790000000000 1790000000000000", 51, &m));
	assert_int_equal(m.gen, 1790000000000001);
	assert_int_equal(m.op, MARK_DELETE);
	assert_int_equal(m.side, MARK_LOCAL);
	assert_int_equal(m.since_ms, 1790000000000);
	assert_int_equal(m.epoch, 1790000000000000);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(marks_parse(KEY(bad[i]), &m));
	assert_true(marks_parse(KEY("5 r p 6 7 12.34.-5.6"), &m));
	assert_int_equal(m.side, MARK_R2);
	assert_true(m.base.known && m.base.exists && !m.base.unconfirmed);
	assert_int_equal(m.base.ino, 12);
	assert_int_equal(m.base.mtime_ns, -5);
	assert_true(marks_parse(KEY("5 r p 6 7 ?-"), &m));
	assert_true(m.base.known && !m.base.exists && m.base.unconfirmed);
}

static void
test_base_text(void **state)
{
	static const char *const good[] = { "", "-", "?-", "1.2.3.4", "?9223372036854775807.9223372036854775807.-9223372036854775807.9223372036854775807" };
	static const char *const bad[] = { "?", "--", "1.2.3", "1.2.3.", "a.2.3.4", "1.2.3.4.5", "1.2.3.99999999999999999999", "1.-2.3.4" };
	struct mark_base b;
	char buf[MARK_BASE_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_true(marks_base_parse(KEY(good[i]), &b));
		assert_string_equal(marks_base_text(&b, buf), good[i]);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(marks_base_parse(KEY(bad[i]), &b));
}

static void
assert_mark(struct peer *p, const char *key, const char *want)
{
	assert_int_equal(get(p, key), ERR_OK);
	assert_mark_is(&p->m, want);
}

/* Marks of both sides, and what an unknown outcome does to each. */
static void
test_sides(void **state)
{
	struct peer *a = peer_up("proxy", "a");

	(void)state;
	marks_set(a->c, 0, KEY("k"), r2_write(MARK_PUT, "1.2.3.4"), 0, NULL, on_mark, a);
	assert_int_equal(await(a), ERR_OK);
	assert_mark(a, "k", "r p 1.2.3.4");
	marks_count(a->c, on_count, a);
	assert_int_equal(await(a), ERR_OK);
	assert_int_equal(a->owed, 1);
	/* Nobody knows whether the app's delete happened: the side stays, absence may be carried over. */
	marks_set_unknown(a->c, 0, KEY("k"), MARK_DISK(MARK_DELETE), on_mark, a);
	assert_int_equal(await(a), ERR_OK);
	assert_mark(a, "k", "r d 1.2.3.4");
	/* A confirmed one turns it, and a put that is confirmed behind a delete that was seen leaves the tombstone. */
	assert_int_equal(set(a, 0, "k", MARK_DELETE), ERR_OK);
	assert_mark(a, "k", "l d ");
	assert_int_equal(set(a, 0, "k", MARK_PUT), ERR_OK);
	assert_mark(a, "k", "l d ");
	marks_set(a->c, 0, KEY("k"), r2_write(MARK_PUT, "-"), 0, NULL, on_mark, a);
	assert_int_equal(await(a), ERR_OK);
	assert_mark(a, "k", "r p -");
	assert_int_equal(lease(a, "k"), ERR_OK);
	assert_int_equal(finish(a, "k", a->l.seen.gen), ERR_OK);
	assert_true(a->cleared);
	marks_count(a->c, on_count, a);
	assert_int_equal(await(a), ERR_OK);
	assert_int_equal(a->owed, 0);
	/* On a clean key an unknown write to R2 is R2's, but nothing was confirmed. */
	marks_set_unknown(a->c, 0, KEY("k"), r2_write(MARK_PUT, "5.6.7.8"), on_mark, a);
	assert_int_equal(await(a), ERR_OK);
	assert_mark(a, "k", "r p ?5.6.7.8");
	peer_free(a);
}

/* Marks that are set under a lease: dropped with it, kept, or refused when it is lost; and the base that moves. */
static void
test_set_under_lease(void **state)
{
	struct peer *a = peer_up("proxy", "a"), *b = peer_up("migrator", "b");
	struct mark_base base;
	uint64_t gen;

	(void)state;
	assert_int_equal(lease(a, "k"), ERR_OK);
	marks_set_held(a->c, KEY("k"), MARK_DISK(MARK_PUT), 0, &a->l, on_mark, a);
	assert_int_equal(await(a), ERR_OK);
	assert_int_equal(lease(b, "k"), ERR_BUSY);
	intent(a, 3, "k", MARK_PUT, 60000);
	marks_set(a->c, 3, KEY("k"), r2_write(MARK_PUT, "1.2.3.4"), 0, &a->l, on_mark, a);
	assert_int_equal(await(a), ERR_OK);
	gen = a->m.gen;
	assert_int_equal(lease(b, "k"), ERR_OK);
	assert_int_equal(b->l.seen.gen, gen);
	assert_false(b->l.takeover);
	assert_false(b->l.open);
	/* a has nothing any more. */
	marks_set(a->c, 0, KEY("k"), MARK_DISK(MARK_PUT), 0, &a->l, on_mark, a);
	assert_int_equal(await(a), ERR_LEASE_LOST);
	assert_mark(b, "k", "r p 1.2.3.4");
	/* b has put R2's bytes there. */
	assert_true(marks_base_parse(KEY("9.2.3.4"), &base));
	marks_rebase(b->c, KEY("k"), &b->l, gen + 1, &base, on_done, b);
	assert_int_equal(await(b), ERR_LEASE_LOST);
	marks_rebase(b->c, KEY("k"), &b->l, gen, &base, on_done, b);
	assert_int_equal(await(b), ERR_OK);
	assert_mark(b, "k", "r p 9.2.3.4");
	assert_int_equal(b->m.gen, gen);
	marks_rebase(a->c, KEY("k"), &a->l, gen, &base, on_done, a);
	assert_int_equal(await(a), ERR_LEASE_LOST);
	peer_free(a);
	peer_free(b);
}

/* A dead writer's last request may still be on the wire: its intent does not run out before its lease is free. */
static void
test_intent_waits_for_lease(void **state)
{
	struct peer *a = peer_up("proxy", "a"), *b = peer_up("proxy", "b");
	uint64_t began = clock_mono_ms();

	(void)state;
	assert_int_equal(lease(a, "k"), ERR_OK);
	marks_intent(a->c, 1, KEY("k"), r2_write(MARK_PUT, "-"), 10, on_done, a);
	assert_int_equal(await(a), ERR_OK);
	cluster_free(&a->c);
	cluster_heartbeat(b->c, "{}");
	do {
		assert_true(clock_mono_ms() - began < 10000);
		run_for(20);
		assert_int_equal(get(b, "k"), ERR_OK);
	} while (b->m.gen == 0);
	assert_true(clock_mono_ms() - began >= LEASE + LIMIT);
	assert_mark(b, "k", "r p ?-");
	peer_free(a);
	peer_free(b);
}

struct holding {
	struct hold *h;
	bool got, lost;
	enum err e;
};

static void
on_got(void *arg, enum err e, const struct lease *l)
{
	struct holding *x = arg;

	(void)l;
	x->got = true;
	x->e = e;
}

static void
on_lost(void *arg, enum err e)
{
	struct holding *x = arg;

	x->lost = true;
	x->e = e;
}

static const struct hold_cb hold_cbs = { on_got, on_lost };

static void
hold(struct peer *p, struct holding *x, uint64_t patience_ms)
{
	*x = (struct holding){ .h = hold_new(p->c, KEY("k"), patience_ms, false, &hold_cbs, x) };
	redis_wait(loop, &x->got);
}

static void
test_hold(void **state)
{
	struct peer *a = peer_up("proxy", "a"), *b = peer_up("migrator", "b");
	struct holding x, y;

	(void)state;
	hold(a, &x, 0);
	assert_int_equal(x.e, ERR_OK);
	hold(b, &y, 0);
	assert_int_equal(y.e, ERR_BUSY);
	hold_drop(&y.h);
	/* Longer than a lease: it is renewed. */
	run_for(LEASE + LIMIT + 200);
	assert_false(x.lost);
	assert_int_equal(lease(b, "k"), ERR_BUSY);
	hold_drop(&x.h);
	lease_when_free(b, "k", ERR_BUSY);
	marks_drop(b->c, KEY("k"), &b->l, on_done, b);
	assert_int_equal(await(b), ERR_OK);
	/* Parked: the request limit passes first. */
	hold(a, &x, 0);
	hold_park(&x.h);
	assert_true(lease_when_free(b, "k", ERR_BUSY) + 50 >= LIMIT);
	assert_true(b->l.takeover);
	/* Who is patient gets it in its turn. */
	hold(a, &x, 10000);
	assert_int_equal(x.e, ERR_OK);
	hold_park(&x.h);
	/* Somebody takes it away: told at the next renewal. */
	hold(a, &x, 10000);
	redis_do(&redis, "HDEL r2shim:{test}:leases k");
	redis_wait(loop, &x.lost);
	assert_int_equal(x.e, ERR_LEASE_LOST);
	hold_drop(&x.h);
	/* Redis is gone: it ends by our own clock, before it would end there. */
	hold(a, &x, 0);
	redis_kill(&redis);
	redis_wait(loop, &x.lost);
	assert_int_equal(x.e, ERR_LEASE_LOST);
	hold_park(&x.h);
	peer_free(a);
	peer_free(b);
	redis_again(&redis, NULL);
}

static void
test_set_and_clear(void **state)
{
	struct peer *a = peer_up("proxy", "a");
	uint64_t gen, now = clock_real_us();

	(void)state;
	/* The site's first start: nobody is here, nothing was: no quarantine. */
	assert_true(a->fresh);
	assert_int_equal(get(a, "k"), ERR_OK);
	assert_int_equal(a->m.gen, 0);
	assert_int_equal(set(a, 0, "k", MARK_PUT), ERR_OK);
	gen = a->m.gen;
	assert_in_range(gen, now, now + 60000000);
	assert_int_equal(a->m.epoch, cluster_epoch(a->c));
	assert_int_equal(redis_int(&redis, "ZCARD r2shim:{test}:due"), 1);
	marks_count(a->c, on_count, a);
	assert_int_equal(await(a), ERR_OK);
	assert_int_equal(a->n, 1);

	assert_int_equal(lease(a, "k"), ERR_OK);
	assert_int_equal(a->l.seen.gen, gen);
	assert_false(a->l.takeover);
	assert_false(a->l.open);
	assert_in_range(a->l.until_mono_ms - clock_mono_ms(), 1, LEASE);
	/* Another write moves the mark on: it is not cleared at the old gen. */
	assert_int_equal(set(a, 0, "k", MARK_DELETE), ERR_OK);
	assert_true(a->m.gen > gen);
	assert_int_equal(finish(a, "k", gen), ERR_OK);
	assert_false(a->cleared);
	assert_int_equal(get(a, "k"), ERR_OK);
	assert_int_equal(a->m.op, MARK_DELETE);
	gen = a->m.gen;
	/* gen 0 clears nothing. */
	assert_int_equal(lease(a, "k"), ERR_OK);
	assert_int_equal(finish(a, "k", 0), ERR_OK);
	assert_false(a->cleared);
	assert_int_equal(lease(a, "k"), ERR_OK);
	assert_int_equal(finish(a, "k", gen), ERR_OK);
	assert_true(a->cleared);
	get(a, "k");
	assert_int_equal(a->m.gen, 0);
	assert_int_equal(redis_int(&redis, "ZCARD r2shim:{test}:due"), 0);
	assert_int_equal(redis_int(&redis, "ZCARD r2shim:{test}:since"), 0);
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:leases"), 0);
	/* Set, set, cleared: without a gap. */
	assert_int_equal(redis_int(&redis, "XLEN r2shim:{test}:changes"), 3);
	assert_int_equal(redis_int(&redis, "GET r2shim:{test}:changes-seq"), 3);
	peer_free(a);
}

static void
on_busy(void *arg, enum err e, uint64_t busy)
{
	struct peer *p = arg;

	p->n = busy;
	on_done(p, e);
}

static void
test_many(void **state)
{
	struct peer *a = peer_up("migrator", "a");
	struct marks_key v[250];
	char keys[250][12];

	(void)state;
	for (unsigned i = 0; i < 250; i++) {
		snprintf(keys[i], sizeof keys[i], "k/%u", i);
		v[i] = (struct marks_key){ keys[i], strlen(keys[i]), i % 2 == 0 ? MARK_LOCAL : MARK_R2 };
	}
	/* While R2 may be written first: what the disk had first, and nobody works on. */
	cluster_arm(a->c, CLUSTER_ARM_STAY);
	set(a, 0, "k/2", MARK_PUT);
	intent(a, 7, "k/4", MARK_PUT, 60000);
	assert_int_equal(lease(a, "k/6"), ERR_OK);
	marks_census(a->c, v, 250, on_busy, a);
	assert_int_equal(await(a), ERR_OK);
	assert_int_equal(a->n, 3);
	marks_count(a->c, on_count, a);
	await(a);
	assert_int_equal(a->n, 125 - 3 + 1);
	get(a, "k/2");
	assert_int_equal(a->m.op, MARK_PUT);
	get(a, "k/1");
	assert_int_equal(a->m.gen, 0);
	redis_do(&redis, "HSET r2shim:{test}:site armed 0");
	marks_census(a->c, v, 250, on_busy, a);
	assert_int_equal(await(a), ERR_OK);
	assert_int_equal(a->n, 0);
	marks_count(a->c, on_count, a);
	await(a);
	assert_int_equal(a->n, 250);
	get(a, "k/2");
	assert_int_equal(a->m.op, MARK_DELETE);
	/* Every gen once. */
	for (unsigned i = 0; i < 250; i++) {
		uint64_t before = a->m.gen;

		get(a, keys[i]);
		if (i > 0)
			assert_true(a->m.gen > before);
	}
	peer_free(a);
}

static void
test_open_intent(void **state)
{
	struct peer *a = peer_up("proxy", "a"), *b = peer_up("migrator", "b");
	uint64_t gen;

	(void)state;
	set(a, 0, "k", MARK_PUT);
	gen = a->m.gen;
	intent(a, 7, "k", MARK_PUT, 60000);
	intent(a, 8, "k", MARK_PUT, 60000);
	intent(a, 8, "k", MARK_PUT, 60000);	/* told again: still one */
	assert_int_equal(lease(b, "k"), ERR_OK);
	assert_true(b->l.open);
	assert_int_equal(finish(b, "k", gen), ERR_OK);
	assert_false(b->cleared);
	marks_abandon(a->c, 7, NULL, NULL);
	lease(b, "k");
	assert_true(b->l.open);
	finish(b, "k", gen);
	assert_false(b->cleared);
	/* Its confirmation closes it, and is a new gen. */
	set(a, 8, "k", MARK_PUT);
	lease(b, "k");
	assert_false(b->l.open);
	finish(b, "k", gen);
	assert_false(b->cleared);
	lease(b, "k");
	finish(b, "k", b->l.seen.gen);
	assert_true(b->cleared);
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:open"), 0);
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:open-keys"), 0);
	assert_int_equal(redis_int(&redis, "ZCARD r2shim:{test}:open-until"), 0);
	/* A clean key with an open intent counts as dirty, too. */
	intent(a, 9, "c", MARK_PUT, 60000);
	lease(b, "c");
	finish(b, "c", 0);
	assert_false(b->cleared);
	peer_free(a);
	peer_free(b);
}

static void
test_R9_intent_runs_out(void **state)
{
	struct peer *a = peer_up("proxy", "a"), *b = peer_up("migrator", "b");
	uint64_t began = clock_mono_ms();

	(void)state;
	set(a, 0, "tomb", MARK_DELETE);
	set(a, 0, "file", MARK_PUT);
	intent(a, 1, "tomb", MARK_PUT, 100);
	intent(a, 2, "file", MARK_DELETE, 100);
	intent(a, 3, "clean", MARK_PUT, 100);
	peer_free(a);
	/* b's heartbeat lets them run out. */
	while (redis_int(&redis, "HLEN r2shim:{test}:open") > 0) {
		assert_true(clock_mono_ms() - began < 5000);
		run_for(20);
	}
	get(b, "tomb");		/* an unknown put leaves the tombstone */
	assert_int_equal(b->m.op, MARK_DELETE);
	get(b, "file");		/* an unknown delete permits one */
	assert_int_equal(b->m.op, MARK_DELETE);
	get(b, "clean");
	assert_true(b->m.gen > 0);
	assert_int_equal(b->m.op, MARK_PUT);
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:open-keys"), 0);
	peer_free(b);
}

static void
test_lease(void **state)
{
	struct peer *a = peer_up("migrator", "a"), *b = peer_up("migrator", "b");
	struct lease old;
	uint64_t waited;

	(void)state;
	assert_int_equal(lease(a, "k"), ERR_OK);
	assert_int_equal(lease(b, "k"), ERR_BUSY);
	assert_int_equal(lease(b, "other"), ERR_OK);
	/* Nobody else's token does anything. */
	b->l.token[0] = b->l.token[0] == '0' ? '1' : '0';
	assert_int_equal(finish(b, "k", 0), ERR_LEASE_LOST);
	marks_drop(b->c, KEY("k"), &b->l, on_done, b);
	assert_int_equal(await(b), ERR_OK);
	assert_int_equal(lease(b, "k"), ERR_BUSY);
	marks_renew(b->c, KEY("k"), &b->l, on_done, b);
	assert_int_equal(await(b), ERR_LEASE_LOST);
	/* Dropped: at once, and no takeover. */
	marks_drop(a->c, KEY("k"), &a->l, on_done, a);
	assert_int_equal(await(a), ERR_OK);
	assert_int_equal(lease(b, "k"), ERR_OK);
	assert_false(b->l.takeover);
	/* Renewed: its time begins anew. */
	run_for(LEASE / 2);
	marks_renew(b->c, KEY("k"), &b->l, on_done, b);
	assert_int_equal(await(b), ERR_OK);
	old = b->l;
	/* Not dropped: after lease and limit, not before, and the taker knows. */
	waited = lease_when_free(a, "k", ERR_BUSY);
	assert_in_range(waited, LEASE + LIMIT - 50, LEASE + LIMIT + 1500);
	assert_true(a->l.takeover);
	/* The old holder has nothing any more. */
	assert_int_equal(finish(b, "k", 0), ERR_LEASE_LOST);
	b->l = old;
	marks_renew(b->c, KEY("k"), &b->l, on_done, b);
	assert_int_equal(await(b), ERR_LEASE_LOST);
	assert_int_equal(finish(b, "k", 0), ERR_LEASE_LOST);
	assert_int_equal(finish(a, "k", 0), ERR_OK);
	assert_true(a->cleared);
	peer_free(a);
	peer_free(b);
}

static void
test_lease_expired(void **state)
{
	struct peer *a = peer_up("migrator", "a");

	(void)state;
	set(a, 0, "k", MARK_PUT);
	assert_int_equal(lease(a, "k"), ERR_OK);
	run_for(LEASE + 50);
	/* Nobody took it, but it is over: a clearing now could be any age. */
	assert_int_equal(finish(a, "k", a->l.seen.gen), ERR_LEASE_LOST);
	get(a, "k");
	assert_true(a->m.gen > 0);
	peer_free(a);
}

static void
test_lease_cancel(void **state)
{
	struct peer *a = peer_up("migrator", "a");
	struct cluster_call *call = marks_lease(a->c, KEY("k"), on_lease, a);
	uint64_t began = clock_mono_ms();

	(void)state;
	marks_lease_cancel(&call);
	assert_null(call);
	while (redis_int(&redis, "HLEN r2shim:{test}:leases") > 0 || clock_mono_ms() - began < 50) {
		assert_true(clock_mono_ms() - began < 5000);
		run_for(5);
	}
	assert_false(a->got);
	assert_int_equal(lease(a, "k"), ERR_OK);
	peer_free(a);
}

static void
test_R15_flushall(void **state)
{
	struct peer *a = peer_up("proxy", "a"), *b;
	uint64_t epoch = cluster_epoch(a->c), gen, waited;

	(void)state;
	set(a, 0, "k", MARK_PUT);
	gen = a->m.gen;
	lease(a, "held");
	/* A clock that ran ahead when the gens were given must not make later ones smaller. */
	redis_do(&redis, "SET r2shim:{test}:gen %llu", (unsigned long long)gen + 3600000000ull);
	set(a, 0, "k", MARK_PUT);
	gen = a->m.gen;
	assert_true(gen > clock_real_us() + 3000000000ull);
	cluster_know(a->c, 0, gen);
	redis_do(&redis, "FLUSHALL");
	/* The next script finds it. */
	a->up = false;
	assert_int_equal(set(a, 0, "k2", MARK_PUT), ERR_EPOCH);
	redis_wait(loop, &a->up);
	assert_int_equal(a->ups, 2);
	assert_int_equal(a->downs, 1);
	assert_true(a->fresh);
	assert_true(cluster_epoch(a->c) > epoch);
	set(a, 0, "k2", MARK_PUT);
	assert_true(a->m.gen > gen);
	/* No lease for anyone until the dead holders' time has passed. A process without a past changes nothing. */
	assert_int_equal(lease(a, "free"), ERR_QUARANTINE);
	b = peer_up("migrator", "b");
	assert_true(cluster_epoch(b->c) == cluster_epoch(a->c));
	waited = lease_when_free(b, "held", ERR_QUARANTINE);
	assert_in_range(waited, LEASE + LIMIT - 200, LEASE + LIMIT + 1500);
	peer_free(a);
	peer_free(b);
}

static void
test_newcomer_after_flush(void **state)
{
	struct peer *a = peer_up("proxy", "a"), *b;

	(void)state;
	/* a is connected, idle, and knows an epoch: who comes first after the flush sees it by its name. */
	redis_do(&redis, "FLUSHALL");
	b = peer_up("migrator", "b");
	assert_int_equal(lease(b, "k"), ERR_QUARANTINE);
	peer_free(b);
	peer_free(a);
}

static void
test_wrong_first(void **state)
{
	struct peer *a, *b = peer_up("migrator", "b");

	(void)state;
	/* Taken for the site's first start ... */
	assert_int_equal(lease(b, "k"), ERR_OK);
	/* ... until a member comes that knows an older epoch. */
	a = peer_new("proxy", "a");
	cluster_know(a->c, 12345, 0);
	redis_wait(loop, &a->up);
	assert_true(cluster_epoch(a->c) == cluster_epoch(b->c));
	assert_int_equal(lease(b, "k2"), ERR_QUARANTINE);
	peer_free(a);
	peer_free(b);
}

static void
test_R16_older_redis(void **state)
{
	struct peer *a = peer_up("proxy", "a"), *b = peer_new("proxy", "b");
	uint64_t epoch = cluster_epoch(a->c);

	(void)state;
	/* b remembers an epoch that this Redis has never had: it is an old copy. */
	cluster_know(b->c, epoch + 5000000, 0);
	redis_wait(loop, &b->up);
	assert_true(cluster_epoch(b->c) > epoch + 5000000);
	assert_int_equal(lease(b, "k"), ERR_QUARANTINE);
	a->up = false;
	assert_int_equal(lease(a, "k"), ERR_EPOCH);
	redis_wait(loop, &a->up);
	assert_true(a->fresh);
	assert_true(cluster_epoch(a->c) == cluster_epoch(b->c));
	peer_free(a);
	peer_free(b);
}

static void
test_restart(void **state)
{
	struct peer *a = peer_up("proxy", "a");
	uint64_t epoch = cluster_epoch(a->c), gen;

	(void)state;
	set(a, 0, "k", MARK_PUT);
	gen = a->m.gen;
	redis_do(&redis, "WAIT 0 0");
	a->up = false;
	redis_kill(&redis);
	redis_wait(loop, &a->down);
	assert_false(cluster_up(a->c));
	assert_int_equal(set(a, 0, "k", MARK_PUT), ERR_CONNECT);
	redis_again(&redis, NULL);
	redis_wait(loop, &a->up);
	/* The same data, another process: what the last second lost is unknown. */
	assert_true(a->fresh);
	assert_true(cluster_epoch(a->c) > epoch);
	assert_int_equal(lease(a, "k"), ERR_QUARANTINE);
	set(a, 0, "k", MARK_PUT);
	assert_true(a->m.gen > gen);
	peer_free(a);
}

static void
test_reconnect(void **state)
{
	struct peer *a = peer_up("proxy", "a");
	uint64_t epoch = cluster_epoch(a->c);

	(void)state;
	a->up = false;
	redis_do(&redis, "CLIENT KILL TYPE normal SKIPME yes");
	redis_wait(loop, &a->up);
	assert_false(a->fresh);
	assert_int_equal(cluster_epoch(a->c), epoch);
	assert_int_equal(lease(a, "k"), ERR_OK);
	peer_free(a);
}

static void
test_announce(void **state)
{
	struct peer *a = peer_up("proxy", "a");
	struct mark m = { .gen = 1000, .op = MARK_DELETE, .since_ms = 77 };

	(void)state;
	set(a, 0, "k", MARK_PUT);
	marks_announce(a->c, KEY("k"), &m, on_mark, a);
	assert_int_equal(await(a), ERR_OK);
	assert_int_equal(a->m.op, MARK_PUT);	/* a higher gen stands */
	m.gen = clock_real_us() + 7200000000ull;
	marks_announce(a->c, KEY("k"), &m, on_mark, a);
	assert_int_equal(await(a), ERR_OK);
	assert_int_equal(a->m.gen, m.gen);
	assert_int_equal(a->m.op, MARK_DELETE);
	assert_int_equal(a->m.since_ms, 77);
	assert_int_equal(a->m.epoch, cluster_epoch(a->c));
	set(a, 0, "other", MARK_PUT);
	assert_true(a->m.gen > m.gen);
	peer_free(a);
}

static void
test_members_must_announce(void **state)
{
	struct peer *b = peer_up("migrator", "b"), *a = peer_new("proxy", "a");
	uint64_t began = clock_mono_ms();

	(void)state;
	cluster_must_announce(a->c);
	redis_wait(loop, &a->up);
	while (redis_int(&redis, "HLEN r2shim:{test}:beats") == 0) {
		assert_true(clock_mono_ms() - began < 5000);
		run_for(10);
	}
	assert_int_equal(lease(b, "k"), ERR_QUARANTINE);
	cluster_announced(a->c);
	assert_true(lease_when_free(b, "k", ERR_QUARANTINE) < 1000);
	/* A new epoch asks anew, longer than the quarantine lasts. */
	redis_do(&redis, "DEL r2shim:{test}:epoch");
	a->up = b->up = false;
	redis_wait(loop, &a->up);
	if (!b->up)
		redis_wait(loop, &b->up);
	run_for(LEASE + LIMIT + 300);
	assert_int_equal(lease(b, "k2"), ERR_QUARANTINE);
	cluster_announced(a->c);
	lease_when_free(b, "k2", ERR_QUARANTINE);
	/* One that has gone silent is waited for as long as its leases could last, no longer. */
	redis_do(&redis, "DEL r2shim:{test}:epoch");
	b->up = false;
	redis_wait(loop, &b->up);
	peer_free(a);
	began = clock_mono_ms();
	lease_when_free(b, "k3", ERR_QUARANTINE);
	peer_free(b);
}

static void
test_heartbeat(void **state)
{
	struct peer *a = peer_up("proxy", "a"), *b = peer_up("migrator", "b");
	uint64_t began = clock_mono_ms();
	struct redisReply *r;

	(void)state;
	cluster_heartbeat(a->c, "{\"phase\":\"dual-write\"}");
	cluster_heartbeat(b->c, "{ }");
	while (redis_int(&redis, "HLEN r2shim:{test}:members") == 0 || redis_int(&redis, "HLEN r2shim:{test}:workers") == 0) {
		assert_true(clock_mono_ms() - began < 5000);
		run_for(10);
	}
	r = redis_do(&redis, "HGET r2shim:{test}:members a");
	assert_non_null(strstr(r->str, "{\"time\":1"));
	assert_non_null(strstr(r->str, ",\"phase\":\"dual-write\"}"));
	r = redis_do(&redis, "HGET r2shim:{test}:workers b");
	assert_int_equal(r->str[r->len - 1], '}');
	assert_int_not_equal(r->str[r->len - 2], ',');
	cluster_leave(a->c, NULL, NULL);
	cluster_leave(b->c, NULL, NULL);
	get(b, "x");
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:members"), 0);
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:workers"), 0);
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:beats"), 0);
	peer_free(a);
	peer_free(b);
}

static void
test_A29_R17_unsafe_redis(void **state)
{
	struct peer *a;

	(void)state;
	redis_do(&redis, "CONFIG SET maxmemory-policy allkeys-lru");
	a = peer_new("proxy", "a");
	while (strstr(cluster_why(a->c), "maxmemory-policy is allkeys-lru: set it to noeviction") == NULL)
		run_for(10);
	assert_false(a->up);
	redis_do(&redis, "CONFIG SET maxmemory-policy noeviction");
	redis_wait(loop, &a->up);	/* mended: it comes by itself */
	redis_do(&redis, "CONFIG SET appendonly no");
	cluster_preflight(a->c, on_text, a);
	assert_int_equal(await(a), ERR_STATE);
	assert_non_null(strstr(a->text, "appendonly"));
	redis_do(&redis, "CONFIG SET save %s", "60000 1");
	cluster_preflight(a->c, on_text, a);
	assert_int_equal(await(a), ERR_OK);
	assert_string_equal(a->text, "");
	redis_do(&redis, "CONFIG SET maxmemory-policy volatile-ttl");
	peer_free(a);
	a = peer_new("proxy", "a");
	cluster_free(&a->c);
	a->conf.redis_allow_unsafe = true;
	a->c = cluster_new(loop, &a->conf, "proxy", "a", &cbs, a);
	redis_wait(loop, &a->up);
	peer_free(a);
}

static void
test_binary_keys(void **state)
{
	struct peer *a = peer_up("proxy", "a");
	static const char key[] = "a b\n\0\xff\"{}";

	(void)state;
	marks_set(a->c, 0, key, sizeof key - 1, MARK_DISK(MARK_PUT), 0, NULL, on_mark, a);
	assert_int_equal(await(a), ERR_OK);
	intent(a, 1, "x", MARK_PUT, 60000);
	marks_lease(a->c, key, sizeof key - 1, on_lease, a);
	assert_int_equal(await(a), ERR_OK);
	assert_true(a->l.seen.gen > 0);
	marks_finish(a->c, key, sizeof key - 1, &a->l, a->l.seen.gen, on_finish, a);
	assert_int_equal(await(a), ERR_OK);
	assert_true(a->cleared);
	peer_free(a);
}

static void
test_free_with_pending(void **state)
{
	struct peer *a = peer_up("proxy", "a");

	(void)state;
	marks_set(a->c, 0, KEY("k"), MARK_DISK(MARK_PUT), 0, NULL, on_mark, a);
	marks_lease(a->c, KEY("k"), on_lease, a);
	marks_count(a->c, on_count, a);
	cluster_preflight(a->c, on_text, a);
	cluster_free(&a->c);
	run_for(20);
	assert_false(a->got);
	peer_free(a);
}

/* Who has written a key, whoever it was, keeps all others from it for the interval; what is over leaves nothing behind. */
static void
test_pace(void **state)
{
	struct peer *a = peer_up("proxy", "p1"), *b = peer_up("migrator", "m1");
	uint64_t left;

	(void)state;
	marks_pace(a->c, KEY("k"), 300, on_pace, a);
	assert_int_equal(await(a), ERR_OK);
	assert_int_equal(a->n, 0);
	marks_pace(b->c, KEY("k"), 300, on_pace, b);
	assert_int_equal(await(b), ERR_OK);
	assert_in_range(b->n, 1, 300);
	left = b->n;
	marks_pace(a->c, KEY("other"), 300, on_pace, a);
	assert_int_equal(await(a), ERR_OK);
	assert_int_equal(a->n, 0);
	assert_int_equal(redis_int(&redis, "ZCARD r2shim:{test}:paced"), 2);
	/* To have asked in vain costs nothing. */
	run_for(left + 10);
	marks_pace(b->c, KEY("k"), 300, on_pace, b);
	assert_int_equal(await(b), ERR_OK);
	assert_int_equal(b->n, 0);
	run_for(310);
	marks_pace(a->c, KEY("third"), 300, on_pace, a);
	assert_int_equal(await(a), ERR_OK);
	assert_int_equal(redis_int(&redis, "ZCARD r2shim:{test}:paced"), 1);
	peer_free(a);
	peer_free(b);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, ground_setup, ground_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse), cmocka_unit_test(test_base_text), TEST(test_pace), TEST(test_sides), TEST(test_set_under_lease),
		TEST(test_intent_waits_for_lease), TEST(test_hold), TEST(test_set_and_clear), TEST(test_many), TEST(test_open_intent), TEST(test_R9_intent_runs_out),
		TEST(test_lease), TEST(test_lease_expired), TEST(test_lease_cancel), TEST(test_R15_flushall), TEST(test_newcomer_after_flush),
		TEST(test_wrong_first), TEST(test_R16_older_redis), TEST(test_restart), TEST(test_reconnect), TEST(test_announce),
		TEST(test_members_must_announce), TEST(test_heartbeat), TEST(test_A29_R17_unsafe_redis), TEST(test_binary_keys), TEST(test_free_with_pending),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
