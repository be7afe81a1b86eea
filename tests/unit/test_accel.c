#include "proxy/accel.h"

#include <stdio.h>
#include <string.h>

#include "unit.h"

static struct conf conf;

static int
set_up(void **state)
{
	static char protected[] = "/protected/", invoices[] = "/protected/invoices/", whole[] = "/all/";
	static char private[] = "/srv/media/private/", there[] = "/srv/media/there/", all[] = "/srv/media/";
	static struct conf_internal internal[] = {
		{ .url = protected, .url_len = sizeof protected - 1, .alias = private, .alias_len = sizeof private - 1, .key = "private/" },
		{ .url = invoices, .url_len = sizeof invoices - 1, .alias = there, .alias_len = sizeof there - 1, .key = "there/" },
		{ .alias = there, .alias_len = sizeof there - 1, .key = "there/" },
		{ .url = whole, .url_len = sizeof whole - 1, .alias = all, .alias_len = sizeof all - 1, .key = "" },
	};

	(void)state;
	conf.internal = internal;
	conf.ninternal = 4;
	return 0;
}

static struct accel taken;

static void
take(const char *answer)
{
	static const struct http1_limits lim = { 8192, 4096, 64 };
	static char text[8192];
	struct http1_head h;
	enum http1_bad bad;
	size_t scan = 0, used;

	accel_fini(&taken);
	memset(&taken, 0, sizeof taken);
	snprintf(text, sizeof text, "%s\r\n", answer);
	assert_int_equal(http1_parse_response(&h, text, strlen(text), &lim, false, &scan, &used, &bad), HTTP1_DONE);
	accel_take(&taken, &h, &conf);
}

static void
expect(const char *header, const char *value, enum accel_what what, const char *key)
{
	char answer[4096];

	snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\n%s: %s\r\n", header, value);
	take(answer);
	if (taken.what != what)
		fail_msg("%s: %s: %d, expected %d", header, value, (int)taken.what, (int)what);
	if (key != NULL && strcmp(str_z(&taken.key), key) != 0)
		fail_msg("%s: %s: key %s, expected %s", header, value, str_z(&taken.key), key);
	assert_string_equal(str_z(&taken.named), value);
}

static void
test_redirect(void **state)
{
	static const struct {
		const char *value;
		enum accel_what what;
		const char *key;
	} rows[] = {
		{ "/protected/a.pdf", ACCEL_FILE, "private/a.pdf" },
		{ "/protected/a/b%20c.pdf", ACCEL_FILE, "private/a/b c.pdf" },
		{ "/protected/a b.pdf", ACCEL_FILE, "private/a b.pdf" },
		{ "/protected/caf%C3%A9", ACCEL_FILE, "private/caf\xc3\xa9" },
		{ "/protected/caf\xc3\xa9", ACCEL_FILE, "private/caf\xc3\xa9" },
		{ "/protected/l\xe9", ACCEL_FILE, "private/l\xe9" },
		{ "/protected/a?token=/../x", ACCEL_FILE, "private/a" },
		{ "/protected/a#b", ACCEL_FILE, "private/a#b" },
		{ "/protected/%252e%252e/a", ACCEL_FILE, "private/%2e%2e/a" },
		{ "/protected/invoices/a", ACCEL_FILE, "there/a" },
		{ "/%70rotected/a", ACCEL_FILE, "private/a" },
		{ "/all/private/a", ACCEL_FILE, "private/a" },
		/* Below what is configured, and no file's name. */
		{ "/protected/", ACCEL_BAD, NULL },
		{ "/protected/a/", ACCEL_BAD, NULL },
		{ "/protected//a", ACCEL_BAD, NULL },
		{ "//protected/a", ACCEL_BAD, NULL },
		{ "/protected/./a", ACCEL_BAD, NULL },
		{ "/protected/b/../a", ACCEL_BAD, NULL },
		{ "/protected/b%2fa", ACCEL_BAD, NULL },
		{ "/protected/b/%2e%2e/a", ACCEL_BAD, NULL },
		{ "/x/../protected/a", ACCEL_BAD, NULL },
		{ "/protected/.r2shim-root", ACCEL_BAD, NULL },
		{ "/all/.r2shim-root", ACCEL_BAD, NULL },
		{ "/protected/%00", ACCEL_BAD, NULL },
		{ "/protected/100%", ACCEL_BAD, NULL },
		{ "/protected/%zz", ACCEL_BAD, NULL },
		{ "", ACCEL_BAD, NULL },
		/* Elsewhere; what climbs out, too. */
		{ "/protected", ACCEL_ELSEWHERE, NULL },
		{ "/PROTECTED/a", ACCEL_ELSEWHERE, NULL },
		{ "/protectedx/a", ACCEL_ELSEWHERE, NULL },
		{ "/protected/../a", ACCEL_ELSEWHERE, NULL },
		{ "/protected/../../etc/passwd", ACCEL_ELSEWHERE, NULL },
		{ "/srv/media/private/a", ACCEL_ELSEWHERE, NULL },
		{ "/media/a", ACCEL_ELSEWHERE, NULL },
		{ "protected/a", ACCEL_ELSEWHERE, NULL },
		{ "http://x/protected/a", ACCEL_ELSEWHERE, NULL },
		{ "@fallback", ACCEL_ELSEWHERE, NULL },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
		expect("X-Accel-Redirect", rows[i].value, rows[i].what, rows[i].key);
	expect("x-accel-redirect", "/protected/a", ACCEL_FILE, "private/a");
}

static void
test_sendfile(void **state)
{
	(void)state;
	expect("X-Sendfile", "/srv/media/private/a.pdf", ACCEL_FILE, "private/a.pdf");
	expect("X-Sendfile", "/srv/media/private/a?b%3Fc d", ACCEL_FILE, "private/a?b?c d");
	expect("X-SENDFILE", "/srv/media/there/a", ACCEL_FILE, "there/a");
	expect("X-Sendfile", "/srv/media/private/", ACCEL_BAD, NULL);
	expect("X-Sendfile", "/srv/media/private/../there/a", ACCEL_BAD, NULL);
	expect("X-Sendfile", "/srv/media//private/a", ACCEL_BAD, NULL);
	expect("X-Sendfile", "/srv/media/../../etc/passwd", ACCEL_ELSEWHERE, NULL);
	expect("X-Sendfile", "/etc/passwd", ACCEL_ELSEWHERE, NULL);
	expect("X-Sendfile", "/protected/a", ACCEL_ELSEWHERE, NULL);
	expect("X-Sendfile", "/srv/mediaprivate/a", ACCEL_ELSEWHERE, NULL);
	expect("X-Sendfile", "srv/media/private/a", ACCEL_ELSEWHERE, NULL);
	/* The folder above is no entry here: what lies beside the entries is not to be had. */
	conf.ninternal = 3;
	expect("X-Sendfile", "/srv/media/a", ACCEL_ELSEWHERE, NULL);
	conf.ninternal = 0;
	expect("X-Sendfile", "/srv/media/private/a.pdf", ACCEL_ELSEWHERE, NULL);
	expect("X-Accel-Redirect", "/protected/a.pdf", ACCEL_ELSEWHERE, NULL);
	conf.ninternal = 4;
}

/* Only an answer that allows names a file, and only one. */
static void
test_which_answers(void **state)
{
	static const char *const statuses[] = { "301 x", "302 Found", "304 Not Modified", "401 x", "403 Forbidden", "404 Not Found", "500 x", "503 x" };
	char answer[200];
	size_t i;

	(void)state;
	take("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
	assert_int_equal(taken.what, ACCEL_NONE);
	for (i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
		snprintf(answer, sizeof answer, "HTTP/1.1 %s\r\nX-Accel-Redirect: /protected/a\r\n", statuses[i]);
		take(answer);
		assert_int_equal(taken.what, ACCEL_NONE);
	}
	take("HTTP/1.1 206 Partial\r\nX-Accel-Redirect: /protected/a\r\n");
	assert_int_equal(taken.what, ACCEL_FILE);
	take("HTTP/1.1 200 OK\r\nX-Accel-Redirect: /protected/a\r\nX-Accel-Redirect: /protected/a\r\n");
	assert_int_equal(taken.what, ACCEL_BAD);
	take("HTTP/1.1 200 OK\r\nX-Sendfile: /srv/media/private/a\r\nX-Accel-Redirect: /protected/a\r\n");
	assert_int_equal(taken.what, ACCEL_BAD);
	/* Named in Connection it is for us, too. */
	take("HTTP/1.1 200 OK\r\nConnection: X-Accel-Redirect\r\nX-Accel-Redirect: /protected/a\r\n");
	assert_int_equal(taken.what, ACCEL_FILE);
}

static void
test_lines(void **state)
{
	(void)state;
	take("HTTP/1.1 200 OK\r\nDate: d\r\nServer: g\r\nContent-Type: application/pdf\r\nContent-Length: 0\r\nContent-Encoding: gzip\r\n"
	     "ETag: \"x\"\r\nLast-Modified: l\r\nAccept-Ranges: none\r\nLocation: /x\r\nWWW-Authenticate: Basic\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"
	     "Set-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Disposition: attachment; filename=\"a.pdf\"\r\nVary: Cookie\r\n"
	     "Content-Security-Policy: sandbox\r\nX-Accel-Buffering: no\r\nX-Accel-Redirect: /protected/a\r\nX-Accel-Expires: 0\r\n"
	     "X-Lighttpd-Send-File: /etc/passwd\r\nX-Shim-Key: k\r\nX-Media-Stored: m\r\nExpires: 0\r\n");
	assert_int_equal(taken.what, ACCEL_FILE);
	assert_string_equal(str_z(&taken.type), "application/pdf");
	assert_false(taken.cached);
	assert_string_equal(str_z(&taken.lines), "Set-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Disposition: attachment; filename=\"a.pdf\"\r\n"
						 "Vary: Cookie\r\nContent-Security-Policy: sandbox\r\nExpires: 0\r\n");
	take("HTTP/1.1 200 OK\r\nContent-Type: \r\nCache-Control: max-age=60\r\nX-Accel-Redirect: /protected/a\r\n");
	assert_int_equal(taken.type.len, 0);
	assert_true(taken.cached);
	assert_string_equal(str_z(&taken.lines), "Cache-Control: max-age=60\r\n");
	accel_fini(&taken);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_redirect),
		cmocka_unit_test(test_sendfile),
		cmocka_unit_test(test_which_answers),
		cmocka_unit_test(test_lines),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
