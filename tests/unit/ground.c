#include "ground.h"

#include <stdio.h>

struct redis redis;
struct loop *loop;

static char site[] = "test";

int
ground_setup(void **state)
{
	(void)state;
	redis_start(&redis, NULL);
	loop = loop_new();
	return 0;
}

int
ground_teardown(void **state)
{
	(void)state;
	loop_free(&loop);
	redis_stop(&redis);
	return 0;
}

struct conf
ground_conf(uint64_t timeout_ms, uint64_t limit_ms)
{
	return (struct conf){ .refs = 1, .site = site, .redis_address = redis.address, .redis_timeout = timeout_ms, .lease = LEASE,
		.r2_request_limit = limit_ms };
}

void
run_for(uint64_t ms)
{
	bool never = false;

	loop_run_until(loop, &never, ms);
}

struct mark_write
r2_write(enum mark_op op, const char *base)
{
	struct mark_write w = { .op = op, .side = MARK_R2 };

	assert_true(marks_base_parse(KEY(base), &w.base));
	return w;
}

void
assert_mark_is(const struct mark *m, const char *want)
{
	char text[200] = "clean", base[MARK_BASE_MAX];

	if (m->gen > 0)
		snprintf(text, sizeof text, "%c %c %s", m->side == MARK_R2 ? 'r' : 'l', m->op == MARK_DELETE ? 'd' : 'p', marks_base_text(&m->base, base));
	assert_string_equal(text, want);
}
