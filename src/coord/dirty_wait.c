#include "base/clock.h"
#include "base/mem.h"
#include "coord/dirty_int.h"

/*
 * An entry has moved: to the journal and to Redis. Who waits for it waits for the disk, if the intent's record does not say as much
 * already; what that leaves is an open intent, and its key is looked at. Redis is waited for where a write was made under a lease: the site
 * is armed, other proxies rely on its marks, and a lease may have been lost. Else they hear of the mark from its stream in any case.
 */

/* A confirmation on its way to the journal and to Redis. */
struct wait {
	struct list node;
	struct dirty *d;
	unsigned parts;
	enum err e;
	bool covered;		/* the intent's record says as much: the journal may fail now */
	struct loop_call call;	/* nothing is to be waited for any more: a part ends in a turn of its own */
	struct dirty_entry *late;	/* made under a lease, and Redis has not heard of it: told by the announcements, or too late */
	uint64_t writes;	/* of late */
	uint64_t until_mono_ms;	/* of its lease */
	struct loop_timer deadline;
	dirty_done *done;
	void *arg;
};

static void
wait_free(struct wait *w)
{
	loop_call_cancel(&w->call);
	loop_timer_fini(&w->deadline);
	mem_free(w);
}

static void
wait_part(struct wait *w)
{
	dirty_done *done = w->done;
	void *arg = w->arg;
	enum err e = w->e;

	if (--w->parts > 0)
		return;
	list_del(&w->node);
	wait_free(w);
	if (done != NULL)
		done(arg, e);
}

void
dirty_wait_written(struct wait *w, enum err e)
{
	if (e != ERR_OK && !w->covered)
		w->e = e;
	wait_part(w);
}

static void
on_mark_written(void *arg, enum err e)
{
	dirty_wait_written(arg, e);
}

static void
on_nothing(void *arg)
{
	wait_part(arg);
}

/* Redis has not been told in time, so that no other proxy can know: this write cannot be acknowledged. */
static void
on_deadline(void *arg)
{
	struct wait *w = arg;

	w->late = NULL;
	w->e = ERR_TIMEOUT;
	wait_part(w);
}

/* The announcements do not look at the lease. Once it is over, somebody else may have gone by what he saw before the write. */
static void
wait_for_redis(struct wait *w)
{
	uint64_t now = clock_mono_ms();
	uint64_t left = w->until_mono_ms > now ? w->until_mono_ms - now : 0;

	loop_timer_set(&w->deadline, left < w->d->write_wait_ms ? left : w->d->write_wait_ms);
}

static struct wait *
wait_new(struct dirty *d, dirty_done *done, void *arg)
{
	struct wait *w = mem_zalloc(sizeof *w);

	*w = (struct wait){ .d = d, .parts = 1, .done = done, .arg = arg };
	loop_call_init(&w->call, d->loop, on_nothing, w);
	loop_timer_init(&w->deadline, d->loop, on_deadline, w);
	list_add_tail(&d->waits, &w->node);
	return w;
}

static void
on_mark_told(void *arg, enum err e)
{
	struct wait *w = arg;

	/* Told again when Redis is back. But without the lease nobody knows what came after the write. */
	if (e != ERR_OK && e != ERR_LEASE_LOST) {
		wait_for_redis(w);
		return;
	}
	w->late = NULL;
	w->e = e != ERR_OK ? e : w->e;
	wait_part(w);
}

void
dirty_wait_told(struct dirty *d, const struct dirty_entry *e)
{
	struct list *it, *nxt;

	LIST_FOREACH(it, nxt, &d->waits) {
		struct wait *w = LIST_ENTRY(it, struct wait, node);

		if (w->late != e || w->writes > e->writes || !loop_timer_pending(&w->deadline) || clock_mono_ms() >= w->until_mono_ms)
			continue;
		w->late = NULL;
		loop_timer_cancel(&w->deadline);
		loop_call_soon(&w->call);
	}
}

void
dirty_wait(struct dirty *d, struct dirty_entry *e, struct dirty_intent *i, const struct lease *l, bool covers, dirty_done *done, void *arg)
{
	struct wait *w = wait_new(d, done, arg);
	uint64_t id = i != NULL ? i->id : 0;

	w->covered = covers && i->durable;
	if (covers && l == NULL) {
		dirty_journal_mark_lazy(d, e, id);
		if (i->durable)
			loop_call_soon(&w->call);
		else
			i->heir = w;
	} else {
		dirty_journal_mark(d, e, id, on_mark_written, w);
	}
	if (l != NULL) {
		w->parts++;
		w->late = e;
		w->writes = e->writes;
		w->until_mono_ms = l->until_mono_ms;
	}
	if (i != NULL && i->notice)
		id = 0;
	if (d->up) {
		dirty_tell(d, e, id, l, l != NULL ? on_mark_told : NULL, w);
	} else {
		if (l != NULL)
			wait_for_redis(w);
		dirty_announce_later(d, e);
		if (id != 0)
			dirty_close_later(d, id);
	}
}

void
dirty_wait_none(struct dirty *d, dirty_done *done, void *arg)
{
	loop_call_soon(&wait_new(d, done, arg)->call);
}

void
dirty_wait_init(struct dirty *d)
{
	list_init(&d->waits);
}

void
dirty_wait_fini(struct dirty *d)
{
	struct list *it, *nxt;

	LIST_FOREACH(it, nxt, &d->waits) {
		struct wait *w = LIST_ENTRY(it, struct wait, node);

		list_del(&w->node);
		wait_free(w);
	}
}
