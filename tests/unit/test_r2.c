/* r2: against a scripted peer that checks every signature. */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "io/loop.h"
#include "io/pool.h"
#include "peer.h"
#include "store/r2.h"

#define Z(z) (z), strlen(z)
#define ERRDOC(code)                                                                                                   \
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>" code "</Code><Message>said so</Message></Error>"
#define SCRIPT(...)                                                                                                    \
	do {                                                                                                           \
		static const struct peer_rule rules[] = {__VA_ARGS__};                                                 \
		peer_script(peer, rules, sizeof(rules) / sizeof(rules[0]));                                            \
	} while (0)
#define EMPTY_LIST "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"

static struct loop *loop;
static struct pool *pool;
static struct peer *peer;
static struct store *r2;
static struct conf conf;
static char endpoint[64], bucket[] = "buck-et", key_id[] = "AKID", secret[] = "s3cret/+", region[] = "auto";

/* What the last operation answered. */
static struct {
	bool done;
	enum err e;
	char etag[80], text[512], next[64], keys[256];
	struct store_meta meta;
	char *content_type, *spelling;
	struct str data;
	bool got_meta, partial;
	uint64_t first, n, total;
} out;

static int
setup(void **state)
{
	(void)state;
	loop = loop_new();
	pool = pool_new(loop, 2);
	peer = peer_new(key_id, secret, region);
	memset(&conf, 0, sizeof(conf));
	(void)snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u/a/path/", peer_port(peer));
	conf.refs = 2; /* never freed: it is ours */
	conf.r2_endpoint = endpoint;
	conf.r2_bucket = bucket;
	conf.r2_region = region;
	conf.r2_access_key = key_id;
	conf.r2_secret = secret;
	conf.r2_connections = 8;
	conf.r2_connect_timeout = 2000;
	conf.r2_request_limit = 5000;
	conf.r2_multipart_threshold = 250000;
	conf.r2_part_size = 100000;
	r2 = r2_new(loop, pool, &conf);
	return 0;
}

static void
forget(void)
{
	mem_free(out.content_type);
	mem_free(out.spelling);
	str_fini(&out.data);
	memset(&out, 0, sizeof(out));
}

static int
teardown(void **state)
{
	(void)state;
	store_free(&r2);
	pool_free(&pool);
	loop_free(&loop);
	peer_free(peer);
	forget();
	return 0;
}

/* The answer, once: the operation must not answer within the call that starts it. */
static enum err
answer(void)
{
	assert_false(out.done);
	assert_true(loop_run_until(loop, &out.done, 5000));
	assert_int_equal(peer_bad_signatures(peer), 0);
	return out.e;
}

static void
finish(enum err e)
{
	assert_false(out.done);
	out.done = true;
	out.e = e;
}

static void
on_done(void *arg, enum err e, const char *etag)
{
	(void)arg;
	assert_true(e == ERR_OK || etag == NULL);
	(void)snprintf(out.etag, sizeof(out.etag), "%s", etag != NULL ? etag : "");
	finish(e);
}

static void
keep_meta(const struct store_meta *m)
{
	out.meta = *m;
	out.content_type = mem_strdup(m->content_type);
	out.spelling = mem_strdup(m->spelling);
}

static void
on_head(void *arg, enum err e, const struct store_meta *m)
{
	(void)arg;
	assert_int_equal(m != NULL, e == ERR_OK);
	if (m != NULL)
		keep_meta(m);
	finish(e);
}

static void
on_text(void *arg, enum err e, const char *why)
{
	(void)arg;
	(void)snprintf(out.text, sizeof(out.text), "%s", why);
	finish(e);
}

static void
on_list(void *arg, enum err e, const struct store_list_entry *v, size_t n, const char *next)
{
	(void)arg;
	for (size_t i = 0; i < n; i++)
		(void)snprintf(out.keys + strlen(out.keys), sizeof(out.keys) - strlen(out.keys), "%s;", v[i].key);
	(void)snprintf(out.next, sizeof(out.next), "%s", next != NULL ? next : "");
	finish(e);
}

static void
on_get_meta(void *arg, const struct store_meta *m, bool partial, uint64_t first, uint64_t n, uint64_t total)
{
	(void)arg;
	assert_false(out.got_meta);
	out.got_meta = true;
	out.partial = partial;
	out.first = first;
	out.n = n;
	out.total = total;
	keep_meta(m);
}

static void
on_get_data(void *arg, const void *p, size_t n)
{
	(void)arg;
	str_add(&out.data, p, n);
}

static void
on_get_done(void *arg, enum err e)
{
	(void)arg;
	finish(e);
}

static const struct store_get_cb get_cb = {.on_meta = on_get_meta, .on_data = on_get_data, .done = on_get_done};

static enum err
head(const char *key)
{
	forget();
	assert_non_null(store_head(r2, Z(key), 2000, on_head, NULL));
	return answer();
}

static enum err
get(const char *key, const char *range)
{
	struct store_get g = {.key = key, .klen = strlen(key), .stall_ms = 2000, .first_byte_ms = 2000};
	unsigned long long a = 0, b = 0;

	forget();
	if (range != NULL) {
		g.ranged = true;
		if (sscanf(range, "%llu-%llu", &a, &b) == 2)
			g.last = b;
		else
			g.last = UINT64_MAX;
		g.first = a;
		if (*range == '-')
			g.suffix = strtoull(range + 1, NULL, 10);
	}
	assert_non_null(store_get(r2, &g, &get_cb, NULL));
	return answer();
}

static struct store_put
put_of(const char *key, const char *body)
{
	struct store_put p = {
	    .key = key, .klen = strlen(key), .fd = -1, .body = body, .size = strlen(body), .limit_ms = 2000};

	digest_md5(body, p.size, p.md5);
	digest_sha256(body, p.size, p.sha256);
	return p;
}

static enum err
put(const char *key, const char *body)
{
	struct store_put p = put_of(key, body);

	forget();
	assert_non_null(store_put(r2, &p, on_done, NULL));
	return answer();
}

static enum err
del(const char *key)
{
	forget();
	assert_non_null(store_del(r2, Z(key), 2000, on_done, NULL));
	return answer();
}

static enum err
probe(void)
{
	forget();
	assert_non_null(store_probe(r2, on_text, NULL));
	return answer();
}

static void
test_put(void **state)
{
	static char type[] = "image/png", cc[] = "public, max-age=60";
	struct store_meta m = {.has_mtime = true,
	    .mtime_ns = 1700000000000000042,
	    .has_mode = true,
	    .mode = 0640,
	    .uid = 1000,
	    .gid = 33,
	    .content_type = type,
	    .cache_control = cc};
	struct store_put p = put_of("a b/\xc3\xa9+~%&?#.png", "hello");
	struct peer_seen seen;

	(void)state;
	SCRIPT({.match = "PUT ", .status = 200, .etag = true});
	p.meta = &m;
	p.fence.if_absent = true;
	forget();
	assert_non_null(store_put(r2, &p, on_done, NULL));
	assert_int_equal(answer(), ERR_OK);
	assert_string_equal(out.etag, "5d41402abc4b2a76b9719d911017c592");
	assert_int_equal(peer_count(peer, "PUT ", &seen), 1);
	assert_string_equal(seen.line, "PUT /a/path/buck-et/a%20b/%C3%A9%2B~%25%26%3F%23.png");
	assert_string_equal(peer_header(seen.head, "content-md5"), "XUFAKrxLKna5cZ2REBfFkg==");
	assert_string_equal(peer_header(seen.head, "if-none-match"), "*");
	assert_string_equal(peer_header(seen.head, "content-type"), "image/png");
	assert_string_equal(peer_header(seen.head, "cache-control"), cc);
	assert_string_equal(peer_header(seen.head, "x-amz-meta-mtime"), "1700000000.000000042");
	assert_string_equal(peer_header(seen.head, "x-amz-meta-mode"), "33184");
	assert_string_equal(peer_header(seen.head, "x-amz-meta-uid"), "1000");
	assert_string_equal(peer_header(seen.head, "x-amz-meta-gid"), "33");
	assert_null(peer_header(seen.head, "x-amz-meta-r2shim-name"));
	assert_null(peer_header(seen.head, "expect"));
	assert_string_equal(seen.body, "hello");

	p = put_of("e\xcc\x81", "");
	p.fence.if_etag = "abc";
	forget();
	assert_non_null(store_put(r2, &p, on_done, NULL));
	assert_int_equal(answer(), ERR_OK);
	assert_int_equal(
	    peer_count(peer, "PUT /a/path/buck-et/%C3%A9", &seen), 1); /* NFC on the wire, the raw name beside it */
	assert_string_equal(peer_header(seen.head, "x-amz-meta-r2shim-name"), "e%CC%81");
	assert_string_equal(peer_header(seen.head, "if-match"), "\"abc\"");
	assert_string_equal(peer_header(seen.head, "content-length"), "0");
}

static void
test_R26_put_errors(void **state)
{
	struct store_put slow = put_of("silent", "x");

	(void)state;
	SCRIPT({.match = "/badtag", .status = 200, .headers = "ETag: \"00\"\r\n"}, {.match = "/notag", .status = 200},
	    {.match = "/412", .status = 412, .body = ERRDOC("PreconditionFailed")},
	    {.match = "/429", .status = 429, .body = ERRDOC("ServiceUnavailable")},
	    {.match = "/500", .status = 500, .body = ERRDOC("InternalError")},
	    {.match = "/520", .status = 520, .body = "<html>"},
	    {.match = "/401", .status = 401, .body = ERRDOC("Unauthorized")},
	    {.match = "/403", .status = 403, .body = ERRDOC("AccessDenied")},
	    {.match = "/sig", .status = 403, .body = ERRDOC("SignatureDoesNotMatch")},
	    {.match = "/nobucket", .status = 404, .body = ERRDOC("NoSuchBucket")},
	    {.match = "/html", .status = 404, .body = "<html>not found</html>"},
	    {.match = "/digest", .status = 400, .body = ERRDOC("BadDigest")},
	    {.match = "/name", .status = 400, .body = ERRDOC("InvalidObjectName")},
	    {.match = "/302", .status = 302, .headers = "Location: /\r\n"}, {.match = "/silent", .silent = true},
	    {.match = "/501", .status = 501, .body = ERRDOC("NotImplemented")});
	assert_int_equal(put("badtag", "x"), ERR_BADDIGEST);
	assert_int_equal(put("notag", "x"), ERR_BADDIGEST);
	assert_int_equal(put("412", "x"), ERR_PRECOND);
	assert_int_equal(put("429", "x"), ERR_THROTTLED);
	assert_int_equal(put("500", "x"), ERR_UNAVAIL);
	assert_int_equal(put("520", "x"), ERR_UNAVAIL);
	assert_int_equal(put("401", "x"), ERR_UNAUTH);
	assert_int_equal(put("403", "x"), ERR_DENIED);
	assert_int_equal(put("sig", "x"), ERR_UNAUTH);
	assert_int_equal(put("nobucket", "x"), ERR_NOBUCKET);
	assert_int_equal(put("html", "x"), ERR_PROTO);
	assert_int_equal(put("digest", "x"), ERR_BADDIGEST);
	assert_int_equal(put("name", "x"), ERR_INVAL);
	assert_int_equal(put("302", "x"), ERR_PROTO);
	assert_int_equal(put("501", "x"), ERR_UNSUPPORTED);
	assert_int_equal(put("latin\xe9", "x"), ERR_INVAL); /* R2 holds UTF-8 only: not even asked */
	assert_int_equal(peer_count(peer, "latin", NULL), 0);
	slow.limit_ms = 50;
	forget();
	assert_non_null(store_put(r2, &slow, on_done, NULL));
	assert_int_equal(answer(), ERR_TIMEOUT);
}

static void
test_head(void **state)
{
	struct peer_seen seen;

	(void)state;
	SCRIPT(
	    {.match = "/full",
		.status = 200,
		.headers = "Content-Length: 12\r\nETag: \"5d41402abc4b2a76b9719d911017c592\"\r\nContent-Type: a/b\r\n"
			   "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nx-amz-meta-mtime: 12.5\r\nx-amz-meta-mode: "
			   "33188\r\nx-amz-meta-uid: 1\r\n"
			   "x-amz-meta-gid: 2\r\n"},
	    {.match = "/multi",
		.status = 200,
		.headers = "Content-Length: 9\r\nETag: \"5d41402abc4b2a76b9719d911017c592-2\"\r\n"
			   "x-amz-meta-md5chksum: XUFAKrxLKna5cZ2REBfFkg==\r\nx-amz-meta-mtime: junk\r\n"},
	    {.match = "/plain", .status = 200, .headers = "Content-Length: 9\r\nETag: \"abc-2\"\r\n"},
	    {.match = "%C3%A9", .status = 200, .headers = "Content-Length: 1\r\nx-amz-meta-r2shim-name: e%CC%81\r\n"},
	    {.match = "%C3%A8", .status = 200, .headers = "Content-Length: 1\r\n"});
	assert_int_equal(head("full"), ERR_OK);
	assert_int_equal(out.meta.size, 12);
	assert_true(out.meta.has_md5 && out.meta.md5[0] == 0x5d);
	assert_true(out.meta.has_mtime && out.meta.mtime_ns == 12500000000);
	assert_true(out.meta.has_mode && out.meta.mode == 0644 && out.meta.gid == 2);
	assert_int_equal(out.meta.last_modified_s, 784111777);
	assert_string_equal(out.content_type, "a/b");
	assert_int_equal(peer_count(peer, "HEAD ", &seen), 1);
	assert_string_equal(peer_header(seen.head, "accept-encoding"), "gzip, br");
	assert_null(strstr(peer_header(seen.head, "authorization"), "accept-encoding"));
	assert_int_equal(head("multi"), ERR_OK);
	assert_true(out.meta.has_md5 && out.meta.md5[0] == 0x5d && !out.meta.has_mtime);
	assert_int_equal(head("plain"), ERR_OK);
	assert_false(out.meta.has_md5);
	/* one object for both spellings: it is that of the spelling that it bears */
	assert_int_equal(head("e\xcc\x81"), ERR_OK);
	assert_string_equal(out.spelling, "e\xcc\x81");
	assert_int_equal(head("\xc3\xa9"), ERR_NOTFOUND);
	assert_int_equal(head("\xc3\xa8"), ERR_OK);
	assert_int_equal(head("e\xcc\x80"), ERR_NOTFOUND);
}

/* A HEAD's 404 does not say what is missing. */
static void
test_R23_404_without_a_body(void **state)
{
	(void)state;
	SCRIPT({.match = "HEAD /a/path/buck-et/", .status = 404},
	    {.match = "HEAD /a/path/buck-et", .status = 404, .times = 1},
	    {.match = "HEAD /a/path/buck-et", .status = 403, .times = 2},
	    {.match = "HEAD /a/path/buck-et", .status = 500, .times = 1},
	    {.match = "HEAD /a/path/buck-et", .status = 200},
	    {.match = "list-type", .status = 403, .body = ERRDOC("AccessDenied"), .times = 1},
	    {.match = "list-type", .status = 200, .body = EMPTY_LIST});
	assert_int_equal(head("k"), ERR_NOBUCKET);
	assert_int_equal(head("k"), ERR_DENIED);   /* may neither look at the bucket nor list it: no proof */
	assert_int_equal(head("k"), ERR_NOTFOUND); /* may list it */
	assert_int_equal(peer_count(peer, "list-type", NULL), 2);
	assert_int_equal(head("k"), ERR_NOTFOUND); /* known for a while: not asked again */
	assert_int_equal(peer_count(peer, "HEAD ", NULL), 4 + 3);
	store_free(&r2);
	r2 = r2_new(loop, pool, &conf);
	assert_int_equal(head("k"), ERR_UNAVAIL);
	assert_int_equal(head("k"), ERR_NOTFOUND);
}

static void
test_R28_clock(void **state)
{
	char date[30], headers[64];
	struct peer_rule rules[] = {
	    {.match = "PUT ", .status = 403, .headers = headers, .body = ERRDOC("RequestTimeTooSkewed"), .times = 1},
	    {.match = "PUT ", .status = 200, .etag = true, .times = 1},
	    {.match = "PUT ", .status = 403, .headers = headers, .body = ERRDOC("RequestTimeTooSkewed")},
	    {.match = "HEAD ", .status = 403, .headers = headers, .times = 1}, {.match = "HEAD ", .status = 200}};
	struct peer_seen seen;
	int64_t signed_s = 0;

	(void)state;
	clock_http_date((int64_t)(clock_real_ms() / 1000) + 7200, date);
	(void)snprintf(headers, sizeof(headers), "Date: %s\r\n", date);
	peer_script(peer, rules, 5);
	assert_int_equal(put("k", "x"), ERR_OK);
	assert_int_equal(peer_count(peer, "PUT ", &seen), 2);
	assert_true(clock_parse_amz_date(Z(peer_header(seen.head, "x-amz-date")), &signed_s));
	assert_true(signed_s - (int64_t)(clock_real_ms() / 1000) > 7100);
	/* not the clock's fault, it seems: once, then told */
	assert_int_equal(put("k", "x"), ERR_CLOCK);
	/* a HEAD's refusal has no body: the Date alone tells */
	store_free(&r2);
	r2 = r2_new(loop, pool, &conf);
	assert_int_equal(head("k"), ERR_OK);
	assert_int_equal(peer_count(peer, "HEAD ", NULL), 2);
	peer_script(peer, NULL, 0);
}

static void
test_get(void **state)
{
	struct peer_seen seen;

	(void)state;
	SCRIPT({.match = "/whole", .status = 200, .headers = "ETag: \"e\"\r\n", .body = "0123456789"},
	    {.match = "/part", .status = 206, .headers = "Content-Range: bytes 2-4/10\r\n", .body = "234"},
	    {.match = "/wrongpart", .status = 206, .headers = "Content-Range: bytes 2-9/10\r\n", .body = "234"},
	    {.match = "/cut", .status = 200, .body = "0123456789", .cut = true},
	    {.match = "/none", .status = 404, .body = ERRDOC("NoSuchKey")},
	    {.match = "/nobucket", .status = 404, .body = ERRDOC("NoSuchBucket")},
	    {.match = "/range", .status = 416, .body = ERRDOC("InvalidRange")}, {.match = "/silent", .silent = true},
	    {.match = "%C3%A9", .status = 200, .headers = "x-amz-meta-r2shim-name: e%CC%81\r\n", .body = "x"});
	assert_int_equal(get("whole", NULL), ERR_OK);
	assert_string_equal(str_z(&out.data), "0123456789");
	assert_true(out.got_meta && !out.partial && out.n == 10 && out.total == 10);
	assert_int_equal(get("part", "2-4"), ERR_OK);
	assert_true(out.partial && out.first == 2 && out.n == 3 && out.total == 10 && out.meta.size == 10);
	assert_int_equal(peer_count(peer, "/part", &seen), 1);
	assert_string_equal(peer_header(seen.head, "range"), "bytes=2-4");
	assert_int_equal(get("part", "-3"), ERR_OK);
	assert_int_equal(peer_count(peer, "/part", &seen), 2);
	assert_string_equal(peer_header(seen.head, "range"), "bytes=-3");
	assert_int_equal(get("part", "2-"), ERR_OK);
	assert_int_equal(peer_count(peer, "/part", &seen), 3);
	assert_string_equal(peer_header(seen.head, "range"), "bytes=2-");
	assert_int_equal(get("part", NULL), ERR_PROTO); /* a part that nobody asked for */
	assert_int_equal(get("wrongpart", "2-4"), ERR_PROTO);
	assert_false(out.got_meta);
	assert_int_equal(get("cut", NULL), ERR_CLOSED);
	assert_true(out.got_meta);
	assert_int_equal(get("none", NULL), ERR_NOTFOUND);
	assert_false(out.got_meta);
	assert_int_equal(get("nobucket", NULL), ERR_NOBUCKET);
	assert_int_equal(get("range", "99-"), ERR_RANGE);
	assert_int_equal(get("\xc3\xa9", NULL), ERR_NOTFOUND);
	assert_int_equal(get("e\xcc\x81", NULL), ERR_OK);
	{
		struct store_get g = {.key = "silent", .klen = 6, .first_byte_ms = 50};

		forget();
		assert_non_null(store_get(r2, &g, &get_cb, NULL));
		assert_int_equal(answer(), ERR_TIMEOUT);
	}
}

static void
test_delete(void **state)
{
	(void)state;
	SCRIPT({.match = "DELETE ", .status = 204},
	    {.match = "HEAD /a/path/buck-et/%C3%A9", .status = 200, .headers = "Content-Length: 1\r\n"});
	assert_int_equal(del("k"), ERR_OK);
	assert_int_equal(peer_count(peer, "HEAD ", NULL), 0);
	assert_int_equal(del("\xc3\xa9"), ERR_OK);
	assert_int_equal(peer_count(peer, "DELETE ", NULL), 2);
	/* the twin's object stays */
	assert_int_equal(del("e\xcc\x81"), ERR_OK);
	assert_int_equal(peer_count(peer, "DELETE ", NULL), 2);
}

static void
test_list(void **state)
{
#define ENTRY(k)                                                                                                       \
	"<Contents><Key>" k                                                                                            \
	"</Key><Size>1</Size><LastModified>2026-11-23T01:02:03.456Z</LastModified><ETag>\"e\"</ETag></Contents>"
	struct peer_seen seen;

	(void)state;
	SCRIPT({.match = "prefix=a%2F",
		   .status = 200,
		   .body = "<ListBucketResult>" ENTRY("a%2F1")
		       ENTRY("a%2F2") "<IsTruncated>true</IsTruncated><NextContinuationToken>t+/</"
				      "NextContinuationToken><EncodingType>url</EncodingType></ListBucketResult>"},
	    {.match = "continuation-token=t%2B%2F",
		.status = 200,
		.body = "<ListBucketResult>" ENTRY("b") "<IsTruncated>false</IsTruncated></ListBucketResult>"},
	    {.match = "prefix=disorder",
		.status = 200,
		.body =
		    "<ListBucketResult>" ENTRY("b") ENTRY("a") "<IsTruncated>false</IsTruncated></ListBucketResult>"},
	    {.match = "prefix=twice",
		.status = 200,
		.body =
		    "<ListBucketResult>" ENTRY("b") ENTRY("b") "<IsTruncated>false</IsTruncated></ListBucketResult>"},
	    {.match = "prefix=html", .status = 200, .body = "<html/>"},
	    {.match = "prefix=gone", .status = 404, .body = ERRDOC("NoSuchBucket")});
	forget();
	assert_non_null(store_list(r2, "a/", "a/0", NULL, 2, on_list, NULL));
	assert_int_equal(answer(), ERR_OK);
	assert_string_equal(out.keys, "a/1;a/2;");
	assert_string_equal(out.next, "t+/");
	assert_int_equal(peer_count(peer, "GET ", &seen), 1);
	assert_string_equal(
	    seen.line, "GET /a/path/buck-et?encoding-type=url&list-type=2&max-keys=2&prefix=a%2F&start-after=a%2F0");
	forget();
	assert_non_null(store_list(r2, NULL, "a/0", "t+/", 0, on_list, NULL));
	assert_int_equal(answer(), ERR_OK);
	assert_string_equal(out.keys, "b;");
	assert_string_equal(out.next, "");
	for (size_t i = 0; i < 4; i++) {
		static const char *const prefixes[] = {"disorder", "twice", "html", "gone"};

		forget();
		assert_non_null(store_list(r2, prefixes[i], NULL, NULL, 0, on_list, NULL));
		assert_int_equal(answer(), i < 3 ? ERR_PROTO : ERR_NOBUCKET);
	}
}

static void
test_probe(void **state)
{
	static char nowhere[] = "http://127.0.0.1:1";

	(void)state;
	SCRIPT({.match = "list-type", .status = 200, .body = EMPTY_LIST, .times = 1},
	    {.match = "list-type", .status = 401, .body = ERRDOC("Unauthorized"), .times = 1},
	    {.match = "list-type", .status = 403, .body = ERRDOC("SignatureDoesNotMatch"), .times = 1},
	    {.match = "list-type", .status = 403, .body = ERRDOC("AccessDenied"), .times = 1},
	    {.match = "list-type", .status = 404, .body = ERRDOC("NoSuchBucket"), .times = 1},
	    {.match = "list-type", .status = 200, .body = "<html/>", .times = 1},
	    {.match = "list-type", .status = 503, .body = ERRDOC("ServiceUnavailable")});
	assert_int_equal(probe(), ERR_OK);
	assert_string_equal(out.text, "");
	assert_int_equal(probe(), ERR_UNAUTH);
	assert_non_null(strstr(out.text, "access key id \"AKID\" is not known"));
	assert_int_equal(probe(), ERR_UNAUTH);
	assert_non_null(strstr(out.text, "secret access key does not belong"));
	assert_int_equal(probe(), ERR_DENIED);
	assert_non_null(strstr(out.text, "may not list"));
	assert_int_equal(probe(), ERR_NOBUCKET);
	assert_non_null(strstr(out.text, "no bucket \"buck-et\""));
	assert_int_equal(probe(), ERR_PROTO);
	assert_non_null(strstr(out.text, "S3 endpoint?"));
	assert_int_equal(probe(), ERR_UNAVAIL);
	assert_non_null(strstr(out.text, "said so"));
	assert_null(strstr(out.text, secret));
	store_free(&r2);
	conf.r2_endpoint = nowhere;
	r2 = r2_new(loop, pool, &conf);
	assert_int_equal(probe(), ERR_CONNECT);
	assert_non_null(strstr(out.text, "cannot reach http://127.0.0.1:1: "));
}

static void
test_R27_abort_uploads(void **state)
{
#define UPLOAD(k, i) "<Upload><Key>" k "</Key><UploadId>" i "</UploadId></Upload>"
	(void)state;
	SCRIPT({.match = "key-marker=",
		   .status = 200,
		   .body = "<ListMultipartUploadsResult>" UPLOAD(
		       "a%2Fb", "three") "<IsTruncated>false</IsTruncated><EncodingType>url</EncodingType></"
					 "ListMultipartUploadsResult>"},
	    {.match = "prefix=a%2Fb",
		.status = 200,
		.body = "<ListMultipartUploadsResult>" UPLOAD("a%2Fb", "o/ne") UPLOAD("a%2Fbc", "other")
		    UPLOAD("a%2Fb", "two") "<IsTruncated>true</IsTruncated><NextKeyMarker>a%2Fb</"
					   "NextKeyMarker><NextUploadIdMarker>m</NextUploadIdMarker>"
					   "<EncodingType>url</EncodingType></ListMultipartUploadsResult>"},
	    {.match = "prefix=no", .status = 501, .body = ERRDOC("NotImplemented")},
	    {.match = "uploadId=two", .status = 404, .body = ERRDOC("NoSuchUpload")},
	    {.match = "DELETE ", .status = 204});
	forget();
	assert_non_null(store_abort_uploads(r2, Z("a/b"), on_done, NULL));
	assert_int_equal(answer(), ERR_OK);
	assert_int_equal(peer_count(peer, "DELETE ", NULL), 3);
	assert_int_equal(peer_count(peer, "DELETE /a/path/buck-et/a/b?uploadId=o%2Fne", NULL), 1);
	assert_int_equal(peer_count(peer, "uploadId=other", NULL), 0);
	forget();
	assert_non_null(store_abort_uploads(r2, Z("no"), on_done, NULL));
	assert_int_equal(answer(), ERR_UNSUPPORTED);
	forget();
	assert_non_null(store_abort_uploads(r2, Z("latin\xe9"), on_done, NULL));
	assert_int_equal(answer(), ERR_INVAL);
}

/* ---- multipart ---- */

#define CREATED "<InitiateMultipartUploadResult><UploadId>U+/=</UploadId></InitiateMultipartUploadResult>"
#define ID      "uploadId=U%2B%2F%3D"

static char complete_doc[256];

/* A file of 250,000 bytes: three parts, the last one short. Its digests, and the answer to its completion. */
static int
big_file(struct store_put *p, const char *key)
{
	static char data[250000];
	char path[] = "/tmp/r2shim-r2-XXXXXX";
	uint8_t md5s[3][16], md5[16];
	struct str hex = STR_INIT;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7 + i / 1000);
	assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	*p = (struct store_put){.key = key, .klen = strlen(key), .fd = fd, .size = sizeof(data), .limit_ms = 3000};
	digest_md5(data, sizeof(data), p->md5);
	digest_sha256(data, sizeof(data), p->sha256);
	for (unsigned i = 0; i < 3; i++)
		digest_md5(data + i * 100000, i < 2 ? 100000 : 50000, md5s[i]);
	digest_md5(md5s, sizeof(md5s), md5);
	str_add_hex(&hex, md5, 16);
	(void)snprintf(complete_doc, sizeof(complete_doc),
	    "<CompleteMultipartUploadResult><ETag>\"%s-3\"</ETag></CompleteMultipartUploadResult>", str_z(&hex));
	str_fini(&hex);
	return fd;
}

static enum err
put_big(struct store_put *p)
{
	forget();
	assert_non_null(store_put(r2, p, on_done, NULL));
	return answer();
}

static void
test_multipart(void **state)
{
	struct store_put p;
	struct peer_seen seen;
	int fd = big_file(&p, "big file");

	(void)state;
	SCRIPT({.match = "?uploads=", .status = 200, .body = CREATED},
	    {.match = "partNumber=", .status = 200, .etag = true},
	    {.match = "POST ", .status = 200, .body = complete_doc});
	assert_int_equal(put_big(&p), ERR_OK);
	assert_int_equal(strlen(out.etag), 34);
	assert_int_equal(peer_count(peer, "partNumber=", NULL), 3);
	assert_int_equal(peer_count(peer, "partNumber=3&" ID, &seen), 1);
	assert_int_equal(seen.body_len, 50000);
	assert_int_equal(peer_count(peer, "?uploads=", &seen), 1);
	assert_int_equal(strlen(peer_header(seen.head, "x-amz-meta-md5chksum")), 24);
	assert_int_equal(peer_count(peer, "POST /a/path/buck-et/big%20file?" ID, &seen), 1);
	assert_non_null(strstr(seen.body, "<PartNumber>3</PartNumber>"));
	assert_int_equal(peer_count(peer, "DELETE ", NULL), 0);
	assert_int_equal(close(fd), 0);

	/* a part may be called anything */
	fd = big_file(&p, "opaque");
	SCRIPT({.match = "?uploads=", .status = 200, .body = CREATED},
	    {.match = "partNumber=2", .status = 200, .headers = "ETag: \"a<&b\"\r\n"},
	    {.match = "partNumber=", .status = 200, .etag = true},
	    {.match = "POST ", .status = 200, .body = complete_doc});
	assert_int_equal(put_big(&p), ERR_OK);
	assert_int_equal(peer_count(peer, "POST /a/path/buck-et/opaque?" ID, &seen), 1);
	assert_non_null(strstr(seen.body, "<PartNumber>2</PartNumber><ETag>&quot;a&lt;&amp;b&quot;</ETag>"));
	assert_int_equal(close(fd), 0);
}

static void
test_multipart_fence(void **state)
{
	struct store_put p;
	int fd = big_file(&p, "big file");

	(void)state;
	SCRIPT({.match = "?uploads=", .status = 200, .body = CREATED},
	    {.match = "partNumber=", .status = 200, .etag = true},
	    {.match = "POST ", .status = 200, .body = complete_doc}, {.match = "HEAD ", .status = 404, .times = 1},
	    {.match = "HEAD ", .status = 200, .headers = "Content-Length: 1\r\nETag: \"old\"\r\n"});
	/* looked at right before completion */
	p.fence.if_absent = true;
	assert_int_equal(put_big(&p), ERR_OK);
	assert_int_equal(peer_count(peer, "HEAD ", NULL), 1);
	p.fence.if_absent = false;
	p.fence.if_etag = "old";
	assert_int_equal(put_big(&p), ERR_OK);
	assert_int_equal(close(fd), 0);

	/* an object of the name's twin is in the way as much as one of its own */
	fd = big_file(&p, "\xc3\xa9");
	SCRIPT({.match = "?uploads=", .status = 200, .body = CREATED},
	    {.match = "partNumber=", .status = 200, .etag = true}, {.match = "DELETE ", .status = 204},
	    {.match = "HEAD ", .status = 200, .headers = "Content-Length: 1\r\nx-amz-meta-r2shim-name: e%CC%81\r\n"});
	p.fence.if_absent = true;
	assert_int_equal(put_big(&p), ERR_PRECOND);
	assert_int_equal(peer_count(peer, "DELETE ", NULL), 1);
	assert_int_equal(close(fd), 0);
}

static void
test_multipart_errors(void **state)
{
	static const struct peer_rule create = {.match = "?uploads=", .status = 200, .body = CREATED},
				      part = {.match = "partNumber=", .status = 200, .etag = true},
				      del_ok = {.match = "DELETE ", .status = 204};
	const struct {
		struct peer_rule rule;
		const char *fence;
		enum err e;
		unsigned aborts;
	} cases[] = {
	    {{.match = "?uploads=", .status = 503, .body = ERRDOC("ServiceUnavailable")}, NULL, ERR_UNAVAIL, 0},
	    {{.match = "?uploads=", .status = 200, .body = "<html/>"}, NULL, ERR_PROTO, 0},
	    {{.match = "partNumber=2", .status = 500, .body = ERRDOC("InternalError")}, NULL, ERR_UNAVAIL, 1},
	    {{.match = "partNumber=2", .status = 200, .headers = "ETag: \"00000000000000000000000000000000\"\r\n"},
		NULL, ERR_BADDIGEST, 1},
	    {{.match = "partNumber=2", .status = 200}, NULL, ERR_PROTO, 1},
	    {{.match = "partNumber=3", .status = 404, .body = ERRDOC("NoSuchUpload")}, NULL, ERR_CLOSED, 1},
	    /* the trap: 200, and yet an error */
	    {{.match = "POST /a/path/buck-et/big?" ID, .status = 200, .body = ERRDOC("InternalError")}, NULL,
		ERR_UNAVAIL, 1},
	    {{.match = "POST /a/path/buck-et/big?" ID,
		 .status = 200,
		 .body = "<CompleteMultipartUploadResult><ETag>\"0-3\"</ETag>"
			 "</CompleteMultipartUploadResult>"},
		NULL, ERR_BADDIGEST, 1},
	    {{.match = "HEAD ", .status = 200, .headers = "Content-Length: 1\r\nETag: \"new\"\r\n"}, "old", ERR_PRECOND,
		1},
	    {{.match = "HEAD ", .status = 404}, "old", ERR_PRECOND, 1},
	    {{.match = "HEAD ", .status = 200, .headers = "Content-Length: 1\r\nETag: \"new\"\r\n"}, "*", ERR_PRECOND,
		1},
	    {{.match = "HEAD ", .status = 503}, "*", ERR_UNAVAIL, 1},
	};
	struct store_put p;
	int fd = big_file(&p, "big");

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct peer_rule rules[] = {
		    cases[i].rule, create, part, del_ok, {.match = "POST ", .status = 200, .body = complete_doc}};

		peer_script(peer, rules, 5);
		p.fence.if_absent = cases[i].fence != NULL && *cases[i].fence == '*';
		p.fence.if_etag = cases[i].fence != NULL && *cases[i].fence != '*' ? cases[i].fence : NULL;
		assert_int_equal(put_big(&p), cases[i].e);
		assert_int_equal(peer_count(peer, "DELETE /a/path/buck-et/big?" ID, NULL), cases[i].aborts);
		peer_script(peer, NULL, 0);
	}
	assert_int_equal(close(fd), 0);
}

static void
test_multipart_changed(void **state)
{
	struct store_put p;
	int fd = big_file(&p, "big");

	(void)state;
	SCRIPT({.match = "?uploads=", .status = 200, .body = CREATED},
	    {.match = "partNumber=", .status = 200, .etag = true}, {.match = "DELETE ", .status = 204});
	assert_int_equal(pwrite(fd, "x", 1, 150000), 1); /* after the first pass */
	assert_int_equal(put_big(&p), ERR_CHANGED);
	assert_int_equal(peer_count(peer, "DELETE ", NULL), 1);
	assert_int_equal(peer_count(peer, "POST /a/path/buck-et/big?upl", NULL), 1);
	assert_int_equal(ftruncate(fd, 120000), 0);
	assert_int_equal(put_big(&p), ERR_CHANGED);
	assert_int_equal(peer_count(peer, "DELETE ", NULL), 2);
	assert_int_equal(close(fd), 0);
}

static bool
wait_for(const char *match, unsigned n)
{
	static bool never;
	uint64_t end = clock_mono_ms() + 3000;

	while (peer_count(peer, match, NULL) < n && clock_mono_ms() < end)
		(void)loop_run_until(loop, &never, 5);
	return peer_count(peer, match, NULL) >= n;
}

/* A cancelled upload is not left behind, and nobody hears of it. */
static void
test_cancel(void **state)
{
	struct store_get g = {.key = "silent", .klen = 6};
	struct store_put p;
	struct store_op *op;
	int fd = big_file(&p, "big");

	(void)state;
	SCRIPT({.match = "?uploads=", .status = 200, .body = CREATED}, {.match = "partNumber=2", .silent = true},
	    {.match = "partNumber=", .status = 200, .etag = true}, {.match = "DELETE ", .status = 204},
	    {.match = "silent", .silent = true});
	forget();
	op = store_put(r2, &p, on_done, NULL);
	assert_true(wait_for("partNumber=2", 1));
	store_cancel(r2, &op);
	assert_null(op);
	assert_int_equal(close(fd), 0);
	assert_true(wait_for("DELETE /a/path/buck-et/big?" ID, 1));
	assert_false(out.done);

	op = store_get(r2, &g, &get_cb, NULL);
	assert_true(wait_for("silent", 1));
	store_cancel(r2, &op);
	op = store_head(r2, Z("latin\xe9"), 0, on_head, NULL);
	store_cancel(r2, &op);
	store_cancel(r2, &op);
	assert_false(out.done);

	/* the store goes away with everything still running: at once, and mid-hash */
	fd = big_file(&p, "big");
	assert_non_null(store_put(r2, &p, on_done, NULL));
	assert_non_null(store_put(r2, &p, on_done, NULL));
	assert_non_null(store_del(r2, Z("\xc3\xa9"), 0, on_done, NULL));
	assert_non_null(store_get(r2, &g, &get_cb, NULL));
	assert_true(wait_for("partNumber=", 2));
	store_free(&r2);
	r2 = r2_new(loop, pool, &conf);
	assert_false(out.done);
	assert_int_equal(close(fd), 0);
}

static struct store_op *paused_op;
static struct loop_timer resume_timer;
static bool paused;

static void
on_resume(void *arg)
{
	(void)arg;
	paused = false;
	store_resume(r2, paused_op);
}

/* Takes a piece, then nothing for a while: no byte may come meanwhile, and none may be lost. */
static void
on_slow_data(void *arg, const void *p, size_t n)
{
	(void)arg;
	assert_false(paused);
	str_add(&out.data, p, n);
	if (loop_timer_pending(&resume_timer))
		return;
	paused = true;
	store_pause(r2, paused_op);
	loop_timer_set(&resume_timer, 2);
}

static void
test_pause(void **state)
{
	static const struct store_get_cb cb = {.on_meta = on_get_meta, .on_data = on_slow_data, .done = on_get_done};
	static char body[3000001];
	static struct peer_rule rules[] = {{.match = "GET ", .status = 200, .body = body}};
	struct store_get g = {.key = "big", .klen = 3, .stall_ms = 1000};

	(void)state;
	for (size_t i = 0; i < sizeof(body) - 1; i++)
		body[i] = (char)('a' + i % 23);
	peer_script(peer, rules, 1);
	forget();
	loop_timer_init(&resume_timer, loop, on_resume, NULL);
	paused_op = store_get(r2, &g, &cb, NULL);
	assert_int_equal(answer(), ERR_OK);
	assert_int_equal(out.data.len, sizeof(body) - 1);
	assert_memory_equal(out.data.p, body, sizeof(body) - 1);
	loop_timer_fini(&resume_timer);
}

int
main(void)
{
#define ROW(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {ROW(test_put), ROW(test_R26_put_errors), ROW(test_head), ROW(test_R23_404_without_a_body),
	    ROW(test_R28_clock), ROW(test_get), ROW(test_delete), ROW(test_list), ROW(test_probe), ROW(test_R27_abort_uploads),
	    ROW(test_multipart), ROW(test_multipart_fence), ROW(test_multipart_errors), ROW(test_multipart_changed),
	    ROW(test_cancel), ROW(test_pause)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
