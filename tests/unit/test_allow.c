#include "proxy/allow.h"

#include <stdio.h>
#include <string.h>

#include "unit.h"

#define TEXT(z) ((char *)(uintptr_t)(z))

static char *put[] = { TEXT("PUT"), TEXT("DELETE") };
static char *inside[] = { TEXT("10.0.0.0/8"), TEXT("unix:") };
static struct network nets[2];
static struct conf_prefix none, methods = { .methods = { put, 2 } }, closed = { .methods = { put, 0 } },
			  networks = { .networks = { inside, 2 }, .nets = nets }, nowhere = { .networks = { inside, 0 } },
			  token = { .token = TEXT("sesame") }, auth = { .auth = TEXT("/may") }, both = { .token = TEXT("sesame"), .auth = TEXT("/may") },
			  all = { .methods = { put, 2 }, .networks = { inside, 2 }, .nets = nets, .token = TEXT("sesame") };

static enum allow_verdict
judge(const struct conf_prefix *p, const char *method, const char *headers, const char *client, bool ours)
{
	static const struct http1_limits lim = { 8192, 4096, 64 };
	struct http1_head h;
	enum http1_bad bad;
	size_t scan = 0, used;
	char text[512];

	snprintf(text, sizeof text, "%s /media/a HTTP/1.1\r\nHost: x\r\n%s\r\n", method, headers);
	assert_int_equal(http1_parse_request(&h, text, strlen(text), &lim, &scan, &used, &bad), HTTP1_DONE);
	return allow_judge(p, &h, client, ours);
}

#define RIGHT "Authorization: Bearer sesame\r\n"

static void
test_verdicts(void **state)
{
	static const struct {
		const struct conf_prefix *p;
		const char *method, *headers, *client;
		bool ours;
		enum allow_verdict verdict;
	} rows[] = {
		{ &none, "PUT", "", "1.2.3.4", false, ALLOW_FREE },
		/* What no application sees is for nobody, unless a rule says for whom. */
		{ &none, "PUT", "", "1.2.3.4", true, ALLOW_NO_RULE },
		{ &methods, "PUT", "", "1.2.3.4", true, ALLOW_NO_RULE },
		{ &networks, "PUT", "", "10.0.0.1", true, ALLOW_NO_RULE },
		{ &methods, "DELETE", "", "1.2.3.4", false, ALLOW_FREE },
		{ &methods, "MOVE", "", "1.2.3.4", false, ALLOW_NOT_METHOD },
		{ &methods, "PUTS", "", "1.2.3.4", false, ALLOW_NOT_METHOD },
		{ &methods, "PU", "", "1.2.3.4", false, ALLOW_NOT_METHOD },
		{ &closed, "PUT", "", "1.2.3.4", false, ALLOW_NOT_METHOD },
		{ &networks, "PUT", "", "10.255.0.1", false, ALLOW_FREE },
		{ &networks, "PUT", "", "unix:", false, ALLOW_FREE },
		{ &networks, "PUT", "", "11.0.0.1", false, ALLOW_NOT_HERE },
		{ &networks, "PUT", "", "::1", false, ALLOW_NOT_HERE },
		{ &networks, "PUT", "", "", false, ALLOW_NOT_HERE },
		{ &nowhere, "PUT", "", "10.0.0.1", false, ALLOW_NOT_HERE },
		{ &token, "PUT", "", "1.2.3.4", true, ALLOW_NO_TOKEN },
		{ &token, "PUT", "", "1.2.3.4", false, ALLOW_NO_TOKEN },
		{ &token, "PUT", RIGHT, "1.2.3.4", true, ALLOW_TOKEN },
		{ &token, "PUT", "authorization: bearer sesame\r\n", "1.2.3.4", true, ALLOW_TOKEN },
		{ &token, "PUT", "Authorization: Bearer sesam\r\n", "1.2.3.4", true, ALLOW_NO_TOKEN },
		{ &token, "PUT", "Authorization: Bearer sesame2\r\n", "1.2.3.4", true, ALLOW_NO_TOKEN },
		{ &token, "PUT", "Authorization: Bearer Sesame\r\n", "1.2.3.4", true, ALLOW_NO_TOKEN },
		{ &token, "PUT", "Authorization: Bearer \r\n", "1.2.3.4", true, ALLOW_NO_TOKEN },
		{ &token, "PUT", "Authorization: Basic sesame1\r\n", "1.2.3.4", true, ALLOW_NO_TOKEN },
		{ &token, "PUT", RIGHT RIGHT, "1.2.3.4", true, ALLOW_NO_TOKEN },
		{ &auth, "PUT", "", "1.2.3.4", true, ALLOW_ASK },
		{ &auth, "PUT", RIGHT, "1.2.3.4", true, ALLOW_ASK },
		{ &both, "PUT", RIGHT, "1.2.3.4", true, ALLOW_TOKEN },
		{ &both, "PUT", "Authorization: Bearer wrong!\r\n", "1.2.3.4", true, ALLOW_ASK },
		/* All that is asked must hold; the method is told before the rest. */
		{ &all, "PUT", RIGHT, "10.0.0.1", true, ALLOW_TOKEN },
		{ &all, "POST", RIGHT, "11.0.0.1", true, ALLOW_NOT_METHOD },
		{ &all, "PUT", RIGHT, "11.0.0.1", true, ALLOW_NOT_HERE },
		{ &all, "PUT", "", "10.0.0.1", true, ALLOW_NO_TOKEN },
	};
	size_t i;

	(void)state;
	assert_true(network_parse(inside[0], &nets[0]) && network_parse(inside[1], &nets[1]));
	for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		enum allow_verdict v = judge(rows[i].p, rows[i].method, rows[i].headers, rows[i].client, rows[i].ours);

		if (v != rows[i].verdict)
			fail_msg("row %zu: %d, expected %d", i, v, rows[i].verdict);
	}
}

static void
test_ruled(void **state)
{
	(void)state;
	assert_false(allow_ruled(&none));
	assert_true(allow_ruled(&closed) && allow_ruled(&nowhere) && allow_ruled(&token) && allow_ruled(&auth));
}

static void
test_allow_header(void **state)
{
	struct str s = STR_INIT;

	(void)state;
	allow_methods(&s, &methods);
	assert_string_equal(str_z(&s), "GET, HEAD, OPTIONS, PUT, DELETE");
	str_clear(&s);
	allow_methods(&s, &closed);
	assert_string_equal(str_z(&s), "GET, HEAD, OPTIONS");
	str_fini(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_ruled),
		cmocka_unit_test(test_allow_header),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
