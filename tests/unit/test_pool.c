/* Work on threads, its end on the loop, and cancelling at each moment. Also run under ThreadSanitizer. */
#include "unit.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "io/loop.h"
#include "io/pool.h"

enum { LONG = 30000, JOBS = 1000 };

static struct loop *loop;
static pthread_t loop_thread;

/* A gate that work waits at, so that tests decide when it goes on. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static bool open_gate;
static unsigned at_gate;

struct task {
	struct pool_job job;
	unsigned worked, done, dropped;
	unsigned *left;
	bool *all;
	bool elsewhere;
	char name[16];
	sigset_t signals;
};

static int
setup(void **state)
{
	(void)state;
	loop = loop_new();
	loop_thread = pthread_self();
	open_gate = false;
	at_gate = 0;
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	loop_free(&loop);
	return 0;
}

static void
work(void *arg)
{
	struct task *t = arg;

	t->elsewhere = !pthread_equal(pthread_self(), loop_thread);
	pthread_getname_np(pthread_self(), t->name, sizeof t->name);
	pthread_sigmask(SIG_BLOCK, NULL, &t->signals);
	t->worked++;
}

static void
work_at_gate(void *arg)
{
	pthread_mutex_lock(&mutex);
	at_gate++;
	pthread_cond_broadcast(&cond);
	while (!open_gate)
		pthread_cond_wait(&cond, &mutex);
	pthread_mutex_unlock(&mutex);
	work(arg);
}

static void
work_until_cancelled(void *arg)
{
	struct task *t = arg;

	pthread_mutex_lock(&mutex);
	at_gate++;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&mutex);
	while (!pool_job_cancelled(&t->job))
		;
	t->worked++;
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
open_it(void)
{
	pthread_mutex_lock(&mutex);
	open_gate = true;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&mutex);
}

static void
one_less(struct task *t)
{
	assert_true(pthread_equal(pthread_self(), loop_thread));
	if (t->left != NULL && --*t->left == 0)
		*t->all = true;
}

static void
done(void *arg)
{
	struct task *t = arg;

	assert_false(t->job.busy);
	t->done++;
	one_less(t);
}

static void
drop(void *arg)
{
	struct task *t = arg;

	t->dropped++;
	one_less(t);
}

static void
test_many(void **state)
{
	struct pool *p = pool_new(loop, 4);
	struct task *t = mem_calloc(JOBS, sizeof *t);
	unsigned left = JOBS;
	bool all = false;

	(void)state;
	for (int i = 0; i < JOBS; i++) {
		t[i].left = &left;
		t[i].all = &all;
		pool_submit(p, &t[i].job, work, done, &t[i]);
		assert_true(t[i].job.busy);
	}
	assert_true(loop_run_until(loop, &all, LONG));
	for (int i = 0; i < JOBS; i++) {
		assert_int_equal(t[i].worked, 1);
		assert_int_equal(t[i].done, 1);
		assert_false(t[i].job.busy);
		assert_true(t[i].elsewhere);
		assert_memory_equal(t[i].name, "pool-", 5);
		assert_true(sigismember(&t[i].signals, SIGTERM) && sigismember(&t[i].signals, SIGHUP));
	}
	pool_free(&p);
	assert_null(p);
	pool_free(&p);
	mem_free(t);
}

static void
submit_again(void *arg)
{
	struct task *t = arg;

	done(t);
	if (t->done < 3)
		pool_submit(t->job.pool, &t->job, work, submit_again, t);
	else
		*t->all = true;
}

static void
test_submit_in_done(void **state)
{
	struct pool *p = pool_new(loop, 1);
	bool all = false;
	struct task t = {.all = &all};

	(void)state;
	pool_submit(p, &t.job, work, submit_again, &t);
	assert_true(loop_run_until(loop, &all, LONG));
	assert_int_equal(t.worked, 3);
	pool_free(&p);
}

static void
test_cancel(void **state)
{
	struct pool *p = pool_new(loop, 1);
	unsigned left = 4;
	bool all = false;
	struct task running = {.left = &left, .all = &all}, queued = running, kept = running, quiet = {.left = NULL},
		    last = running;

	(void)state;
	pool_submit(p, &running.job, work_at_gate, done, &running);
	pool_submit(p, &queued.job, work, done, &queued);
	pool_submit(p, &kept.job, work, done, &kept);
	pool_submit(p, &quiet.job, work, done, &quiet);
	pool_submit(p, &last.job, work, done, &last);
	wait_at_gate(1);
	pool_cancel(&running.job, drop);
	pool_cancel(&queued.job, drop);
	pool_cancel(&quiet.job, NULL);
	assert_int_equal(running.dropped + queued.dropped, 0);
	open_it();
	assert_true(loop_run_until(loop, &all, LONG));
	assert_int_equal(running.worked, 1);
	assert_int_equal(running.done, 0);
	assert_int_equal(running.dropped, 1);
	assert_int_equal(queued.worked, 0);
	assert_int_equal(queued.done, 0);
	assert_int_equal(queued.dropped, 1);
	assert_int_equal(kept.done, 1);
	assert_int_equal(quiet.worked + quiet.done + quiet.dropped, 0);
	pool_free(&p);
}

static void
test_work_sees_cancel(void **state)
{
	struct pool *p = pool_new(loop, 1);
	unsigned left = 1;
	bool all = false;
	struct task t = {.left = &left, .all = &all};

	(void)state;
	pool_submit(p, &t.job, work_until_cancelled, done, &t);
	wait_at_gate(1);
	pool_cancel(&t.job, drop);
	assert_true(loop_run_until(loop, &all, LONG));
	assert_int_equal(t.dropped, 1);
	pool_free(&p);
}

static void
free_task(void *arg)
{
	struct task *t = arg;

	*t->all = true;
	mem_free(t);
}

static void
test_memory_goes_in_callbacks(void **state)
{
	struct pool *p = pool_new(loop, 2);
	bool gone = false, dropped = false;
	struct task *a = mem_zalloc(sizeof *a), *b = mem_zalloc(sizeof *b);

	(void)state;
	a->all = &gone;
	b->all = &dropped;
	pool_submit(p, &a->job, work, free_task, a);
	pool_submit(p, &b->job, work, done, b);
	pool_cancel(&b->job, free_task);
	assert_true(loop_run_until(loop, &gone, LONG));
	assert_true(loop_run_until(loop, &dropped, LONG));
	pool_free(&p);
}

static void *
open_soon(void *arg)
{
	(void)arg;
	open_it();
	return NULL;
}

static void
test_free_waits_for_running_work(void **state)
{
	struct pool *p = pool_new(loop, 1);
	struct task *t = mem_calloc(3, sizeof *t);
	pthread_t opener;
	bool never = false;

	(void)state;
	pool_submit(p, &t[0].job, work_at_gate, done, &t[0]);
	pool_submit(p, &t[1].job, work, done, &t[1]);
	pool_submit(p, &t[2].job, work, done, &t[2]);
	pool_cancel(&t[2].job, drop);
	wait_at_gate(1);
	assert_int_equal(pthread_create(&opener, NULL, open_soon, NULL), 0);
	pool_free(&p);
	pthread_join(opener, NULL);
	assert_int_equal(t[0].worked, 1);
	assert_int_equal(t[0].done, 0);
	/* Begun or not, by who is faster; told it is not. */
	assert_int_equal(t[1].done + t[1].dropped, 0);
	assert_int_equal(t[2].worked, 0);
	assert_int_equal(t[2].dropped, 1);
	/* Nothing of it is left on the loop. */
	mem_free(t);
	assert_false(loop_run_until(loop, &never, 1));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_many, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_submit_in_done, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_work_sees_cancel, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_memory_goes_in_callbacks, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_free_waits_for_running_work, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
