#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/trip.h"
#include "sync/reconcile_int.h"

enum { YOUNG_MS = 11 };		/* a ctime younger than 10 ms is waited out */

static bool
stopped(const struct reconcile *r)
{
	return __atomic_load_n(&r->stop, __ATOMIC_RELAXED);
}

/* The file cannot be opened: is it proven that there is none? */
static void
prove_absence(struct reconcile *r, struct reconcile_look *l)
{
	struct local_stat st;

	l->e = local_look(r->env.local, r->key, r->klen, &st);
	if (l->e == ERR_OK && st.exists)
		l->e = ERR_CHANGED;
	if (l->e == ERR_OK)
		l->e = local_sentinel(r->env.local, NULL);
}

static void
look_work(void *arg)
{
	struct reconcile *r = arg;
	struct reconcile_look *l = &r->look, before = r->look;

	*l = (struct reconcile_look){ .e = ERR_OK };
	l->unsettled = local_swap_pending(r->env.local, r->key, r->klen);
	l->e = local_open_key(r->env.local, r->key, r->klen, &r->fd, &l->st);
	if (l->e == ERR_NOTFOUND) {
		prove_absence(r, l);
		return;
	}
	if (l->e != ERR_OK) {
		if (TRIP_MUTANT("delete-on-error"))
			l->e = ERR_OK;
		return;
	}
	l->exists = true;
	l->locked = local_is_locked(r->fd);
	l->young = local_is_young(&l->st);
	if (l->locked || l->young || !r->want_hash)
		return;
	if (before.hashed && local_same(&before.st, &l->st)) {
		memcpy(l->md5, before.md5, sizeof l->md5);
		memcpy(l->sha256, before.sha256, sizeof l->sha256);
	} else {
		l->e = local_digest(r->fd, l->st.size, l->md5, l->sha256, &r->stop);
	}
	l->hashed = l->e == ERR_OK;
}

static void
again_work(void *arg)
{
	struct reconcile *r = arg;

	/* Through the path: another file may have been renamed over the one that we hold open. */
	r->again_e = local_look(r->env.local, r->key, r->klen, &r->again);
	if (TRIP_MUTANT("delete-on-error"))
		r->again_e = ERR_OK;
	r->gone = r->again_e == ERR_OK && !r->again.exists;
	if (r->gone)
		r->again_e = local_sentinel(r->env.local, NULL);
	if (stopped(r))
		r->again_e = ERR_CANCELLED;
}

void
reconcile_look_start(struct reconcile *r, void (*done)(void *r))
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	pool_submit(r->env.pool, &r->job, look_work, done, r);
}

bool
reconcile_look_rests(struct reconcile *r, enum step s, enum go *go)
{
	const struct reconcile_look *l = &r->look;

	if (l->e == ERR_OK && !l->locked && !l->young)
		return true;
	*go = GO_WAIT;
	if (l->e == ERR_CHANGED)
		*go = reconcile_anew(r, s, ERR_CHANGED, "the file is being written");
	else if (l->e != ERR_OK)
		*go = reconcile_fail(r, l->e, "the file");
	else if (l->locked)
		*go = reconcile_defer(r, ERR_BUSY, "the file is being written: somebody holds an exclusive flock on it");
	else
		loop_timer_set(&r->wait, YOUNG_MS);
	return false;
}

void
reconcile_look_again(struct reconcile *r, void (*done)(void *r))
{
	pool_submit(r->env.pool, &r->job, again_work, done, r);
}

void
reconcile_look_meta(struct reconcile *r)
{
	struct str path = STR_INIT;
	const struct conf_prefix *p;

	str_addz(&path, r->conf->media_url);
	str_add(&path, r->key, r->klen);
	p = conf_prefix_for(r->conf, path.p, path.len);
	str_fini(&path);
	store_meta_fini(&r->want);
	local_meta(&r->look.st, r->key, r->klen, p != NULL ? p->cache_control : NULL, &r->want);
}

struct mark_base
reconcile_base(const struct local_stat *st)
{
	if (!st->exists)
		return (struct mark_base){ .known = true };
	return (struct mark_base){ .known = true, .exists = true, .ino = st->ino, .size = st->size, .mtime_ns = st->mtime_ns, .ctime_ns = st->ctime_ns };
}

static bool
same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool
reconcile_look_equal(const struct reconcile *r)
{
	const struct store_meta *have = &r->meta, *want = &r->want;

	return r->remote && r->look.hashed && have->size == r->look.st.size && have->has_md5 && memcmp(have->md5, r->look.md5, sizeof have->md5) == 0 &&
	    have->has_mtime && have->mtime_ns == want->mtime_ns && same_text(have->content_type, want->content_type) &&
	    same_text(have->cache_control, want->cache_control);
}
