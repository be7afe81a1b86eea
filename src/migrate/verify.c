#include "migrate/verify.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/keypath.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/str.h"
#include "coord/run.h"
#include "migrate/walk.h"

#define WALK_CHUNK 500
#define LIST_PAGE 1000
#define PROGRESS_MS 200
/* A difference is looked at again: something may be on its way. So often without a mark, and so long with one. */
#define LOOKS 3
#define LOOK_PAUSE_MS 700
#define MARK_PATIENCE_MS 60000
/* ... but what the disk is owed has a class of its own. */
#define OWED_PATIENCE_MS 10000
/* A key that is written so often while we look is at work, not different: its mark sees to it. */
#define MOVES 3

/* One key in hand: the file's side, R2's side, the mark, a class. */
struct check {
	struct list node;
	struct verify *v;
	struct local *local;	/* for the pool: v may be gone by then */
	char *key;
	size_t klen;
	bool from_listing;	/* R2 showed it: is there a file? */
	unsigned looks, moves;
	uint64_t began, gen;	/* gen: of the mark at the last look */
	/* The file. */
	struct pool_job job;
	enum err file_err;
	struct local_stat st;
	uint8_t md5[DIGEST_MD5_LEN];
	struct store_op *op;
	struct loop_timer timer;
	enum verify_class class;
	char why[256];
	bool calling, freed;
};

struct verify {
	const struct reconcile_env *env;
	const struct verify_cb *cb;
	void *arg;
	uint64_t sample;
	unsigned most;
	struct verify_report report;
	struct list checks;
	unsigned running;
	/* Keys that wait to be checked: a chunk of the walk, a sample, or a page of the listing. */
	char **keys;
	size_t *lens;
	size_t nkeys, at, cap;
	struct walk *walk;
	struct pool_job job;
	bool fetching, walk_end, list_begun, list_end;
	enum err walk_err;
	uint64_t seen;		/* by the sample's choice */
	char *next_page;
	struct store_op *listing;
	struct loop_timer progress;
	struct loop_call call;
	bool storing, freed;	/* a call to Redis is out: it cannot be taken back */
};

static const char r2_newer_text[] = "R2 was written first, the disk never got it, and no mark says so";

static void pump(void *arg);
static void check_begin(struct check *c);

const char *
verify_class_name(enum verify_class v)
{
	static const char *const names[VERIFY_CLASSES] = {
		[VERIFY_EQUAL] = "equal",
		[VERIFY_MISSING] = "missing",
		[VERIFY_EXTRA] = "extra",
		[VERIFY_DIFFERENT] = "different",
		[VERIFY_OWED] = "owed",
		[VERIFY_R2_NEWER] = "r2-newer",
		[VERIFY_METADATA] = "metadata",
		[VERIFY_UNHOLDABLE] = "unholdable",
		[VERIFY_UNREADABLE] = "unreadable",
		[VERIFY_ERROR] = "error",
	};

	return names[v];
}

/* One key. */

static void
check_release(void *arg)
{
	struct check *c = arg;

	mem_free(c->key);
	mem_free(c);
}

static void
check_free(struct check *c)
{
	list_del(&c->node);
	loop_timer_fini(&c->timer);
	store_cancel(c->v->env->r2, &c->op);
	if (c->calling)
		c->freed = true;
	else if (c->job.busy)
		pool_cancel(&c->job, check_release);
	else
		check_release(c);
}

static void
check_end(struct check *c)
{
	struct verify *v = c->v;

	/* A file that R2 listed is counted when the walk comes to it. */
	bool counts = !c->from_listing || c->class == VERIFY_EXTRA || c->class == VERIFY_OWED || c->class == VERIFY_R2_NEWER ||
	    c->class == VERIFY_ERROR;

	if (counts)
		v->report.n[c->class]++;
	if (!c->from_listing) {
		v->report.files++;
		v->report.bytes += c->st.size;
	}
	if (c->class != VERIFY_EQUAL && v->cb->finding != NULL && counts)
		v->cb->finding(v->arg, c->class, c->key, c->klen, c->why);
	v->running--;
	check_free(c);
	loop_call_soon(&v->call);
}

static void
mark_cb(void *arg, enum err e, const struct mark *m)
{
	struct check *c = arg;
	bool owed = e == ERR_OK && m->gen != 0 && m->side == MARK_R2;

	c->calling = false;
	if (c->freed) {
		check_release(c);
		return;
	}
	if (e == ERR_OK && m->gen != 0 && c->gen != 0 && m->gen != c->gen && ++c->moves == MOVES) {
		c->class = VERIFY_EQUAL;
		check_end(c);
		return;
	}
	if (e == ERR_OK && m->gen != 0 && clock_mono_ms() - c->began < (owed ? OWED_PATIENCE_MS : MARK_PATIENCE_MS)) {
		c->gen = m->gen;
		c->looks = 0;
		loop_timer_set(&c->timer, LOOK_PAUSE_MS);
		return;
	}
	if (++c->looks < LOOKS) {
		loop_timer_set(&c->timer, LOOK_PAUSE_MS);
		return;
	}
	if (owed && c->class != VERIFY_UNREADABLE && c->class != VERIFY_ERROR) {
		c->class = VERIFY_OWED;
		snprintf(c->why, sizeof(c->why), "R2 was written first, the disk is to get it");
	}
	check_end(c);
}

/* Is the object of a write that went to R2 first, and does the disk still show what that write found there? */
static bool
r2_is_newer(const struct check *c, const struct store_meta *m)
{
	struct mark_base then, now = reconcile_base(&c->st);

	return m->base != NULL && marks_base_parse(m->base, strlen(m->base), &then) && then.known && marks_base_same(&then, &now);
}

/* The class is known: a bad one only after several looks with no mark on the key. */
static void
classed(struct check *c, enum verify_class class, const char *why)
{
	c->class = class;
	snprintf(c->why, sizeof(c->why), "%s", why);
	if (class == VERIFY_EQUAL || class == VERIFY_UNHOLDABLE) {
		check_end(c);
		return;
	}
	c->calling = true;
	marks_get(c->v->env->cluster, c->key, c->klen, mark_cb, c);
}

static void
compare(struct check *c, const struct store_meta *m)
{
	const struct conf *conf = c->v->env->conf;
	struct store_meta want;
	struct str path = STR_INIT;
	const struct conf_prefix *prefix;
	char why[200] = "";

	if (r2_is_newer(c, m) && (m->size != c->st.size || !m->has_md5 || memcmp(m->md5, c->md5, sizeof(c->md5)) != 0)) {
		classed(c, VERIFY_R2_NEWER, r2_newer_text);
		return;
	}
	if (m->size != c->st.size) {
		snprintf(why, sizeof(why), "%llu bytes on disk, %llu in R2", (unsigned long long)c->st.size, (unsigned long long)m->size);
		classed(c, VERIFY_DIFFERENT, why);
		return;
	}
	if (!m->has_md5 || memcmp(m->md5, c->md5, sizeof(c->md5)) != 0) {
		classed(c, VERIFY_DIFFERENT, m->has_md5 ? "same size, other bytes" : "the object bears no digest of its whole content");
		return;
	}
	str_addz(&path, conf->media_url);
	str_add(&path, c->key, c->klen);
	prefix = conf_prefix_for(conf, path.p, path.len);
	str_fini(&path);
	store_meta_init(&want);
	local_meta(&c->st, c->key, c->klen, prefix != NULL ? prefix->cache_control : NULL, &want);
	if (!m->has_mtime || m->mtime_ns != want.mtime_ns)
		snprintf(why, sizeof(why), "other modification time");
	else if (m->content_type == NULL || strcmp(m->content_type, want.content_type) != 0)
		snprintf(why, sizeof(why), "Content-Type %s, not %s", m->content_type != NULL ? m->content_type : "missing", want.content_type);
	else if ((m->cache_control == NULL) != (want.cache_control == NULL) ||
	    (m->cache_control != NULL && strcmp(m->cache_control, want.cache_control) != 0))
		snprintf(why, sizeof(why), "other Cache-Control");
	store_meta_fini(&want);
	classed(c, *why ? VERIFY_METADATA : VERIFY_EQUAL, why);
}

static void
head_cb(void *arg, enum err e, const struct store_meta *m)
{
	struct check *c = arg;

	c->op = NULL;
	if (e == ERR_OK && c->st.exists)
		compare(c, m);
	else if (e == ERR_OK && r2_is_newer(c, m))
		classed(c, VERIFY_R2_NEWER, r2_newer_text);
	else if (e == ERR_OK)
		classed(c, VERIFY_EXTRA, "an object without a file");
	else if (e == ERR_NOTFOUND)
		classed(c, c->st.exists ? VERIFY_MISSING : VERIFY_EQUAL, "R2 does not have it");
	else
		classed(c, VERIFY_ERROR, err_text(e));
}

static void
file_work(void *arg)
{
	struct check *c = arg;
	struct local *l = c->local;
	uint8_t sha[DIGEST_SHA256_LEN];
	int fd;

	memset(&c->st, 0, sizeof(c->st));
	c->file_err = local_open_key(l, c->key, c->klen, &fd, &c->st);
	if (c->file_err == ERR_NOTFOUND) {
		c->file_err = local_look(l, c->key, c->klen, &c->st);
		return;
	}
	if (c->file_err != ERR_OK)
		return;
	c->st.exists = true;
	if (!c->from_listing)
		c->file_err = local_digest(fd, c->st.size, c->md5, sha, &c->job.cancelled);
	close(fd);
}

static void
file_cb(void *arg)
{
	struct check *c = arg;

	if (c->file_err != ERR_OK)
		classed(c, VERIFY_UNREADABLE, err_text(c->file_err));
	else if (c->from_listing && c->st.exists)
		classed(c, VERIFY_EQUAL, "");
	else
		c->op = store_head(c->v->env->r2, c->key, c->klen, c->v->env->conf->r2_request_limit, head_cb, c);
}

static void
check_begin(struct check *c)
{
	enum keypath_fault f = keypath_check(c->key, c->klen);

	if (f != KEYPATH_OK) {
		c->st.size = 0;
		classed(c, VERIFY_UNHOLDABLE, keypath_fault_text(f));
		return;
	}
	pool_submit(c->v->env->pool, &c->job, file_work, file_cb, c);
}

static void
timer_cb(void *arg)
{
	check_begin(arg);
}

static void
check_new(struct verify *v, char *key, size_t klen, bool from_listing)
{
	struct check *c = mem_zalloc(sizeof(*c));

	c->v = v;
	c->local = v->env->local;
	c->key = key;
	c->klen = klen;
	c->from_listing = from_listing;
	c->began = clock_mono_ms();
	loop_timer_init(&c->timer, v->env->loop, timer_cb, c);
	list_add_tail(&v->checks, &c->node);
	v->running++;
	check_begin(c);
}

/* Where keys come from. */

static void
keys_clear(struct verify *v)
{
	for (size_t i = v->at; i < v->nkeys; i++)
		mem_free(v->keys[i]);
	v->nkeys = v->at = 0;
}

static void
keys_add(struct verify *v, const char *key, size_t klen)
{
	if (v->nkeys == v->cap) {
		v->cap = v->cap != 0 ? v->cap * 2 : WALK_CHUNK;
		v->keys = mem_realloc(v->keys, v->cap * sizeof(*v->keys));
		v->lens = mem_realloc(v->lens, v->cap * sizeof(*v->lens));
	}
	v->keys[v->nkeys] = mem_strndup(key, klen);
	v->lens[v->nkeys++] = klen;
}

/* Algorithm R: every file has the same chance, without knowing how many there are. */
static void
sample_add(struct verify *v, const struct walk_entry *e)
{
	uint64_t r;

	v->seen++;
	if (v->nkeys < v->sample) {
		keys_add(v, e->key, e->klen);
		return;
	}
	digest_random(&r, sizeof(r));
	r %= v->seen;
	if (r >= v->sample)
		return;
	mem_free(v->keys[r]);
	v->keys[r] = mem_strndup(e->key, e->klen);
	v->lens[r] = e->klen;
}

static void
walk_work(void *arg)
{
	struct verify *v = arg;
	struct walk_entry e;

	while ((v->sample != 0 || v->nkeys < WALK_CHUNK) && !pool_job_cancelled(&v->job) && (v->walk_err = walk_next(v->walk, &e)) == ERR_OK) {
		if (v->sample != 0)
			sample_add(v, &e);
		else
			keys_add(v, e.key, e.klen);
	}
}

static void
walked_cb(void *arg)
{
	struct verify *v = arg;

	v->fetching = false;
	v->walk_end = v->walk_err != ERR_OK;
	pump(v);
}

static void
listed_cb(void *arg, enum err e, const struct store_list_entry *p, size_t n, const char *next)
{
	struct verify *v = arg;

	v->listing = NULL;
	v->fetching = false;
	if (e != ERR_OK) {
		v->walk_err = e;
		v->list_end = true;
		pump(v);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (!keypath_servable(keypath_check(p[i].key, p[i].klen)))
			continue;
		v->report.objects++;
		keys_add(v, p[i].key, p[i].klen);
	}
	mem_free(v->next_page);
	v->next_page = mem_strdup(next);
	v->list_begun = true;
	v->list_end = next == NULL;
	pump(v);
}

static void
verify_release(void *arg)
{
	struct verify *v = arg;

	keys_clear(v);
	mem_free(v->keys);
	mem_free(v->lens);
	mem_free(v->next_page);
	walk_free(&v->walk);
	mem_free(v);
}

static void
stored_cb(void *arg, enum err e)
{
	struct verify *v = arg;

	v->storing = false;
	if (v->freed)
		verify_release(v);
	else
		v->cb->done(v->arg, e, &v->report, e != ERR_OK ? "the report could not be stored in Redis" : walk_first_error(v->walk));
}

/* The report goes to Redis as JSON: gates and status read it there. */
static void
report_store(struct verify *v)
{
	const struct verify_report *r = &v->report;
	json_t *j = json_pack("{s:b, s:b, s:I, s:I, s:I, s:I, s:I}", "full", r->full, "clean", r->clean, "started", (json_int_t)r->started_ms,
	    "ended", (json_int_t)r->ended_ms, "files", (json_int_t)r->files, "bytes", (json_int_t)r->bytes, "objects", (json_int_t)r->objects);
	char *text;

	for (int i = 0; i < VERIFY_CLASSES; i++)
		json_object_set_new(j, verify_class_name((enum verify_class)i), json_integer((json_int_t)r->n[i]));
	text = json_dumps(j, JSON_COMPACT);
	v->storing = true;
	run_verified(v->env->cluster, text, stored_cb, v);
	free(text);
	json_decref(j);
}

bool
verify_report_parse(const char *json, struct verify_report *r)
{
	json_t *j = json_loads(json, 0, NULL);
	json_int_t started, ended, files, bytes, objects;
	int full, clean;
	bool ok;

	memset(r, 0, sizeof(*r));
	ok = json_unpack(j, "{s:b, s:b, s:I, s:I, s:I, s:I, s:I}", "full", &full, "clean", &clean, "started", &started, "ended", &ended, "files",
	    &files, "bytes", &bytes, "objects", &objects) == 0;
	if (ok) {
		r->full = full;
		r->clean = clean;
		r->started_ms = (uint64_t)started;
		r->ended_ms = (uint64_t)ended;
		r->files = (uint64_t)files;
		r->bytes = (uint64_t)bytes;
		r->objects = (uint64_t)objects;
		for (int i = 0; i < VERIFY_CLASSES; i++)
			r->n[i] = (uint64_t)json_integer_value(json_object_get(j, verify_class_name((enum verify_class)i)));
	}
	json_decref(j);
	return ok;
}

static void
finish(struct verify *v)
{
	struct verify_report *r = &v->report;
	bool ok = v->walk_err == ERR_NOTFOUND;

	loop_timer_cancel(&v->progress);
	r->ended_ms = clock_real_ms();
	r->clean = ok && walk_counts(v->walk)->errors == 0;
	for (int i = 0; i < VERIFY_CLASSES; i++)
		r->clean = r->clean && (r->n[i] == 0 || i == VERIFY_EQUAL || i == VERIFY_UNHOLDABLE);
	if (ok)
		report_store(v);
	else
		v->cb->done(v->arg, v->walk_err, r, err_text(v->walk_err));
}

static void
fetch(struct verify *v)
{
	keys_clear(v);
	v->fetching = true;
	if (!v->walk_end)
		pool_submit(v->env->pool, &v->job, walk_work, walked_cb, v);
	else
		v->listing = store_list(v->env->r2, "", NULL, v->next_page, LIST_PAGE, listed_cb, v);
}

static void
pump(void *arg)
{
	struct verify *v = arg;

	if (v->fetching)
		return;
	while (v->running < v->most && v->at < v->nkeys) {
		size_t i = v->at++;

		check_new(v, v->keys[i], v->lens[i], v->list_begun);
	}
	if (v->at < v->nkeys)
		return;
	if (!v->walk_end || (v->report.full && v->walk_err == ERR_NOTFOUND && !v->list_end)) {
		/* The listing begins when the walk's last key is done, so that a key's two ways do not meet. */
		if (!v->walk_end || v->list_begun || v->running == 0)
			fetch(v);
		return;
	}
	if (v->running == 0)
		finish(v);
}

static void
progress_cb(void *arg)
{
	struct verify *v = arg;

	loop_timer_set(&v->progress, PROGRESS_MS);
	if (v->cb->progress != NULL)
		v->cb->progress(v->arg, v->report.files, v->report.bytes);
}

struct verify *
verify_start(const struct reconcile_env *env, uint64_t sample, unsigned concurrency, const struct verify_cb *cb, void *arg)
{
	struct verify *v = mem_zalloc(sizeof(*v));

	v->env = env;
	v->cb = cb;
	v->arg = arg;
	v->sample = sample;
	v->most = concurrency;
	v->report.full = sample == 0;
	v->report.started_ms = clock_real_ms();
	list_init(&v->checks);
	v->walk = walk_new(env->local, NULL, 0);
	loop_call_init(&v->call, env->loop, pump, v);
	loop_timer_init(&v->progress, env->loop, progress_cb, v);
	loop_timer_set(&v->progress, PROGRESS_MS);
	loop_call_soon(&v->call);
	return v;
}

void
verify_cancel(struct verify **vp)
{
	struct verify *v = *vp;
	struct list *p, *n;

	if (v == NULL)
		return;
	*vp = NULL;
	LIST_FOREACH(p, n, &v->checks)
		check_free(LIST_ENTRY(p, struct check, node));
	store_cancel(v->env->r2, &v->listing);
	loop_timer_fini(&v->progress);
	loop_call_cancel(&v->call);
	if (v->storing)
		v->freed = true;
	else if (v->job.busy)
		pool_cancel(&v->job, verify_release);
	else
		verify_release(v);
}
