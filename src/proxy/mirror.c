#include "proxy/mirror.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/keypath.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "coord/hold.h"
#include "coord/run.h"
#include "proxy/looks.h"
#include "sync/retry.h"

#define RETRY_BASE_MS 200
#define RETRY_CAP_MS 10000
/* Somebody else holds the key's lease: it will be done in a moment. */
#define BUSY_MS 100
/* The journal refused a mark: try again soon, nothing can be acknowledged meanwhile. */
#define REMARK_MS 1000
/* A swap's leftover is settled by the copy: asked again after this. */
#define SETTLE_MS 50
/* While the site is armed: so long is a key's lease waited for before a mark is tried again. */
#define MARK_PATIENCE_MS 5000
/* So many are looked at and fsynced at once; what a waiter waits for goes before the others. While the site is armed each has a lease to
 * wait for. */
#define LOOKS 16
#define LOOKS_ARMED 64
/* The file that a mark speaks of is gone, and nobody told: it is looked at once more. */
#define GONE_MS 500

enum mark_stage {
	MARK_STAGE_NONE,	/* nothing noticed that is not a durable mark */
	MARK_STAGE_QUEUED,	/* waits for a free place */
	MARK_STAGE_HOLD,	/* the site is armed: waits for the key's lease */
	MARK_STAGE_SYNC,	/* the pool looks at the file and fsyncs it */
	MARK_STAGE_MARK,	/* the mark is on its way to journal and Redis */
	MARK_STAGE_RETRY	/* that failed: waits for the timer */
};
enum copy_stage {
	COPY_NONE,		/* not dirty */
	COPY_QUEUED,		/* waits for a free place */
	COPY_RUNNING,		/* reconcile works */
	COPY_PAUSE		/* waits for the timer */
};

struct item {
	struct mirror *m;
	char *key;
	size_t klen;
	struct list queue;		/* in m->queue while COPY_QUEUED */
	struct list turn;		/* in m->looks while MARK_STAGE_QUEUED */
	struct list unmarked;		/* in m->unmarked, by first_seq, while a notice is not durable */
	struct list noticed;		/* in m->noticed, by last_seq, once there was a notice */
	struct list links;		/* of waiters */
	uint64_t born_seq;		/* the first notice of the item's life */
	uint64_t first_seq;		/* the first notice that is not durable yet */
	uint64_t last_seq, sync_seq;	/* the last notice; the one that the look at the disk covers */
	enum mark_stage mark_stage;
	enum copy_stage copy_stage;
	enum mark_op op;		/* what the last look found */
	enum mark_op hint;		/* what the last notice said */
	struct dirty_intent *notice;	/* in the journal while it is looked at without a lease; its mark rests upon it */
	bool again;			/* confirmed while the pool looked: its look may be older than that write */
	unsigned attempts;
	uint64_t since_ms;
	struct look *look;		/* it is being looked at */
	struct local_stat st;		/* what the look saw */
	struct hold *hold;		/* the lease under which it is looked at and marked */
	bool looking;			/* it has a place among m->looking */
	bool bare;			/* it is looked at and marked without one */
	struct loop_timer mark_timer, copy_timer;
	struct reconcile *rec;
	uint64_t copies;		/* how many were begun */
	uint64_t paced_until;		/* R2 takes no write of it before; monotonic ms */
};

/* One waiter's interest in one item. */
struct link {
	struct list in_item, in_wait;
	struct mirror_wait *wait;
	uint64_t seq;			/* durable when the item's marks have reached this notice */
	uint64_t copy;			/* mirrored when this copy is made: the first that began after the write */
	bool marked, settled;
};

/* What we know of a key's file: the one that we have put there ourselves, or that there was none up to an event. */
struct own {
	uint64_t key;			/* its hash; that the file is the very one is what counts */
	struct mark_base file;
	uint64_t seq;			/* file absent */
};
/* So many are remembered: an event follows what it tells of at once. */
#define OWN_MAX 1024

struct mirror {
	const struct reconcile_env *env;
	struct dirty *dirty;
	struct looks *sight;
	struct map *items;
	struct list queue, looks, unmarked, noticed;
	size_t looking;
	size_t running, unleased;
	bool armed, reclaim;
	struct own *own;		/* OWN_MAX, by hash; NULL: none yet */
	struct loop_call pump;
	size_t room_at;
	void (*room)(void *arg);
	void *room_arg;
	char trouble[256];		/* why the last try failed; "" when one has succeeded since */
};

static void mark_begin(struct item *it);
static void copy_queue(struct item *it);

/* Waiters. */

void
mirror_wait_init(struct mirror_wait *w, struct loop *l, void (*changed)(void *arg), void *arg)
{
	memset(w, 0, sizeof(*w));
	list_init(&w->links);
	w->changed = changed;
	w->arg = arg;
	loop_call_init(&w->call, l, changed, arg);
}

static void
link_free(struct link *k)
{
	list_del(&k->in_item);
	list_del(&k->in_wait);
	mem_free(k);
}

void
mirror_wait_fini(struct mirror_wait *w)
{
	struct list *p, *n;

	LIST_FOREACH(p, n, &w->links)
		link_free(LIST_ENTRY(p, struct link, in_wait));
	loop_call_cancel(&w->call);
}

static void
link_marked(struct link *k, enum err e)
{
	struct mirror_wait *w = k->wait;

	if (k->marked)
		return;
	k->marked = true;
	if (e != ERR_OK)
		w->e = e;
	if (--w->unmarked == 0)
		loop_call_soon(&w->call);
}

static void
link_settled(struct link *k, bool mirrored)
{
	struct mirror_wait *w = k->wait;

	if (k->settled)
		return;
	k->settled = true;
	if (!mirrored)
		w->failed = true;
	if (--w->unmirrored == 0)
		loop_call_soon(&w->call);
}

/* Somebody waits for it: it goes before those for which nobody does. */
static void
hurry(struct item *it)
{
	if (it->mark_stage == MARK_STAGE_QUEUED) {
		list_del(&it->turn);
		list_add_head(&it->m->looks, &it->turn);
	}
	if (it->copy_stage == COPY_QUEUED) {
		list_del(&it->queue);
		list_add_head(&it->m->queue, &it->queue);
	}
}

/* marked: what is waited for is marked already, whatever has been noticed since. */
static void
wait_attach(struct item *it, struct mirror_wait *w, bool marked)
{
	struct link *k = mem_zalloc(sizeof(*k));

	k->wait = w;
	k->seq = it->last_seq;
	k->copy = it->copies + 1;
	list_add_tail(&it->links, &k->in_item);
	list_add_tail(&w->links, &k->in_wait);
	w->unmarked++;
	w->unmirrored++;
	if (marked || it->mark_stage == MARK_STAGE_NONE)
		link_marked(k, ERR_OK);
	hurry(it);
	if (it->attempts > 0)	/* it is failing already: do not make this client wait for it */
		link_settled(k, false);
}

void
mirror_wait_seqs(struct mirror *m, struct mirror_wait *w, uint64_t from, uint64_t to)
{
	struct list *p;

	/* From the latest on: R2 may be owed thousands that were noticed before. */
	for (p = m->noticed.prev; p != &m->noticed; p = p->prev) {
		struct item *it = LIST_ENTRY(p, struct item, noticed);

		if (it->last_seq <= from)
			break;
		if (it->born_seq <= to)
			wait_attach(it, w, false);
	}
}

void
mirror_wait_key(struct mirror *m, struct mirror_wait *w, const char *key, size_t klen)
{
	struct item *it = map_get(m->items, key, klen);

	if (it != NULL)
		wait_attach(it, w, false);
}

void
mirror_wait_copy(struct mirror *m, struct mirror_wait *w, const char *key, size_t klen)
{
	struct item *it = map_get(m->items, key, klen);

	if (it != NULL)
		wait_attach(it, w, true);
}

/* Items. */

/* The look has ended: another one may begin. */
static void
place_end(struct item *it)
{
	struct mirror *m = it->m;

	if (!it->looking)
		return;
	it->looking = false;
	m->looking--;
	if (!list_empty(&m->looks))
		loop_call_soon(&m->pump);
}

static void
bare_end(struct item *it)
{
	it->m->unleased -= it->bare;
	it->bare = false;
	if (it->notice != NULL)
		dirty_abandon(it->m->dirty, &it->notice);
}

static void
item_free(struct item *it)
{
	struct mirror *m = it->m;
	struct list *p, *n;

	map_del(m->items, it->key, it->klen);
	if (m->room != NULL && map_count(m->items) == m->room_at)
		m->room(m->room_arg);
	list_del(&it->queue);
	list_del(&it->turn);
	list_del(&it->unmarked);
	list_del(&it->noticed);
	place_end(it);
	LIST_FOREACH(p, n, &it->links) {
		struct link *k = LIST_ENTRY(p, struct link, in_item);

		link_marked(k, ERR_OK);
		link_settled(k, true);
		link_free(k);
	}
	loop_timer_fini(&it->mark_timer);
	loop_timer_fini(&it->copy_timer);
	if (it->copy_stage == COPY_RUNNING) {
		reconcile_cancel(&it->rec);
		m->running--;
	}
	bare_end(it);
	hold_drop(&it->hold);
	look_cancel(&it->look);
	mem_free(it->key);
	mem_free(it);
}

static void
item_check_done(struct item *it)
{
	if (it->mark_stage == MARK_STAGE_NONE && it->copy_stage == COPY_NONE)
		item_free(it);
}

static void
item_marked(struct item *it, enum err e)
{
	struct list *p, *n;

	LIST_FOREACH(p, n, &it->links) {
		struct link *k = LIST_ENTRY(p, struct link, in_item);

		if (e != ERR_OK || k->seq <= it->sync_seq)
			link_marked(k, e);
	}
}

static void
item_settled(struct item *it, bool mirrored)
{
	struct list *p, *n;

	LIST_FOREACH(p, n, &it->links)
		link_settled(LIST_ENTRY(p, struct link, in_item), mirrored);
}

/* A copy is made, though the key is dirty again: it has what was written before it began. */
static void
item_copied(struct item *it)
{
	struct list *p, *n;

	LIST_FOREACH(p, n, &it->links) {
		struct link *k = LIST_ENTRY(p, struct link, in_item);

		if (k->copy <= it->copies)
			link_settled(k, true);
	}
}

static void
mark_failed(struct item *it, enum err e)
{
	place_end(it);
	bare_end(it);
	hold_drop(&it->hold);
	it->mark_stage = MARK_STAGE_RETRY;
	item_marked(it, e);
	loop_timer_set(&it->mark_timer, REMARK_MS);
}

static void
mark_ended(struct item *it)
{
	bare_end(it);
	hold_drop(&it->hold);
	it->mark_stage = MARK_STAGE_NONE;
	item_marked(it, ERR_OK);
	if (it->last_seq > it->sync_seq) {
		it->first_seq = it->sync_seq + 1;
		mark_begin(it);
		return;
	}
	list_del(&it->unmarked);
}

static void
marked_cb(void *arg, enum err e)
{
	struct item *it = arg;

	hold_spent(&it->hold);		/* the mark's script has dropped it, or it is somebody else's */
	if (e == ERR_LEASE_LOST) {
		mark_begin(it);		/* what was seen may be older than another's write by now */
		return;
	}
	if (e != ERR_OK) {
		log_error("journal", "cannot mark %s: %s", log_key(it->key, it->klen), err_text(e));
		mark_failed(it, e);
		return;
	}
	if (it->since_ms == 0)
		it->since_ms = clock_mono_ms();
	mark_ended(it);
	copy_queue(it);
}

static uint64_t
key_hash(const char *key, size_t klen)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < klen; i++)
		h = (h ^ (unsigned char)key[i]) * UINT64_C(0x100000001b3);
	return h ^ h >> 32;
}

static void
own_add(struct mirror *m, const char *key, size_t klen, const struct mark_base *file, uint64_t seq)
{
	uint64_t h = key_hash(key, klen);

	if (m->own == NULL)
		m->own = mem_calloc(OWN_MAX, sizeof *m->own);
	m->own[h % OWN_MAX] = (struct own){ h, *file, seq };
}

void
mirror_absent(struct mirror *m, const char *key, size_t klen, uint64_t seq)
{
	static const struct mark_base none = { .known = true };

	own_add(m, key, klen, &none, seq);
}

/*
 * Is the event told of already? What the disk shows is the file that a write to R2 found there: the event is older than that write. Or
 * it is the one that we have put there ourselves.
 */
static bool
is_old(const struct item *it)
{
	const struct mark *m = it->hold != NULL ? &hold_lease(it->hold)->seen : NULL;
	struct mark_base now = reconcile_base(&it->st);
	uint64_t h = key_hash(it->key, it->klen);
	const struct own *own = it->m->own != NULL ? &it->m->own[h % OWN_MAX] : NULL;

	if (own != NULL && own->key == h && marks_base_same(&own->file, &now))
		return now.exists || it->last_seq <= own->seq;
	return m != NULL && m->gen > 0 && m->side == MARK_R2 && !m->base.unconfirmed && marks_base_same(&m->base, &now);
}

static void
looked_cb(void *arg, const struct local_seen *seen, bool swapping)
{
	struct item *it = arg;
	struct mark mark;

	it->look = NULL;
	it->st = seen->st;
	it->op = seen->st.exists ? MARK_PUT : MARK_DELETE;
	place_end(it);
	if (it->again || (it->hold != NULL && !hold_held(it->hold))) {
		mark_begin(it);
		return;
	}
	/* Nothing is decided before that is settled. */
	if (swapping) {
		hold_drop(&it->hold);
		it->mark_stage = MARK_STAGE_RETRY;
		loop_timer_set(&it->mark_timer, SETTLE_MS);
		copy_queue(it);
		return;
	}
	if (seen->e == ERR_CHANGED) {
		/* Not finished: its writer holds a lock. Nobody waits for that; it is looked at again until the lock is gone. */
		bare_end(it);
		hold_drop(&it->hold);
		item_marked(it, ERR_OK);
		item_settled(it, false);
		it->mark_stage = MARK_STAGE_RETRY;
		loop_timer_set(&it->mark_timer, REMARK_MS);
		return;
	}
	if (seen->e != ERR_OK) {
		if (seen->e != ERR_SENTINEL)	/* said once for all keys (writer.c) */
			log_warn("watch", "%s cannot be looked at: %s; trying again", log_key(it->key, it->klen), err_text(seen->e));
		mark_failed(it, seen->e);
		return;
	}
	if (keypath_check(it->key, it->klen) != KEYPATH_OK) {
		/* R2 cannot hold this name: it is on the disk for good, and that is all there is to do. */
		mark_ended(it);
		item_check_done(it);
		return;
	}
	if (is_old(it) || (it->m->reclaim && it->op == MARK_DELETE)) {
		mark_ended(it);
		if (it->mark_stage == MARK_STAGE_NONE && dirty_get(it->m->dirty, it->key, it->klen, &mark))
			copy_queue(it);
		else
			item_check_done(it);
		return;
	}
	it->mark_stage = MARK_STAGE_MARK;
	if (it->notice != NULL) {
		dirty_confirm(it->m->dirty, &it->notice, MARK_DISK(it->op), NULL, marked_cb, it);
		return;
	}
	hold_last(it->hold);
	dirty_mark(it->m->dirty, it->key, it->klen, it->op, hold_lease(it->hold), marked_cb, it);
}

static void
look_begin(struct item *it)
{
	it->mark_stage = MARK_STAGE_SYNC;
	it->sync_seq = it->last_seq;
	it->again = false;
	it->bare = it->hold == NULL;
	it->m->unleased += it->bare;
	it->look = look_at(it->m->sight, it->key, it->klen, it->hold != NULL, looked_cb, it);
	/* Both take their time at the disk: side by side. */
	if (it->bare && keypath_check(it->key, it->klen) == KEYPATH_OK)
		it->notice = dirty_notice(it->m->dirty, it->key, it->klen, it->hint);
}

static void
on_hold(void *arg, enum err e, const struct lease *l)
{
	struct item *it = arg;

	(void)l;
	if (e == ERR_OK) {
		look_begin(it);
		return;
	}
	log_warn("mirror", "%s: cannot be marked: its lease: %s; trying again", log_key(it->key, it->klen), err_text(e));
	mark_failed(it, e);
}

/* The pool looks, or the mark is on its way: their ends find it out. */
static void
on_hold_lost(void *arg, enum err e)
{
	(void)arg;
	(void)e;
}

static const struct hold_cb hold_cbs = {on_hold, on_hold_lost};

/* It has a place. */
static void
mark_go(struct item *it)
{
	if (it->m->armed && keypath_check(it->key, it->klen) == KEYPATH_OK) {
		it->mark_stage = MARK_STAGE_HOLD;
		it->hold = hold_new(it->m->env->cluster, it->key, it->klen, MARK_PATIENCE_MS, true, &hold_cbs, it);
	} else {
		look_begin(it);
	}
}

static void
mark_begin(struct item *it)
{
	struct mirror *m = it->m;

	bare_end(it);
	hold_drop(&it->hold);
	place_end(it);
	it->mark_stage = MARK_STAGE_QUEUED;
	list_add_tail(&m->looks, &it->turn);
	if (!list_empty(&it->links))
		hurry(it);
	loop_call_soon(&m->pump);
}

static void
mark_timer_cb(void *arg)
{
	mark_begin(arg);
}

/* Copying. */

static void
copy_pause(struct item *it, uint64_t ms)
{
	it->copy_stage = COPY_PAUSE;
	loop_timer_set(&it->copy_timer, ms);
}

/*
 * A put is marked, but the file is gone: it was removed while nobody watched (we were dead, events were lost), or another look overtook the
 * removal's. The mark is of a write that is over, so what the disk shows now is its outcome.
 */
static void
look_again(struct item *it)
{
	if (it->mark_stage != MARK_STAGE_NONE)
		return;		/* a look is on its way, and queues the copy */
	it->first_seq = it->last_seq + 1;
	it->mark_stage = MARK_STAGE_RETRY;
	list_add_tail(&it->m->unmarked, &it->unmarked);
	loop_timer_set(&it->mark_timer, GONE_MS);
}

static void
reconciled_cb(void *arg, const struct reconcile_report *r)
{
	struct item *it = arg;
	struct mirror *m = it->m;
	struct mark mark;

	it->rec = NULL;
	it->copy_stage = COPY_NONE;
	m->running--;
	loop_call_soon(&m->pump);
	metrics_add(METRIC_MIRRORS, reconcile_result_name(r->result), 1);
	if (r->wait_ms > 0)
		it->paced_until = clock_mono_ms() + r->wait_ms;
	if (r->result == RECONCILE_FAILED)
		snprintf(m->trouble, sizeof(m->trouble), "%s", r->why);
	else if (r->e == ERR_OK)
		m->trouble[0] = '\0';
	if (r->placed.known)
		own_add(m, it->key, it->klen, &r->placed, 0);
	if (r->result == RECONCILE_COPIED || r->result == RECONCILE_DELETED)
		run_disk_write(m->env->cluster);
	if (r->clean) {
		if (it->since_ms != 0)
			metrics_observe(METRIC_MIRROR_SECONDS, NULL, (clock_mono_ms() - it->since_ms) * 1000);
		it->attempts = 0;
		it->since_ms = 0;
		dirty_cleared(m->dirty, it->key, it->klen, r->gen);
		if (dirty_get(m->dirty, it->key, it->klen, &mark)) {
			item_copied(it);
			copy_queue(it);		/* marked again while the answer was on its way */
			return;
		}
		item_check_done(it);
		return;
	}
	switch (r->result) {
	case RECONCILE_EQUAL:
	case RECONCILE_COPIED:
	case RECONCILE_DELETED:
	case RECONCILE_RESTORED:
	case RECONCILE_REMOVED:
		it->attempts = 0;
		item_copied(it);
		copy_queue(it);		/* written again meanwhile */
		return;
	case RECONCILE_UNHOLDABLE:
		item_settled(it, true);
		item_check_done(it);
		return;
	case RECONCILE_ORPHAN:
		item_settled(it, false);
		if (dirty_get(m->dirty, it->key, it->klen, &mark))
			look_again(it);
		else
			item_check_done(it);	/* clean: without a mark nothing says that it was deleted */
		return;
	case RECONCILE_DEFERRED:
	case RECONCILE_FAILED:
		break;
	}
	if (r->e == ERR_BUSY) {
		copy_pause(it, r->wait_ms > 0 ? r->wait_ms : BUSY_MS);
		return;
	}
	it->attempts++;
	if (it->attempts == 1)
		log_warn("mirror", "%s: %s; the mark stays, trying again", log_key(it->key, it->klen),
		    *r->why ? r->why : err_text(r->e));
	item_settled(it, false);
	copy_pause(it, retry_delay_ms(it->attempts, RETRY_BASE_MS, RETRY_CAP_MS));
}

static void
pump_cb(void *arg)
{
	struct mirror *m = arg;
	size_t most = (size_t)m->env->conf->mirror_concurrency;

	while (m->looking < (m->armed ? LOOKS_ARMED : LOOKS) && !list_empty(&m->looks)) {
		struct item *it = LIST_FIRST(&m->looks, struct item, turn);

		list_del(&it->turn);
		it->looking = true;
		m->looking++;
		mark_go(it);
	}
	while (m->running < most && !list_empty(&m->queue)) {
		struct item *it = LIST_FIRST(&m->queue, struct item, queue);

		list_del(&it->queue);
		it->copy_stage = COPY_RUNNING;
		it->copies++;
		m->running++;
		it->rec = reconcile_start(m->env, it->key, it->klen, NULL, reconciled_cb, it);
	}
}

static void
copy_queue(struct item *it)
{
	uint64_t now = clock_mono_ms();

	if (it->copy_stage == COPY_RUNNING || it->copy_stage == COPY_QUEUED)
		return;		/* a running one does not clear a newer gen, and comes back here */
	if (now < it->paced_until) {
		copy_pause(it, it->paced_until - now);	/* and takes no place of others */
		return;
	}
	loop_timer_cancel(&it->copy_timer);
	it->copy_stage = COPY_QUEUED;
	list_add_tail(&it->m->queue, &it->queue);
	if (!list_empty(&it->links))
		hurry(it);
	loop_call_soon(&it->m->pump);
}

static void
copy_timer_cb(void *arg)
{
	struct item *it = arg;

	it->copy_stage = COPY_NONE;
	copy_queue(it);
}

static struct item *
item_get(struct mirror *m, const char *key, size_t klen)
{
	struct item *it = map_get(m->items, key, klen);

	if (it != NULL)
		return it;
	it = mem_zalloc(sizeof(*it));
	it->m = m;
	it->key = mem_strndup(key, klen);
	it->klen = klen;
	list_init(&it->queue);
	list_init(&it->turn);
	list_init(&it->unmarked);
	list_init(&it->noticed);
	list_init(&it->links);
	loop_timer_init(&it->mark_timer, m->env->loop, mark_timer_cb, it);
	loop_timer_init(&it->copy_timer, m->env->loop, copy_timer_cb, it);
	map_set(m->items, key, klen, it);
	return it;
}

void
mirror_noticed(struct mirror *m, const char *key, size_t klen, enum mark_op op, uint64_t seq)
{
	struct item *it = item_get(m, key, klen);

	it->last_seq = seq;
	it->hint = op;
	list_del(&it->noticed);
	list_add_tail(&m->noticed, &it->noticed);
	if (it->mark_stage == MARK_STAGE_RETRY) {
		loop_timer_cancel(&it->mark_timer);
		mark_begin(it);
	} else if (it->mark_stage == MARK_STAGE_NONE) {
		it->first_seq = seq;
		if (it->born_seq == 0)
			it->born_seq = seq;
		list_add_tail(&m->unmarked, &it->unmarked);
		mark_begin(it);
	}
}

void
mirror_owed(struct mirror *m, const char *key, size_t klen)
{
	struct item *it = item_get(m, key, klen);

	if (it->since_ms == 0)
		it->since_ms = clock_mono_ms();
	it->again = it->again || it->mark_stage == MARK_STAGE_SYNC;
	copy_queue(it);
}

void
mirror_cleared(struct mirror *m, const char *key, size_t klen)
{
	struct item *it = map_get(m->items, key, klen);
	struct mark mark;

	if (it == NULL || it->mark_stage != MARK_STAGE_NONE || it->copy_stage == COPY_RUNNING || dirty_get(m->dirty, key, klen, &mark))
		return;
	it->copy_stage = COPY_NONE;
	list_del(&it->queue);
	item_free(it);
}

void
mirror_set_room(struct mirror *m, size_t n, void (*room)(void *arg), void *arg)
{
	m->room_at = n;
	m->room = room;
	m->room_arg = arg;
}

size_t
mirror_count(const struct mirror *m)
{
	return map_count(m->items);
}

size_t
mirror_running(const struct mirror *m)
{
	return m->running;
}

uint64_t
mirror_unmarked_seq(const struct mirror *m)
{
	struct list *p;
	uint64_t first = UINT64_MAX;

	for (p = m->unmarked.next; p != &m->unmarked; p = p->next) {
		const struct item *it = LIST_ENTRY(p, struct item, unmarked);

		if (it->first_seq < first)
			first = it->first_seq;
	}
	return first;
}

struct mirror *
mirror_new(const struct reconcile_env *env, struct dirty *d, struct looks *sight)
{
	struct mirror *m = mem_zalloc(sizeof(*m));

	m->env = env;
	m->dirty = d;
	m->sight = sight;
	m->items = map_new();
	list_init(&m->queue);
	list_init(&m->looks);
	list_init(&m->unmarked);
	list_init(&m->noticed);
	loop_call_init(&m->pump, env->loop, pump_cb, m);
	return m;
}

void
mirror_set_armed(struct mirror *m, bool armed)
{
	m->armed = armed;
}

void
mirror_set_reclaim(struct mirror *m, bool reclaim)
{
	m->reclaim = reclaim;
}

bool
mirror_unleased(const struct mirror *m)
{
	return m->unleased > 0;
}

void
mirror_set_env(struct mirror *m, const struct reconcile_env *env)
{
	m->env = env;
	loop_call_soon(&m->pump);
}

void
mirror_free(struct mirror **mp)
{
	struct mirror *m = *mp;
	size_t pos = 0, klen;
	const void *key;
	void *val;

	if (m == NULL)
		return;
	*mp = NULL;
	m->room = NULL;
	while (map_next(m->items, &pos, &key, &klen, &val)) {
		struct item *it = val;

		it->notice = NULL;	/* went with dirty */
		item_free(it);
	}
	loop_call_cancel(&m->pump);
	mem_free(m->own);
	map_free(&m->items);
	mem_free(m);
}

uint64_t
mirror_oldest_ms(const struct mirror *m)
{
	uint64_t now = clock_mono_ms(), oldest = 0;
	size_t pos = 0, klen;
	const void *key;
	void *val;

	while (map_next(m->items, &pos, &key, &klen, &val)) {
		const struct item *it = val;

		if (it->since_ms != 0 && now - it->since_ms > oldest)
			oldest = now - it->since_ms;
	}
	return oldest;
}

const char *
mirror_trouble(const struct mirror *m)
{
	/* Without a key that waits it is over, whoever copied the last one. */
	return m->trouble[0] != '\0' && map_count(m->items) > 0 ? m->trouble : NULL;
}
