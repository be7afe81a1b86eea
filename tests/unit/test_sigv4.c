/* sigv4: AWS's documented examples, and a table of random requests as botocore signs them. */
#include "unit.h"

#include <string.h>

#include "base/str.h"
#include "store/sigv4.h"

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static const struct sigv4_creds aws = {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1"};

static void
expect(const struct sigv4_request *r, const char *signature)
{
	char sig[65];

	sigv4_signature(r, &aws, sig);
	assert_string_equal(sig, signature);
}

static void
test_aws_examples(void **state)
{
	const struct sigv4_header get[] = {{"Host", "examplebucket.s3.amazonaws.com"},
	    {"x-amz-date", "20130524T000000Z"}, {"Range", "bytes=0-9"}, {"x-amz-content-sha256", EMPTY}};
	const struct sigv4_header put[] = {{"Date", "Fri, 24 May 2013 00:00:00 GMT"},
	    {"Host", "examplebucket.s3.amazonaws.com"}, {"x-amz-date", "20130524T000000Z"},
	    {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
	    {"x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"}};
	const struct sigv4_header plain[] = {{"HOST", "  examplebucket.s3.amazonaws.com\t"},
	    {"X-Amz-Date", "20130524T000000Z"}, {"X-Amz-Content-SHA256", EMPTY}};
	struct sigv4_request r = {.method = "GET",
	    .path = "/test.txt",
	    .headers = get,
	    .nheaders = 4,
	    .payload = EMPTY,
	    .amz_date = "20130524T000000Z"};

	(void)state;
	expect(&r, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
	r.method = "PUT";
	r.path = "/test%24file.text";
	r.headers = put;
	r.nheaders = 5;
	r.payload = put[4].value;
	expect(&r, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
	r = (struct sigv4_request){.method = "GET",
	    .path = "/",
	    .query = "lifecycle",
	    .headers = plain,
	    .nheaders = 3,
	    .payload = EMPTY,
	    .amz_date = "20130524T000000Z"};
	expect(&r, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
	r.query = "prefix=%4a&max-keys=2"; /* any order, any spelling */
	expect(&r, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void
test_presign(void **state)
{
	const struct sigv4_header host[] = {{"host", "examplebucket.s3.amazonaws.com"}};
	struct sigv4_request r = {.method = "GET",
	    .path = "/test.txt",
	    .headers = host,
	    .nheaders = 1,
	    .payload = "",
	    .amz_date = "20130524T000000Z"};
	struct str q = STR_INIT;

	(void)state;
	sigv4_presign(&r, &aws, 86400, &q);
	assert_string_equal(str_z(&q),
	    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_"
	    "request"
	    "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
	    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
	str_fini(&q);
}

static void
test_canonical_form(void **state)
{
	const struct sigv4_header h[] = {{"X-B", " a   b \t c "}, {"x-a", "1"}, {"X-b", "second"}, {"x-empty", "  "}};
	struct sigv4_request r = {.method = "GET",
	    .path = "/a//b/../%2F",
	    .query = "b=2&&b=1&a&c=%zz+%41&=v",
	    .headers = h,
	    .nheaders = 4,
	    .payload = "P",
	    .amz_date = "20130524T000000Z"};
	struct str s = STR_INIT;

	(void)state;
	sigv4_canonical(&r, &s);
	assert_string_equal(str_z(&s),
	    "GET\n/a//b/../%2F\n=v&a=&b=1&b=2&c=%25zz%20A\nx-a:1\nx-b:a b c,second\nx-empty:\n\n"
	    "x-a;x-b;x-empty\nP");
	str_clear(&s);
	r.nheaders = 0;
	r.query = NULL;
	sigv4_canonical(&r, &s);
	assert_string_equal(str_z(&s), "GET\n/a//b/../%2F\n\n\n\nP");
	str_fini(&s);
}

static void
test_botocore(void **state)
{
	static const struct {
		const char *method, *path, *query, *meta, *payload, *authorization;
	} rows[] = {
#define BOTO(...) {__VA_ARGS__},
#include "sigv4_boto.def"
#undef BOTO
	};
	const struct sigv4_creds creds = {"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "auto"};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct sigv4_header h[] = {{"host", "acc.r2.cloudflarestorage.com"},
		    {"x-amz-date", "20261123T010203Z"}, {"x-amz-meta-test", rows[i].meta},
		    {"x-amz-content-sha256", rows[i].payload}};
		struct sigv4_request r = {.method = rows[i].method,
		    .path = rows[i].path,
		    .query = rows[i].query,
		    .headers = h,
		    .nheaders = 4,
		    .payload = rows[i].payload,
		    .amz_date = "20261123T010203Z"};
		struct str s = STR_INIT;

		sigv4_authorization(&r, &creds, &s);
		assert_string_equal(str_z(&s), rows[i].authorization);
		str_fini(&s);
	}
}

/* The key of a day is kept: any other secret, region or day must not meet it. */
static void
test_keys_do_not_mix(void **state)
{
	static const struct sigv4_creds creds[] = {{"A", "secret", "auto"}, {"A", "secreta", "uto"}, {"A", "secret", "auto1"},
	    {"A", "", "auto"}};
	static const char *const days[] = {"20261123T010203Z", "20261124T010203Z"};
	const struct sigv4_header host = {"host", "h"};
	char first[8][65], again[65];

	(void)state;
	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < 8; i++) {
			struct sigv4_request r = {"GET", "/", NULL, &host, 1, "P", days[i / 4]};

			sigv4_signature(&r, &creds[i % 4], round == 0 ? first[i] : again);
			if (round == 1)
				assert_string_equal(again, first[i]);
			for (size_t k = 0; round == 0 && k < i; k++)
				assert_string_not_equal(first[k], first[i]);
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_aws_examples), cmocka_unit_test(test_presign),
	    cmocka_unit_test(test_canonical_form), cmocka_unit_test(test_botocore),
	    cmocka_unit_test(test_keys_do_not_mix)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
