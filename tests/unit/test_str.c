/* str: the buffer, encodings, numbers with units. */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

static void
test_buffer(void **state)
{
	struct str s = STR_INIT;
	char *taken;

	(void)state;
	assert_string_equal(str_z(&s), "");
	str_add(&s, NULL, 0);
	assert_int_equal(s.len, 0);
	str_addz(&s, "hello");
	str_addc(&s, ',');
	str_printf(&s, " %d%s", 42, "!");
	assert_string_equal(str_z(&s), "hello, 42!");
	str_drop(&s, 7);
	assert_string_equal(str_z(&s), "42!");
	str_drop(&s, 0);
	for (int i = 0; i < 1000; i++)
		str_printf(&s, "%099d|", i); /* longer than the first guess */
	assert_int_equal(s.len, 3 + 100000);
	assert_int_equal(s.p[s.len], '\0');
	str_clear(&s);
	assert_string_equal(str_z(&s), "");
	str_add(&s, "a\0b", 3);
	assert_int_equal(s.len, 3);
	taken = str_take(&s);
	assert_memory_equal(taken, "a\0b", 4);
	assert_null(s.p);
	mem_free(taken);
	taken = str_take(&s);
	assert_string_equal(taken, "");
	mem_free(taken);
	memcpy(str_reserve(&s, 3), "xyz", 4);
	s.len += 3;
	assert_string_equal(str_z(&s), "xyz");
	str_clear(&s);
	str_add_u64(&s, 0);
	str_addc(&s, ' ');
	str_add_u64(&s, UINT64_MAX);
	assert_string_equal(str_z(&s), "0 18446744073709551615");
	str_fini(&s);
	str_fini(&s);
}

static void
test_printf_edges(void **state)
{
	char text[130];

	(void)state;
	for (size_t n = 0; n < sizeof(text); n++) {
		struct str s = STR_INIT;

		memset(text, 'x', n);
		text[n] = '\0';
		str_addz(&s, "ab");
		str_printf(&s, "%s", text);
		assert_int_equal(s.len, n + 2);
		assert_string_equal(s.p + 2, text);
		str_fini(&s);
	}
}

static void
test_compare(void **state)
{
	(void)state;
	assert_true(str_ieq("Host", "hOST", 4));
	assert_false(str_ieq("a[", "a{", 2));
	assert_false(str_ieq("\xc3\x84", "\xc3\xa4", 2));
	assert_true(str_slice_ieq("CLOSE, x", 5, "close"));
	assert_false(str_slice_ieq("close", 5, "closed"));
	assert_true(str_slice_eq("", 0, ""));
	assert_true(str_slice_eq(NULL, 0, ""));
	assert_false(str_slice_eq("abc", 2, "abc"));
}

#define ADDED(call, expected) \
	do { \
		struct str s = STR_INIT; \
		call; \
		assert_string_equal(str_z(&s), expected); \
		str_fini(&s); \
	} while (0)

static void
test_encodings(void **state)
{
	(void)state;
	ADDED(str_add_uri(&s, "a/b c~_.-%\xc3\xa9", 12, true), "a/b%20c~_.-%25%C3%A9");
	ADDED(str_add_uri(&s, "a/b", 3, false), "a%2Fb");
	ADDED(str_add_safe(&s, "caf\xc3\xa9 a\\b", 9), "caf\xc3\xa9 a\\b");
	ADDED(str_add_safe(&s, "a\nb%\"\x1b\x7f", 7), "a%0Ab%25%22%1B%7F");
	ADDED(str_add_safe(&s, "\xe9\xc3", 2), "%E9%C3");
	ADDED(str_add_safe(&s, "\xe2\x80\xae" "x", 4), "%E2%80%AEx"); /* right-to-left override */
	ADDED(str_add_safe(&s, "\xc2\x9b", 2), "%C2%9B");		/* C1 control: CSI */
	ADDED(str_add_json(&s, "a\"\\\b\f\n\r\t\x01\x7f/", 11), "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u007f/\"");
	ADDED(str_add_json(&s, "\0", 1), "\"\\u0000\"");
	ADDED(str_add_json(&s, "\xc3\xa9\xe9", 3), "\"\xc3\xa9\\ufffd\"");
	ADDED(str_add_hex(&s, "\x00\xff\x1a", 3), "00ff1a");
	ADDED(str_add_base64(&s, "", 0), "");
	ADDED(str_add_base64(&s, "f", 1), "Zg==");
	ADDED(str_add_base64(&s, "fo", 2), "Zm8=");
	ADDED(str_add_base64(&s, "foo", 3), "Zm9v");
	ADDED(str_add_base64(&s, "foobar", 6), "Zm9vYmFy");
	ADDED(str_add_base64(&s, "\xff\xfe", 2), "//4=");
}

static void
test_decodings(void **state)
{
	static const char *const bad64[] = {"Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zh==", "Zm9=", "Zm 9", "Zm9-"};
	uint8_t out[8];
	size_t n;

	(void)state;
	assert_true(str_unhex("00fF1a", 6, out, 3, &n));
	assert_int_equal(n, 3);
	assert_memory_equal(out, "\x00\xff\x1a", 3);
	assert_false(str_unhex("00f", 3, out, 8, &n));
	assert_false(str_unhex("0g", 2, out, 8, &n));
	assert_false(str_unhex("0011", 4, out, 1, &n));
	assert_true(str_unhex("", 0, out, 0, &n));

	assert_true(str_unbase64("Zm9vYg==", 8, out, 4, &n));
	assert_int_equal(n, 4);
	assert_memory_equal(out, "foob", 4);
	assert_true(str_unbase64("//4=", 4, out, 8, &n));
	assert_memory_equal(out, "\xff\xfe", 2);
	assert_true(str_unbase64("", 0, out, 0, &n));
	assert_int_equal(n, 0);
	assert_false(str_unbase64("Zm9v", 4, out, 2, &n));
	assert_false(str_unbase64("Z\0==", 4, out, 8, &n));
	for (size_t i = 0; i < sizeof(bad64) / sizeof(bad64[0]); i++)
		if (str_unbase64(bad64[i], strlen(bad64[i]), out, sizeof(out), &n))
			fail_msg("%s was decoded", bad64[i]);
}

static void
test_base64_roundtrip(void **state)
{
	uint8_t in[64], out[64];

	(void)state;
	for (size_t n = 0; n < sizeof(in); n++) {
		struct str s = STR_INIT;
		size_t got;

		in[n] = (uint8_t)(n * 37 + 200);
		str_add_base64(&s, in, n);
		assert_true(str_unbase64(str_z(&s), s.len, out, n, &got));
		assert_int_equal(got, n);
		assert_memory_equal(in, out, n);
		str_fini(&s);
	}
}

static void
test_numbers(void **state)
{
	static const struct {
		const char *text;
		bool ok;
		uint64_t size;
	} sizes[] = {{"0", true, 0}, {"10", true, 10}, {"10B", true, 10}, {"64KiB", true, 65536}, {"1MiB", true, 1 << 20},
	    {"5GiB", true, UINT64_C(5) << 30}, {"2TiB", true, UINT64_C(2) << 40}, {"1KB", true, 1000}, {"1MB", true, 1000000},
	    {"1GB", true, 1000000000}, {"1TB", true, UINT64_C(1000000000000)}, {"0GiB", true, 0},
	    {"9223372036854775807", true, INT64_MAX}, {"9223372036854775808", false, 0}, {"8388608TiB", false, 0},
	    {"", false, 0}, {"KiB", false, 0}, {"-1", false, 0}, {"+1", false, 0}, {"1 KiB", false, 0}, {"1kib", false, 0},
	    {"1K", false, 0}, {"1.5GiB", false, 0}, {" 1", false, 0}, {"1KiBx", false, 0}};
	static const struct {
		const char *text;
		bool ok;
		uint64_t ms;
	} times[] = {{"0", true, 0}, {"250ms", true, 250}, {"30s", true, 30000}, {"5m", true, 300000}, {"24h", true, 86400000},
	    {"7d", true, 604800000}, {"0s", true, 0}, {"10", false, 0}, {"1w", false, 0}, {"1S", false, 0}, {"", false, 0},
	    {"s", false, 0}, {"-1s", false, 0}, {"106751991168d", false, 0}, {"106751991167d", true, UINT64_C(9223372036828800000)}};
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (str_to_size(sizes[i].text, &v) != sizes[i].ok || (sizes[i].ok && v != sizes[i].size))
			fail_msg("size \"%s\"", sizes[i].text);
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		if (str_to_duration(times[i].text, &v) != times[i].ok || (times[i].ok && v != times[i].ms))
			fail_msg("time \"%s\"", times[i].text);
	assert_true(str_to_u64("0123", 4, &v));
	assert_int_equal(v, 123);
	assert_true(str_to_u64("12x", 2, &v));
	assert_false(str_to_u64("", 0, &v));
	assert_false(str_to_u64("1 ", 2, &v));
	assert_false(str_to_u64("99999999999999999999", 20, &v));
}

static void
test_for_people(void **state)
{
	(void)state;
	ADDED(str_add_size(&s, 0), "0 B");
	ADDED(str_add_size(&s, 1023), "1023 B");
	ADDED(str_add_size(&s, 1024), "1.0 KiB");
	ADDED(str_add_size(&s, (1 << 20) - 1), "1.0 MiB");
	ADDED(str_add_size(&s, UINT64_C(1503238554)), "1.4 GiB");
	ADDED(str_add_size(&s, UINT64_MAX), "16.0 EiB");
	ADDED(str_add_duration(&s, 0), "0 ms");
	ADDED(str_add_duration(&s, 999), "999 ms");
	ADDED(str_add_duration(&s, 1000), "1 s");
	ADDED(str_add_duration(&s, 2560), "2.5 s");
	ADDED(str_add_duration(&s, 200000), "3 m 20 s");
	ADDED(str_add_duration(&s, 3600000), "1 h");
	ADDED(str_add_duration(&s, 90000000), "1 d 1 h");
	ADDED(str_add_count(&s, 0), "0");
	ADDED(str_add_count(&s, 999), "999");
	ADDED(str_add_count(&s, 12345), "12,345");
	ADDED(str_add_count(&s, 100000000), "100,000,000");
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {cmocka_unit_test(test_buffer), cmocka_unit_test(test_printf_edges),
	    cmocka_unit_test(test_compare), cmocka_unit_test(test_encodings), cmocka_unit_test(test_decodings),
	    cmocka_unit_test(test_base64_roundtrip), cmocka_unit_test(test_numbers), cmocka_unit_test(test_for_people)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
