/* balance: the choice among servers, and who is up, with a clock that the test moves. */
#include "unit.h"

#include "proxy/balance.h"

static struct balance b;
static unsigned busy[BALANCE_MAX];

static void
fresh(unsigned n)
{
	unsigned i;

	balance_init(&b, n);
	balance_limits(&b, 3, 1000);
	for (i = 0; i < BALANCE_MAX; i++)
		busy[i] = 0;
}

static int
pick(uint64_t now)
{
	return balance_pick(&b, busy, 0, true, now);
}

static void
fail_out(unsigned i, uint64_t now)
{
	assert_false(balance_failed(&b, i, now));
	assert_false(balance_failed(&b, i, now));
	assert_true(balance_failed(&b, i, now));
	assert_false(balance_up(&b, i));
}

static void
test_equals_take_turns(void **state)
{
	(void)state;
	fresh(3);
	assert_int_equal(pick(0), 0);
	assert_int_equal(pick(0), 1);
	assert_int_equal(pick(0), 2);
	assert_int_equal(pick(0), 0);
}

static void
test_least_busy(void **state)
{
	(void)state;
	fresh(3);
	busy[0] = 4;
	busy[1] = 2;
	busy[2] = 3;
	assert_int_equal(pick(0), 1);
	assert_int_equal(pick(0), 1);
	busy[1] = 3;
	assert_int_equal(pick(0), 2);
	assert_int_equal(pick(0), 1);
}

static void
test_out_after_failures_in_a_row(void **state)
{
	(void)state;
	fresh(2);
	assert_false(balance_failed(&b, 0, 0));
	assert_false(balance_failed(&b, 0, 0));
	assert_false(balance_ok(&b, 0));	/* the row ends */
	assert_false(balance_failed(&b, 0, 0));
	assert_false(balance_failed(&b, 0, 0));
	assert_true(balance_up(&b, 0));
	assert_true(balance_failed(&b, 0, 0));
	assert_false(balance_failed(&b, 0, 0));	/* no news */
	assert_int_equal(pick(0), 1);
	assert_int_equal(pick(999), 1);
}

static void
test_one_trial(void **state)
{
	(void)state;
	fresh(2);
	fail_out(0, 0);
	busy[0] = 100;	/* it is tried however busy it looks */
	assert_int_equal(pick(1000), 0);
	assert_int_equal(pick(1000), 1);
	assert_int_equal(pick(1999), 1);
	/* Its end was never told: the next one. */
	assert_int_equal(pick(2000), 0);
	assert_false(balance_failed(&b, 0, 2500));
	assert_int_equal(pick(3400), 1);
	assert_int_equal(pick(3500), 0);
	assert_true(balance_ok(&b, 0));
	busy[0] = 0;
	busy[1] = 1;
	assert_int_equal(pick(3500), 0);
	assert_int_equal(pick(3500), 0);
}

/* What cannot be sent on is no trial while others may be one; yet a site of such requests alone has its server back. */
static void
test_trial_of_a_write(void **state)
{
	(void)state;
	fresh(2);
	fail_out(0, 0);
	assert_int_equal(balance_pick(&b, busy, 0, false, 1999), 1);
	assert_int_equal(balance_pick(&b, busy, 0, false, 2000), 0);
	assert_int_equal(balance_pick(&b, busy, 0, false, 2000), 1);
}

static void
test_second_server(void **state)
{
	(void)state;
	fresh(3);
	fail_out(2, 0);
	/* 0 was asked; 2 is due for a trial, which is none for a request that has failed already. */
	assert_int_equal(balance_pick(&b, busy, 1, true, 5000), 1);
	assert_int_equal(balance_pick(&b, busy, 1 | 2, true, 5000), 2);
	assert_int_equal(balance_pick(&b, busy, 1 | 2 | 4, true, 5000), BALANCE_NONE);
}

static void
test_none_up_all_are_asked(void **state)
{
	(void)state;
	fresh(2);
	fail_out(0, 0);
	fail_out(1, 0);
	assert_int_equal(pick(10), 0);
	assert_int_equal(pick(10), 1);
	assert_int_equal(balance_pick(&b, busy, 1, true, 10), 1);
}

static void
test_checks(void **state)
{
	(void)state;
	fresh(2);
	assert_false(balance_checked(&b, 0, false));
	assert_false(balance_checked(&b, 0, false));
	assert_false(balance_checked(&b, 0, true));
	assert_false(balance_checked(&b, 0, false));
	assert_false(balance_checked(&b, 0, false));
	assert_true(balance_checked(&b, 0, false));
	/* No request tries it, and none that succeeds late brings it back: a check does. */
	assert_int_equal(pick(100000), 1);
	assert_false(balance_ok(&b, 0));
	assert_int_equal(pick(100000), 1);
	assert_true(balance_checked(&b, 0, true));
	assert_true(balance_up(&b, 0));
}

static void
test_out_and_sick(void **state)
{
	unsigned i;

	(void)state;
	fresh(2);
	fail_out(0, 0);
	for (i = 0; i < 3; i++)
		assert_false(balance_checked(&b, 0, false));	/* down it is already */
	assert_int_equal(pick(5000), 1);
	/* Well again for the checks, it is tried by a request first. */
	assert_false(balance_checked(&b, 0, true));
	assert_int_equal(pick(5000), 0);
	assert_int_equal(pick(5000), 1);
	assert_true(balance_ok(&b, 0));
}

static void
test_one_alone(void **state)
{
	(void)state;
	fresh(1);
	fail_out(0, 0);
	assert_int_equal(pick(1), 0);
	assert_int_equal(balance_pick(&b, busy, 0, false, 1), 0);
	assert_int_equal(balance_pick(&b, busy, 1, true, 1), BALANCE_NONE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equals_take_turns),
		cmocka_unit_test(test_least_busy),
		cmocka_unit_test(test_out_after_failures_in_a_row),
		cmocka_unit_test(test_one_trial),
		cmocka_unit_test(test_trial_of_a_write),
		cmocka_unit_test(test_second_server),
		cmocka_unit_test(test_none_up_all_are_asked),
		cmocka_unit_test(test_checks),
		cmocka_unit_test(test_out_and_sick),
		cmocka_unit_test(test_one_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
