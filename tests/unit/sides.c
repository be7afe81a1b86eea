#include "files.h"
#include "sides.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/digest.h"
#include "store/mime.h"

struct sides sides;

static char media_url[] = "/media/";

void
sides_setup(const char *name)
{
	struct errbuf eb;

	memset(&sides, 0, sizeof sides);
	mime_init(&(const struct conf_list){NULL, 0});
	ground_setup(NULL);
	sides.pool = pool_new(loop, 2);
	snprintf(sides.root, sizeof sides.root, "/tmp/r2shim-%s-XXXXXX", name);
	assert_non_null(mkdtemp(sides.root));
	assert_int_equal(local_sentinel_write(sides.root, "test", &eb), ERR_OK);
	assert_int_equal(local_open(&sides.local, sides.root, "test", &eb), ERR_OK);
	fakestore_init(&sides.fake, loop);
	sides.prefix = (struct conf_prefix){ .url = media_url, .url_len = sizeof media_url - 1 };
	sides.conf = ground_conf(5000, LIMIT);
	sides.conf.media_url = media_url;
	sides.conf.prefixes = &sides.prefix;
	sides.conf.nprefixes = 1;
}

void
sides_teardown(void)
{
	char cmd[128];

	reconcile_cancel(&sides.r);
	run_for(20);
	cluster_free(&sides.cluster);
	pool_free(&sides.pool);
	fakestore_fini(&sides.fake);
	local_free(&sides.local);
	ground_teardown(NULL);
	assert_int_equal(sides.conf.refs, 1);
	snprintf(cmd, sizeof cmd, "rm -rf %s", sides.root);
	assert_int_equal(system(cmd), 0);
	mime_fini();
}

static void
on_up(void *arg, bool fresh)
{
	(void)arg;
	(void)fresh;
}

static void
on_down(void *arg)
{
	(void)arg;
}

void
sides_join(const char *role, const char *id, const struct cluster_cb *cb)
{
	static const struct cluster_cb none = { .up = on_up, .down = on_down };

	sides.cluster = cluster_new(loop, &sides.conf, role, id, cb != NULL ? cb : &none, NULL);
	sides.env = (struct reconcile_env){ loop, sides.pool, sides.cluster, &sides.fake.s, sides.local, &sides.conf };
}

void
sides_write(const char *key, const char *text)
{
	char path[256];

	snprintf(path, sizeof path, "%s/%s", sides.root, key);
	file_write(path, text, 0644);
}

bool
sides_object_is(const char *key, const char *text)
{
	struct fakeobj *o = fakestore_get(&sides.fake, key);
	uint8_t md5[16];

	if (o == NULL || text == NULL)
		return o == NULL && text == NULL;
	digest_md5(text, strlen(text), md5);
	return o->size == strlen(text) && memcmp(o->md5, md5, sizeof md5) == 0;
}

struct answer {
	bool done;
	struct mark m;
};

static void
on_mark(void *arg, enum err e, const struct mark *m)
{
	struct answer *a = arg;

	assert_int_equal(e, ERR_OK);
	if (a != NULL)
		*a = (struct answer){ true, *m };
}

uint64_t
sides_mark(const char *key, struct mark_write w)
{
	struct answer a = { .done = false };

	marks_set(sides.cluster, 0, KEY(key), w, 60000, NULL, on_mark, &a);
	redis_wait(loop, &a.done);
	return a.m.gen;
}

void
sides_mark_soon(const char *key, struct mark_write w)
{
	marks_set(sides.cluster, 0, KEY(key), w, 60000, NULL, on_mark, NULL);
}

struct mark
sides_mark_now(const char *key)
{
	struct answer a = { .done = false };

	marks_get(sides.cluster, KEY(key), on_mark, &a);
	redis_wait(loop, &a.done);
	return a.m;
}

struct given {
	bool done;
	enum err e;
	struct lease *l;
};

static void
on_lease(void *arg, enum err e, const struct lease *l)
{
	struct given *g = arg;

	g->done = true;
	g->e = e;
	*g->l = *l;
}

enum err
sides_lease(const char *key, struct lease *l)
{
	struct given g = { .l = l };

	marks_lease(sides.cluster, KEY(key), on_lease, &g);
	redis_wait(loop, &g.done);
	return g.e;
}

bool
sides_leased(void)
{
	return redis_int(&redis, "HLEN r2shim:{test}:leases") > 0;
}

static void
on_report(void *arg, const struct reconcile_report *r)
{
	(void)arg;
	sides.rep = *r;
	sides.done = true;
	sides.r = NULL;
}

void
sides_start(const char *key, const struct reconcile_hint *hint)
{
	sides.done = false;
	sides.r = reconcile_start(&sides.env, KEY(key), hint, on_report, NULL);
	assert_false(sides.done);
}

enum reconcile_result
sides_go(const char *key)
{
	sides_start(key, NULL);
	redis_wait(loop, &sides.done);
	return sides.rep.result;
}
