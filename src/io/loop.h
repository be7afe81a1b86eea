/*
 * loop: one event loop of one thread (libevent). Timers, descriptors, signals, deferred calls, and posts from other
 * threads. The rule of all asynchronous calls here and above: `done` runs exactly once, never inside the call that
 * started it; after a cancel, never. A callback may cancel or free anything.
 * All functions belong to the loop's own thread but loop_post.
 */
#ifndef IO_LOOP_H
#define IO_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct loop;
struct event_base;
struct event;

typedef void loop_cb(void *arg);

struct loop *loop_new(void);
/* Everything set up on it must be gone, or embedded in memory that outlives it. Takes NULL, clears the pointer. */
void loop_free(struct loop **l);
struct event_base *loop_base(struct loop *l);
/* Runs until loop_stop; a stop before it began counts. Loops do not nest. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);
/* Runs until *flag is true, ms have passed, or loop_stop; true if *flag. For commands and tests that wait for one thing. */
bool loop_run_until(struct loop *l, const bool *flag, uint64_t ms);

/* A one-shot timer, embedded. Setting a set one moves it. Never early, late by some ms (the coarse clock's tick). */
struct loop_timer {
	struct loop *loop;
	struct event *ev;
	loop_cb *cb;
	void *arg;
};
void loop_timer_init(struct loop_timer *t, struct loop *l, loop_cb *cb, void *arg);
void loop_timer_set(struct loop_timer *t, uint64_t ms);
void loop_timer_cancel(struct loop_timer *t);
bool loop_timer_pending(const struct loop_timer *t);
void loop_timer_fini(struct loop_timer *t);

/* A call in the loop's next turn, embedded. Deferring a pending one does nothing. */
struct loop_call {
	struct list node;
	struct loop *loop;
	loop_cb *cb;
	void *arg;
	bool pending;
};
void loop_call_init(struct loop_call *c, struct loop *l, loop_cb *cb, void *arg);
void loop_call_soon(struct loop_call *c);
void loop_call_cancel(struct loop_call *c);
/* The same from any thread. c must live until cb has run; the loop's thread may cancel it once no other can post it. */
void loop_post(struct loop_call *c);

enum { LOOP_READ = 1, LOOP_WRITE = 2 };
/* A watched descriptor, embedded. Level triggered, stays on until changed. */
struct loop_fd {
	struct loop *loop;
	struct event *rd, *wr;
	void (*cb)(void *arg, int what);
	void *arg;
	int fd;
	int want;
};
void loop_fd_init(struct loop_fd *f, struct loop *l, int fd, void (*cb)(void *arg, int what), void *arg);
void loop_fd_want(struct loop_fd *f, int what);
/* Stops watching; does not close the descriptor: close it after this, never before. */
void loop_fd_fini(struct loop_fd *f);

/* A signal handler that runs on the loop; lives as long as the loop. */
void loop_signal(struct loop *l, int signo, loop_cb *cb, void *arg);

#endif
