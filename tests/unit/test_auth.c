/* The examples of AWS's S3 documentation, and R2's order of refusals. Time stands at the examples' date. */
#include "sandbox/auth.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sandbox/headers.h"
#include "sandbox/query.h"
#include "unit.h"

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SCOPE "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"

static const struct auth_keys keys = {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};

static int64_t
example_time(void)
{
	int64_t t;

	assert_true(clock_parse_amz_date("20130524T000000Z", 16, &t));
	return t;
}

/* Checks a request; headers "name: value" up to NULL. */
static enum s3_error
check_at(
    int64_t now, const char *method, const char *path, const char *query, const char *const *lines, struct str *message)
{
	struct headers *h = mem_zalloc(sizeof(*h));
	struct query q;
	struct auth_request r = {method, path, &q, h, now};
	struct auth_verdict v;
	enum s3_error e;

	assert_true(query_parse(&q, query));
	for (; *lines != NULL; lines++) {
		const char *colon = strchr(*lines, ':');

		headers_add(h, *lines, (size_t)(colon - *lines), colon + 2, strlen(colon + 2));
	}
	auth_check(&r, &keys, &v);
	e = v.error;
	if (message != NULL) {
		str_clear(message);
		str_add(message, str_z(&v.message), v.message.len);
	}
	auth_verdict_fini(&v);
	query_fini(&q);
	headers_fini(h);
	mem_free(h);
	return e;
}

static void
test_examples(void **state)
{
	const char *const get[] = {"host: examplebucket.s3.amazonaws.com", "range: bytes=0-9",
	    "x-amz-content-sha256: " EMPTY, "x-amz-date: 20130524T000000Z",
	    "authorization: AWS4-HMAC-SHA256 Credential=" SCOPE
	    ",SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
	    "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
	    NULL};
	const char *const lifecycle[] = {"host: examplebucket.s3.amazonaws.com", "x-amz-content-sha256: " EMPTY,
	    "x-amz-date: 20130524T000000Z",
	    "authorization: AWS4-HMAC-SHA256 Credential=" SCOPE ", SignedHeaders=host;x-amz-content-sha256;x-amz-date, "
	    "Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
	    NULL};
	const char *const list[] = {"host: examplebucket.s3.amazonaws.com", "x-amz-content-sha256: " EMPTY,
	    "x-amz-date: 20130524T000000Z",
	    "authorization: AWS4-HMAC-SHA256 Credential=" SCOPE ", SignedHeaders=host;x-amz-content-sha256;x-amz-date, "
	    "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
	    NULL};
	const char *const host[] = {"host: examplebucket.s3.amazonaws.com", NULL};
	int64_t now = example_time();

	(void)state;
	assert_int_equal(check_at(now, "GET", "/test.txt", NULL, get, NULL), S3_OK);
	assert_int_equal(check_at(now, "GET", "/test.txT", NULL, get, NULL), S3_SIGNATURE);
	assert_int_equal(check_at(now, "HEAD", "/test.txt", NULL, get, NULL), S3_SIGNATURE);
	assert_int_equal(check_at(now, "GET", "/", "lifecycle", lifecycle, NULL), S3_OK);
	assert_int_equal(check_at(now, "GET", "/", "prefix=J&max-keys=2", list, NULL), S3_OK);
	assert_int_equal(check_at(now, "GET", "/", "prefix=%4a&&max%2Dkeys=2", list, NULL), S3_OK);
	assert_int_equal(check_at(now, "GET", "/", "prefix=K&max-keys=2", list, NULL), S3_SIGNATURE);
	assert_int_equal(check_at(now, "GET", "/test.txt",
			     "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="
			     "AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date="
			     "20130524T000000Z&X-Amz-Expires=86400&"
			     "X-Amz-SignedHeaders=host&X-Amz-Signature="
			     "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
			     host, NULL),
	    S3_OK);
}

static void
test_skew(void **state)
{
	const char *const get[] = {"host: examplebucket.s3.amazonaws.com", "x-amz-content-sha256: " EMPTY,
	    "x-amz-date: 20130524T000000Z",
	    "authorization: AWS4-HMAC-SHA256 Credential=" SCOPE ", SignedHeaders=host;x-amz-content-sha256;x-amz-date, "
	    "Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
	    NULL};
	int64_t now = example_time();

	(void)state;
	assert_int_equal(check_at(now + 900, "GET", "/", "lifecycle", get, NULL), S3_OK);
	assert_int_equal(check_at(now + 901, "GET", "/", "lifecycle", get, NULL), S3_TIME_SKEWED);
	assert_int_equal(check_at(now - 901, "GET", "/", "lifecycle", get, NULL), S3_TIME_SKEWED);
}

/* Each row is wrong in what its text says and in all that is checked later. */
static void
test_order(void **state)
{
	static const struct {
		const char *headers[6];
		enum s3_error error;
		const char *message;
	} rows[] = {
	    {{"host: h", NULL}, S3_INVALID_ARGUMENT, "Authorization"},
	    {{"host: h", "authorization: x", NULL}, S3_INVALID_REQUEST, "Missing x-amz-content-sha256"},
	    {{"host: h", "authorization: x", "x-amz-content-sha256: x", NULL}, S3_INVALID_ARGUMENT,
		"No date provided in x-amz-date nor date header"},
	    {{"host: h", "authorization: x", "x-amz-content-sha256: x", "date: Fri, 24 May 2013 00:00:00 GMT", NULL},
		S3_INVALID_ARGUMENT,
		"Date provided in 'date' header (Fri, 24 May 2013 00:00:00 GMT) didn't parse successfully"},
	    {{"host: h", "authorization: x", "x-amz-content-sha256: x", "x-amz-date: 20130523T000000Z", NULL},
		S3_TIME_SKEWED, ""},
	    {{"host: h", "authorization: x", "x-amz-content-sha256: x", "x-amz-date: 20130524T000000Z", NULL},
		S3_INVALID_REQUEST, "Please use AWS4-HMAC-SHA256"},
	    {{"host: h", "authorization: AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=x, Signature=x",
		 "x-amz-content-sha256: x", "x-amz-date: 20130524T000000Z", NULL},
		S3_INVALID_ARGUMENT, "Credential sigv4 header should have at least 5 slash-separated parts, not 2"},
	    {{"host: h", "authorization: AWS4-HMAC-SHA256 Credential=a/20130524/r/ec2/x, SignedHeaders=x, Signature=x",
		 "x-amz-content-sha256: x", "x-amz-date: 20130524T000000Z", NULL},
		S3_INVALID_ARGUMENT, "Credential service should be s3, not ec2"},
	    {{"host: h", "authorization: AWS4-HMAC-SHA256 Credential=a/20130525/r/s3/x, SignedHeaders=x, Signature=x",
		 "x-amz-content-sha256: x", "x-amz-date: 20130524T000000Z", NULL},
		S3_INVALID_ARGUMENT, "Credential termination string should be aws4_request, not x"},
	    {{"host: h",
		 "authorization: AWS4-HMAC-SHA256 Credential=a/20130525/r/s3/aws4_request, SignedHeaders=x, "
		 "Signature=x",
		 "x-amz-content-sha256: x", "x-amz-date: 20130524T000000Z", NULL},
		S3_INVALID_ARGUMENT,
		"Credential signed date 20130525 does not match 20130524 from 'x-amz-date' header"},
	    {{"host: h",
		 "authorization: AWS4-HMAC-SHA256 Credential=a/b/20130524/r/s3/aws4_request, SignedHeaders=x, "
		 "Signature=x",
		 "x-amz-content-sha256: x", "x-amz-date: 20130524T000000Z", NULL},
		S3_UNAUTHORIZED, ""},
	    {{"host: h", "authorization: AWS4-HMAC-SHA256 Credential=" SCOPE ", SignedHeaders=x, Signature=x",
		 "x-amz-content-sha256: x", "x-amz-date: 20130524T000000Z", NULL},
		S3_UNAUTHORIZED, ""},
	    {{"host: h", "authorization: AWS4-HMAC-SHA256 Credential=" SCOPE ", SignedHeaders=host, Signature=x",
		 "x-amz-content-sha256: x", "x-amz-date: 20130524T000000Z", NULL},
		S3_SIGNATURE, ""},
	};
	struct str message = STR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(check_at(example_time(), "GET", "/", NULL, rows[i].headers, &message), rows[i].error);
		assert_string_equal(str_z(&message), rows[i].message);
	}
	str_fini(&message);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_examples),
	    cmocka_unit_test(test_skew),
	    cmocka_unit_test(test_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
