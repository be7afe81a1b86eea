#include "proxy/listing.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "unit.h"

/* The disk's page: names apart by spaces, a folder's with a slash, ".x" for last. "+key" and "-key" are R2's. */
static void
check(const char *disk, const char *r2, const char *folder, const char *after, size_t max, const char *want)
{
	struct local_names names = { .v = mem_calloc(max + 1, sizeof *names.v) };
	struct listing_fixes fixes = { NULL, 0, 0 };
	struct str got = STR_INIT;
	char text[256], *save, *p;
	size_t i;

	snprintf(text, sizeof text, "%s", disk);
	for (p = strtok_r(text, " ", &save); p != NULL; p = strtok_r(NULL, " ", &save)) {
		size_t n = strlen(p);

		if (p[0] == '.')
			names.last = mem_strdup(p + 1);
		else
			names.v[names.n++] = (struct local_name){ .name = mem_strndup(p, p[n - 1] == '/' ? n - 1 : n), .is_folder = p[n - 1] == '/' };
	}
	snprintf(text, sizeof text, "%s", r2);
	for (p = strtok_r(text, " ", &save); p != NULL; p = strtok_r(NULL, " ", &save))
		listing_fix(&fixes, folder, strlen(folder), p + 1, strlen(p + 1), p[0] == '-');
	listing_correct(&names, after, max, &fixes);
	for (i = 0; i < names.n; i++)
		str_printf(&got, "%s%s%s%s", i == 0 ? "" : " ", names.v[i].name, names.v[i].is_folder ? "/" : "",
		    names.v[i].size == LISTING_UNKNOWN ? "?" : "");
	if (names.last != NULL)
		str_printf(&got, " .%s", names.last);
	assert_string_equal(str_z(&got), want);
	str_fini(&got);
	listing_fixes_fini(&fixes);
	local_names_fini(&names);
}

static void
test_correct(void **state)
{
	(void)state;
	check("a c d/", "", "", NULL, 10, "a c d/");
	/* Added in its place; a folder that only R2 knows of; known ones stay as they are. */
	check("a c d/", "+b +e/f/g +c +d/x", "", NULL, 10, "a b? c d/ e/?");
	check("a c", "+e/1 +e/2 +e/3", "", NULL, 10, "a c e/?");
	/* Taken away; what is not there cannot be, and a folder is no file. */
	check("a c d/", "-a -b -d -c/x", "", NULL, 10, "c d/");
	/* Other folders' keys. */
	check("a", "+x/b +y/x/c +x", "x/", NULL, 10, "a b?");
	check("a", "+x/b +xy/c -xa", "x/", NULL, 10, "a b?");
	check("", "+x/y/b", "x/y/", NULL, 10, "b?");
}

static void
test_pages(void **state)
{
	(void)state;
	/* Only what lies on this page. */
	check("c d .d", "+a +b +e", "", "a", 2, "b? c .c");
	check("c d .d", "+a +e", "", "b", 2, "c d .d");
	check("c d", "+a +e", "", "b", 3, "c d e?");
	/* The last page is one no more. */
	check("c d", "+e", "", "b", 2, "c d .d");
	check("", "+a +b +c +d +e", "", NULL, 2, "a? b? .b");
	check("", "+e +d +c +b +a", "", "b", 2, "c? d? .d");
	check("", "+e +d +c +b +a", "", "d", 2, "e?");
	/* The next page begins where this one ended, though that name is gone. */
	check("c d .d", "-d", "", NULL, 2, "c .d");
}

static void
test_adds(void **state)
{
	struct listing_fixes f = { NULL, 0, 0 };

	(void)state;
	listing_fix(&f, "x/", 2, "x/a", 3, true);
	listing_fix(&f, "x/", 2, "y/a", 3, false);
	assert_false(listing_adds(&f));
	listing_fix(&f, "x/", 2, "x/b/c", 5, false);
	assert_true(listing_adds(&f));
	listing_fixes_fini(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_correct),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_adds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
