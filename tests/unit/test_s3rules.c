/* The small rules of the interface: conditions, queries, documents, part lists, the rate of writes. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "sandbox/cond.h"
#include "sandbox/keyrate.h"
#include "sandbox/multipart.h"
#include "sandbox/query.h"
#include "sandbox/xml.h"
#include "unit.h"

static void
test_cond(void **state)
{
	static const char then[] = "Fri, 24 May 2013 00:00:00 GMT", later[] = "Fri, 24 May 2013 00:00:01 GMT";
	static const struct {
		struct cond c;
		enum cond_result there, absent;
	} rows[] = {
	    {{NULL, NULL, NULL, NULL}, COND_HOLDS, COND_HOLDS},
	    {{"\"e\"", NULL, NULL, NULL}, COND_HOLDS, COND_FAILED},
	    {{"e", NULL, NULL, NULL}, COND_HOLDS, COND_FAILED},
	    {{"*", NULL, NULL, NULL}, COND_HOLDS, COND_FAILED},
	    {{"\"x\" , \"e\"", NULL, NULL, NULL}, COND_HOLDS, COND_FAILED},
	    {{"\"x\", W/\"e\"", NULL, NULL, NULL}, COND_FAILED, COND_FAILED},
	    {{"\"ee\"", NULL, NULL, NULL}, COND_FAILED, COND_FAILED},
	    {{"", NULL, NULL, NULL}, COND_FAILED, COND_FAILED},
	    {{"\"", NULL, NULL, NULL}, COND_FAILED, COND_FAILED},
	    {{NULL, "*", NULL, NULL}, COND_NOT_MODIFIED, COND_HOLDS},
	    {{NULL, "W/\"e\"", NULL, NULL}, COND_NOT_MODIFIED, COND_HOLDS},
	    {{NULL, "\"x\"", NULL, NULL}, COND_HOLDS, COND_HOLDS},
	    {{NULL, NULL, then, NULL}, COND_NOT_MODIFIED, COND_FAILED},
	    {{NULL, NULL, "yesterday", NULL}, COND_HOLDS, COND_HOLDS},
	    {{NULL, "\"x\"", later, NULL}, COND_HOLDS, COND_FAILED},
	    {{NULL, NULL, NULL, then}, COND_HOLDS, COND_HOLDS},
	    {{NULL, NULL, NULL, "Thu, 23 May 2013 00:00:00 GMT"}, COND_FAILED, COND_HOLDS},
	    {{"\"e\"", NULL, NULL, "Thu, 23 May 2013 00:00:00 GMT"}, COND_HOLDS, COND_FAILED},
	};
	int64_t s;

	(void)state;
	assert_true(clock_parse_http_date(then, sizeof(then) - 1, &s));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(cond_test(&rows[i].c, "e", (uint64_t)s * 1000 + 999), rows[i].there);
		assert_int_equal(cond_test(&rows[i].c, NULL, 0), rows[i].absent);
	}
}

static void
test_query(void **state)
{
	struct str s = STR_INIT;
	struct query q;

	(void)state;
	assert_true(query_parse(&q, "b=2&a=1+%2b%zz&&c&a=%C3%A9=x"));
	assert_int_equal(q.n, 4);
	assert_string_equal(query_get(&q, "a"), "1 +%zz");
	assert_string_equal(query_get(&q, "c"), "");
	assert_null(query_get(&q, "d"));
	query_canonical(&q, false, &s);
	assert_string_equal(str_z(&s), "a=%C3%A9%3Dx&a=1%20%2B%25zz&b=2&c=");
	query_fini(&q);
	assert_true(query_parse(&q, "X-Amz-Signature=s&a=1"));
	str_clear(&s);
	query_canonical(&q, true, &s);
	assert_string_equal(str_z(&s), "a=1");
	query_fini(&q);
	assert_false(query_parse(&q, "a=%00"));
	query_fini(&q);
	str_clear(&s);
	for (int i = 0; i <= QUERY_MAX; i++)
		str_addz(&s, "a&");
	assert_false(query_parse(&q, str_z(&s)));
	query_fini(&q);
	str_clear(&s);
	assert_true(query_decode_path(&s, "a+b%20c%2F", 10));
	assert_string_equal(str_z(&s), "a+b c/");
	assert_false(query_decode_path(&s, "%zz", 3));
	assert_false(query_decode_path(&s, "%0", 2));
	assert_false(query_decode_path(&s, "%00", 3));
	str_fini(&s);
}

static bool
note_field(void *arg, const char *item, const char *name, const char *text, size_t n)
{
	str_printf(arg, "%s.%s=%.*s;", item == NULL ? "" : item, name, (int)n, text);
	return strcmp(name, "Stop") != 0;
}

static bool
note_end(void *arg, const char *item)
{
	str_printf(arg, "/%s;", item);
	return true;
}

static void
test_xml(void **state)
{
	struct str s = STR_INIT;
	struct xml_reader r = {"Delete", note_field, note_end, &s};
	static const char *const bad[] = {"", "<Delete>", "<Other/>", "<Delete><Stop/></Delete>", "<Delete></Delete>x",
	    "<!DOCTYPE d [<!ENTITY e \"x\">]><Delete><Key>&e;</Key></Delete>",
	    "<Delete><a><b><c><d><e><f><g><h/></g></f></e></d></c></b></a></Delete>"};
	static const char good[] =
	    "<?xml version=\"1.0\"?><Delete xmlns=\"x\"><Quiet>true</Quiet>\n <Object><Key> a&amp;<![CDATA[<b>]]>"
	    " </Key><VersionId/></Object></Delete>\n";

	(void)state;
	assert_true(xml_read(&r, good, sizeof(good) - 1));
	assert_string_equal(str_z(&s), ".Quiet=true;Object.Key= a&<b> ;Object.VersionId=;/Object;");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(xml_read(&r, bad[i], strlen(bad[i])));
	str_clear(&s);
	xml_text(&s, "A", "<&>\"'\r\n\x01");
	assert_string_equal(str_z(&s), "<A>&lt;&amp;&gt;&quot;&apos;&#xD;\n&#x1;</A>");
	str_fini(&s);
}

static enum multipart_fault
check_parts(const uint64_t *sizes, size_t n)
{
	struct part parts[4];
	struct part_ref refs[4];
	struct upload u = {.parts = parts, .n = n};

	memset(parts, 0, sizeof(parts));
	memset(refs, 0, sizeof(refs));
	for (size_t i = 0; i < n; i++) {
		parts[i].number = refs[n - 1 - i].number = (unsigned)i * 2 + 1;
		parts[i].size = sizes[i];
		memset(refs[i].etag, '0', 32);
	}
	return multipart_check(&u, refs, n);
}

static void
test_parts(void **state)
{
	enum { MIN = MULTIPART_MIN_PART };

	(void)state;
	assert_int_equal(check_parts((uint64_t[]){0}, 1), MULTIPART_OK);
	assert_int_equal(check_parts((uint64_t[]){MIN, 1}, 2), MULTIPART_OK);
	assert_int_equal(check_parts((uint64_t[]){MIN, MIN}, 2), MULTIPART_OK);
	assert_int_equal(check_parts((uint64_t[]){MIN, MIN, 0}, 3), MULTIPART_OK);
	assert_int_equal(check_parts((uint64_t[]){MIN - 1, 1}, 2), MULTIPART_SMALL);
	assert_int_equal(check_parts((uint64_t[]){MIN, MIN + 1}, 2), MULTIPART_UNEQUAL);
	assert_int_equal(check_parts((uint64_t[]){MIN + 1, MIN, 1}, 3), MULTIPART_UNEQUAL);
	assert_int_equal(check_parts((uint64_t[]){MIN, MIN + 1, 1}, 3), MULTIPART_UNEQUAL);
}

static void
test_keyrate(void **state)
{
	struct keyrate *k = keyrate_new();

	(void)state;
	for (int i = 0; i < KEYRATE_BURST; i++)
		assert_true(keyrate_take(k, "b", "hot", 3, 1000));
	assert_false(keyrate_take(k, "b", "hot", 3, 1000));
	assert_true(keyrate_take(k, "b", "cold", 4, 1000));
	assert_true(keyrate_take(k, "c", "hot", 3, 1000));
	assert_false(keyrate_take(k, "b", "hot", 3, 1999));
	assert_true(keyrate_take(k, "b", "hot", 3, 2000));
	assert_false(keyrate_take(k, "b", "hot", 3, 2000));
	for (int i = 0; i < KEYRATE_BURST; i++)
		assert_true(keyrate_take(k, "b", "hot", 3, 100000));
	assert_false(keyrate_take(k, "b", "hot", 3, 100000));
	keyrate_free(&k);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_cond),
	    cmocka_unit_test(test_query),
	    cmocka_unit_test(test_xml),
	    cmocka_unit_test(test_parts),
	    cmocka_unit_test(test_keyrate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
