/*
 * reconcile, from R2 to the disk: a real Redis, a real folder, a store in memory. What a swap does between its own steps is
 * test_swap's; here it is what surrounds it: the mark, the lease, R2 that changes, a site that writes, deaths.
 */
#include "files.h"
#include "sides.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "base/mem.h"
#include "store/local_swap.h"
#include "sync/reconcile.h"

#define MTIME INT64_C(1700000000123456789)
static const char key[] = "a.txt";

static struct {
	const char *after_get;		/* operations of this name are held when a get has been begun */
	/* At the n-th operation of this name the site or R2's other writers act. */
	const char *when;
	unsigned at, seen;
	void (*act)(void);
	char want[32];		/* what both sides must have in the end; "": nothing */
} t;

/* A thread that is about to rename waits at a gate while that is closed. */
static struct {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool closed, waits;
} gate = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false };

int __real_renameat2(int olddir, const char *old, int newdir, const char *new, unsigned flags);
int __wrap_renameat2(int olddir, const char *old, int newdir, const char *new, unsigned flags);

int
__wrap_renameat2(int olddir, const char *old, int newdir, const char *new, unsigned flags)
{
	pthread_mutex_lock(&gate.mutex);
	gate.waits = gate.closed;
	while (gate.closed)
		pthread_cond_wait(&gate.cond, &gate.mutex);
	pthread_mutex_unlock(&gate.mutex);
	return __real_renameat2(olddir, old, newdir, new, flags);
}

static void
gate_set(bool closed)
{
	pthread_mutex_lock(&gate.mutex);
	gate.closed = closed;
	gate.waits = false;
	pthread_cond_broadcast(&gate.cond);
	pthread_mutex_unlock(&gate.mutex);
}

static bool
gate_waits(void)
{
	bool waits;

	pthread_mutex_lock(&gate.mutex);
	waits = gate.waits;
	pthread_mutex_unlock(&gate.mutex);
	return waits;
}

/* Both sides. */

static void
write_file(const char *text)
{
	file_write(key, text, 0640);
}

static void
old_file(const char *text)
{
	write_file(text);
	run_for(15);
}

static struct local_stat
look(void)
{
	struct local_stat st;

	assert_int_equal(local_look(sides.local, KEY(key), &st), ERR_OK);
	return st;
}

static void
object(const char *text)
{
	struct fakeobj *o;

	fakestore_set(&sides.fake, key, text);
	o = fakestore_get(&sides.fake, key);
	o->meta.has_mtime = true;
	o->meta.mtime_ns = MTIME;
}

static bool
object_is(const char *text)
{
	struct fakeobj *o = fakestore_get(&sides.fake, key);

	if (o == NULL)
		return *text == '\0';
	return *text != '\0' && o->size == strlen(text) && memcmp(o->body, text, o->size) == 0;
}

static bool
leftovers(void)
{
	return folder_has(sides.root, ".r2shim-swap");
}

/* Marks. */

/* As a write to R2 leaves it that found this on the disk. */
static uint64_t
owed_since(const struct local_stat *st, enum mark_op op)
{
	return sides_mark(key, (struct mark_write){ .op = op, .side = MARK_R2, .base = reconcile_base(st) });
}

static uint64_t
owed(enum mark_op op)
{
	struct local_stat st = look();

	return owed_since(&st, op);
}

/* Reconciling. */

/* Again and again, as the mirror does, with a watcher that has heard what the disk has; until all rests. */
static void
converge(void)
{
	for (unsigned i = 0; i < 50; i++) {
		struct local_stat before = look(), after;
		struct mark m = sides_mark_now(key);
		struct mark_base now = reconcile_base(&before);

		if (m.gen == 0 || !marks_base_same(&m.base, &now))
			sides_mark(key, MARK_DISK(before.exists ? MARK_PUT : MARK_DELETE));
		sides_go(key);
		after = look();
		if (sides.rep.clean && local_same(&before, &after))
			return;
		run_for(5);
	}
	fail_msg("does not converge: %s", sides.rep.why);
}

static enum err
on_before(void *arg, const char *what)
{
	(void)arg;
	if (t.after_get != NULL && strcmp(what, "get") == 0)
		sides.fake.hold = t.after_get;
	if (t.when != NULL && strcmp(what, t.when) == 0 && ++t.seen == t.at)
		t.act();
	return ERR_OK;
}

static int
setup_limit(uint64_t limit_ms)
{
	memset(&t, 0, sizeof t);
	sides_setup("back");
	sides.conf.r2_request_limit = limit_ms;
	assert_int_equal(chdir(sides.root), 0);
	sides.fake.before = on_before;
	sides_join("migrator", "w", NULL);
	UNTIL(cluster_up(sides.cluster));
	return 0;
}

static int
setup(void **state)
{
	(void)state;
	return setup_limit(LIMIT);
}

/* For many leases that are left to their quarantine. */
static int
setup_short(void **state)
{
	(void)state;
	return setup_limit(10);
}

static int
teardown(void **state)
{
	(void)state;
	gate_set(false);
	assert_int_equal(chdir("/"), 0);
	sides_teardown();
	return 0;
}

static void
test_restore(void **state)
{
	struct local_stat st;
	uint64_t gen;

	(void)state;
	old_file("old");
	gen = owed(MARK_PUT);
	object("new bytes");
	assert_int_equal(sides_go(key), RECONCILE_RESTORED);
	assert_true(sides.rep.clean);
	assert_int_equal(sides.rep.gen, gen);
	assert_int_equal(sides.rep.bytes, 9);
	assert_string_equal(sides.rep.why, "");
	assert_true(file_is(key, "new bytes"));
	st = look();
	assert_int_equal(st.mtime_ns, MTIME);
	assert_int_equal(st.mode, 0640);	/* the site's own, not R2's */
	assert_int_equal(sides_mark_now(key).gen, 0);
	assert_false(sides_leased() || leftovers());
	assert_int_equal(sides.fake.puts + sides.fake.dels, 0);
	assert_int_equal(redis_int(&redis, "ZCARD r2shim:{test}:debt"), 0);
	/* Again: equal, by digest, and nothing is fetched. */
	run_for(15);
	owed(MARK_PUT);
	assert_int_equal(sides_go(key), RECONCILE_EQUAL);
	assert_true(sides.rep.clean);
	assert_int_equal(sides.fake.gets, 1);
	/* Nothing on the disk; not even a byte; in R2 since a delete was intended that never came. */
	assert_int_equal(unlink(key), 0);
	object("");
	owed(MARK_DELETE);
	assert_int_equal(sides_go(key), RECONCILE_RESTORED);
	assert_true(sides.rep.clean);
	assert_int_equal(look().size, 0);
	assert_true(look().exists);
}

static void
test_new_folder(void **state)
{
	static const char deep[] = "new/deep/b.txt";
	struct local_stat none = { .exists = false };

	(void)state;
	fakestore_set(&sides.fake, deep, "x");
	fakestore_get(&sides.fake, deep)->meta.last_modified_s = 1600000000;
	sides_mark(deep, (struct mark_write){ .side = MARK_R2, .base = reconcile_base(&none) });
	assert_int_equal(sides_go(deep), RECONCILE_RESTORED);
	assert_true(sides.rep.clean);
	assert_int_equal(local_look(sides.local, KEY(deep), &none), ERR_OK);
	assert_int_equal(none.mtime_ns, INT64_C(1600000000000000000));
}

static void
test_remove(void **state)
{
	(void)state;
	old_file("old");
	owed(MARK_DELETE);
	assert_int_equal(sides_go(key), RECONCILE_REMOVED);
	assert_true(sides.rep.clean);
	assert_true(file_is(key, ""));
	assert_false(leftovers());
	owed(MARK_DELETE);
	assert_int_equal(sides_go(key), RECONCILE_EQUAL);
	assert_true(sides.rep.clean);
	/* No object, and no word of a delete: the file stays, and somebody hears of it. */
	old_file("only here");
	owed(MARK_PUT);
	assert_int_equal(sides_go(key), RECONCILE_FAILED);
	assert_int_equal(sides.rep.e, ERR_NOTFOUND);
	assert_true(file_is(key, "only here") && sides_mark_now(key).gen > 0);
	UNTIL(!sides_leased());
	assert_int_equal(sides.fake.puts, 0);
}

/* The disk has something else than the writer to R2 found. */
static void
test_later(void **state)
{
	struct local_stat base;

	(void)state;
	old_file("base");
	base = look();
	object("new");
	old_file("later");
	owed_since(&base, MARK_PUT);
	assert_int_equal(sides_go(key), RECONCILE_COPIED);
	assert_true(sides.rep.clean && object_is("later") && file_is(key, "later"));
	/* over R2's delete, too */
	fakestore_set(&sides.fake, key, "x");
	owed_since(&base, MARK_DELETE);
	assert_int_equal(sides_go(key), RECONCILE_COPIED);
	assert_true(sides.rep.clean && object_is("later"));
	/* a delete */
	base = look();
	assert_int_equal(unlink(key), 0);
	object("new");
	owed_since(&base, MARK_PUT);
	assert_int_equal(sides_go(key), RECONCILE_DELETED);
	assert_true(sides.rep.clean && object_is("") && file_is(key, ""));
	/* a file where there was none */
	base = look();
	old_file("first");
	object("new");
	owed_since(&base, MARK_PUT);
	assert_int_equal(sides_go(key), RECONCILE_COPIED);
	assert_true(sides.rep.clean && object_is("first"));
	assert_int_equal(sides.fake.gets, 0);
	/* a disk that is not there has deleted nothing */
	base = look();
	object("new");
	assert_int_equal(unlink(key), 0);
	assert_int_equal(unlink(".r2shim-root"), 0);
	owed_since(&base, MARK_PUT);
	assert_int_equal(sides_go(key), RECONCILE_FAILED);
	assert_int_equal(sides.rep.e, ERR_SENTINEL);
	assert_true(object_is("new"));
	UNTIL(!sides_leased());
}

static void
site_renames(void)
{
	char path[128];

	snprintf(path, sizeof path, "%s/upload", sides.root);
	file_write(path, "site's", 0644);
	assert_int_equal(rename(path, key), 0);
	snprintf(t.want, sizeof t.want, "site's");
}

static void
site_rewrites(void)
{
	write_file("site's, in place");
	snprintf(t.want, sizeof t.want, "site's, in place");
}

static void
site_unlinks(void)
{
	if (unlink(key) == 0)
		t.want[0] = '\0';
}

/* Another write to R2 that this reconcile's lease does not keep out: of a dead proxy, late. */
static void
ghost_puts(void)
{
	object("a ghost's");
	snprintf(t.want, sizeof t.want, "a ghost's");
}

/* At each request to R2 somebody writes. */
static void
test_written_meanwhile(void **state)
{
	static void (*const acts[])(void) = { site_renames, site_rewrites, site_unlinks, ghost_puts };
	static const char *const ops[] = { "head", "get" };
	unsigned ran = 0;

	(void)state;
	sides.fake.chunk = 2;
	for (unsigned absent = 0; absent < 2; absent++)
		for (size_t a = 0; a < 4; a++)
			for (size_t o = 0; o < 2; o++)
				for (unsigned n = 1;; n++) {
					unlink(key);
					if (!absent)
						old_file("base");
					object("new bytes");
					owed(MARK_PUT);
					snprintf(t.want, sizeof t.want, "new bytes");
					t.act = acts[a];
					t.when = ops[o];
					t.at = n;
					t.seen = 0;
					sides_go(key);
					t.when = NULL;
					if (t.seen < n)
						break;
					/* A late write to R2 must have been seen, or come after the last look. */
					if (a == 3 && sides.rep.clean)
						assert_true(file_is(key, t.want));
					converge();
					if (!file_is(key, t.want) || !object_is(t.want) || leftovers())
						fail_msg("absent %u act %zu at %s %u: \"%s\"", absent, a, ops[o], n, t.want);
					ran++;
				}
	assert_true(ran >= 20);
}

static void
test_bad_bytes(void **state)
{
	(void)state;
	old_file("base");
	object("new");
	owed(MARK_PUT);
	sides.fake.corrupt = true;
	assert_int_equal(sides_go(key), RECONCILE_FAILED);
	assert_int_equal(sides.rep.e, ERR_BADDIGEST);
	assert_true(sides.rep.r2);
	assert_true(file_is(key, "base") && sides_mark_now(key).side == MARK_R2 && !leftovers());
	sides.fake.corrupt = false;
	UNTIL(!sides_leased());
	assert_int_equal(sides_go(key), RECONCILE_RESTORED);
}

static void
test_large(void **state)
{
	size_t n = 6 << 20;
	char *big = mem_alloc(n + 1), *got = mem_alloc(n + 1);
	int fd;

	(void)state;
	for (size_t i = 0; i < n; i++)
		big[i] = (char)('a' + i * 7 % 26 + i / 65536 % 3);
	big[n] = '\0';
	object(big);
	owed(MARK_PUT);
	assert_int_equal(sides_go(key), RECONCILE_RESTORED);
	assert_int_equal(sides.rep.bytes, n);
	fd = open(key, O_RDONLY);
	assert_int_equal(read(fd, got, n + 1), (ssize_t)n);
	assert_memory_equal(got, big, n);
	close(fd);
	mem_free(big);
	mem_free(got);
}

/* The disk is slower than R2: R2 waits, nothing piles up. */
static void
test_slow_disk(void **state)
{
	size_t n = 12 << 20;
	char *big = mem_alloc(n + 1);

	(void)state;
	memset(big, 'x', n);
	big[n] = '\0';
	object(big);
	mem_free(big);
	owed(MARK_PUT);
	sides.fake.chunk = 4 << 20;	/* more than may wait for the disk */
	assert_int_equal(sides_go(key), RECONCILE_RESTORED);
	assert_int_equal(sides.rep.bytes, n);
	assert_true(sides.fake.pauses > 0);
}

static void
test_no_space(void **state)
{
	(void)state;
	old_file("base");
	object("new");
	owed(MARK_PUT);
	sides.conf.min_free = UINT64_C(1) << 60;
	assert_int_equal(sides_go(key), RECONCILE_DEFERRED);
	assert_int_equal(sides.rep.e, ERR_NOSPACE);
	assert_non_null(strstr(sides.rep.why, "min-free"));
	assert_int_equal(sides.fake.gets, 0);
	assert_true(file_is(key, "base") && !leftovers());
	UNTIL(!sides_leased());
	/* what needs no room is done */
	sides.fake.before = NULL;
	assert_int_equal(unlink(key), 0);
	assert_int_equal(sides_go(key), RECONCILE_DELETED);
	sides.conf.min_free = 0;
}

static void
test_in_use(void **state)
{
	int fd;

	(void)state;
	old_file("base");
	object("new");
	owed(MARK_PUT);
	fd = open(key, O_RDWR);
	assert_int_equal(sides_go(key), RECONCILE_DEFERRED);
	assert_int_equal(sides.rep.e, ERR_BUSY);
	assert_true(file_is(key, "base") && !leftovers() && sides_mark_now(key).side == MARK_R2);
	UNTIL(!sides_leased());
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(sides_go(key), RECONCILE_DEFERRED);
	assert_int_equal(sides.rep.e, ERR_BUSY);
	close(fd);
	UNTIL(!sides_leased());
	assert_int_equal(sides_go(key), RECONCILE_RESTORED);
	assert_true(sides.rep.clean && file_is(key, "new"));
}

static void
test_in_the_way(void **state)
{
	(void)state;
	assert_int_equal(mkdir(key, 0755), 0);
	object("new");
	owed(MARK_PUT);
	assert_int_equal(sides_go(key), RECONCILE_FAILED);
	assert_int_equal(sides.rep.e, ERR_EXISTS);
	assert_false(leftovers());
	UNTIL(!sides_leased());
	assert_int_equal(rmdir(key), 0);
	assert_int_equal(sides_go(key), RECONCILE_RESTORED);
}

static void
mark_moves(void)
{
	struct local_stat st = look();

	sides_mark_soon(key, (struct mark_write){ .op = MARK_PUT, .side = MARK_R2, .base = reconcile_base(&st) });
}

static void
test_mark_moves(void **state)
{
	static const char *const ops[] = { "head", "get" };

	(void)state;
	for (size_t o = 0; o < 2; o++)
		for (unsigned n = 1;; n++) {
			unlink(key);
			old_file("base");
			object("new");
			owed(MARK_PUT);
			t.when = ops[o];
			t.at = n;
			t.seen = 0;
			t.act = mark_moves;
			sides_go(key);
			t.when = NULL;
			if (t.seen < n)
				break;
			assert_false(sides.rep.clean);
			assert_true(sides_mark_now(key).gen > 0);
			UNTIL(!sides_leased());
			converge();
			assert_true(file_is(key, "new") && object_is("new") && !leftovers());
		}
}

static void
test_lease_lost(void **state)
{
	(void)state;
	old_file("base");
	object("new");
	owed(MARK_PUT);
	sides.fake.hold = "get";
	sides_start(key, NULL);
	UNTIL(sides.fake.gets == 1);
	redis_do(&redis, "HDEL r2shim:{test}:leases %s", key);
	redis_wait(loop, &sides.done);
	assert_int_equal(sides.rep.result, RECONCILE_FAILED);
	assert_int_equal(sides.rep.e, ERR_LEASE_LOST);
	assert_true(file_is(key, "base"));
	sides.fake.hold = NULL;
	assert_int_equal(sides_go(key), RECONCILE_RESTORED);
	assert_true(sides.rep.clean && file_is(key, "new") && !leftovers());
}

static enum err
r2_down(void *arg, const char *what)
{
	return strcmp(arg, what) == 0 && (t.at == 0 || ++t.seen == t.at) ? ERR_UNAVAIL : ERR_OK;
}

static void
test_r2_down(void **state)
{
	static const struct {
		const char *what;
		unsigned at;
	} when[] = { { "head", 1 }, { "get", 1 }, { "head", 2 } };

	(void)state;
	old_file("base");
	object("new");
	owed(MARK_PUT);
	sides.fake.before = r2_down;
	for (size_t i = 0; i < 3; i++) {
		sides.fake.arg = (void *)(uintptr_t)when[i].what;
		t.at = when[i].at;
		t.seen = 0;
		assert_int_equal(sides_go(key), RECONCILE_FAILED);
		assert_int_equal(sides.rep.e, ERR_UNAVAIL);
		assert_true(sides.rep.r2);
		assert_true(file_is(key, i < 2 ? "base" : "new"));
		UNTIL(!sides_leased());
	}
	/* Ours is in place, and the mark knows it; what it replaced was still there. */
	sides.fake.before = NULL;
	assert_true(leftovers());
	{
		struct local_stat st = look();
		struct mark_base now = reconcile_base(&st);
		struct mark m = sides_mark_now(key);

		assert_true(marks_base_same(&m.base, &now));
	}
	assert_int_equal(sides_go(key), RECONCILE_EQUAL);
	assert_true(sides.rep.clean && file_is(key, "new") && !leftovers());
	assert_int_equal(sides.fake.gets, 2);
}

/* A HEAD's 404 has no body: it may be the bucket that is missing. The file stays, and the mark too. */
static enum err
no_bucket(void *arg, const char *what)
{
	(void)arg;
	return strcmp(what, "head") == 0 ? ERR_NOTFOUND : ERR_NOBUCKET;
}

static void
test_no_bucket(void **state)
{
	(void)state;
	sides.fake.before = no_bucket;
	for (unsigned absent = 0; absent < 2; absent++)
		for (unsigned op = 0; op < 2; op++) {
			unlink(key);
			if (!absent)
				old_file("base");
			object("there");
			owed(op ? MARK_DELETE : MARK_PUT);
			assert_int_equal(sides_go(key), RECONCILE_FAILED);
			assert_int_equal(sides.rep.e, ERR_NOBUCKET);
			assert_true(sides.rep.r2 && sides_mark_now(key).gen > 0 && file_is(key, absent ? "" : "base"));
			UNTIL(!sides_leased());
		}
	sides.fake.before = NULL;
	assert_int_equal(sides_go(key), RECONCILE_RESTORED);
}

/* The key's lease is given back, or its quarantine is over. */
static bool
lease_is_free(void)
{
	const char *text = redis_do(&redis, "HGET r2shim:{test}:leases %s", key)->str;
	unsigned long long free_ms;

	if (text == NULL)
		return true;
	assert_int_equal(sscanf(text, "%*s %*s %llu", &free_ms), 1);
	return free_ms < clock_real_ms();
}

/* What a thread has begun is done, as it is when the quarantine is over. */
static void
threads_end(void)
{
	pool_free(&sides.pool);
	sides.pool = sides.env.pool = pool_new(loop, 2);
}

/* Broken off at each request, and at moments between them; then somebody else, perhaps after the site has written. */
static bool
broken_off(unsigned at, void (*act)(void))
{
	static const struct {
		const char *hold;
		unsigned heads, gets;
	} when[] = { { "head", 1, 0 }, { "get", 1, 1 }, { "head", 2, 1 } };

	sides.fake.heads = sides.fake.gets = 0;
	sides_start(key, NULL);
	if (at < 3) {
		if (at == 2)
			t.after_get = when[at].hold;
		else
			sides.fake.hold = when[at].hold;
		UNTIL(sides.done || (sides.fake.heads == when[at].heads && sides.fake.gets == when[at].gets));
		if (sides.done)
			fail_msg("ended before %u: %s, %s %s", at, reconcile_result_name(sides.rep.result), err_text(sides.rep.e), sides.rep.why);
	} else {
		for (unsigned i = 3; i < at && !sides.done; i++)
			loop_run_until(loop, &sides.done, 0);
	}
	sides.fake.hold = t.after_get = NULL;
	if (sides.done)
		return false;
	reconcile_cancel(&sides.r);
	assert_null(sides.r);
	run_for(2);
	assert_false(sides.done);
	if (act != NULL)
		act();
	run_for(15);
	threads_end();
	UNTIL(lease_is_free());
	converge();
	if (!file_is(key, t.want) || !object_is(t.want) || leftovers())
		fail_msg("broken off at %u: \"%s\"", at, t.want);
	return true;
}

static void
test_cancel(void **state)
{
	static void (*const acts[])(void) = { NULL, site_renames, site_rewrites, site_unlinks };
	unsigned ran = 0;

	(void)state;
	sides.fake.chunk = 1;
	for (unsigned absent = 0; absent < 2; absent++)
		for (size_t a = 0; a < 4; a++)
			for (unsigned at = 0, more = 1; more; at += at < 16 ? 1 : at / 2) {
				unlink(key);
				if (!absent)
					old_file("base");
				object("new");
				owed(MARK_PUT);
				snprintf(t.want, sizeof t.want, "new");
				more = broken_off(at, acts[a]);
				ran++;
			}
	print_message("    broken off %u times\n", ran);
	assert_true(ran >= 100);
}

/* While a thread renames nobody else gets the key, though all that is left of the reconcile is that thread. */
static void
test_cancel_in_a_rename(void **state)
{
	struct lease l;

	(void)state;
	old_file("base");
	object("new");
	owed(MARK_PUT);
	gate_set(true);
	sides_start(key, NULL);
	UNTIL(gate_waits());
	reconcile_cancel(&sides.r);
	sides_mark_now(key);		/* behind whatever was asked of Redis */
	assert_true(sides_leased());
	site_rewrites();
	run_for(15);
	gate_set(false);
	UNTIL(lease_is_free());
	assert_int_equal(sides_lease(key, &l), ERR_OK);
	assert_true(l.takeover);
	marks_drop(sides.cluster, KEY(key), &l, NULL, NULL);
	threads_end();
	converge();
	assert_true(file_is(key, t.want) && object_is(t.want) && !leftovers());
}

/* A process that died in a swap: its leavings are judged before anything else, whatever the mark says by now. */

static void (*at_step_act)(void);
static const char *die_at;

static void
on_step(void *arg, const char *step)
{
	(void)arg;
	if (strcmp(step, "rename") == 0 && at_step_act != NULL)
		at_step_act();
	if (strcmp(step, die_at) == 0)
		raise(SIGKILL);
}

static void
dies(const char *step, void (*act)(void))
{
	struct local_stat base = look();
	struct local_stat st;
	enum local_swap_result r;
	pid_t pid = fork();
	int status, fd;

	if (pid == 0) {
		struct local_swap *s = local_swap_new(sides.local, KEY(key), &base);

		die_at = step;
		at_step_act = act;
		local_swap_watch(s, on_step, NULL);
		if (local_swap_create(s, &fd) != ERR_OK || write(fd, "new", 3) != 3)
			_exit(1);
		if (local_swap_in(s, &(struct local_swap_meta){ .mtime_ns = MTIME }, &r, &st) != ERR_OK)
			_exit(1);
		if (strcmp(step, "end") == 0)
			raise(SIGKILL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void
test_leavings(void **state)
{
	struct local_stat none = { .exists = false };

	(void)state;
	/* After the exchange, and the site had written just before it: its file has its name again, and goes to R2. */
	old_file("base");
	object("new");
	owed(MARK_PUT);
	dies("judge", site_renames);
	assert_true(file_is(key, "new") && leftovers());
	assert_int_equal(sides_go(key), RECONCILE_COPIED);
	assert_true(sides.rep.clean && file_is(key, "site's") && object_is("site's") && !leftovers());
	/* A file where there was none, and the site removes it: a later delete, although the mark says that there was none. */
	assert_int_equal(unlink(key), 0);
	object("new");
	owed(MARK_PUT);
	dies("judge", NULL);
	assert_true(file_is(key, "new"));
	assert_int_equal(unlink(key), 0);
	assert_int_equal(sides_go(key), RECONCILE_DELETED);
	assert_true(sides.rep.clean && file_is(key, "") && object_is("") && !leftovers());
	/* ... and if nobody does anything it is equal, and the mark knew it */
	object("new");
	owed_since(&none, MARK_PUT);
	dies("end", NULL);
	assert_int_equal(sides_go(key), RECONCILE_EQUAL);
	assert_true(sides.rep.clean && file_is(key, "new") && !leftovers());
	/* Before the rename: as if nothing had been. */
	run_for(15);
	object("new");
	fakestore_get(&sides.fake, key)->meta.mtime_ns++;
	owed(MARK_PUT);
	dies("rename", NULL);
	assert_true(leftovers());
	assert_int_equal(sides_go(key), RECONCILE_RESTORED);
	assert_true(sides.rep.clean && file_is(key, "new") && !leftovers());
	/* The mark was lost with Redis, and its key is clean: the taken-out file is not. */
	for (unsigned marked = 0; marked < 2; marked++) {
		run_for(15);
		object("new");
		dies("judge", site_renames);
		assert_true(file_is(key, "new"));
		if (marked)
			sides_mark(key, MARK_DISK(MARK_PUT));
		assert_int_equal(sides_go(key), RECONCILE_COPIED);
		assert_true(sides.rep.clean && file_is(key, "site's") && object_is("site's") && !leftovers());
	}
	dies("judge", site_renames);
	sides_mark(key, MARK_DISK(MARK_DELETE));
	assert_int_equal(sides_go(key), RECONCILE_COPIED);	/* its mtime is another */
	assert_true(sides.rep.clean && file_is(key, "site's") && object_is("site's") && !leftovers());
}

/* A write of unknown outcome: its base is in doubt, and stays so. */
static void
test_unconfirmed(void **state)
{
	struct local_stat st;
	struct mark_write w = { .op = MARK_PUT, .side = MARK_R2 };
	struct mark m;

	(void)state;
	old_file("base");
	object("new");
	st = look();
	w.base = reconcile_base(&st);
	w.base.unconfirmed = true;
	sides_mark(key, w);
	/* so that it is not cleared */
	sides.fake.before = r2_down;
	sides.fake.arg = (char[]){ "head" };
	t.at = 2;
	assert_int_equal(sides_go(key), RECONCILE_FAILED);
	assert_true(file_is(key, "new"));
	m = sides_mark_now(key);
	st = look();
	w.base = reconcile_base(&st);
	assert_true(marks_base_same(&m.base, &w.base) && m.base.unconfirmed);
	UNTIL(!sides_leased());
	sides.fake.before = NULL;
	assert_int_equal(sides_go(key), RECONCILE_EQUAL);
	assert_true(sides.rep.clean);
}

/* When all are in r2-only the disk gets nothing any more, but what it had later still goes to R2. */
static void
test_committed(void **state)
{
	(void)state;
	redis_do(&redis, "HSET r2shim:{test}:site committed 1");
	UNTIL(cluster_committed(sides.cluster) != 0);
	old_file("old");
	owed(MARK_PUT);
	object("new");
	assert_int_equal(sides_go(key), RECONCILE_EQUAL);
	assert_true(sides.rep.clean);
	assert_true(file_is(key, "old"));
	assert_int_equal(redis_int(&redis, "ZCARD r2shim:{test}:debt"), 0);
	owed(MARK_PUT);
	old_file("later");
	sides_go(key);
	while (!sides.rep.clean)
		sides_go(key);
	assert_true(object_is("later"));
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_restore), TEST(test_new_folder), TEST(test_remove), TEST(test_later), TEST(test_written_meanwhile), TEST(test_bad_bytes),
		TEST(test_large), TEST(test_slow_disk), TEST(test_no_space), TEST(test_in_use), TEST(test_in_the_way), TEST(test_mark_moves),
		TEST(test_lease_lost), TEST(test_r2_down), TEST(test_no_bucket),
		cmocka_unit_test_setup_teardown(test_cancel, setup_short, teardown), TEST(test_cancel_in_a_rename), TEST(test_leavings),
		TEST(test_unconfirmed), TEST(test_committed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
