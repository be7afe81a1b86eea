/* The phase table against the options' names, the canary's hash, retry's bounds, the breaker's states. */
#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "coord/phase.h"
#include "sync/breaker.h"
#include "sync/retry.h"

static void
test_names(void **state)
{
	char names[256];
	size_t n = 0;

	(void)state;
	for (int i = 0; i < PHASE_COUNT; i++) {
		n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i > 0 ? "|" : "", phase_row((enum phase)i)->name);
		assert_int_equal(phase_by_name(phase_row((enum phase)i)->name), i);
	}
	assert_int_equal(phase_by_name("backfil"), -1);
	assert_int_equal(phase_by_name(""), -1);
#define OPT_STR(...)
#define OPT_ENUM(field, path, values, ...) if (strcmp(path, "phase") == 0) assert_string_equal(names, values);
#define OPT_BOOL(...)
#define OPT_INT(...)
#define OPT_SIZE(...)
#define OPT_TIME(...)
#define OPT_LIST(...)
#include "base/options.def"
}

static void
test_canary(void **state)
{
	unsigned in[101] = {0};
	const unsigned pc[] = { 0, 1, 10, 50, 99, 100 };

	(void)state;
	for (unsigned k = 0; k < 20000; k++) {
		char key[40];
		int n = snprintf(key, sizeof key, "uploads/2026/%05u.jpg", k);
		bool before = false;

		for (size_t i = 0; i < sizeof pc / sizeof *pc; i++) {
			bool now = phase_canary(key, (size_t)n, pc[i]);

			/* Who was in at a lower percentage stays in. */
			assert_true(now || !before);
			before = now;
			in[pc[i]] += now;
		}
	}
	assert_int_equal(in[0], 0);
	assert_in_range(in[1], 100, 300);
	assert_in_range(in[10], 1700, 2300);
	assert_in_range(in[50], 9500, 10500);
	assert_int_equal(in[100], 20000);
	/* Frozen: another hash would move keys from one side to the other in a running migration. */
	assert_true(phase_canary("a.jpg", 5, 24) && !phase_canary("a.jpg", 5, 23));
}

static void
test_retry(void **state)
{
	(void)state;
	for (unsigned attempt = 1; attempt < 200; attempt++)
		for (unsigned i = 0; i < 20; i++) {
			uint64_t top = attempt < 10 ? 100 << attempt : 60000, ms = retry_delay_ms(attempt, 100, 60000);

			assert_in_range(ms, 100, top > 60000 ? 60000 : top);
		}
	assert_int_equal(retry_delay_ms(5, 100, 100), 100);
	assert_int_equal(retry_delay_ms(5, 100, 50), 50);
	assert_in_range(retry_delay_ms(1, 0, 50), 0, 0);
	assert_in_range(retry_delay_ms(100, 1, UINT64_MAX), 1, UINT64_MAX);
}

static void
test_breaker(void **state)
{
	struct breaker b;

	(void)state;
	breaker_init(&b, 3, 1000);
	for (int i = 0; i < 2; i++) {
		assert_true(breaker_allow(&b, 10));
		breaker_fail(&b, 10);
	}
	breaker_ok(&b);
	for (int i = 0; i < 3; i++) {
		assert_true(breaker_allow(&b, 10));
		breaker_fail(&b, 10);
	}
	assert_int_equal(b.state, BREAKER_OPEN);
	assert_false(breaker_allow(&b, 1009));
	breaker_fail(&b, 1009);
	assert_true(breaker_allow(&b, 1010));
	assert_int_equal(b.state, BREAKER_HALF_OPEN);
	assert_false(breaker_allow(&b, 1010));
	breaker_fail(&b, 1020);
	assert_false(breaker_allow(&b, 2019));
	assert_true(breaker_allow(&b, 2020));
	breaker_ok(&b);
	assert_int_equal(b.state, BREAKER_CLOSED);
	assert_true(breaker_allow(&b, 2020));
	assert_true(breaker_allow(&b, 2020));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_canary),
		cmocka_unit_test(test_retry),
		cmocka_unit_test(test_breaker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
