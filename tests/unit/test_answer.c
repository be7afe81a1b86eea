#include "proxy/answer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "io/http1.h"
#include "unit.h"

/* The file: 1000 bytes, Mon, 23 Nov 2026 00:00:00 GMT = 1795392000. */
#define SIZE 1000
#define MTIME 1795392000
#define STAMP "Mon, 23 Nov 2026 00:00:00 GMT"
#define BEFORE "Sun, 22 Nov 2026 00:00:00 GMT"
#define AFTER "Tue, 24 Nov 2026 00:00:00 GMT"

static char etag[48];

static void
take(struct answer_conds *c, const char *headers)
{
	static const struct http1_limits lim = { 8192, 1024, 64 };
	struct http1_head h;
	enum http1_bad bad;
	size_t scan = 0, used;
	char text[2048];

	snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n", headers);
	assert_int_equal(http1_parse_request(&h, text, strlen(text), &lim, &scan, &used, &bad), HTTP1_DONE);
	answer_conds_init(c);
	answer_conds_take(c, &h);
}

static void
check(const char *headers, bool is_get, uint64_t size, int status, uint64_t first, uint64_t n)
{
	struct answer_conds c;
	struct answer a;

	take(&c, headers);
	answer_decide(&a, &c, is_get, size, MTIME);
	if (a.status != status || a.first != first || a.n != n)
		fail_msg("%s: %d %" PRIu64 "+%" PRIu64 ", expected %d %" PRIu64 "+%" PRIu64, headers, a.status, a.first, a.n, status, first, n);
	answer_conds_fini(&c);
}

static void
test_etag_is_nginx_form(void **state)
{
	struct answer_conds c = { 0 };
	struct answer a;

	(void)state;
	answer_decide(&a, &c, true, 0x1f, 0x5f3a0b1c);
	assert_string_equal(a.etag, "\"5f3a0b1c-1f\"");
	answer_decide(&a, &c, true, 0, 0);
	assert_string_equal(a.etag, "\"0-0\"");
	answer_decide(&a, &c, true, UINT64_MAX, -1);
	assert_string_equal(a.etag, "\"ffffffffffffffff-ffffffffffffffff\"");
	answer_decide(&a, &c, true, SIZE, MTIME);
	snprintf(etag, sizeof etag, "%s", a.etag);
}

static void
test_ranges(void **state)
{
	static const struct {
		const char *range;
		int status;
		uint64_t first, n;
	} rows[] = {
		{ "bytes=0-0", 206, 0, 1 },
		{ "bytes=0-999", 206, 0, 1000 },
		{ "bytes=10-19", 206, 10, 10 },
		{ "bytes=990-", 206, 990, 10 },
		{ "bytes=990-5000", 206, 990, 10 },
		{ "bytes=-10", 206, 990, 10 },
		{ "bytes=-5000", 206, 0, 1000 },
		{ "Bytes=1-2", 206, 1, 2 },
		{ "bytes= 1-2", 206, 1, 2 },
		{ "bytes=1000-", 416, 0, 0 },
		{ "bytes=1000-1001", 416, 0, 0 },
		{ "bytes=-0", 416, 0, 0 },
		{ "bytes=", 416, 0, 0 },
		{ "bytes=-", 416, 0, 0 },
		{ "bytes=a-b", 416, 0, 0 },
		{ "bytes=5-2", 416, 0, 0 },
		{ "bytes=18446744073709551616-", 416, 0, 0 },
		{ "bytes=0-18446744073709551616", 416, 0, 0 },
		{ "bytes=0-1,5-6", 200, 0, 1000 },
		{ "bytes=0-,0-,0-", 200, 0, 1000 },
		{ "items=0-1", 200, 0, 1000 },
		{ "bytes", 200, 0, 1000 },
	};
	char line[128];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		snprintf(line, sizeof line, "Range: %s\r\n", rows[i].range);
		check(line, true, SIZE, rows[i].status, rows[i].first, rows[i].n);
	}
	/* Twice is not once; HEAD has no ranges; an empty file has no byte to give. */
	check("Range: bytes=0-1\r\nRange: bytes=0-1\r\n", true, SIZE, 200, 0, SIZE);
	check("Range: bytes=0-1\r\n", false, SIZE, 200, 0, SIZE);
	check("Range: bytes=0-\r\n", true, 0, 416, 0, 0);
	check("Range: bytes=-1\r\n", true, 0, 416, 0, 0);
}

static void
row(const char *fmt, int status, uint64_t first, uint64_t n)
{
	char headers[512];
	const char *p;
	struct str s = STR_INIT;

	for (p = fmt; *p != '\0'; p++) {
		if (*p == '@')
			str_addz(&s, etag);
		else
			str_addc(&s, *p);
	}
	snprintf(headers, sizeof headers, "%s", str_z(&s));
	check(headers, true, SIZE, status, first, n);
	str_fini(&s);
}

static void
test_conditions(void **state)
{
	(void)state;
	row("If-None-Match: @\r\n", 304, 0, 0);
	row("If-None-Match: W/@\r\n", 304, 0, 0);
	row("If-None-Match: \"a\", @ , \"b\"\r\n", 304, 0, 0);
	row("If-None-Match: \"a\"\r\nIf-None-Match: @\r\n", 304, 0, 0);
	row("If-None-Match: *\r\n", 304, 0, 0);
	row("If-None-Match: \"a\"\r\n", 200, 0, SIZE);
	row("If-None-Match: a\r\n", 200, 0, SIZE);
	row("If-None-Match: \"a\r\n", 200, 0, SIZE);
	row("If-None-Match: @,\r\n", 304, 0, 0);
	row("If-None-Match: , ,@\r\n", 304, 0, 0);
	row("If-None-Match: ,\r\n", 200, 0, SIZE);
	row("If-None-Match: @x\r\n", 200, 0, SIZE);
	row("If-None-Match: @ @\r\n", 200, 0, SIZE);
	row("If-None-Match: @, nonsense\r\n", 200, 0, SIZE);
	/* The tag decides; the date is then not looked at. */
	row("If-None-Match: \"a\"\r\nIf-Modified-Since: " STAMP "\r\n", 200, 0, SIZE);
	row("If-Modified-Since: " STAMP "\r\n", 304, 0, 0);
	row("If-Modified-Since: " BEFORE "\r\n", 200, 0, SIZE);
	row("If-Modified-Since: " AFTER "\r\n", 200, 0, SIZE);
	row("If-Modified-Since: yesterday\r\n", 200, 0, SIZE);
	row("If-Match: @\r\n", 200, 0, SIZE);
	row("If-Match: *\r\n", 200, 0, SIZE);
	row("If-Match: W/@\r\n", 412, 0, 0);
	row("If-Match: \"a\"\r\n", 412, 0, 0);
	row("If-Match: @\r\nIf-Unmodified-Since: " BEFORE "\r\n", 200, 0, SIZE);
	row("If-Unmodified-Since: " BEFORE "\r\n", 412, 0, 0);
	row("If-Unmodified-Since: " STAMP "\r\n", 200, 0, SIZE);
	row("If-Unmodified-Since: " AFTER "\r\n", 200, 0, SIZE);
	row("If-Match: @x\r\n", 412, 0, 0);
	row("If-Match: @ \"a\"\r\n", 412, 0, 0);
	row("If-Match: \"a\"\r\nIf-None-Match: @\r\n", 412, 0, 0);
	/* A condition that holds goes before the range, one that fails does without it. */
	row("Range: bytes=0-1\r\nIf-None-Match: @\r\n", 304, 0, 0);
	row("Range: bytes=0-1\r\nIf-Match: \"a\"\r\n", 412, 0, 0);
	row("Range: bytes=0-1\r\nIf-Range: @\r\n", 206, 0, 2);
	row("Range: bytes=0-1\r\nIf-Range: W/@\r\n", 200, 0, SIZE);
	row("Range: bytes=0-1\r\nIf-Range: \"a\"\r\n", 200, 0, SIZE);
	row("Range: bytes=0-1\r\nIf-Range: " STAMP "\r\n", 206, 0, 2);
	row("Range: bytes=0-1\r\nIf-Range: " AFTER "\r\n", 200, 0, SIZE);
	row("Range: bytes=9999-\r\nIf-Range: \"a\"\r\n", 200, 0, SIZE);
}

static void
test_heads(void **state)
{
	static const struct {
		const char *headers, *head;
	} rows[] = {
		{ "", "HTTP/1.1 200 OK\r\nDate: d\r\nContent-Type: image/png\r\nLast-Modified: " STAMP "\r\nETag: @\r\n"
		      "Cache-Control: max-age=60\r\nAccept-Ranges: bytes\r\n" },
		{ "Range: bytes=0-9\r\n", "HTTP/1.1 206 Partial Content\r\nDate: d\r\nContent-Type: image/png\r\nLast-Modified: " STAMP
		      "\r\nETag: @\r\nCache-Control: max-age=60\r\nContent-Range: bytes 0-9/1000\r\n" },
		{ "Range: bytes=-\r\n", "HTTP/1.1 416 Range Not Satisfiable\r\nDate: d\r\nContent-Type: text/plain\r\nContent-Range: bytes */1000\r\n" },
		{ "If-Modified-Since: " STAMP "\r\n", "HTTP/1.1 304 Not Modified\r\nDate: d\r\nLast-Modified: " STAMP "\r\nETag: @\r\n"
		      "Cache-Control: max-age=60\r\n" },
		{ "If-Match: \"a\"\r\n", "HTTP/1.1 412 Precondition Failed\r\nDate: d\r\nContent-Type: text/plain\r\n" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct str out = STR_INIT, want = STR_INIT;
		struct answer_conds c;
		struct answer a;
		const char *p;

		take(&c, rows[i].headers);
		answer_decide(&a, &c, true, SIZE, MTIME);
		answer_head(&a, "image/png", "max-age=60", "Date: d\r\n", &out);
		for (p = rows[i].head; *p != '\0'; p++) {
			if (*p == '@')
				str_addz(&want, etag);
			else
				str_addc(&want, *p);
		}
		assert_string_equal(str_z(&out), str_z(&want));
		str_fini(&out);
		str_fini(&want);
		answer_conds_fini(&c);
	}
}

static void
test_seconds(void **state)
{
	(void)state;
	assert_int_equal(answer_seconds(1999999999), 1);
	assert_int_equal(answer_seconds(0), 0);
	assert_int_equal(answer_seconds(-1), -1);
	assert_int_equal(answer_seconds(-1000000000), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_etag_is_nginx_form),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_conditions),
		cmocka_unit_test(test_heads),
		cmocka_unit_test(test_seconds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
