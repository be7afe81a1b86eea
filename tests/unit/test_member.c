/* The site's members against a real Redis: who is registered, the roster that outlives a flush, arming and disarming, forgetting, the
 * moment from which there is no way back. */
#include "ground.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "coord/cluster.h"
#include "coord/marks.h"
#include "coord/roster.h"
#include "coord/run.h"

enum { LIMIT = 400 };

struct peer {
	struct conf conf;
	struct cluster *c;
	bool up, heard, got;
	enum err e;
	uint64_t since;
	char text[200];
	struct roster *roster;
};

static void
on_up(void *arg, bool fresh)
{
	struct peer *p = arg;

	(void)fresh;
	p->up = true;
	if (p->roster != NULL)
		roster_up(p->roster, p->c);
}

static void
on_down(void *arg)
{
	struct peer *p = arg;

	p->up = false;
	if (p->roster != NULL)
		roster_down(p->roster);
}

static void
on_heard(void *arg)
{
	struct peer *p = arg;

	p->heard = true;
	if (p->roster != NULL)
		roster_heard(p->roster, p->c, true);
}

static const struct cluster_cb cbs = { .up = on_up, .down = on_down, .heard = on_heard };

/* What its heartbeat says is taken by Redis, and Redis's answer is here. */
static void
beat(struct peer *p, int phase, uint64_t armed)
{
	char json[100];

	snprintf(json, sizeof json, "{\"phase_number\": %d, \"armed_ms\": %llu}", phase, (unsigned long long)armed);
	cluster_heartbeat(p->c, json);
	for (int i = 0; i < 2; i++) {		/* one may be on its way */
		p->heard = false;
		cluster_beat_now(p->c);
		redis_wait(loop, &p->heard);
	}
}

static struct peer *
peer_new(const char *role, const char *id)
{
	struct peer *p = mem_zalloc(sizeof *p);

	p->conf = ground_conf(2000, LIMIT);
	p->c = cluster_new(loop, &p->conf, role, id, &cbs, p);
	redis_wait(loop, &p->up);
	return p;
}

/* As one that was killed. */
static void
peer_free(struct peer *p)
{
	roster_free(&p->roster);
	cluster_free(&p->c);
	mem_free(p);
}

static void
on_arm(void *arg, enum err e, uint64_t since, const char *below)
{
	struct peer *p = arg;

	p->got = true;
	p->e = e;
	p->since = since;
	snprintf(p->text, sizeof p->text, "%s", below);
}

static void
on_done(void *arg, enum err e)
{
	struct peer *p = arg;

	p->got = true;
	p->e = e;
}

static void
on_lease(void *arg, enum err e, const struct lease *l)
{
	(void)l;
	on_done(arg, e);
}

static enum err
await(struct peer *p)
{
	redis_wait(loop, &p->got);
	p->got = false;
	return p->e;
}

static enum err
lease(struct peer *p, const char *key)
{
	marks_lease(p->c, key, strlen(key), on_lease, p);
	return await(p);
}

static enum err
forget(struct peer *p, const char *id, bool force)
{
	run_forget(p->c, id, force, 5000, on_done, p);
	return await(p);
}

static uint64_t
arm(struct peer *p)
{
	run_arm(p->c, on_arm, p);
	assert_int_equal(await(p), ERR_OK);
	return p->since;
}

/* R8: not while somebody is below validate, or was not heard since Redis was emptied; and each time has a number of its own. */
static void
test_arm_and_disarm(void **state)
{
	struct peer *a = peer_new("proxy", "a"), *b = peer_new("proxy", "b");
	uint64_t ms, first;

	(void)state;
	beat(a, 4, 0);
	assert_int_equal(cluster_armed(a->c, NULL), CLUSTER_UNKNOWN);
	beat(b, 3, 0);
	assert_int_equal(arm(a), 0);
	assert_string_equal(a->text, "b");
	beat(b, 4, 0);
	first = arm(a);
	assert_true(first > 0);
	assert_int_equal(arm(b), first);
	beat(b, 4, 0);
	assert_int_equal(cluster_armed(b->c, &ms), CLUSTER_ARMED);
	assert_int_equal(ms, first);
	beat(b, 4, first);
	beat(a, 3, first);
	assert_int_equal(cluster_members(a->c)->n, 2);
	assert_int_equal(members_find(cluster_members(a->c), "b")->armed_ms, first);
	assert_int_equal(members_low(cluster_members(a->c)), 3);
	assert_int_equal(members_high(cluster_members(a->c)), 4);
	/* Not disarmed while one is in validate, while the disk is owed something, while a write to R2 may be running. */
	cluster_disarm(a->c);
	beat(a, 3, first);
	assert_int_equal(cluster_armed(a->c, NULL), CLUSTER_ARMED);
	beat(b, 3, first);
	redis_do(&redis, "ZADD r2shim:{test}:debt 1 k");
	cluster_disarm(a->c);
	beat(a, 3, first);
	assert_int_equal(cluster_armed(a->c, NULL), CLUSTER_ARMED);
	redis_do(&redis, "DEL r2shim:{test}:debt");
	marks_intent(a->c, 1, "k", 1, (struct mark_write){ .side = MARK_R2, .base = { .known = true } }, 60000, on_done, a);
	assert_int_equal(await(a), ERR_OK);
	cluster_disarm(a->c);
	beat(a, 3, first);
	assert_int_equal(cluster_armed(a->c, NULL), CLUSTER_ARMED);
	marks_abandon(a->c, 1, on_done, a);
	assert_int_equal(await(a), ERR_OK);
	cluster_disarm(a->c);
	beat(a, 3, first);
	assert_int_equal(cluster_armed(a->c, NULL), CLUSTER_UNARMED);
	/* Explicitly disarmed: who remembers the old times does not arm it again, who writes to R2 first does. */
	cluster_arm(a->c, CLUSTER_ARM_AGAIN);
	beat(a, 3, 0);
	assert_int_equal(cluster_armed(a->c, NULL), CLUSTER_UNARMED);
	cluster_arm(a->c, CLUSTER_ARM_STAY);
	beat(a, 5, 0);
	assert_int_equal(cluster_armed(a->c, &ms), CLUSTER_ARMED);
	assert_true(ms > first);
	peer_free(a);
	peer_free(b);
}

/* An armed one says it again after a flush. */
static void
test_armed_after_flush(void **state)
{
	struct peer *a = peer_new("proxy", "a");

	(void)state;
	beat(a, 4, 0);
	assert_true(arm(a) > 0);
	a->up = false;
	redis_do(&redis, "FLUSHALL");
	redis_wait(loop, &a->up);
	assert_int_equal(cluster_armed(a->c, NULL), CLUSTER_UNKNOWN);
	cluster_arm(a->c, CLUSTER_ARM_AGAIN);
	beat(a, 4, 0);
	assert_int_equal(cluster_armed(a->c, NULL), CLUSTER_ARMED);
	peer_free(a);
}

/* The dead are not forgotten with Redis: leases wait for them, without bound on an armed site; until somebody forgets them. */
static void
test_roster_after_flush(void **state)
{
	struct peer *a = peer_new("proxy", "a"), *b = peer_new("proxy", "b"), *m = peer_new("migrator", "m");
	struct errbuf eb;
	uint64_t began;
	enum err e;

	(void)state;
	assert_int_equal(roster_open(&a->roster, redis.dir, &eb), ERR_OK);
	assert_false(roster_registered(a->roster));
	beat(b, 4, 0);
	beat(a, 4, 0);
	assert_true(roster_registered(a->roster));
	peer_free(b);
	/* Its memory is a file. */
	roster_free(&a->roster);
	assert_int_equal(roster_open(&a->roster, redis.dir, &eb), ERR_OK);
	assert_true(roster_registered(a->roster));
	a->up = m->up = false;
	redis_do(&redis, "FLUSHALL");
	redis_wait(loop, &a->up);
	beat(a, 4, 0);
	assert_int_equal(cluster_members(a->c)->n, 2);
	assert_int_equal(members_find(cluster_members(a->c), "b")->phase, -1);
	assert_false(members_find(cluster_members(a->c), "b")->announced);
	assert_int_equal(members_low(cluster_members(a->c)), -1);
	/* Nobody below validate, but one that was not heard: not armed. */
	assert_int_equal(arm(a), 0);
	assert_string_equal(a->text, "b");
	cluster_arm(a->c, CLUSTER_ARM_STAY);
	beat(a, 5, 0);
	if (!m->up)
		redis_wait(loop, &m->up);
	run_for(LEASE + LIMIT + 300);
	assert_int_equal(lease(m, "k"), ERR_QUARANTINE);
	assert_int_equal(forget(a, "nobody", false), ERR_NOTFOUND);
	assert_int_equal(forget(a, "a", false), ERR_BUSY);
	assert_int_equal(forget(a, "b", false), ERR_OK);
	assert_int_equal(lease(m, "k"), ERR_OK);
	/* What Redis lists is what there is: b is not registered again. */
	beat(a, 5, 0);
	a->up = m->up = false;
	redis_do(&redis, "FLUSHALL");
	redis_wait(loop, &a->up);
	beat(a, 5, 0);
	assert_int_equal(cluster_members(a->c)->n, 1);
	/* Unarmed, the dead are waited for as long as their leases could last. */
	redis_do(&redis, "DEL r2shim:{test}:site");
	redis_do(&redis, "HSET r2shim:{test}:beats dead %s", "0 99999999999999");
	if (!m->up)
		redis_wait(loop, &m->up);
	run_for(LEASE + LIMIT + 300);
	assert_int_equal(lease(m, "k"), ERR_QUARANTINE);
	redis_do(&redis, "HSET r2shim:{test}:beats dead %s", "0 1");
	for (began = clock_mono_ms(); (e = lease(m, "k")) == ERR_QUARANTINE;)
		assert_true(clock_mono_ms() - began < 5000);
	assert_int_equal(e, ERR_OK);
	peer_free(a);
	peer_free(m);
}

/* Registering again is no answer to a mere restart of ours, and who has ended is not in the file any more. */
static void
test_roster_same_epoch(void **state)
{
	struct peer *a = peer_new("proxy", "a"), *b = peer_new("proxy", "b");
	struct errbuf eb;
	char path[100];

	(void)state;
	assert_int_equal(roster_open(&a->roster, redis.dir, &eb), ERR_OK);
	beat(b, 1, 0);
	beat(a, 1, 0);
	peer_free(a);
	cluster_leave(b->c, NULL, NULL);
	while (redis_int(&redis, "HLEN r2shim:{test}:beats") != 1)
		run_for(10);
	peer_free(b);
	a = peer_new("proxy", "a");
	assert_int_equal(roster_open(&a->roster, redis.dir, &eb), ERR_OK);
	roster_up(a->roster, a->c);
	beat(a, 1, 0);
	assert_int_equal(cluster_members(a->c)->n, 1);
	roster_leave(a->roster);
	roster_free(&a->roster);
	assert_int_equal(roster_open(&a->roster, redis.dir, &eb), ERR_OK);
	assert_false(roster_registered(a->roster));
	roster_free(&a->roster);
	/* A folder that is not there: it goes on with what it has in memory. */
	snprintf(path, sizeof path, "%s/none", redis.dir);
	assert_int_equal(roster_open(&a->roster, path, &eb), ERR_OK);
	roster_heard(a->roster, a->c, true);
	assert_true(roster_registered(a->roster));
	peer_free(a);
}

/* The way back closes a while after the last one has come to r2-only, and not if one steps back in between. */
static void
test_committed(void **state)
{
	struct peer *a = peer_new("proxy", "a"), *b = peer_new("proxy", "b"), *c;
	struct errbuf eb;
	uint64_t began;

	(void)state;
	assert_int_equal(roster_open(&a->roster, redis.dir, &eb), ERR_OK);
	beat(a, 6, 0);
	beat(b, 5, 0);
	assert_int_equal(redis_int(&redis, "HEXISTS r2shim:{test}:site r2-only-since"), 0);
	beat(b, 6, 0);
	assert_int_equal(redis_int(&redis, "HEXISTS r2shim:{test}:site r2-only-since"), 1);
	beat(b, 5, 0);
	assert_int_equal(redis_int(&redis, "HEXISTS r2shim:{test}:site r2-only-since"), 0);
	beat(b, 6, 0);
	began = clock_mono_ms();
	while (cluster_committed(a->c) == 0) {
		assert_true(clock_mono_ms() - began < 9000);
		run_for(50);
	}
	assert_true(clock_mono_ms() - began > 4000);
	/* Who says hello knows it: a command sends no heartbeat. */
	c = peer_new("command", "c");
	assert_int_equal(cluster_committed(c->c), cluster_committed(a->c));
	peer_free(c);
	/* It outlives Redis, and who is alone below it. */
	redis_do(&redis, "FLUSHALL");
	assert_true(roster_committed(a->roster) > 0);
	roster_free(&a->roster);
	assert_int_equal(roster_open(&a->roster, redis.dir, &eb), ERR_OK);
	assert_true(roster_committed(a->roster) > 0);
	peer_free(a);
	peer_free(b);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, ground_setup, ground_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_arm_and_disarm), TEST(test_armed_after_flush), TEST(test_roster_after_flush), TEST(test_roster_same_epoch), TEST(test_committed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
