#include "proxy/hint.h"

#include <stdio.h>
#include <string.h>

#include "unit.h"

static struct conf conf = { .media_url = (char *)(uintptr_t) "/media/", .trust_hints = true };

static void
take(struct hints *hs, const char *lines)
{
	static const struct http1_limits lim = { 8192, 4096, 64 };
	struct http1_head h;
	enum http1_bad bad;
	size_t scan = 0, used;
	char text[4096];

	snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\n%s\r\n", lines);
	assert_int_equal(http1_parse_response(&h, text, strlen(text), &lim, false, &scan, &used, &bad), HTTP1_DONE);
	*hs = (struct hints){ NULL, 0 };
	hints_take(hs, &h, &conf);
}

/* key NULL: dropped. */
static void
one(const char *value, const char *key)
{
	struct hints hs;
	char line[2100];

	snprintf(line, sizeof line, "X-Media-Stored: %s\r\n", value);
	take(&hs, line);
	if (hs.n != (key == NULL ? 0 : 1))
		fail_msg("%s: %zu hints", value, hs.n);
	if (key != NULL && !str_slice_eq(hs.v[0].key, hs.v[0].klen, key))
		fail_msg("%s: %s, expected %s", value, hs.v[0].key, key);
	hints_fini(&hs);
}

static void
test_names(void **state)
{
	(void)state;
	one("/media/a.jpg", "a.jpg");
	one("a.jpg", "a.jpg");
	one("a/b%20c%2B.jpg", "a/b c+.jpg");
	one("/media/gr%C3%B6%C3%9Fe.txt?v=2", "gr\xc3\xb6\xc3\x9f" "e.txt");
	one("media/a.jpg", "media/a.jpg");
	one("/media/l%E9.txt", "l\xe9.txt");		/* R2 cannot hold it; it is a file all the same */
	/* Whatever is refused or passed on in a request's target. */
	one("", NULL);
	one("/", NULL);
	one("/media/", NULL);
	one("/media/dir/", NULL);
	one("/static/a.jpg", NULL);
	one("/mediaa.jpg", NULL);
	one("../etc/passwd", NULL);
	one("/media/../etc/passwd", NULL);
	one("/media/x/%2e%2e/%2e%2e/etc/passwd", NULL);
	one("a%2fb", NULL);
	one("a//b", NULL);
	one("//media/a", NULL);
	one("./a", NULL);
	one("a%00b", NULL);
	one("a%zz", NULL);
	one("a b", NULL);
	one("caf\xc3\xa9.txt", NULL);
	one("a#b", NULL);
	one("http://site/media/a.jpg", NULL);
	one(".r2shim-root", NULL);
	one("/media/a/.r2shim-tmp-1", NULL);
}

static void
test_lines(void **state)
{
	static const char lines[] = "X-Media-Stored: a\r\nX-Other: b\r\nx-media-deleted: c\r\nX-Media-Stored: ../d\r\nX-MEDIA-STORED: e\r\n";
	struct hints hs;

	(void)state;
	take(&hs, lines);
	assert_int_equal(hs.n, 3);
	assert_true(str_slice_eq(hs.v[0].key, hs.v[0].klen, "a") && hs.v[0].op == MARK_PUT);
	assert_true(str_slice_eq(hs.v[1].key, hs.v[1].klen, "c") && hs.v[1].op == MARK_DELETE);
	assert_true(str_slice_eq(hs.v[2].key, hs.v[2].klen, "e") && hs.v[2].op == MARK_PUT);
	hints_fini(&hs);
	conf.trust_hints = false;
	take(&hs, lines);
	assert_int_equal(hs.n, 0);
	conf.trust_hints = true;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
