/* Order, fairness, and callbacks that free their own objects. */
#include "unit.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "io/loop.h"

static struct loop *loop;

static int
setup(void **state)
{
	(void)state;
	loop = loop_new();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	loop_free(&loop);
	assert_null(loop);
	return 0;
}

static void
set(void *arg)
{
	*(bool *)arg = true;
}

static void
stop(void *arg)
{
	loop_stop(arg);
}

static void
test_timer(void **state)
{
	bool fired = false, other = false;
	struct loop_timer t, u;
	uint64_t start = clock_mono_ns();

	(void)state;
	loop_timer_init(&t, loop, set, &fired);
	loop_timer_init(&u, loop, set, &other);
	assert_false(loop_timer_pending(&t));
	loop_timer_cancel(&t);
	loop_timer_set(&t, 60000);
	assert_true(loop_timer_pending(&t));
	loop_timer_set(&t, 30);
	loop_timer_set(&u, 1);
	loop_timer_cancel(&u);
	assert_true(loop_run_until(loop, &fired, 5000));
	assert_true(clock_mono_ns() - start >= 30 * UINT64_C(1000000));
	assert_false(loop_timer_pending(&t));
	assert_false(other);
	loop_timer_set(&t, UINT64_MAX);
	assert_true(loop_timer_pending(&t));
	loop_timer_fini(&t);
	loop_timer_fini(&t);
	loop_timer_fini(&u);
}

static void
test_run_until_gives_up(void **state)
{
	bool never = false, now = true;

	(void)state;
	assert_false(loop_run_until(loop, &never, 5));
	assert_true(loop_run_until(loop, &now, 0));
}

static void
test_stop(void **state)
{
	struct loop_timer t;
	bool never = false;

	(void)state;
	loop_timer_init(&t, loop, stop, loop);
	loop_timer_set(&t, 0);
	loop_run(loop);
	loop_stop(loop);
	loop_run(loop);
	loop_timer_set(&t, 0);
	assert_false(loop_run_until(loop, &never, 60000));
	loop_timer_fini(&t);
}

struct again {
	struct loop_call call;
	unsigned runs;
	bool done;
};

static void
run_again(void *arg)
{
	struct again *a = arg;

	if (++a->runs < 1000)
		loop_call_soon(&a->call);
	else
		a->done = true;
}

static void
count_runs_before(void *arg, int what)
{
	struct again *a = arg;

	assert_int_equal(what, LOOP_READ);
	/* A call that defers itself for ever must not keep descriptors waiting. */
	assert_true(a->runs < 10);
	a->done = true;
}

static void
test_calls_do_not_starve_descriptors(void **state)
{
	struct again a = {.runs = 0};
	struct loop_fd f;
	int sv[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(write(sv[1], "x", 1), 1);
	loop_fd_init(&f, loop, sv[0], count_runs_before, &a);
	loop_fd_want(&f, LOOP_READ);
	loop_call_init(&a.call, loop, run_again, &a);
	loop_call_soon(&a.call);
	assert_true(loop_run_until(loop, &a.done, 5000));
	loop_call_cancel(&a.call);
	loop_fd_fini(&f);
	loop_fd_fini(&f);
	close(sv[0]);
	close(sv[1]);
}

static char order[16];

static void
note(void *arg)
{
	size_t n = strlen(order);

	order[n] = *(char *)arg;
	order[n + 1] = '\0';
}

static struct loop_call calls[4];

static void
cancel_c_and_add_d(void *arg)
{
	note(arg);
	loop_call_cancel(&calls[2]);
	loop_call_soon(&calls[3]);
	loop_call_soon(&calls[3]);
}

static void
test_calls(void **state)
{
	static char names[] = "abcd";
	struct loop_timer t;
	bool late = false;

	(void)state;
	order[0] = '\0';
	loop_call_init(&calls[0], loop, cancel_c_and_add_d, &names[0]);
	for (int i = 1; i < 4; i++)
		loop_call_init(&calls[i], loop, note, &names[i]);
	loop_call_soon(&calls[0]);
	loop_call_soon(&calls[2]);
	loop_call_soon(&calls[1]);
	loop_call_soon(&calls[1]);
	loop_timer_init(&t, loop, set, &late);
	loop_timer_set(&t, 5);
	loop_run_until(loop, &late, 5000);
	loop_timer_fini(&t);
	assert_string_equal(order, "abd");
}

struct own {
	struct loop_timer t;
	struct loop_call c;
	struct loop_fd f;
	int fd;
	bool *gone;
};

static void
own_free(void *arg)
{
	struct own *o = arg;

	*o->gone = true;
	loop_timer_fini(&o->t);
	loop_call_cancel(&o->c);
	loop_fd_fini(&o->f);
	close(o->fd);
	mem_free(o);
}

static void
own_free_fd(void *arg, int what)
{
	(void)what;
	own_free(arg);
}

static void
test_callback_frees_itself(void **state)
{
	(void)state;
	for (int how = 0; how < 3; how++) {
		struct own *o = mem_zalloc(sizeof *o);
		bool gone = false, never = false;
		int sv[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
		o->fd = sv[0];
		o->gone = &gone;
		loop_timer_init(&o->t, loop, own_free, o);
		loop_call_init(&o->c, loop, own_free, o);
		loop_fd_init(&o->f, loop, sv[0], own_free_fd, o);
		if (how == 0)
			loop_timer_set(&o->t, 0);
		if (how == 1)
			loop_call_soon(&o->c);
		/* Readable and writable at once: the second event must not come. */
		if (how == 2) {
			assert_int_equal(write(sv[1], "x", 1), 1);
			loop_fd_want(&o->f, LOOP_READ | LOOP_WRITE);
		}
		assert_true(loop_run_until(loop, &gone, 5000));
		assert_false(loop_run_until(loop, &never, 1));
		close(sv[1]);
	}
}

struct watched {
	struct loop_fd f;
	unsigned reads, writes;
	bool enough;
};

static void
on_fd(void *arg, int what)
{
	struct watched *w = arg;

	if (what == LOOP_READ)
		w->reads++;
	else
		w->writes++;
	w->enough = w->reads >= 3 || w->writes >= 3;
}

static void
test_fd_level_triggered(void **state)
{
	struct watched w = {.reads = 0};
	int sv[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	loop_fd_init(&w.f, loop, sv[0], on_fd, &w);
	loop_fd_want(&w.f, LOOP_READ);
	assert_false(loop_run_until(loop, &w.enough, 1));
	assert_int_equal(w.reads, 0);
	assert_int_equal(write(sv[1], "x", 1), 1);
	assert_true(loop_run_until(loop, &w.enough, 5000));
	assert_int_equal(w.writes, 0);
	w = (struct watched){.f = w.f};
	loop_fd_want(&w.f, LOOP_WRITE);
	assert_true(loop_run_until(loop, &w.enough, 5000));
	assert_int_equal(w.reads, 0);
	loop_fd_want(&w.f, 0);
	w.enough = false;
	assert_false(loop_run_until(loop, &w.enough, 1));
	loop_fd_fini(&w.f);
	close(sv[0]);
	/* The number comes back at once: the change list must take it for the new one. */
	assert_int_equal(dup2(sv[1], sv[0]), sv[0]);
	loop_fd_init(&w.f, loop, sv[0], on_fd, &w);
	loop_fd_want(&w.f, LOOP_WRITE);
	w = (struct watched){.f = w.f};
	assert_true(loop_run_until(loop, &w.enough, 5000));
	loop_fd_fini(&w.f);
	close(sv[0]);
	close(sv[1]);
}

enum { POSTERS = 4, POSTS = 2000 };

struct poster {
	struct loop_call calls[POSTS];
	pthread_t thread;
};

static unsigned posted;
static bool all_posted;

static void
on_posted(void *arg)
{
	(void)arg;
	if (++posted == POSTERS * POSTS)
		all_posted = true;
}

static void *
post_all(void *arg)
{
	struct poster *p = arg;

	for (int i = 0; i < POSTS; i++)
		loop_post(&p->calls[i]);
	return NULL;
}

static void
test_posts(void **state)
{
	struct poster *p = mem_calloc(POSTERS, sizeof *p);

	(void)state;
	for (int i = 0; i < POSTERS; i++) {
		for (int k = 0; k < POSTS; k++)
			loop_call_init(&p[i].calls[k], loop, on_posted, NULL);
		assert_int_equal(pthread_create(&p[i].thread, NULL, post_all, &p[i]), 0);
	}
	assert_true(loop_run_until(loop, &all_posted, 30000));
	for (int i = 0; i < POSTERS; i++)
		pthread_join(p[i].thread, NULL);
	assert_int_equal(posted, POSTERS * POSTS);
	loop_post(&p[0].calls[0]);
	loop_post(&p[0].calls[0]);
	loop_post(&p[0].calls[1]);
	loop_call_cancel(&p[0].calls[1]);
	all_posted = false;
	assert_false(loop_run_until(loop, &all_posted, 1));
	assert_int_equal(posted, POSTERS * POSTS + 1);
	mem_free(p);
}

static void
test_signal(void **state)
{
	bool got = false;

	(void)state;
	loop_signal(loop, SIGUSR1, set, &got);
	assert_int_equal(raise(SIGUSR1), 0);
	assert_true(loop_run_until(loop, &got, 5000));
	/* A peer that went away must not kill the process. */
	assert_int_equal(raise(SIGPIPE), 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_timer, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_run_until_gives_up, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_calls_do_not_starve_descriptors, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_calls, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_callback_frees_itself, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_fd_level_triggered, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_posts, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_signal, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
