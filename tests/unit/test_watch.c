/* watch: finished files and vanished ones, on a real tree with real inotify; nothing waits by sleeping. */
#include "files.h"

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
static bool clean, stood;
static unsigned feeding;		/* notices that write another file */
static unsigned room;		/* turns in which the crawl may report */

static void
changed_cb(void *arg, const char *key, size_t klen, enum mark_op op, uint64_t seq)
{
	static uint64_t last;

	(void)arg;
	assert_true(seq == 1 || seq == last + 1);
	last = seq;
	if (feeding > 0) {
		feeding--;
		file_write(feeding % 2 ? "fed" : "fed2", "x", 0644);
	}
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
progress_cb(void *arg)
{
	(void)arg;
	clean = !watch_crawling(w);
	stood = stood || watch_standing(w);
}

static void
away_cb(void *arg, const char *prefix, size_t len, bool found)
{
	(void)arg;
	str_addc(&seen, found ? '~' : '<');
	str_add(&seen, prefix, len);
	str_addc(&seen, ' ');
}

static bool
room_cb(void *arg)
{
	(void)arg;
	return room > 0 && room-- > 0;
}

static const struct watch_cb cbs = {changed_cb, away_cb, census_cb, progress_cb, room_cb};

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
	file_write("d/old", "x", 0644);
	assert_int_equal(local_open(&l, root, "demo", &eb), ERR_OK);
	loop = loop_new();
	str_init(&seen);
	censuses = 0;
	clean = stood = false;
	feeding = 0;
	room = 1000000;
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
	file_write("2026/11/a", "x", 0644);
	assert_seen("+2026/11/a ");
	file_write("2026/11/b", "x", 0644);
	assert_seen("+2026/11/b ");
}

static void
test_moved_directory(void **state)
{
	(void)state;
	begin_quietly();
	assert_int_equal(rename("d", "e"), 0);
	assert_seen("+e/old -d/old ~d/ ");
	assert_int_equal(censuses, 1);	/* what R2 has below d, and the disk had not */
	file_write("e/more", "x", 0644);
	assert_seen("+e/more ");
}

static void
test_moved_tree_keeps_its_watches(void **state)
{
	(void)state;
	assert_int_equal(mkdir("d/x", 0755), 0);
	assert_int_equal(mkdir("d/x/y", 0755), 0);
	file_write("d/x/y/f", "x", 0644);
	begin_quietly();
	assert_int_equal(watch_dirs(w), 4);
	/* All of it before the watcher looks: the last two are events of watches that were set under the old names. */
	assert_int_equal(rename("d/x", "moved"), 0);
	file_write("moved/y/g", "x", 0644);
	assert_int_equal(rename("moved/y/g", "moved/h"), 0);
	assert_seen("+moved/h -d/x/h +moved/y/f -d/x/y/f ~d/x/ +moved/y/g -moved/y/g +moved/h ");
	assert_int_equal(watch_dirs(w), 4);
	assert_int_equal(rename("moved", "d/x"), 0);
	assert_seen("+d/x/h -moved/h +d/x/y/f -moved/y/f ~moved/ ");
	file_write("d/x/y/k", "x", 0644);
	assert_seen("+d/x/y/k ");
	assert_int_equal(watch_dirs(w), 4);
}

static void
test_moved_out_and_in(void **state)
{
	char out[80];

	(void)state;
	(void)snprintf(out, sizeof(out), "%s-out", root);
	begin_quietly();
	assert_int_equal(mkdir("d/sub", 0755), 0);
	assert_seen("");
	assert_int_equal(rename("d", out), 0);
	assert_seen("<d/ ");
	assert_int_equal(watch_dirs(w), 1);
	assert_int_equal(censuses, 1);
	assert_int_equal(chdir(out), 0);
	file_write("sub/written-outside", "x", 0644);
	assert_int_equal(chdir(root), 0);
	assert_seen("");
	assert_int_equal(rename(out, "in"), 0);
	assert_seen("+in/old +in/sub/written-outside ");
	assert_int_equal(watch_dirs(w), 3);
}

static void
test_report_waits_for_room_and_events_do_not(void **state)
{
	struct timespec now;
	struct errbuf eb;

	(void)state;
	assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
	room = 0;
	assert_int_equal(watch_new(&w, loop, l, (uint64_t)now.tv_sec * 1000 - 5000, &cbs, NULL, &eb), ERR_OK);
	assert_false(watch_standing(w));
	assert_true(loop_run_until(loop, &stood, 5000));
	assert_true(watch_crawling(w));
	assert_seen("");	/* d/old is owed, and waits */
	file_write("d/new", "x", 0644);
	assert_seen("+d/new ");
	room = 1000;
	watch_resume(w);
	assert_true(loop_run_until(loop, &clean, 5000));
	assert_non_null(strstr(str_z(&seen), "+d/old "));
}

static void
test_overflow(void **state)
{
	uint64_t generation;
	unsigned i;

	(void)state;
	begin_quietly();
	generation = watch_generation(w);
	assert_int_equal(mkdir("lost", 0755), 0);
	for (i = 0; i < 9000; i++) {
		assert_int_equal(rename("d/old", "d/other"), 0);
		assert_int_equal(rename("d/other", "d/old"), 0);
	}
	assert_int_equal(rename("d", "lost/e"), 0);
	file_write("lost/e/f", "x", 0644);
	clean = false;
	(void)watch_drain(w);
	assert_int_equal(watch_generation(w), generation + 1);
	assert_false(watch_standing(w));
	str_clear(&seen);
	assert_true(loop_run_until(loop, &clean, 5000));
	assert_true(watch_standing(w));
	assert_non_null(strstr(str_z(&seen), "+lost/e/f "));
	assert_non_null(strstr(str_z(&seen), "+lost/e/old "));
	str_clear(&seen);
	assert_int_equal(watch_dirs(w), 3);
	file_write("lost/e/g", "x", 0644);
	assert_seen("+lost/e/g ");
}

/* Another process that writes all the time does not hold a drain for ever: it reads what is queued when it begins. */
static void
test_drain_is_bounded(void **state)
{
	(void)state;
	begin_quietly();
	file_write("first", "x", 0644);
	feeding = 1000;
	(void)watch_drain(w);
	assert_in_range(feeding, 990, 999);
	feeding = 0;
}

static void
test_other_names_of_a_written_file(void **state)
{
	(void)state;
	assert_int_equal(mkdir("z", 0755), 0);
	assert_int_equal(link("d/old", "z/link"), 0);
	begin_quietly();
	clean = false;
	file_write("d/old", "x", 0644);
	assert_seen("+d/old ");
	assert_true(loop_run_until(loop, &clean, 10000));
	assert_non_null(strstr(str_z(&seen), "+z/link "));
	str_clear(&seen);
}

static void
test_limits(void **state)
{
	struct watch_limits lim;
	char text[200];
	uint64_t n;

	(void)state;
	assert_int_equal(mkdir("d/x", 0755), 0);
	assert_true(watch_count_dirs(l, 5000, &n));
	assert_int_equal(n, 3);
	watch_limits(&lim);
	assert_true(lim.watches > 0 && lim.events > 0 && lim.instances > 0);
	lim.watches = 1000;
	lim.watches_name = "fs.inotify.max_user_watches";
	watch_limits_text(&lim, 900, false, text, sizeof(text));
	assert_string_equal(text, "");
	watch_limits_text(&lim, 1000, true, text, sizeof(text));
	assert_string_equal(text, "more than 1000 directories, but fs.inotify.max_user_watches = 1000: sysctl -w fs.inotify.max_user_watches=2000");
}

static void
test_ours_is_not_seen(void **state)
{
	(void)state;
	begin_quietly();
	file_write("d/.r2shim-tmp-1", "x", 0644);
	assert_int_equal(mkdir(".r2shim-x", 0755), 0);
	file_write(".r2shim-x/y", "x", 0644);
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
		cmocka_unit_test_setup_teardown(test_moved_tree_keeps_its_watches, setup, teardown),
		cmocka_unit_test_setup_teardown(test_moved_out_and_in, setup, teardown),
		cmocka_unit_test_setup_teardown(test_report_waits_for_room_and_events_do_not, setup, teardown),
		cmocka_unit_test_setup_teardown(test_overflow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drain_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_names_of_a_written_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ours_is_not_seen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crawl_reports_what_is_new_since, setup, teardown),
		cmocka_unit_test_setup_teardown(test_symlinks_are_not_followed, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
