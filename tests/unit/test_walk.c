/* walk: R2's order, resume, what is counted and what is not seen. */
#include "files.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "migrate/walk.h"

static char root[64];
static struct local *l;

static int
setup(void **state)
{
	struct errbuf eb;

	(void)state;
	(void)snprintf(root, sizeof(root), "/tmp/r2shim-walk-XXXXXX");
	assert_non_null(mkdtemp(root));
	assert_int_equal(local_sentinel_write(root, "demo", &eb), ERR_OK);
	assert_int_equal(chdir(root), 0);
	/* "a-b" sorts before "a/..." and "a0" behind: '-' < '/' < '0'. */
	assert_int_equal(mkdir("a", 0755), 0);
	assert_int_equal(mkdir("a/z", 0755), 0);
	assert_int_equal(mkdir("empty", 0755), 0);
	assert_int_equal(mkdir(".r2shim-tmp", 0755), 0);
	file_write("a-b", "x", 0644);
	file_write("a/1", "x", 0644);
	file_write("a/z/deep", "x", 0644);
	file_write("a0", "x", 0644);
	file_write("l\xe9.txt", "x", 0644);
	file_write(".r2shim-tmp/x", "x", 0644);
	assert_int_equal(symlink("a0", "link"), 0);
	assert_int_equal(symlink("a", "dirlink"), 0);
	assert_int_equal(mkfifo("pipe", 0644), 0);
	assert_int_equal(local_open(&l, root, "demo", &eb), ERR_OK);
	return 0;
}

static int
teardown(void **state)
{
	char cmd[128];

	(void)state;
	local_free(&l);
	assert_int_equal(chdir("/"), 0);
	(void)snprintf(cmd, sizeof(cmd), "rm -rf %s", root);
	return system(cmd);
}

/* All keys from start_after on, joined by '|'. */
static char *
keys_after(const char *start_after, struct walk_counts *counts, enum err *end)
{
	struct walk *w = walk_new(l, start_after, start_after != NULL ? strlen(start_after) : 0);
	struct str s = STR_INIT;
	struct walk_entry e;

	while ((*end = walk_next(w, &e)) == ERR_OK) {
		str_add(&s, e.key, e.klen);
		str_addc(&s, '|');
	}
	if (counts != NULL)
		*counts = *walk_counts(w);
	walk_free(&w);
	return str_take(&s);
}

static void
assert_keys(const char *start_after, const char *want)
{
	enum err end;
	char *got = keys_after(start_after, NULL, &end);

	assert_string_equal(got != NULL ? got : "", want);
	assert_int_equal(end, ERR_NOTFOUND);
	free(got);
}

static void
test_order(void **state)
{
	(void)state;
	assert_keys(NULL, "a-b|a/1|a/z/deep|a0|l\xe9.txt|");
}

static void
test_counts(void **state)
{
	struct walk_counts c;
	enum err end;

	(void)state;
	free(keys_after(NULL, &c, &end));
	assert_int_equal(c.files, 5);
	assert_int_equal(c.bytes, 5);
	assert_int_equal(c.unholdable, 1);
	assert_int_equal(c.symlinks, 2);
	assert_int_equal(c.specials, 1);
	assert_int_equal(c.errors, 0);
}

static void
test_resume_at_every_key(void **state)
{
	(void)state;
	assert_keys("a-b", "a/1|a/z/deep|a0|l\xe9.txt|");
	assert_keys("a/1", "a/z/deep|a0|l\xe9.txt|");
	assert_keys("a/z/deep", "a0|l\xe9.txt|");
	assert_keys("a0", "l\xe9.txt|");
	assert_keys("l\xe9.txt", "");
	/* Behind keys that are gone now. */
	assert_keys("a/0", "a/1|a/z/deep|a0|l\xe9.txt|");
	assert_keys("a/z", "a/z/deep|a0|l\xe9.txt|");
	assert_keys("a/z/z", "a0|l\xe9.txt|");
}

static void
test_end_needs_the_sentinel(void **state)
{
	enum err end;

	(void)state;
	assert_int_equal(unlink(".r2shim-root"), 0);
	free(keys_after(NULL, NULL, &end));
	assert_int_equal(end, ERR_SENTINEL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_resume_at_every_key, setup, teardown),
		cmocka_unit_test_setup_teardown(test_end_needs_the_sentinel, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
