/* queue against a real Redis: due keys, taking and ending, the dead's entries, own leftovers, flushes, failures and dead letters. */
#include "ground.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "coord/marks.h"
#include "coord/queue.h"

enum { LIMIT = 300, ITEMS = 64 };

struct worker {
	struct conf conf;
	const char *name;
	struct cluster *c;
	struct queue *q;
	struct queue_item *item[ITEMS];
	unsigned n, live, ups;
	bool up, done, dead, stop_in_item;
	enum err e;
	uint64_t count;
	struct queue_depth depth;
	char text[300];
};

static void
on_up(void *arg, bool fresh)
{
	struct worker *w = arg;

	(void)fresh;
	w->up = true;
	w->ups++;
}

static void
on_down(void *arg)
{
	struct worker *w = arg;

	w->up = false;
}

static void
on_item(void *arg, struct queue_item *it)
{
	struct worker *w = arg;

	assert_true(w->n < ITEMS);
	w->item[w->n++] = it;
	w->live += it->kind == QUEUE_LIVE;
	if (w->stop_in_item)
		queue_free(&w->q);
}

static const struct queue_cb qcb = { on_item };

static struct worker *
worker_new(const char *name, unsigned live, unsigned backfill)
{
	static const struct cluster_cb cbs = { .up = on_up, .down = on_down };
	struct worker *w = mem_zalloc(sizeof *w);

	w->name = name;
	w->conf = ground_conf(2000, LIMIT);
	w->conf.migrator_attempts = 3;
	w->c = cluster_new(loop, &w->conf, "migrator", name, &cbs, w);
	UNTIL(w->up);
	if (live + backfill > 0)
		w->q = queue_new(loop, w->c, &w->conf, name, live, backfill, &qcb, w);
	return w;
}

/* A kill -9, as far as Redis can see. */
static void
worker_free(struct worker *w)
{
	queue_free(&w->q);
	cluster_free(&w->c);
	mem_free(w);
}

static void
on_done(void *arg, enum err e)
{
	struct worker *w = arg;

	w->e = e;
	w->done = true;
}

static void
on_depth(void *arg, enum err e, const struct queue_depth *d)
{
	struct worker *w = arg;

	w->depth = *d;
	on_done(w, e);
}

static void
on_fail(void *arg, enum err e, bool dead)
{
	struct worker *w = arg;

	w->dead = dead;
	on_done(w, e);
}

static void
on_retry(void *arg, enum err e, uint64_t n)
{
	struct worker *w = arg;

	w->count = n;
	on_done(w, e);
}

static void
on_dead(void *arg, const char *key, size_t klen, const char *json)
{
	struct worker *w = arg;

	w->count++;
	snprintf(w->text, sizeof w->text, "%.*s %s", (int)klen, key, json);
}

static void
on_set(void *arg, enum err e, const struct mark *m)
{
	(void)m;
	on_done(arg, e);
}

static enum err
await(struct worker *w)
{
	redis_wait(loop, &w->done);
	w->done = false;
	return w->e;
}

static const struct queue_depth *
depth(struct worker *w)
{
	queue_depth(w->c, on_depth, w);
	assert_int_equal(await(w), ERR_OK);
	return &w->depth;
}

static void
mark(struct worker *w, const char *key, uint64_t due)
{
	marks_set(w->c, 0, KEY(key), MARK_DISK(MARK_PUT), due, NULL, on_set, w);
	assert_int_equal(await(w), ERR_OK);
}

static void
end(struct worker *w, unsigned i)
{
	queue_done(w->q, &w->item[i], on_done, w);
	assert_null(w->item[i]);
	assert_int_equal(await(w), ERR_OK);
}

static bool
is(const struct queue_item *it, const char *data)
{
	return it->len == strlen(data) && memcmp(it->data, data, it->len) == 0;
}

static void
test_due(void **state)
{
	struct worker *w = worker_new("w", 4, 2);

	(void)state;
	mark(w, "now", 0);
	mark(w, "later", 400);
	UNTIL(w->n == 1);
	assert_true(is(w->item[0], "now"));
	assert_int_equal(w->item[0]->kind, QUEUE_LIVE);
	assert_int_equal(w->item[0]->deliveries, 1);
	UNTIL(w->n == 2);
	assert_true(is(w->item[1], "later"));
	assert_int_equal(depth(w)->live_pending, 2);
	assert_int_equal(w->depth.due, 2);	/* they are still dirty: should the entries be lost, they come again */
	end(w, 0);
	end(w, 1);
	assert_int_equal(depth(w)->live, 0);
	assert_int_equal(w->depth.live_pending, 0);
	assert_int_equal(queue_out(w->q), 0);
	worker_free(w);
}

static void
test_wants(void **state)
{
	struct worker *w = worker_new("w", 3, 1), *other;
	char json[32];

	(void)state;
	for (int i = 0; i < 10; i++) {
		snprintf(json, sizeof json, "{\"v\":%d}", i);
		queue_add_batch(w->c, json, strlen(json), on_done, w);
		assert_int_equal(await(w), ERR_OK);
		/* A worker with enough live keys in hand takes no batch. */
		UNTIL(w->n >= 1);
		queue_hint(w->c, json, strlen(json));
	}
	UNTIL(w->n == 4);
	run_for(100);
	assert_int_equal(w->n, 4);
	assert_int_equal(w->live, 3);
	assert_int_equal(queue_out(w->q), 4);
	/* What it does not take is there for others. */
	other = worker_new("other", 20, 20);
	UNTIL(other->n == 16);
	for (unsigned i = 0; i < 4; i++)
		end(w, i);
	for (unsigned i = 0; i < 16; i++)
		end(other, i);
	assert_int_equal(depth(w)->live + w->depth.backfill + w->depth.live_pending + w->depth.backfill_pending, 0);
	/* Woken at once by what comes. */
	queue_add_batch(w->c, "{}", 2, on_done, w);
	assert_int_equal(await(w), ERR_OK);
	UNTIL(w->n + other->n == 21);
	worker_free(w);
	worker_free(other);
}

static void
test_R18_dead_worker(void **state)
{
	struct worker *a = worker_new("a", 5, 5), *b;
	uint64_t began;

	(void)state;
	queue_hint(a->c, KEY("k"));
	queue_add_batch(a->c, "{}", 2, on_done, a);
	await(a);
	UNTIL(a->n == 2);
	worker_free(a);
	began = clock_mono_ms();
	b = worker_new("b", 5, 5);
	UNTIL(b->n == 2);
	/* Not before its lease and its last request are over. */
	assert_in_range(clock_mono_ms() - began, LEASE + LIMIT - 100, LEASE + LIMIT + 1500);
	assert_int_equal(b->item[0]->deliveries, 2);
	end(b, 0);
	end(b, 1);
	assert_int_equal(depth(b)->live + b->depth.backfill + b->depth.live_pending + b->depth.backfill_pending, 0);
	worker_free(b);
}

static void
test_kept_alive(void **state)
{
	struct worker *a = worker_new("a", 1, 1), *b;

	(void)state;
	queue_add_batch(a->c, "{}", 2, on_done, a);
	await(a);
	UNTIL(a->n == 1);
	b = worker_new("b", 1, 1);
	run_for(2 * (LEASE + LIMIT));	/* a long batch: a touches it */
	assert_int_equal(b->n, 0);
	assert_int_equal(a->n, 1);
	end(a, 0);
	worker_free(a);
	worker_free(b);
}

static void
test_own_leftovers(void **state)
{
	struct worker *w = worker_new("w", 10, 1);
	char key[16];

	(void)state;
	for (int i = 0; i < 7; i++) {
		snprintf(key, sizeof key, "k%d", i);
		queue_hint(w->c, KEY(key));
	}
	UNTIL(w->n == 7);
	worker_free(w);
	/* The same name again: at once, in portions of what it wants, and counted. */
	w = worker_new("w", 3, 1);
	UNTIL(w->n == 3);
	assert_true(is(w->item[0], "k0"));
	assert_int_equal(w->item[0]->deliveries, 2);
	for (unsigned i = 0; i < 7; i++) {
		UNTIL(w->n > i);
		end(w, i);
	}
	run_for(50);
	assert_int_equal(w->n, 7);
	assert_int_equal(depth(w)->live, 0);
	worker_free(w);
}

static void
test_R49_release_and_stop(void **state)
{
	struct worker *a = worker_new("a", 2, 2), *b;

	(void)state;
	queue_hint(a->c, KEY("k"));
	UNTIL(a->n == 1);
	queue_stop(a->q);
	queue_release(a->q, &a->item[0]);
	assert_int_equal(queue_out(a->q), 0);
	b = worker_new("b", 2, 2);
	UNTIL(b->n == 1);
	assert_true(is(b->item[0], "k"));
	assert_int_equal(b->item[0]->deliveries, 1);
	/* a takes nothing more; what its waiting read still gets is given back. */
	queue_hint(a->c, KEY("k2"));
	queue_hint(a->c, KEY("k3"));
	UNTIL(b->n + 0 >= 2);
	end(b, 0);
	UNTIL(b->n == 3);
	assert_int_equal(a->n, 1);
	worker_free(a);
	worker_free(b);
}

static void
test_free_in_item(void **state)
{
	struct worker *w = worker_new("w", 5, 0);

	(void)state;
	w->stop_in_item = true;
	queue_hint(w->c, KEY("k"));
	queue_hint(w->c, KEY("k2"));
	UNTIL(w->n == 1);
	run_for(50);
	assert_null(w->q);
	worker_free(w);
}

static void
test_flushall(void **state)
{
	struct worker *w = worker_new("w", 2, 2);

	(void)state;
	queue_hint(w->c, KEY("k"));
	UNTIL(w->n == 1);
	redis_do(&redis, "FLUSHALL");
	UNTIL(w->ups == 2);
	end(w, 0);	/* its entry is gone: no matter */
	queue_hint(w->c, KEY("k2"));
	UNTIL(w->n == 2);
	assert_true(is(w->item[1], "k2"));
	end(w, 1);
	/* A stream that somebody deleted. */
	redis_do(&redis, "DEL r2shim:{test}:live");
	queue_hint(w->c, KEY("k3"));
	UNTIL(w->n == 3);
	assert_true(is(w->item[2], "k3"));
	worker_free(w);
}

static void
test_failures(void **state)
{
	struct worker *w = worker_new("w", 0, 0);
	long long first, second;

	(void)state;
	mark(w, "bad", 100000);
	queue_fail(w->c, &w->conf, KEY("bad"), "no \"luck\"\n", on_fail, w);
	assert_int_equal(await(w), ERR_OK);
	assert_false(w->dead);
	first = redis_int(&redis, "ZSCORE r2shim:{test}:due bad") - (long long)clock_real_ms();
	assert_in_range(first, 0, 1100);
	queue_fail(w->c, &w->conf, KEY("bad"), "again", on_fail, w);
	await(w);
	assert_false(w->dead);
	second = redis_int(&redis, "ZSCORE r2shim:{test}:due bad") - (long long)clock_real_ms();
	assert_in_range(second, 400, 2100);
	queue_fail(w->c, &w->conf, KEY("bad"), "no \"luck\"\n", on_fail, w);
	await(w);
	assert_true(w->dead);
	assert_int_equal(depth(w)->dead, 1);
	assert_int_equal(w->depth.due, 0);
	w->count = 0;
	queue_dead(w->c, on_dead, on_done, w);
	assert_int_equal(await(w), ERR_OK);
	assert_int_equal(w->count, 1);
	assert_non_null(strstr(w->text, "bad {"));
	assert_non_null(strstr(w->text, "\"why\":\"no \\\"luck\\\"\\n\""));
	assert_non_null(strstr(w->text, "\"attempts\":3"));
	/* A new write is a new chance. */
	mark(w, "bad", 100000);
	assert_int_equal(depth(w)->dead, 0);
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:attempts"), 0);
	for (int i = 0; i < 2500; i++) {
		redis_do(&redis, "HSET r2shim:{test}:dead k%d {}", i);
	}
	w->count = 0;
	queue_dead(w->c, on_dead, on_done, w);
	assert_int_equal(await(w), ERR_OK);
	assert_int_equal(w->count, 2500);
	queue_dead_retry(w->c, on_retry, w);
	assert_int_equal(await(w), ERR_OK);
	assert_int_equal(w->count, 2500);
	assert_int_equal(depth(w)->dead, 0);
	assert_int_equal(w->depth.due, 2501);
	worker_free(w);
}

static void
test_R20_a_key_that_kills(void **state)
{
	struct worker *w = worker_new("w", 4, 0);

	(void)state;
	queue_hint(w->c, KEY("bad"));
	queue_hint(w->c, KEY("bad"));
	queue_hint(w->c, KEY("good"));
	UNTIL(w->n == 3);
	queue_poison(w->c, KEY("bad"), "died of it", on_fail, w);
	assert_int_equal(await(w), ERR_OK);
	assert_true(w->dead);
	/* Its entries are gone; who has one in hand may end it. */
	assert_int_equal(depth(w)->live, 1);
	assert_int_equal(w->depth.dead, 1);
	for (unsigned i = 0; i < 3; i++)
		end(w, i);
	assert_int_equal(depth(w)->live_pending, 0);
	worker_free(w);
}

static void
test_unmarked_due_once(void **state)
{
	struct worker *w = worker_new("w", 4, 0);

	(void)state;
	/* A key without a mark that failed comes again once, not for ever. */
	queue_fail(w->c, &w->conf, KEY("hint"), "x", on_fail, w);
	await(w);
	UNTIL(w->n == 1);
	assert_int_equal(depth(w)->due, 0);
	end(w, 0);
	worker_free(w);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, ground_setup, ground_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_due), TEST(test_wants), TEST(test_R18_dead_worker), TEST(test_kept_alive),
		TEST(test_own_leftovers), TEST(test_R49_release_and_stop), TEST(test_free_in_item),
		TEST(test_flushall), TEST(test_failures), TEST(test_R20_a_key_that_kills), TEST(test_unmarked_due_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
