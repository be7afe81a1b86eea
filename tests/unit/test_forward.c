#include "proxy/forward.h"

#include <stdio.h>
#include <string.h>

#include "unit.h"

static const struct http1_limits limits = { 8192, 4096, 64 };

static struct forward_trust *
trust(char **v, size_t n, enum err expected)
{
	struct conf c = { .trusted_proxies = { v, n } };
	struct forward_trust *t;
	struct errbuf eb;

	assert_int_equal(forward_trust_new(&t, &c, &eb), expected);
	return t;
}

#define TEXT(z) ((char *)(uintptr_t)(z))

static void
test_trust(void **state)
{
	char *v[] = { TEXT("10.0.0.0/8"), TEXT("192.168.7.64/26"), TEXT("fd00::/12"), TEXT("unix:"), TEXT("127.0.0.1") };
	char *bad[] = { TEXT("10.0.0.0/33"), TEXT("here") };
	struct forward_trust *t = trust(v, 5, ERR_OK);

	(void)state;
	assert_true(forward_trusted(t, "10.255.0.1"));
	assert_true(forward_trusted(t, "192.168.7.127"));
	assert_true(forward_trusted(t, "fd0f::1"));
	assert_true(forward_trusted(t, "unix:"));
	assert_true(forward_trusted(t, "127.0.0.1"));
	assert_false(forward_trusted(t, "11.0.0.1"));
	assert_false(forward_trusted(t, "192.168.7.128"));
	assert_false(forward_trusted(t, "fe00::1"));
	assert_false(forward_trusted(t, "127.0.0.2"));
	forward_trust_free(&t);
	t = trust(NULL, 0, ERR_OK);
	assert_false(forward_trusted(t, "127.0.0.1"));
	assert_false(forward_trusted(t, "unix:"));
	forward_trust_free(&t);
	t = trust(bad, 2, ERR_SYNTAX);
	forward_trust_free(&t);
}

static void
request(const char *in, const char *peer, bool trusted, const char *want)
{
	struct str out = STR_INIT;
	struct http1_head h;
	enum http1_bad bad;
	size_t scan = 0, used;

	assert_int_equal(http1_parse_request(&h, in, strlen(in), &limits, &scan, &used, &bad), HTTP1_DONE);
	forward_request(&out, &h, &(struct forward_peer){ peer, false, trusted }, NULL);
	assert_string_equal(str_z(&out), want);
	str_fini(&out);
}

static void
client(const char *headers, const char *peer, const char *want)
{
	char *v[] = { TEXT("10.0.0.0/8"), TEXT("unix:") }, text[512], got[FORWARD_CLIENT_MAX];
	struct forward_trust *t = trust(v, 2, ERR_OK);
	struct http1_head h;
	enum http1_bad bad;
	size_t scan = 0, used;

	snprintf(text, sizeof text, "PUT / HTTP/1.1\r\nHost: s\r\n%s\r\n", headers);
	assert_int_equal(http1_parse_request(&h, text, strlen(text), &limits, &scan, &used, &bad), HTTP1_DONE);
	forward_client(t, &h, peer, got);
	assert_string_equal(got, want);
	forward_trust_free(&t);
}

static void
test_client(void **state)
{
	(void)state;
	client("", "1.2.3.4", "1.2.3.4");
	/* A stranger's claim is not looked at. */
	client("X-Forwarded-For: 10.0.0.9\r\n", "1.2.3.4", "1.2.3.4");
	client("", "10.0.0.1", "10.0.0.1");
	client("X-Forwarded-For: 1.2.3.4\r\n", "10.0.0.1", "1.2.3.4");
	client("X-Forwarded-For: 1.2.3.4\r\n", "unix:", "1.2.3.4");
	/* What stands before the first that is no trusted proxy, the client wrote himself. */
	client("X-Forwarded-For: 10.9.9.9, 1.2.3.4\r\n", "10.0.0.1", "1.2.3.4");
	client("X-Forwarded-For: 10.9.9.9, 1.2.3.4 , 10.0.0.2\r\n", "10.0.0.1", "1.2.3.4");
	client("X-Forwarded-For: 10.9.9.9\r\nX-Other: 1\r\nx-forwarded-for: fd00::7\r\n", "10.0.0.1", "fd00::7");
	client("X-Forwarded-For: 10.0.0.3,10.0.0.2\r\n", "10.0.0.1", "10.0.0.3");
	/* Nobody knows. */
	client("X-Forwarded-For: 1.2.3.4, unknown\r\n", "10.0.0.1", "");
	client("X-Forwarded-For: 1.2.3.4,\r\n", "10.0.0.1", "");
	client("X-Forwarded-For: unix:\r\n", "10.0.0.1", "");
	client("X-Forwarded-For: 1.2.3.4:80\r\n", "10.0.0.1", "");
}

static void
test_client_forwarded(void **state)
{
	(void)state;
	client("Forwarded: for=1.2.3.4\r\n", "9.9.9.9", "9.9.9.9");
	client("Forwarded: for=1.2.3.4\r\n", "10.0.0.1", "1.2.3.4");
	client("Forwarded: proto=https;FOR=1.2.3.4 , for=10.0.0.7;by=10.0.0.1\r\n", "unix:", "1.2.3.4");
	client("Forwarded: for=\"[fd00::7]:4711\"\r\n", "10.0.0.1", "fd00::7");
	client("Forwarded: for=\"1.2.3.4:_p\";host=\"a,b;for=9.9.9.9\"\r\n", "10.0.0.1", "1.2.3.4");
	/* What stands before the last that is no trusted proxy's, the client wrote himself. */
	client("Forwarded: for=10.9.9.9, for=1.2.3.4\r\nForwarded: for=10.0.0.2\r\n", "10.0.0.1", "1.2.3.4");
	client("Forwarded: for=unknown, for=1.2.3.4, for=10.0.0.2\r\n", "10.0.0.1", "1.2.3.4");
	client("Forwarded: for=10.0.0.3, for=10.0.0.2\r\n", "10.0.0.1", "10.0.0.3");
	/* X-Forwarded-For goes before. */
	client("Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n", "10.0.0.1", "5.6.7.8");
	/* Nobody knows: no address, none at all, or malformed. */
	client("Forwarded: for=1.2.3.4, for=unknown\r\n", "10.0.0.1", "");
	client("Forwarded: for=1.2.3.4, for=_hidden, for=10.0.0.2\r\n", "10.0.0.1", "");
	client("Forwarded: for=1.2.3.4, proto=http\r\n", "10.0.0.1", "");
	client("Forwarded: for=1.2.3.4,\r\n", "10.0.0.1", "");
	client("Forwarded: for=1.2.3.4;for=5.6.7.8\r\n", "10.0.0.1", "");
	client("Forwarded: for=1.2.3.4:80\r\n", "10.0.0.1", "");
	client("Forwarded: for=\"1.2.3.4\r\n", "10.0.0.1", "");
	client("Forwarded: for=\"[fd00::7\"\r\n", "10.0.0.1", "");
	client("Forwarded: for=\"[fd00::7]x\"\r\n", "10.0.0.1", "");
	client("Forwarded: for=\"1.2.3\\\\.4\"\r\n", "10.0.0.1", "");
	client("Forwarded: for = 1.2.3.4\r\n", "10.0.0.1", "");
}

static void
test_question(void **state)
{
	static const char in[] = "PUT /media/a%20b?x=1 HTTP/1.1\r\nHost: Site\r\nCookie: a=b\r\ncookie: c=d\r\nAuthorization: Basic eDp5\r\n"
				 "X-Original-URI: /evil\r\nX-Original-Method: GET\r\nIf-None-Match: *\r\nRange: bytes=0-1\r\nContent-Type: t\r\n"
				 "X-Forwarded-For: 6.6.6.6\r\nExpect: 100-continue\r\nOrigin: http://o\r\nContent-Length: 5\r\n\r\n";
	struct str out = STR_INIT;
	struct http1_head h;
	enum http1_bad bad;
	size_t scan = 0, used;

	(void)state;
	assert_int_equal(http1_parse_request(&h, in, strlen(in), &limits, &scan, &used, &bad), HTTP1_DONE);
	forward_question(&out, &h, "/may/write", &(struct forward_peer){ .addr = "1.2.3.4" });
	assert_string_equal(str_z(&out),
	    "GET /may/write HTTP/1.1\r\nHost: Site\r\nCookie: a=b\r\ncookie: c=d\r\nAuthorization: Basic eDp5\r\nOrigin: http://o\r\n"
	    "X-Original-Method: PUT\r\nX-Original-URI: /media/a%20b?x=1\r\nX-Forwarded-For: 6.6.6.6, 1.2.3.4\r\n"
	    "Forwarded: for=1.2.3.4;host=Site;proto=http\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: Site\r\nX-Real-IP: 1.2.3.4\r\n\r\n");
	str_fini(&out);
}

/* Who came over TLS; a trusted proxy in front knows better how its client came. */
static void
test_tls(void **state)
{
	static const char in[] = "GET / HTTP/1.1\r\nHost: s\r\nX-Forwarded-Proto: http\r\n\r\n";
	struct forward_peer from = { "1.2.3.4", true, false };
	struct str out = STR_INIT;
	struct http1_head h;
	enum http1_bad bad;
	size_t scan = 0, used;

	(void)state;
	assert_int_equal(http1_parse_request(&h, in, strlen(in), &limits, &scan, &used, &bad), HTTP1_DONE);
	forward_request(&out, &h, &from, NULL);
	assert_non_null(strstr(str_z(&out), ";proto=https\r\nX-Forwarded-Proto: https\r\n"));
	assert_null(strstr(str_z(&out), "X-Forwarded-Proto: http\r\n"));
	str_clear(&out);
	from.trusted = true;
	forward_request(&out, &h, &from, NULL);
	assert_non_null(strstr(str_z(&out), "X-Forwarded-Proto: http\r\n"));
	assert_null(strstr(str_z(&out), "X-Forwarded-Proto: https"));
	str_fini(&out);
}

static void
test_left_out(void **state)
{
	static const char in[] = "PUT / HTTP/1.1\r\nHost: s\r\nauthorization: Bearer ours\r\nX-A: 1\r\n\r\n";
	struct str out = STR_INIT;
	struct http1_head h;
	enum http1_bad bad;
	size_t scan = 0, used;

	(void)state;
	assert_int_equal(http1_parse_request(&h, in, strlen(in), &limits, &scan, &used, &bad), HTTP1_DONE);
	forward_request(&out, &h, &(struct forward_peer){ .addr = "1.2.3.4" }, "Authorization");
	assert_null(strstr(str_z(&out), "ours"));
	assert_non_null(strstr(str_z(&out), "X-A: 1\r\n"));
	str_fini(&out);
}

static void
test_requests(void **state)
{
	(void)state;
	/* Case, order and repetition stay; the target's bytes too. */
	request("GET /a%2Fb//c?x=%41 HTTP/1.1\r\nHost: Site\r\nFoO-Bar: 1\r\nX-A: one\r\nX-A: two\r\nCookie: a=b\r\n\r\n", "1.2.3.4", false,
	    "GET /a%2Fb//c?x=%41 HTTP/1.1\r\nHost: Site\r\nFoO-Bar: 1\r\nX-A: one\r\nX-A: two\r\nCookie: a=b\r\n"
	    "X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4;host=Site;proto=http\r\n"
	    "X-Forwarded-Proto: http\r\nX-Forwarded-Host: Site\r\nX-Real-IP: 1.2.3.4\r\n\r\n");
	/* Hop by hop, commands, underscores, Expect. */
	request("POST /u HTTP/1.1\r\nHost: s\r\nConnection: close, X-Gone\r\nX-Gone: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\n"
		"X-Accel-Redirect: /p\r\nX-Sendfile: /etc/passwd\r\nX-Shim-Key: a\r\nX_Under: 1\r\nUpgrade: h2c\r\nExpect: 100-continue\r\n"
		"Content-Length: 5\r\nContent-Type: a/b\r\n\r\n",
	    "9.9.9.9", false,
	    "POST /u HTTP/1.1\r\nHost: s\r\nContent-Type: a/b\r\nX-Forwarded-For: 9.9.9.9\r\n"
	    "Forwarded: for=9.9.9.9;host=s;proto=http\r\nX-Forwarded-Proto: http\r\n"
	    "X-Forwarded-Host: s\r\nX-Real-IP: 9.9.9.9\r\nContent-Length: 5\r\n\r\n");
	/* Claims of a stranger are replaced, his X-Forwarded-For is appended to. */
	request("PUT / HTTP/1.1\r\nHost: s\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Real-IP: 6.6.6.6\r\n"
		"Forwarded: for=1.2.3.4\r\nTransfer-Encoding: chunked\r\n\r\n",
	    "9.9.9.9", false,
	    "PUT / HTTP/1.1\r\nHost: s\r\nX-Forwarded-For: 1.2.3.4, 9.9.9.9\r\n"
	    "Forwarded: for=9.9.9.9;host=s;proto=http\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: s\r\n"
	    "X-Real-IP: 9.9.9.9\r\nTransfer-Encoding: chunked\r\n\r\n");
	/* A trusted proxy's are believed. */
	request("GET http://s/x HTTP/1.1\r\nHost: s\r\nForwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: site.org\r\n"
		"X-Real-IP: 1.2.3.4\r\n\r\n",
	    "127.0.0.1", true,
	    "GET /x HTTP/1.1\r\nHost: s\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: site.org\r\nX-Real-IP: 1.2.3.4\r\n"
	    "X-Forwarded-For: 1.2.3.4, 127.0.0.1\r\nForwarded: for=1.2.3.4, for=127.0.0.1;host=s;proto=http\r\n\r\n");
	/* What is no token is quoted (RFC 7239 4, 6); a socket has no address. */
	request("GET / HTTP/1.1\r\nHost: s:8080\r\n\r\n", "fd00::7", false,
	    "GET / HTTP/1.1\r\nHost: s:8080\r\nX-Forwarded-For: fd00::7\r\nForwarded: for=\"[fd00::7]\";host=\"s:8080\";proto=http\r\n"
	    "X-Forwarded-Proto: http\r\nX-Forwarded-Host: s:8080\r\nX-Real-IP: fd00::7\r\n\r\n");
	request("GET / HTTP/1.0\r\n\r\n", "unix:", false,
	    "GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: unix:\r\nForwarded: for=unknown;proto=http\r\nX-Forwarded-Proto: http\r\n"
	    "X-Real-IP: unix:\r\n\r\n");
}

static void
test_responses(void **state)
{
	static const char in[] = "HTTP/1.1 200 Fine\r\nServer: g\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nSet-Cookie: a\r\nset-cookie: b\r\n"
				 "X-Accel-Redirect: /p\r\nX-Sendfile: /q\r\nX-Shim-A: 1\r\nX-Media-Stored: a\r\nx-media-deleted: b\r\nContent-Length: 3\r\nContent-Type: t\r\n\r\n";
	static const char strict[] = "HTTP/1.1 200 Fine\r\nServer: g\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Type: t\r\n";
	static const char trusting[] = "HTTP/1.1 200 Fine\r\nServer: g\r\nSet-Cookie: a\r\nset-cookie: b\r\nX-Accel-Redirect: /p\r\n"
				       "X-Sendfile: /q\r\nContent-Type: t\r\n";
	int trusted;

	(void)state;
	for (trusted = 0; trusted < 2; trusted++) {
		struct str out = STR_INIT;
		struct http1_head h;
		enum http1_bad bad;
		size_t scan = 0, used;

		assert_int_equal(http1_parse_response(&h, in, strlen(in), &limits, false, &scan, &used, &bad), HTTP1_DONE);
		forward_response(&out, &h, trusted);
		assert_string_equal(str_z(&out), trusted ? trusting : strict);
		str_fini(&out);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trust),
		cmocka_unit_test(test_client),
		cmocka_unit_test(test_client_forwarded),
		cmocka_unit_test(test_question),
		cmocka_unit_test(test_left_out),
		cmocka_unit_test(test_tls),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_responses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
