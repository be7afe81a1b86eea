/* dirty against a real Redis: lives that end, Redis that goes, comes back and forgets, other processes' marks and clearings. */
#include "ground.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "coord/dirty.h"

enum { LIMIT = 300 };

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

static int sync_error;

int
__wrap_fdatasync(int fd)
{
	if (sync_error != 0) {
		errno = sync_error;
		return -1;
	}
	return __real_fdatasync(fd);
}

struct proxy {
	struct conf conf;
	char dir[64];
	const char *id;
	struct cluster *c;
	struct dirty *d;
	unsigned cleared, owed;
	char last_cleared[64], last_owed[64];
	bool got, done;
	enum err e;
	struct lease l;
	bool was_cleared;
};

static void
on_up(void *arg, bool fresh)
{
	struct proxy *p = arg;

	if (p->d != NULL)
		dirty_up(p->d, fresh);
}

static void
on_down(void *arg)
{
	struct proxy *p = arg;

	if (p->d != NULL)
		dirty_down(p->d);
}

static void
on_cleared(void *arg, const char *key, size_t klen, uint64_t gen)
{
	struct proxy *p = arg;

	assert_true(gen > 0);
	p->cleared++;
	snprintf(p->last_cleared, sizeof p->last_cleared, "%.*s", (int)klen, key);
}

static void
on_owed(void *arg, const char *key, size_t klen)
{
	struct proxy *p = arg;

	p->owed++;
	snprintf(p->last_owed, sizeof p->last_owed, "%.*s", (int)klen, key);
}

static void
start(struct proxy *p, bool redis_too)
{
	static const struct cluster_cb ccb = { .up = on_up, .down = on_down };
	static const struct dirty_cb dcb = { on_cleared, on_owed };
	struct errbuf eb;

	p->cleared = p->owed = 0;
	assert_int_equal(dirty_open(&p->d, loop, &p->conf, &dcb, p, &eb), ERR_OK);
	if (redis_too) {
		p->c = cluster_new(loop, &p->conf, "proxy", p->id, &ccb, p);
		dirty_bind(p->d, p->c);
	}
}

static struct proxy *
proxy_new(const char *id, bool redis_too)
{
	struct proxy *p = mem_zalloc(sizeof *p);

	snprintf(p->dir, sizeof p->dir, "/tmp/r2shim-dirty-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	p->id = id;
	p->conf = ground_conf(1000, LIMIT);
	p->conf.state_dir = p->dir;
	p->conf.intent_deadline = 60000;
	start(p, redis_too);
	return p;
}

/* A kill -9, as far as Redis and the journal can see. */
static void
die(struct proxy *p)
{
	dirty_close(&p->d);
	cluster_free(&p->c);
}

static void
proxy_free(struct proxy *p)
{
	DIR *dir;
	struct dirent *de;

	die(p);
	dir = opendir(p->dir);
	while ((de = readdir(dir)) != NULL)
		unlinkat(dirfd(dir), de->d_name, 0);
	closedir(dir);
	rmdir(p->dir);
	mem_free(p);
}

static void
on_done(void *arg, enum err e)
{
	struct proxy *p = arg;

	p->e = e;
	p->done = true;
}

static enum err
await(struct proxy *p)
{
	assert_false(p->done);
	redis_wait(loop, &p->done);
	p->done = false;
	return p->e;
}

static enum err
mark(struct proxy *p, const char *key, enum mark_op op)
{
	dirty_mark(p->d, KEY(key), op, NULL, on_done, p);
	return await(p);
}

static struct mark
get(struct proxy *p, const char *key)
{
	struct mark m = { .gen = 0 };

	if (dirty_get(p->d, KEY(key), &m) && m.gen == 0)
		m.gen = 1;	/* an open intent only */
	return m;
}

static long long
in_redis(const char *key)
{
	return redis_int(&redis, "HGET r2shim:{test}:marks %s", key);
}

static void
on_lease(void *arg, enum err e, const struct lease *l)
{
	struct proxy *p = arg;

	p->e = e;
	p->l = *l;
	p->done = true;
}

static void
on_finish(void *arg, enum err e, bool cleared)
{
	struct proxy *p = arg;

	p->e = e;
	p->was_cleared = cleared;
	p->done = true;
}

static void
lease(struct proxy *p, const char *key)
{
	do {
		marks_lease(p->c, KEY(key), on_lease, p);
	} while (await(p) == ERR_QUARANTINE && (run_for(20), true));
	assert_int_equal(p->e, ERR_OK);
}

/* What a migrator does when the sides are equal. */
static bool
clear(struct proxy *p, const char *key)
{
	lease(p, key);
	marks_finish(p->c, KEY(key), &p->l, p->l.seen.gen, on_finish, p);
	assert_int_equal(await(p), ERR_OK);
	return p->was_cleared;
}

static int
setup(void **state)
{
	sync_error = 0;
	return ground_setup(state);
}

static void
test_life_without_redis(void **state)
{
	struct proxy *p = proxy_new("a", false);
	struct dirty_intent *i;
	struct mark m;
	uint64_t gen;

	(void)state;
	assert_true(dirty_uncertain(p->d));
	assert_int_equal(dirty_last_phase(p->d), -1);
	i = dirty_intent(p->d, KEY("k"), MARK_DISK(MARK_PUT), on_done, p);
	assert_true(dirty_get(p->d, KEY("k"), &m));	/* dirty at once */
	assert_int_equal(m.side, MARK_LOCAL);
	assert_int_equal(await(p), ERR_OK);
	assert_int_equal(dirty_open_intents(p->d), 1);
	dirty_confirm(p->d, &i, MARK_DISK(MARK_PUT), NULL, on_done, p);
	assert_null(i);
	gen = get(p, "k").gen;
	assert_true(gen > 1);
	assert_int_equal(await(p), ERR_OK);
	/* One that did not happen leaves nothing. */
	i = dirty_intent(p->d, KEY("no"), MARK_DISK(MARK_PUT), on_done, p);
	assert_int_equal(await(p), ERR_OK);
	dirty_abandon(p->d, &i);
	assert_false(dirty_get(p->d, KEY("no"), &m));
	/* Given up before its record is on the disk: nobody is told. */
	i = dirty_intent(p->d, KEY("no2"), MARK_DISK(MARK_PUT), on_done, p);
	dirty_abandon(p->d, &i);
	run_for(30);
	assert_false(p->done);
	/* These stay open: a put, a delete, and an upload of unknown keys. */
	dirty_intent(p->d, KEY("open-put"), MARK_DISK(MARK_PUT), NULL, NULL);
	dirty_intent(p->d, KEY("open-del"), MARK_DISK(MARK_DELETE), NULL, NULL);
	dirty_intent(p->d, NULL, 0, MARK_DISK(MARK_PUT), NULL, NULL);
	mark(p, "tomb", MARK_DELETE);
	dirty_intent(p->d, KEY("tomb"), MARK_DISK(MARK_PUT), on_done, p);
	assert_int_equal(await(p), ERR_OK);
	dirty_set_clean(p->d, 12345);
	dirty_set_phase(p->d, 3);
	assert_int_equal(dirty_count(p->d), 4);
	die(p);
	start(p, false);
	assert_int_equal(dirty_count(p->d), 4);
	assert_int_equal(dirty_open_intents(p->d), 0);
	assert_int_equal(get(p, "k").gen, gen);
	assert_int_equal(get(p, "open-put").op, MARK_PUT);
	assert_int_equal(get(p, "open-del").op, MARK_DELETE);
	assert_int_equal(get(p, "tomb").op, MARK_DELETE);
	assert_true(get(p, "open-put").gen > gen);
	assert_int_equal(dirty_clean(p->d), 12345);
	assert_int_equal(dirty_last_phase(p->d), 3);
	/* Cleared by the name of its gen or a later one, not of an older one. */
	dirty_cleared(p->d, KEY("k"), gen);
	assert_true(dirty_get(p->d, KEY("k"), &m));	/* Redis does not know of it yet: this cannot be about it */
	die(p);
	start(p, false);
	assert_int_equal(dirty_count(p->d), 4);
	proxy_free(p);
}

/* What the intent's record says already is not waited for, and is not lost with it. */
static void
test_covered(void **state)
{
	struct proxy *p = proxy_new("a", false);
	struct dirty_intent *i;

	(void)state;
	i = dirty_intent(p->d, KEY("k"), MARK_DISK(MARK_PUT), on_done, p);
	assert_int_equal(await(p), ERR_OK);
	/* From here on no sync works: only what needs none is told of. */
	sync_error = EIO;
	dirty_confirm(p->d, &i, MARK_DISK(MARK_PUT), NULL, on_done, p);
	assert_false(p->done);
	assert_int_equal(await(p), ERR_OK);
	assert_int_equal(dirty_journal_state(p->d), ERR_OK);
	i = dirty_intent(p->d, KEY("other"), MARK_DISK(MARK_PUT), on_done, p);
	assert_int_equal(await(p), ERR_IO);
	dirty_abandon(p->d, &i);
	die(p);
	sync_error = 0;
	start(p, false);
	assert_int_equal(get(p, "k").op, MARK_PUT);
	/* An outcome that is another one is waited for. */
	i = dirty_intent(p->d, KEY("k2"), MARK_DISK(MARK_PUT), on_done, p);
	assert_int_equal(await(p), ERR_OK);
	sync_error = EIO;
	dirty_confirm(p->d, &i, MARK_DISK(MARK_DELETE), NULL, on_done, p);
	assert_int_equal(await(p), ERR_IO);
	sync_error = 0;
	proxy_free(p);
}

/* A write that was noticed: its record goes to the disk beside the look, and says enough for its mark. */
static void
test_noticed(void **state)
{
	struct proxy *p = proxy_new("a", true);
	struct dirty_intent *i, *gone;
	struct mark m;

	(void)state;
	UNTIL(!dirty_uncertain(p->d));
	i = dirty_notice(p->d, KEY("k"), MARK_PUT);
	gone = dirty_notice(p->d, KEY("no"), MARK_PUT);
	dirty_notice(p->d, KEY("open-put"), MARK_PUT);
	dirty_notice(p->d, KEY("open-del"), MARK_DELETE);
	/* Not dirty before the look, no write in progress, and nobody else is told. */
	assert_false(dirty_get(p->d, KEY("k"), &m));
	assert_int_equal(dirty_open_intents(p->d), 0);
	run_for(30);
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:open"), 0);
	dirty_abandon(p->d, &gone);
	/* It is on the disk: what the look has found needs no sync of its own. */
	sync_error = EIO;
	dirty_confirm(p->d, &i, MARK_DISK(MARK_PUT), NULL, on_done, p);
	assert_false(p->done);
	assert_int_equal(await(p), ERR_OK);
	die(p);
	sync_error = 0;
	start(p, false);
	assert_int_equal(get(p, "k").op, MARK_PUT);
	assert_int_equal(get(p, "open-put").op, MARK_PUT);
	assert_int_equal(get(p, "open-del").op, MARK_DELETE);
	assert_false(dirty_get(p->d, KEY("no"), &m));
	/* The look was quicker: the record is waited for, and if it fails nothing may be acknowledged. */
	i = dirty_notice(p->d, KEY("k2"), MARK_PUT);
	dirty_confirm(p->d, &i, MARK_DISK(MARK_PUT), NULL, on_done, p);
	assert_int_equal(await(p), ERR_OK);
	sync_error = EIO;
	i = dirty_notice(p->d, KEY("k3"), MARK_PUT);
	dirty_confirm(p->d, &i, MARK_DISK(MARK_PUT), NULL, on_done, p);
	assert_int_equal(await(p), ERR_IO);
	die(p);
	sync_error = 0;
	start(p, false);
	/* An outcome that is another one is waited for. */
	i = dirty_notice(p->d, KEY("k4"), MARK_PUT);
	run_for(30);
	sync_error = EIO;
	dirty_confirm(p->d, &i, MARK_DISK(MARK_DELETE), NULL, on_done, p);
	assert_int_equal(await(p), ERR_IO);
	sync_error = 0;
	proxy_free(p);
}

static void
assert_mark(struct proxy *p, const char *key, const char *want)
{
	struct mark m = get(p, key);

	assert_mark_is(&m, want);
}

/* Writes that went to R2 first, over two lives: what was confirmed, what was open on a clean key, and what was open over marks. */
static void
test_r2_first(void **state)
{
	struct proxy *p = proxy_new("a", false);
	struct dirty_intent *i;
	char name[300];

	(void)state;
	i = dirty_intent(p->d, KEY("done"), r2_write(MARK_PUT, "1.2.3.4"), on_done, p);
	assert_int_equal(get(p, "done").side, MARK_R2);
	assert_int_equal(await(p), ERR_OK);
	dirty_confirm(p->d, &i, r2_write(MARK_PUT, "1.2.3.4"), NULL, on_done, p);
	assert_int_equal(await(p), ERR_OK);
	assert_int_equal(dirty_owed(p->d), 1);
	dirty_intent(p->d, KEY("clean"), r2_write(MARK_PUT, "-"), NULL, NULL);
	/* Over a write of the disk's that nobody has carried to R2 yet: that one stays the last that was confirmed. */
	mark(p, "over-disk", MARK_PUT);
	dirty_intent(p->d, KEY("over-disk"), r2_write(MARK_DELETE, "5.6.7.8"), NULL, NULL);
	assert_mark(p, "over-disk", "l p ");
	i = dirty_intent(p->d, KEY("over-r2"), r2_write(MARK_PUT, "9.9.9.9"), on_done, p);
	assert_int_equal(await(p), ERR_OK);
	dirty_confirm(p->d, &i, r2_write(MARK_PUT, "9.9.9.9"), NULL, on_done, p);
	assert_int_equal(await(p), ERR_OK);
	dirty_intent(p->d, KEY("over-r2"), MARK_DISK(MARK_PUT), NULL, NULL);
	i = dirty_intent(p->d, KEY("unknown"), r2_write(MARK_PUT, "-"), on_done, p);
	assert_int_equal(await(p), ERR_OK);
	dirty_unknown(p->d, &i, on_done, p);
	assert_int_equal(await(p), ERR_OK);
	assert_false(dirty_armed(p->d));
	dirty_set_armed(p->d, true, on_done, p);
	assert_int_equal(await(p), ERR_OK);
	for (int life = 0; life < 3; life++) {
		/* The second time through a compacted journal. */
		if (life == 1) {
			memset(name, 'n', sizeof name);
			for (int n = 0; n < 6000; n++) {
				snprintf(name + 250, 50, "%d", n);
				i = dirty_intent(p->d, KEY(name), MARK_DISK(MARK_PUT), NULL, NULL);
				dirty_abandon(p->d, &i);
			}
			i = dirty_intent(p->d, KEY("end"), MARK_DISK(MARK_PUT), on_done, p);
			assert_int_equal(await(p), ERR_OK);
			dirty_abandon(p->d, &i);
		}
		die(p);
		start(p, false);
		assert_true(dirty_armed(p->d));
		assert_mark(p, "done", "r p 1.2.3.4");
		assert_mark(p, "clean", "r p ?-");
		assert_mark(p, "over-disk", "l d ");
		assert_mark(p, "over-r2", "r p 9.9.9.9");
		assert_mark(p, "unknown", "r p ?-");
		assert_int_equal(dirty_owed(p->d), 4);
	}
	dirty_set_armed(p->d, false, on_done, p);
	assert_int_equal(await(p), ERR_OK);
	die(p);
	start(p, false);
	assert_false(dirty_armed(p->d));
	proxy_free(p);
}

/* A write's mark and its lease end in one script; without the lease nobody knows what came after. */
static void
test_under_lease(void **state)
{
	struct proxy *a = proxy_new("a", true);
	struct dirty_intent *i;
	struct lease stale;

	(void)state;
	UNTIL(!dirty_uncertain(a->d));
	lease(a, "k");
	i = dirty_intent(a->d, KEY("k"), r2_write(MARK_PUT, "1.2.3.4"), on_done, a);
	assert_int_equal(await(a), ERR_OK);
	dirty_confirm(a->d, &i, r2_write(MARK_PUT, "1.2.3.4"), &a->l, on_done, a);
	assert_int_equal(await(a), ERR_OK);
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:leases"), 0);
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:open"), 0);
	assert_mark(a, "k", "r p 1.2.3.4");
	stale = a->l;
	/* Lost: the mark that stands keeps its side. */
	i = dirty_intent(a->d, KEY("k"), MARK_DISK(MARK_PUT), on_done, a);
	assert_int_equal(await(a), ERR_OK);
	dirty_confirm(a->d, &i, MARK_DISK(MARK_PUT), &stale, on_done, a);
	assert_int_equal(await(a), ERR_LEASE_LOST);
	UNTIL(redis_int(&redis, "HLEN r2shim:{test}:open") == 0);
	UNTIL(get(a, "k").side == MARK_R2);
	proxy_free(a);
}

/* Under a lease Redis must know before anybody is told that the write is done: other proxies go by its marks. */
static void
test_under_lease_without_redis(void **state)
{
	struct proxy *a = proxy_new("a", true);
	struct dirty_intent *i;

	(void)state;
	dirty_set_write_wait(a->d, 60000);
	UNTIL(!dirty_uncertain(a->d));
	for (int known_down = 0; known_down < 2; known_down++) {
		lease(a, "k");
		a->l.until_mono_ms += 60000;
		i = dirty_intent(a->d, KEY("k"), r2_write(MARK_PUT, "1.2.3.4"), on_done, a);
		assert_int_equal(await(a), ERR_OK);
		redis_kill(&redis);
		if (known_down)
			UNTIL(!cluster_up(a->c));
		dirty_confirm(a->d, &i, r2_write(MARK_PUT, "1.2.3.4"), &a->l, on_done, a);
		run_for(100);
		assert_false(a->done);
		redis_again(&redis, NULL);
		assert_int_equal(await(a), ERR_OK);
		assert_mark(a, "k", "r p 1.2.3.4");
		assert_true(in_redis("k") != 0);
		UNTIL(!dirty_uncertain(a->d));
	}
	/* Nor may it be answered when Redis is told after the lease: somebody else may have had the key. */
	lease(a, "k1");
	a->l.until_mono_ms = clock_mono_ms();
	i = dirty_intent(a->d, KEY("k1"), r2_write(MARK_PUT, "1.2.3.4"), on_done, a);
	assert_int_equal(await(a), ERR_OK);
	redis_kill(&redis);
	dirty_confirm(a->d, &i, r2_write(MARK_PUT, "1.2.3.4"), &a->l, on_done, a);
	assert_int_equal(await(a), ERR_TIMEOUT);
	redis_again(&redis, NULL);
	UNTIL(!dirty_uncertain(a->d));
	dirty_set_write_wait(a->d, 50);
	lease(a, "k2");
	a->l.until_mono_ms += 60000;
	i = dirty_intent(a->d, KEY("k2"), MARK_DISK(MARK_PUT), on_done, a);
	assert_int_equal(await(a), ERR_OK);
	redis_kill(&redis);
	dirty_confirm(a->d, &i, MARK_DISK(MARK_PUT), &a->l, on_done, a);
	assert_int_equal(await(a), ERR_TIMEOUT);
	assert_mark(a, "k2", "l p ");
	redis_again(&redis, NULL);
	proxy_free(a);
}

static void
test_with_redis(void **state)
{
	struct proxy *a = proxy_new("a", true), *b = proxy_new("b", true);
	struct dirty_intent *i;
	struct mark m;

	(void)state;
	UNTIL(!dirty_uncertain(a->d) && !dirty_uncertain(b->d));
	i = dirty_intent(a->d, KEY("k"), MARK_DISK(MARK_PUT), on_done, a);
	assert_int_equal(await(a), ERR_OK);
	UNTIL(redis_int(&redis, "HLEN r2shim:{test}:open") == 1);
	assert_false(dirty_get(b->d, KEY("k"), &m));
	dirty_confirm(a->d, &i, MARK_DISK(MARK_DELETE), NULL, on_done, a);
	assert_int_equal(await(a), ERR_OK);
	/* The journal was waited for, not Redis. */
	UNTIL(redis_int(&redis, "HLEN r2shim:{test}:open") == 0);
	UNTIL((uint64_t)in_redis("k") == get(a, "k").gen);
	/* The other proxy hears of it, and of its end. */
	UNTIL(get(b, "k").gen == get(a, "k").gen);
	assert_int_equal(get(b, "k").op, MARK_DELETE);
	assert_true(clear(b, "k"));
	UNTIL(dirty_count(a->d) == 0 && dirty_count(b->d) == 0);
	UNTIL(a->cleared == 1 && b->cleared == 1);
	assert_string_equal(a->last_cleared, "k");
	/* The journal has forgotten it, too. */
	die(a);
	start(a, true);
	assert_int_equal(dirty_count(a->d), 0);
	UNTIL(!dirty_uncertain(a->d));
	/* Cleared by ourselves: our copy moves at once, the owner hears of it once. */
	mark(a, "own", MARK_PUT);
	assert_true(clear(a, "own"));
	dirty_cleared(a->d, KEY("own"), a->l.seen.gen);
	UNTIL(a->cleared == 1);
	run_for(50);
	assert_int_equal(dirty_count(a->d), 0);
	/* A write while the clearing is on its way stays dirty. */
	mark(a, "again", MARK_PUT);
	marks_lease(a->c, KEY("again"), on_lease, a);
	assert_int_equal(await(a), ERR_OK);
	dirty_mark(a->d, KEY("again"), MARK_PUT, NULL, NULL, NULL);
	marks_finish(a->c, KEY("again"), &a->l, a->l.seen.gen, on_finish, a);
	assert_int_equal(await(a), ERR_OK);
	assert_false(a->was_cleared);
	dirty_cleared(a->d, KEY("again"), a->l.seen.gen);
	UNTIL(in_redis("again") == (long long)get(a, "again").gen);
	run_for(50);
	assert_true(dirty_get(a->d, KEY("again"), &m));
	proxy_free(a);
	proxy_free(b);
}

static void
test_started_with_debts(void **state)
{
	struct proxy *a = proxy_new("a", true);
	struct mark m;

	(void)state;
	UNTIL(!dirty_uncertain(a->d));
	mark(a, "k", MARK_PUT);
	dirty_intent(a->d, KEY("open"), MARK_DISK(MARK_DELETE), on_done, a);
	assert_int_equal(await(a), ERR_OK);
	UNTIL(redis_int(&redis, "HLEN r2shim:{test}:open") == 1);
	die(a);
	start(a, true);
	assert_true(dirty_get(a->d, KEY("k"), &m));
	UNTIL(a->owed == 2);
	UNTIL(!dirty_uncertain(a->d));
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:open"), 0);
	assert_int_equal(in_redis("open"), get(a, "open").gen);
	assert_int_equal(get(a, "open").op, MARK_DELETE);
	assert_true(clear(a, "k"));
	assert_true(clear(a, "open"));
	UNTIL(dirty_count(a->d) == 0);
	die(a);
	start(a, true);
	assert_int_equal(dirty_count(a->d), 0);
	proxy_free(a);
}

/* The journal has the write's outcome, but Redis was never told that it is no longer open. */
static void
test_R9_died_before_redis_was_told(void **state)
{
	struct proxy *a = proxy_new("a", true);
	struct dirty_intent *put, *none;

	(void)state;
	UNTIL(!dirty_uncertain(a->d));
	put = dirty_intent(a->d, KEY("put"), MARK_DISK(MARK_PUT), on_done, a);
	assert_int_equal(await(a), ERR_OK);
	none = dirty_intent(a->d, KEY("none"), MARK_DISK(MARK_PUT), on_done, a);
	assert_int_equal(await(a), ERR_OK);
	UNTIL(redis_int(&redis, "HLEN r2shim:{test}:open") == 2);
	dirty_down(a->d);
	dirty_abandon(a->d, &none);
	dirty_confirm(a->d, &put, MARK_DISK(MARK_PUT), NULL, on_done, a);
	assert_int_equal(await(a), ERR_OK);
	die(a);
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:open"), 2);
	start(a, true);
	UNTIL(!dirty_uncertain(a->d));
	assert_int_equal(redis_int(&redis, "HLEN r2shim:{test}:open"), 0);
	assert_true(clear(a, "put"));
	proxy_free(a);
}

static void
test_R14_redis_away(void **state)
{
	struct proxy *a = proxy_new("a", true);
	struct dirty_intent *i;
	uint64_t gen;

	(void)state;
	UNTIL(!dirty_uncertain(a->d));
	mark(a, "before", MARK_PUT);
	i = dirty_intent(a->d, KEY("across"), MARK_DISK(MARK_PUT), on_done, a);
	assert_int_equal(await(a), ERR_OK);
	redis_kill(&redis);
	UNTIL(!cluster_up(a->c));
	assert_true(dirty_uncertain(a->d));
	assert_true(get(a, "before").gen > 0);
	/* Writes go on with the journal alone. */
	dirty_confirm(a->d, &i, MARK_DISK(MARK_PUT), NULL, on_done, a);
	assert_int_equal(await(a), ERR_OK);
	assert_int_equal(mark(a, "during", MARK_DELETE), ERR_OK);
	gen = get(a, "during").gen;
	i = dirty_intent(a->d, KEY("given-up"), MARK_DISK(MARK_PUT), on_done, a);
	assert_int_equal(await(a), ERR_OK);
	dirty_abandon(a->d, &i);
	dirty_intent(a->d, KEY("still"), MARK_DISK(MARK_PUT), on_done, a);
	assert_int_equal(await(a), ERR_OK);
	redis_again(&redis, NULL);
	UNTIL(!dirty_uncertain(a->d));
	assert_true(in_redis("before") > 0);
	assert_int_equal(in_redis("across"), get(a, "across").gen);
	assert_int_equal(in_redis("during"), get(a, "during").gen);
	assert_true(get(a, "during").gen > gen);
	assert_int_equal(get(a, "during").op, MARK_DELETE);
	UNTIL(redis_int(&redis, "HLEN r2shim:{test}:open") == 1);
	assert_int_equal(redis_int(&redis, "HGET r2shim:{test}:open-keys still"), 1);
	assert_int_equal(a->owed, 3);
	proxy_free(a);
}

static void
test_R15_flushall(void **state)
{
	struct proxy *a = proxy_new("a", true), *b = proxy_new("b", true);
	uint64_t gen, before = 0;
	struct mark m;

	(void)state;
	UNTIL(!dirty_uncertain(a->d) && !dirty_uncertain(b->d));
	mark(a, "k", MARK_DELETE);
	dirty_intent(a->d, KEY("open"), MARK_DISK(MARK_PUT), on_done, a);
	assert_int_equal(await(a), ERR_OK);
	UNTIL((uint64_t)in_redis("k") == get(a, "k").gen);
	gen = get(a, "k").gen;
	UNTIL(get(b, "k").gen == gen);
	before = cluster_epoch(a->c);
	redis_do(&redis, "FLUSHALL");
	/* Our copies are not emptied by it, not even for a moment. */
	while (cluster_epoch(a->c) == before || cluster_epoch(b->c) == before || dirty_uncertain(a->d) || dirty_uncertain(b->d)) {
		assert_true(dirty_get(a->d, KEY("k"), &m));
		assert_true(dirty_get(b->d, KEY("k"), &m));
		run_for(5);
	}
	assert_int_equal(cluster_epoch(a->c), cluster_epoch(b->c));
	assert_int_equal(in_redis("k"), gen);
	assert_int_equal(get(a, "k").op, MARK_DELETE);
	UNTIL(redis_int(&redis, "HLEN r2shim:{test}:open") == 1);
	mark(b, "new", MARK_PUT);
	assert_true(get(b, "new").gen > gen);
	UNTIL(get(a, "new").gen == get(b, "new").gen);
	assert_int_equal(a->owed, 1);
	assert_int_equal(b->owed, 0);	/* not b's */
	/* The owner is dead and its journal gone: b's copy alone is enough. */
	die(a);
	before = cluster_epoch(b->c);
	redis_do(&redis, "FLUSHALL");
	UNTIL(cluster_epoch(b->c) != before && !dirty_uncertain(b->d));
	assert_int_equal(in_redis("k"), gen);
	assert_true(clear(b, "k"));
	UNTIL(!dirty_get(b->d, KEY("k"), &m));
	proxy_free(a);
	proxy_free(b);
}

static void
test_gap(void **state)
{
	struct proxy *a = proxy_new("a", true), *b = proxy_new("b", true);
	struct mark m;

	(void)state;
	UNTIL(!dirty_uncertain(a->d) && !dirty_uncertain(b->d));
	mark(a, "old", MARK_PUT);
	UNTIL(dirty_get(b->d, KEY("old"), &m));
	assert_true(clear(a, "old"));
	/* What b has not read is trimmed away, with a mark and a clearing in it. */
	mark(a, "k", MARK_PUT);
	redis_do(&redis, "MULTI");
	redis_do(&redis, "HSET r2shim:{test}:marks gap %s", "1700000000000000 l p 1700000000000 1");
	redis_do(&redis, "INCRBY r2shim:{test}:changes-seq 5");
	redis_do(&redis, "EXEC");
	mark(a, "k2", MARK_PUT);
	UNTIL(dirty_get(b->d, KEY("gap"), &m));
	UNTIL(!dirty_uncertain(b->d));
	assert_true(dirty_get(b->d, KEY("k2"), &m));
	/* A mark that is gone without a word, seen at the next whole reading. */
	redis_do(&redis, "HDEL r2shim:{test}:marks gap");
	redis_do(&redis, "INCR r2shim:{test}:changes-seq");
	mark(a, "k3", MARK_PUT);
	UNTIL(!dirty_get(b->d, KEY("gap"), &m));
	UNTIL(dirty_get(b->d, KEY("k3"), &m));
	proxy_free(a);
	proxy_free(b);
}

static void
test_many(void **state)
{
	struct proxy *a = proxy_new("a", true), *b;

	(void)state;
	UNTIL(!dirty_uncertain(a->d));
	for (unsigned i = 0; i < 3000; i++) {
		char key[32];

		snprintf(key, sizeof key, "dir/%u", i);
		dirty_mark(a->d, KEY(key), MARK_PUT, NULL, NULL, NULL);
	}
	UNTIL(redis_int(&redis, "HLEN r2shim:{test}:marks") == 3000);
	b = proxy_new("b", true);
	UNTIL(!dirty_uncertain(b->d));
	assert_int_equal(dirty_count(b->d), 3000);
	die(a);
	start(a, true);
	assert_int_equal(dirty_count(a->d), 3000);
	UNTIL(!dirty_uncertain(a->d));
	UNTIL(a->owed == 3000);
	proxy_free(a);
	proxy_free(b);
}

static void
test_R35_disk_full(void **state)
{
	struct proxy *a = proxy_new("a", true);
	struct dirty_intent *i, *j;
	struct mark m;

	(void)state;
	UNTIL(!dirty_uncertain(a->d));
	i = dirty_intent(a->d, KEY("k"), MARK_DISK(MARK_PUT), on_done, a);
	assert_int_equal(await(a), ERR_OK);
	sync_error = ENOSPC;
	j = dirty_intent(a->d, KEY("no"), MARK_DISK(MARK_PUT), on_done, a);
	assert_int_equal(await(a), ERR_NOSPACE);
	assert_int_equal(dirty_journal_state(a->d), ERR_NOSPACE);
	dirty_abandon(a->d, &j);
	assert_false(dirty_get(a->d, KEY("no"), &m));
	/* Its intent is on the disk and says as much: the write is not lost. */
	dirty_confirm(a->d, &i, MARK_DISK(MARK_PUT), NULL, on_done, a);
	assert_int_equal(await(a), ERR_OK);
	assert_int_not_equal(mark(a, "m", MARK_PUT), ERR_OK);
	sync_error = 0;
	UNTIL(dirty_journal_state(a->d) == ERR_OK);
	die(a);
	start(a, false);
	assert_true(dirty_get(a->d, KEY("k"), &m));
	assert_true(dirty_get(a->d, KEY("m"), &m));
	assert_false(dirty_get(a->d, KEY("no"), &m));
	proxy_free(a);
}

static void
test_locked(void **state)
{
	struct proxy *a = proxy_new("a", false);
	struct dirty *d;
	struct errbuf eb;

	(void)state;
	assert_int_equal(dirty_open(&d, loop, &a->conf, &(struct dirty_cb){ on_cleared, on_owed }, a, &eb), ERR_STATE);
	assert_null(d);
	proxy_free(a);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, ground_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_life_without_redis), TEST(test_covered), TEST(test_noticed), TEST(test_r2_first), TEST(test_under_lease), TEST(test_under_lease_without_redis),
		TEST(test_with_redis), TEST(test_started_with_debts), TEST(test_R9_died_before_redis_was_told),
		TEST(test_R14_redis_away), TEST(test_R15_flushall), TEST(test_gap), TEST(test_many),
		TEST(test_R35_disk_full), TEST(test_locked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
