/*
 * writer, watcher, mirror and reconcile together: a real journal, a real Redis and a real media root, and a store in memory that can be
 * down or hold its answers. Nothing waits by sleeping.
 */
#include "files.h"
#include "redis.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/str.h"
#include "coord/phase.h"
#include "proxy/writer.h"

enum { LEASE = 1000, LIMIT = 300, WAIT = 15000, OBJECTS = 16 };

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

int __real_fsync(int fd);
int __wrap_fsync(int fd);

static int sync_error;
/* While together is not 0 an fsync waits until as many wait, once. */
static struct {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	unsigned together, waiting;
} syncs = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0 };

int
__wrap_fsync(int fd)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 5;
	pthread_mutex_lock(&syncs.mutex);
	syncs.waiting++;
	if (syncs.waiting >= syncs.together)
		syncs.together = 0;
	pthread_cond_broadcast(&syncs.cond);
	while (syncs.together > 0 && pthread_cond_timedwait(&syncs.cond, &syncs.mutex, &until) == 0)
		continue;
	syncs.waiting--;
	pthread_mutex_unlock(&syncs.mutex);
	return __real_fsync(fd);
}

int
__wrap_fdatasync(int fd)
{
	if (sync_error != 0) {
		errno = sync_error;
		return -1;
	}
	return __real_fdatasync(fd);
}

/* The store. */

struct object {
	char *key, *body, *content_type;
	size_t len;
	struct store_meta meta;		/* its strings are not used */
};

struct fake {
	struct store base;
	struct loop *loop;
	struct object v[OBJECTS];
	struct list ops;
	enum err down;			/* what every operation fails with */
	bool hold;			/* puts are not answered, nor carried out */
	unsigned puts, deletes;
};

struct fake_op {
	struct list node;
	struct fake *f;
	struct loop_call call;
	char *key;
	char *body;
	size_t len;
	struct store_meta meta;
	bool is_put, fence;
	bool held, passes;		/* waits while puts are held; does not */
	store_head_done *head;
	store_done *done;
	void *arg;
};

static struct object *
find(struct fake *f, const char *key, bool make)
{
	struct object *empty = NULL;

	for (int i = 0; i < OBJECTS; i++) {
		if (f->v[i].key != NULL && strcmp(f->v[i].key, key) == 0)
			return &f->v[i];
		if (f->v[i].key == NULL && empty == NULL)
			empty = &f->v[i];
	}
	assert_true(!make || empty != NULL);
	if (make)
		empty->key = mem_strdup(key);
	return make ? empty : NULL;
}

static void
object_clear(struct object *o)
{
	mem_free(o->key);
	mem_free(o->body);
	mem_free(o->content_type);
	memset(o, 0, sizeof *o);
}

static void
fake_op_free(struct fake_op *op)
{
	list_del(&op->node);
	loop_call_cancel(&op->call);
	mem_free(op->key);
	mem_free(op->body);
	mem_free(op->meta.content_type);
	mem_free(op);
}

static enum err
apply_put(struct fake_op *op)
{
	struct object *o = find(op->f, op->key, false);

	if (op->fence && o != NULL)
		return ERR_PRECOND;
	o = find(op->f, op->key, true);
	mem_free(o->body);
	mem_free(o->content_type);
	o->body = op->body;
	o->len = op->len;
	o->content_type = op->meta.content_type;
	o->meta = op->meta;
	op->body = NULL;
	op->meta.content_type = NULL;
	op->f->puts++;
	return ERR_OK;
}

static void
on_fake(void *arg)
{
	struct fake_op *op = arg;
	struct fake *f = op->f;
	struct object *o = find(f, op->key, false);
	store_head_done *head = op->head;
	store_done *done = op->done;
	void *darg = op->arg;
	struct store_meta meta = { .size = 0 };
	enum err e = f->down;

	op->held = op->is_put && f->hold && !op->passes;
	if (op->held)
		return;
	if (e == ERR_OK && head != NULL && o == NULL)
		e = ERR_NOTFOUND;
	if (e == ERR_OK && head != NULL) {
		meta = o->meta;
		meta.content_type = o->content_type;
	} else if (e == ERR_OK && op->is_put) {
		e = apply_put(op);
	} else if (e == ERR_OK && o != NULL) {
		object_clear(o);
		f->deletes++;
	}
	fake_op_free(op);
	if (head != NULL)
		head(darg, e, e == ERR_OK ? &meta : NULL);
	else
		done(darg, e, NULL);
}

static struct fake_op *
fake_op_new(struct store *s, const char *key, size_t klen, void *arg)
{
	struct fake_op *op = mem_zalloc(sizeof *op);

	op->f = (struct fake *)s;
	op->key = mem_strndup(key, klen);
	op->arg = arg;
	loop_call_init(&op->call, op->f->loop, on_fake, op);
	list_add_tail(&op->f->ops, &op->node);
	loop_call_soon(&op->call);
	return op;
}

static struct store_op *
fake_head(struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_head_done *done, void *arg)
{
	struct fake_op *op = fake_op_new(s, key, klen, arg);

	(void)limit_ms;
	op->head = done;
	return (struct store_op *)op;
}

static struct store_op *
fake_put(struct store *s, const struct store_put *p, store_done *done, void *arg)
{
	struct fake_op *op = fake_op_new(s, p->key, p->klen, arg);

	op->done = done;
	op->is_put = true;
	op->fence = p->fence.if_absent;
	op->body = mem_alloc((size_t)p->size + 1);
	op->len = (size_t)pread(p->fd, op->body, (size_t)p->size, 0);
	assert_int_equal(op->len, p->size);
	op->meta.size = p->size;
	op->meta.has_md5 = true;
	memcpy(op->meta.md5, p->md5, sizeof op->meta.md5);
	op->meta.has_mtime = true;
	op->meta.mtime_ns = p->meta->mtime_ns;
	op->meta.content_type = mem_strdup(p->meta->content_type);
	return (struct store_op *)op;
}

static struct store_op *
fake_del(struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_done *done, void *arg)
{
	struct fake_op *op = fake_op_new(s, key, klen, arg);

	(void)limit_ms;
	op->done = done;
	return (struct store_op *)op;
}

static struct store_op *
fake_abort_uploads(struct store *s, const char *key, size_t klen, store_done *done, void *arg)
{
	return fake_del(s, key, klen, 0, done, arg);
}

static void
fake_cancel(struct store_op *op)
{
	fake_op_free((struct fake_op *)op);
}

static const struct store_ops fake_ops = { .head = fake_head, .put = fake_put, .del = fake_del, .abort_uploads = fake_abort_uploads,
	.cancel = fake_cancel };

static void
release_puts(struct fake *f)
{
	struct list *p, *n;

	f->hold = false;
	LIST_FOREACH(p, n, &f->ops)
		loop_call_soon(&LIST_ENTRY(p, struct fake_op, node)->call);
}

/* How many puts are held, of this key (NULL: of any). */
static unsigned
held_puts(struct fake *f, const char *key)
{
	struct list *p;
	unsigned n = 0;

	for (p = f->ops.next; p != &f->ops; p = p->next) {
		const struct fake_op *op = LIST_ENTRY(p, struct fake_op, node);

		n += op->held && (key == NULL || strcmp(op->key, key) == 0);
	}
	return n;
}

/* The one that came first. */
static void
release_one(struct fake *f)
{
	struct list *p = f->ops.next;

	while (p != &f->ops && !LIST_ENTRY(p, struct fake_op, node)->held)
		p = p->next;
	assert_true(p != &f->ops);
	LIST_ENTRY(p, struct fake_op, node)->passes = true;
	loop_call_soon(&LIST_ENTRY(p, struct fake_op, node)->call);
}

/* A life of a proxy. */

static struct redis redis;
static struct loop *loop;
static struct fake fake;
static struct conf conf;
static struct reconcile_env env;
static struct writer *w;
static char base[64], root[80], state[80], site[] = "test", media_url[] = "/media/";

static bool begun, finished, flag, mirrored;
static enum err begun_e, finished_e;

static void
on_up(void *arg, bool fresh)
{
	(void)arg;
	if (w != NULL)
		writer_up(w, fresh);
}

static void
on_down(void *arg)
{
	(void)arg;
	if (w != NULL)
		writer_down(w);
}

static void
start(void)
{
	static const struct cluster_cb cb = { .up = on_up, .down = on_down };
	struct errbuf eb;

	loop = loop_new();
	fake.loop = loop;
	list_init(&fake.ops);
	assert_int_equal(local_open(&env.local, root, "test", &eb), ERR_OK);
	env.loop = loop;
	env.pool = pool_new(loop, 2);
	env.cluster = cluster_new(loop, &conf, "proxy", "p1", &cb, NULL);
	env.r2 = &fake.base;
	env.conf = &conf;
	assert_int_equal(writer_new(&w, &env, PHASE_DUAL_WRITE, &eb), ERR_OK);
}

/* A kill -9, as far as the disk and Redis can see. */
static void
die(void)
{
	writer_free(&w);
	cluster_free(&env.cluster);
	pool_free(&env.pool);
	local_free(&env.local);
	assert_true(list_empty(&fake.ops));
	loop_free(&loop);
}

static bool
wait_for(bool (*cond)(void))
{
	static const bool never;
	uint64_t until = clock_mono_ms() + WAIT;

	while (!cond() && clock_mono_ms() < until)
		(void)loop_run_until(loop, &never, 5);
	return cond();
}

static bool
watching(void)
{
	struct writer_state s;

	writer_state(w, &s);
	return cluster_up(env.cluster) && s.watching && !s.crawling && !writer_uncertain(w);
}

static bool
ready(void)
{
	return writer_ready(w) == ERR_OK;
}

static bool
drained(void)
{
	struct writer_state s;

	writer_state(w, &s);
	return s.marks == 0 && s.waiting == 0 && s.mirroring == 0 && redis_int(&redis, "HLEN r2shim:{test}:marks") == 0;
}

static bool
r2_has(const char *key, const char *body)
{
	const struct object *o = find(&fake, key, false);

	return o != NULL && o->len == strlen(body) && memcmp(o->body, body, o->len) == 0;
}

static int
setup(void **st)
{
	struct errbuf eb;

	(void)st;
	snprintf(base, sizeof base, "/tmp/r2shim-writer-XXXXXX");
	assert_non_null(mkdtemp(base));
	snprintf(root, sizeof root, "%s/media", base);
	snprintf(state, sizeof state, "%s/state", base);
	assert_int_equal(mkdir(root, 0755), 0);
	assert_int_equal(mkdir(state, 0755), 0);
	assert_int_equal(chdir(root), 0);
	assert_int_equal(local_sentinel_write(root, "test", &eb), ERR_OK);
	redis_start(&redis, NULL);
	memset(&fake, 0, sizeof fake);
	fake.base.ops = &fake_ops;
	conf = (struct conf){ .refs = 1, .site = site, .state_dir = state, .media_root = root, .media_url = media_url,
		.redis_address = redis.address, .redis_timeout = 1000, .lease = LEASE, .r2_request_limit = LIMIT, .intent_deadline = 60000,
		.mirror_policy = CONF_MIRROR_SYNC, .mirror_deadline = WAIT, .mirror_concurrency = 4 };
	sync_error = 0;
	start();
	assert_true(wait_for(watching));
	return 0;
}

static int
teardown(void **st)
{
	char cmd[128];

	(void)st;
	die();
	redis_stop(&redis);
	for (int i = 0; i < OBJECTS; i++)
		object_clear(&fake.v[i]);
	assert_int_equal(chdir("/"), 0);
	snprintf(cmd, sizeof cmd, "rm -rf %s", base);
	return system(cmd);
}

/* What requests do. */

static void
on_begun(void *arg, enum err e)
{
	(void)arg;
	assert_false(begun);
	begun = true;
	begun_e = e;
}

static struct writer_op *
begin(const char *key, enum mark_op op)
{
	struct writer_op *o;

	begun = finished = false;
	o = writer_begin(w, key, key != NULL ? strlen(key) : 0, op, on_begun, NULL);
	assert_false(begun);
	assert_true(loop_run_until(loop, &begun, WAIT));
	return o;
}

static void
on_finished(void *arg, enum err e, bool m)
{
	(void)arg;
	assert_false(finished);
	finished = true;
	finished_e = e;
	mirrored = m;
}

static void
finish(struct writer_op *o, enum writer_outcome outcome)
{
	writer_finish(w, &o, outcome, on_finished, NULL);
	assert_null(o);
	assert_false(finished);
	assert_true(loop_run_until(loop, &finished, WAIT));
}

static void
put(const char *key, const char *body)
{
	struct writer_op *o = begin(key, MARK_PUT);

	assert_int_equal(begun_e, ERR_OK);
	file_write(key, body, 0644);
	finish(o, WRITER_ANSWERED);
}

static bool
marked(const char *key)
{
	struct mark m;

	return dirty_get(writer_dirty(w), key, strlen(key), &m);
}

static bool
journal_has(const char *text)
{
	char path[128], buf[65536];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "%s/journal", state);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	n = read(fd, buf, sizeof buf);
	close(fd);
	return n > 0 && memmem(buf, (size_t)n, text, strlen(text)) != NULL;
}

static void
test_intent_is_on_disk_before_begun(void **st)
{
	struct writer_op *o = begin("album/a.txt", MARK_PUT);

	(void)st;
	assert_int_equal(begun_e, ERR_OK);
	assert_true(journal_has("album/a.txt"));
	finish(o, WRITER_NOT_SENT);
	assert_int_equal(finished_e, ERR_OK);
	assert_true(wait_for(drained));
	assert_int_equal(fake.puts, 0);
}

static void
test_sync_waits_for_r2(void **st)
{
	(void)st;
	put("a.txt", "one");
	assert_int_equal(finished_e, ERR_OK);
	assert_true(mirrored);
	assert_true(r2_has("a.txt", "one"));
	put("a.txt", "two");
	assert_true(mirrored && r2_has("a.txt", "two"));
	assert_true(wait_for(drained));
}

static void
test_async_waits_for_the_mark_only(void **st)
{
	(void)st;
	conf.mirror_policy = CONF_MIRROR_ASYNC;
	fake.hold = true;
	put("a.txt", "one");
	assert_int_equal(finished_e, ERR_OK);
	assert_false(mirrored);
	assert_false(r2_has("a.txt", "one"));
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:marks"), 1);
	release_puts(&fake);
	assert_true(wait_for(drained));
	assert_true(r2_has("a.txt", "one"));
}

static void
test_barrier_sees_what_the_app_stored(void **st)
{
	struct writer_op *o = begin(NULL, MARK_PUT);

	(void)st;
	assert_int_equal(begun_e, ERR_OK);
	assert_int_equal(mkdir("2026", 0755), 0);
	file_write("2026/x_Ab3x.jpg", "jpeg", 0644);
	file_write("tmp", "png", 0644);
	assert_int_equal(rename("tmp", "2026/y.png"), 0);
	finish(o, WRITER_ANSWERED);
	assert_int_equal(finished_e, ERR_OK);
	assert_true(mirrored);
	assert_true(r2_has("2026/x_Ab3x.jpg", "jpeg") && r2_has("2026/y.png", "png"));
	assert_null(find(&fake, "tmp", false));
	assert_true(wait_for(drained));
}

static void
hint(struct writer_op *o, const char *key, enum mark_op op)
{
	struct hints hs = { .v = mem_zalloc(sizeof *hs.v), .n = 1 };

	hs.v[0] = (struct hint){ .key = mem_strdup(key), .klen = strlen(key), .op = op };
	writer_hinted(o, &hs);
	assert_null(hs.v);
}

/* A file that stays open, as on a file system that tells nothing: the watcher hears of its end only, and there is none. */
static int
store_unseen(const char *path, const char *body)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, body, strlen(body)), strlen(body));
	return fd;
}

static void
test_R13_hints_tell_what_the_watcher_cannot_see(void **st)
{
	struct writer_op *o = begin(NULL, MARK_PUT);
	int fd = store_unseen("unseen.txt", "one"), fd2;

	(void)st;
	finish(o, WRITER_ANSWERED);
	assert_int_equal(finished_e, ERR_OK);
	assert_null(find(&fake, "unseen.txt", false));

	o = begin(NULL, MARK_PUT);
	hint(o, "unseen.txt", MARK_PUT);
	finish(o, WRITER_ANSWERED);
	assert_int_equal(finished_e, ERR_OK);
	assert_true(mirrored && r2_has("unseen.txt", "one"));

	/* With a key of its own, too, and when the same file is written again. */
	o = begin("own.txt", MARK_PUT);
	file_write("own.txt", "own", 0644);
	assert_int_equal(pwrite(fd, "two", 3, 0), 3);
	hint(o, "unseen.txt", MARK_PUT);
	finish(o, WRITER_ANSWERED);
	assert_true(mirrored && r2_has("unseen.txt", "two") && r2_has("own.txt", "own"));

	/* Without a copy to R2 in time it is a durable mark all the same. */
	fake.down = ERR_UNAVAIL;
	o = begin(NULL, MARK_PUT);
	fd2 = store_unseen("later.txt", "late");
	hint(o, "later.txt", MARK_PUT);
	finish(o, WRITER_ANSWERED);
	assert_int_equal(finished_e, ERR_OK);
	assert_false(mirrored);
	assert_true(journal_has("later.txt"));
	fake.down = ERR_OK;
	assert_true(wait_for(drained));
	assert_true(r2_has("later.txt", "late"));
	close(fd);
	close(fd2);
}

static void
test_hints_are_no_evidence(void **st)
{
	struct writer_op *o;

	(void)st;
	put("here.txt", "here");
	find(&fake, "only-there.txt", true)->body = mem_strdup("x");
	/* "Stored", and not on the disk: nothing was deleted. */
	o = begin(NULL, MARK_PUT);
	hint(o, "only-there.txt", MARK_PUT);
	finish(o, WRITER_ANSWERED);
	assert_int_equal(finished_e, ERR_OK);
	assert_true(wait_for(drained));
	assert_int_equal(fake.deletes, 0);
	/* "Deleted", and still there. */
	o = begin(NULL, MARK_PUT);
	hint(o, "here.txt", MARK_DELETE);
	finish(o, WRITER_ANSWERED);
	assert_true(wait_for(drained));
	assert_true(fake.deletes == 0 && r2_has("here.txt", "here"));
	/* Deleted, and gone. */
	o = begin(NULL, MARK_PUT);
	hint(o, "only-there.txt", MARK_DELETE);
	finish(o, WRITER_ANSWERED);
	assert_int_equal(finished_e, ERR_OK);
	assert_null(find(&fake, "only-there.txt", false));
	assert_true(wait_for(drained));
}

static void
test_deletes(void **st)
{
	struct writer_op *o;

	(void)st;
	put("a", "a");
	put("b", "b");
	o = begin("a", MARK_DELETE);
	assert_int_equal(unlink("a"), 0);
	finish(o, WRITER_ANSWERED);
	assert_int_equal(finished_e, ERR_OK);
	assert_null(find(&fake, "a", false));
	o = begin(NULL, MARK_PUT);
	assert_int_equal(unlink("b"), 0);
	finish(o, WRITER_ANSWERED);
	assert_null(find(&fake, "b", false));
	assert_int_equal(fake.deletes, 2);
	assert_true(wait_for(drained));
}

/* A 2xx to a DELETE proves nothing: what is still there stays. */
static void
test_a_delete_that_deleted_nothing(void **st)
{
	(void)st;
	put("a", "a");
	finish(begin("a", MARK_DELETE), WRITER_ANSWERED);
	assert_int_equal(finished_e, ERR_OK);
	assert_true(wait_for(drained));
	assert_true(r2_has("a", "a"));
	assert_int_equal(fake.deletes, 0);
}

static void
test_r2_down_degrades_and_heals(void **st)
{
	uint64_t began = clock_mono_ms();
	struct mark m;

	(void)st;
	fake.down = ERR_UNAVAIL;
	put("a.txt", "one");
	assert_int_equal(finished_e, ERR_OK);
	assert_false(mirrored);
	assert_true(clock_mono_ms() - began < WAIT / 2);	/* after the first failure, not after the deadline */
	assert_true(dirty_get(writer_dirty(w), "a.txt", 5, &m));
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:marks"), 1);
	put("a.txt", "two");
	assert_int_equal(finished_e, ERR_OK);
	fake.down = ERR_OK;
	assert_true(wait_for(drained));
	assert_true(r2_has("a.txt", "two"));
}

static void
test_R14_R35_journal_full(void **st)
{
	struct writer_op *o;

	(void)st;
	sync_error = ENOSPC;
	o = begin("a.txt", MARK_PUT);
	assert_int_equal(begun_e, ERR_NOSPACE);
	finish(o, WRITER_NOT_SENT);
	assert_int_not_equal(writer_ready(w), ERR_OK);
	sync_error = 0;
	assert_true(wait_for(ready));
	put("a.txt", "one");
	assert_int_equal(finished_e, ERR_OK);
	assert_true(r2_has("a.txt", "one"));
}

static void
test_marks_that_cannot_be_made_are_not_acknowledged(void **st)
{
	/* The upload was begun while there was room. */
	struct writer_op *o = begin(NULL, MARK_PUT);

	(void)st;
	sync_error = ENOSPC;
	file_write("a.txt", "one", 0644);
	finish(o, WRITER_ANSWERED);
	assert_int_equal(finished_e, ERR_NOSPACE);
	sync_error = 0;
	assert_true(wait_for(drained));
	assert_true(r2_has("a.txt", "one"));
}

static void
test_restart_mirrors_what_is_owed(void **st)
{
	struct writer_op *o;

	(void)st;
	fake.down = ERR_UNAVAIL;
	put("done.txt", "done");
	o = begin("cut.txt", MARK_PUT);
	file_write("cut.txt", "cut", 0644);
	(void)o;	/* killed before it is answered */
	die();
	fake.down = ERR_OK;
	start();
	assert_true(wait_for(drained));
	assert_true(r2_has("done.txt", "done") && r2_has("cut.txt", "cut"));
}

static void
test_without_redis_writes_go_on(void **st)
{
	(void)st;
	redis_kill(&redis);
	put("a.txt", "one");
	assert_int_equal(finished_e, ERR_OK);
	assert_false(mirrored);
	assert_false(r2_has("a.txt", "one"));	/* no lease, no copying */
	redis_again(&redis, NULL);
	assert_true(wait_for(drained));
	assert_true(r2_has("a.txt", "one"));
}

static void
test_flushed_redis(void **st)
{
	(void)st;
	fake.down = ERR_UNAVAIL;
	put("a.txt", "one");
	(void)redis_do(&redis, "FLUSHALL");
	fake.down = ERR_OK;
	assert_true(wait_for(drained));
	assert_true(r2_has("a.txt", "one"));
	assert_true(wait_for(watching));
}

/* A key is written past us while a request of its own is open, and that is never forwarded. */
static void
test_a_write_beside_an_open_request_is_not_lost(void **st)
{
	struct writer_op *o = begin("a.txt", MARK_PUT);

	(void)st;
	file_write("a.txt", "other", 0644);
	(void)loop_run_until(loop, &flag, 50);	/* the watcher speaks now */
	finish(o, WRITER_NOT_SENT);
	assert_true(wait_for(drained));
	assert_true(r2_has("a.txt", "other"));
}

static void
test_names_that_r2_cannot_hold(void **st)
{
	struct writer_op *o;

	(void)st;
	put("l\xe9.txt", "latin");
	assert_int_equal(finished_e, ERR_OK);
	o = begin(NULL, MARK_PUT);
	file_write("m\xe9.txt", "latin", 0644);
	finish(o, WRITER_ANSWERED);
	assert_int_equal(finished_e, ERR_OK);
	assert_true(wait_for(drained));
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:marks"), 0);
	assert_int_equal(fake.puts, 0);
}

static void
test_a_locked_file_is_waited_for(void **st)
{
	struct writer_op *o = begin(NULL, MARK_PUT);
	int lock;

	(void)st;
	file_write("a.txt", "one", 0644);
	lock = open("a.txt", O_RDONLY);
	assert_int_equal(flock(lock, LOCK_EX), 0);
	finish(o, WRITER_ANSWERED);
	assert_int_equal(finished_e, ERR_OK);
	assert_false(r2_has("a.txt", "one"));
	close(lock);	/* nothing was written through it: no event follows */
	assert_true(wait_for(drained));
	assert_true(r2_has("a.txt", "one"));
}

/* A put is owed, and the file goes while no proxy runs: nobody sees it go. */
static void
test_removed_while_nobody_watched(void **st)
{
	(void)st;
	put("a.txt", "one");
	fake.down = ERR_UNAVAIL;
	put("a.txt", "two");
	die();
	assert_int_equal(unlink("a.txt"), 0);
	fake.down = ERR_OK;
	start();
	assert_true(wait_for(drained));
	assert_null(find(&fake, "a.txt", false));
}

/* More events than the kernel keeps: the answer waits until the tree was looked at. */
static void
test_lost_events_hold_the_answer(void **st)
{
	struct writer_op *o;
	unsigned most = 0;
	FILE *f = fopen("/proc/sys/fs/inotify/max_queued_events", "r");

	(void)st;
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%u", &most), 1);
	fclose(f);
	if (most > 200000)
		skip();
	o = begin(NULL, MARK_PUT);
	file_write("x", "x", 0644);
	for (unsigned i = 0; i < most; i += 4)
		assert_true(rename("x", "y") == 0 && rename("y", "x") == 0);
	file_write("last", "last", 0644);
	finish(o, WRITER_ANSWERED);
	assert_int_equal(finished_e, ERR_OK);
	assert_true(mirrored);
	assert_true(r2_has("last", "last") && r2_has("x", "x"));
	assert_true(wait_for(drained));
	assert_null(find(&fake, "y", false));
}

static bool
r2_has_later(void)
{
	return r2_has("later.txt", "later");
}

static bool
r2_has_both(void)
{
	return r2_has("a.txt", "a") && r2_has("d/b.txt", "b");
}

/* In r2-only the disk's files may be taken away: that deletes nothing in R2. What an application still stores there is copied. */
static void
test_reclaimed_files_are_not_deletes(void **st)
{
	(void)st;
	assert_int_equal(mkdir("d", 0755), 0);
	file_write("a.txt", "a", 0644);
	file_write("d/b.txt", "b", 0644);
	assert_true(wait_for(r2_has_both));
	assert_true(wait_for(drained));
	writer_reload(w, &env, PHASE_R2_ONLY);
	assert_int_equal(unlink("a.txt"), 0);
	assert_int_equal(unlink("d/b.txt"), 0);
	file_write("later.txt", "later", 0644);
	assert_true(wait_for(r2_has_later));
	assert_true(wait_for(drained));
	assert_true(r2_has_both());
	assert_int_equal(fake.deletes, 0);
}

/* Four are on their way, six have a mark and wait for a place. */
static bool
ten_wait(void)
{
	struct writer_state s;

	writer_state(w, &s);
	return held_puts(&fake, NULL) == 4 && s.waiting == 6 && redis_int(&redis, "HLEN r2shim:{test}:marks") == 10;
}

/* What it stored is durable, and its answer waits for R2: only then an upload's intent is closed. */
static bool
waits_for_r2(void)
{
	struct writer_state s;

	writer_state(w, &s);
	return s.intents == 0 && s.waiting == 7;
}

static bool
one_passed_one_came(void)
{
	return fake.puts == 1 && held_puts(&fake, NULL) == 4;
}

/* Others' files wait for R2: the place of the first that is done is for the one that an answer waits for, which came last. */
static void
test_what_is_waited_for_goes_first(void **st)
{
	struct writer_op *o;
	char name[32];

	(void)st;
	fake.hold = true;
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof name, "other%d", i);
		file_write(name, "x", 0644);
	}
	assert_true(wait_for(ten_wait));
	o = begin(NULL, MARK_PUT);
	file_write("mine", "x", 0644);
	writer_finish(w, &o, WRITER_ANSWERED, on_finished, NULL);
	assert_true(wait_for(waits_for_r2));
	release_one(&fake);
	assert_true(wait_for(one_passed_one_came));
	assert_int_equal(held_puts(&fake, "mine"), 1);
	assert_false(finished);
	release_puts(&fake);
	assert_true(loop_run_until(loop, &finished, WAIT));
	assert_true(mirrored);
}

static bool
clean_point(void)
{
	return dirty_clean(writer_dirty(w)) != 0;
}

enum { FOUND_FILES = 7000, FOUND_LEAST = 4096, FOUND_MOST = FOUND_LEAST - 1 + 2000 };

static size_t
found(void)
{
	struct writer_state s;

	writer_state(w, &s);
	return s.waiting + s.mirroring;
}

static bool
enough_found(void)
{
	return found() >= FOUND_LEAST;
}

/*
 * A restart that finds thousands of changed files, and R2 is away: they come as fast as R2 takes them, so not at all. An upload begins
 * when every directory is watched, and its answer neither waits for the rest nor brings more of it.
 */
static void
test_an_upload_does_not_wait_for_what_a_restart_finds(void **st)
{
	struct writer_state s;
	struct writer_op *o;
	char name[32];
	size_t before;

	(void)st;
	assert_true(wait_for(clean_point));
	die();
	assert_int_equal(mkdir("many", 0755), 0);
	for (int i = 0; i < FOUND_FILES; i++) {
		snprintf(name, sizeof name, "many/%d", i);
		file_write(name, "x", 0644);
	}
	conf.mirror_policy = CONF_MIRROR_ASYNC;
	fake.down = ERR_UNAVAIL;
	start();
	begun = finished = false;
	o = writer_begin(w, NULL, 0, MARK_PUT, on_begun, NULL);
	assert_false(writer_travels(o));
	assert_true(loop_run_until(loop, &begun, WAIT));
	assert_true(writer_travels(o));
	assert_true(wait_for(enough_found));
	before = found();
	assert_in_range(before, FOUND_LEAST, FOUND_MOST);
	file_write("many/mine", "x", 0644);
	finish(o, WRITER_ANSWERED);
	assert_int_equal(finished_e, ERR_OK);
	assert_true(marked("many/mine"));
	assert_int_equal(found(), before + 1);
	writer_state(w, &s);
	assert_true(s.crawling);
}

/* Writers whose files are synced wait for the disk together, not for each other. */
static void
test_syncs_at_once(void **st)
{
	enum { WRITERS = 12 };
	struct writer_op *o[WRITERS];
	char name[32];

	(void)st;
	conf.mirror_policy = CONF_MIRROR_ASYNC;
	for (int i = 0; i < WRITERS; i++) {
		snprintf(name, sizeof name, "at-once-%d", i);
		o[i] = begin(name, MARK_PUT);
		file_write(name, "x", 0644);
	}
	pthread_mutex_lock(&syncs.mutex);
	syncs.together = WRITERS;
	pthread_mutex_unlock(&syncs.mutex);
	for (int i = 1; i < WRITERS; i++)
		writer_finish(w, &o[i], WRITER_ANSWERED, NULL, NULL);
	finish(o[0], WRITER_ANSWERED);
	assert_int_equal(finished_e, ERR_OK);
	pthread_mutex_lock(&syncs.mutex);
	assert_int_equal(syncs.together, 0);
	pthread_mutex_unlock(&syncs.mutex);
}

static void
on_drained(void *arg)
{
	(void)arg;
	flag = true;
}

static void
test_drain(void **st)
{
	(void)st;
	conf.mirror_policy = CONF_MIRROR_ASYNC;
	put("a.txt", "one");
	flag = false;
	writer_drain(w, WAIT, on_drained, NULL);
	assert_true(loop_run_until(loop, &flag, WAIT));
	flag = false;
	assert_true(r2_has("a.txt", "one"));
}

/* Everything is under way: nothing is touched after it was freed. */
static void
test_end_in_the_middle(void **st)
{
	struct writer_op *o = begin("a.txt", MARK_PUT), *u;

	(void)st;
	fake.hold = true;
	file_write("a.txt", "one", 0644);
	u = begin(NULL, MARK_PUT);
	file_write("b.txt", "two", 0644);
	writer_finish(w, &o, WRITER_ANSWERED, on_finished, NULL);
	writer_finish(w, &u, WRITER_ANSWERED, on_finished, NULL);
	(void)begin("c.txt", MARK_PUT);
	die();
	fake.hold = false;
	start();
	assert_true(wait_for(drained));
	assert_true(r2_has("a.txt", "one") && r2_has("b.txt", "two"));
}

/* The site is armed. */

static bool
acknowledged(void)
{
	return writer_armed(w);
}

static bool
no_leases(void)
{
	return redis_int(&redis, "HLEN r2shim:{test}:leases") == 0;
}

static struct lease other;
static bool other_has;

static void
on_other(void *arg, enum err e, const struct lease *l)
{
	(void)arg;
	assert_int_equal(e, ERR_OK);
	other = *l;
	other_has = true;
}

static void
others_lease(const char *key)
{
	other_has = false;
	marks_lease(env.cluster, key, strlen(key), on_other, NULL);
	assert_true(loop_run_until(loop, &other_has, WAIT));
}

static void
arm(void)
{
	writer_arm(w, true);
	assert_true(wait_for(acknowledged));
}

/* Acknowledged only when no write is left that began without a lease; remembered over a death without Redis. */
static void
test_arming(void **st)
{
	struct writer_op *o = begin("a.txt", MARK_PUT);

	(void)st;
	writer_arm(w, true);
	assert_false(loop_run_until(loop, &flag, 100));
	assert_false(writer_armed(w));
	file_write("a.txt", "one", 0644);
	finish(o, WRITER_ANSWERED);
	assert_true(wait_for(acknowledged));
	die();
	start();
	assert_true(writer_armed(w));
	writer_arm(w, false);
	assert_false(writer_armed(w));
	assert_true(wait_for(watching));
	assert_true(wait_for(drained));
}

/* A write with a key waits for its lease, has it until its mark is set, and gives it up with it; without one it is refused. */
static void
test_armed_write(void **st)
{
	struct writer_op *o;

	(void)st;
	conf.write_wait = 10000;
	arm();
	others_lease("a.txt");
	begun = finished = false;
	o = writer_begin(w, "a.txt", 5, MARK_PUT, on_begun, NULL);
	assert_false(loop_run_until(loop, &begun, 100));
	marks_drop(env.cluster, "a.txt", 5, &other, NULL, NULL);
	assert_true(loop_run_until(loop, &begun, WAIT));
	assert_int_equal(begun_e, ERR_OK);
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:leases"), 1);
	file_write("a.txt", "one", 0644);
	finish(o, WRITER_ANSWERED);
	assert_int_equal(finished_e, ERR_OK);
	assert_true(r2_has("a.txt", "one"));
	assert_true(wait_for(drained));
	assert_true(wait_for(no_leases));
	conf.write_wait = 100;
	others_lease("a.txt");
	o = begin("a.txt", MARK_PUT);
	assert_int_equal(begun_e, ERR_BUSY);
	finish(o, WRITER_NOT_SENT);
	marks_drop(env.cluster, "a.txt", 5, &other, NULL, NULL);
	/* Nobody knows what the upstream did: the lease goes all the same. */
	o = begin("b.txt", MARK_PUT);
	assert_int_equal(begun_e, ERR_OK);
	finish(o, WRITER_UNKNOWN);
	assert_true(wait_for(no_leases));
	redis_kill(&redis);
	o = begin("c.txt", MARK_PUT);
	assert_int_equal(begun_e, ERR_UNAVAIL);
	finish(o, WRITER_NOT_SENT);
	redis_again(&redis, NULL);
}

static bool was_set;

static void
on_set(void *arg, enum err e, const struct mark *m)
{
	(void)arg;
	(void)m;
	assert_int_equal(e, ERR_OK);
	was_set = true;
}

/* An event on a file that a write to R2 found there is old; on any other file it is a later write. */
static void
test_armed_event(void **st)
{
	struct mark_write r2 = { .op = MARK_PUT, .side = MARK_R2 };
	struct local_stat stat;
	struct writer_op *o;
	struct mark m;

	(void)st;
	conf.mirror_policy = CONF_MIRROR_ASYNC;
	arm();
	/* The app writes, in a request; R2 is written over it before the answer. */
	fake.down = ERR_UNAVAIL;
	o = begin(NULL, MARK_PUT);
	others_lease("a.txt");
	file_write("a.txt", "disk", 0644);
	assert_int_equal(local_look(env.local, "a.txt", 5, &stat), ERR_OK);
	r2.base = reconcile_base(&stat);
	writer_finish(w, &o, WRITER_ANSWERED, on_finished, NULL);
	assert_false(loop_run_until(loop, &finished, 100));		/* the key is somebody else's */
	was_set = false;
	marks_set(env.cluster, 0, "a.txt", 5, r2, 60000, &other, on_set, NULL);
	assert_true(loop_run_until(loop, &was_set, WAIT));
	assert_true(loop_run_until(loop, &finished, WAIT));
	assert_int_equal(finished_e, ERR_OK);
	assert_non_null(strstr(((redisReply *)redis_do(&redis, "HGET r2shim:{test}:marks a.txt"))->str, " r p "));
	/* And now a later one. */
	o = begin(NULL, MARK_PUT);
	file_write("a.txt", "later", 0644);
	finish(o, WRITER_ANSWERED);
	assert_int_equal(finished_e, ERR_OK);
	assert_true(dirty_get(writer_dirty(w), "a.txt", 5, &m));
	assert_int_equal(m.side, MARK_LOCAL);
	assert_non_null(strstr(((redisReply *)redis_do(&redis, "HGET r2shim:{test}:marks a.txt"))->str, " l p "));
	fake.down = ERR_OK;
	assert_true(wait_for(drained));
	assert_true(r2_has("a.txt", "later"));
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_intent_is_on_disk_before_begun),
		T(test_sync_waits_for_r2),
		T(test_async_waits_for_the_mark_only),
		T(test_barrier_sees_what_the_app_stored),
		T(test_R13_hints_tell_what_the_watcher_cannot_see),
		T(test_hints_are_no_evidence),
		T(test_deletes),
		T(test_a_delete_that_deleted_nothing),
		T(test_r2_down_degrades_and_heals),
		T(test_R14_R35_journal_full),
		T(test_marks_that_cannot_be_made_are_not_acknowledged),
		T(test_restart_mirrors_what_is_owed),
		T(test_without_redis_writes_go_on),
		T(test_flushed_redis),
		T(test_a_write_beside_an_open_request_is_not_lost),
		T(test_names_that_r2_cannot_hold),
		T(test_a_locked_file_is_waited_for),
		T(test_removed_while_nobody_watched),
		T(test_lost_events_hold_the_answer),
		T(test_reclaimed_files_are_not_deletes),
		T(test_what_is_waited_for_goes_first),
		T(test_an_upload_does_not_wait_for_what_a_restart_finds),
		T(test_syncs_at_once),
		T(test_drain),
		T(test_end_in_the_middle),
		T(test_arming),
		T(test_armed_write),
		T(test_armed_event),
	};
#undef T

	return cmocka_run_group_tests(tests, NULL, NULL);
}
