/* The table of the threat model (T1), and what a key may be. */
#include "unit.h"

#include <string.h>

#include "base/keypath.h"
#include "base/mem.h"
#include "base/str.h"

static const struct {
	const char *target;
	enum keypath_class class;
	const char *path;
} targets[] = {
    {"/", KEYPATH_PLAIN, "/"},
    {"/media/a.txt", KEYPATH_PLAIN, "/media/a.txt"},
    {"/media/a.txt?x=%zz&y=/../", KEYPATH_PLAIN, "/media/a.txt"},
    {"/media/a.txt?caf\xc3\xa9", KEYPATH_PLAIN, "/media/a.txt"},
    {"/media/", KEYPATH_PLAIN, "/media/"},
    {"/media/a.txt/", KEYPATH_PLAIN, "/media/a.txt/"},
    {"/media/a.txt/x", KEYPATH_PLAIN, "/media/a.txt/x"},
    {"/media/a;b=c,d+e", KEYPATH_PLAIN, "/media/a;b=c,d+e"},
    {"/%6dedia/a%2Etxt", KEYPATH_PLAIN, "/media/a.txt"},
    {"/media/...", KEYPATH_PLAIN, "/media/..."},
    {"/media/.hidden", KEYPATH_PLAIN, "/media/.hidden"},
    {"/media/p%252Fq.txt", KEYPATH_PLAIN, "/media/p%2Fq.txt"},
    {"/media/q%3Fr%23s", KEYPATH_PLAIN, "/media/q?r#s"},
    {"/media/n%0Al.txt", KEYPATH_PLAIN, "/media/n\nl.txt"},
    {"/media/l%E9.txt", KEYPATH_PLAIN, "/media/l\xe9.txt"},
    {"/media/caf%c3%a9.txt", KEYPATH_PLAIN, "/media/caf\xc3\xa9.txt"},

    {"/media/../outside/s.txt", KEYPATH_ODD, "/outside/s.txt"},
    {"/media/..%2foutside/s.txt", KEYPATH_ODD, "/outside/s.txt"},
    {"/media/%2e%2E/outside/s.txt", KEYPATH_ODD, "/outside/s.txt"},
    {"/media/.%2e", KEYPATH_ODD, "/"},
    {"/../../etc/passwd", KEYPATH_ODD, "/etc/passwd"},
    {"/media/sub%2fb.txt", KEYPATH_ODD, "/media/sub/b.txt"},
    {"/media%2fa.txt", KEYPATH_ODD, "/media/a.txt"},
    {"/media/./a.txt", KEYPATH_ODD, "/media/a.txt"},
    {"/media/a/.", KEYPATH_ODD, "/media/a/"},
    {"/media/a/..", KEYPATH_ODD, "/media/"},
    {"/media/a/../", KEYPATH_ODD, "/media/"},
    {"/media//a.txt", KEYPATH_ODD, "/media/a.txt"},
    {"//media/a.txt", KEYPATH_ODD, "/media/a.txt"},
    {"/media/a//", KEYPATH_ODD, "/media/a/"},
    {"//", KEYPATH_ODD, "/"},
    {"/media/a.txt#frag", KEYPATH_ODD, "/media/a.txt"},

    {"", KEYPATH_BAD, NULL},
    {"*", KEYPATH_BAD, NULL},
    {"media/a.txt", KEYPATH_BAD, NULL},
    {"?x", KEYPATH_BAD, NULL},
    {"http://h/media/a.txt", KEYPATH_BAD, NULL},
    {"/media/%00", KEYPATH_BAD, NULL},
    {"/media/a%00.txt", KEYPATH_BAD, NULL},
    {"/media/%", KEYPATH_BAD, NULL},
    {"/media/%4", KEYPATH_BAD, NULL},
    {"/media/%?4", KEYPATH_BAD, NULL},
    {"/media/%zz", KEYPATH_BAD, NULL},
    {"/media/%4g", KEYPATH_BAD, NULL},
    {"/media/caf\xe9.txt", KEYPATH_BAD, NULL},
    {"/media/caf\xc3\xa9.txt", KEYPATH_BAD, NULL},
    {"/media/a b", KEYPATH_BAD, NULL},
    {"/media/a\tb", KEYPATH_BAD, NULL},
    {"/media/a\x7f", KEYPATH_BAD, NULL},
    {"/media/a?b\r\nc", KEYPATH_BAD, NULL},
};

static void
test_targets(void **state)
{
	struct str out = STR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		/* An exact copy, so that a sanitizer sees a read behind the end. */
		char *exact = mem_dup(targets[i].target, strlen(targets[i].target));
		enum keypath_class got = keypath_from_target(exact, strlen(targets[i].target), &out);

		if (got != targets[i].class)
			fail_msg("%s: class %d, not %d", targets[i].target, (int)got, (int)targets[i].class);
		if (targets[i].path)
			assert_string_equal(str_z(&out), targets[i].path);
		mem_free(exact);
	}
	assert_int_equal(keypath_from_target("/a\0b", 4, &out), KEYPATH_BAD);
	str_fini(&out);
}

static void
test_keys(void **state)
{
	static const struct {
		const char *key;
		enum keypath_fault fault;
	} keys[] = {
	    {"a.txt", KEYPATH_OK},
	    {"2026/11/caf\xc3\xa9.jpg", KEYPATH_OK},
	    {"a\nb", KEYPATH_OK},
	    {"...", KEYPATH_OK},
	    {".r2", KEYPATH_OK},
	    {"x.r2shim", KEYPATH_OK},
	    {"", KEYPATH_EMPTY},
	    {"a/", KEYPATH_EMPTY},
	    {"/a", KEYPATH_SEGMENT},
	    {"/", KEYPATH_SEGMENT},
	    {"a//b", KEYPATH_SEGMENT},
	    {"a//", KEYPATH_SEGMENT},
	    {".", KEYPATH_SEGMENT},
	    {"a/./b", KEYPATH_SEGMENT},
	    {"a/..", KEYPATH_SEGMENT},
	    {"../a", KEYPATH_SEGMENT},
	    {".r2shim/../a", KEYPATH_SEGMENT},
	    {".r2shim-root", KEYPATH_OURS},
	    {".r2shim", KEYPATH_OURS},
	    {"a/.r2shim-tmp-1/b", KEYPATH_OURS},
	    {"a/.r2shimx/", KEYPATH_OURS},
	    {"l\xe9.txt", KEYPATH_NOT_UTF8},
	    {"\xed\xa0\x80", KEYPATH_NOT_UTF8},
	    {"\xc0\xaf", KEYPATH_NOT_UTF8},
	};
	char longest[1025 + 2];

	(void)state;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		enum keypath_fault got = keypath_check(keys[i].key, strlen(keys[i].key));

		if (got != keys[i].fault)
			fail_msg("%s: %s, not %s", keys[i].key, keypath_fault_text(got),
			    keypath_fault_text(keys[i].fault));
	}
	assert_int_equal(keypath_check("a\0b", 3), KEYPATH_SEGMENT);
	memset(longest, 'a', sizeof(longest));
	assert_int_equal(keypath_check(longest, 1024), KEYPATH_OK);
	assert_int_equal(keypath_check(longest, 1025), KEYPATH_TOO_LONG);
	memcpy(longest + 1022, "e\xcc\x81", 3); /* 1025 bytes as on disk, 1024 in NFC */
	assert_int_equal(keypath_check(longest, 1025), KEYPATH_OK);
}

static void
test_servable(void **state)
{
	(void)state;
	assert_true(keypath_servable(KEYPATH_OK));
	assert_true(keypath_servable(KEYPATH_TOO_LONG));
	assert_true(keypath_servable(KEYPATH_NOT_UTF8));
	assert_false(keypath_servable(KEYPATH_EMPTY));
	assert_false(keypath_servable(KEYPATH_SEGMENT));
	assert_false(keypath_servable(KEYPATH_OURS));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_targets), cmocka_unit_test(test_keys), cmocka_unit_test(test_servable)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
