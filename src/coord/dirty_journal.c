#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "coord/dirty_int.h"

enum { NO_PHASE = 255 };

/* What goes into it: the records of marks and intents, with the text of an R2-first write's base in buf. */

static struct journal_rec
mark_rec(const struct dirty_entry *e, uint64_t id, char buf[MARK_BASE_MAX])
{
	struct journal_rec r = { .kind = JOURNAL_MARK, .op = (uint8_t)e->m.op, .id = id, .gen = e->m.gen, .time_ms = e->m.since_ms, .key = e->key,
		.klen = e->klen };

	if (e->m.side == MARK_R2) {
		r.base = marks_base_text(&e->m.base, buf);
		r.blen = strlen(buf);
	}
	return r;
}

static struct journal_rec
intent_rec(const struct dirty_intent *i, char buf[MARK_BASE_MAX])
{
	struct journal_rec r = { .kind = JOURNAL_INTENT, .op = (uint8_t)i->w.op, .id = i->id };

	if (i->e != NULL) {
		r.key = i->e->key;
		r.klen = i->e->klen;
	}
	if (i->w.side == MARK_R2) {
		r.base = marks_base_text(&i->w.base, buf);
		r.blen = strlen(buf);
	}
	return r;
}

static struct journal_rec
phase_rec(const struct dirty *d)
{
	return (struct journal_rec){ .kind = JOURNAL_PHASE, .op = d->phase < 0 ? NO_PHASE : (uint8_t)d->phase, .gen = d->epoch };
}

void
dirty_journal_intent(struct dirty *d, const struct dirty_intent *i, journal_done *done, void *arg)
{
	char buf[MARK_BASE_MAX];
	struct journal_rec r = intent_rec(i, buf);

	r.time_ms = clock_real_ms();
	journal_append(d->journal, &r, done, arg);
}

void
dirty_journal_mark(struct dirty *d, const struct dirty_entry *e, uint64_t id, journal_done *done, void *arg)
{
	char buf[MARK_BASE_MAX];
	struct journal_rec r = mark_rec(e, id, buf);

	journal_append(d->journal, &r, done, arg);
}

void
dirty_journal_mark_lazy(struct dirty *d, const struct dirty_entry *e, uint64_t id)
{
	char buf[MARK_BASE_MAX];
	struct journal_rec r = mark_rec(e, id, buf);

	journal_append_lazy(d->journal, &r);
}

void
dirty_journal_phase(struct dirty *d)
{
	struct journal_rec r = phase_rec(d);

	journal_append(d->journal, &r, NULL, NULL);
}

/* A new file wants only what still counts. */
static void
on_live(void *arg, void (*emit)(void *e, const struct journal_rec *r), void *to)
{
	struct dirty *d = arg;
	struct journal_rec r = phase_rec(d);
	struct list *it, *nxt;
	char buf[MARK_BASE_MAX];
	size_t pos = 0, len;
	const void *key;
	void *value;

	emit(to, &(struct journal_rec){ .kind = JOURNAL_ARMED, .op = d->armed });
	if (d->clean_ms > 0)
		emit(to, &(struct journal_rec){ .kind = JOURNAL_CLEAN, .time_ms = d->clean_ms });
	emit(to, &r);
	while (map_next(d->entries, &pos, &key, &len, &value)) {
		const struct dirty_entry *e = value;

		if (e->own && e->m.gen > 0) {
			r = mark_rec(e, 0, buf);
			emit(to, &r);
		}
	}
	LIST_FOREACH(it, nxt, &d->intents) {
		const struct dirty_intent *i = LIST_ENTRY(it, struct dirty_intent, node);

		if (i->e != NULL && !i->ended) {
			r = intent_rec(i, buf);
			emit(to, &r);
		}
	}
}

/* What comes out of it: what the last life left. */

struct left_open {
	struct mark_write w;
	bool marked, abandoned;	/* the outcome is known; but was Redis told? */
	size_t klen;
	char key[];
};

/* What a record says of its write. A base that cannot be read is none that the disk could still show. */
static struct mark_write
replay_write(const struct journal_rec *r)
{
	struct mark_write w = { .op = (enum mark_op)r->op, .side = r->base != NULL ? MARK_R2 : MARK_LOCAL };

	if (r->base != NULL && !marks_base_parse(r->base, r->blen, &w.base))
		w.base = (struct mark_base){ .known = true, .exists = true };
	return w;
}

static void
replay_intent(struct dirty *d, const struct journal_rec *r)
{
	struct left_open *o;

	if (r->klen == 0)	/* the watcher's crawl since the clean point finds what it stored */
		return;
	o = mem_zalloc(sizeof *o + r->klen);
	o->w = replay_write(r);
	o->klen = r->klen;
	memcpy(o->key, r->key, r->klen);
	mem_free(map_set(d->replayed, &r->id, sizeof r->id, o));
}

static void
replay_end(struct dirty *d, uint64_t id, bool marked)
{
	struct left_open *o = map_get(d->replayed, &id, sizeof id);

	if (o != NULL)
		*(marked ? &o->marked : &o->abandoned) = true;
}

static void
replay_mark(struct dirty *d, const struct journal_rec *r)
{
	struct dirty_entry *e = dirty_entry(d, r->key, r->klen);
	struct mark_write w = replay_write(r);
	struct mark m = { .gen = r->gen, .side = w.side, .op = w.op, .base = w.base, .since_ms = e->m.gen == 0 ? r->time_ms : e->m.since_ms };

	replay_end(d, r->id, true);
	dirty_entry_mark(d, e, &m);
	e->own = true;
}

static void
on_replay(void *arg, const struct journal_rec *r)
{
	struct dirty *d = arg;
	struct dirty_entry *e;

	if (r->id > d->next_id)
		d->next_id = r->id;
	switch (r->kind) {
	case JOURNAL_INTENT:
		replay_intent(d, r);
		break;
	case JOURNAL_MARK:
		dirty_saw_gen(d, r->gen);
		replay_mark(d, r);
		break;
	case JOURNAL_CLEAR:
		/* Written only when nothing older was owed: the order of the journal says which records it ends. */
		dirty_saw_gen(d, r->gen);
		e = dirty_entry(d, r->key, r->klen);
		dirty_entry_mark(d, e, &(struct mark){ .gen = 0 });
		dirty_entry_drop(d, e);
		break;
	case JOURNAL_ABANDON:
		replay_end(d, r->id, false);
		break;
	case JOURNAL_CLEAN:
		d->clean_ms = r->time_ms;
		break;
	case JOURNAL_PHASE:
		d->phase = r->op == NO_PHASE ? -1 : r->op;
		d->epoch = r->gen;
		break;
	case JOURNAL_ARMED:
		d->armed = r->op != 0;
		break;
	}
}

/* Intents that the last life left: those without an outcome are unknown, the keys are looked at. */
static void
adopt_left_open(struct dirty *d)
{
	size_t pos = 0, len;
	const void *key;
	void *value;

	while (map_next(d->replayed, &pos, &key, &len, &value)) {
		struct left_open *o = value;
		struct dirty_entry *e;
		uint64_t id;

		memcpy(&id, key, sizeof id);
		e = map_get(d->entries, o->key, o->klen);
		if (o->marked || o->abandoned) {
			/* The end of the last life may have come before Redis heard of the intent's. A mark that was cleared since says that
			 * none was open. */
			if (o->abandoned || (e != NULL && e->own))
				dirty_close_later(d, id);
			mem_free(o);
			continue;
		}
		e = dirty_entry(d, o->key, o->klen);
		dirty_entry_moved_unknown(d, e, o->w);
		dirty_journal_mark(d, e, id, NULL, NULL);
		dirty_close_later(d, id);
		mem_free(o);
	}
	map_free(&d->replayed);
	pos = 0;
	while (map_next(d->entries, &pos, &key, &len, &value)) {
		struct dirty_entry *e = value;

		e->untold = e->owed = true;
		e->leased = d->armed && !e->unknown;
		dirty_announce_later(d, e);
	}
}

enum err
dirty_journal_open(struct dirty *d, const char *dir, struct errbuf *eb)
{
	uint64_t cut;
	enum err e;

	d->replayed = map_new();
	e = journal_open(&d->journal, d->loop, dir, on_replay, d, &cut, eb);
	if (e != ERR_OK)
		return e;
	journal_set_live(d->journal, on_live, d);
	/* Never an id of an earlier life: compaction forgets those, Redis may not. */
	if (d->next_id < clock_real_us())
		d->next_id = clock_real_us();
	adopt_left_open(d);
	return ERR_OK;
}
