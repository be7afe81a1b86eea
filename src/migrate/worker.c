#include "migrate/worker.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/str.h"
#include "coord/queue.h"
#include "coord/run.h"
#include "sync/retry.h"

#define BATCHES_OUT 2
#define RETRY_BASE_MS 300
#define RETRY_CAP_MS 10000
/* A key that fails this often in a row for a reason that may pass is handed on: others get its place. */
#define TRIES_IN_PLACE 6
/* So many keys may wait for R2's pace beside those that are worked on. */
#define PACED_MAX 256
#define KEY_MAX 4096

/* A queue item that is being worked on: a batch, or a live key as a batch of one. */
struct batch {
	struct list node;		/* in w->batches while it has keys to start */
	struct worker *w;
	struct queue_item *item;
	bool live;
	json_t *keys;			/* NULL for a live key */
	size_t next, n, open;		/* next to start, how many, how many started ones are open */
	bool dropped;			/* stopping: give it back */
};

/* One key in hand. */
struct task {
	struct list node;
	struct batch *b;
	char *key;
	size_t klen;
	char *etag;
	struct reconcile_hint hint;
	unsigned tries;
	bool paced;			/* waits for R2's next write of the key, and takes no place of others */
	struct reconcile *rec;
	struct loop_timer timer;
	struct store_op *probe;
	char why[256];			/* of the failure that the probe is about */
};

struct worker {
	const struct reconcile_env *env;
	struct queue *queue;
	struct list live, batches;	/* with keys to start */
	struct list tasks;
	size_t ntasks, npaced;
	struct loop_call pump;
	struct worker_counts counts, flushed;
	bool stopping;
	void (*stopped)(void *arg);
	void *stopped_arg;
};

static void task_run(struct task *t);

static void
check_stopped(struct worker *w)
{
	if (w->stopping && w->ntasks == 0 && w->stopped != NULL) {
		void (*stopped)(void *arg) = w->stopped;

		w->stopped = NULL;
		worker_flush(w);
		stopped(w->stopped_arg);
	}
}

static void
batch_end(struct batch *b)
{
	list_del(&b->node);
	if (!b->live) {
		b->w->counts.batches++;
		metrics_add(METRIC_BATCHES, b->dropped ? "released" : "done", 1);
	}
	if (b->dropped)
		queue_release(b->w->queue, &b->item);
	else
		queue_done(b->w->queue, &b->item, NULL, NULL);
	json_decref(b->keys);
	mem_free(b);
}

static void
task_free(struct task *t)
{
	struct batch *b = t->b;
	struct worker *w = b->w;

	list_del(&t->node);
	w->ntasks--;
	w->npaced -= t->paced;
	loop_timer_fini(&t->timer);
	store_cancel(w->env->r2, &t->probe);
	mem_free(t->key);
	mem_free(t->etag);
	mem_free(t);
	b->open--;
	if (b->open == 0 && (b->next == b->n || b->dropped))
		batch_end(b);
	loop_call_soon(&w->pump);
}

/* Gives up on the key for its own sake. Its batch ends only when that is noted: until then the batch stands for it. */
static void
failed_cb(void *arg, enum err e, bool dead)
{
	struct task *t = arg;

	if (e != ERR_OK)
		t->b->dropped = true;	/* could not even be noted: the batch comes again */
	if (dead)
		log_error("migrator", "%s was set aside: see r2shim status", log_key(t->key, t->klen));
	task_free(t);
}

/* Is it the service that is away, not the key that is bad? */
static bool
is_outage(const struct reconcile_report *r)
{
	enum err e = r->e;

	return (e == ERR_DENIED && r->r2) || e == ERR_UNAUTH || e == ERR_NOBUCKET || e == ERR_CLOCK || e == ERR_CONNECT || e == ERR_QUARANTINE || e == ERR_EPOCH ||
	    e == ERR_SENTINEL || e == ERR_NOSPACE;
}

static void
task_pause(struct task *t, bool outage, const char *why)
{
	struct worker *w = t->b->w;

	if (w->stopping) {
		t->b->dropped = true;
		task_free(t);
		return;
	}
	w->counts.retried++;
	if (outage && w->counts.trouble[0] == '\0') {
		snprintf(w->counts.trouble, sizeof(w->counts.trouble), "%.*s", (int)sizeof(w->counts.trouble) - 1, why);
		log_warn("migrator", "waiting: %s", w->counts.trouble);
	}
	loop_timer_set(&t->timer, retry_delay_ms(t->tries, RETRY_BASE_MS, RETRY_CAP_MS));
}

/* Somebody has just written the key. */
static void
task_pace(struct task *t, uint64_t ms)
{
	struct worker *w = t->b->w;

	if (w->stopping) {
		t->b->dropped = true;
		task_free(t);
		return;
	}
	t->paced = w->npaced < PACED_MAX;
	w->npaced += t->paced;
	loop_timer_set(&t->timer, ms);
	loop_call_soon(&w->pump);
}

static void
task_give_up(struct task *t)
{
	struct worker *w = t->b->w;

	w->counts.failed++;
	log_warn("migrator", "%s failed: %s", log_key(t->key, t->klen), t->why);
	queue_fail(w->env->cluster, w->env->conf, t->key, t->klen, t->why, failed_cb, t);
}

static void
probed_cb(void *arg, enum err e, const char *why)
{
	struct task *t = arg;

	t->probe = NULL;
	if (e != ERR_OK)
		task_pause(t, true, why != NULL && *why ? why : err_text(e));
	else
		task_give_up(t);
}

static void
task_failed(struct task *t, const struct reconcile_report *r)
{
	struct worker *w = t->b->w;
	bool outage = is_outage(r);

	snprintf(t->why, sizeof(t->why), "%s", *r->why ? r->why : err_text(r->e));
	t->tries++;
	if (outage || (t->tries < TRIES_IN_PLACE && err_retryable(r->e)))
		task_pause(t, outage, t->why);
	else if (r->r2 && err_retryable(r->e))
		t->probe = store_probe(w->env->r2, probed_cb, t);	/* an R2 that is away must not make dead letters */
	else
		task_give_up(t);
}

static void
reconciled_cb(void *arg, const struct reconcile_report *r)
{
	struct task *t = arg;
	struct worker *w = t->b->w;
	struct worker_counts *c = &w->counts;

	t->rec = NULL;
	metrics_add(METRIC_RECONCILES, reconcile_result_name(r->result), 1);
	if (r->result == RECONCILE_FAILED || (r->result == RECONCILE_DEFERRED && r->e != ERR_BUSY)) {
		task_failed(t, r);
		return;
	}
	if (c->trouble[0] != '\0') {
		log_info("migrator", "going on");
		c->trouble[0] = '\0';
	}
	switch (r->result) {
	case RECONCILE_EQUAL:
		c->equal++;
		break;
	case RECONCILE_COPIED:
	case RECONCILE_RESTORED:
		c->copied++;
		c->copied_bytes += r->bytes;
		run_disk_write(w->env->cluster);
		break;
	case RECONCILE_DELETED:
	case RECONCILE_REMOVED:
		c->deleted++;
		run_disk_write(w->env->cluster);
		break;
	case RECONCILE_ORPHAN:
		c->orphans++;
		break;
	case RECONCILE_UNHOLDABLE:
		c->unholdable++;
		break;
	case RECONCILE_DEFERRED:
		/* Somebody else holds it; if that one dies the key must be looked at again. */
		t->tries++;
		if (t->tries < TRIES_IN_PLACE && r->wait_ms > 0) {
			task_pace(t, r->wait_ms);
			return;
		}
		if (t->tries < TRIES_IN_PLACE) {
			task_pause(t, false, "");
			return;
		}
		queue_hint(w->env->cluster, t->key, t->klen);
		break;
	case RECONCILE_FAILED:
		break;
	}
	c->keys++;
	task_free(t);
}

static void
task_run(struct task *t)
{
	t->rec = reconcile_start(t->b->w->env, t->key, t->klen, t->hint.listed ? &t->hint : NULL, reconciled_cb, t);
}

static void
timer_cb(void *arg)
{
	struct task *t = arg;

	t->b->w->npaced -= t->paced;
	t->paced = false;
	task_run(t);
}

static struct task *
task_new(struct batch *b, const char *key, size_t klen)
{
	struct task *t = mem_zalloc(sizeof(*t));

	t->b = b;
	t->key = mem_strndup(key, klen);
	t->klen = klen;
	loop_timer_init(&t->timer, b->w->env->loop, timer_cb, t);
	list_add_tail(&b->w->tasks, &t->node);
	b->w->ntasks++;
	b->open++;
	return t;
}

/* Was it handed out so often, and never ended? Then it is not the workers' fault that they died. */
static bool
deadly(const struct batch *b)
{
	return b->item->deliveries > (unsigned)b->w->env->conf->migrator_attempts;
}

static void
task_start(struct task *t)
{
	struct worker *w = t->b->w;

	if (!deadly(t->b)) {
		task_run(t);
		return;
	}
	(void)snprintf(t->why, sizeof(t->why), "%u times a migrator died with it in hand", t->b->item->deliveries - 1);
	w->counts.failed++;
	log_warn("migrator", "%s failed: %s", log_key(t->key, t->klen), t->why);
	queue_poison(w->env->cluster, t->key, t->klen, t->why, failed_cb, t);
}

/* The next key of a batch; false if the entry is malformed (whoever pushed it is told in the log), or handed on. */
static bool
batch_next(struct batch *b)
{
	const char *k64, *etag = "";
	json_int_t size = 0, modified = 0;
	uint8_t key[KEY_MAX];
	size_t klen;
	struct task *t;
	json_t *e;

	if (b->live) {
		b->next++;
		task_start(task_new(b, b->item->data, b->item->len));
		return true;
	}
	e = json_array_get(b->keys, b->next++);
	if (json_unpack(e, "{s:s, s?s, s?I, s?I}", "k", &k64, "e", &etag, "s", &size, "m", &modified) != 0 ||
	    !str_unbase64(k64, strlen(k64), key, sizeof(key), &klen)) {
		log_error("migrator", "a malformed entry in batch %s was passed over", b->item->id);
		return false;
	}
	if (b->n > 1 && deadly(b)) {
		/* One of them is it: each gets an entry of its own, and these are told before the batch ends. */
		queue_hint(b->w->env->cluster, (const char *)key, klen);
		return false;
	}
	t = task_new(b, (const char *)key, klen);
	t->etag = mem_strdup(etag);
	t->hint.listed = true;
	t->hint.absent = *etag == '\0';
	t->hint.etag = t->etag;
	t->hint.size = (uint64_t)size;
	t->hint.last_modified_ms = modified;
	task_start(t);
	return true;
}

static void
start_from(struct worker *w, struct list *from)
{
	size_t most = (size_t)w->env->conf->migrator_concurrency;

	while (w->ntasks - w->npaced < most && !list_empty(from)) {
		struct batch *b = LIST_FIRST(from, struct batch, node);
		bool started = b->next < b->n && batch_next(b);

		if (b->next < b->n)
			continue;
		list_del(&b->node);
		if (!started && b->open == 0)
			batch_end(b);
	}
}

static void
pump_cb(void *arg)
{
	struct worker *w = arg;

	if (!w->stopping) {
		start_from(w, &w->live);
		start_from(w, &w->batches);
	}
	w->counts.running = w->ntasks - w->npaced;
	check_stopped(w);
}

static void
item_cb(void *arg, struct queue_item *it)
{
	struct worker *w = arg;
	struct batch *b = mem_zalloc(sizeof(*b));
	json_int_t version = 0;
	json_t *root = NULL;

	b->w = w;
	b->item = it;
	list_init(&b->node);
	b->live = it->kind == QUEUE_LIVE;
	b->n = 1;
	if (!b->live) {
		root = json_loadb(it->data, it->len, 0, NULL);
		if (json_unpack(root, "{s:I, s:O}", "v", &version, "keys", &b->keys) != 0 || version != 1)
			log_error("migrator", "batch %s is not understood and is passed over", it->id);
		b->n = json_array_size(b->keys);
		json_decref(root);
	}
	if (b->n == 0)
		batch_end(b);
	else
		list_add_tail(b->live ? &w->live : &w->batches, &b->node);
	loop_call_soon(&w->pump);
}

struct worker *
worker_new(const struct reconcile_env *env, const char *name)
{
	static const struct queue_cb cb = {item_cb};
	struct worker *w = mem_zalloc(sizeof(*w));

	w->env = env;
	list_init(&w->live);
	list_init(&w->batches);
	list_init(&w->tasks);
	loop_call_init(&w->pump, env->loop, pump_cb, w);
	w->queue = queue_new(env->loop, env->cluster, env->conf, name, (unsigned)env->conf->migrator_concurrency, BATCHES_OUT, &cb, w);
	return w;
}

const struct worker_counts *
worker_counts(const struct worker *w)
{
	return &w->counts;
}

static void
flush_one(struct worker *w, const char *field, uint64_t now, uint64_t *then)
{
	if (now != *then)
		run_count(w->env->cluster, field, now - *then);
	*then = now;
}

void
worker_flush(struct worker *w)
{
	struct worker_counts *c = &w->counts, *f = &w->flushed;

	if (!cluster_up(w->env->cluster))
		return;
	flush_one(w, "copied", c->copied, &f->copied);
	flush_one(w, "copied-bytes", c->copied_bytes, &f->copied_bytes);
	flush_one(w, "equal", c->equal, &f->equal);
	flush_one(w, "deleted", c->deleted, &f->deleted);
	flush_one(w, "failed", c->failed, &f->failed);
}

static void
drop_list(struct list *l)
{
	struct list *p, *n;

	LIST_FOREACH(p, n, l) {
		struct batch *b = LIST_ENTRY(p, struct batch, node);

		b->dropped = true;
		list_del(&b->node);
		if (b->open == 0)
			batch_end(b);
	}
}

void
worker_stop(struct worker *w, void (*stopped)(void *arg), void *arg)
{
	struct list *p, *n;

	w->stopping = true;
	w->stopped = stopped;
	w->stopped_arg = arg;
	queue_stop(w->queue);
	drop_list(&w->live);
	drop_list(&w->batches);
	LIST_FOREACH(p, n, &w->tasks) {
		struct task *t = LIST_ENTRY(p, struct task, node);

		if (loop_timer_pending(&t->timer) || t->probe != NULL) {
			t->b->dropped = true;
			task_free(t);
		}
	}
	loop_call_soon(&w->pump);
}

void
worker_free(struct worker **wp)
{
	struct worker *w = *wp;
	struct list *p, *n;

	if (w == NULL)
		return;
	*wp = NULL;
	w->stopping = true;
	drop_list(&w->live);
	drop_list(&w->batches);
	LIST_FOREACH(p, n, &w->tasks) {
		struct task *t = LIST_ENTRY(p, struct task, node);

		reconcile_cancel(&t->rec);
		t->b->dropped = true;
		task_free(t);
	}
	loop_call_cancel(&w->pump);
	queue_free(&w->queue);
	mem_free(w);
}
