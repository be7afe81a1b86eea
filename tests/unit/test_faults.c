#include "sandbox/faults.h"

#include <string.h>

#include "base/str.h"
#include "unit.h"

static struct faults *
rules(const char *text)
{
	struct faults *f = faults_new();
	struct errbuf eb = {""};
	bool reset;

	assert_int_equal(faults_apply(f, text, &reset, &eb), ERR_OK);
	return f;
}

static int
status(struct faults *f, enum s3_op op, const char *key)
{
	struct fault_plan p;

	faults_plan(f, op, key, &p);
	fault_plan_fini(&p);
	return p.status;
}

static void
test_words(void **state)
{
	struct faults *f = rules("put 500\nread 501\nwrite 502 key=w*\n* 503 key=all");

	(void)state;
	assert_int_equal(status(f, S3_OP_PUT_OBJECT, "x"), 500);
	assert_int_equal(status(f, S3_OP_GET_OBJECT, "x"), 501);
	assert_int_equal(status(f, S3_OP_LIST_OBJECTS_V2, NULL), 501);
	assert_int_equal(status(f, S3_OP_UPLOAD_PART, "wx"), 502);
	assert_int_equal(status(f, S3_OP_UPLOAD_PART, "x"), 0);
	assert_int_equal(status(f, S3_OP_DELETE_OBJECT, "all"), 503);
	faults_free(&f);
}

static void
test_next(void **state)
{
	struct faults *f = rules("get 404 next 2 key=a");

	(void)state;
	assert_int_equal(status(f, S3_OP_GET_OBJECT, "b"), 0);
	assert_int_equal(status(f, S3_OP_GET_OBJECT, "a"), 404);
	assert_int_equal(status(f, S3_OP_GET_OBJECT, "a"), 404);
	assert_int_equal(status(f, S3_OP_GET_OBJECT, "a"), 0);
	faults_free(&f);
}

/* All that hits a request is summed up. */
static void
test_sum(void **state)
{
	struct faults *f = rules("put delay 100ms\nput delay-answer 1s\n* delay 50ms\nput hold-commit gate\nput "
				 "lost\nput cut 7\nput drop 9");
	struct fault_plan p;

	(void)state;
	faults_plan(f, S3_OP_PUT_OBJECT, "k", &p);
	assert_int_equal(p.delay_ms[FAULT_START], 150);
	assert_int_equal(p.delay_ms[FAULT_COMMIT], 0);
	assert_int_equal(p.delay_ms[FAULT_ANSWER], 1000);
	assert_string_equal(p.hold[FAULT_COMMIT], "gate");
	assert_null(p.hold[FAULT_START]);
	assert_true(p.lost && p.cut && p.drop);
	assert_int_equal(p.cut_after, 7);
	assert_int_equal(p.drop_after, 9);
	fault_plan_fini(&p);
	faults_free(&f);
}

static void
test_hold(void **state)
{
	struct faults *f = rules("put hold gate");
	bool reset;

	(void)state;
	assert_true(faults_held(f, "gate"));
	assert_false(faults_held(f, "other"));
	assert_int_equal(faults_apply(f, "release gate", &reset, NULL), ERR_OK);
	assert_false(faults_held(f, "gate"));
	assert_int_equal(faults_apply(f, "get hold gate", &reset, NULL), ERR_OK);
	assert_true(faults_held(f, "gate"));
	assert_int_equal(faults_apply(f, "clear", &reset, NULL), ERR_OK);
	assert_false(faults_held(f, "gate"));
	faults_free(&f);
}

/* A bad line changes nothing, and is named. */
static void
test_all_or_nothing(void **state)
{
	struct faults *f = rules("get 500");
	struct errbuf eb;
	struct str text = STR_INIT;
	bool reset = false;

	(void)state;
	assert_int_equal(faults_apply(f, "clear\nput 500\nput nonsense", &reset, &eb), ERR_SYNTAX);
	assert_non_null(strstr(eb.text, "line 3: 'put nonsense'"));
	faults_print(f, &text);
	assert_string_equal(str_z(&text), "get 500\t# 0 hits\n");
	assert_int_equal(status(f, S3_OP_GET_OBJECT, "a"), 500);
	assert_int_equal(faults_apply(f, "# remark\n\r\n  reset  \n", &reset, &eb), ERR_OK);
	assert_true(reset);
	str_fini(&text);
	faults_free(&f);
}

static void
test_percent(void **state)
{
	struct faults *f = rules("seed 3\nget 500 10%\nput 500 0%\nlist 500 100%");
	unsigned hits = 0;

	(void)state;
	for (int i = 0; i < 2000; i++) {
		hits += status(f, S3_OP_GET_OBJECT, "a") == 500;
		assert_int_equal(status(f, S3_OP_PUT_OBJECT, "a"), 0);
		assert_int_equal(status(f, S3_OP_LIST_OBJECTS, NULL), 500);
	}
	assert_in_range(hits, 120, 280);
	faults_free(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_words),
	    cmocka_unit_test(test_next),
	    cmocka_unit_test(test_sum),
	    cmocka_unit_test(test_hold),
	    cmocka_unit_test(test_all_or_nothing),
	    cmocka_unit_test(test_percent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
