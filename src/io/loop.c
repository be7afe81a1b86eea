#include "io/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/err.h"
#include "base/mem.h"

/*
 * libevent's change list saves system calls, and is safe as long as a watched descriptor is taken off before its close: it is told to
 * epoll a turn later, without effect, also if the pool has opened a file of that number since. ThreadSanitizer takes that for a race, for
 * it does not see what openat2 opens; without the list nothing is told late.
 */
#ifdef __SANITIZE_THREAD__
#define CHANGELIST 0
#else
#define CHANGELIST EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST
#endif

struct loop_sig {
	struct list node;
	struct event *ev;
	loop_cb *cb;
	void *arg;
};

struct loop {
	struct event_base *base;
	struct event *turn;  /* fires in the next turn if there are calls */
	struct list calls;   /* for the next turn */
	struct list running; /* of this turn, not yet run */
	struct list sigs;

	pthread_mutex_t mutex; /* posted, taken and pending of the calls in them */
	struct list posted;
	struct list taken; /* posted ones of this turn, not yet run */
	struct event *wake;
	int wakefd;

	unsigned tick_us; /* of libevent's coarse clock */
	bool inside, stop;
};

static void
splice(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

static void
turn_soon(struct loop *l)
{
	static const struct timeval now = {0, 0};

	/* A zero timer, not event_active: an event that activates itself is run again before descriptors are looked at.
	 */
	if (!event_pending(l->turn, EV_TIMEOUT, NULL))
		ASSERT(event_add(l->turn, &now) == 0);
}

static void
on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct loop *l = arg;

	(void)fd;
	(void)what;
	splice(&l->running, &l->calls);
	while (!list_empty(&l->running) && !l->stop) {
		struct loop_call *c = LIST_FIRST(&l->running, struct loop_call, node);

		list_del(&c->node);
		c->pending = false;
		c->cb(c->arg);
	}
	if (!list_empty(&l->running) || !list_empty(&l->calls))
		turn_soon(l);
}

static struct loop_call *
next_posted(struct loop *l)
{
	struct loop_call *c;

	pthread_mutex_lock(&l->mutex);
	c = LIST_FIRST(&l->taken, struct loop_call, node);
	if (c != NULL) {
		list_del(&c->node);
		c->pending = false;
	}
	pthread_mutex_unlock(&l->mutex);
	return c;
}

static void
wake(struct loop *l)
{
	uint64_t one = 1;

	/* EAGAIN: the counter is full, so the loop is about to wake anyway. */
	while (write(l->wakefd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct loop *l = arg;
	struct loop_call *c;
	uint64_t n;

	(void)what;
	while (read(fd, &n, sizeof n) < 0 && errno == EINTR)
		;
	pthread_mutex_lock(&l->mutex);
	splice(&l->taken, &l->posted);
	pthread_mutex_unlock(&l->mutex);
	while (!l->stop && (c = next_posted(l)) != NULL)
		c->cb(c->arg);
	if (l->stop)
		wake(l); /* the rest waits for the next run */
}

struct loop *
loop_new(void)
{
	struct loop *l = mem_zalloc(sizeof *l);
	struct event_config *cfg = event_config_new();
	struct timespec res;

	signal(SIGPIPE, SIG_IGN);
	list_init(&l->calls);
	list_init(&l->running);
	list_init(&l->sigs);
	list_init(&l->posted);
	list_init(&l->taken);
	ASSERT(pthread_mutex_init(&l->mutex, NULL) == 0);
	ASSERT(cfg != NULL);
	event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV | CHANGELIST);
	l->base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	ASSERT(l->base != NULL);
	l->wakefd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ASSERT(l->wakefd >= 0);
	l->turn = event_new(l->base, -1, 0, on_turn, l);
	l->wake = event_new(l->base, l->wakefd, EV_READ | EV_PERSIST, on_wake, l);
	ASSERT(l->turn != NULL && l->wake != NULL && event_add(l->wake, NULL) == 0);
	if (clock_getres(CLOCK_MONOTONIC_COARSE, &res) == 0)
		l->tick_us = (unsigned)(res.tv_nsec / 1000);
	return l;
}

static void
forget(struct list *calls)
{
	struct list *it, *nxt;

	LIST_FOREACH(it, nxt, calls)
	{
		LIST_ENTRY(it, struct loop_call, node)->pending = false;
		list_del(it);
	}
}

void
loop_free(struct loop **lp)
{
	struct loop *l = *lp;
	struct list *it, *nxt;

	if (l == NULL)
		return;
	*lp = NULL;
	ASSERT(!l->inside);
	forget(&l->calls);
	forget(&l->running);
	forget(&l->posted);
	forget(&l->taken);
	LIST_FOREACH(it, nxt, &l->sigs)
	{
		struct loop_sig *s = LIST_ENTRY(it, struct loop_sig, node);

		list_del(it);
		event_free(s->ev);
		mem_free(s);
	}
	event_free(l->turn);
	event_free(l->wake);
	event_base_free(l->base);
	close(l->wakefd);
	pthread_mutex_destroy(&l->mutex);
	mem_free(l);
}

struct event_base *
loop_base(struct loop *l)
{
	return l->base;
}

void
loop_run(struct loop *l)
{
	ASSERT(!l->inside);
	l->inside = true;
	if (!l->stop)
		ASSERT(event_base_loop(l->base, EVLOOP_NO_EXIT_ON_EMPTY) == 0);
	l->inside = l->stop = false;
}

void
loop_stop(struct loop *l)
{
	l->stop = true;
	event_base_loopbreak(l->base);
}

static void
set_true(void *arg)
{
	*(bool *)arg = true;
}

bool
loop_run_until(struct loop *l, const bool *flag, uint64_t ms)
{
	struct loop_timer t;
	bool late = false;

	ASSERT(!l->inside);
	l->inside = true;
	loop_timer_init(&t, l, set_true, &late);
	loop_timer_set(&t, ms);
	while (!*flag && !late && !l->stop)
		ASSERT(event_base_loop(l->base, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY) == 0);
	loop_timer_fini(&t);
	l->inside = l->stop = false;
	return *flag;
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct loop_timer *t = arg;

	(void)fd;
	(void)what;
	t->cb(t->arg);
}

void
loop_timer_init(struct loop_timer *t, struct loop *l, loop_cb *cb, void *arg)
{
	*t = (struct loop_timer){.loop = l, .cb = cb, .arg = arg};
}

void
loop_timer_set(struct loop_timer *t, uint64_t ms)
{
	struct timeval tv = {0, 0};

	if (t->ev == NULL) {
		t->ev = event_new(t->loop->base, -1, 0, on_timer, t);
		ASSERT(t->ev != NULL);
	}
	if (ms > 0) {
		uint64_t us;

		/* A century is for ever. libevent reckons with a time it read when this turn began, off a coarse clock:
		 * read it again and add a tick, so that no timer is early. */
		if (ms > UINT64_C(3155760000000))
			ms = UINT64_C(3155760000000);
		us = ms * 1000 + t->loop->tick_us;
		tv.tv_sec = (time_t)(us / 1000000);
		tv.tv_usec = (suseconds_t)(us % 1000000);
		event_base_update_cache_time(t->loop->base);
	}
	ASSERT(event_add(t->ev, &tv) == 0);
}

void
loop_timer_cancel(struct loop_timer *t)
{
	if (t->ev != NULL)
		event_del(t->ev);
}

bool
loop_timer_pending(const struct loop_timer *t)
{
	return t->ev != NULL && event_pending(t->ev, EV_TIMEOUT, NULL) != 0;
}

void
loop_timer_fini(struct loop_timer *t)
{
	if (t->ev != NULL)
		event_free(t->ev);
	t->ev = NULL;
}

void
loop_call_init(struct loop_call *c, struct loop *l, loop_cb *cb, void *arg)
{
	*c = (struct loop_call){.loop = l, .cb = cb, .arg = arg};
	list_init(&c->node);
}

void
loop_call_soon(struct loop_call *c)
{
	if (c->pending)
		return;
	c->pending = true;
	list_add_tail(&c->loop->calls, &c->node);
	turn_soon(c->loop);
}

void
loop_call_cancel(struct loop_call *c)
{
	/* The mutex is for a posted one that its owner withdraws. */
	pthread_mutex_lock(&c->loop->mutex);
	if (c->pending) {
		list_del(&c->node);
		c->pending = false;
	}
	pthread_mutex_unlock(&c->loop->mutex);
}

void
loop_post(struct loop_call *c)
{
	struct loop *l = c->loop;
	bool first = false;

	pthread_mutex_lock(&l->mutex);
	if (!c->pending) {
		c->pending = true;
		first = list_empty(&l->posted);
		list_add_tail(&l->posted, &c->node);
	}
	/* Inside: a write outside could come when the loop has run the call already and is gone. */
	if (first)
		wake(l);
	pthread_mutex_unlock(&l->mutex);
}

static void
on_rd(evutil_socket_t fd, short what, void *arg)
{
	struct loop_fd *f = arg;

	(void)fd;
	(void)what;
	f->cb(f->arg, LOOP_READ);
}

static void
on_wr(evutil_socket_t fd, short what, void *arg)
{
	struct loop_fd *f = arg;

	(void)fd;
	(void)what;
	f->cb(f->arg, LOOP_WRITE);
}

void
loop_fd_init(struct loop_fd *f, struct loop *l, int fd, void (*cb)(void *arg, int what), void *arg)
{
	ASSERT(fd >= 0);
	*f = (struct loop_fd){.loop = l, .cb = cb, .arg = arg, .fd = fd};
}

static void
watch(struct loop_fd *f, struct event **ev, bool on, short what, event_callback_fn cb)
{
	if (*ev == NULL) {
		if (!on)
			return;
		*ev = event_new(f->loop->base, f->fd, (short)(what | EV_PERSIST), cb, f);
		ASSERT(*ev != NULL);
	}
	if (on)
		ASSERT(event_add(*ev, NULL) == 0);
	else
		event_del(*ev);
}

void
loop_fd_want(struct loop_fd *f, int what)
{
	int change = f->want ^ what;

	if (change & LOOP_READ)
		watch(f, &f->rd, (what & LOOP_READ) != 0, EV_READ, on_rd);
	if (change & LOOP_WRITE)
		watch(f, &f->wr, (what & LOOP_WRITE) != 0, EV_WRITE, on_wr);
	f->want = what;
}

void
loop_fd_fini(struct loop_fd *f)
{
	if (f->rd != NULL)
		event_free(f->rd);
	if (f->wr != NULL)
		event_free(f->wr);
	f->rd = f->wr = NULL;
	f->want = 0;
}

static void
on_signal(evutil_socket_t fd, short what, void *arg)
{
	struct loop_sig *s = arg;

	(void)fd;
	(void)what;
	s->cb(s->arg);
}

void
loop_signal(struct loop *l, int signo, loop_cb *cb, void *arg)
{
	struct loop_sig *s = mem_zalloc(sizeof *s);

	s->cb = cb;
	s->arg = arg;
	s->ev = event_new(l->base, signo, EV_SIGNAL | EV_PERSIST, on_signal, s);
	ASSERT(s->ev != NULL && event_add(s->ev, NULL) == 0);
	list_add_tail(&l->sigs, &s->node);
}
