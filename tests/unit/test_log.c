/* log and metrics: what comes out, and that threads do not get in each other's way. */
#include "unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/str.h"

static int saved_stderr, captured;

static void
capture(void)
{
	char path[] = "/tmp/r2shim-log-XXXXXX";

	captured = mkstemp(path);
	assert_true(captured >= 0 && unlink(path) == 0);
	saved_stderr = dup(STDERR_FILENO);
	assert_int_equal(dup2(captured, STDERR_FILENO), STDERR_FILENO);
}

static void
captured_text(struct str *out)
{
	ssize_t n;

	assert_int_equal(dup2(saved_stderr, STDERR_FILENO), STDERR_FILENO);
	assert_int_equal(close(saved_stderr), 0);
	assert_int_equal(lseek(captured, 0, SEEK_SET), 0);
	while ((n = read(captured, str_reserve(out, 4096), 4096)) > 0)
		out->len += (size_t)n;
	str_addz(out, "");
	assert_int_equal(close(captured), 0);
}

static void
test_text(void **state)
{
	struct str out = STR_INIT;

	(void)state;
	capture();
	log_setup(LOG_LVL_INFO, false);
	log_debug("proxy", "not shown");
	log_info("proxy", "one\ntwo %d", 2);
	log_program("migrator");
	log_setup(LOG_LVL_ERROR, false);
	log_warn("r2", "not shown");
	log_error("r2", "\x1b[2J");
	captured_text(&out);
	assert_int_equal(out.p[24], ' ');
	assert_non_null(strstr(out.p, "Z info proxy: one\\x0atwo 2\n"));
	assert_non_null(strstr(out.p, "Z error migrator r2: \\x1b[2J\n"));
	assert_null(strstr(out.p, "not shown"));
	assert_true(log_on(LOG_LVL_ERROR));
	assert_false(log_on(LOG_LVL_WARN));
	str_fini(&out);
}

static void
test_json(void **state)
{
	struct str out = STR_INIT;
	json_t *o;

	(void)state;
	capture();
	log_program("proxy");
	log_setup(LOG_LVL_DEBUG, true);
	log_debug("journal", "a \"quoted\"\n\xff text");
	captured_text(&out);
	o = json_loads(out.p, 0, NULL);
	assert_non_null(o);
	assert_string_equal(json_string_value(json_object_get(o, "level")), "debug");
	assert_string_equal(json_string_value(json_object_get(o, "program")), "proxy");
	assert_string_equal(json_string_value(json_object_get(o, "area")), "journal");
	assert_string_equal(json_string_value(json_object_get(o, "text")), "a \"quoted\"\n\xef\xbf\xbd text");
	assert_int_equal(strlen(json_string_value(json_object_get(o, "time"))), 24);
	json_decref(o);
	str_fini(&out);
}

static void
test_key(void **state)
{
	char longest[2000];
	const char *a = log_key("a\nb", 3), *b = log_key("\xff", 1), *c = log_key("", 0);

	(void)state;
	assert_string_equal(a, "a%0Ab");
	assert_string_equal(b, "%FF");
	assert_string_equal(c, "");
	memset(longest, '\n', sizeof(longest));
	a = log_key(longest, sizeof(longest));
	assert_int_equal(strlen(a), 3 * 1024 + 3);
	assert_string_equal(a + 3 * 1024, "...");
}

static void *
count_and_log(void *arg)
{
	(void)arg;
	for (int i = 0; i < 500; i++) {
		metrics_add(METRIC_SERVED, i % 2 ? "odd" : "even", 1);
		metrics_observe(METRIC_R2_SECONDS, "GET", 150);
		log_info("test", "%s of one line", log_key("key", 3));
	}
	return NULL;
}

static void
test_threads(void **state)
{
	struct str out = STR_INIT;
	pthread_t threads[4];
	size_t lines = 0;

	(void)state;
	capture();
	log_setup(LOG_LVL_INFO, false);
	log_program("");
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_and_log, NULL), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	captured_text(&out);
	for (const char *p = out.p; *p; lines++) {
		const char *end = strchr(p, '\n');

		assert_non_null(end);
		assert_true((size_t)(end - p) == strlen("2026-11-23T01:02:03.456Z info test: key of one line"));
		p = end + 1;
	}
	assert_int_equal(lines, 2000);
	assert_int_equal(metrics_get(METRIC_SERVED, "odd"), 1000);
	assert_int_equal(metrics_get(METRIC_SERVED, "even"), 1000);
	assert_int_equal(metrics_get(METRIC_R2_SECONDS, "GET"), 2000);
	str_fini(&out);
}

static void
expect_line(const struct str *out, const char *line)
{
	char *with_breaks = NULL;

	assert_true(asprintf(&with_breaks, "\n%s\n", line) > 0);
	if (!strstr(str_z(out), with_breaks))
		fail_msg("no line %s", line);
	free(with_breaks);
}

static void
test_metrics(void **state)
{
	static const char *const ok[] = {"read", "disk", "2xx"}, *const bad[] = {"read", "disk", "5xx"};
	struct str out = STR_INIT;
	struct metric_cell *cell = metrics_cell(METRIC_REQUESTS, ok, 3);

	(void)state;
	metrics_cell_add(cell, 2);
	metrics_cell_add(metrics_cell(METRIC_REQUESTS, bad, 3), 1);
	assert_ptr_equal(metrics_cell(METRIC_REQUESTS, ok, 3), cell);
	metrics_cell_observe(metrics_cell(METRIC_REQUEST_SECONDS, ok, 2), 400);
	assert_int_equal(metrics_get(METRIC_CONNS, NULL), 0);
	metrics_add(METRIC_CONNS, NULL, 2);
	metrics_add(METRIC_CONNS_OPEN, NULL, 5);
	metrics_add(METRIC_CONNS_OPEN, NULL, -6);
	metrics_set(METRIC_PHASE, NULL, 3);
	metrics_add(METRIC_R2_ERRORS, "TIMEOUT", 1);
	metrics_observe(METRIC_MIRROR_SECONDS, NULL, 100);
	metrics_observe(METRIC_MIRROR_SECONDS, NULL, 101);
	metrics_observe(METRIC_MIRROR_SECONDS, NULL, 61000000);
	assert_int_equal(metrics_get(METRIC_MIRROR_SECONDS, NULL), 3);
	metrics_print(&out);
	expect_line(&out, "# HELP r2shim_client_connections_open Client connections open now.");
	expect_line(&out, "# TYPE r2shim_client_connections_open gauge");
	expect_line(&out, "# TYPE r2shim_mirror_seconds histogram");
	expect_line(&out, "r2shim_client_connections_total 2");
	expect_line(&out, "r2shim_client_connections_open -1");
	expect_line(&out, "r2shim_phase 3");
	expect_line(&out, "r2shim_r2_errors_total{error=\"TIMEOUT\"} 1");
	expect_line(&out, "r2shim_mirror_seconds_bucket{le=\"0.0001\"} 1");
	expect_line(&out, "r2shim_mirror_seconds_bucket{le=\"0.00025\"} 2");
	expect_line(&out, "r2shim_mirror_seconds_bucket{le=\"60\"} 2");
	expect_line(&out, "r2shim_mirror_seconds_bucket{le=\"+Inf\"} 3");
	expect_line(&out, "r2shim_mirror_seconds_sum 61.000201");
	expect_line(&out, "r2shim_mirror_seconds_count 3");
	expect_line(&out, "r2shim_r2_seconds_bucket{op=\"GET\",le=\"0.0001\"} 0");
	expect_line(&out, "r2shim_r2_seconds_count{op=\"GET\"} 2000");
	expect_line(&out, "r2shim_watch_overflows_total 0");
	expect_line(&out, "r2shim_requests_total{route=\"read\",source=\"disk\",result=\"2xx\"} 2");
	expect_line(&out, "r2shim_requests_total{route=\"read\",source=\"disk\",result=\"5xx\"} 1");
	expect_line(&out, "r2shim_request_seconds_bucket{route=\"read\",source=\"disk\",le=\"0.00025\"} 0");
	expect_line(&out, "r2shim_request_seconds_bucket{route=\"read\",source=\"disk\",le=\"0.0005\"} 1");
	expect_line(&out, "r2shim_request_seconds_sum{route=\"read\",source=\"disk\"} 0.0004");
	str_clear(&out);
	metrics_list(&out);
	expect_line(&out, "r2shim_r2_errors_total\tcounter\terror\tFailed R2 requests, by error.");
	expect_line(&out, "r2shim_phase\tgauge\t-\tThe phase of new requests, 0 to 6.");
	str_fini(&out);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {cmocka_unit_test(test_text), cmocka_unit_test(test_json),
	    cmocka_unit_test(test_key), cmocka_unit_test(test_threads), cmocka_unit_test(test_metrics)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
