#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/keypath.h"
#include "base/log.h"
#include "base/mem.h"
#include "proxy/watch_int.h"

/* A slice ends after so many directory entries or so long, whichever comes first: then other events get their turn. */
#define SLICE_ENTRIES 2000
#define SLICE_MS 5
/* Kernels stamp ctimes in ticks, and a clock may be set back a little: look at slightly older files too. */
#define SINCE_MARGIN_MS 1000
/* With directories that cannot be watched, look at everything again this often; or, on a large tree, after so many times as long as that
 * takes. */
#define TROUBLE_RESCAN_MS 30000
#define RESCAN_REST 10
/* A file with other names was written: the rescan waits so long, for often there are more of them. */
#define LINKS_MS 1000

static int
dir_open(struct watch *w, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, local_root_fd(w->local), *path ? path : ".", &how, sizeof(how));
}

/* Listings. */

static void
todo_add(struct lister *l, enum listing_kind kind, char *path, char *old)
{
	struct todo *t = mem_zalloc(sizeof(*t));

	t->kind = kind;
	t->path = path;
	t->old = old;
	list_add_head(&l->todos, &t->node);
}

static void
todo_free(struct todo **t)
{
	if ((*t)->dir != NULL)
		closedir((*t)->dir);
	mem_free((*t)->path);
	mem_free((*t)->old);
	mem_free(*t);
	*t = NULL;
}

static void
lister_clear(struct lister *l)
{
	struct list *p, *n;

	LIST_FOREACH(p, n, &l->todos) {
		struct todo *t = LIST_ENTRY(p, struct todo, node);

		list_del(p);
		todo_free(&t);
	}
	if (l->now != NULL)
		todo_free(&l->now);
}

static bool
lister_idle(const struct lister *l)
{
	return l->now == NULL && list_empty(&l->todos);
}

static void
refused(struct watch *w, const char *path, int errnum)
{
	if (w->refused != 0)
		return;
	w->refused = errnum;
	if (errnum == ENOSPC)
		snprintf(w->trouble, sizeof(w->trouble), "the kernel's limit is reached after %zu directories", map_count(w->by_wd));
	else
		snprintf(w->trouble, sizeof(w->trouble), "cannot watch %s: %s", log_key(path, strlen(path)), strerror(errnum));
	log_warn("watch", "%s", w->trouble);
}

/* Watch, then list: whatever appears after the watch is an event, whatever was there before is in the listing. */
static bool
todo_open(struct watch *w, struct todo *t)
{
	int fd = dir_open(w, t->path);

	if (fd < 0) {
		if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
			refused(w, t->path, errno);
		return false;
	}
	w->seen += t->kind == LISTING_WATCH;
	if ((t->kind != LISTING_REPORT || tree_find(w, t->path) == NULL) && !tree_watch(w, fd, t->path))
		refused(w, t->path, errno);
	t->dir = fdopendir(fd);
	if (t->dir == NULL)
		close(fd);
	return t->dir != NULL;
}

static void
subdirectory(struct lister *l, const struct todo *t, const char *name)
{
	if (strncmp(name, KEYPATH_OURS_PREFIX, strlen(KEYPATH_OURS_PREFIX)) == 0)
		return;
	todo_add(l, t->kind, mem_printf("%s%s/", t->path, name), t->old != NULL ? mem_printf("%s%s/", t->old, name) : NULL);
}

static void
file(struct watch *w, const struct todo *t, const char *name, const struct stat *st)
{
	if (t->kind == LISTING_ALL || clock_timespec_ns(&st->st_ctim) >= (int64_t)w->since_ms * 1000000)
		watch_report(w, t->path, strlen(t->path), name, MARK_PUT);
	if (t->old != NULL)
		watch_report(w, t->old, strlen(t->old), name, MARK_DELETE);
}

static void
entry(struct watch *w, struct lister *l, const struct todo *t, const struct dirent *e)
{
	struct stat st;

	if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
		return;
	if (e->d_type == DT_DIR) {
		subdirectory(l, t, e->d_name);
		return;
	}
	if (e->d_type != DT_UNKNOWN && (e->d_type != DT_REG || t->kind == LISTING_WATCH))
		return;
	if (local_tmp_sweep(dirfd(t->dir), e->d_name))
		return;
	if (fstatat(dirfd(t->dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return;		/* gone again: its own event tells */
	if (S_ISDIR(st.st_mode))
		subdirectory(l, t, e->d_name);
	else if (S_ISREG(st.st_mode) && t->kind != LISTING_WATCH)
		file(w, t, e->d_name, &st);
}

/* Goes on until there is nothing left (true), or entries and time are used up. */
static bool
lister_run(struct watch *w, struct lister *l, size_t *entries, uint64_t until_ms)
{
	const struct dirent *e;

	while (!lister_idle(l)) {
		if (*entries == 0 || clock_mono_ms() >= until_ms)
			return false;
		--*entries;
		if (l->now == NULL) {
			l->now = LIST_FIRST(&l->todos, struct todo, node);
			list_del(&l->now->node);
			if (l->now->dir == NULL && !todo_open(w, l->now))
				todo_free(&l->now);
			continue;
		}
		e = readdir(l->now->dir);
		if (e != NULL)
			entry(w, l, l->now, e);
		else
			todo_free(&l->now);
	}
	return true;
}

/* The crawl. */

static void
trouble_text(struct watch *w)
{
	struct watch_limits lim;
	char limits[200];

	if (w->refused != ENOSPC)
		return;
	watch_limits(&lim);
	watch_limits_text(&lim, w->seen, false, limits, sizeof(limits));
	snprintf(w->trouble, sizeof(w->trouble), "%zu of %zu directories are watched; %s; what is written in the others is found by a rescan, "
	    "an upload's answer does not wait for it", map_count(w->by_wd), w->seen, limits);
	log_error("watch", "%s", w->trouble);
}

static void
watches_end(struct watch *w)
{
	if (w->sweep)
		tree_sweep(w);
	w->sweep = false;
	if (w->refused == 0)
		w->trouble[0] = '\0';
	trouble_text(w);
	log_info("watch", "%zu directories watched after %llu ms", map_count(w->by_wd), (unsigned long long)(clock_mono_ms() - w->part_began));
	w->standing = true;
	w->part = CRAWL_REPORT;
	todo_add(&w->crawl, LISTING_REPORT, mem_strdup(""), NULL);
	w->cb->progress(w->arg);
}

static void
report_end(struct watch *w)
{
	uint64_t rest;

	w->took_ms = clock_mono_ms() - w->part_began;
	rest = w->took_ms * RESCAN_REST;
	w->part = CRAWL_NONE;
	w->drained_ms = w->start_ms;
	log_info("watch", "crawl done after %llu ms: %zu directories watched", (unsigned long long)w->took_ms, map_count(w->by_wd));
	if (*w->trouble)
		loop_timer_set(&w->again, rest > TROUBLE_RESCAN_MS ? rest : TROUBLE_RESCAN_MS);
	if (w->links_ms != 0)
		crawl_links(w);
	w->cb->progress(w->arg);
}

static void
slice_cb(void *arg)
{
	struct watch *w = arg;
	size_t entries = SLICE_ENTRIES;
	uint64_t until = clock_mono_ms() + SLICE_MS;
	bool room = w->cb->room(w->arg);

	/* Setting watches reports nothing: it never waits. */
	if (!room && w->part != CRAWL_WATCHES)
		return;
	if (room && !lister_idle(&w->fresh)) {
		if (lister_run(w, &w->fresh, &entries, until))
			w->cb->progress(w->arg);
	} else if (w->part != CRAWL_NONE && lister_run(w, &w->crawl, &entries, until)) {
		if (w->part == CRAWL_WATCHES)
			watches_end(w);
		else
			report_end(w);
	}
	if (watch_crawling(w))
		loop_call_soon(&w->slice);
}

static void
report_since(struct watch *w, uint64_t since_ms)
{
	w->start_ms = clock_real_ms();
	w->part_began = clock_mono_ms();
	if (since_ms == 0 || since_ms > w->start_ms)
		since_ms = w->start_ms;
	w->since_ms = since_ms > SINCE_MARGIN_MS ? since_ms - SINCE_MARGIN_MS : 0;
	loop_call_soon(&w->slice);
}

void
crawl_begin(struct watch *w, uint64_t since_ms, bool lost)
{
	lister_clear(&w->crawl);
	report_since(w, since_ms);
	w->part = CRAWL_WATCHES;
	w->seen = 0;
	w->refused = 0;
	if (lost) {
		w->standing = false;
		w->sweep = true;
		w->generation++;
	}
	todo_add(&w->crawl, LISTING_WATCH, mem_strdup(""), NULL);
}

static void
again_cb(void *arg)
{
	struct watch *w = arg;

	/* The unwatched directories have told nothing since the last crawl began. */
	crawl_begin(w, w->part == CRAWL_NONE ? w->start_ms : w->since_ms, false);
	w->cb->census(w->arg, "directories that cannot be watched");
}

static void
links_cb(void *arg)
{
	struct watch *w = arg;

	if (w->part != CRAWL_NONE || w->links_ms == 0)
		return;		/* the crawl's end sets the timer again */
	report_since(w, w->links_ms);
	w->links_ms = 0;
	w->part = CRAWL_REPORT;
	todo_add(&w->crawl, LISTING_REPORT, mem_strdup(""), NULL);
}

void
crawl_links(struct watch *w)
{
	uint64_t rest = w->took_ms * RESCAN_REST;

	if (w->links_ms == 0)
		w->links_ms = clock_real_ms();
	if (!loop_timer_pending(&w->links))
		loop_timer_set(&w->links, rest > LINKS_MS ? rest : LINKS_MS);
}

void
crawl_appeared(struct watch *w, const char *path, const char *old)
{
	struct lister now = {{NULL, NULL}, NULL};

	/* Only this subtree at once; what waits already goes on waiting. */
	list_init(&now.todos);
	todo_add(&now, LISTING_ALL, mem_strdup(path), old != NULL ? mem_strdup(old) : NULL);
	if (lister_run(w, &now, &w->at_once, UINT64_MAX))
		return;
	while (!list_empty(&now.todos)) {
		struct list *p = now.todos.prev;

		list_del(p);
		list_add_head(&w->fresh.todos, p);
	}
	if (now.now != NULL) {
		/* The listing that was begun goes on first: one directory at a time is open. */
		if (w->fresh.now == NULL)
			w->fresh.now = now.now;
		else
			list_add_head(&w->fresh.todos, &now.now->node);
	}
	loop_call_soon(&w->slice);
}

void
crawl_init(struct watch *w)
{
	list_init(&w->fresh.todos);
	list_init(&w->crawl.todos);
	loop_call_init(&w->slice, w->loop, slice_cb, w);
	loop_timer_init(&w->again, w->loop, again_cb, w);
	loop_timer_init(&w->links, w->loop, links_cb, w);
}

void
crawl_fini(struct watch *w)
{
	loop_call_cancel(&w->slice);
	loop_timer_fini(&w->again);
	loop_timer_fini(&w->links);
	lister_clear(&w->fresh);
	lister_clear(&w->crawl);
}

bool
watch_standing(const struct watch *w)
{
	return w->standing;
}

bool
watch_listing(const struct watch *w)
{
	return !lister_idle(&w->fresh);
}

bool
watch_crawling(const struct watch *w)
{
	return w->part != CRAWL_NONE || !lister_idle(&w->fresh);
}

void
watch_resume(struct watch *w)
{
	if (watch_crawling(w))
		loop_call_soon(&w->slice);
}
