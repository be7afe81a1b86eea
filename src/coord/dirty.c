#include "coord/dirty.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "coord/dirty_int.h"

struct event {
	struct list node;
	bool owed;
	uint64_t gen;
	size_t klen;
	char key[];
};

/* The table. */

struct dirty_entry *
dirty_entry(struct dirty *d, const char *key, size_t klen)
{
	struct dirty_entry *e = map_get(d->entries, key, klen);

	if (e != NULL)
		return e;
	e = mem_zalloc(sizeof *e + klen);
	list_init(&e->todo);
	e->klen = klen;
	memcpy(e->key, key, klen);
	map_set(d->entries, key, klen, e);
	metrics_set(METRIC_MARKS, NULL, (int64_t)map_count(d->entries));
	return e;
}

void
dirty_entry_drop(struct dirty *d, struct dirty_entry *e)
{
	if (e->m.gen > 0 || e->open > 0 || e->notices > 0 || e->calls > 0)
		return;
	list_del(&e->todo);
	map_del(d->entries, e->key, e->klen);
	mem_free(e);
	metrics_set(METRIC_MARKS, NULL, (int64_t)map_count(d->entries));
}

void
dirty_entry_mark(struct dirty *d, struct dirty_entry *e, const struct mark *m)
{
	d->owed -= e->m.gen > 0 && e->m.side == MARK_R2;
	e->m = *m;
	d->owed += e->m.gen > 0 && e->m.side == MARK_R2;
	metrics_set(METRIC_OWED, NULL, (int64_t)d->owed);
}

void
dirty_saw_gen(struct dirty *d, uint64_t gen)
{
	if (gen <= d->last_gen)
		return;
	d->last_gen = gen;
	if (d->cluster != NULL)
		cluster_know(d->cluster, 0, gen);
}

uint64_t
dirty_next_gen(struct dirty *d)
{
	uint64_t now = clock_real_us();

	dirty_saw_gen(d, now > d->last_gen ? now : d->last_gen + 1);
	return d->last_gen;
}

/* The owner's callbacks run in a turn of their own. */

static void
event_add(struct dirty *d, const struct dirty_entry *e, bool owed, uint64_t gen)
{
	struct event *v = mem_zalloc(sizeof *v + e->klen);

	v->owed = owed;
	v->gen = gen;
	v->klen = e->klen;
	memcpy(v->key, e->key, e->klen);
	list_add_tail(&d->events, &v->node);
	loop_call_soon(&d->tell);
}

void
dirty_event_owed(struct dirty *d, const struct dirty_entry *e)
{
	event_add(d, e, true, 0);
}

static void
on_tell(void *arg)
{
	struct dirty *d = arg;
	struct event *v = LIST_FIRST(&d->events, struct event, node);

	/* One a turn: the callback may close us. */
	if (v == NULL)
		return;
	list_del(&v->node);
	if (!list_empty(&d->events))
		loop_call_soon(&d->tell);
	if (v->owed)
		d->cb.owed(d->arg, v->key, v->klen);
	else
		d->cb.cleared(d->arg, v->key, v->klen, v->gen);
	mem_free(v);
}

void
dirty_entry_cleared(struct dirty *d, struct dirty_entry *e, uint64_t gen)
{
	/* Our own gen is not settled yet: the last answer decides. */
	if (e->calls > 0 || e->untold) {
		if (gen > e->cleared)
			e->cleared = gen;
		return;
	}
	if (e->m.gen == 0 || e->m.gen > gen)
		return;
	if (e->own)
		journal_append_lazy(d->journal, &(struct journal_rec){ .kind = JOURNAL_CLEAR, .gen = e->m.gen, .key = e->key, .klen = e->klen });
	event_add(d, e, false, e->m.gen);
	dirty_entry_mark(d, e, &(struct mark){ .gen = 0 });
	e->own = e->again = e->owed = e->unknown = false;
	e->cleared = 0;
	list_del(&e->todo);
	dirty_entry_drop(d, e);
}

/* A write of ours ended: the own copy moves. */
static void
moved(struct dirty *d, struct dirty_entry *e, struct mark_write w)
{
	struct mark m = { .gen = dirty_next_gen(d), .side = w.side, .op = w.op, .base = w.base, .epoch = d->epoch,
		.since_ms = e->m.gen == 0 ? clock_real_ms() : e->m.since_ms };

	/* A tombstone is of a delete that was seen; a look at the file may be older. A file that is there is put in any case. */
	if (e->m.gen > 0 && e->m.side == MARK_LOCAL && e->m.op == MARK_DELETE && w.side == MARK_LOCAL)
		m.op = MARK_DELETE;
	dirty_entry_mark(d, e, &m);
	e->own = e->untold = true;
	e->unknown = e->leased = false;
	e->writes++;
	e->cleared = 0;
}

static void
moved_leased(struct dirty *d, struct dirty_entry *e, struct mark_write w, const struct lease *l)
{
	if (l != NULL)
		dirty_saw_gen(d, l->seen.gen);
	moved(d, e, w);
	e->leased = l != NULL;
}

void
dirty_entry_moved_unknown(struct dirty *d, struct dirty_entry *e, struct mark_write w)
{
	if (e->m.gen > 0) {
		w.side = e->m.side;
		w.base = e->m.base;
		w.op = w.op == MARK_DELETE ? MARK_DELETE : e->m.op;
	} else {
		w.base.unconfirmed = w.side == MARK_R2;
	}
	moved(d, e, w);
	e->unknown = true;
}

/* Intents. */

static void
intent_free(struct dirty_intent *i)
{
	list_del(&i->node);
	mem_free(i);
}

static void
on_intent_written(void *arg, enum err e)
{
	struct dirty_intent *i = arg;

	i->writing = false;
	i->durable = e == ERR_OK;
	if (i->ended) {
		struct wait *heir = i->heir;

		intent_free(i);
		if (heir != NULL)
			dirty_wait_written(heir, e);
	} else if (i->done != NULL) {
		i->done(i->arg, e);
	}
}

static struct dirty_intent *
intent_new(struct dirty *d, struct mark_write w, dirty_done *done, void *arg)
{
	struct dirty_intent *i = mem_zalloc(sizeof *i);

	*i = (struct dirty_intent){ .d = d, .id = ++d->next_id, .w = w, .done = done, .arg = arg, .writing = true };
	list_add_tail(&d->intents, &i->node);
	return i;
}

struct dirty_intent *
dirty_intent(struct dirty *d, const char *key, size_t klen, struct mark_write w, dirty_done *done, void *arg)
{
	struct dirty_intent *i = intent_new(d, w, done, arg);

	d->open++;
	metrics_add(METRIC_INTENTS, NULL, 1);
	metrics_set(METRIC_INTENTS_OPEN, NULL, (int64_t)d->open);
	if (key != NULL) {
		i->e = dirty_entry(d, key, klen);
		i->e->open++;
		i->e->open_write = w;
		if (d->up)
			marks_intent(d->cluster, i->id, key, klen, w, d->deadline_ms, NULL, NULL);
	}
	dirty_journal_intent(d, i, on_intent_written, i);
	return i;
}

struct dirty_intent *
dirty_notice(struct dirty *d, const char *key, size_t klen, enum mark_op op)
{
	struct dirty_intent *i = intent_new(d, MARK_DISK(op), NULL, NULL);

	i->notice = true;
	i->e = dirty_entry(d, key, klen);
	i->e->notices++;
	dirty_journal_intent(d, i, on_intent_written, i);
	return i;
}

static void
intent_end(struct dirty_intent **ip)
{
	struct dirty_intent *i = *ip;
	struct dirty *d = i->d;

	*ip = NULL;
	if (i->notice) {
		i->e->notices--;
	} else {
		d->open--;
		metrics_set(METRIC_INTENTS_OPEN, NULL, (int64_t)d->open);
		if (i->e != NULL)
			i->e->open--;
	}
	i->ended = true;
	if (!i->writing)
		intent_free(i);
}

void
dirty_abandon(struct dirty *d, struct dirty_intent **ip)
{
	struct dirty_entry *e = (*ip)->e;
	uint64_t id = (*ip)->id;
	bool notice = (*ip)->notice;

	journal_append_lazy(d->journal, &(struct journal_rec){ .kind = JOURNAL_ABANDON, .id = id });
	intent_end(ip);
	if (e == NULL)
		return;
	if (!notice) {
		dirty_close_later(d, id);
		if (d->up)
			dirty_announce(d);
	}
	dirty_entry_drop(d, e);
}

/* Is the intent's record on disk, or on its way? Then it can say what became of the write: its replay leaves a mark. */
static bool
is_written(const struct dirty_intent *i)
{
	return i->durable || i->writing;
}

void
dirty_confirm(struct dirty *d, struct dirty_intent **ip, struct mark_write how, const struct lease *l, dirty_done *done, void *arg)
{
	struct dirty_intent *i = *ip;
	struct dirty_entry *e = i->e;
	/* Unknown outcome and a put to the disk end alike. A write to R2 must be told from one that nobody confirmed. */
	bool covers = is_written(i) && i->w.op == how.op && how.side == MARK_LOCAL && i->w.side == MARK_LOCAL;

	if (e != NULL) {
		moved_leased(d, e, how, l);
		dirty_wait(d, e, i, l, covers, done, arg);
		intent_end(ip);
		return;
	}
	/* An upload's keys were marked by themselves. */
	journal_append_lazy(d->journal, &(struct journal_rec){ .kind = JOURNAL_ABANDON, .id = i->id });
	intent_end(ip);
	dirty_wait_none(d, done, arg);
}

void
dirty_unknown(struct dirty *d, struct dirty_intent **ip, dirty_done *done, void *arg)
{
	struct dirty_intent *i = *ip;
	struct dirty_entry *e = i->e;

	if (e == NULL) {
		dirty_confirm(d, ip, i->w, NULL, done, arg);
		return;
	}
	dirty_entry_moved_unknown(d, e, i->w);
	dirty_wait(d, e, i, NULL, is_written(i), done, arg);
	intent_end(ip);
}

void
dirty_mark(struct dirty *d, const char *key, size_t klen, enum mark_op op, const struct lease *l, dirty_done *done, void *arg)
{
	struct dirty_entry *e = dirty_entry(d, key, klen);

	moved_leased(d, e, MARK_DISK(op), l);
	dirty_wait(d, e, NULL, l, false, done, arg);
}

void
dirty_cleared(struct dirty *d, const char *key, size_t klen, uint64_t gen)
{
	struct dirty_entry *e = map_get(d->entries, key, klen);

	if (e != NULL)
		dirty_entry_cleared(d, e, gen);
}

static void
tell_intents(struct dirty *d)
{
	struct list *it, *nxt;

	LIST_FOREACH(it, nxt, &d->intents) {
		const struct dirty_intent *i = LIST_ENTRY(it, struct dirty_intent, node);

		if (i->e != NULL && !i->notice && !i->ended)
			marks_intent(d->cluster, i->id, i->e->key, i->e->klen, i->w, d->deadline_ms, NULL, NULL);
	}
}

/* A write that takes longer than its deadline lives on as long as we do. */
static void
on_renew(void *arg)
{
	struct dirty *d = arg;

	loop_timer_set(&d->renew, d->deadline_ms / 3);
	if (d->up)
		tell_intents(d);
}

void
dirty_up(struct dirty *d, bool fresh)
{
	size_t pos = 0, len;
	const void *key;
	void *value;

	ASSERT(d->cluster != NULL);
	d->up = true;
	if (d->epoch != cluster_epoch(d->cluster)) {
		d->epoch = cluster_epoch(d->cluster);
		dirty_journal_phase(d);
	}
	/* Also after a mere reconnect: what was told in between was lost. */
	tell_intents(d);
	if (fresh) {
		d->synced = false;
		while (map_next(d->entries, &pos, &key, &len, &value)) {
			struct dirty_entry *e = value;

			if (e->m.gen == 0)
				continue;
			e->again = true;
			e->owed = e->owed || e->own;
			dirty_announce_later(d, e);
		}
	}
	dirty_announce(d);
}

void
dirty_down(struct dirty *d)
{
	d->up = false;
	loop_timer_cancel(&d->retry);
	dirty_follow_stop(d);
}

/* The rest. */

enum err
dirty_open(struct dirty **dp, struct loop *l, const struct conf *c, const struct dirty_cb *cb, void *arg, struct errbuf *eb)
{
	struct dirty *d = mem_zalloc(sizeof *d);
	enum err e;

	d->loop = l;
	d->cb = *cb;
	d->arg = arg;
	d->phase = -1;
	d->deadline_ms = c->intent_deadline;
	d->write_wait_ms = c->write_wait;
	d->entries = map_new();
	list_init(&d->intents);
	dirty_wait_init(d);
	list_init(&d->events);
	loop_call_init(&d->tell, l, on_tell, d);
	loop_timer_init(&d->renew, l, on_renew, d);
	dirty_announce_init(d);
	dirty_follow_init(d);
	e = dirty_journal_open(d, c->state_dir, eb);
	if (e != ERR_OK) {
		dirty_close(&d);
		*dp = NULL;
		return e;
	}
	if (map_count(d->entries) > 0)
		log_info("dirty", "%zu marks from the journal", map_count(d->entries));
	loop_timer_set(&d->renew, d->deadline_ms / 3);
	*dp = d;
	return ERR_OK;
}

void
dirty_bind(struct dirty *d, struct cluster *c)
{
	ASSERT(d->cluster == NULL);
	d->cluster = c;
	cluster_must_announce(c);
	cluster_know(c, d->epoch, d->last_gen);
	dirty_follow_bind(d);
}

static void
free_values(struct map **m)
{
	size_t pos = 0, len;
	const void *key;
	void *value;

	if (*m == NULL)
		return;
	while (map_next(*m, &pos, &key, &len, &value))
		mem_free(value);
	map_free(m);
}

static void
free_nodes(struct list *l, size_t offset)
{
	while (!list_empty(l)) {
		struct list *n = l->next;

		list_del(n);
		mem_free((char *)n - offset);
	}
}

void
dirty_close(struct dirty **dp)
{
	struct dirty *d = *dp;

	if (d == NULL)
		return;
	*dp = NULL;
	dirty_follow_fini(d);
	dirty_announce_fini(d);
	loop_timer_fini(&d->renew);
	loop_call_cancel(&d->tell);
	journal_close(&d->journal);
	free_nodes(&d->intents, offsetof(struct dirty_intent, node));
	dirty_wait_fini(d);
	free_nodes(&d->events, offsetof(struct event, node));
	free_values(&d->replayed);
	free_values(&d->entries);
	mem_free(d);
}

bool
dirty_get(const struct dirty *d, const char *key, size_t klen, struct mark *m)
{
	const struct dirty_entry *e = map_get(d->entries, key, klen);

	if (e == NULL || (e->m.gen == 0 && e->open == 0))
		return false;
	*m = e->m;
	if (e->m.gen == 0)
		*m = (struct mark){ .side = e->open_write.side, .op = e->open_write.op, .base = e->open_write.base, .epoch = d->epoch };
	return true;
}

bool
dirty_uncertain(const struct dirty *d)
{
	return d->follow != DIRTY_READING || !d->caught_up;
}

size_t
dirty_count(const struct dirty *d)
{
	return map_count(d->entries);
}

size_t
dirty_owed(const struct dirty *d)
{
	return d->owed;
}

void
dirty_each_owed(const struct dirty *d, void (*each)(void *arg, const char *key, size_t klen, const struct mark *m), void *arg)
{
	size_t pos = 0, klen;
	const void *key;
	void *val;

	while (d->owed > 0 && map_next(d->entries, &pos, &key, &klen, &val)) {
		const struct dirty_entry *e = val;

		if (e->m.gen != 0 && e->m.side == MARK_R2)
			each(arg, e->key, e->klen, &e->m);
	}
}

size_t
dirty_own(const struct dirty *d)
{
	size_t pos = 0, len, n = 0;
	const void *key;
	void *value;

	while (map_next(d->entries, &pos, &key, &len, &value))
		n += ((const struct dirty_entry *)value)->own;
	return n;
}

size_t
dirty_open_intents(const struct dirty *d)
{
	return d->open;
}

enum err
dirty_journal_state(const struct dirty *d)
{
	return journal_state(d->journal);
}

void
dirty_set_clean(struct dirty *d, uint64_t time_ms)
{
	d->clean_ms = time_ms;
	journal_append_lazy(d->journal, &(struct journal_rec){ .kind = JOURNAL_CLEAN, .time_ms = time_ms });
}

uint64_t
dirty_clean(const struct dirty *d)
{
	return d->clean_ms;
}

void
dirty_set_write_wait(struct dirty *d, uint64_t ms)
{
	d->write_wait_ms = ms;
}

bool
dirty_armed(const struct dirty *d)
{
	return d->armed;
}

void
dirty_set_armed(struct dirty *d, bool armed, dirty_done *done, void *arg)
{
	d->armed = armed;
	journal_append(d->journal, &(struct journal_rec){ .kind = JOURNAL_ARMED, .op = armed }, done, arg);
}

int
dirty_last_phase(const struct dirty *d)
{
	return d->phase;
}

void
dirty_set_phase(struct dirty *d, int phase)
{
	d->phase = phase;
	dirty_journal_phase(d);
}
