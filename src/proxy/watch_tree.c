#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "proxy/watch_int.h"

#define MASK (IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_ONLYDIR)

/* A child's key in by_name; its length. */
static size_t
name_key(char key[sizeof(int) + NAME_MAX + 1], const struct wdir *parent, const char *name)
{
	size_t n = strnlen(name, NAME_MAX);

	memcpy(key, &parent->wd, sizeof(int));
	memcpy(key + sizeof(int), name, n);
	return sizeof(int) + n;
}

struct wdir *
tree_child(const struct watch *w, const struct wdir *parent, const char *name)
{
	char key[sizeof(int) + NAME_MAX + 1];
	size_t n = name_key(key, parent, name);

	return map_get(w->by_name, key, n);
}

struct wdir *
tree_find(const struct watch *w, const char *path)
{
	struct wdir *d = w->root;
	char name[NAME_MAX + 1];
	const char *slash;

	while (d != NULL && (slash = strchr(path, '/')) != NULL) {
		if ((size_t)(slash - path) > NAME_MAX)
			return NULL;
		memcpy(name, path, (size_t)(slash - path));
		name[slash - path] = '\0';
		d = tree_child(w, d, name);
		path = slash + 1;
	}
	return d;
}

void
tree_path(const struct wdir *d, struct str *out)
{
	if (d->parent == NULL)
		return;
	tree_path(d->parent, out);
	str_addz(out, d->name);
	str_addc(out, '/');
}

static void
detach(struct watch *w, struct wdir *d)
{
	char key[sizeof(int) + NAME_MAX + 1];

	if (d->parent != NULL) {
		size_t n = name_key(key, d->parent, d->name);

		if (map_get(w->by_name, key, n) == d)
			map_del(w->by_name, key, n);
	}
	list_del(&d->sibling);
	d->parent = NULL;
}

static void
moving_now(struct watch *w, const struct wdir *d, struct wdir *now)
{
	struct list *p, *n;

	LIST_FOREACH(p, n, &w->moving) {
		struct moving *m = LIST_ENTRY(p, struct moving, node);

		if (m->dir == d)
			m->dir = now;
	}
}

/* The node is made anew: the name is part of it. Its children follow. */
static struct wdir *
renamed(struct watch *w, struct wdir *d, const char *name)
{
	struct wdir *e;
	struct list *p, *n;

	if (strcmp(d->name, name) == 0)
		return d;
	e = mem_zalloc(sizeof(*e) + strlen(name) + 1);
	e->wd = d->wd;
	e->seen = d->seen;
	memcpy(e->name, name, strlen(name) + 1);
	list_init(&e->children);
	list_init(&e->sibling);
	LIST_FOREACH(p, n, &d->children) {
		struct wdir *c = LIST_ENTRY(p, struct wdir, sibling);

		list_del(p);
		list_add_tail(&e->children, p);
		c->parent = e;
	}
	map_set(w->by_wd, &e->wd, sizeof(e->wd), e);
	moving_now(w, d, e);
	mem_free(d);
	return e;
}

/* Whatever bears the name there is forgotten. */
static void
attach(struct watch *w, struct wdir *d, struct wdir *parent, const char *name)
{
	char key[sizeof(int) + NAME_MAX + 1];
	size_t n = name_key(key, parent, name);
	struct wdir *old = map_get(w->by_name, key, n);

	if (old != NULL && old != d)
		tree_forget(w, &old, true);
	d = renamed(w, d, name);
	d->parent = parent;
	list_add_tail(&parent->children, &d->sibling);
	map_set(w->by_name, key, n, d);
}

static void
forget_one(struct watch *w, struct wdir *d, bool rm)
{
	moving_now(w, d, NULL);
	detach(w, d);
	if (rm)
		(void)inotify_rm_watch(w->fd, d->wd);	/* fails only if the kernel has dropped it already */
	map_del(w->by_wd, &d->wd, sizeof(d->wd));
	if (w->root == d)
		w->root = NULL;
	mem_free(d);
}

void
tree_forget(struct watch *w, struct wdir **dp, bool rm)
{
	struct wdir *top = *dp, *d = top;

	*dp = NULL;
	/* Leaves first; no recursion, for a path may be deep. */
	for (;;) {
		struct wdir *up = d->parent;

		if (!list_empty(&d->children)) {
			d = LIST_FIRST(&d->children, struct wdir, sibling);
			continue;
		}
		if (d == top) {
			forget_one(w, d, rm);
			break;
		}
		forget_one(w, d, true);		/* what is below was only ever reached through it */
		d = up;
	}
	metrics_set(METRIC_WATCH_DIRS, NULL, (int64_t)map_count(w->by_wd));
}

static bool
is_at_or_above(const struct wdir *a, const struct wdir *d)
{
	for (; d != NULL; d = d->parent)
		if (d == a)
			return true;
	return false;
}

/* "a/b/" -> the directory of "a/", and the name "b". */
static struct wdir *
split(const struct watch *w, const char *path, char name[NAME_MAX + 1])
{
	size_t len = strlen(path), from;
	char *up;
	struct wdir *d;

	if (len == 0 || path[len - 1] != '/')
		return NULL;
	for (from = len - 1; from > 0 && path[from - 1] != '/'; from--)
		;
	if (len - 1 - from > NAME_MAX)
		return NULL;
	memcpy(name, path + from, len - 1 - from);
	name[len - 1 - from] = '\0';
	up = mem_strndup(path, from);
	d = tree_find(w, up);
	mem_free(up);
	return d;
}

bool
tree_move(struct watch *w, struct wdir *d, struct wdir *parent, const char *name)
{
	if (is_at_or_above(d, parent))
		return false;
	detach(w, d);
	attach(w, d, parent, name);
	return true;
}

bool
tree_watch(struct watch *w, int dirfd, const char *path)
{
	char proc[64], name[NAME_MAX + 1] = "";
	struct wdir *d, *parent = NULL;
	int wd;

	if (*path != '\0') {
		parent = split(w, path, name);
		if (parent == NULL)
			return true;	/* its parent has gone or moved, or is not watched: it is listed again, or cannot be watched either */
	}
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", dirfd);
	wd = inotify_add_watch(w->fd, proc, MASK);
	if (wd < 0)
		return false;
	d = map_get(w->by_wd, &wd, sizeof(wd));
	if (d != NULL)
		d->seen = w->generation;
	if (d != NULL && d->parent == parent && strcmp(d->name, name) == 0)
		return true;
	if (d != NULL && (parent == NULL || is_at_or_above(d, parent))) {
		w->overflowed = true;	/* renames that we have not heard of have turned it round: all again */
		return true;
	}
	if (d != NULL) {
		detach(w, d);	/* the same directory under another name */
	} else {
		d = mem_zalloc(sizeof(*d) + strlen(name) + 1);
		d->wd = wd;
		d->seen = w->generation;
		memcpy(d->name, name, strlen(name) + 1);
		list_init(&d->children);
		list_init(&d->sibling);
		map_set(w->by_wd, &wd, sizeof(wd), d);
	}
	if (parent != NULL)
		attach(w, d, parent, name);
	else
		w->root = d;
	metrics_set(METRIC_WATCH_DIRS, NULL, (int64_t)map_count(w->by_wd));
	return true;
}

void
tree_sweep(struct watch *w)
{
	size_t pos = 0, klen;
	const void *key;
	void *val;

	while (map_next(w->by_wd, &pos, &key, &klen, &val)) {
		struct wdir *d = val;

		if (d->seen != w->generation)
			tree_forget(w, &d, true);
	}
}

void
tree_free(struct watch *w)
{
	size_t pos = 0, klen;
	const void *key;
	void *val;

	while (map_next(w->by_wd, &pos, &key, &klen, &val))
		mem_free(val);
	map_free(&w->by_wd);
	map_free(&w->by_name);
}
