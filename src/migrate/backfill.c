#include "migrate/backfill.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "coord/keys.h"
#include "coord/queue.h"
#include "migrate/census.h"
#include "migrate/walk.h"

#define WALK_CHUNK 500
#define LIST_PAGE 1000
/* A batch is closed early when its files are big, so that workers share them. */
#define BATCH_BYTES (64ull << 20)
/* How often a full queue is looked at again. */
#define FULL_MS 100
/* Pages or queue writes that fail are tried again so often, after this long. */
#define TRIES 10
#define AGAIN_MS 500

struct file {
	char *key;
	size_t klen;
	uint64_t size;
	bool holdable;
};

struct object {
	char *key;
	size_t klen;
	char etag[80];
	uint64_t size;
	int64_t last_modified_ms;
};

struct backfill {
	const struct reconcile_env *env;
	bool active, census_only, from_start, all;
	uint64_t run_id, began_ms;
	void (*done)(void *arg, bool ok, const char *why);
	void *arg;
	/* The walk's side: a chunk at a time. */
	struct walk *walk;
	struct pool_job job;
	struct file files[WALK_CHUNK];
	size_t nfiles, file;
	bool walking, walk_end;
	enum err walk_err;
	/* The listing's side: a page at a time. */
	struct store_op *listing;
	struct object objects[LIST_PAGE];
	size_t nobjects, object;
	char *next_page;
	char *start_after;
	bool list_begun, list_end;
	unsigned tries;
	/* The batch that is being filled. */
	json_t *batch;
	uint64_t batch_bytes;
	char *last_key;
	size_t last_klen;
	bool sending;
	struct walk_counts told;
	uint64_t queued, queued_told;
	struct census *census;
	struct loop_timer timer;
	struct loop_call call;
};

static void step(void *arg);

static void
files_clear(struct backfill *b)
{
	for (size_t i = 0; i < b->nfiles; i++)
		mem_free(b->files[i].key);
	b->nfiles = b->file = 0;
}

static void
objects_clear(struct backfill *b)
{
	for (size_t i = 0; i < b->nobjects; i++)
		mem_free(b->objects[i].key);
	b->nobjects = b->object = 0;
}

static void
pass_end(struct backfill *b)
{
	b->active = false;
	loop_timer_cancel(&b->timer);
	loop_call_cancel(&b->call);
	store_cancel(b->env->r2, &b->listing);
	census_free(&b->census);
	if (!b->walking) {
		files_clear(b);
		walk_free(&b->walk);
	}
	objects_clear(b);
	json_decref(b->batch);
	b->batch = NULL;
	mem_free(b->next_page);
	mem_free(b->start_after);
	mem_free(b->last_key);
	b->next_page = b->start_after = b->last_key = NULL;
}

static void
finish(struct backfill *b, bool ok, const char *why)
{
	void (*done)(void *arg, bool ok, const char *why) = b->done;

	pass_end(b);
	done(b->arg, ok, why);
}

/* The walk. */

static void
walk_work(void *arg)
{
	struct backfill *b = arg;
	struct walk_entry e;

	while (b->nfiles < WALK_CHUNK && (b->walk_err = walk_next(b->walk, &e)) == ERR_OK) {
		struct file *f = &b->files[b->nfiles++];

		f->key = mem_strndup(e.key, e.klen);
		f->klen = e.klen;
		f->size = e.size;
		f->holdable = e.fault == KEYPATH_OK;
	}
}

static void
tell_walk(struct backfill *b)
{
	const struct walk_counts *c = walk_counts(b->walk);
	struct cluster *cl = b->env->cluster;

	if (b->census_only)
		return;
	run_count(cl, "files", c->files - b->told.files);
	run_count(cl, "bytes", c->bytes - b->told.bytes);
	if (c->unholdable != b->told.unholdable)
		run_count(cl, "unholdable", c->unholdable - b->told.unholdable);
	if (c->symlinks != b->told.symlinks)
		run_count(cl, "symlinks", c->symlinks - b->told.symlinks);
	if (c->specials != b->told.specials)
		run_count(cl, "specials", c->specials - b->told.specials);
	if (c->errors != b->told.errors) {
		run_count(cl, "walk-errors", c->errors - b->told.errors);
		log_error("backfill", "cannot be read: %s", walk_first_error(b->walk));
	}
	b->told = *c;
}

static void
walked_cb(void *arg)
{
	struct backfill *b = arg;

	b->walking = false;
	if (!b->active) {	/* stopped meanwhile */
		files_clear(b);
		walk_free(&b->walk);
		return;
	}
	tell_walk(b);
	b->walk_end = b->walk_err != ERR_OK;
	step(b);
}

/* The listing. */

static void
listed_cb(void *arg, enum err e, const struct store_list_entry *v, size_t n, const char *next)
{
	struct backfill *b = arg;

	b->listing = NULL;
	if (e != ERR_OK) {
		if (++b->tries >= TRIES || !err_retryable(e)) {
			finish(b, false, err_text(e));
			return;
		}
		loop_timer_set(&b->timer, AGAIN_MS);
		return;
	}
	b->tries = 0;
	b->list_begun = true;
	for (size_t i = 0; i < n && i < LIST_PAGE; i++) {
		struct object *o = &b->objects[b->nobjects++];

		o->key = mem_strndup(v[i].key, v[i].klen);
		o->klen = v[i].klen;
		snprintf(o->etag, sizeof(o->etag), "%s", v[i].etag);
		o->size = v[i].size;
		o->last_modified_ms = v[i].last_modified_ms;
	}
	mem_free(b->next_page);
	b->next_page = mem_strdup(next);
	b->list_end = next == NULL;
	step(b);
}

/* Batches. */

static void
batch_add(struct backfill *b, const struct file *f, const struct object *o)
{
	struct str k = STR_INIT;

	/* An object of unknown age is asked for its headers. */
	if (b->batch == NULL)
		b->batch = json_array();
	str_add_base64(&k, f->key, f->klen);
	json_array_append_new(b->batch, json_pack("{s:s, s:s, s:I, s:I}", "k", str_z(&k), "e", o != NULL ? o->etag : "", "s",
	    (json_int_t)(o != NULL ? o->size : 0), "m", (json_int_t)(o != NULL && !b->all ? o->last_modified_ms : 0)));
	str_fini(&k);
	b->batch_bytes += f->size;
	mem_free(b->last_key);
	b->last_key = mem_strndup(f->key, f->klen);
	b->last_klen = f->klen;
	b->queued++;
}

static bool
batch_full(const struct backfill *b)
{
	return b->batch != NULL && (json_array_size(b->batch) >= (size_t)b->env->conf->migrator_batch || b->batch_bytes >= BATCH_BYTES);
}

static void
sent_cb(void *arg, enum err e)
{
	struct backfill *b = arg;

	b->sending = false;
	if (!b->active)
		return;
	if (e != ERR_OK) {
		if (++b->tries >= TRIES || !err_retryable(e))
			finish(b, false, err_text(e));
		else
			loop_timer_set(&b->timer, AGAIN_MS);
		return;
	}
	b->tries = 0;
	json_decref(b->batch);
	b->batch = NULL;
	b->batch_bytes = 0;
	/* After the batch, never before: what lies before the cursor is in the queue or done. */
	run_cursor(b->env->cluster, b->last_key, b->last_klen);
	run_count(b->env->cluster, "queued", b->queued - b->queued_told);
	b->queued_told = b->queued;
	step(b);
}

static void
depth_cb(void *arg, enum err e, const struct queue_depth *d)
{
	struct backfill *b = arg;
	json_t *root;
	char *text;

	b->sending = false;
	if (!b->active)
		return;
	if (e != ERR_OK || d->backfill >= (uint64_t)b->env->conf->migrator_queue) {
		loop_timer_set(&b->timer, e != ERR_OK ? AGAIN_MS : FULL_MS);
		return;
	}
	root = json_pack("{s:i, s:O}", "v", 1, "keys", b->batch);
	text = json_dumps(root, JSON_COMPACT);
	b->sending = true;
	queue_add_batch(b->env->cluster, text, strlen(text), sent_cb, b);
	free(text);
	json_decref(root);
}

static void
batch_send(struct backfill *b)
{
	b->sending = true;
	queue_depth(b->env->cluster, depth_cb, b);
}

/* The merge. */

static void
census_cb(void *arg, enum err e, uint64_t found, uint64_t marked, const char *why)
{
	struct backfill *b = arg;
	struct cluster *c = b->env->cluster;

	if (e != ERR_OK) {
		finish(b, false, why);
		return;
	}
	run_note(c, "census-found", found);
	run_note(c, "census-marked", marked);
	run_note(c, KEYS_SITE_CENSUS_DONE, b->began_ms);
	/* Nobody else would look at those again: their marks say put, and there is nothing to put. */
	if (*why != '\0')
		run_note(c, KEYS_SITE_CENSUS_DUE, clock_real_ms());
	if (found > marked)
		log_error("census", "%llu objects have no file, more than migrator.max-delete (%lld): none is deleted. Is the disk complete? "
		    "If so raise it and run the backfill again", (unsigned long long)found, (long long)b->env->conf->max_delete);
	else if (found > 0)
		log_info("census", "%llu objects without a file, looked at twice, are marked as deleted", (unsigned long long)found);
	finish(b, true, "");
}

static void
fed_cb(void *arg, enum err e)
{
	struct backfill *b = arg;

	b->sending = false;
	if (!b->active)
		return;
	if (e != ERR_OK && e != ERR_STATE)
		finish(b, false, err_text(e));
	else if (b->from_start)
		census_finish(b->census, census_cb, b);
	else
		finish(b, true, "");	/* half a listing is no census: one is still due */
}

static void
fed(struct backfill *b)
{
	b->sending = true;
	run_fed(b->env->cluster, b->run_id, fed_cb, b);
}

static int
key_order(const struct file *f, const struct object *o)
{
	size_t n = f->klen < o->klen ? f->klen : o->klen;
	int c = memcmp(f->key, o->key, n);

	return c != 0 ? c : (f->klen > o->klen) - (f->klen < o->klen);
}

/* Takes the smaller head of the two sides. */
static void
merge_one(struct backfill *b)
{
	struct file *f = b->file < b->nfiles ? &b->files[b->file] : NULL;
	struct object *o = b->object < b->nobjects ? &b->objects[b->object] : NULL;
	int c = f == NULL ? 1 : o == NULL ? -1 : key_order(f, o);

	if (c > 0) {
		census_candidate(b->census, o->key, o->klen);
		b->object++;
		return;
	}
	if (f->holdable && !b->census_only)
		batch_add(b, f, c == 0 ? o : NULL);
	b->file++;
	if (c == 0)
		b->object++;
}

/* While the walk is at work its chunk is the pool's, however much of it is there already. */
static bool
need_files(const struct backfill *b)
{
	return b->walking || (b->file == b->nfiles && !b->walk_end);
}

static bool
need_objects(const struct backfill *b)
{
	return b->object == b->nobjects && !b->list_end;
}

static void
fetch(struct backfill *b)
{
	if (need_files(b) && !b->walking) {
		files_clear(b);
		b->walking = true;
		pool_submit(b->env->pool, &b->job, walk_work, walked_cb, b);
	}
	if (need_objects(b) && b->listing == NULL) {
		objects_clear(b);
		b->listing = store_list(b->env->r2, "", b->list_begun ? NULL : b->start_after, b->next_page, LIST_PAGE, listed_cb, b);
	}
}

static void
step(void *arg)
{
	struct backfill *b = arg;

	if (b->sending || !b->active)
		return;
	for (;;) {
		if (batch_full(b)) {
			batch_send(b);
			return;
		}
		if (need_files(b) || need_objects(b)) {
			fetch(b);
			return;
		}
		if (b->file == b->nfiles && b->object == b->nobjects)
			break;
		merge_one(b);
	}
	if (b->walk_err != ERR_NOTFOUND) {
		finish(b, false, err_text(b->walk_err));
		return;
	}
	if (b->batch != NULL) {
		batch_send(b);
		return;
	}
	if (b->census_only)
		census_finish(b->census, census_cb, b);
	else
		fed(b);
}

bool
backfill_start(struct backfill *b, const struct run *r, bool census_only, void (*done)(void *arg, bool ok, const char *why), void *arg)
{
	const char *cursor = census_only ? NULL : r->cursor;

	if (b->active || b->walking || b->sending)
		return false;
	b->active = true;
	b->census_only = census_only;
	b->from_start = cursor == NULL;
	b->run_id = r->id;
	b->all = r->all != 0;
	b->began_ms = clock_real_ms();
	b->done = done;
	b->arg = arg;
	b->walk_end = b->list_begun = b->list_end = false;
	b->walk_err = ERR_OK;
	b->tries = 0;
	b->batch_bytes = 0;
	b->queued = b->queued_told = 0;
	memset(&b->told, 0, sizeof(b->told));
	b->walk = walk_new(b->env->local, cursor, cursor != NULL ? r->cursor_len : 0);
	b->start_after = cursor != NULL ? mem_strndup(cursor, r->cursor_len) : NULL;
	b->census = census_new(b->env);
	loop_call_soon(&b->call);
	return true;
}

bool
backfill_active(const struct backfill *b)
{
	return b->active;
}

void
backfill_stop(struct backfill *b)
{
	if (b->active)
		pass_end(b);
}

struct backfill *
backfill_new(const struct reconcile_env *env)
{
	struct backfill *b = mem_zalloc(sizeof(*b));

	b->env = env;
	loop_timer_init(&b->timer, env->loop, step, b);
	loop_call_init(&b->call, env->loop, step, b);
	return b;
}

static void
release(void *arg)
{
	struct backfill *b = arg;

	files_clear(b);
	walk_free(&b->walk);
	mem_free(b);
}

void
backfill_free(struct backfill **bp)
{
	struct backfill *b = *bp;

	if (b == NULL)
		return;
	*bp = NULL;
	backfill_stop(b);
	loop_timer_fini(&b->timer);
	if (b->walking)
		pool_cancel(&b->job, release);
	else
		release(b);
}
