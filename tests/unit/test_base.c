/* The small objects of base: err, mem, list, map, utf8, digest, clock. */
#include "unit.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/utf8.h"

static void
test_err(void **state)
{
	struct errbuf eb;
	char longer[600];

	(void)state;
	for (int e = 0; e < ERR_COUNT; e++) {
		assert_true(strlen(err_name((enum err)e)) > 0);
		assert_true(strlen(err_text((enum err)e)) > 0);
		assert_true(err_http((enum err)e) >= 200 && err_http((enum err)e) < 600);
	}
	assert_string_equal(err_name(ERR_LEASE_LOST), "LEASE_LOST");
	assert_int_equal(err_http(ERR_NOTFOUND), 404);
	assert_true(err_retryable(ERR_TIMEOUT));
	assert_false(err_retryable(ERR_NOTFOUND));
	assert_int_equal(err_from_errno(0), ERR_OK);
	assert_int_equal(err_from_errno(ENOENT), ERR_NOTFOUND);
	assert_int_equal(err_from_errno(ENOSPC), ERR_NOSPACE);
	assert_int_equal(err_from_errno(EDQUOT), ERR_NOSPACE);
	assert_int_equal(err_from_errno(EACCES), ERR_DENIED);
	assert_int_equal(err_from_errno(EIO), ERR_IO);
	assert_int_equal(err_from_errno(ESTALE), ERR_IO);
	assert_int_equal(err_from_errno(EMFILE), ERR_UNAVAIL);
	assert_int_equal(err_from_errno(ECONNREFUSED), ERR_CONNECT);
	assert_int_equal(err_set(&eb, ERR_IO, "%s: %d", "x", 7), ERR_IO);
	assert_string_equal(eb.text, "x: 7");
	assert_int_equal(err_set(NULL, ERR_BUSY, "nobody reads"), ERR_BUSY);
	memset(longer, 'y', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(err_set(&eb, ERR_IO, "%s", longer), ERR_IO);
	assert_int_equal(strlen(eb.text), sizeof(eb.text) - 1);
}

static void
test_assert_aborts(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		(void)signal(SIGABRT, SIG_DFL);
		if (!freopen("/dev/null", "w", stderr))
			_exit(1);
		ASSERT(1 + 1 == 3);
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void
test_mem(void **state)
{
	char *p;

	(void)state;
	assert_null(mem_strdup(NULL));
	assert_null(mem_strndup(NULL, 3));
	p = mem_strndup("abcdef", 3);
	assert_string_equal(p, "abc");
	mem_free(p);
	p = mem_strndup("a\0b/c", 3);	/* a key is bytes */
	assert_memory_equal(p, "a\0b", 4);
	p = mem_realloc(p, 100);
	assert_memory_equal(p, "a\0b", 4);
	mem_wipe_free(p, 100);
	mem_wipe_free(NULL, 5);
	mem_free(NULL);
	p = mem_printf("%s-%d", "x", 1);
	assert_string_equal(p, "x-1");
	mem_free(p);
	p = mem_calloc(3, 5);
	for (int i = 0; i < 15; i++)
		assert_int_equal(p[i], 0);
	mem_free(p);
	p = mem_alloc(0);
	assert_non_null(p);
	mem_free(p);
}

static void
test_list(void **state)
{
	struct item {
		int n;
		struct list node;
	} items[3] = {{.n = 1}, {.n = 2}, {.n = 3}};
	struct list head, *it, *nxt;
	int sum = 0;

	(void)state;
	list_init(&head);
	assert_null(LIST_FIRST(&head, struct item, node));
	list_add_tail(&head, &items[1].node);
	list_add_tail(&head, &items[2].node);
	list_add_head(&head, &items[0].node);
	assert_int_equal(LIST_FIRST(&head, struct item, node)->n, 1);
	LIST_FOREACH(it, nxt, &head) {
		sum = sum * 10 + LIST_ENTRY(it, struct item, node)->n;
		list_del(it);
		list_del(it);
	}
	assert_int_equal(sum, 123);
	assert_true(list_empty(&head));
}

static void
test_map(void **state)
{
	struct map *m = map_new();
	static int values[5000];
	const void *key;
	void *value;
	size_t pos = 0, len, seen = 0;
	char k[16];

	(void)state;
	assert_null(map_get(m, "a", 1));
	assert_null(map_del(m, "a", 1));
	assert_false(map_next(m, &pos, &key, &len, &value));
	assert_null(map_set(m, "", 0, &values[0]));
	assert_null(map_set(m, "a\0b", 3, &values[1]));
	assert_null(map_set(m, "a", 1, &values[2]));
	assert_ptr_equal(map_get(m, "", 0), &values[0]);
	assert_ptr_equal(map_get(m, "a\0b", 3), &values[1]);
	assert_ptr_equal(map_set(m, "a", 1, &values[3]), &values[2]);
	assert_ptr_equal(map_del(m, "a", 1), &values[3]);
	assert_int_equal(map_count(m), 2);
	for (int i = 0; i < 5000; i++) {
		int n = snprintf(k, sizeof(k), "key-%d", i);

		assert_null(map_set(m, k, (size_t)n, &values[i]));
	}
	while (map_next(m, &pos, &key, &len, &value)) {
		seen++;
		if (len > 4 && (seen & 1)) { /* deleting the one just returned does not disturb the walk */
			memcpy(k, key, len);
			assert_ptr_equal(map_del(m, k, len), value);
		}
	}
	assert_int_equal(seen, 5002);
	assert_true(map_count(m) >= 2500 && map_count(m) <= 2502);
	for (int round = 0; round < 20000; round++) { /* coming and going does not fill the table */
		assert_null(map_set(m, "x", 1, &values[0]));
		assert_ptr_equal(map_del(m, "x", 1), &values[0]);
	}
	for (pos = 0, seen = 0; map_next(m, &pos, NULL, NULL, &value); seen++)
		assert_non_null(value);
	assert_int_equal(seen, map_count(m));
	map_free(&m);
	assert_null(m);
	map_free(&m);
}

static void
test_utf8(void **state)
{
	static const char *const bad[] = {"\x80", "\xc0\x80", "\xc3", "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\xff"};
	struct str s = STR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(utf8_valid(bad[i], strlen(bad[i])));
		assert_false(utf8_add_nfc(&s, bad[i], strlen(bad[i])));
		assert_false(utf8_is_nfc(bad[i], strlen(bad[i])));
	}
	assert_int_equal(s.len, 0);
	assert_true(utf8_valid("", 0));
	assert_true(utf8_valid("a\0b", 3));
	assert_true(utf8_valid("\xf0\x9f\x98\x80", 4));
	assert_true(utf8_add_nfc(&s, "cafe\xcc\x81 \0x", 9)); /* NFD, and a NUL within */
	assert_int_equal(s.len, 8);
	assert_memory_equal(s.p, "caf\xc3\xa9 \0x", 8);
	assert_true(utf8_is_nfc("caf\xc3\xa9", 5));
	assert_false(utf8_is_nfc("cafe\xcc\x81", 6));
	assert_false(utf8_is_nfc("\xe2\x84\xab", 3)); /* ANGSTROM SIGN has a canonical form of its own */
	assert_true(utf8_is_nfc("\xef\xac\x81", 3)); /* the ligature fi is compatible, not canonical */
	assert_int_equal(utf8_char("\xe2\x82\xac", 3), 3);
	assert_int_equal(utf8_char("\xe2\x82", 2), 0);
	assert_int_equal(utf8_char("", 0), 0);
	assert_int_equal(utf8_printable("a", 1), 1);
	assert_int_equal(utf8_printable("\n", 1), 0);
	assert_int_equal(utf8_printable("\xe2\x80\xa8", 3), 0); /* LINE SEPARATOR */
	str_fini(&s);
}

static void
expect_hex(const uint8_t *p, size_t n, const char *hex)
{
	struct str s = STR_INIT;

	str_add_hex(&s, p, n);
	assert_string_equal(str_z(&s), hex);
	str_fini(&s);
}

static void
test_digest(void **state)
{
	struct digest *d = digest_new(DIGEST_SHA256);
	uint8_t out[DIGEST_SHA256_LEN], r1[16], r2[16], key[131];

	(void)state;
	digest_md5("", 0, out);
	expect_hex(out, 16, "d41d8cd98f00b204e9800998ecf8427e");
	digest_md5("abc", 3, out); /* RFC 1321 A.5 */
	expect_hex(out, 16, "900150983cd24fb0d6963f7d28e17f72");
	digest_sha256("abc", 3, out); /* FIPS 180-2 B.1 */
	expect_hex(out, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	for (int i = 0; i < 2; i++) { /* after final it starts anew */
		digest_update(d, "a", 1);
		digest_update(d, "bc", 2);
		digest_final(d, out);
		expect_hex(out, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	}
	digest_free(&d);
	assert_null(d);
	digest_free(&d);
	digest_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, out); /* RFC 4231 4.3 */
	expect_hex(out, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	memset(key, 0xaa, sizeof(key));
	digest_hmac_sha256(key, 131, "Test Using Larger Than Block-Size Key - Hash Key First", 54, out); /* RFC 4231 4.7 */
	expect_hex(out, 32, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
	digest_hmac_sha256(key, 64, "x", 1, out); /* just the block */
	expect_hex(out, 32, "ce3c639dcb9d8baae5d44c3b8b5e233faab4d1860e07489af5c84f213998bd79");
	digest_hmac_sha256(NULL, 0, NULL, 0, out);
	expect_hex(out, 32, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
	assert_int_equal(digest_crc32c(0, "123456789", 9), 0xe3069283); /* RFC 3720's polynomial */
	assert_int_equal(digest_crc32c(digest_crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
	assert_int_equal(digest_crc32c(0, "", 0), 0);
	assert_true(digest_equal("abc", "abc", 3));
	assert_false(digest_equal("abc", "abd", 3));
	digest_random(r1, sizeof(r1));
	digest_random(r2, sizeof(r2));
	assert_memory_not_equal(r1, r2, sizeof(r1));
}

static void
test_http_date(void **state)
{
	static const char *const same[] = {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
	    "Sun Nov  6 08:49:37 1994"}; /* RFC 9110 5.6.7 */
	static const char *const bad[] = {"", "Sun", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 GMT ",
	    "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 nov 1994 08:49:37 GMT", "Sun, 31 Feb 1994 08:49:37 GMT",
	    "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:60:00 GMT", "Xyz, 06 Nov 1994 08:49:37 GMT",
	    "Sun, 06 Nov 1994 08:49:37 PST", "Sun, 06-Nov-94 08:49:37 GMT", "Sun Nov 06 08:49:37", "Sun, 00 Nov 1994 08:49:37 GMT"};
	char out[30];
	int64_t t = 0;

	(void)state;
	clock_http_date(784111777, out);
	assert_string_equal(out, same[0]);
	clock_http_date(0, out);
	assert_string_equal(out, "Thu, 01 Jan 1970 00:00:00 GMT");
	clock_http_date(INT64_MAX, out);
	assert_string_equal(out, "Fri, 31 Dec 9999 23:59:59 GMT");
	for (size_t i = 0; i < 3; i++) {
		assert_true(clock_parse_http_date(same[i], strlen(same[i]), &t));
		assert_int_equal(t, 784111777);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (clock_parse_http_date(bad[i], strlen(bad[i]), &t))
			fail_msg("\"%s\" was parsed", bad[i]);
	assert_true(clock_parse_http_date("Sat, 29 Feb 2020 23:59:60 GMT", 29, &t)); /* a leap second is the one before */
	assert_int_equal(t, 1583020799);
}

static void
test_other_dates(void **state)
{
	char amz[17], iso[25];
	uint64_t ms;
	int64_t t;

	(void)state;
	clock_amz_date(1369353600, amz);
	assert_string_equal(amz, "20130524T000000Z");
	assert_true(clock_parse_amz_date(amz, 16, &t));
	assert_int_equal(t, 1369353600);
	assert_false(clock_parse_amz_date("20131324T000000Z", 16, &t));
	assert_false(clock_parse_amz_date("20130524T000000", 15, &t));
	assert_false(clock_parse_amz_date("20130524T000000ZZ", 17, &t));
	clock_iso(UINT64_C(1795395723456), iso);
	assert_true(clock_parse_iso(iso, 24, &ms));
	assert_int_equal(ms, UINT64_C(1795395723456));
	assert_true(clock_parse_iso("2013-05-24T00:00:00.000Z", 24, &ms));
	assert_int_equal(ms, UINT64_C(1369353600000));
	assert_true(clock_parse_iso("2013-05-24T00:00:00Z", 20, &ms));
	assert_int_equal(ms, UINT64_C(1369353600000));
	assert_false(clock_parse_iso("2013-05-24 00:00:00Z", 20, &ms));
	assert_false(clock_parse_iso("2013-05-24T00:00:00.0Z", 22, &ms));
}

static void
test_now(void **state)
{
	uint64_t a = clock_mono_ns(), b = clock_mono_ns();
	struct timespec ts = {3, 7};

	(void)state;
	assert_true(b >= a);
	assert_true(clock_mono_ms() >= a / 1000000);
	assert_true(clock_real_us() / 1000 <= clock_real_ms());
	assert_int_equal(clock_timespec_ns(&ts), INT64_C(3000000007));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {cmocka_unit_test(test_err), cmocka_unit_test(test_assert_aborts),
	    cmocka_unit_test(test_mem), cmocka_unit_test(test_list), cmocka_unit_test(test_map), cmocka_unit_test(test_utf8),
	    cmocka_unit_test(test_digest), cmocka_unit_test(test_http_date), cmocka_unit_test(test_other_dates),
	    cmocka_unit_test(test_now)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
