#include <string.h>

#include "base/mem.h"
#include "coord/dirty_int.h"

enum {
	AT_ONCE = 64,		/* announcements on their way */
	RETRY_MS = 500
};

/* One call to Redis: about an entry, which stays as long as calls are out, or to close an intent (e NULL). */
struct telling {
	struct list node;
	struct dirty *d;
	struct dirty_entry *e;
	struct cluster_call *call;
	uint64_t intent, writes;
	bool pumped;		/* counts in dirty.calls */
	dirty_done *done;
	void *arg;
};

void
dirty_announce_later(struct dirty *d, struct dirty_entry *e)
{
	if (list_empty(&e->todo))
		list_add_tail(&d->todo, &e->todo);
}

void
dirty_close_later(struct dirty *d, uint64_t intent)
{
	if (d->nclosing == d->closing_cap) {
		d->closing_cap = d->closing_cap > 0 ? 2 * d->closing_cap : 16;
		d->closing = mem_realloc(d->closing, d->closing_cap * sizeof *d->closing);
	}
	d->closing[d->nclosing++] = intent;
}

static struct telling *
telling(struct dirty *d, struct dirty_entry *e, uint64_t intent, bool pumped)
{
	struct telling *t = mem_zalloc(sizeof *t);

	t->d = d;
	t->e = e;
	t->intent = intent;
	t->pumped = pumped;
	d->calls += pumped;
	if (e != NULL) {
		t->writes = e->writes;
		e->calls++;
	}
	list_add_tail(&d->tellings, &t->node);
	return t;
}

/* Redis has this mark for the key, and it covers every write of ours. */
static void
settle(struct dirty *d, struct dirty_entry *e, const struct mark *m)
{
	uint64_t since = e->m.since_ms, cleared = e->cleared;

	dirty_entry_mark(d, e, m);
	if (since != 0 && since < m->since_ms)
		e->m.since_ms = since;
	e->untold = e->again = e->unknown = false;
	dirty_wait_told(d, e);
	e->round = d->round;
	e->cleared = 0;
	list_del(&e->todo);
	if (e->owed && e->own)
		dirty_event_owed(d, e);
	e->owed = false;
	if (cleared > 0)
		dirty_entry_cleared(d, e, cleared);
}

static void
retry_later(struct dirty *d)
{
	if (d->up && !loop_timer_pending(&d->retry))
		loop_timer_set(&d->retry, RETRY_MS);
}

static void
end_telling(struct telling *t, enum err e)
{
	struct dirty *d = t->d;
	dirty_done *done = t->done;
	void *arg = t->arg;
	bool ok = e == ERR_OK;

	d->calls -= t->pumped;
	if (!ok && t->intent != 0)
		dirty_close_later(d, t->intent);
	list_del(&t->node);
	mem_free(t);
	if (ok)
		dirty_announce(d);
	else
		retry_later(d);
	/* Last: it may close us. */
	if (done != NULL)
		done(arg, e);
}

static void
on_told(void *arg, enum err err, const struct mark *m)
{
	struct telling *t = arg;
	struct dirty_entry *e = t->e;
	struct dirty *d = t->d;
	bool ok;

	if (err == ERR_OK && m->gen == 0)
		err = ERR_PROTO;
	ok = err == ERR_OK;
	e->calls--;
	if (ok)
		dirty_saw_gen(d, m->gen);
	/* Another may hold the key by now, and may have written: who lost the lease knows nothing of the order. */
	if (err == ERR_LEASE_LOST && t->writes == e->writes)
		e->unknown = true;
	/* An answer about an older write settles nothing, and neither does one while another is out. */
	if (ok && e->calls == 0 && t->writes == e->writes)
		settle(d, e, m);
	else if (e->calls == 0 && (e->untold || e->again))
		dirty_announce_later(d, e);
	end_telling(t, err);
}

static void
on_closed(void *arg, enum err e)
{
	end_telling(arg, e);
}

/* What the entry's mark says of the write. */
static struct mark_write
entry_write(const struct dirty_entry *e)
{
	struct mark_write w = { .op = e->m.op, .side = e->m.side, .base = e->m.base };

	w.base.unconfirmed = false;	/* the script says so, where it is */
	return w;
}

void
dirty_tell(struct dirty *d, struct dirty_entry *e, uint64_t intent, const struct lease *l, dirty_done *done, void *arg)
{
	struct telling *t = telling(d, e, intent, false);

	t->done = done;
	t->arg = arg;
	/* Given in an older epoch, and not ended: nobody has had the key since, and the script that would drop it does not know it. */
	if (!e->unknown && l != NULL && l->epoch != cluster_epoch(d->cluster)) {
		t->call = marks_announce(d->cluster, e->key, e->klen, &e->m, on_told, t);
		if (intent != 0)
			dirty_close_later(d, intent);
		t->intent = 0;
		return;
	}
	if (e->unknown)
		t->call = marks_set_unknown(d->cluster, intent, e->key, e->klen, entry_write(e), on_told, t);
	else
		t->call = marks_set(d->cluster, intent, e->key, e->klen, entry_write(e), MARKS_DUE_MS, l, on_told, t);
}

static void
announce_one(struct dirty *d, struct dirty_entry *e)
{
	struct telling *t = telling(d, e, 0, true);

	/* What Redis never knew gets a new gen there: a reconcile that began before must not clear it. But for a write that was made under the
	 * key's lease: whoever had the key after us may have written it, and then our gen is the older one. */
	if (e->untold && e->unknown)
		t->call = marks_set_unknown(d->cluster, 0, e->key, e->klen, entry_write(e), on_told, t);
	else if (e->untold && !e->leased)
		t->call = marks_set(d->cluster, 0, e->key, e->klen, entry_write(e), MARKS_DUE_MS, NULL, on_told, t);
	else
		t->call = marks_announce(d->cluster, e->key, e->klen, &e->m, on_told, t);
}

void
dirty_announce(struct dirty *d)
{
	if (!d->up || loop_timer_pending(&d->retry))
		return;
	while (d->nclosing > 0 && d->calls < AT_ONCE) {
		struct telling *t = telling(d, NULL, d->closing[--d->nclosing], true);

		t->call = marks_abandon(d->cluster, t->intent, on_closed, t);
	}
	while (!list_empty(&d->todo) && d->calls < AT_ONCE) {
		struct dirty_entry *e = LIST_FIRST(&d->todo, struct dirty_entry, todo);

		list_del(&e->todo);
		if (e->calls == 0 && (e->untold || e->again))
			announce_one(d, e);
	}
	if (d->calls > 0 || d->nclosing > 0 || !list_empty(&d->todo))
		return;
	cluster_announced(d->cluster);
	dirty_follow_start(d);
}

static void
on_retry(void *arg)
{
	dirty_announce(arg);
}

void
dirty_announce_init(struct dirty *d)
{
	list_init(&d->todo);
	list_init(&d->tellings);
	loop_timer_init(&d->retry, d->loop, on_retry, d);
}

void
dirty_announce_fini(struct dirty *d)
{
	while (!list_empty(&d->tellings)) {
		struct telling *t = LIST_FIRST(&d->tellings, struct telling, node);

		cluster_cancel(&t->call);
		list_del(&t->node);
		mem_free(t);
	}
	loop_timer_fini(&d->retry);
	mem_free(d->closing);
}
