/* The journal: torn tails at every byte, group commit, a full disk, a failed sync, the lock, compaction. */
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/str.h"
#include "coord/journal.h"

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

static struct {
	char dir[64], file[96];
	struct loop *loop;
	struct journal *j;
	struct str seen;	/* "KIND/id/gen/key " of each replayed record */
	unsigned replayed;
	int sync_error;		/* errno of the next syncs */
	unsigned syncs;
	unsigned live;		/* records that live() emits */
	unsigned ok, failed;
	enum err last;
	bool flag;
} t;

int
__wrap_fdatasync(int fd)
{
	t.syncs++;
	if (t.sync_error != 0) {
		errno = t.sync_error;
		return -1;
	}
	return __real_fdatasync(fd);
}

static void
on_replay(void *arg, const struct journal_rec *r)
{
	(void)arg;
	t.replayed++;
	str_printf(&t.seen, "%d/%llu/%llu/", r->kind, (unsigned long long)r->id, (unsigned long long)r->gen);
	str_add(&t.seen, r->key, r->klen);
	str_addc(&t.seen, ' ');
}

static void
on_live(void *arg, void (*emit)(void *e, const struct journal_rec *r), void *e)
{
	(void)arg;
	for (unsigned i = 0; i < t.live; i++)
		emit(e, &(struct journal_rec){ .kind = JOURNAL_MARK, .id = i, .gen = 1000 + i, .key = "live", .klen = 4 });
}

static uint64_t
open_journal(void)
{
	uint64_t cut;
	struct errbuf eb;

	str_clear(&t.seen);
	t.replayed = 0;
	assert_int_equal(journal_open(&t.j, t.loop, t.dir, on_replay, NULL, &cut, &eb), ERR_OK);
	journal_set_live(t.j, on_live, NULL);
	return cut;
}

static void
on_done(void *arg, enum err e)
{
	(void)arg;
	t.last = e;
	if (e == ERR_OK)
		t.ok++;
	else
		t.failed++;
	t.flag = true;
}

static void
append(uint64_t id, const char *key)
{
	journal_append(t.j, &(struct journal_rec){ .kind = JOURNAL_INTENT, .id = id, .gen = 7, .key = key, .klen = strlen(key) }, on_done, NULL);
}

static enum err
append_wait(uint64_t id, const char *key)
{
	t.flag = false;
	append(id, key);
	assert_false(t.flag);
	assert_true(loop_run_until(t.loop, &t.flag, 5000));
	return t.last;
}

static int
setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof t);
	snprintf(t.dir, sizeof t.dir, "/tmp/r2shim-journal-XXXXXX");
	assert_non_null(mkdtemp(t.dir));
	snprintf(t.file, sizeof t.file, "%s/journal", t.dir);
	t.loop = loop_new();
	return 0;
}

static int
teardown(void **state)
{
	DIR *d;
	struct dirent *de;

	(void)state;
	journal_close(&t.j);
	loop_free(&t.loop);
	str_fini(&t.seen);
	d = opendir(t.dir);
	while ((de = readdir(d)) != NULL)
		unlinkat(dirfd(d), de->d_name, 0);
	closedir(d);
	assert_int_equal(rmdir(t.dir), 0);
	return 0;
}

static void
test_replay(void **state)
{
	char big[5000];

	(void)state;
	assert_int_equal(open_journal(), 0);
	assert_int_equal(append_wait(1, "a/b c.jpg"), ERR_OK);
	assert_int_equal(append_wait(2, ""), ERR_OK);
	journal_append_lazy(t.j, &(struct journal_rec){ .kind = JOURNAL_CLEAR, .gen = UINT64_C(1790000000000001), .key = "x\0y", .klen = 3 });
	journal_close(&t.j);
	assert_null(t.j);
	assert_int_equal(open_journal(), 0);
	assert_int_equal(t.replayed, 3);
	assert_memory_equal(t.seen.p, "1/1/7/a/b c.jpg 1/2/7/ 3/0/1790000000000001/x\0y ", t.seen.len);
	/* Records across the read window. */
	memset(big, 'k', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	for (unsigned i = 0; i < 100; i++)
		append(10 + i, big);
	journal_close(&t.j);
	assert_int_equal(open_journal(), 0);
	assert_int_equal(t.replayed, 103);
}

static size_t
file_read(char *buf, size_t n)
{
	int fd = open(t.file, O_RDONLY);
	ssize_t got = read(fd, buf, n);

	assert_true(got >= 0);
	close(fd);
	return (size_t)got;
}

static void
file_write(const char *buf, size_t n)
{
	int fd = open(t.file, O_WRONLY | O_TRUNC);

	assert_int_equal(write(fd, buf, n), n);
	close(fd);
}

static void
test_torn_tail(void **state)
{
	char whole[4096], name[160];
	size_t size, first;
	int fd;

	(void)state;
	open_journal();
	append_wait(1, "first");
	journal_close(&t.j);
	first = file_read(whole, sizeof whole);
	open_journal();
	append_wait(2, "the second one");
	journal_close(&t.j);
	size = file_read(whole, sizeof whole);
	assert_true(size > first && size < sizeof whole);
	snprintf(name, sizeof name, "%s", t.file);
	for (size_t n = 0; n <= size; n++) {
		/* Cut at n; and, in the second round, the rest is zeros, as after a power cut on a file system that extends first. */
		for (int zeros = 0; zeros < (n >= first ? 2 : 1); zeros++) {
			uint64_t cut, want = n < 8 ? 0 : n < first ? 0 : n < size ? 1 : 2;
			size_t good = n < 8 ? 0 : n < first ? 8 : n < size ? first : size, torn = n;

			/* Zeros behind the last record are no damage. */
			while (torn > good && whole[torn - 1] == '\0' && n >= 8)
				torn--;
			fd = open(name, O_WRONLY | O_TRUNC);
			assert_int_equal(write(fd, whole, n), n);
			if (zeros)
				assert_int_equal(ftruncate(fd, (off_t)size), 0);
			close(fd);
			cut = open_journal();
			if (zeros && n < size)
				assert_int_equal(t.replayed, 1);	/* a last byte may be a zero, but then the CRC holds */
			else
				assert_int_equal(t.replayed, want);
			assert_int_equal(cut, torn - good);
			/* What comes now stands behind what was intact. */
			assert_int_equal(append_wait(9, "z"), ERR_OK);
			journal_close(&t.j);
			assert_int_equal(open_journal(), 0);
			assert_int_equal(t.replayed, want + 1);
			journal_close(&t.j);
		}
	}
}

static void
test_flipped_bits(void **state)
{
	char whole[4096];
	size_t size;

	(void)state;
	open_journal();
	append_wait(1, "first");
	journal_close(&t.j);
	size = file_read(whole, sizeof whole);
	for (size_t n = 8; n < size; n++) {
		whole[n] ^= 0x10;
		file_write(whole, size);
		whole[n] ^= 0x10;
		assert_int_equal(open_journal(), size - 8);
		assert_int_equal(t.replayed, 0);
		journal_close(&t.j);
	}
}

/* Room is made ahead; a killed process leaves it, and it is no damage. What a power cut leaves in it never comes back. */
static void
test_room(void **state)
{
	static char whole[1024 * 1024];
	struct stat st;
	size_t size, used, one;

	(void)state;
	open_journal();
	append_wait(1, "first");
	journal_close(&t.j);
	one = file_read(whole, sizeof whole) - 8;
	assert_int_equal(open_journal(), 0);
	append_wait(2, "other");
	append_wait(3, "third");
	/* The thread made the first room before it took a record. */
	assert_int_equal(stat(t.file, &st), 0);
	assert_int_equal(st.st_size % (256 * 1024), 0);
	size = file_read(whole, sizeof whole);
	journal_close(&t.j);
	assert_int_equal(stat(t.file, &st), 0);
	used = (size_t)st.st_size;
	assert_int_equal(used, 8 + 3 * one);
	file_write(whole, size);
	assert_int_equal(open_journal(), 0);
	assert_string_equal(t.seen.p, "1/1/7/first 1/2/7/other 1/3/7/third ");
	journal_close(&t.j);
	/* The second record did not reach the disk, the third did: both are cut, and the third does not follow a new second one. */
	memset(whole + 8 + one, 0, one);
	file_write(whole, size);
	assert_int_equal(open_journal(), 2 * one);
	assert_string_equal(t.seen.p, "1/1/7/first ");
	append_wait(4, "newer");
	assert_int_equal(stat(t.file, &st), 0);
	assert_true((size_t)st.st_size > used);
	size = file_read(whole, sizeof whole);
	journal_close(&t.j);
	file_write(whole, size);
	assert_int_equal(open_journal(), 0);
	assert_string_equal(t.seen.p, "1/1/7/first 1/4/7/newer ");
}

/* A full disk: what fits into the room is still taken, what does not is refused. */
static void
test_full_with_room(void **state)
{
	struct rlimit old, low;
	struct stat st;
	char key[4096];
	unsigned n = 0;

	(void)state;
	memset(key, 'k', sizeof key - 1);
	key[sizeof key - 1] = '\0';
	open_journal();
	append_wait(1, "before");
	assert_int_equal(stat(t.file, &st), 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)st.st_size;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	while (append_wait(2, key) == ERR_OK)
		n++;
	assert_int_equal(t.last, ERR_NOSPACE);
	assert_int_equal(journal_state(t.j), ERR_NOSPACE);
	assert_in_range(n, 120, 127);
	journal_close(&t.j);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(open_journal(), 0);
	assert_int_equal(t.replayed, n + 1);
}

static void
test_not_ours(void **state)
{
	struct errbuf eb;
	uint64_t cut;
	int fd;

	(void)state;
	fd = open(t.file, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, "something else", 14), 14);
	close(fd);
	assert_int_equal(journal_open(&t.j, t.loop, t.dir, on_replay, NULL, &cut, &eb), ERR_SYNTAX);
	assert_null(t.j);
	assert_non_null(strstr(eb.text, "not a journal"));
}

static void
test_lock(void **state)
{
	struct journal *other = NULL;
	struct errbuf eb;
	uint64_t cut;

	(void)state;
	open_journal();
	assert_int_equal(journal_open(&other, t.loop, t.dir, on_replay, NULL, &cut, &eb), ERR_STATE);
	assert_null(other);
	journal_close(&t.j);
	assert_int_equal(open_journal(), 0);
}

static void
test_group_commit(void **state)
{
	int64_t records = metrics_get(METRIC_JOURNAL_RECORDS, NULL);

	(void)state;
	open_journal();
	t.syncs = 0;
	for (unsigned i = 0; i < 1000; i++)
		append(i, "key");
	while (t.ok < 1000) {
		t.flag = false;
		assert_true(loop_run_until(t.loop, &t.flag, 5000));
	}
	assert_int_equal(t.failed, 0);
	assert_int_equal(metrics_get(METRIC_JOURNAL_RECORDS, NULL) - records, 1000);
	/* The first may go alone, the others wait for it and go as one. */
	assert_in_range(t.syncs, 1, 2);
	journal_close(&t.j);
	open_journal();
	assert_int_equal(t.replayed, 1000);
}

static void
test_lazy(void **state)
{
	(void)state;
	open_journal();
	t.syncs = 0;
	journal_append_lazy(t.j, &(struct journal_rec){ .kind = JOURNAL_CLEAN, .time_ms = 5 });
	t.flag = false;
	loop_run_until(t.loop, &t.flag, 20);
	assert_int_equal(t.syncs, 0);
	append_wait(1, "a");
	assert_int_equal(t.syncs, 1);
	journal_close(&t.j);
	open_journal();
	assert_int_equal(t.replayed, 2);
}

static void
test_R35_disk_full(void **state)
{
	struct rlimit old, low;
	struct stat st;
	char key[512];
	uint64_t began;

	(void)state;
	memset(key, 'k', sizeof key - 1);
	key[sizeof key - 1] = '\0';
	open_journal();
	assert_int_equal(append_wait(1, "before"), ERR_OK);
	journal_close(&t.j);
	assert_int_equal(stat(t.file, &st), 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)st.st_size + 100;	/* no room to be made; a part of the next record fits */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	open_journal();
	t.live = 1000;
	assert_int_equal(append_wait(2, key), ERR_NOSPACE);
	assert_int_equal(journal_state(t.j), ERR_NOSPACE);
	/* A small one still fits, and that is news. */
	assert_int_equal(append_wait(3, "small"), ERR_OK);
	assert_int_equal(journal_state(t.j), ERR_OK);
	assert_int_equal(append_wait(4, key), ERR_NOSPACE);
	/* It comes back by itself, without a write. */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	t.live = 2;
	began = clock_mono_ms();
	while (journal_state(t.j) != ERR_OK) {
		assert_true(clock_mono_ms() - began < 5000);
		t.flag = false;
		loop_run_until(t.loop, &t.flag, 20);
	}
	assert_int_equal(append_wait(5, "after"), ERR_OK);
	journal_close(&t.j);
	assert_int_equal(open_journal(), 0);
	assert_string_equal(t.seen.p, "2/0/1000/live 2/1/1001/live 1/5/7/after ");
}

static void
test_full_keeps_the_old(void **state)
{
	struct rlimit old, low;
	struct stat st;
	char key[512];

	(void)state;
	memset(key, 'k', sizeof key - 1);
	key[sizeof key - 1] = '\0';
	open_journal();
	append_wait(1, "before");
	journal_close(&t.j);
	assert_int_equal(stat(t.file, &st), 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)st.st_size + 100;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	open_journal();
	assert_int_equal(append_wait(2, key), ERR_NOSPACE);
	journal_close(&t.j);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(open_journal(), 0);
	assert_string_equal(t.seen.p, "1/1/7/before ");
}

static void
test_sync_fails(void **state)
{
	uint64_t began;

	(void)state;
	open_journal();
	append_wait(1, "before");
	t.sync_error = EIO;
	assert_int_equal(append_wait(2, "lost"), ERR_IO);
	/* The disk says well again, but what the kernel holds of this file is not to be trusted: written anew first. */
	t.sync_error = 0;
	assert_int_equal(append_wait(3, "lost too"), ERR_IO);
	assert_int_equal(journal_state(t.j), ERR_IO);
	t.live = 1;
	began = clock_mono_ms();
	while (journal_state(t.j) != ERR_OK) {
		assert_true(clock_mono_ms() - began < 5000);
		t.flag = false;
		loop_run_until(t.loop, &t.flag, 20);
	}
	assert_int_equal(append_wait(4, "after"), ERR_OK);
	journal_close(&t.j);
	open_journal();
	assert_string_equal(t.seen.p, "2/0/1000/live 1/4/7/after ");
}

static void
test_compaction(void **state)
{
	struct stat st;
	char key[1000], name[128];
	unsigned n = 0;

	(void)state;
	memset(key, 'k', sizeof key - 1);
	key[sizeof key - 1] = '\0';
	t.live = 3;
	open_journal();
	for (; n < 3000; n += 100) {
		for (unsigned i = 0; i < 99; i++)
			append(n + i, key);
		assert_int_equal(append_wait(n + 99, key), ERR_OK);
	}
	while (t.ok < n) {
		t.flag = false;
		assert_true(loop_run_until(t.loop, &t.flag, 5000));
	}
	assert_int_equal(t.ok, n);
	assert_int_equal(stat(t.file, &st), 0);
	assert_in_range(st.st_size, 1, 2000 * 1000);
	snprintf(name, sizeof name, "%s.new", t.file);
	journal_close(&t.j);
	assert_int_equal(access(name, F_OK), -1);
	open_journal();
	assert_int_equal(strncmp(t.seen.p, "2/0/1000/live 2/1/1001/live 2/2/1002/live ", 42), 0);
	/* The last record was appended behind the new file's. */
	assert_non_null(strstr(t.seen.p, "1/2999/7/"));
}

static void
close_it(void *arg, enum err e)
{
	(void)arg;
	assert_int_equal(e, ERR_OK);
	journal_close(&t.j);
	t.flag = true;
}

static void
test_close_in_callback(void **state)
{
	(void)state;
	open_journal();
	journal_append(t.j, &(struct journal_rec){ .kind = JOURNAL_INTENT, .id = 1 }, close_it, NULL);
	append(2, "not told");
	assert_true(loop_run_until(t.loop, &t.flag, 5000));
	t.flag = false;
	loop_run_until(t.loop, &t.flag, 20);
	assert_int_equal(t.ok + t.failed, 0);
	open_journal();
	assert_int_equal(t.replayed, 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_replay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_torn_tail, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flipped_bits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_with_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_ours, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_group_commit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lazy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_R35_disk_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_keeps_the_old, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sync_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_compaction, setup, teardown),
		cmocka_unit_test_setup_teardown(test_close_in_callback, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
