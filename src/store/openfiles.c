#include "store/openfiles.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "io/loop.h"

struct openfile {
	struct list node; /* the oldest first */
	uint64_t until;   /* monotonic ms */
	struct local_stat st;
	size_t klen;
	int fd;
	char key[];
};

struct openfiles {
	struct local *root;
	struct map *by_key;
	struct list all;
	size_t max;
	struct loop_timer timer; /* set while there are any */
};

static void
drop(struct openfiles *o, struct openfile *f)
{
	(void)map_del(o->by_key, f->key, f->klen);
	list_del(&f->node);
	(void)close(f->fd);
	mem_free(f);
}

static void
drop_all(struct openfiles *o)
{
	while (!list_empty(&o->all))
		drop(o, LIST_FIRST(&o->all, struct openfile, node));
}

static void
on_timer(void *arg)
{
	struct openfiles *o = arg;
	uint64_t now = clock_mono_ms();
	struct openfile *f;

	while ((f = LIST_FIRST(&o->all, struct openfile, node)) != NULL && f->until <= now)
		drop(o, f);
	if (f != NULL)
		loop_timer_set(&o->timer, f->until - now);
}

struct openfiles *
openfiles_new(struct loop *l, struct local *root, size_t max)
{
	struct openfiles *o = mem_zalloc(sizeof(*o));

	ASSERT(max > 0);
	o->root = root;
	o->by_key = map_new();
	o->max = max;
	list_init(&o->all);
	loop_timer_init(&o->timer, l, on_timer, o);
	return o;
}

void
openfiles_free(struct openfiles **op)
{
	struct openfiles *o = *op;

	*op = NULL;
	if (o == NULL)
		return;
	drop_all(o);
	map_free(&o->by_key);
	loop_timer_fini(&o->timer);
	mem_free(o);
}

size_t
openfiles_count(const struct openfiles *o)
{
	return map_count(o->by_key);
}

static void
keep(struct openfiles *o, const char *key, size_t klen, int fd, const struct local_stat *st)
{
	struct openfile *f;

	if (map_count(o->by_key) >= o->max)
		drop(o, LIST_FIRST(&o->all, struct openfile, node));
	f = mem_alloc(sizeof(*f) + klen);
	list_init(&f->node);
	f->until = clock_mono_ms() + OPENFILES_MS;
	f->st = *st;
	f->fd = fd;
	f->klen = klen;
	memcpy(f->key, key, klen);
	(void)map_set(o->by_key, key, klen, f);
	list_add_tail(&o->all, &f->node);
	if (!loop_timer_pending(&o->timer))
		loop_timer_set(&o->timer, OPENFILES_MS);
}

enum err
openfiles_get(struct openfiles *o, const char *key, size_t klen, int *fd, struct local_stat *st)
{
	struct openfile *f = map_get(o->by_key, key, klen);
	enum err e;

	if (f != NULL && f->until > clock_mono_ms() && local_still(o->root, key, klen, &f->st)) {
		*fd = f->fd;
		*st = f->st;
		return ERR_OK;
	}
	if (f != NULL)
		drop(o, f);
	e = local_open_key(o->root, key, klen, fd, st);
	if (e == ERR_UNAVAIL && !list_empty(&o->all)) {
		/* No descriptor is free: here are some. */
		drop_all(o);
		e = local_open_key(o->root, key, klen, fd, st);
	}
	if (e == ERR_OK)
		keep(o, key, klen, *fd, st);
	return e;
}
