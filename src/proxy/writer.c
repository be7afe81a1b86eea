#include "proxy/writer.h"

#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/keypath.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "coord/hold.h"
#include "coord/phase.h"
#include "coord/queue.h"
#include "proxy/away.h"
#include "proxy/looks.h"
#include "proxy/mirror.h"
#include "proxy/unseen.h"
#include "proxy/watch.h"
#include "proxy/writer_disk.h"

/* Free space and sentinel are looked at this often at the most. */
#define READY_CACHE_MS 250
/* How often the watcher's clean point moves on. */
#define CLEAN_MS 2000
/* Files that changed this long before the clean point are looked at again after a restart: a file that was open across it
 * has an older ctime than the close that told of it. */
#define CLEAN_MARGIN_MS (10 * 60 * 1000)
/* So many keys may wait for R2 before a crawl pauses. */
#define FOUND_MAX 4096

/* A key that the disk is owed is waited for in such steps. */
#define OWED_MS 50

/* What reads missed in R2 is handed on once in so long, for so many keys. */
#define PROMOTE_AGAIN_MS 30000
#define PROMOTED 512

/* So much longer a stop waits for requests whose clients are gone. */
#define DRAIN_LATE_MS 1000

/* So many files are synced at once: the file system commits those that come together as one. */
#define SYNC_THREADS 16

enum op_stage {
	OP_HOLD,		/* the site is armed: the key's lease is waited for */
	OP_BEGUN,		/* the request runs */
	OP_WATCHES,		/* the intent is there, but not every directory is watched yet: nothing is forwarded */
	OP_BARRIER,		/* finish: the barrier comes with the loop's next turn */
	OP_CRAWL,		/* finish: events were lost, or a directory that appeared is long: what it is about comes with the listing */
	OP_HINTS,		/* finish: the pool looks at what the answer named */
	OP_LOOK,		/* finish with a key: its file is looked at */
	OP_CONFIRM,		/* finish with a key: the mark is made durable */
	OP_DURABLE,		/* finish: waits until every key that was noticed or named is a durable mark */
	OP_MIRROR		/* finish: waits for R2, up to the deadline */
};

struct writer_op {
	struct list node;
	struct writer *w;
	struct local *local;		/* for the pool: w may be gone by then */
	char *key;			/* NULL: the app chooses */
	size_t klen;
	enum mark_op op;
	enum op_stage stage;
	struct hints hints;
	struct hold *hold;		/* the key's lease, from begin to confirm; NULL: none is needed */
	struct dirty_intent *intent;	/* NULL: not made, or ended */
	uint64_t from_seq;		/* the watcher's last event before the request */
	uint64_t generation;		/* of its watches */
	bool sees;			/* they stood when the request began */
	uint64_t wait_began;
	writer_begun *begun;
	void *begun_arg;
	writer_finished *finished;
	void *finished_arg;
	struct mirror_wait wait;
	uint64_t hold_until;
	struct loop_timer deadline, again;
	struct loop_call call;
	struct pool_job job;		/* looks at what the answer named */
	struct look *look;
	enum err e;
	enum writer_outcome outcome;
	bool mirrored, expired;
	bool noticed;			/* the watcher spoke of the key since the last look at it */
	bool holdable;			/* R2 can hold the key: else nothing is marked, the disk serves it */
};

/* A key that was handed on a short while ago; of a long one its beginning. */
struct promoted {
	uint64_t until_ms;
	size_t klen;
	char key[112];
};

struct writer {
	struct pool *syncs;		/* threads that wait for the disk; those that digest are others */
	struct looks *looks;
	const struct reconcile_env *env;
	struct local *local;
	struct dirty *dirty;
	struct mirror *mirror;
	struct primary *primary;
	struct watch *watch;		/* NULL in passthrough */
	struct away *away;
	int phase;
	struct list ops;
	struct map *keyed;		/* key -> (void *)count of open keyed ops */
	/* The clean point: candidate since when, and which notices must be durable for it. */
	struct loop_timer clean_timer;
	uint64_t clean_ms, clean_seq;
	enum err root;			/* does the media root show its sentinel? */
	/* Arming: new writes take leases; when the last one without has ended the journal is told. */
	bool armed, arming;
	struct unseen unseen;
	/* writer_ready's last answer. */
	uint64_t ready_until;
	enum err ready;
	struct promoted promoted[PROMOTED];
	/* drain */
	struct loop_timer drain_timer, drain_deadline;
	bool drain_late;		/* its time is over, and only open requests are waited for */
	void (*drained)(void *arg);
	void *drained_arg;
};

static void op_step(void *arg);
static void arm_when_ready(struct writer *w);
static enum err watch_start(struct writer *w, struct errbuf *eb);
static void watch_stop_if_idle(struct writer *w);

/* The watcher. */

static void
blind_cb(void *arg, const char *why)
{
	struct writer *w = arg;

	unseen_events(&w->unseen, why);
}

static void
changed_cb(void *arg, const char *key, size_t klen, enum mark_op op, uint64_t seq)
{
	struct writer *w = arg;
	struct list *p, *n;

	if (map_get(w->keyed, key, klen) == NULL) {
		mirror_noticed(w->mirror, key, klen, op, seq);
		return;
	}
	/* A request that writes this key through us is open: its finish looks at the disk after this event. */
	LIST_FOREACH(p, n, &w->ops) {
		struct writer_op *o = LIST_ENTRY(p, struct writer_op, node);

		if (o->key != NULL && o->klen == klen && memcmp(o->key, key, klen) == 0)
			o->noticed = true;
	}
}

static void
progress_cb(void *arg)
{
	struct writer *w = arg;
	struct list *p, *n;

	LIST_FOREACH(p, n, &w->ops) {
		struct writer_op *op = LIST_ENTRY(p, struct writer_op, node);

		if (op->stage == OP_CRAWL || op->stage == OP_WATCHES)
			loop_call_soon(&op->call);
	}
}

/* What a crawl finds is handed on as fast as it is mirrored; at once, if an answer waits for it. */
static bool
room_cb(void *arg)
{
	struct writer *w = arg;
	struct list *p, *n;

	if (mirror_count(w->mirror) < FOUND_MAX)
		return true;
	LIST_FOREACH(p, n, &w->ops) {
		const struct writer_op *op = LIST_ENTRY(p, struct writer_op, node);

		if (op->stage == OP_CRAWL)
			return true;
	}
	return false;
}

static void
mirror_room_cb(void *arg)
{
	struct writer *w = arg;

	if (w->watch != NULL)
		watch_resume(w->watch);
	away_resume(w->away);
}

/* A key of R2's below a directory that was moved away. */
static void
away_noticed_cb(void *arg, const char *key, size_t klen)
{
	struct writer *w = arg;

	changed_cb(w, key, klen, MARK_DELETE, w->watch != NULL ? watch_next_seq(w->watch) : 0);
}

static const struct away_cb away_cbs = {away_noticed_cb, room_cb, progress_cb};

static void
away_cb(void *arg, const char *prefix, size_t len, bool found)
{
	struct writer *w = arg;

	/* An answer waits for the listing only where nothing else tells what was there. */
	away_add(w->away, prefix, len, !found && w->watch != NULL ? watch_next_seq(w->watch) : 0);
}

static const struct watch_cb watch_cbs = {changed_cb, away_cb, blind_cb, progress_cb, room_cb};

/* A reload could not start it. Until it runs no write is taken: nobody would see what an upload stored. */
static void
watch_again(struct writer *w)
{
	struct errbuf eb;

	if (watch_start(w, &eb) == ERR_OK)
		log_info("watch", "writes are taken again");
}

/* The disk may be unmounted, replaced or emptied under us: then nothing is absent, and somebody has to know. */
static void
root_look(struct writer *w)
{
	struct errbuf eb = { "" };
	enum err e = local_sentinel(w->local, &eb);

	if (e != ERR_OK && w->root == ERR_OK)
		log_error("media root", "%s: nothing is deleted, nothing is taken for absent, no write is taken", eb.text);
	if (e == ERR_OK && w->root != ERR_OK)
		log_info("media root", "%s is there again", local_root_path(w->local));
	w->root = e;
	metrics_set(METRIC_ROOT_SUSPECT, NULL, e != ERR_OK);
}

static void
clean_advance(struct writer *w)
{
	uint64_t now = clock_real_ms(), seq = watch_drain(w->watch);

	if (watch_crawling(w->watch)) {		/* events were lost: what they told of comes with the crawl */
		w->clean_ms = 0;
		return;
	}
	if (w->clean_ms == 0) {
		w->clean_ms = now;
		w->clean_seq = seq;
	}
	if (mirror_unmarked_seq(w->mirror) > w->clean_seq) {
		dirty_set_clean(w->dirty, w->clean_ms);
		w->clean_ms = 0;
	}
}

static void
clean_cb(void *arg)
{
	struct writer *w = arg;

	root_look(w);
	if (w->watch != NULL && w->root == ERR_OK && !watch_crawling(w->watch))
		clean_advance(w);
	if (w->watch == NULL && phase_row((enum phase)w->phase)->mirror)
		watch_again(w);
	unseen_turn(&w->unseen);
	arm_when_ready(w);
	loop_timer_set(&w->clean_timer, CLEAN_MS);
}

static enum err
watch_start(struct writer *w, struct errbuf *eb)
{
	uint64_t clean = dirty_clean(w->dirty);
	enum err e;

	if (w->watch != NULL)
		return ERR_OK;
	w->clean_ms = 0;
	e = watch_new(&w->watch, w->env->loop, w->local, clean > CLEAN_MARGIN_MS ? clean - CLEAN_MARGIN_MS : clean, &watch_cbs, w, eb);
	if (e == ERR_OK)
		unseen_census(&w->unseen, "the watcher begins");
	return e;
}

static void
watch_stop_if_idle(struct writer *w)
{
	if (w->watch == NULL || phase_row((enum phase)w->phase)->mirror || !list_empty(&w->ops))
		return;
	(void)watch_drain(w->watch);
	watch_free(&w->watch);
}

/* Dirty's callbacks. */

static void
cleared_cb(void *arg, const char *key, size_t klen, uint64_t gen)
{
	struct writer *w = arg;

	(void)gen;
	if (w->mirror != NULL)
		mirror_cleared(w->mirror, key, klen);
}

static void
owed_cb(void *arg, const char *key, size_t klen)
{
	struct writer *w = arg;

	mirror_owed(w->mirror, key, klen);
}

static const struct dirty_cb dirty_cbs = {cleared_cb, owed_cb};

/* Requests that write. */

static void
keyed_count(struct writer *w, const char *key, size_t klen, int by)
{
	intptr_t n = (intptr_t)map_get(w->keyed, key, klen) + by;

	ASSERT(n >= 0);
	if (n == 0)
		map_del(w->keyed, key, klen);
	else
		map_set(w->keyed, key, klen, (void *)n);
}

/* The key's events are for the watcher again. One that came too late for the look at the disk is taken up now. */
static void
keyed_end(struct writer_op *op)
{
	struct writer *w = op->w;

	keyed_count(w, op->key, op->klen, -1);
	if (op->noticed && w->watch != NULL)
		mirror_noticed(w->mirror, op->key, op->klen, op->op, watch_seq(w->watch));
	op->noticed = false;
}

static void
op_release(void *arg)
{
	struct writer_op *op = arg;

	hints_fini(&op->hints);
	mem_free(op->key);
	mem_free(op);
}

static void
op_free(struct writer_op *op)
{
	struct writer *w = op->w;

	list_del(&op->node);
	mirror_wait_fini(&op->wait);
	loop_timer_fini(&op->deadline);
	loop_timer_fini(&op->again);
	loop_call_cancel(&op->call);
	hold_drop(&op->hold);
	look_cancel(&op->look);
	if (op->job.busy)
		pool_cancel(&op->job, op_release);
	else
		op_release(op);
	arm_when_ready(w);
	watch_stop_if_idle(w);
}

/* The site is armed. */

static void
armed_cb(void *arg, enum err e)
{
	struct writer *w = arg;

	w->arming = false;
	if (e != ERR_OK) {
		log_error("writer", "the site is armed, but the journal does not take it: %s; trying again", err_text(e));
		dirty_set_armed(w->dirty, false, NULL, NULL);
	} else {
		log_info("writer", "armed: writes take their keys' leases");
	}
}

/* Acknowledged only when no write that began without a lease is left. */
static void
arm_when_ready(struct writer *w)
{
	struct list *p, *n;

	if (!w->armed || w->arming || dirty_armed(w->dirty) || mirror_unleased(w->mirror))
		return;
	LIST_FOREACH(p, n, &w->ops) {
		const struct writer_op *op = LIST_ENTRY(p, struct writer_op, node);

		/* One whose mark is made only waits for its answer: what it held is given back. */
		if (op->key != NULL && op->holdable && op->hold == NULL && op->stage != OP_DURABLE && op->stage != OP_MIRROR)
			return;
	}
	w->arming = true;
	dirty_set_armed(w->dirty, true, armed_cb, w);
}

void
writer_arm(struct writer *w, bool armed)
{
	if (armed && !w->armed)
		log_info("writer", "the site is being armed");
	if (!armed && dirty_armed(w->dirty)) {
		log_info("writer", "the site is not armed any more");
		dirty_set_armed(w->dirty, false, NULL, NULL);
	}
	w->armed = armed;
	mirror_set_armed(w->mirror, armed);
	arm_when_ready(w);
}

bool
writer_armed(const struct writer *w)
{
	return w->armed && !w->arming && dirty_armed(w->dirty);
}

/* From here on whatever the application finishes is an event. */
static void
op_sees(struct writer_op *op)
{
	struct writer *w = op->w;

	op->from_seq = w->watch != NULL ? watch_drain(w->watch) : 0;
	/* After the drain: it may have found that events were lost. */
	op->sees = w->watch == NULL || watch_standing(w->watch);
	op->generation = w->watch != NULL ? watch_generation(w->watch) : 0;
}

static void
op_watches(struct writer_op *op)
{
	op_sees(op);
	op->stage = op->sees ? OP_BEGUN : OP_WATCHES;
	if (op->sees)
		op->begun(op->begun_arg, ERR_OK);
}

static void
begun_cb(void *arg, enum err e)
{
	struct writer_op *op = arg;

	op->e = e;
	if (e == ERR_OK && op->key == NULL && !op->sees)
		op_watches(op);
	else
		op->begun(op->begun_arg, e);
}

static void
op_intent(struct writer_op *op)
{
	op->stage = OP_BEGUN;
	op->intent = dirty_intent(op->w->dirty, op->holdable ? op->key : NULL, op->holdable ? op->klen : 0, MARK_DISK(op->op), begun_cb, op);
}

static void
held_cb(void *arg, enum err e, const struct lease *l)
{
	struct writer_op *op = arg;

	/* What R2 got last is not on the disk yet: the application would find nothing to delete. It is carried there first. */
	if (e == ERR_OK && l->seen.gen > 0 && l->seen.side == MARK_R2 && op->op == MARK_DELETE) {
		hold_drop(&op->hold);
		mirror_owed(op->w->mirror, op->key, op->klen);
		if (clock_mono_ms() < op->hold_until)
			loop_timer_set(&op->again, OWED_MS);
		else
			begun_cb(op, ERR_BUSY);
		return;
	}
	if (e == ERR_OK) {
		op_intent(op);
		return;
	}
	log_warn("writer", "%s: the key's lease could not be had: %s", log_key(op->key, op->klen), err_text(e));
	hold_drop(&op->hold);
	begun_cb(op, e == ERR_BUSY ? ERR_BUSY : ERR_UNAVAIL);
}

/* The upstream writes on; that its write came in time is found out by the confirmation. */
static void
hold_lost_cb(void *arg, enum err e)
{
	struct writer_op *op = arg;

	log_warn("writer", "%s: the key's lease was lost while it was written: %s", log_key(op->key, op->klen), err_text(e));
}

static const struct hold_cb hold_cbs = {held_cb, hold_lost_cb};

static void
op_hold(void *arg)
{
	struct writer_op *op = arg;
	uint64_t now = clock_mono_ms();

	op->hold = hold_new(op->w->env->cluster, op->key, op->klen, op->hold_until > now ? op->hold_until - now : 0, true, &hold_cbs, op);
}

static void
expired_cb(void *arg)
{
	struct writer_op *op = arg;

	op->expired = true;
	op_step(op);
}

struct writer_op *
writer_begin(struct writer *w, const char *key, size_t klen, enum mark_op mop, writer_begun *done, void *arg)
{
	struct writer_op *op = mem_zalloc(sizeof(*op));

	op->w = w;
	op->local = w->local;
	op->op = mop;
	op->begun = done;
	op->begun_arg = arg;
	op_sees(op);
	mirror_wait_init(&op->wait, w->env->loop, op_step, op);
	loop_timer_init(&op->deadline, w->env->loop, expired_cb, op);
	loop_timer_init(&op->again, w->env->loop, op_hold, op);
	loop_call_init(&op->call, w->env->loop, op_step, op);
	list_add_tail(&w->ops, &op->node);
	if (key != NULL) {
		op->key = mem_strndup(key, klen);
		op->klen = klen;
		op->holdable = keypath_check(key, klen) == KEYPATH_OK;
		keyed_count(w, key, klen, 1);
	}
	op->hold_until = clock_mono_ms() + w->env->conf->write_wait;
	if (w->armed && op->holdable)
		op_hold(op);
	else
		op_intent(op);
	return op;
}

bool
writer_travels(const struct writer_op *op)
{
	return op->stage == OP_BEGUN && (op->key != NULL || op->sees);
}

static void
confirmed_cb(void *arg, enum err e)
{
	struct writer_op *op = arg;

	op->e = e != ERR_OK ? e : op->e;
	if (op->outcome == WRITER_UNKNOWN)
		hold_drop(&op->hold);
	else
		hold_spent(&op->hold);	/* the mark's script has dropped it */
	mirror_owed(op->w->mirror, op->key, op->klen);
	mirror_wait_copy(op->w->mirror, &op->wait, op->key, op->klen);
	op->stage = OP_DURABLE;
	loop_call_soon(&op->call);
}

static void
looked_cb(void *arg, const struct local_seen *seen, bool swapping)
{
	struct writer_op *op = arg;
	enum err e = seen->e;

	(void)swapping;
	op->look = NULL;
	if (e == ERR_OK || (e != ERR_CHANGED && seen->st.exists))
		op->op = seen->st.exists ? MARK_PUT : MARK_DELETE;
	/* A doubt about the disk leaves what was intended: reconcile looks again, under the lease. */
	if (e != ERR_OK && e != ERR_CHANGED)
		log_warn("writer", "%s cannot be looked at: %s", log_key(op->key, op->klen), err_text(e));
	/* But what the disk did not take for good must not be acknowledged. */
	op->e = e == ERR_IO || e == ERR_NOSPACE ? e : ERR_OK;
	keyed_end(op);
	if (op->holdable) {
		op->stage = OP_CONFIRM;
		if (op->hold != NULL)
			hold_last(op->hold);
		if (op->hold != NULL && op->outcome == WRITER_UNKNOWN)
			dirty_unknown(op->w->dirty, &op->intent, confirmed_cb, op);
		else
			dirty_confirm(op->w->dirty, &op->intent, MARK_DISK(op->op), op->hold != NULL ? hold_lease(op->hold) : NULL, confirmed_cb, op);
		return;
	}
	dirty_abandon(op->w->dirty, &op->intent);
	op->stage = OP_DURABLE;
	op_step(op);
}

static void
op_barrier(struct writer_op *op)
{
	struct writer *w = op->w;
	uint64_t to = w->watch != NULL ? watch_drain(w->watch) : 0;

	/* After the drain: it may have found that events were lost, and then the crawl that it began tells of them. */
	if (w->watch != NULL && (watch_listing(w->watch) || away_waits(w->away, op->from_seq) ||
	    (watch_generation(w->watch) != op->generation && watch_crawling(w->watch)))) {
		op->stage = OP_CRAWL;
		mirror_room_cb(w);
		return;
	}
	mirror_wait_seqs(w->mirror, &op->wait, op->from_seq, to);
	op->stage = OP_DURABLE;
	op_step(op);
}

static void
op_done(struct writer_op *op)
{
	writer_finished *finished = op->finished;
	void *arg = op->finished_arg;
	enum err e = op->e;
	bool mirrored = op->mirrored;

	metrics_observe(METRIC_BARRIER_SECONDS, NULL, (clock_mono_ms() - op->wait_began) * 1000);
	op_free(op);
	if (finished != NULL)
		finished(arg, e, mirrored);
}

/* Does an answer wait for R2? Where R2's word is final it must have what the application has stored. */
static bool
mirrors_first(const struct writer *w)
{
	return w->env->conf->mirror_policy == CONF_MIRROR_SYNC || phase_row((enum phase)w->phase)->r2_first;
}

/* One turn of an op that is being finished; never runs inside writer_finish. */
static void
op_step(void *arg)
{
	struct writer_op *op = arg;
	struct writer *w = op->w;

	switch (op->stage) {
	case OP_HOLD:
	case OP_BEGUN:
	case OP_HINTS:
	case OP_LOOK:
	case OP_CONFIRM:
		return;
	case OP_WATCHES:
		op_watches(op);
		return;
	case OP_BARRIER:
	case OP_CRAWL:
		op_barrier(op);
		return;
	case OP_DURABLE:
		if (op->wait.unmarked > 0)
			return;
		op->e = op->e != ERR_OK ? op->e : op->wait.e;
		if (op->key == NULL)
			dirty_confirm(w->dirty, &op->intent, MARK_DISK(op->op), NULL, NULL, NULL);
		op->stage = OP_MIRROR;
		/* fall through */
	case OP_MIRROR:
		if (op->e == ERR_OK && op->finished != NULL && mirrors_first(w) && op->wait.unmirrored > 0 &&
		    !op->wait.failed && !op->expired) {
			if (!loop_timer_pending(&op->deadline))
				loop_timer_set(&op->deadline, w->env->conf->mirror_deadline);
			return;
		}
		op->mirrored = op->wait.unmirrored == 0 && !op->wait.failed;
		op_done(op);
		return;
	}
}

/* An upstream answered, or may have done something. */
static void
op_look(struct writer_op *op)
{
	struct writer *w = op->w;

	if (op->key == NULL) {
		op->stage = OP_BARRIER;
		loop_call_soon(&op->call);
		return;
	}
	if (w->watch != NULL)
		(void)watch_drain(w->watch);
	op->noticed = false;
	op->stage = OP_LOOK;
	op->look = look_at(w->looks, op->key, op->klen, false, looked_cb, op);
}

static void
hints_work(void *arg)
{
	struct writer_op *op = arg;

	hints_look(&op->hints, op->local);
}

/* Each gets a notice of its own: a look that is on its way may be older than what the hint tells of. */
static void
hinted_cb(void *arg)
{
	struct writer_op *op = arg;
	struct writer *w = op->w;
	size_t i;

	for (i = 0; i < op->hints.n; i++) {
		const struct hint *h = &op->hints.v[i];

		if (!hint_counts(h))
			continue;
		mirror_noticed(w->mirror, h->key, h->klen, h->op, w->watch != NULL ? watch_next_seq(w->watch) : 0);
		mirror_wait_key(w->mirror, &op->wait, h->key, h->klen);
	}
	op_look(op);
}

void
writer_hinted(struct writer_op *op, struct hints *hs)
{
	ASSERT(op->hints.n == 0);
	op->hints = *hs;
	*hs = (struct hints){ NULL, 0 };
}

void
writer_finish(struct writer *w, struct writer_op **opp, enum writer_outcome o, writer_finished *done, void *arg)
{
	struct writer_op *op = *opp;

	*opp = NULL;
	op->finished = done;
	op->finished_arg = arg;
	op->wait_began = clock_mono_ms();
	op->outcome = o;
	/* Without an intent its end was never let through. */
	if (o == WRITER_NOT_SENT || op->intent == NULL) {
		hold_drop(&op->hold);
		if (op->intent != NULL)
			dirty_abandon(w->dirty, &op->intent);
		if (op->key != NULL)
			keyed_end(op);
		op->stage = OP_MIRROR;
		op->e = ERR_OK;
		loop_call_soon(&op->call);
	} else if (op->hints.n > 0) {
		op->stage = OP_HINTS;
		pool_submit(w->syncs, &op->job, hints_work, hinted_cb, op);
	} else {
		op_look(op);
	}
}

void
writer_forget(struct writer *w, struct writer_op **opp)
{
	struct writer_op *op = *opp;

	(void)w;
	*opp = NULL;
	op->finished = NULL;
}

static size_t
key_slot(const char *key, size_t klen)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < klen; i++)
		h = (h ^ (unsigned char)key[i]) * 16777619u;
	return (h ^ h >> 16) % PROMOTED;
}

void
writer_promote(struct writer *w, const char *key, size_t klen)
{
	struct promoted *p = &w->promoted[key_slot(key, klen)];
	uint64_t now = clock_mono_ms();

	if (w->env->cluster == NULL || !cluster_up(w->env->cluster))
		return;
	/* A hint is an entry in Redis: not one a read. */
	if (p->until_ms > now && p->klen == klen && memcmp(p->key, key, klen < sizeof(p->key) ? klen : sizeof(p->key)) == 0)
		return;
	p->until_ms = now + PROMOTE_AGAIN_MS;
	p->klen = klen;
	memcpy(p->key, key, klen < sizeof(p->key) ? klen : sizeof(p->key));
	queue_hint(w->env->cluster, key, klen);
}

void
writer_noticed(struct writer *w, const char *key, size_t klen)
{
	mirror_noticed(w->mirror, key, klen, MARK_PUT, w->watch != NULL ? watch_next_seq(w->watch) : 0);
}

struct primary *
writer_primary(struct writer *w)
{
	return w->primary;
}

static uint64_t
drain_watch(void *arg)
{
	struct writer *w = arg;

	return w->watch != NULL ? watch_drain(w->watch) : 0;
}

struct writer_file *
writer_spool_open(struct writer *w)
{
	return writer_disk_spool(w->env);
}

struct writer_file *
writer_file_open(struct writer *w, const char *key, size_t klen, bool exclusive)
{
	return writer_disk_open(w->env, key, klen, exclusive);
}

void
writer_unlink(struct writer *w, const char *key, size_t klen, writer_file_done *done, void *arg)
{
	writer_disk_unlink(w->env, key, klen, done, arg);
}

enum err
writer_ready(struct writer *w)
{
	uint64_t now = clock_mono_ms(), min = w->env->conf->min_free, bytes;
	struct statvfs vfs;
	enum err e;

	e = dirty_journal_state(w->dirty);
	if (e != ERR_OK)
		return e;
	if (w->watch == NULL && phase_row((enum phase)w->phase)->mirror)
		return ERR_UNAVAIL;
	if (now < w->ready_until)
		return w->ready;
	e = local_sentinel(w->local, NULL);
	if (e == ERR_OK)
		e = local_free_space(w->local, &bytes);
	if (e == ERR_OK && bytes < min)
		e = ERR_NOSPACE;
	if (e == ERR_OK && statvfs(w->env->conf->state_dir, &vfs) == 0 && (uint64_t)vfs.f_bavail * vfs.f_frsize < min)
		e = ERR_NOSPACE;
	if (e != w->ready)
		log_warn("writer", "writes are %s: %s", e == ERR_OK ? "taken again" : "refused", err_text(e));
	w->ready = e;
	w->ready_until = now + READY_CACHE_MS;
	return e;
}

/* None is skipped on the way up, by an edited file and a restart neither. Down is always open. What asks the other proxies is not entered by
 * a start at all. */
static enum err
phase_follows(int last, int phase, struct errbuf *eb)
{
	int begin = last < PHASE_R2_PRIMARY ? PHASE_VALIDATE : last;

	if (phase >= PHASE_R2_PRIMARY && last < phase && (last < 0 || phase <= last + 1))
		return err_set(eb, ERR_STATE, "%s is entered by a running proxy: start it in %s, then r2shim phase set", phase_row((enum phase)phase)->name,
		    phase_row((enum phase)begin)->name);
	if (last < 0 || phase <= last + 1)
		return ERR_OK;
	return err_set(eb, ERR_STATE, "phase %s does not follow %s, in which this proxy ran last: start it in %s, then r2shim phase set",
	    phase_row((enum phase)phase)->name, phase_row((enum phase)last)->name, phase_row((enum phase)last)->name);
}

enum err
writer_new(struct writer **wp, const struct reconcile_env *env, int phase, struct errbuf *eb)
{
	struct writer *w = mem_zalloc(sizeof(*w));
	enum err e;

	w->env = env;
	w->local = env->local;
	w->phase = phase;
	list_init(&w->ops);
	w->syncs = pool_new(env->loop, SYNC_THREADS);
	w->keyed = map_new();
	unseen_init(&w->unseen, env->cluster);
	loop_timer_init(&w->clean_timer, env->loop, clean_cb, w);
	*wp = w;
	e = dirty_open(&w->dirty, env->loop, env->conf, &dirty_cbs, w, eb);
	if (e != ERR_OK) {
		writer_free(wp);
		return e;
	}
	e = phase_follows(dirty_last_phase(w->dirty), phase, eb);
	if (e == ERR_OK && phase == PHASE_PASSTHROUGH && writer_owed(w) > 0)
		e = err_set(eb, ERR_STATE, "the disk is owed %zu keys still: start in dual-write, r2shim phase set passthrough waits for them",
		    writer_owed(w));
	if (e != ERR_OK) {
		writer_free(wp);
		return e;
	}
	w->looks = looks_new(env->loop, w->local, w->syncs);
	w->mirror = mirror_new(env, w->dirty, w->looks);
	w->primary = primary_new(&(struct primary_deps){ env, w->dirty, w->mirror, drain_watch, w });
	mirror_set_reclaim(w->mirror, phase == PHASE_R2_ONLY);
	mirror_set_room(w->mirror, FOUND_MAX / 2, mirror_room_cb, w);
	w->away = away_new(env, &away_cbs, w);
	if (env->cluster != NULL)
		dirty_bind(w->dirty, env->cluster);
	writer_arm(w, dirty_armed(w->dirty) || phase_row((enum phase)phase)->r2_first);
	if (phase_row((enum phase)phase)->mirror && dirty_last_phase(w->dirty) <= PHASE_PASSTHROUGH)
		unseen_left_passthrough(&w->unseen);
	dirty_set_phase(w->dirty, phase);
	if (phase_row((enum phase)phase)->mirror)
		e = watch_start(w, eb);
	if (e != ERR_OK) {
		writer_free(wp);
		return e;
	}
	loop_timer_set(&w->clean_timer, CLEAN_MS);
	return ERR_OK;
}

void
writer_reload(struct writer *w, const struct reconcile_env *env, int phase)
{
	bool was = phase_row((enum phase)w->phase)->mirror, now = phase_row((enum phase)phase)->mirror;
	struct errbuf eb;

	w->env = env;
	mirror_set_env(w->mirror, env);
	mirror_set_reclaim(w->mirror, phase == PHASE_R2_ONLY);
	primary_set_env(w->primary, env);
	dirty_set_write_wait(w->dirty, env->conf->write_wait);
	away_set_env(w->away, env);
	w->ready_until = 0;
	w->phase = phase;
	if (phase_row((enum phase)phase)->r2_first)
		writer_arm(w, true);
	dirty_set_phase(w->dirty, phase);
	if (now && !was) {
		unseen_left_passthrough(&w->unseen);
		if (watch_start(w, &eb) != ERR_OK)
			log_error("watch", "%s: no write is taken until it can watch", eb.text);
		unseen_census(&w->unseen, "passthrough was left");
	}
	watch_stop_if_idle(w);
}

void
writer_up(struct writer *w, bool fresh)
{
	dirty_up(w->dirty, fresh);
	unseen_up(&w->unseen);
}

void
writer_down(struct writer *w)
{
	dirty_down(w->dirty);
}

size_t
writer_owed(const struct writer *w)
{
	return dirty_owed(w->dirty);
}

struct dirty *
writer_dirty(struct writer *w)
{
	return w->dirty;
}

bool
writer_blind(const struct writer *w)
{
	return unseen_blind(&w->unseen);
}

bool
writer_uncertain(const struct writer *w)
{
	return dirty_uncertain(w->dirty) || (w->watch != NULL && watch_crawling(w->watch)) || (unseen_blind(&w->unseen) && !dirty_armed(w->dirty));
}

static void
drain_end(struct writer *w)
{
	void (*drained)(void *arg) = w->drained;

	w->drained = NULL;
	loop_timer_fini(&w->drain_timer);
	loop_timer_fini(&w->drain_deadline);
	drained(w->drained_arg);
}

static void
drain_cb(void *arg)
{
	struct writer *w = arg;

	if (w->watch != NULL)
		(void)watch_drain(w->watch);
	if (list_empty(&w->ops) && (w->drain_late || (mirror_count(w->mirror) == 0 && primary_count(w->primary) == 0)))
		drain_end(w);
	else
		loop_timer_set(&w->drain_timer, 20);
}

static void
drain_deadline_cb(void *arg)
{
	struct writer *w = arg;

	/* A client may be gone whose write is still on its way to the journal: its end is short. */
	if (!w->drain_late && !list_empty(&w->ops)) {
		w->drain_late = true;
		loop_timer_set(&w->drain_deadline, DRAIN_LATE_MS);
		return;
	}
	if (mirror_count(w->mirror) > 0)
		log_warn("writer", "stopping with %zu keys that R2 does not have yet: their marks are in the journal and in Redis",
		    mirror_count(w->mirror));
	drain_end(w);
}

void
writer_drain(struct writer *w, uint64_t ms, void (*done)(void *arg), void *arg)
{
	w->drained = done;
	w->drained_arg = arg;
	loop_timer_init(&w->drain_timer, w->env->loop, drain_cb, w);
	loop_timer_init(&w->drain_deadline, w->env->loop, drain_deadline_cb, w);
	loop_timer_set(&w->drain_timer, 0);
	loop_timer_set(&w->drain_deadline, ms);
}

void
writer_state(const struct writer *w, struct writer_state *s)
{
	memset(s, 0, sizeof(*s));
	s->marks = dirty_count(w->dirty);
	s->intents = dirty_open_intents(w->dirty);
	s->mirroring = mirror_running(w->mirror);
	s->waiting = mirror_count(w->mirror) - s->mirroring;
	s->oldest_ms = mirror_oldest_ms(w->mirror);
	s->watching = w->watch != NULL;
	s->crawling = s->watching && watch_crawling(w->watch);
	s->watched_dirs = s->watching ? watch_dirs(w->watch) : 0;
	s->watch_trouble = s->watching ? watch_trouble(w->watch) : NULL;
	s->mirror_trouble = mirror_trouble(w->mirror);
	s->owed = dirty_owed(w->dirty);
	s->armed = writer_armed(w);
	s->census_due = unseen_due(&w->unseen);
	s->journal = dirty_journal_state(w->dirty);
}

void
writer_free(struct writer **wp)
{
	struct writer *w = *wp;
	struct list *p, *n;

	if (w == NULL)
		return;
	*wp = NULL;
	watch_free(&w->watch);
	LIST_FOREACH(p, n, &w->ops)
		op_free(LIST_ENTRY(p, struct writer_op, node));
	primary_free(&w->primary);
	/* From here on no mark calls back. */
	dirty_close(&w->dirty);
	away_free(&w->away);
	mirror_free(&w->mirror);
	map_free(&w->keyed);
	loop_timer_fini(&w->clean_timer);
	looks_free(&w->looks);
	pool_free(&w->syncs);
	mem_free(w);
}
