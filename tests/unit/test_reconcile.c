/* reconcile: a real Redis, a real folder, a store in memory that can be told to misbehave. */
#include "fakestore.h"
#include "redis.h"
#include "unit.h"

#include <fcntl.h>
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
#include "store/mime.h"
#include "sync/reconcile.h"

enum { LEASE = 1000, LIMIT = 300 };

static struct {
	struct redis redis;
	struct loop *loop;
	struct pool *pool;
	struct local *local;
	struct fakestore fake;
	struct conf conf;
	struct conf_prefix prefix;
	struct cluster *cluster;
	struct reconcile_env env;
	struct reconcile *r;
	char root[64];
	bool up, done, set, got;
	struct mark mark;
	enum err e;
	struct lease lease;
	struct reconcile_report rep;
	unsigned hooked;
} t;

#define KEY(k) (k), strlen(k)
#define UNTIL(cond) do { \
		uint64_t began_ = clock_mono_ms(); \
		while (!(cond)) { \
			if (clock_mono_ms() - began_ > 8000) \
				fail_msg("not in time: %s", #cond); \
			run_for(3); \
		} \
	} while (0)

static void
run_for(uint64_t ms)
{
	bool never = false;

	loop_run_until(t.loop, &never, ms);
}

static void
on_up(void *arg, bool fresh)
{
	(void)arg;
	(void)fresh;
	t.up = true;
}

static void
on_down(void *arg)
{
	(void)arg;
	t.up = false;
}

static void
path_of(char *out, size_t cap, const char *key)
{
	snprintf(out, cap, "%s/%s", t.root, key);
}

static void
write_file(const char *key, const char *text)
{
	char path[256];
	int fd;

	path_of(path, sizeof path, key);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void
remove_file(const char *key)
{
	char path[256];

	path_of(path, sizeof path, key);
	assert_int_equal(unlink(path), 0);
}

static void
on_set(void *arg, enum err e, const struct mark *m)
{
	(void)arg;
	assert_int_equal(e, ERR_OK);
	t.mark = *m;
	t.set = true;
}

static uint64_t
mark(const char *key, enum mark_op op)
{
	t.set = false;
	marks_set(t.cluster, 0, KEY(key), MARK_DISK(op), 60000, NULL, on_set, NULL);
	redis_wait(t.loop, &t.set);
	return t.mark.gen;
}

static bool
marked(const char *key)
{
	return redis_int(&t.redis, "HEXISTS r2shim:{test}:marks %s", key) == 1;
}

static bool
leased(void)
{
	return redis_int(&t.redis, "HLEN r2shim:{test}:leases") > 0;
}

static void
on_report(void *arg, const struct reconcile_report *r)
{
	(void)arg;
	t.rep = *r;
	t.done = true;
	t.r = NULL;
}

static void
start(const char *key, const struct reconcile_hint *hint)
{
	t.done = false;
	t.r = reconcile_start(&t.env, KEY(key), hint, on_report, NULL);
	assert_false(t.done);
}

static enum reconcile_result
go(const char *key)
{
	start(key, NULL);
	redis_wait(t.loop, &t.done);
	return t.rep.result;
}

static void
on_lease(void *arg, enum err e, const struct lease *l)
{
	(void)arg;
	t.e = e;
	t.lease = *l;
	t.got = true;
}

static enum err
lease(const char *key)
{
	t.got = false;
	marks_lease(t.cluster, KEY(key), on_lease, NULL);
	redis_wait(t.loop, &t.got);
	return t.e;
}

static bool
object_is(const char *key, const char *text)
{
	struct fakeobj *o = fakestore_get(&t.fake, key);
	uint8_t md5[16];

	if (o == NULL)
		return false;
	digest_md5(text, strlen(text), md5);
	return o->size == strlen(text) && memcmp(o->md5, md5, sizeof md5) == 0;
}

static int
setup(void **state)
{
	static const struct cluster_cb cbs = { .up = on_up, .down = on_down };
	struct errbuf eb;

	(void)state;
	memset(&t, 0, sizeof t);
	mime_init();
	redis_start(&t.redis, NULL);
	t.loop = loop_new();
	t.pool = pool_new(t.loop, 2);
	snprintf(t.root, sizeof t.root, "/tmp/r2shim-root-XXXXXX");
	assert_non_null(mkdtemp(t.root));
	assert_int_equal(local_sentinel_write(t.root, "test", &eb), ERR_OK);
	assert_int_equal(local_open(&t.local, t.root, "test", &eb), ERR_OK);
	fakestore_init(&t.fake, t.loop);
	t.prefix = (struct conf_prefix){ .url = (char[]){ "/media/" }, .url_len = 7 };
	t.prefix.url = mem_strdup("/media/");
	t.prefix.cache_control = mem_strdup("max-age=60");
	t.conf.site = mem_strdup("test");
	t.conf.media_url = mem_strdup("/media/");
	t.conf.prefixes = &t.prefix;
	t.conf.nprefixes = 1;
	t.conf.refs = 1;
	t.conf.redis_address = t.redis.address;
	t.conf.redis_timeout = 1000;
	t.conf.lease = LEASE;
	t.conf.r2_request_limit = LIMIT;
	t.cluster = cluster_new(t.loop, &t.conf, "migrator", "w", &cbs, NULL);
	t.env = (struct reconcile_env){ t.loop, t.pool, t.cluster, &t.fake.s, t.local, &t.conf };
	redis_wait(t.loop, &t.up);
	return 0;
}

static int
teardown(void **state)
{
	char cmd[128];

	(void)state;
	reconcile_cancel(&t.r);
	run_for(20);
	cluster_free(&t.cluster);
	pool_free(&t.pool);
	fakestore_fini(&t.fake);
	local_free(&t.local);
	loop_free(&t.loop);
	redis_stop(&t.redis);
	assert_int_equal(t.conf.refs, 1);
	mem_free(t.prefix.url);
	mem_free(t.prefix.cache_control);
	mem_free(t.conf.site);
	mem_free(t.conf.media_url);
	snprintf(cmd, sizeof cmd, "rm -rf %s", t.root);
	assert_int_equal(system(cmd), 0);
	mime_fini();
	return 0;
}

static void
test_put(void **state)
{
	uint64_t gen;
	struct fakeobj *o;

	(void)state;
	write_file("a.txt", "hello");
	gen = mark("a.txt", MARK_PUT);
	assert_int_equal(go("a.txt"), RECONCILE_COPIED);
	assert_true(t.rep.clean);
	assert_int_equal(t.rep.gen, gen);
	assert_int_equal(t.rep.bytes, 5);
	assert_string_equal(t.rep.why, "");
	assert_true(object_is("a.txt", "hello"));
	o = fakestore_get(&t.fake, "a.txt");
	assert_string_equal(o->meta.content_type, "text/plain");
	assert_string_equal(o->meta.cache_control, "max-age=60");
	assert_false(marked("a.txt"));
	assert_false(leased());
	/* Again, with a mark: equal, and cleared. Without: not even a lease. */
	mark("a.txt", MARK_PUT);
	assert_int_equal(go("a.txt"), RECONCILE_EQUAL);
	assert_true(t.rep.clean);
	assert_int_equal(t.fake.puts, 1);
	t.fake.heads = 0;
	assert_int_equal(go("a.txt"), RECONCILE_EQUAL);
	assert_true(t.rep.clean);
	assert_int_equal(t.fake.heads, 1);
	/* Backfill: no mark, R2 has nothing or something else. */
	write_file("b.txt", "");
	assert_int_equal(go("b.txt"), RECONCILE_COPIED);
	assert_true(t.rep.clean);
	assert_int_equal(t.rep.gen, 0);
	fakestore_set(&t.fake, "b.txt", "other");
	assert_int_equal(go("b.txt"), RECONCILE_COPIED);
	assert_true(object_is("b.txt", ""));
	/* The same bytes with other headers are not equal. */
	write_file("c.txt", "c");
	fakestore_set(&t.fake, "c.txt", "c");
	assert_int_equal(go("c.txt"), RECONCILE_COPIED);
	assert_string_equal(fakestore_get(&t.fake, "c.txt")->meta.content_type, "text/plain");
}

/* On an armed site nothing is overwritten, or put, without a mark; headers are mended. */
static void
test_armed(void **state)
{
	uint64_t began = clock_mono_ms();

	(void)state;
	write_file("a.txt", "older, perhaps");
	write_file("b.txt", "deleted in R2, perhaps");
	write_file("c.txt", "same");
	fakestore_set(&t.fake, "a.txt", "newer, perhaps");
	fakestore_set(&t.fake, "c.txt", "same");
	cluster_arm(t.cluster, CLUSTER_ARM_STAY);
	while (cluster_armed(t.cluster, NULL) != CLUSTER_ARMED) {
		assert_true(clock_mono_ms() - began < 5000);
		run_for(20);
	}
	assert_int_equal(go("a.txt"), RECONCILE_ORPHAN);
	assert_non_null(strstr(t.rep.why, "no mark says which side was written last"));
	assert_true(object_is("a.txt", "newer, perhaps"));
	assert_int_equal(go("b.txt"), RECONCILE_ORPHAN);
	assert_int_equal(go("c.txt"), RECONCILE_COPIED);
	assert_false(leased());
	mark("a.txt", MARK_PUT);
	assert_int_equal(go("a.txt"), RECONCILE_COPIED);
	assert_true(object_is("a.txt", "older, perhaps"));
}

static void
test_hint(void **state)
{
	struct reconcile_hint h = { .listed = true, .size = 5, .last_modified_ms = (int64_t)clock_real_ms() + 10000 };
	struct str hex = STR_INIT;
	uint8_t md5[16];

	(void)state;
	write_file("a.txt", "hello");
	run_for(20);
	digest_md5("hello", 5, md5);
	str_add_hex(&hex, md5, sizeof md5);
	h.etag = hex.p;
	start("a.txt", &h);
	redis_wait(t.loop, &t.done);
	assert_int_equal(t.rep.result, RECONCILE_EQUAL);
	assert_true(t.rep.clean);
	assert_int_equal(t.fake.heads + t.fake.puts, 0);	/* the listing was enough */
	/* The object is hardly younger than the file: a HEAD decides, and finds nothing. */
	h.last_modified_ms = (int64_t)clock_real_ms();
	start("a.txt", &h);
	redis_wait(t.loop, &t.done);
	assert_int_equal(t.rep.result, RECONCILE_COPIED);
	assert_true(t.fake.heads > 0);
	/* A mark: the listing is no argument. */
	h.last_modified_ms += 100000;
	fakestore_set(&t.fake, "a.txt", "hellO");
	mark("a.txt", MARK_PUT);
	start("a.txt", &h);
	redis_wait(t.loop, &t.done);
	assert_int_equal(t.rep.result, RECONCILE_COPIED);
	assert_true(object_is("a.txt", "hello"));
	/* Listed as absent: no HEAD before the lease. */
	write_file("new.txt", "n");
	t.fake.heads = 0;
	h = (struct reconcile_hint){ .listed = true, .absent = true, .etag = "" };
	start("new.txt", &h);
	redis_wait(t.loop, &t.done);
	assert_int_equal(t.rep.result, RECONCILE_COPIED);
	assert_int_equal(t.fake.heads, 1);
	/* Listed, but neither side has it now. */
	h = (struct reconcile_hint){ .listed = true, .etag = hex.p, .size = 5 };
	start("gone.txt", &h);
	redis_wait(t.loop, &t.done);
	assert_int_equal(t.rep.result, RECONCILE_EQUAL);
	str_fini(&hex);
}

static void
test_delete(void **state)
{
	(void)state;
	fakestore_set(&t.fake, "a.txt", "x");
	mark("a.txt", MARK_DELETE);
	assert_int_equal(go("a.txt"), RECONCILE_DELETED);
	assert_true(t.rep.clean);
	assert_null(fakestore_get(&t.fake, "a.txt"));
	/* Nothing there either: only the mark goes. A DELETE is sent none the less (R23). */
	mark("a.txt", MARK_DELETE);
	assert_int_equal(go("a.txt"), RECONCILE_EQUAL);
	assert_true(t.rep.clean);
	assert_int_equal(t.fake.dels, 2);
	/* A tombstone only permits: a file that is there is put. */
	write_file("b.txt", "b");
	fakestore_set(&t.fake, "b.txt", "old");
	mark("b.txt", MARK_DELETE);
	assert_int_equal(go("b.txt"), RECONCILE_COPIED);
	assert_true(object_is("b.txt", "b"));
	assert_int_equal(t.fake.dels, 2);
}

/* The bucket is away: a HEAD cannot tell that from a missing object. */
static enum err
bucket_away(void *arg, const char *what)
{
	(void)arg;
	return strcmp(what, "head") == 0 ? ERR_NOTFOUND : ERR_NOBUCKET;
}

static void
test_R23_a_404_ends_no_tombstone(void **state)
{
	(void)state;
	fakestore_set(&t.fake, "a.txt", "x");
	mark("a.txt", MARK_DELETE);
	t.fake.before = bucket_away;
	assert_int_equal(go("a.txt"), RECONCILE_FAILED);
	assert_int_equal(t.rep.e, ERR_NOBUCKET);
	assert_true(marked("a.txt"));
	t.fake.before = NULL;
	UNTIL(!leased());
	assert_int_equal(go("a.txt"), RECONCILE_DELETED);
	assert_null(fakestore_get(&t.fake, "a.txt"));
}

static enum err
bytes_differ(void *arg, const char *what)
{
	(void)arg;
	return strcmp(what, "put") == 0 && t.hooked++ == 0 ? ERR_BADDIGEST : ERR_OK;
}

static void
test_R26_other_bytes_are_not_believed(void **state)
{
	(void)state;
	write_file("a.txt", "first");
	mark("a.txt", MARK_PUT);
	t.fake.after = bytes_differ;
	assert_int_equal(go("a.txt"), RECONCILE_FAILED);
	assert_int_equal(t.rep.e, ERR_BADDIGEST);
	assert_non_null(strstr(t.rep.why, "PUT"));
	assert_true(marked("a.txt"));
	UNTIL(!leased());
	/* Whatever it has now is compared, and replaced if it is not ours. */
	fakestore_set(&t.fake, "a.txt", "other");
	assert_int_equal(go("a.txt"), RECONCILE_COPIED);
	assert_true(object_is("a.txt", "first"));
	assert_false(marked("a.txt"));
}

static void
test_orphan(void **state)
{
	(void)state;
	fakestore_set(&t.fake, "a.txt", "x");
	assert_int_equal(go("a.txt"), RECONCILE_ORPHAN);
	assert_false(t.rep.clean);
	mark("a.txt", MARK_PUT);
	assert_int_equal(go("a.txt"), RECONCILE_ORPHAN);
	assert_non_null(fakestore_get(&t.fake, "a.txt"));
	assert_true(marked("a.txt"));	/* dirty: nobody reads it from R2 */
	assert_int_equal(t.fake.dels, 0);
	UNTIL(!leased());
	mark("never.txt", MARK_PUT);
	assert_int_equal(go("never.txt"), RECONCILE_EQUAL);
	assert_true(t.rep.clean);
}

static void
test_no_sentinel(void **state)
{
	(void)state;
	/* An unmounted disk looks like an empty one. */
	fakestore_set(&t.fake, "a.txt", "x");
	mark("a.txt", MARK_DELETE);
	remove_file(".r2shim-root");
	assert_int_equal(go("a.txt"), RECONCILE_FAILED);
	assert_int_equal(t.rep.e, ERR_SENTINEL);
	assert_non_null(fakestore_get(&t.fake, "a.txt"));
	assert_true(marked("a.txt"));
	UNTIL(!leased());
}

static void
test_not_files(void **state)
{
	char path[128];

	(void)state;
	/* A directory or a link where the key was: absent as a key. */
	path_of(path, sizeof path, "dir");
	assert_int_equal(mkdir(path, 0755), 0);
	path_of(path, sizeof path, "link");
	assert_int_equal(symlink("/etc/passwd", path), 0);
	mark("dir", MARK_DELETE);
	mark("link", MARK_DELETE);
	fakestore_set(&t.fake, "dir", "x");
	assert_int_equal(go("dir"), RECONCILE_DELETED);
	go("link");
	assert_int_equal(t.fake.puts, 0);
}

static enum err
rewrite_once(void *arg, const char *what)
{
	if (strcmp(what, "put") == 0 && t.hooked++ == 0)
		write_file("a.txt", arg);
	return ERR_OK;
}

static void
test_R5_changed_while_reading(void **state)
{
	(void)state;
	write_file("a.txt", "first");
	mark("a.txt", MARK_PUT);
	t.fake.after = rewrite_once;
	t.fake.arg = (char[]){ "second" };
	assert_int_equal(go("a.txt"), RECONCILE_COPIED);
	assert_int_equal(t.fake.puts, 2);
	assert_true(object_is("a.txt", "second"));
	/* Nobody has said yet that it was written: the mark seen is the mark cleared. */
	assert_true(t.rep.clean);
}

static enum err
replace_once(void *arg, const char *what)
{
	char from[128], path[128];

	(void)arg;
	if (strcmp(what, "put") == 0 && t.hooked++ == 0) {
		write_file("tmp", "FIRST");
		path_of(from, sizeof from, "tmp");
		path_of(path, sizeof path, "a.txt");
		assert_int_equal(rename(from, path), 0);
	}
	return ERR_OK;
}

static void
test_renamed_over(void **state)
{
	(void)state;
	/* The open file is as it was; the path is another. */
	write_file("a.txt", "first");
	mark("a.txt", MARK_PUT);
	t.fake.after = replace_once;
	assert_int_equal(go("a.txt"), RECONCILE_COPIED);
	assert_true(object_is("a.txt", "FIRST"));
}

static enum err
remove_once(void *arg, const char *what)
{
	(void)arg;
	if (strcmp(what, "put") == 0 && t.hooked++ == 0)
		remove_file("a.txt");
	return ERR_OK;
}

static void
test_deleted_meanwhile(void **state)
{
	(void)state;
	write_file("a.txt", "first");
	mark("a.txt", MARK_PUT);
	t.fake.after = remove_once;
	/* No tombstone yet: the unlink has not been heard of. The mark stays, so the object is not served. */
	assert_int_equal(go("a.txt"), RECONCILE_ORPHAN);
	assert_true(marked("a.txt"));
	mark("a.txt", MARK_DELETE);
	assert_int_equal(go("a.txt"), RECONCILE_DELETED);
	assert_true(t.rep.clean);
}

static enum err
recreate_once(void *arg, const char *what)
{
	(void)arg;
	if (strcmp(what, "del") == 0 && t.hooked++ == 0)
		write_file("a.txt", "again");
	return ERR_OK;
}

static void
test_created_while_deleting(void **state)
{
	(void)state;
	fakestore_set(&t.fake, "a.txt", "x");
	mark("a.txt", MARK_DELETE);
	t.fake.before = recreate_once;
	assert_int_equal(go("a.txt"), RECONCILE_COPIED);
	assert_true(object_is("a.txt", "again"));
	assert_true(t.rep.clean);
}

static enum err
always_rewrite(void *arg, const char *what)
{
	char text[32];

	(void)arg;
	if (strcmp(what, "put") == 0) {
		snprintf(text, sizeof text, "text %u", t.hooked++);
		write_file("a.txt", text);
	}
	return ERR_OK;
}

static void
test_never_still(void **state)
{
	(void)state;
	write_file("a.txt", "first");
	mark("a.txt", MARK_PUT);
	t.fake.after = always_rewrite;
	assert_int_equal(go("a.txt"), RECONCILE_DEFERRED);
	assert_int_equal(t.rep.e, ERR_CHANGED);
	assert_int_equal(t.fake.puts, 5);
	assert_true(marked("a.txt"));
	UNTIL(!leased());
}

static enum err
mark_again(void *arg, const char *what)
{
	(void)arg;
	if (strcmp(what, "put") == 0 && t.hooked++ == 0)
		marks_set(t.cluster, 0, KEY("a.txt"), MARK_DISK(MARK_PUT), 60000, NULL, on_set, NULL);
	return ERR_OK;
}

static void
test_mark_moved_on(void **state)
{
	(void)state;
	write_file("a.txt", "first");
	mark("a.txt", MARK_PUT);
	t.fake.after = mark_again;
	assert_int_equal(go("a.txt"), RECONCILE_COPIED);
	assert_false(t.rep.clean);
	assert_int_equal(t.rep.gen, 0);
	assert_true(marked("a.txt"));
	assert_false(leased());
	t.fake.after = NULL;
	assert_int_equal(go("a.txt"), RECONCILE_EQUAL);
	assert_true(t.rep.clean);
}

static enum err
open_again(void *arg, const char *what)
{
	(void)arg;
	if (strcmp(what, "put") == 0)
		marks_intent(t.cluster, 6, KEY("a.txt"), MARK_DISK(MARK_PUT), 60000, NULL, NULL);
	return ERR_OK;
}

static void
test_open_write(void **state)
{
	(void)state;
	write_file("a.txt", "first");
	mark("a.txt", MARK_PUT);
	marks_intent(t.cluster, 5, KEY("a.txt"), MARK_DISK(MARK_PUT), 60000, NULL, NULL);
	assert_int_equal(go("a.txt"), RECONCILE_DEFERRED);
	assert_int_equal(t.rep.e, ERR_BUSY);
	assert_false(t.rep.clean);
	assert_true(marked("a.txt"));
	UNTIL(!leased());
	/* One that begins while the copy is on its way: copied, not cleared. */
	marks_abandon(t.cluster, 5, NULL, NULL);
	t.fake.after = open_again;
	assert_int_equal(go("a.txt"), RECONCILE_COPIED);
	assert_false(t.rep.clean);
	assert_true(marked("a.txt"));
}

static enum err
other_put_once(void *arg, const char *what)
{
	(void)arg;
	if (strcmp(what, "put") == 0 && t.hooked++ == 0)
		fakestore_set(&t.fake, "a.txt", "a ghost's");
	return ERR_OK;
}

static void
test_R1_another_put_came_first(void **state)
{
	(void)state;
	/* R2 had nothing, then something; R2 had something, then something else. */
	for (int i = 0; i < 2; i++) {
		write_file("a.txt", i ? "second" : "first");
		mark("a.txt", MARK_PUT);
		t.hooked = 0;
		t.fake.puts = 0;
		t.fake.before = other_put_once;
		assert_int_equal(go("a.txt"), RECONCILE_COPIED);
		assert_int_equal(t.fake.puts, 2);
		assert_true(t.rep.clean);
		assert_true(object_is("a.txt", i ? "second" : "first"));
	}
}

static enum err
always_precond(void *arg, const char *what)
{
	(void)arg;
	return strcmp(what, "put") == 0 ? ERR_PRECOND : ERR_OK;
}

static void
test_precondition_never_holds(void **state)
{
	(void)state;
	write_file("a.txt", "first");
	t.fake.before = always_precond;
	assert_int_equal(go("a.txt"), RECONCILE_DEFERRED);
	assert_int_equal(t.rep.e, ERR_PRECOND);
	assert_int_equal(t.fake.puts, 5);
}

static void
test_R18_lease_of_a_dead_worker(void **state)
{
	uint64_t began;

	(void)state;
	write_file("a.txt", "first");
	mark("a.txt", MARK_PUT);
	assert_int_equal(lease("a.txt"), ERR_OK);
	assert_int_equal(go("a.txt"), RECONCILE_DEFERRED);
	assert_int_equal(t.rep.e, ERR_BUSY);
	assert_int_equal(t.fake.puts, 0);
	/* Its holder is dead: taken over after lease and limit, unfinished uploads are aborted first. */
	began = clock_mono_ms();
	while (go("a.txt") == RECONCILE_DEFERRED)
		run_for(20);
	assert_int_equal(t.rep.result, RECONCILE_COPIED);
	assert_in_range(clock_mono_ms() - began, LEASE + LIMIT - 200, LEASE + LIMIT + 1500);
	assert_int_equal(t.fake.aborts, 1);
}

static void
test_locked_file(void **state)
{
	char path[128];
	int fd;

	(void)state;
	write_file("a.txt", "half");
	mark("a.txt", MARK_PUT);
	path_of(path, sizeof path, "a.txt");
	fd = open(path, O_RDWR);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(go("a.txt"), RECONCILE_DEFERRED);
	assert_int_equal(t.rep.e, ERR_BUSY);
	assert_int_equal(t.fake.puts, 0);
	UNTIL(!leased());
	close(fd);
	assert_int_equal(go("a.txt"), RECONCILE_COPIED);
}

static enum err
r2_down(void *arg, const char *what)
{
	(void)what;
	return *(enum err *)arg;
}

static void
test_R23_no_error_is_absence(void **state)
{
	static const enum err errors[] = { ERR_UNAVAIL, ERR_CONNECT, ERR_NOBUCKET, ERR_DENIED, ERR_UNAUTH, ERR_CLOCK, ERR_THROTTLED, ERR_TIMEOUT };
	enum err e;

	(void)state;
	mark("a.txt", MARK_DELETE);
	write_file("b.txt", "b");
	mark("b.txt", MARK_PUT);
	t.fake.before = r2_down;
	t.fake.arg = &e;
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
		e = errors[i];
		/* Never taken for absence. */
		assert_int_equal(go("a.txt"), RECONCILE_FAILED);
		assert_int_equal(t.rep.e, e);
		assert_int_equal(go("b.txt"), RECONCILE_FAILED);
		assert_int_equal(t.rep.e, e);
		assert_true(strlen(t.rep.why) > 0);
		UNTIL(!leased());
	}
	assert_true(marked("a.txt") && marked("b.txt"));
	assert_int_equal(t.fake.puts + t.fake.dels, 0);
}

static enum err
put_answer_lost(void *arg, const char *what)
{
	(void)arg;
	return strcmp(what, "put") == 0 && t.hooked++ == 0 ? ERR_CLOSED : ERR_OK;
}

static void
test_R25_put_applied_answer_lost(void **state)
{
	uint64_t began;

	(void)state;
	write_file("a.txt", "first");
	mark("a.txt", MARK_PUT);
	t.fake.after = put_answer_lost;
	assert_int_equal(go("a.txt"), RECONCILE_FAILED);
	assert_int_equal(t.rep.e, ERR_CLOSED);
	assert_true(marked("a.txt"));
	/* The request may still be on the wire: nobody touches the key before its limit. */
	run_for(20);
	assert_true(leased());
	began = clock_mono_ms();
	while (go("a.txt") == RECONCILE_DEFERRED) {
		assert_int_equal(t.rep.e, ERR_BUSY);
		run_for(20);
	}
	assert_in_range(clock_mono_ms() - began, LIMIT - 150, LIMIT + 600);
	assert_int_equal(t.rep.result, RECONCILE_EQUAL);
	assert_true(t.rep.clean);
	assert_int_equal(t.fake.puts, 1);
}

static void
test_long_put_renews(void **state)
{
	(void)state;
	write_file("a.txt", "first");
	mark("a.txt", MARK_PUT);
	t.fake.hold = "put";
	start("a.txt", NULL);
	UNTIL(t.fake.puts == 1);
	run_for(3 * LEASE);
	assert_false(t.done);
	assert_int_equal(lease("a.txt"), ERR_BUSY);
	fakestore_release(&t.fake);
	redis_wait(t.loop, &t.done);
	assert_int_equal(t.rep.result, RECONCILE_COPIED);
	assert_true(t.rep.clean);
}

static void
test_stops_without_redis(void **state)
{
	uint64_t began;

	(void)state;
	write_file("a.txt", "first");
	mark("a.txt", MARK_PUT);
	/* Redis goes while the PUT is on its way: the holder stops by itself, before the lease ends. */
	t.fake.hold = "put";
	start("a.txt", NULL);
	UNTIL(t.fake.puts == 1);
	redis_kill(&t.redis);
	began = clock_mono_ms();
	redis_wait(t.loop, &t.done);
	assert_true(clock_mono_ms() - began < LEASE);
	assert_int_equal(t.rep.result, RECONCILE_FAILED);
	assert_int_equal(t.rep.e, ERR_LEASE_LOST);
	assert_int_equal(t.fake.cancels, 1);
	assert_null(fakestore_get(&t.fake, "a.txt"));
	t.fake.hold = NULL;
	assert_int_equal(go("a.txt"), RECONCILE_FAILED);
	assert_int_equal(t.rep.e, ERR_CONNECT);
	assert_int_equal(t.fake.puts, 1);
	redis_again(&t.redis, NULL);
}

static void
test_R15_flushed_while_running(void **state)
{
	uint64_t epoch = cluster_epoch(t.cluster);

	(void)state;
	write_file("a.txt", "first");
	mark("a.txt", MARK_PUT);
	t.fake.hold = "put";
	start("a.txt", NULL);
	UNTIL(t.fake.puts == 1);
	redis_do(&t.redis, "FLUSHALL");
	redis_wait(t.loop, &t.done);
	assert_int_equal(t.rep.result, RECONCILE_FAILED);
	assert_true(t.rep.e == ERR_EPOCH || t.rep.e == ERR_LEASE_LOST);
	t.fake.hold = NULL;
	UNTIL(cluster_up(t.cluster) && cluster_epoch(t.cluster) != epoch);
	mark("a.txt", MARK_PUT);
	assert_int_equal(go("a.txt"), RECONCILE_DEFERRED);
	assert_int_equal(t.rep.e, ERR_QUARANTINE);
	assert_int_equal(t.fake.puts, 1);
}

static void
test_R43_R44_names_that_r2_cannot_hold(void **state)
{
	char lng[1200];

	(void)state;
	memset(lng, 'x', sizeof lng - 1);
	lng[sizeof lng - 1] = '\0';
	for (size_t i = 200; i < sizeof lng - 1; i += 200)
		lng[i] = '/';
	assert_int_equal(go(lng), RECONCILE_UNHOLDABLE);
	assert_true(t.rep.clean);
	assert_int_equal(go("bad\xff"), RECONCILE_UNHOLDABLE);
	/* Nothing is owed to R2 that it cannot hold. */
	mark("bad\xff", MARK_PUT);
	assert_int_equal(go("bad\xff"), RECONCILE_UNHOLDABLE);
	assert_true(t.rep.clean);
	assert_false(marked("bad\xff"));
	assert_int_equal(go("../etc/passwd"), RECONCILE_FAILED);
	assert_int_equal(t.rep.e, ERR_INVAL);
	assert_int_equal(go(".r2shim-root"), RECONCILE_FAILED);
	assert_int_equal(go(""), RECONCILE_FAILED);
	assert_int_equal(t.fake.heads + t.fake.puts, 0);
}

static void
test_cancel(void **state)
{
	(void)state;
	write_file("a.txt", "first");
	/* At every moment: after so many turns of the loop. */
	for (unsigned turns = 0; turns < 60; turns++) {
		mark("a.txt", MARK_PUT);
		t.fake.puts = 0;
		start("a.txt", NULL);
		for (unsigned i = 0; i < turns && !t.done; i++)
			loop_run_until(t.loop, &t.done, 1);
		if (t.done)
			break;
		reconcile_cancel(&t.r);
		assert_null(t.r);
		run_for(5);
		assert_false(t.done);
		/* Free at once, or, with a PUT cut, after its limit. */
		UNTIL(lease("a.txt") == ERR_OK);
		marks_drop(t.cluster, KEY("a.txt"), &t.lease, NULL, NULL);
	}
	/* With a PUT out: it may still be carried out, the key stays closed for as long. */
	mark("a.txt", MARK_PUT);
	write_file("a.txt", "second");
	t.fake.puts = 0;
	t.fake.hold = "put";
	start("a.txt", NULL);
	UNTIL(t.fake.puts == 1);
	reconcile_cancel(&t.r);
	assert_int_equal(lease("a.txt"), ERR_BUSY);
	UNTIL(lease("a.txt") == ERR_OK);
	assert_true(t.lease.takeover);
}

static void
test_fresh_ctime(void **state)
{
	uint64_t began;

	(void)state;
	mark("a.txt", MARK_PUT);
	write_file("a.txt", "just now");
	began = clock_mono_ms();
	assert_int_equal(go("a.txt"), RECONCILE_COPIED);
	assert_true(clock_mono_ms() - began >= 8);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_put), TEST(test_armed), TEST(test_hint), TEST(test_delete),
		TEST(test_R23_a_404_ends_no_tombstone), TEST(test_R26_other_bytes_are_not_believed), TEST(test_orphan), TEST(test_no_sentinel),
		TEST(test_not_files), TEST(test_R5_changed_while_reading), TEST(test_renamed_over),
		TEST(test_deleted_meanwhile), TEST(test_created_while_deleting), TEST(test_never_still),
		TEST(test_mark_moved_on), TEST(test_open_write), TEST(test_R1_another_put_came_first),
		TEST(test_precondition_never_holds), TEST(test_R18_lease_of_a_dead_worker),
		TEST(test_locked_file), TEST(test_R23_no_error_is_absence),
		TEST(test_R25_put_applied_answer_lost), TEST(test_long_put_renews),
		TEST(test_stops_without_redis), TEST(test_R15_flushed_while_running),
		TEST(test_R43_R44_names_that_r2_cannot_hold), TEST(test_cancel),
		TEST(test_fresh_ctime),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
