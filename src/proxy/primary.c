#include "proxy/primary.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/str.h"
#include "coord/hold.h"
#include "store/local_swap.h"

enum {
	FILE_MODE = 0644,
	AGAIN_MS = 50		/* what was in the way of a write is over soon: it begins again after this */
};

enum op_stage {
	OP_WAITING,		/* behind others of its key, or for the pace that R2 takes */
	OP_HOLD,		/* the key's lease is waited for */
	OP_LOOK,		/* the pool looks at the disk's file */
	OP_NOTICE,		/* a write to the disk that nobody has marked goes first */
	OP_INTENT,		/* on its way to the journal */
	OP_SEND,		/* on its way to R2 */
	OP_CONFIRM		/* the mark is made durable */
};

/* One key's writes. */
struct pkey {
	struct primary *p;
	struct list waiting;
	struct primary_op *running;
	struct cluster_call *pacing;	/* Redis is asked whether anybody has just written the key */
	struct loop_timer pace;
	size_t klen;
	char key[];
};

struct primary_op {
	struct list node;		/* in pkey.waiting, or in another's `overtaken` */
	struct pkey *k;
	struct local *local;		/* for the pool, as the key below: all else may be gone by then */
	enum mark_op op;
	bool create;
	struct spool body;
	struct list overtaken;		/* answered with this one */
	primary_done *done;
	void *arg;

	enum op_stage stage;
	struct hold *hold;
	struct pool_job job;
	struct local_stat st;
	uint64_t seq;			/* the watcher's last event before the look */
	enum err look_err;
	struct mark_write w;
	bool existed, unsettled;
	uint64_t until_ms;		/* so long are lease and settling waited for */
	struct loop_timer again;
	struct cluster_call *notice;
	struct dirty_intent *intent;
	struct store_op *send;
	struct store *r2;
	struct loop_call end;
	enum primary_fate fate;
	enum err e;
	size_t klen;
	char key[];
};

struct primary {
	const struct reconcile_env *env;
	struct primary_deps deps;
	struct map *keys;
	size_t count;
};

static void key_next(struct pkey *k);

/* Ends. */

static void
op_release(void *arg)
{
	struct primary_op *op = arg;

	if (op->body.fd >= 0)
		close(op->body.fd);
	mem_free(op);
}

static void
op_free(struct primary_op *op)
{
	struct primary *p = op->k->p;

	list_del(&op->node);
	hold_drop(&op->hold);
	cluster_cancel(&op->notice);
	loop_timer_fini(&op->again);
	loop_call_cancel(&op->end);
	p->count--;
	if (op->job.busy)
		pool_cancel(&op->job, op_release);
	else
		op_release(op);
}

static void
op_answer(struct primary_op *op, enum err e, enum primary_fate fate, bool created)
{
	primary_done *done = op->done;
	void *arg = op->arg;

	op_free(op);
	if (done != NULL)
		done(arg, e, fate, created);
}

static void
op_ended(void *arg)
{
	struct primary_op *op = arg;
	struct pkey *k = op->k;
	bool created = op->op == MARK_PUT && !op->existed;
	enum err e = op->e;

	if (e == ERR_OK && op->op == MARK_DELETE && !op->existed)
		e = ERR_NOTFOUND;
	metrics_add(METRIC_R2_FIRST, err_name(e), 1);
	while (!list_empty(&op->overtaken)) {
		struct primary_op *o = LIST_FIRST(&op->overtaken, struct primary_op, node);

		op_answer(o, op->e, op->fate, created);
	}
	k->running = NULL;
	op_answer(op, e, op->fate, created);
	key_next(k);
}

static void
op_end(struct primary_op *op, enum err e)
{
	op->e = e;
	loop_call_soon(&op->end);
}

/* Nothing was sent, or R2 has certainly not done it. */
static void
op_undone(struct primary_op *op, enum err e)
{
	struct pkey *k = op->k;

	op->fate = op->stage == OP_SEND ? PRIMARY_REFUSED : PRIMARY_NOT_SENT;
	hold_drop(&op->hold);
	if (op->intent != NULL)
		dirty_abandon(k->p->deps.dirty, &op->intent);
	/* What was noticed on the disk is owed to R2. */
	if (op->stage > OP_NOTICE)
		mirror_owed(k->p->deps.mirror, k->key, k->klen);
	op_end(op, e);
}

static void
unknown_cb(void *arg, enum err e)
{
	struct primary_op *op = arg;
	struct pkey *k = op->k;

	(void)e;
	mirror_owed(k->p->deps.mirror, k->key, k->klen);
	op_end(op, op->e);
}

/* R2 may have done it, and may still do it. */
static void
op_unknown(struct primary_op *op, enum err e)
{
	log_warn("r2-first", "%s: nobody knows whether R2 has it: %s", log_key(op->k->key, op->k->klen), err_text(e));
	hold_park(&op->hold);
	op->fate = PRIMARY_UNKNOWN;
	op->e = e;
	op->stage = OP_CONFIRM;
	dirty_unknown(op->k->p->deps.dirty, &op->intent, unknown_cb, op);
}

/* Nothing was sent: from the lease on once more, as long as the client may be kept waiting. */
static void
op_again(struct primary_op *op, enum err e)
{
	hold_drop(&op->hold);
	op->stage = OP_HOLD;
	if (clock_mono_ms() < op->until_ms)
		loop_timer_set(&op->again, AGAIN_MS);
	else
		op_undone(op, e);
}

/* The steps, from the last to the first. */

static void
confirmed_cb(void *arg, enum err e)
{
	struct primary_op *op = arg;
	struct pkey *k = op->k;

	hold_spent(&op->hold);
	mirror_owed(k->p->deps.mirror, k->key, k->klen);
	op_end(op, e);
}

/* Does this end of a request say that R2 has certainly not done it? */
static bool
refused(enum err e)
{
	switch ((int)e) {
	case ERR_PRECOND:
	case ERR_UNAUTH:
	case ERR_DENIED:
	case ERR_NOBUCKET:
	case ERR_CLOCK:
	case ERR_THROTTLED:
	case ERR_CONNECT:
	case ERR_TOOBIG:
	case ERR_INVAL:
		return true;
	default:
		return false;
	}
}

static void
sent_cb(void *arg, enum err e, const char *etag)
{
	struct primary_op *op = arg;

	(void)etag;
	op->send = NULL;
	if (e == ERR_NOTFOUND && op->op == MARK_DELETE)
		e = ERR_OK;
	if (e != ERR_OK) {
		if (refused(e))
			op_undone(op, e);
		else
			op_unknown(op, e);
		return;
	}
	op->stage = OP_CONFIRM;
	op->fate = PRIMARY_TAKEN;
	if (!op->w.base.exists)
		mirror_absent(op->k->p->deps.mirror, op->k->key, op->k->klen, op->seq);
	hold_last(op->hold);
	dirty_confirm(op->k->p->deps.dirty, &op->intent, op->w, hold_lease(op->hold), confirmed_cb, op);
}

/* As local_meta would describe the file that the mirror will make of it. */
static void
make_meta(const struct primary_op *op, struct store_meta *m)
{
	const struct pkey *k = op->k;
	struct str path = STR_INIT;
	const struct conf *c = k->p->env->conf;
	const struct conf_prefix *prefix;
	char base[MARK_BASE_MAX];
	struct local_stat st = { .exists = true, .size = op->body.size, .mtime_ns = (int64_t)clock_real_us() * 1000, .mode = FILE_MODE,
		.uid = geteuid(), .gid = getegid() };

	str_addz(&path, c->media_url);
	str_add(&path, k->key, k->klen);
	prefix = conf_prefix_for(c, path.p, path.len);
	str_fini(&path);
	local_meta(&st, k->key, k->klen, prefix != NULL ? prefix->cache_control : NULL, m);
	m->base = mem_strdup(marks_base_text(&op->w.base, base));
}

static void
op_send(struct primary_op *op)
{
	struct pkey *k = op->k;
	const struct reconcile_env *env = k->p->env;
	struct store_put put = { .key = k->key, .klen = k->klen, .fd = op->body.fd, .body = "", .size = op->body.size,
		.fence = { .if_absent = op->create }, .limit_ms = cluster_limit_ms(env->cluster) };
	struct store_meta meta;

	op->stage = OP_SEND;
	op->r2 = env->r2;
	if (op->op == MARK_DELETE) {
		op->send = store_del(op->r2, k->key, k->klen, put.limit_ms, sent_cb, op);
		return;
	}
	memcpy(put.md5, op->body.md5, sizeof put.md5);
	memcpy(put.sha256, op->body.sha256, sizeof put.sha256);
	make_meta(op, &meta);
	put.meta = &meta;
	op->send = store_put(op->r2, &put, sent_cb, op);
	store_meta_fini(&meta);
}

static void
journalled_cb(void *arg, enum err e)
{
	struct primary_op *op = arg;

	if (e != ERR_OK)
		op_undone(op, e);
	else if (!hold_held(op->hold))
		op_undone(op, ERR_BUSY);
	else
		op_send(op);
}

static void
op_intent(struct primary_op *op)
{
	struct pkey *k = op->k;

	op->stage = OP_INTENT;
	op->w = (struct mark_write){ .op = op->op, .side = MARK_R2, .base = reconcile_base(&op->st) };
	op->intent = dirty_intent(k->p->deps.dirty, k->key, k->klen, op->w, journalled_cb, op);
}

static void
noticed_cb(void *arg, enum err e, const struct mark *m)
{
	struct primary_op *op = arg;

	(void)m;
	op->notice = NULL;
	if (e != ERR_OK)
		op_again(op, e == ERR_LEASE_LOST ? ERR_BUSY : ERR_UNAVAIL);
	else
		op_intent(op);
}

static void
look_work(void *arg)
{
	struct primary_op *op = arg;

	op->unsettled = local_swap_pending(op->local, op->key, op->klen);
	op->look_err = local_look(op->local, op->key, op->klen, &op->st);
}

/* Is what the disk shows what the last known write left there? On a clean key it cannot be told without asking R2: then it is marked
 * as the disk's, which is harmless, because the two are equal or nobody knew that they are not. */
static bool
disk_is_known(const struct primary_op *op, const struct mark *seen)
{
	struct mark_base now = reconcile_base(&op->st);

	if (seen->gen == 0)
		return false;
	return seen->side == MARK_LOCAL || (!seen->base.unconfirmed && marks_base_same(&seen->base, &now));
}

static void
looked_cb(void *arg)
{
	struct primary_op *op = arg;
	struct pkey *k = op->k;
	const struct mark *seen;
	enum mark_op disk = op->st.exists ? MARK_PUT : MARK_DELETE;

	if (op->look_err != ERR_OK || !hold_held(op->hold)) {
		log_warn("r2-first", "%s: the disk cannot be looked at: %s", log_key(k->key, k->klen),
		    err_text(op->look_err != ERR_OK ? op->look_err : ERR_LEASE_LOST));
		op_undone(op, op->look_err != ERR_OK ? op->look_err : ERR_BUSY);
		return;
	}
	/* A base that is written again in the same tick of the clock would still look like the base. */
	if (local_is_young(&op->st)) {
		op_again(op, ERR_BUSY);
		return;
	}
	if (op->unsettled) {
		mirror_owed(k->p->deps.mirror, k->key, k->klen);
		op_again(op, ERR_BUSY);
		return;
	}
	seen = &hold_lease(op->hold)->seen;
	op->existed = seen->gen > 0 && seen->side == MARK_R2 ? seen->op == MARK_PUT : op->st.exists;
	if (op->create && op->existed) {
		op_undone(op, ERR_PRECOND);
		return;
	}
	if (disk_is_known(op, seen)) {
		op_intent(op);
		return;
	}
	op->stage = OP_NOTICE;
	/* As long as the write to R2 may take, a migrator would only find the lease taken. */
	op->notice = marks_set_held(k->p->env->cluster, k->key, k->klen, MARK_DISK(disk), cluster_limit_ms(k->p->env->cluster) + MARKS_DUE_MS,
	    hold_lease(op->hold), noticed_cb, op);
}

static void
held_cb(void *arg, enum err e, const struct lease *l)
{
	struct primary_op *op = arg;

	(void)l;
	if (e != ERR_OK) {
		log_warn("r2-first", "%s: the key's lease could not be had: %s", log_key(op->k->key, op->k->klen), err_text(e));
		op_undone(op, e == ERR_BUSY ? ERR_BUSY : ERR_UNAVAIL);
		return;
	}
	/* Events up to here are of what the look will see. */
	op->seq = op->k->p->deps.drain(op->k->p->deps.arg);
	op->stage = OP_LOOK;
	pool_submit(op->k->p->env->pool, &op->job, look_work, looked_cb, op);
}

/* Only what is on the wire must end at once; every other step finds out by itself. */
static void
lost_cb(void *arg, enum err e)
{
	struct primary_op *op = arg;

	if (op->stage != OP_SEND)
		return;
	store_cancel(op->r2, &op->send);
	op_unknown(op, e);
}

static void
op_hold(void *arg)
{
	static const struct hold_cb cb = { held_cb, lost_cb };
	struct primary_op *op = arg;
	uint64_t now = clock_mono_ms();

	op->stage = OP_HOLD;
	op->hold = hold_new(op->k->p->env->cluster, op->k->key, op->k->klen, op->until_ms > now ? op->until_ms - now : 0, true, &cb, op);
}

/* The key. */

static void
key_free(struct pkey *k)
{
	map_del(k->p->keys, k->key, k->klen);
	cluster_cancel(&k->pacing);
	loop_timer_fini(&k->pace);
	mem_free(k);
}

/* The newest of those that may be one; all others before it are answered with it. */
static struct primary_op *
take_waiting(struct pkey *k)
{
	struct primary_op *op = LIST_FIRST(&k->waiting, struct primary_op, node), *next;

	list_del(&op->node);
	while (!op->create && (next = LIST_FIRST(&k->waiting, struct primary_op, node)) != NULL && !next->create) {
		list_del(&next->node);
		while (!list_empty(&op->overtaken)) {
			struct list *o = op->overtaken.next;

			list_del(o);
			list_add_tail(&next->overtaken, o);
		}
		list_add_tail(&next->overtaken, &op->node);
		metrics_add(METRIC_R2_FIRST, "overtaken", 1);
		op = next;
	}
	return op;
}

/* Without Redis the lease cannot be had either, and that is waited for. */
static void
paced_cb(void *arg, enum err e, uint64_t wait_ms)
{
	struct pkey *k = arg;

	k->pacing = NULL;
	if (e == ERR_OK && wait_ms > 0) {
		loop_timer_set(&k->pace, wait_ms);
		return;
	}
	k->running = take_waiting(k);
	k->running->until_ms = clock_mono_ms() + k->p->env->conf->write_wait;
	op_hold(k->running);
}

static void
key_next(struct pkey *k)
{
	const struct reconcile_env *env = k->p->env;

	if (k->running != NULL || k->pacing != NULL || loop_timer_pending(&k->pace))
		return;
	if (list_empty(&k->waiting))
		key_free(k);
	else
		k->pacing = marks_pace(env->cluster, k->key, k->klen, env->conf->r2_write_interval, paced_cb, k);
}

static void
pace_cb(void *arg)
{
	key_next(arg);
}

static struct primary_op *
op_new(struct primary *p, const char *key, size_t klen, enum mark_op mop, primary_done *done, void *arg)
{
	struct pkey *k = map_get(p->keys, key, klen);
	struct primary_op *op = mem_zalloc(sizeof *op + klen);

	if (k == NULL) {
		k = mem_zalloc(sizeof *k + klen);
		k->p = p;
		k->klen = klen;
		memcpy(k->key, key, klen);
		list_init(&k->waiting);
		loop_timer_init(&k->pace, p->env->loop, pace_cb, k);
		map_set(p->keys, key, klen, k);
	}
	op->k = k;
	op->klen = klen;
	memcpy(op->key, key, klen);
	op->local = p->env->local;
	op->op = mop;
	op->body.fd = -1;
	op->done = done;
	op->arg = arg;
	list_init(&op->overtaken);
	loop_call_init(&op->end, p->env->loop, op_ended, op);
	loop_timer_init(&op->again, p->env->loop, op_hold, op);
	list_add_tail(&k->waiting, &op->node);
	p->count++;
	return op;
}

struct primary_op *
primary_put(struct primary *p, const char *key, size_t klen, struct spool *body, bool create, primary_done *done, void *arg)
{
	struct primary_op *op = op_new(p, key, klen, MARK_PUT, done, arg);

	op->body = *body;
	body->fd = -1;
	op->create = create;
	key_next(op->k);
	return op;
}

struct primary_op *
primary_delete(struct primary *p, const char *key, size_t klen, primary_done *done, void *arg)
{
	struct primary_op *op = op_new(p, key, klen, MARK_DELETE, done, arg);

	key_next(op->k);
	return op;
}

void
primary_forget(struct primary_op **op)
{
	if (*op != NULL)
		(*op)->done = NULL;
	*op = NULL;
}

size_t
primary_count(const struct primary *p)
{
	return p->count;
}

struct primary *
primary_new(const struct primary_deps *d)
{
	struct primary *p = mem_zalloc(sizeof *p);

	p->env = d->env;
	p->deps = *d;
	p->keys = map_new();
	return p;
}

void
primary_set_env(struct primary *p, const struct reconcile_env *env)
{
	p->env = env;
}

/* Its intent stays open in the journal: the next life takes it for unknown. */
static void
op_cut(struct primary_op *op)
{
	if (op->send != NULL)
		store_cancel(op->r2, &op->send);
	hold_park(&op->hold);
	while (!list_empty(&op->overtaken))
		op_free(LIST_FIRST(&op->overtaken, struct primary_op, node));
	op_free(op);
}

void
primary_free(struct primary **pp)
{
	struct primary *p = *pp;
	size_t pos = 0, klen;
	const void *key;
	void *value;

	if (p == NULL)
		return;
	*pp = NULL;
	while (map_next(p->keys, &pos, &key, &klen, &value)) {
		struct pkey *k = value;

		if (k->running != NULL)
			op_cut(k->running);
		while (!list_empty(&k->waiting))
			op_cut(LIST_FIRST(&k->waiting, struct primary_op, node));
		key_free(k);
	}
	map_free(&p->keys);
	mem_free(p);
}
