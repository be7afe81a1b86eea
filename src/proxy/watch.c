#include "proxy/watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/keypath.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/str.h"
#include "base/trip.h"

/* A crawl's slice: so many directory entries, then other events get their turn. */
#define SLICE_ENTRIES 2000
/* Directories that appear are listed at once (a barrier may wait for them) up to so many entries; the rest by the crawl. */
#define AT_ONCE_ENTRIES 20000
/* Kernels stamp ctimes in ticks, and a clock may be set back a little: look at slightly older files too. */
#define SINCE_MARGIN_MS 1000
/* Lost events may be about files that were last written so long before they were closed. */
#define LOST_MARGIN_MS 60000
/* With directories that cannot be watched, look at everything again this often. */
#define TROUBLE_RESCAN_MS 30000

#define MASK (IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | \
    IN_DONT_FOLLOW)

/* A watched directory. */
struct wdir {
	int wd;
	char *path;		/* relative, "" for the root, else "a/b/" */
	size_t len;
};

/* A directory that waits to be watched and listed. */
struct todo {
	struct list node;
	char *path;
	bool all;		/* report every file: the directory is new to us */
};

struct watch {
	struct loop *loop;
	struct local *local;
	const struct watch_cb *cb;
	void *arg;
	int fd;
	struct loop_fd rd;
	struct map *by_wd;	/* int wd -> struct wdir */
	struct map *by_path;	/* path -> struct wdir */
	uint64_t seq;
	/* The crawl. */
	struct list todos;
	struct loop_call slice;
	struct loop_timer again;
	bool crawling;
	uint64_t crawl_since_ms, crawl_start_ms;
	/* Everything queued by the kernel before this real time has been reported. */
	uint64_t drained_ms;
	bool overflowed;
	char trouble[256];
};

static void crawl_begin(struct watch *w, uint64_t since_ms);

static int
dir_open(struct watch *w, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, local_root_fd(w->local), *path ? path : ".", &how, sizeof(how));
}

static void
report(struct watch *w, const char *dir, const char *name, enum mark_op op)
{
	struct str key = STR_INIT;
	enum keypath_fault f;

	str_addz(&key, dir);
	str_addz(&key, name);
	f = keypath_check(key.p, key.len);
	if (keypath_servable(f)) {
		metrics_add(METRIC_WATCH_EVENTS, op == MARK_PUT ? "put" : "delete", 1);
		w->cb->changed(w->arg, key.p, key.len, op, ++w->seq);
	}
	str_fini(&key);
}

static void
wdir_forget(struct watch *w, struct wdir **dp, bool rm)
{
	struct wdir *d = *dp;

	*dp = NULL;
	if (rm)
		(void)inotify_rm_watch(w->fd, d->wd);	/* fails only if the kernel has dropped it already */
	map_del(w->by_wd, &d->wd, sizeof(d->wd));
	if (map_get(w->by_path, d->path, d->len + 1) == d)
		map_del(w->by_path, d->path, d->len + 1);
	mem_free(d->path);
	mem_free(d);
	metrics_set(METRIC_WATCH_DIRS, NULL, (int64_t)map_count(w->by_wd));
}

/* A subtree moved away: its watches would follow it and speak under old names. */
static void
forget_below(struct watch *w, const char *path, size_t len)
{
	size_t pos = 0, klen;
	const void *key;
	void *val;

	while (map_next(w->by_wd, &pos, &key, &klen, &val)) {
		struct wdir *d = val;

		if (d->len >= len && memcmp(d->path, path, len) == 0)
			wdir_forget(w, &d, true);
	}
}

static void
set_trouble(struct watch *w, const char *path, int errnum)
{
	if (*w->trouble)
		return;
	if (errnum == ENOSPC)
		snprintf(w->trouble, sizeof(w->trouble), "cannot watch more than %zu directories: raise fs.inotify.max_user_watches; "
		    "files written past the proxy below the others are found by a rescan every %d s",
		    map_count(w->by_wd), TROUBLE_RESCAN_MS / 1000);
	else
		snprintf(w->trouble, sizeof(w->trouble), "cannot watch %s: %s", log_key(path, strlen(path)), strerror(errnum));
	log_warn("watch", "%s", w->trouble);
}

/* Watches the open directory. By its descriptor, so that no symlink can lead elsewhere meanwhile. */
static bool
dir_watch(struct watch *w, int dirfd, const char *path)
{
	char proc[64];
	struct wdir *d, *old;
	int wd;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", dirfd);
	wd = inotify_add_watch(w->fd, proc, MASK & ~(uint32_t)IN_DONT_FOLLOW);
	if (wd < 0) {
		set_trouble(w, path, errno);
		return false;
	}
	old = map_get(w->by_wd, &wd, sizeof(wd));
	if (old != NULL && strcmp(old->path, path) == 0)
		return true;
	if (old != NULL)	/* the same inode under another name */
		wdir_forget(w, &old, false);
	d = mem_zalloc(sizeof(*d));
	d->wd = wd;
	d->path = mem_strdup(path);
	d->len = strlen(path);
	map_set(w->by_wd, &wd, sizeof(wd), d);
	old = map_set(w->by_path, d->path, d->len + 1, d);
	if (old != NULL) {	/* another inode under the same name: the old one is gone */
		map_del(w->by_wd, &old->wd, sizeof(old->wd));
		(void)inotify_rm_watch(w->fd, old->wd);
		mem_free(old->path);
		mem_free(old);
	}
	metrics_set(METRIC_WATCH_DIRS, NULL, (int64_t)map_count(w->by_wd));
	return true;
}

static void
todo_add(struct watch *w, const char *dir, const char *name, bool all)
{
	struct todo *t;
	size_t prefix = strlen(KEYPATH_OURS_PREFIX);

	if (strncmp(name, KEYPATH_OURS_PREFIX, prefix) == 0)
		return;
	t = mem_zalloc(sizeof(*t));
	t->path = *name ? mem_printf("%s%s/", dir, name) : mem_strdup(dir);
	t->all = all;
	/* Depth first: the list stays short. */
	list_add_head(&w->todos, &t->node);
}

/* Watch, then list: whatever appears after the watch is an event, whatever was there before is in the listing. */
static size_t
dir_enter(struct watch *w, struct todo *t)
{
	int64_t since_ns = w->crawling ? (int64_t)w->crawl_since_ms * 1000000 : 0;
	struct dirent *e;
	size_t n = 1;
	DIR *dir;
	int fd;

	fd = dir_open(w, t->path);
	if (fd < 0) {
		if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
			set_trouble(w, t->path, errno);
		return n;
	}
	(void)dir_watch(w, fd, t->path);
	dir = fdopendir(fd);
	if (dir == NULL) {
		close(fd);
		return n;
	}
	while ((e = readdir(dir)) != NULL) {
		struct stat st;

		n++;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (e->d_type == DT_DIR) {
			todo_add(w, t->path, e->d_name, t->all);
			continue;
		}
		if (e->d_type != DT_REG && e->d_type != DT_UNKNOWN)
			continue;
		if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;	/* gone again: its own event tells */
		if (S_ISDIR(st.st_mode))
			todo_add(w, t->path, e->d_name, t->all);
		else if (S_ISREG(st.st_mode) && (t->all || clock_timespec_ns(&st.st_ctim) >= since_ns))
			report(w, t->path, e->d_name, MARK_PUT);
	}
	closedir(dir);
	return n;
}

static struct todo *
todo_take(struct watch *w)
{
	struct todo *t = LIST_FIRST(&w->todos, struct todo, node);

	if (t != NULL)
		list_del(&t->node);
	return t;
}

static void
todo_free(struct todo **t)
{
	mem_free((*t)->path);
	mem_free(*t);
	*t = NULL;
}

static void
slice_cb(void *arg)
{
	struct watch *w = arg;
	struct todo *t;
	size_t n = 0;

	while (n < SLICE_ENTRIES && (t = todo_take(w)) != NULL) {
		n += dir_enter(w, t);
		todo_free(&t);
	}
	if (!list_empty(&w->todos)) {
		loop_call_soon(&w->slice);
		return;
	}
	if (w->crawling) {
		w->crawling = false;
		w->drained_ms = w->crawl_start_ms;
		log_info("watch", "crawl done: %zu directories watched", map_count(w->by_wd));
		if (*w->trouble)
			loop_timer_set(&w->again, TROUBLE_RESCAN_MS);
	}
	w->cb->clean(w->arg, w->crawl_start_ms);
}

static void
crawl_begin(struct watch *w, uint64_t since_ms)
{
	struct list *p, *n;

	/* A directory that is new to us is owed a report of all its files, however old: the crawl would pass those over. */
	LIST_FOREACH(p, n, &w->todos) {
		struct todo *t = LIST_ENTRY(p, struct todo, node);

		if (t->all)
			continue;
		list_del(&t->node);
		todo_free(&t);
	}
	w->crawl_start_ms = clock_real_ms();
	if (since_ms == 0 || since_ms > w->crawl_start_ms)
		since_ms = w->crawl_start_ms;
	w->crawl_since_ms = since_ms > SINCE_MARGIN_MS ? since_ms - SINCE_MARGIN_MS : 0;
	w->crawling = true;
	w->trouble[0] = '\0';
	todo_add(w, "", "", false);
	loop_call_soon(&w->slice);
}

static void
again_cb(void *arg)
{
	struct watch *w = arg;

	/* The unwatched directories have told nothing since the last crawl began. */
	crawl_begin(w, w->crawl_start_ms);
	w->cb->census(w->arg, "directories that cannot be watched");
}

/* A directory appeared: what is in it may have been written before we watched it. */
static void
dir_appeared(struct watch *w, const char *dir, const char *name)
{
	struct list rest;
	struct todo *t;
	size_t n = 0;

	/* Only this subtree at once; a crawl's own list waits. */
	list_init(&rest);
	while ((t = todo_take(w)) != NULL)
		list_add_tail(&rest, &t->node);
	todo_add(w, dir, name, true);
	while (n < AT_ONCE_ENTRIES && (t = todo_take(w)) != NULL) {
		n += dir_enter(w, t);
		todo_free(&t);
	}
	if (!list_empty(&w->todos))
		loop_call_soon(&w->slice);
	while (!list_empty(&rest)) {
		t = LIST_FIRST(&rest, struct todo, node);
		list_del(&t->node);
		list_add_tail(&w->todos, &t->node);
	}
}

/* Created files are not finished, but for hard links: they are complete and no close follows. */
static void
file_created(struct watch *w, const char *dir, const char *name)
{
	char *path = mem_printf("%s%s", dir, name);
	struct stat st;

	if (fstatat(local_root_fd(w->local), path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && st.st_nlink > 1)
		report(w, dir, name, MARK_PUT);
	mem_free(path);
}

static void
event(struct watch *w, const struct inotify_event *e)
{
	struct wdir *d;

	if (e->mask & IN_Q_OVERFLOW) {
		w->overflowed = true;
		return;
	}
	d = map_get(w->by_wd, &e->wd, sizeof(e->wd));
	if (d == NULL)
		return;		/* of a watch that was taken away */
	if (e->mask & IN_IGNORED) {
		wdir_forget(w, &d, false);
		return;
	}
	if (e->len == 0)
		return;		/* about the directory itself: its parent says what matters */
	if (e->mask & IN_ISDIR) {
		/* The directory's own strings may go away under the calls below. */
		char *path = mem_strdup(d->path);

		if (e->mask & IN_MOVED_FROM) {
			char *sub = mem_printf("%s%s/", path, e->name);

			forget_below(w, sub, strlen(sub));
			mem_free(sub);
			w->cb->census(w->arg, "a directory was renamed");
		}
		if (e->mask & (IN_CREATE | IN_MOVED_TO))
			dir_appeared(w, path, e->name);
		mem_free(path);
		return;
	}
	if (e->mask & (IN_CLOSE_WRITE | IN_MOVED_TO))
		report(w, d->path, e->name, MARK_PUT);
	else if (e->mask & (IN_DELETE | IN_MOVED_FROM))
		report(w, d->path, e->name, MARK_DELETE);
	else if (e->mask & IN_CREATE)
		file_created(w, d->path, e->name);
}

uint64_t
watch_drain(struct watch *w)
{
	char buf[65536] __attribute__((aligned(__alignof__(struct inotify_event))));
	uint64_t since, now = clock_real_ms();

	for (;;) {
		ssize_t n = read(w->fd, buf, sizeof(buf));
		const char *p = buf;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		if (TRIP("watch", "lose")) {	/* as the kernel does */
			w->overflowed = true;
			continue;
		}
		while (p < buf + n) {
			const struct inotify_event *e = (const void *)p;

			event(w, e);
			p += sizeof(*e) + e->len;
		}
	}
	if (!w->overflowed) {
		if (!w->crawling)
			w->drained_ms = now;
		return w->seq;
	}
	w->overflowed = false;
	metrics_add(METRIC_WATCH_OVERFLOWS, NULL, 1);
	since = w->crawling ? w->crawl_since_ms : w->drained_ms > LOST_MARGIN_MS ? w->drained_ms - LOST_MARGIN_MS : 1;
	log_warn("watch", "the kernel's event queue overflowed: looking at the whole tree again (fs.inotify.max_queued_events)");
	crawl_begin(w, since);
	w->cb->census(w->arg, "events were lost");
	return w->seq;
}

static void
readable_cb(void *arg, int what)
{
	(void)what;
	(void)watch_drain(arg);
}

enum err
watch_new(struct watch **wp, struct loop *l, struct local *local, uint64_t since_ms, const struct watch_cb *cb, void *arg,
    struct errbuf *eb)
{
	struct watch *w;
	int fd;

	fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (fd < 0)
		return err_set(eb, err_from_errno(errno), "inotify: %s (fs.inotify.max_user_instances)", strerror(errno));
	w = mem_zalloc(sizeof(*w));
	w->loop = l;
	w->local = local;
	w->cb = cb;
	w->arg = arg;
	w->fd = fd;
	w->by_wd = map_new();
	w->by_path = map_new();
	list_init(&w->todos);
	loop_call_init(&w->slice, l, slice_cb, w);
	loop_timer_init(&w->again, l, again_cb, w);
	loop_fd_init(&w->rd, l, fd, readable_cb, w);
	loop_fd_want(&w->rd, LOOP_READ);
	*wp = w;
	crawl_begin(w, since_ms);
	return ERR_OK;
}

uint64_t
watch_seq(const struct watch *w)
{
	return w->seq;
}

uint64_t
watch_next_seq(struct watch *w)
{
	return ++w->seq;
}

bool
watch_crawling(const struct watch *w)
{
	return w->crawling || !list_empty(&w->todos);
}

size_t
watch_dirs(const struct watch *w)
{
	return map_count(w->by_wd);
}

const char *
watch_trouble(const struct watch *w)
{
	return *w->trouble ? w->trouble : NULL;
}

void
watch_free(struct watch **wp)
{
	struct watch *w = *wp;
	size_t pos = 0, klen;
	const void *key;
	void *val;
	struct todo *t;

	if (w == NULL)
		return;
	*wp = NULL;
	loop_fd_fini(&w->rd);
	loop_call_cancel(&w->slice);
	loop_timer_fini(&w->again);
	close(w->fd);
	while ((t = todo_take(w)) != NULL)
		todo_free(&t);
	while (map_next(w->by_wd, &pos, &key, &klen, &val)) {
		struct wdir *d = val;

		mem_free(d->path);
		mem_free(d);
	}
	map_free(&w->by_wd);
	map_free(&w->by_path);
	mem_free(w);
}
