/* watch: finished files and vanished ones, on a real tree with real inotify; nothing waits by sleeping. */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"
#include "proxy/watch.h"

static char root[64];
static struct local *l;
static struct loop *loop;
static struct watch *w;
static struct str seen;		/* "+key " or "-key " for each change */
static unsigned censuses;
static bool clean;

static void
changed_cb(void *arg, const char *key, size_t klen, enum mark_op op, uint64_t seq)
{
	static uint64_t last;

	(void)arg;
	assert_true(seq == 1 || seq == last + 1);
	last = seq;
	str_addc(&seen, op == MARK_PUT ? '+' : '-');
	str_add(&seen, key, klen);
	str_addc(&seen, ' ');
}

static void
census_cb(void *arg, const char *why)
{
	(void)arg;
	assert_non_null(why);
	censuses++;
}

static void
clean_cb(void *arg, uint64_t start_ms)
{
	(void)arg;
	assert_true(start_ms != 0);
	clean = true;
}

static const struct watch_cb cbs = {changed_cb, census_cb, clean_cb};

static void
write_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
}

static int
setup(void **state)
{
	struct errbuf eb;

	(void)state;
	(void)snprintf(root, sizeof(root), "/tmp/r2shim-watch-XXXXXX");
	assert_non_null(mkdtemp(root));
	assert_int_equal(local_sentinel_write(root, "demo", &eb), ERR_OK);
	assert_int_equal(chdir(root), 0);
	assert_int_equal(mkdir("d", 0755), 0);
	write_file("d/old");
	assert_int_equal(local_open(&l, root, "demo", &eb), ERR_OK);
	loop = loop_new();
	str_init(&seen);
	censuses = 0;
	clean = false;
	return 0;
}

static void
begin(uint64_t since_ms)
{
	struct errbuf eb;

	assert_int_equal(watch_new(&w, loop, l, since_ms, &cbs, NULL, &eb), ERR_OK);
	assert_true(loop_run_until(loop, &clean, 5000));
	assert_false(watch_crawling(w));
}

static int
teardown(void **state)
{
	char cmd[128];

	(void)state;
	watch_free(&w);
	loop_free(&loop);
	local_free(&l);
	str_fini(&seen);
	assert_int_equal(chdir("/"), 0);
	(void)snprintf(cmd, sizeof(cmd), "rm -rf %s", root);
	return system(cmd);
}

static void
assert_seen(const char *want)
{
	(void)watch_drain(w);
	assert_string_equal(str_z(&seen), want);
	str_clear(&seen);
}

/* The crawl looks a second back, so that coarse clocks hide nothing: the setup's files are too young not to be reported. */
static void
begin_quietly(void)
{
	begin(0);
	(void)watch_drain(w);
	str_clear(&seen);
}

static void
test_close_rename_unlink(void **state)
{
	int fd;

	(void)state;
	begin_quietly();
	fd = open("d/new", O_WRONLY | O_CREAT, 0644);
	assert_int_equal(write(fd, "x", 1), 1);
	assert_seen("");	/* created, not finished */
	close(fd);
	assert_seen("+d/new ");
	assert_int_equal(rename("d/new", "top"), 0);
	assert_seen("-d/new +top ");
	assert_int_equal(link("top", "hard"), 0);
	assert_seen("+hard ");
	assert_int_equal(unlink("top"), 0);
	assert_seen("-top ");
	assert_int_equal(censuses, 0);
}

static void
test_new_directories_leave_no_gap(void **state)
{
	(void)state;
	begin_quietly();
	/* All of it happens before the watcher looks even once. */
	assert_int_equal(mkdir("2026", 0755), 0);
	assert_int_equal(mkdir("2026/11", 0755), 0);
	write_file("2026/11/a");
	assert_seen("+2026/11/a ");
	write_file("2026/11/b");
	assert_seen("+2026/11/b ");
}

static void
test_moved_directory(void **state)
{
	(void)state;
	begin_quietly();
	assert_int_equal(rename("d", "e"), 0);
	assert_seen("+e/old ");
	assert_int_equal(censuses, 1);	/* d/old has vanished without an event of its own */
	write_file("e/more");
	assert_seen("+e/more ");
}

static void
test_ours_is_not_seen(void **state)
{
	(void)state;
	begin_quietly();
	write_file("d/.r2shim-tmp-1");
	assert_int_equal(mkdir(".r2shim-x", 0755), 0);
	write_file(".r2shim-x/y");
	assert_seen("");
	assert_int_equal(rename("d/.r2shim-tmp-1", "d/mine"), 0);
	assert_seen("+d/mine ");
}

static void
test_crawl_reports_what_is_new_since(void **state)
{
	struct timespec now;

	(void)state;
	assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
	begin((uint64_t)now.tv_sec * 1000 - 5000);
	assert_seen("+d/old ");
}

static void
test_symlinks_are_not_followed(void **state)
{
	(void)state;
	assert_int_equal(symlink("/etc", "out"), 0);
	begin_quietly();
	assert_int_equal(watch_dirs(w), 2);
	assert_int_equal(symlink("/usr", "out2"), 0);
	assert_seen("");
	assert_int_equal(watch_dirs(w), 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_close_rename_unlink, setup, teardown),
		cmocka_unit_test_setup_teardown(test_new_directories_leave_no_gap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_moved_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ours_is_not_seen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crawl_reports_what_is_new_since, setup, teardown),
		cmocka_unit_test_setup_teardown(test_symlinks_are_not_followed, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
