/* openfiles: whatever is done to a file that is kept open, and whoever does it, the next request sees it. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/loop.h"
#include "store/openfiles.h"

enum { MAX = 3, FEW = 256 };

static char root[64];
static struct loop *loop;
static struct local *local;
static struct openfiles *files;

static int
setup(void **state)
{
	struct errbuf eb;

	(void)state;
	(void)snprintf(root, sizeof(root), "/tmp/r2shim-openfiles-XXXXXX");
	assert_non_null(mkdtemp(root));
	assert_int_equal(local_sentinel_write(root, "demo", &eb), ERR_OK);
	assert_int_equal(chdir(root), 0);
	assert_int_equal(mkdir("d", 0755), 0);
	assert_int_equal(mkdir("e", 0755), 0);
	file_write("d/f", "first", 0644);
	file_write("e/f", "other", 0644);
	assert_int_equal(local_open(&local, root, "demo", &eb), ERR_OK);
	loop = loop_new();
	files = openfiles_new(loop, local, MAX);
	return 0;
}

static int
teardown(void **state)
{
	char *cmd = mem_printf("rm -rf -- %s", root);

	(void)state;
	openfiles_free(&files);
	assert_null(files);
	loop_free(&loop);
	local_free(&local);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(system(cmd), 0);
	mem_free(cmd);
	return 0;
}

/* What a request for it would be answered with; the descriptor, or -1. */
static int
get(const char *key, char text[64])
{
	struct local_stat st;
	ssize_t n;
	int fd;
	enum err e = openfiles_get(files, key, strlen(key), &fd, &st);

	if (e != ERR_OK) {
		(void)snprintf(text, 64, "%s", err_name(e));
		return -1;
	}
	n = pread(fd, text, 63, 0);
	assert_true(n >= 0 && (uint64_t)n == st.size);
	text[n] = '\0';
	return fd;
}

static void
expect(const char *key, const char *text)
{
	char got[64];

	(void)get(key, got);
	assert_string_equal(got, text);
}

static void
test_one_descriptor(void **state)
{
	char text[64];
	int fd;

	(void)state;
	fd = get("d/f", text);
	assert_string_equal(text, "first");
	assert_int_equal(get("d/f", text), fd);
	assert_int_equal(openfiles_count(files), 1);
	expect("d/none", "NOTFOUND");
	expect("d", "NOTFOUND");
	assert_int_equal(openfiles_count(files), 1);
}

/* Each change comes at once behind a read, within the same tick of the kernel's clock. */
static void
test_changes_are_seen(void **state)
{
	int fd;

	(void)state;
	for (int i = 0; i < 50; i++) {
		file_write("d/f", "first", 0644);
		expect("d/f", "first");
		/* written in place: the same size */
		fd = open("d/f", O_WRONLY);
		assert_int_equal(pwrite(fd, "again", 5, 0), 5);
		expect("d/f", "again");
		assert_int_equal(ftruncate(fd, 2), 0);
		expect("d/f", "ag");
		assert_int_equal(close(fd), 0);
		/* replaced, by a file of the same size and times */
		file_write("d/new", "ab", 0644);
		assert_int_equal(system("touch -r d/f d/new"), 0);
		assert_int_equal(rename("d/new", "d/f"), 0);
		expect("d/f", "ab");
		/* its folder is another's */
		assert_int_equal(renameat2(AT_FDCWD, "d", AT_FDCWD, "e", RENAME_EXCHANGE), 0);
		expect("d/f", "other");
		expect("e/f", "ab");
		assert_int_equal(renameat2(AT_FDCWD, "d", AT_FDCWD, "e", RENAME_EXCHANGE), 0);
		expect("d/f", "ab");
		/* moved, removed, a folder */
		assert_int_equal(rename("d/f", "d/g"), 0);
		expect("d/f", "NOTFOUND");
		expect("d/g", "ab");
		assert_int_equal(unlink("d/g"), 0);
		expect("d/g", "NOTFOUND");
		assert_int_equal(mkdir("d/f", 0755), 0);
		expect("d/f", "NOTFOUND");
		assert_int_equal(rmdir("d/f"), 0);
	}
}

static void
test_symlinks(void **state)
{
	(void)state;
	expect("d/f", "first");
	assert_int_equal(rename("d/f", "d/g"), 0);
	assert_int_equal(symlink("g", "d/f"), 0);
	expect("d/f", "NOTFOUND");
	expect("e/f", "other");
	assert_int_equal(rename("e", "x"), 0);
	assert_int_equal(symlink("d", "e"), 0);
	expect("e/f", "NOTFOUND");
}

static void
test_closed_to_us(void **state)
{
	(void)state;
	if (geteuid() == 0)
		assert_int_equal(chmod(root, 0755) | seteuid(65534), 0);
	expect("d/f", "first");
	if (geteuid() == 65534)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(chmod("d/f", 0), 0);
	if (geteuid() == 0)
		assert_int_equal(seteuid(65534), 0);
	expect("d/f", "DENIED");
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
}

static void
set(void *arg)
{
	*(bool *)arg = true;
}

/* All are gone in time, also the ones that are in use: what was removed takes no space for long. */
static void
test_end(void **state)
{
	struct loop_timer t;
	bool late = false;
	char text[64];
	uint64_t began = clock_mono_ms();

	(void)state;
	assert_true(get("d/f", text) >= 0);
	assert_int_equal(unlink("d/f"), 0);
	assert_true(get("e/f", text) >= 0);
	loop_timer_init(&t, loop, set, &late);
	while (openfiles_count(files) > 0) {
		bool done = false;

		late = false;
		loop_timer_set(&t, 10);
		assert_false(loop_run_until(loop, &done, 10));
	}
	loop_timer_fini(&t);
	assert_true(clock_mono_ms() - began >= OPENFILES_MS);
	expect("e/f", "other");
}

static void
test_few(void **state)
{
	struct rlimit was, few;
	int held[FEW], fd, n = 0;
	char name[16];

	(void)state;
	for (int i = 0; i < 2 * MAX; i++) {
		(void)snprintf(name, sizeof(name), "d/%d", i);
		file_write(name, name, 0644);
		expect(name, name);
		assert_int_equal(openfiles_count(files), i < MAX ? i + 1 : MAX);
	}
	/* no descriptor is left but those in the table */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	few = was;
	few.rlim_cur = FEW;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	while ((fd = dup(0)) >= 0)
		held[n++] = fd;
	assert_int_equal(errno, EMFILE);
	expect("e/f", "other");
	assert_int_equal(openfiles_count(files), 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	while (n > 0)
		assert_int_equal(close(held[--n]), 0);
}

int
main(void)
{
#define ROW(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { ROW(test_one_descriptor), ROW(test_changes_are_seen), ROW(test_symlinks),
		ROW(test_closed_to_us), ROW(test_end), ROW(test_few) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
