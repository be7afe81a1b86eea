/* ground: what the tests of what processes share stand on: a Redis of their own and a loop, new for each test. */
#ifndef UNIT_GROUND_H
#define UNIT_GROUND_H

#include "redis.h"
#include "unit.h"

#include <string.h>

#include "base/clock.h"
#include "base/conf.h"
#include "coord/marks.h"

enum { LEASE = 1000 };		/* ms, in every configuration */

extern struct redis redis;
extern struct loop *loop;

/* cmocka's setup and teardown. */
int ground_setup(void **state);
int ground_teardown(void **state);
/* A process's configuration: the site "test", this Redis. limit_ms: of a request to R2. Nothing in it is to be freed. */
struct conf ground_conf(uint64_t timeout_ms, uint64_t limit_ms);

void run_for(uint64_t ms);
#define UNTIL(cond) do { \
		uint64_t began_ = clock_mono_ms(); \
		while (!(cond)) { \
			if (clock_mono_ms() - began_ > 15000) \
				fail_msg("not in time: %s", #cond); \
			run_for(3); \
		} \
	} while (0)
#define KEY(k) (k), strlen(k)

/* A write that goes to R2 first and found this on the disk. */
struct mark_write r2_write(enum mark_op op, const char *base);
/* Is the mark "clean" (gen 0), or of this side, operation and base: "r d 1.2.3.4", "l p "? */
void assert_mark_is(const struct mark *m, const char *want);

#endif
