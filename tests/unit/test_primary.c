/* primary: a real Redis, a real folder and journal, a store in memory that can be told to misbehave. */
#include "sides.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "base/clock.h"
#include "base/digest.h"
#include "proxy/looks.h"
#include "proxy/primary.h"

enum { WAIT = 700, PACE = 1100 };

static struct {
	struct dirty *dirty;
	struct looks *looks;
	struct mirror *mirror;
	struct primary *primary;
	char state[64];
	unsigned drains;
	bool write_at_drain;	/* the site writes a.txt just before the first look */
	struct stat at_put;	/* a.txt when R2 was asked, and when that was */
	uint64_t at_put_us;
} t;

struct answer {
	bool done, created;
	enum err e;
	enum primary_fate fate;
};

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
static int sync_error;		/* errno of the journal's syncs */

int
__wrap_fdatasync(int fd)
{
	errno = __atomic_load_n(&sync_error, __ATOMIC_SEQ_CST);
	return errno != 0 ? -1 : __real_fdatasync(fd);
}

static void
sync_fails(int errnum)
{
	__atomic_store_n(&sync_error, errnum, __ATOMIC_SEQ_CST);
}

static void
on_up(void *arg, bool fresh)
{
	(void)arg;
	if (t.dirty != NULL)
		dirty_up(t.dirty, fresh);
}

static void
on_down(void *arg)
{
	(void)arg;
	if (t.dirty != NULL)
		dirty_down(t.dirty);
}

static void
on_cleared(void *arg, const char *key, size_t klen, uint64_t gen)
{
	(void)arg;
	(void)gen;
	if (t.mirror != NULL)
		mirror_cleared(t.mirror, key, klen);
}

static void
on_owed(void *arg, const char *key, size_t klen)
{
	(void)arg;
	mirror_owed(t.mirror, key, klen);
}

static uint64_t
on_drain(void *arg)
{
	(void)arg;
	if (t.write_at_drain && t.drains == 0)
		sides_write("a.txt", "this moment");
	return ++t.drains;
}

static void
begin_life(void)
{
	static const struct cluster_cb ccb = { .up = on_up, .down = on_down };
	static const struct dirty_cb dcb = { on_cleared, on_owed };
	struct errbuf eb;

	assert_int_equal(dirty_open(&t.dirty, loop, &sides.conf, &dcb, NULL, &eb), ERR_OK);
	sides_join("proxy", "a", &ccb);
	t.looks = looks_new(loop, sides.env.local, sides.env.pool);
	t.mirror = mirror_new(&sides.env, t.dirty, t.looks);
	dirty_bind(t.dirty, sides.cluster);
	t.primary = primary_new(&(struct primary_deps){ &sides.env, t.dirty, t.mirror, on_drain, NULL });
	UNTIL(cluster_up(sides.cluster));
	UNTIL(!dirty_uncertain(t.dirty));
}

static void
end_life(void)
{
	primary_free(&t.primary);
	dirty_close(&t.dirty);
	mirror_free(&t.mirror);
	looks_free(&t.looks);
	cluster_free(&sides.cluster);
}

static int
setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof t);
	sides_setup("primary");
	snprintf(t.state, sizeof t.state, "/tmp/r2shim-primary-XXXXXX");
	assert_non_null(mkdtemp(t.state));
	sides.conf.state_dir = t.state;
	sides.conf.redis_timeout = 300;
	sides.conf.write_wait = WAIT;
	sides.conf.r2_write_interval = PACE;
	sides.conf.intent_deadline = 60000;
	begin_life();
	return 0;
}

static int
teardown(void **state)
{
	char cmd[200];

	(void)state;
	end_life();
	sides_teardown();
	snprintf(cmd, sizeof cmd, "rm -r %s", t.state);
	return system(cmd);
}

static void
on_done(void *arg, enum err e, enum primary_fate fate, bool created)
{
	struct answer *a = arg;

	assert_false(a->done);
	*a = (struct answer){ true, created, e, fate };
}

static struct primary_op *
put(const char *key, const char *text, bool create, struct answer *a)
{
	struct spool s = { .fd = open(t.state, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), .size = strlen(text) };
	struct primary_op *op;

	assert_true(s.fd >= 0);
	assert_int_equal(write(s.fd, text, s.size), s.size);
	digest_md5(text, s.size, s.md5);
	digest_sha256(text, s.size, s.sha256);
	a->done = false;
	op = primary_put(t.primary, KEY(key), &s, create, on_done, a);
	assert_int_equal(s.fd, -1);
	assert_false(a->done);
	return op;
}

static enum err
put_now(const char *key, const char *text, bool create)
{
	struct answer a;

	put(key, text, create, &a);
	UNTIL(a.done);
	return a.e;
}

static enum err
delete_now(const char *key)
{
	struct answer a = { .done = false };

	primary_delete(t.primary, KEY(key), on_done, &a);
	UNTIL(a.done);
	return a.e;
}

/* The base of what is on the disk now. */
static const char *
base_of(const char *key, char buf[MARK_BASE_MAX])
{
	struct local_stat st;
	struct mark_base b;

	assert_int_equal(local_look(sides.local, KEY(key), &st), ERR_OK);
	b = reconcile_base(&st);
	return marks_base_text(&b, buf);
}

static void
assert_mark(const char *key, const char *want)
{
	char text[200];
	struct mark m = { .gen = 0 };

	dirty_get(t.dirty, KEY(key), &m);
	assert_mark_is(&m, want);
	/* Redis and the journal say the same. */
	snprintf(text, sizeof text, "%s", ((redisReply *)redis_do(&redis, "HGET r2shim:{test}:marks %s", key))->str);
	assert_true(marks_parse(text, strlen(text), &m));
	assert_int_equal(m.side, want[0] == 'r' ? MARK_R2 : MARK_LOCAL);
}

static void
assert_all_ended(void)
{
	assert_int_equal(primary_count(t.primary), 0);
	UNTIL(redis_int(&redis, "HLEN r2shim:{test}:leases") == 0);
	UNTIL(redis_int(&redis, "HLEN r2shim:{test}:open") == 0);
	assert_int_equal(dirty_open_intents(t.dirty), 0);
}

static void
test_new_key(void **state)
{
	struct answer a;

	(void)state;
	put("new.txt", "one", false, &a);
	UNTIL(a.done);
	assert_int_equal(a.e, ERR_OK);
	assert_true(a.created);
	assert_true(sides_object_is("new.txt", "one"));
	assert_string_equal(fakestore_get(&sides.fake, "new.txt")->meta.base, "-");
	assert_string_equal(fakestore_get(&sides.fake, "new.txt")->meta.content_type, "text/plain");
	assert_true(fakestore_get(&sides.fake, "new.txt")->meta.has_mtime);
	assert_mark("new.txt", "r p -");
	assert_true(t.drains > 0);
	assert_all_ended();
}

static void
test_over_a_file(void **state)
{
	char base[MARK_BASE_MAX], want[120];
	long long began = (long long)clock_real_ms();
	struct answer a;

	(void)state;
	sides_write("a.txt", "disk");
	put("a.txt", "r2", false, &a);
	UNTIL(a.done);
	/* It is ours to carry to the disk: no migrator comes between. */
	assert_true(redis_int(&redis, "ZSCORE r2shim:{test}:due a.txt") >= began + MARKS_DUE_MS);
	assert_int_equal(a.e, ERR_OK);
	assert_false(a.created);
	snprintf(want, sizeof want, "r p %s", base_of("a.txt", base));
	assert_mark("a.txt", want);
	/* The app writes it, and nobody has noticed: that write goes first, and is what the next one finds. */
	sides_write("a.txt", "written past us");
	run_for(PACE);
	assert_int_equal(put_now("a.txt", "r2 again", false), ERR_OK);
	snprintf(want, sizeof want, "r p %s", base_of("a.txt", base));
	assert_mark("a.txt", want);
	assert_all_ended();
}

/* A file that was written this moment is no base yet: a second write in the same tick would look alike. */
static enum err
note_age(void *arg, const char *what)
{
	char path[128];

	(void)arg;
	if (strcmp(what, "put") == 0) {
		snprintf(path, sizeof path, "%s/a.txt", sides.root);
		assert_int_equal(stat(path, &t.at_put), 0);
		t.at_put_us = clock_real_us();
	}
	return ERR_OK;
}

static void
test_over_a_young_file(void **state)
{
	(void)state;
	t.write_at_drain = true;
	sides.fake.before = note_age;
	assert_int_equal(put_now("a.txt", "r2", false), ERR_OK);
	assert_true((int64_t)t.at_put_us * 1000 - clock_timespec_ns(&t.at_put.st_ctim) >= 10 * 1000 * 1000);
	sides.fake.before = NULL;
	assert_all_ended();
}

/* What R2 certainly did not take leaves the disk's side as it was noticed; what it may have taken is unknown. */
static enum err fail_with;

static enum err
before_hook(void *arg, const char *what)
{
	(void)arg;
	return strcmp(what, "put") == 0 ? fail_with : ERR_OK;
}

static enum err
after_hook(void *arg, const char *what)
{
	(void)arg;
	return strcmp(what, "put") == 0 ? ERR_TIMEOUT : ERR_OK;
}

static void
test_r2_fails(void **state)
{
	struct answer a;

	(void)state;
	sides_write("a.txt", "disk");
	sides.fake.before = before_hook;
	fail_with = ERR_DENIED;
	put("a.txt", "x", false, &a);
	UNTIL(a.done);
	assert_int_equal(a.e, ERR_DENIED);
	assert_int_equal(a.fate, PRIMARY_REFUSED);
	assert_true(sides_object_is("a.txt", NULL));
	UNTIL(dirty_count(t.dirty) == 1);
	assert_mark("a.txt", "l p ");
	assert_all_ended();
	/* It did take it, but nobody heard. */
	sides.fake.before = NULL;
	sides.fake.after = after_hook;
	put("b.txt", "x", false, &a);
	UNTIL(a.done);
	assert_int_equal(a.e, ERR_TIMEOUT);
	assert_int_equal(a.fate, PRIMARY_UNKNOWN);
	sides.fake.after = NULL;
	assert_true(sides_object_is("b.txt", "x"));
	/* A tombstone of the look stood: an unknown put keeps the side. */
	assert_mark("b.txt", "l d ");
	/* Its lease is left to its quarantine. */
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:leases"), 1);
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:open"), 0);
}

static enum err
sync_fails_hook(void *arg, const char *what)
{
	(void)arg;
	if (strcmp(what, "put") == 0)
		sync_fails(EIO);
	return ERR_OK;
}

/* The disk fails before R2 is asked, and behind its answer: the code may be the same, what became of the write is not. */
static void
test_disk_fails(void **state)
{
	struct answer a;

	(void)state;
	assert_int_equal(chdir(sides.root), 0);
	/* At the look. */
	assert_int_equal(rename(".r2shim-root", "elsewhere"), 0);
	put("a.txt", "x", false, &a);
	UNTIL(a.done);
	assert_int_equal(a.e, ERR_SENTINEL);
	assert_int_equal(a.fate, PRIMARY_NOT_SENT);
	assert_int_equal(rename("elsewhere", ".r2shim-root"), 0);
	assert_int_equal(chdir("/"), 0);
	/* At the intent. */
	sync_fails(EIO);
	put("b.txt", "x", false, &a);
	UNTIL(a.done);
	assert_int_equal(a.e, ERR_IO);
	assert_int_equal(a.fate, PRIMARY_NOT_SENT);
	assert_true(sides_object_is("a.txt", NULL) && sides_object_is("b.txt", NULL));
	sync_fails(0);
	UNTIL(dirty_journal_state(t.dirty) == ERR_OK);
	/* At the mark. */
	sides.fake.before = sync_fails_hook;
	put("c.txt", "x", false, &a);
	UNTIL(a.done);
	assert_int_equal(a.e, ERR_IO);
	assert_int_equal(a.fate, PRIMARY_TAKEN);
	assert_true(sides_object_is("c.txt", "x"));
	sides.fake.before = NULL;
	sync_fails(0);
	UNTIL(dirty_journal_state(t.dirty) == ERR_OK);
	put("c.txt", "y", false, &a);
	UNTIL(a.done);
	assert_int_equal(a.e, ERR_OK);
	assert_int_equal(a.fate, PRIMARY_TAKEN);
	assert_all_ended();
}

/* A key that is written fifty times at once: two PUTs, the last body, everybody is answered; other keys do not wait. */
static void
test_hot_key(void **state)
{
	struct answer a[50], other;
	char text[20];
	uint64_t began = clock_mono_ms();

	(void)state;
	for (int i = 0; i < 50; i++) {
		snprintf(text, sizeof text, "body %d", i);
		put("hot", text, false, &a[i]);
		if (i == 0)
			UNTIL(a[0].done);
	}
	put("cold", "x", false, &other);
	UNTIL(other.done);
	assert_true(clock_mono_ms() - began < PACE);
	for (int i = 0; i < 50; i++) {
		UNTIL(a[i].done);
		assert_int_equal(a[i].e, ERR_OK);
	}
	assert_true(clock_mono_ms() - began >= PACE);
	assert_true(sides_object_is("hot", "body 49"));
	assert_int_equal(sides.fake.puts, 3);
	assert_all_ended();
}

static void
test_create_only(void **state)
{
	struct answer a, b, c;

	(void)state;
	sides_write("there", "x");
	assert_int_equal(put_now("there", "y", true), ERR_PRECOND);
	/* Two for one name: one gets it, also when they wait together; a plain one behind them overtakes neither. */
	put("name", "1", true, &a);
	put("name", "2", true, &b);
	put("name", "3", false, &c);
	UNTIL(a.done && b.done && c.done);
	assert_int_equal(a.e, ERR_OK);
	assert_true(a.created);
	assert_int_equal(b.e, ERR_PRECOND);
	assert_int_equal(c.e, ERR_OK);
	assert_false(c.created);
	assert_true(sides_object_is("name", "3"));
	/* R2 has one that nobody here knows of. */
	fakestore_set(&sides.fake, "unknown", "x");
	assert_int_equal(put_now("unknown", "y", true), ERR_PRECOND);
	assert_true(sides_object_is("unknown", "x"));
	assert_all_ended();
}

static void
test_delete(void **state)
{
	char base[MARK_BASE_MAX], want[120];

	(void)state;
	sides_write("a.txt", "disk");
	fakestore_set(&sides.fake, "a.txt", "disk");
	assert_int_equal(delete_now("a.txt"), ERR_OK);
	assert_true(sides_object_is("a.txt", NULL));
	snprintf(want, sizeof want, "r d %s", base_of("a.txt", base));
	assert_mark("a.txt", want);
	/* Gone, though the disk has it still. */
	assert_int_equal(delete_now("a.txt"), ERR_NOTFOUND);
	assert_int_equal(delete_now("never"), ERR_NOTFOUND);
	/* A put and a delete that wait together: the newer one is carried out. */
	assert_int_equal(put_now("b", "1", false), ERR_OK);
	{
		struct answer a, b = { .done = false };

		put("b", "2", false, &a);
		primary_delete(t.primary, KEY("b"), on_done, &b);
		UNTIL(a.done && b.done);
		assert_int_equal(a.e, ERR_OK);
		assert_int_equal(b.e, ERR_OK);
	}
	assert_true(sides_object_is("b", NULL));
	assert_all_ended();
}

static void
test_busy_and_away(void **state)
{
	struct answer a;
	struct lease l;

	(void)state;
	assert_int_equal(sides_lease("k", &l), ERR_OK);
	assert_int_equal(put_now("k", "x", false), ERR_BUSY);
	assert_true(sides_object_is("k", NULL));
	/* It is given back while one waits. */
	put("k", "x", false, &a);
	run_for(20);
	marks_drop(sides.cluster, KEY("k"), &l, NULL, NULL);
	UNTIL(a.done);
	assert_int_equal(a.e, ERR_OK);
	assert_all_ended();
	/* No Redis, no lease: nothing is sent. */
	redis_kill(&redis);
	UNTIL(!cluster_up(sides.cluster));
	assert_int_equal(put_now("k2", "x", false), ERR_UNAVAIL);
	assert_true(sides_object_is("k2", NULL));
	redis_again(&redis, NULL);
}

static bool
settled(void)
{
	return mirror_unmarked_seq(t.mirror) == UINT64_MAX && redis_int(&redis, "HLEN r2shim:{test}:leases") == 0;
}

/* A write to R2 found no file. What the watcher told of before that look is older; a file that came and went since is a later delete, though
 * it is absent as it was. */
static void
test_absence_has_no_identity(void **state)
{
	(void)state;
	mirror_set_armed(t.mirror, true);
	assert_int_equal(put_now("k", "x", false), ERR_OK);
	assert_mark("k", "r p -");
	mirror_noticed(t.mirror, KEY("k"), MARK_DELETE, t.drains);
	UNTIL(settled());
	assert_mark("k", "r p -");
	mirror_noticed(t.mirror, KEY("k"), MARK_DELETE, t.drains + 1);
	UNTIL(settled());
	assert_mark("k", "l d ");
}

/* Death at every moment: what was answered is a mark of R2's side in the next life, and what was not may be either; no lease is left
 * that does not end. */
static void
test_death(void **state)
{
	unsigned answered = 0;

	(void)state;
	for (int n = 0; n < 1000000 && answered < 3; n += 1 + n / 12) {
		char key[20], text[20];
		struct answer a;
		struct mark m;

		snprintf(key, sizeof key, "k%d", n);
		snprintf(text, sizeof text, "body %d", n);
		sides_write(key, "disk");
		run_for(12);
		put(key, text, false, &a);
		for (int i = 0; i < n && !a.done; i++)
			run_for(0);
		answered += a.done;
		end_life();
		begin_life();
		if (a.done) {
			assert_int_equal(a.e, ERR_OK);
			assert_true(sides_object_is(key, text));
			assert_true(dirty_get(t.dirty, KEY(key), &m));
			assert_int_equal(m.side, MARK_R2);
		} else if (sides_object_is(key, text)) {
			/* It happened, and somebody will look. */
			assert_true(dirty_get(t.dirty, KEY(key), &m));
		}
		UNTIL(redis_int(&redis, "HLEN r2shim:{test}:open") == 0);
	}
	assert_int_equal(answered, 3);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_new_key), TEST(test_over_a_file), TEST(test_over_a_young_file), TEST(test_r2_fails), TEST(test_disk_fails),
		TEST(test_hot_key), TEST(test_create_only), TEST(test_delete), TEST(test_busy_and_away), TEST(test_absence_has_no_identity),
		TEST(test_death),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
