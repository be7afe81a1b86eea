/* looks: when all threads are busy several keys go together, a large file alone, and a cancelled one is heard of no more. */
#include "unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "proxy/looks.h"

enum { LONG = 30000, GROUPS = 16, MANY = 64 };

int __real_fsync(int fd);
int __wrap_fsync(int fd);

/* A gate that every fsync waits at, so that the test decides when the disk has done. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static bool shut;
static unsigned at_gate, syncs;

static char root[64];
static struct loop *loop;
static struct local *local;
static struct pool *pool;
static struct looks *looks;

struct seen {
	struct look *look;
	unsigned times;
	enum err e;
	struct local_stat st;
	unsigned *left;
	bool *all;
};

int
__wrap_fsync(int fd)
{
	pthread_mutex_lock(&mutex);
	syncs++;
	at_gate++;
	pthread_cond_broadcast(&cond);
	while (shut)
		pthread_cond_wait(&cond, &mutex);
	at_gate--;
	pthread_mutex_unlock(&mutex);
	return __real_fsync(fd);
}

static void
set_gate(bool closed)
{
	pthread_mutex_lock(&mutex);
	shut = closed;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&mutex);
}

static void
wait_at_gate(unsigned n)
{
	pthread_mutex_lock(&mutex);
	while (at_gate < n)
		pthread_cond_wait(&cond, &mutex);
	pthread_mutex_unlock(&mutex);
}

static void
make(const char *key, off_t size)
{
	int dir = open(root, O_RDONLY | O_DIRECTORY), fd = openat(dir, key, O_WRONLY | O_CREAT, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(close(dir), 0);
}

static int
setup(void **state)
{
	struct errbuf eb;
	char *d;

	(void)state;
	(void)snprintf(root, sizeof(root), "/tmp/r2shim-looks-XXXXXX");
	assert_non_null(mkdtemp(root));
	assert_int_equal(local_sentinel_write(root, "demo", &eb), ERR_OK);
	d = mem_printf("%s/d", root);
	assert_int_equal(mkdir(d, 0755), 0);
	mem_free(d);
	loop = loop_new();
	assert_int_equal(local_open(&local, root, "demo", &eb), ERR_OK);
	pool = pool_new(loop, GROUPS);
	looks = looks_new(loop, local, pool);
	syncs = 0;
	return 0;
}

static int
teardown(void **state)
{
	char *rm = mem_printf("rm -rf '%s'", root);

	(void)state;
	set_gate(false);
	looks_free(&looks);
	pool_free(&pool);
	local_free(&local);
	loop_free(&loop);
	assert_int_equal(system(rm), 0);
	mem_free(rm);
	return 0;
}

static void
on_seen(void *arg, const struct local_seen *seen, bool swapping)
{
	struct seen *s = arg;

	assert_false(swapping);
	s->look = NULL;
	s->times++;
	s->e = seen->e;
	s->st = seen->st;
	if (s->left != NULL && --*s->left == 0)
		*s->all = true;
}

static void
look(struct seen *s, const char *key)
{
	s->look = look_at(looks, key, strlen(key), false, on_seen, s);
}

/* Every group has a file that waits for the disk. */
static void
all_busy(struct seen *s)
{
	bool never = false;

	set_gate(true);
	for (unsigned i = 0; i < GROUPS; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "busy-%u", i);
		make(key, 1);
		look(&s[i], key);
		(void)loop_run_until(loop, &never, 1);
		wait_at_gate(i + 1);
	}
}

static void
test_together(void **state)
{
	struct seen busy[GROUPS] = { { .look = NULL } }, s[MANY] = { { .look = NULL } };
	enum { NONE = 1, LARGE = 2 };
	unsigned left = MANY;
	bool all = false;
	char key[16];

	(void)state;
	all_busy(busy);
	for (unsigned i = 0; i < MANY; i++) {
		s[i].left = &left;
		s[i].all = &all;
		(void)snprintf(key, sizeof(key), "d/%u", i);
		if (i != NONE)
			make(key, i == LARGE ? LOCAL_SETTLE_ALONE + 1 : (off_t)i);
		look(&s[i], key);
	}
	assert_int_equal(syncs, GROUPS);
	set_gate(false);
	assert_true(loop_run_until(loop, &all, LONG));
	/* Each by itself takes three: its own, its folder's, the root's. */
	print_message("%u fsyncs for %u files\n", syncs - 2 * GROUPS, MANY);
	assert_in_range(syncs - 2 * GROUPS, MANY + 2 * GROUPS, 9 * MANY / 4);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(s[i].times, 1);
		assert_int_equal(s[i].e, ERR_OK);
		assert_int_equal(s[i].st.exists, i != NONE);
		assert_int_equal(s[i].st.size, i == NONE ? 0 : i == LARGE ? LOCAL_SETTLE_ALONE + 1 : i);
	}
}

static void
test_cancel(void **state)
{
	struct seen busy[GROUPS] = { { .look = NULL } }, waits = { .look = NULL }, last = { .look = NULL };
	unsigned left = 1;
	bool all = false;

	(void)state;
	all_busy(busy);
	make("d/waits", 1);
	make("d/last", 1);
	look(&waits, "d/waits");
	last.left = &left;
	last.all = &all;
	look(&last, "d/last");
	look_cancel(&waits.look);
	look_cancel(&busy[1].look);
	look_cancel(&busy[1].look);	/* NULL by now */
	set_gate(false);
	assert_true(loop_run_until(loop, &all, LONG));
	assert_int_equal(last.times, 1);
	assert_int_equal(waits.times, 0);
	assert_int_equal(busy[1].times, 0);
}

struct freeing {
	unsigned times;
	bool first;
};

static void
on_seen_free(void *arg, const struct local_seen *seen, bool swapping)
{
	struct freeing *f = arg;

	(void)seen;
	(void)swapping;
	looks_free(&looks);
	f->times++;
	f->first = true;
}

/* The first end frees everything: those of the same group, and of others, are never heard of. */
static void
test_freed_by_a_done(void **state)
{
	struct seen busy[GROUPS] = { { .look = NULL } };
	struct freeing f = { 0, false };

	(void)state;
	all_busy(busy);
	for (unsigned i = 0; i < GROUPS; i++)
		look_cancel(&busy[i].look);
	for (unsigned i = 0; i < 2 * GROUPS; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "d/%u", i);
		make(key, 1);
		(void)look_at(looks, key, strlen(key), false, on_seen_free, &f);
	}
	set_gate(false);
	assert_true(loop_run_until(loop, &f.first, LONG));
	assert_int_equal(f.times, 1);
}

int
main(void)
{
#define ROW(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { ROW(test_together), ROW(test_cancel), ROW(test_freed_by_a_done) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
