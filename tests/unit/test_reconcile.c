/* reconcile: a real Redis, a real folder, a store in memory that can be told to misbehave. */
#include "sides.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/str.h"
#include "sync/reconcile.h"

static struct {
	struct lease lease;
	unsigned hooked;
} t;

static void
path_of(char *out, size_t cap, const char *key)
{
	snprintf(out, cap, "%s/%s", sides.root, key);
}

static void
remove_file(const char *key)
{
	char path[256];

	path_of(path, sizeof path, key);
	assert_int_equal(unlink(path), 0);
}

static uint64_t
mark(const char *key, enum mark_op op)
{
	return sides_mark(key, MARK_DISK(op));
}

static bool
marked(const char *key)
{
	return redis_int(&redis, "HEXISTS r2shim:{test}:marks %s", key) == 1;
}

static int
setup(void **state)
{
	static char cache_control[] = "max-age=60";

	(void)state;
	memset(&t, 0, sizeof t);
	sides_setup("reconcile");
	sides.prefix.cache_control = cache_control;
	sides_join("migrator", "w", NULL);
	UNTIL(cluster_up(sides.cluster));
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	sides_teardown();
	return 0;
}

static void
test_put(void **state)
{
	uint64_t gen;
	struct fakeobj *o;

	(void)state;
	sides_write("a.txt", "hello");
	gen = mark("a.txt", MARK_PUT);
	assert_int_equal(sides_go("a.txt"), RECONCILE_COPIED);
	assert_true(sides.rep.clean);
	assert_int_equal(sides.rep.gen, gen);
	assert_int_equal(sides.rep.bytes, 5);
	assert_string_equal(sides.rep.why, "");
	assert_true(sides_object_is("a.txt", "hello"));
	o = fakestore_get(&sides.fake, "a.txt");
	assert_string_equal(o->meta.content_type, "text/plain");
	assert_string_equal(o->meta.cache_control, "max-age=60");
	assert_false(marked("a.txt"));
	assert_false(sides_leased());
	/* Again, with a mark: equal, and cleared. Without: not even a lease. */
	mark("a.txt", MARK_PUT);
	assert_int_equal(sides_go("a.txt"), RECONCILE_EQUAL);
	assert_true(sides.rep.clean);
	assert_int_equal(sides.fake.puts, 1);
	sides.fake.heads = 0;
	assert_int_equal(sides_go("a.txt"), RECONCILE_EQUAL);
	assert_true(sides.rep.clean);
	assert_int_equal(sides.fake.heads, 1);
	/* Backfill: no mark, R2 has nothing or something else. */
	sides_write("b.txt", "");
	assert_int_equal(sides_go("b.txt"), RECONCILE_COPIED);
	assert_true(sides.rep.clean);
	assert_int_equal(sides.rep.gen, 0);
	fakestore_set(&sides.fake, "b.txt", "other");
	assert_int_equal(sides_go("b.txt"), RECONCILE_COPIED);
	assert_true(sides_object_is("b.txt", ""));
	/* The same bytes with other headers are not equal. */
	sides_write("c.txt", "c");
	fakestore_set(&sides.fake, "c.txt", "c");
	assert_int_equal(sides_go("c.txt"), RECONCILE_COPIED);
	assert_string_equal(fakestore_get(&sides.fake, "c.txt")->meta.content_type, "text/plain");
}

/* On an armed site nothing is overwritten, or put, without a mark; headers are mended. */
static void
test_armed(void **state)
{
	uint64_t began = clock_mono_ms();

	(void)state;
	sides_write("a.txt", "older, perhaps");
	sides_write("b.txt", "deleted in R2, perhaps");
	sides_write("c.txt", "same");
	fakestore_set(&sides.fake, "a.txt", "newer, perhaps");
	fakestore_set(&sides.fake, "c.txt", "same");
	cluster_arm(sides.cluster, CLUSTER_ARM_STAY);
	while (cluster_armed(sides.cluster, NULL) != CLUSTER_ARMED) {
		assert_true(clock_mono_ms() - began < 5000);
		run_for(20);
	}
	assert_int_equal(sides_go("a.txt"), RECONCILE_ORPHAN);
	assert_non_null(strstr(sides.rep.why, "no mark says which side was written last"));
	assert_true(sides_object_is("a.txt", "newer, perhaps"));
	assert_int_equal(sides_go("b.txt"), RECONCILE_ORPHAN);
	assert_int_equal(sides_go("c.txt"), RECONCILE_COPIED);
	assert_false(sides_leased());
	mark("a.txt", MARK_PUT);
	assert_int_equal(sides_go("a.txt"), RECONCILE_COPIED);
	assert_true(sides_object_is("a.txt", "older, perhaps"));
}

static void
test_hint(void **state)
{
	struct reconcile_hint h = { .listed = true, .size = 5, .last_modified_ms = (int64_t)clock_real_ms() + 10000 };
	struct str hex = STR_INIT;
	uint8_t md5[16];

	(void)state;
	sides_write("a.txt", "hello");
	run_for(20);
	digest_md5("hello", 5, md5);
	str_add_hex(&hex, md5, sizeof md5);
	h.etag = hex.p;
	sides_start("a.txt", &h);
	redis_wait(loop, &sides.done);
	assert_int_equal(sides.rep.result, RECONCILE_EQUAL);
	assert_true(sides.rep.clean);
	assert_int_equal(sides.fake.heads + sides.fake.puts, 0);	/* the listing was enough */
	/* The object is hardly younger than the file: a HEAD decides, and finds nothing. */
	h.last_modified_ms = (int64_t)clock_real_ms();
	sides_start("a.txt", &h);
	redis_wait(loop, &sides.done);
	assert_int_equal(sides.rep.result, RECONCILE_COPIED);
	assert_true(sides.fake.heads > 0);
	/* A mark: the listing is no argument. */
	h.last_modified_ms += 100000;
	fakestore_set(&sides.fake, "a.txt", "hellO");
	mark("a.txt", MARK_PUT);
	sides_start("a.txt", &h);
	redis_wait(loop, &sides.done);
	assert_int_equal(sides.rep.result, RECONCILE_COPIED);
	assert_true(sides_object_is("a.txt", "hello"));
	/* Listed as absent: no HEAD before the lease. */
	sides_write("new.txt", "n");
	sides.fake.heads = 0;
	h = (struct reconcile_hint){ .listed = true, .absent = true, .etag = "" };
	sides_start("new.txt", &h);
	redis_wait(loop, &sides.done);
	assert_int_equal(sides.rep.result, RECONCILE_COPIED);
	assert_int_equal(sides.fake.heads, 1);
	/* Listed, but neither side has it now. */
	h = (struct reconcile_hint){ .listed = true, .etag = hex.p, .size = 5 };
	sides_start("gone.txt", &h);
	redis_wait(loop, &sides.done);
	assert_int_equal(sides.rep.result, RECONCILE_EQUAL);
	str_fini(&hex);
}

static void
test_delete(void **state)
{
	(void)state;
	fakestore_set(&sides.fake, "a.txt", "x");
	mark("a.txt", MARK_DELETE);
	assert_int_equal(sides_go("a.txt"), RECONCILE_DELETED);
	assert_true(sides.rep.clean);
	assert_null(fakestore_get(&sides.fake, "a.txt"));
	/* Nothing there either: only the mark goes. A DELETE is sent none the less (R23). */
	mark("a.txt", MARK_DELETE);
	assert_int_equal(sides_go("a.txt"), RECONCILE_EQUAL);
	assert_true(sides.rep.clean);
	assert_int_equal(sides.fake.dels, 2);
	/* A tombstone only permits: a file that is there is put. */
	sides_write("b.txt", "b");
	fakestore_set(&sides.fake, "b.txt", "old");
	mark("b.txt", MARK_DELETE);
	assert_int_equal(sides_go("b.txt"), RECONCILE_COPIED);
	assert_true(sides_object_is("b.txt", "b"));
	assert_int_equal(sides.fake.dels, 2);
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
	fakestore_set(&sides.fake, "a.txt", "x");
	mark("a.txt", MARK_DELETE);
	sides.fake.before = bucket_away;
	assert_int_equal(sides_go("a.txt"), RECONCILE_FAILED);
	assert_int_equal(sides.rep.e, ERR_NOBUCKET);
	assert_true(marked("a.txt"));
	sides.fake.before = NULL;
	UNTIL(!sides_leased());
	assert_int_equal(sides_go("a.txt"), RECONCILE_DELETED);
	assert_null(fakestore_get(&sides.fake, "a.txt"));
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
	sides_write("a.txt", "first");
	mark("a.txt", MARK_PUT);
	sides.fake.after = bytes_differ;
	assert_int_equal(sides_go("a.txt"), RECONCILE_FAILED);
	assert_int_equal(sides.rep.e, ERR_BADDIGEST);
	assert_non_null(strstr(sides.rep.why, "PUT"));
	assert_true(marked("a.txt"));
	UNTIL(!sides_leased());
	/* Whatever it has now is compared, and replaced if it is not ours. */
	fakestore_set(&sides.fake, "a.txt", "other");
	assert_int_equal(sides_go("a.txt"), RECONCILE_COPIED);
	assert_true(sides_object_is("a.txt", "first"));
	assert_false(marked("a.txt"));
}

static void
test_orphan(void **state)
{
	(void)state;
	fakestore_set(&sides.fake, "a.txt", "x");
	assert_int_equal(sides_go("a.txt"), RECONCILE_ORPHAN);
	assert_false(sides.rep.clean);
	mark("a.txt", MARK_PUT);
	assert_int_equal(sides_go("a.txt"), RECONCILE_ORPHAN);
	assert_non_null(fakestore_get(&sides.fake, "a.txt"));
	assert_true(marked("a.txt"));	/* dirty: nobody reads it from R2 */
	assert_int_equal(sides.fake.dels, 0);
	UNTIL(!sides_leased());
	mark("never.txt", MARK_PUT);
	assert_int_equal(sides_go("never.txt"), RECONCILE_EQUAL);
	assert_true(sides.rep.clean);
}

static void
test_no_sentinel(void **state)
{
	(void)state;
	/* An unmounted disk looks like an empty one. */
	fakestore_set(&sides.fake, "a.txt", "x");
	mark("a.txt", MARK_DELETE);
	remove_file(".r2shim-root");
	assert_int_equal(sides_go("a.txt"), RECONCILE_FAILED);
	assert_int_equal(sides.rep.e, ERR_SENTINEL);
	assert_non_null(fakestore_get(&sides.fake, "a.txt"));
	assert_true(marked("a.txt"));
	UNTIL(!sides_leased());
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
	fakestore_set(&sides.fake, "dir", "x");
	assert_int_equal(sides_go("dir"), RECONCILE_DELETED);
	sides_go("link");
	assert_int_equal(sides.fake.puts, 0);
}

static enum err
rewrite_once(void *arg, const char *what)
{
	if (strcmp(what, "put") == 0 && t.hooked++ == 0)
		sides_write("a.txt", arg);
	return ERR_OK;
}

static void
test_R5_changed_while_reading(void **state)
{
	(void)state;
	sides_write("a.txt", "first");
	mark("a.txt", MARK_PUT);
	sides.fake.after = rewrite_once;
	sides.fake.arg = (char[]){ "second" };
	assert_int_equal(sides_go("a.txt"), RECONCILE_COPIED);
	assert_int_equal(sides.fake.puts, 2);
	assert_true(sides_object_is("a.txt", "second"));
	/* Nobody has said yet that it was written: the mark seen is the mark cleared. */
	assert_true(sides.rep.clean);
}

static enum err
replace_once(void *arg, const char *what)
{
	char from[128], path[128];

	(void)arg;
	if (strcmp(what, "put") == 0 && t.hooked++ == 0) {
		sides_write("tmp", "FIRST");
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
	sides_write("a.txt", "first");
	mark("a.txt", MARK_PUT);
	sides.fake.after = replace_once;
	assert_int_equal(sides_go("a.txt"), RECONCILE_COPIED);
	assert_true(sides_object_is("a.txt", "FIRST"));
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
	sides_write("a.txt", "first");
	mark("a.txt", MARK_PUT);
	sides.fake.after = remove_once;
	/* No tombstone yet: the unlink has not been heard of. The mark stays, so the object is not served. */
	assert_int_equal(sides_go("a.txt"), RECONCILE_ORPHAN);
	assert_true(marked("a.txt"));
	mark("a.txt", MARK_DELETE);
	assert_int_equal(sides_go("a.txt"), RECONCILE_DELETED);
	assert_true(sides.rep.clean);
}

static enum err
recreate_once(void *arg, const char *what)
{
	(void)arg;
	if (strcmp(what, "del") == 0 && t.hooked++ == 0)
		sides_write("a.txt", "again");
	return ERR_OK;
}

static void
test_created_while_deleting(void **state)
{
	(void)state;
	fakestore_set(&sides.fake, "a.txt", "x");
	mark("a.txt", MARK_DELETE);
	sides.fake.before = recreate_once;
	assert_int_equal(sides_go("a.txt"), RECONCILE_COPIED);
	assert_true(sides_object_is("a.txt", "again"));
	assert_true(sides.rep.clean);
}

static enum err
always_rewrite(void *arg, const char *what)
{
	char text[32];

	(void)arg;
	if (strcmp(what, "put") == 0) {
		snprintf(text, sizeof text, "text %u", t.hooked++);
		sides_write("a.txt", text);
	}
	return ERR_OK;
}

static void
test_never_still(void **state)
{
	(void)state;
	sides_write("a.txt", "first");
	mark("a.txt", MARK_PUT);
	sides.fake.after = always_rewrite;
	assert_int_equal(sides_go("a.txt"), RECONCILE_DEFERRED);
	assert_int_equal(sides.rep.e, ERR_CHANGED);
	assert_int_equal(sides.fake.puts, 5);
	assert_true(marked("a.txt"));
	UNTIL(!sides_leased());
}

static enum err
mark_again(void *arg, const char *what)
{
	(void)arg;
	if (strcmp(what, "put") == 0 && t.hooked++ == 0)
		sides_mark_soon("a.txt", MARK_DISK(MARK_PUT));
	return ERR_OK;
}

static void
test_mark_moved_on(void **state)
{
	(void)state;
	sides_write("a.txt", "first");
	mark("a.txt", MARK_PUT);
	sides.fake.after = mark_again;
	assert_int_equal(sides_go("a.txt"), RECONCILE_COPIED);
	assert_false(sides.rep.clean);
	assert_int_equal(sides.rep.gen, 0);
	assert_true(marked("a.txt"));
	assert_false(sides_leased());
	sides.fake.after = NULL;
	assert_int_equal(sides_go("a.txt"), RECONCILE_EQUAL);
	assert_true(sides.rep.clean);
}

static enum err
open_again(void *arg, const char *what)
{
	(void)arg;
	if (strcmp(what, "put") == 0)
		marks_intent(sides.cluster, 6, KEY("a.txt"), MARK_DISK(MARK_PUT), 60000, NULL, NULL);
	return ERR_OK;
}

static void
test_open_write(void **state)
{
	(void)state;
	sides_write("a.txt", "first");
	mark("a.txt", MARK_PUT);
	marks_intent(sides.cluster, 5, KEY("a.txt"), MARK_DISK(MARK_PUT), 60000, NULL, NULL);
	assert_int_equal(sides_go("a.txt"), RECONCILE_DEFERRED);
	assert_int_equal(sides.rep.e, ERR_BUSY);
	assert_false(sides.rep.clean);
	assert_true(marked("a.txt"));
	UNTIL(!sides_leased());
	/* One that begins while the copy is on its way: copied, not cleared. */
	marks_abandon(sides.cluster, 5, NULL, NULL);
	sides.fake.after = open_again;
	assert_int_equal(sides_go("a.txt"), RECONCILE_COPIED);
	assert_false(sides.rep.clean);
	assert_true(marked("a.txt"));
}

static enum err
other_put_once(void *arg, const char *what)
{
	(void)arg;
	if (strcmp(what, "put") == 0 && t.hooked++ == 0)
		fakestore_set(&sides.fake, "a.txt", "a ghost's");
	return ERR_OK;
}

static void
test_R1_another_put_came_first(void **state)
{
	(void)state;
	/* R2 had nothing, then something; R2 had something, then something else. */
	for (int i = 0; i < 2; i++) {
		sides_write("a.txt", i ? "second" : "first");
		mark("a.txt", MARK_PUT);
		t.hooked = 0;
		sides.fake.puts = 0;
		sides.fake.before = other_put_once;
		assert_int_equal(sides_go("a.txt"), RECONCILE_COPIED);
		assert_int_equal(sides.fake.puts, 2);
		assert_true(sides.rep.clean);
		assert_true(sides_object_is("a.txt", i ? "second" : "first"));
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
	sides_write("a.txt", "first");
	sides.fake.before = always_precond;
	assert_int_equal(sides_go("a.txt"), RECONCILE_DEFERRED);
	assert_int_equal(sides.rep.e, ERR_PRECOND);
	assert_int_equal(sides.fake.puts, 5);
}

static void
test_R18_lease_of_a_dead_worker(void **state)
{
	uint64_t began;

	(void)state;
	sides_write("a.txt", "first");
	mark("a.txt", MARK_PUT);
	assert_int_equal(sides_lease("a.txt", &t.lease), ERR_OK);
	assert_int_equal(sides_go("a.txt"), RECONCILE_DEFERRED);
	assert_int_equal(sides.rep.e, ERR_BUSY);
	assert_int_equal(sides.fake.puts, 0);
	/* Its holder is dead: taken over after lease and limit, unfinished uploads are aborted first. */
	began = clock_mono_ms();
	while (sides_go("a.txt") == RECONCILE_DEFERRED)
		run_for(20);
	assert_int_equal(sides.rep.result, RECONCILE_COPIED);
	assert_in_range(clock_mono_ms() - began, LEASE + LIMIT - 200, LEASE + LIMIT + 1500);
	assert_int_equal(sides.fake.aborts, 1);
}

static void
test_locked_file(void **state)
{
	char path[128];
	int fd;

	(void)state;
	sides_write("a.txt", "half");
	mark("a.txt", MARK_PUT);
	path_of(path, sizeof path, "a.txt");
	fd = open(path, O_RDWR);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(sides_go("a.txt"), RECONCILE_DEFERRED);
	assert_int_equal(sides.rep.e, ERR_BUSY);
	assert_int_equal(sides.fake.puts, 0);
	UNTIL(!sides_leased());
	close(fd);
	assert_int_equal(sides_go("a.txt"), RECONCILE_COPIED);
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
	sides_write("b.txt", "b");
	mark("b.txt", MARK_PUT);
	sides.fake.before = r2_down;
	sides.fake.arg = &e;
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
		e = errors[i];
		/* Never taken for absence. */
		assert_int_equal(sides_go("a.txt"), RECONCILE_FAILED);
		assert_int_equal(sides.rep.e, e);
		assert_int_equal(sides_go("b.txt"), RECONCILE_FAILED);
		assert_int_equal(sides.rep.e, e);
		assert_true(strlen(sides.rep.why) > 0);
		UNTIL(!sides_leased());
	}
	assert_true(marked("a.txt") && marked("b.txt"));
	assert_int_equal(sides.fake.puts + sides.fake.dels, 0);
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
	sides_write("a.txt", "first");
	mark("a.txt", MARK_PUT);
	sides.fake.after = put_answer_lost;
	assert_int_equal(sides_go("a.txt"), RECONCILE_FAILED);
	assert_int_equal(sides.rep.e, ERR_CLOSED);
	assert_true(marked("a.txt"));
	/* The request may still be on the wire: nobody touches the key before its limit. */
	run_for(20);
	assert_true(sides_leased());
	began = clock_mono_ms();
	while (sides_go("a.txt") == RECONCILE_DEFERRED) {
		assert_int_equal(sides.rep.e, ERR_BUSY);
		run_for(20);
	}
	assert_in_range(clock_mono_ms() - began, LIMIT - 150, LIMIT + 600);
	assert_int_equal(sides.rep.result, RECONCILE_EQUAL);
	assert_true(sides.rep.clean);
	assert_int_equal(sides.fake.puts, 1);
}

static void
test_long_put_renews(void **state)
{
	(void)state;
	sides_write("a.txt", "first");
	mark("a.txt", MARK_PUT);
	sides.fake.hold = "put";
	sides_start("a.txt", NULL);
	UNTIL(sides.fake.puts == 1);
	run_for(3 * LEASE);
	assert_false(sides.done);
	assert_int_equal(sides_lease("a.txt", &t.lease), ERR_BUSY);
	fakestore_release(&sides.fake);
	redis_wait(loop, &sides.done);
	assert_int_equal(sides.rep.result, RECONCILE_COPIED);
	assert_true(sides.rep.clean);
}

static void
test_stops_without_redis(void **state)
{
	uint64_t began;

	(void)state;
	sides_write("a.txt", "first");
	mark("a.txt", MARK_PUT);
	/* Redis goes while the PUT is on its way: the holder stops by itself, before the lease ends. */
	sides.fake.hold = "put";
	sides_start("a.txt", NULL);
	UNTIL(sides.fake.puts == 1);
	redis_kill(&redis);
	began = clock_mono_ms();
	redis_wait(loop, &sides.done);
	assert_true(clock_mono_ms() - began < LEASE);
	assert_int_equal(sides.rep.result, RECONCILE_FAILED);
	assert_int_equal(sides.rep.e, ERR_LEASE_LOST);
	assert_int_equal(sides.fake.cancels, 1);
	assert_null(fakestore_get(&sides.fake, "a.txt"));
	sides.fake.hold = NULL;
	assert_int_equal(sides_go("a.txt"), RECONCILE_FAILED);
	assert_int_equal(sides.rep.e, ERR_CONNECT);
	assert_int_equal(sides.fake.puts, 1);
	redis_again(&redis, NULL);
}

static void
test_R15_flushed_while_running(void **state)
{
	uint64_t epoch = cluster_epoch(sides.cluster);

	(void)state;
	sides_write("a.txt", "first");
	mark("a.txt", MARK_PUT);
	sides.fake.hold = "put";
	sides_start("a.txt", NULL);
	UNTIL(sides.fake.puts == 1);
	redis_do(&redis, "FLUSHALL");
	redis_wait(loop, &sides.done);
	assert_int_equal(sides.rep.result, RECONCILE_FAILED);
	assert_true(sides.rep.e == ERR_EPOCH || sides.rep.e == ERR_LEASE_LOST);
	sides.fake.hold = NULL;
	UNTIL(cluster_up(sides.cluster) && cluster_epoch(sides.cluster) != epoch);
	mark("a.txt", MARK_PUT);
	assert_int_equal(sides_go("a.txt"), RECONCILE_DEFERRED);
	assert_int_equal(sides.rep.e, ERR_QUARANTINE);
	assert_int_equal(sides.fake.puts, 1);
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
	assert_int_equal(sides_go(lng), RECONCILE_UNHOLDABLE);
	assert_true(sides.rep.clean);
	assert_int_equal(sides_go("bad\xff"), RECONCILE_UNHOLDABLE);
	/* Nothing is owed to R2 that it cannot hold. */
	mark("bad\xff", MARK_PUT);
	assert_int_equal(sides_go("bad\xff"), RECONCILE_UNHOLDABLE);
	assert_true(sides.rep.clean);
	assert_false(marked("bad\xff"));
	assert_int_equal(sides_go("../etc/passwd"), RECONCILE_FAILED);
	assert_int_equal(sides.rep.e, ERR_INVAL);
	assert_int_equal(sides_go(".r2shim-root"), RECONCILE_FAILED);
	assert_int_equal(sides_go(""), RECONCILE_FAILED);
	assert_int_equal(sides.fake.heads + sides.fake.puts, 0);
}

static void
test_cancel(void **state)
{
	(void)state;
	sides_write("a.txt", "first");
	/* At every moment: after so many turns of the loop. */
	for (unsigned turns = 0; turns < 60; turns++) {
		mark("a.txt", MARK_PUT);
		sides.fake.puts = 0;
		sides_start("a.txt", NULL);
		for (unsigned i = 0; i < turns && !sides.done; i++)
			loop_run_until(loop, &sides.done, 1);
		if (sides.done)
			break;
		reconcile_cancel(&sides.r);
		assert_null(sides.r);
		run_for(5);
		assert_false(sides.done);
		/* Free at once, or, with a PUT cut, after its limit. */
		UNTIL(sides_lease("a.txt", &t.lease) == ERR_OK);
		marks_drop(sides.cluster, KEY("a.txt"), &t.lease, NULL, NULL);
	}
	/* With a PUT out: it may still be carried out, the key stays closed for as long. */
	mark("a.txt", MARK_PUT);
	sides_write("a.txt", "second");
	sides.fake.puts = 0;
	sides.fake.hold = "put";
	sides_start("a.txt", NULL);
	UNTIL(sides.fake.puts == 1);
	reconcile_cancel(&sides.r);
	assert_int_equal(sides_lease("a.txt", &t.lease), ERR_BUSY);
	UNTIL(sides_lease("a.txt", &t.lease) == ERR_OK);
	assert_true(t.lease.takeover);
}

static void
test_fresh_ctime(void **state)
{
	uint64_t began;

	(void)state;
	mark("a.txt", MARK_PUT);
	sides_write("a.txt", "just now");
	began = clock_mono_ms();
	assert_int_equal(sides_go("a.txt"), RECONCILE_COPIED);
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
