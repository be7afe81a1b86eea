#include "proxy/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/keypath.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/trip.h"
#include "proxy/watch_int.h"

/* Directories that appear are listed at once (a barrier may wait for them), up to so many entries within one drain; the rest in slices. */
#define AT_ONCE_ENTRIES 20000
/* Without a barrier so much is read in one turn of the loop: some thousand events. */
#define TURN_BYTES 65536
/* Lost events may be about files that were last written so long before they were closed. */
#define LOST_MARGIN_MS 60000

void
watch_report(struct watch *w, const char *dir, size_t dirlen, const char *name, enum mark_op op)
{
	str_clear(&w->key);
	str_add(&w->key, dir, dirlen);
	str_addz(&w->key, name);
	if (!keypath_servable(keypath_check(w->key.p, w->key.len)))
		return;
	metrics_add(METRIC_WATCH_EVENTS, op == MARK_PUT ? "put" : "delete", 1);
	w->cb->changed(w->arg, w->key.p, w->key.len, op, ++w->seq);
}

/* Directories that are renamed. */

static void
moving_free(struct moving *m)
{
	list_del(&m->node);
	mem_free(m->path);
	mem_free(m);
}

static void
dir_left(struct watch *w, const struct inotify_event *e, const struct wdir *parent)
{
	struct moving *m = mem_zalloc(sizeof(*m));

	m->cookie = e->cookie;
	m->dir = tree_child(w, parent, e->name);
	m->path = mem_printf("%s%s/", str_z(&w->path), e->name);
	list_add_tail(&w->moving, &m->node);
	w->cb->census(w->arg, "a directory was renamed");
}

static void
dir_came(struct watch *w, const struct inotify_event *e, struct wdir *parent)
{
	char *path = mem_printf("%s%s/", str_z(&w->path), e->name);
	struct moving *from = NULL;
	struct list *p, *n;

	LIST_FOREACH(p, n, &w->moving) {
		struct moving *m = LIST_ENTRY(p, struct moving, node);

		if (e->cookie != 0 && m->cookie == e->cookie)
			from = m;
	}
	if (from != NULL && from->dir != NULL && !tree_move(w, from->dir, parent, e->name))
		w->overflowed = true;	/* renames that were lost have turned it round */
	crawl_appeared(w, path, from != NULL ? from->path : NULL);
	if (from != NULL) {
		w->cb->away(w->arg, from->path, strlen(from->path), true);
		moving_free(from);
	}
	mem_free(path);
}

/* The queue is dry, and no new name has come: it was moved out of the tree. */
static void
moved_away(struct watch *w)
{
	struct moving *m;

	while ((m = LIST_FIRST(&w->moving, struct moving, node)) != NULL) {
		if (m->dir != NULL)
			tree_forget(w, &m->dir, true);
		w->cb->away(w->arg, m->path, strlen(m->path), false);
		moving_free(m);
	}
}

/* Events. */

static bool
has_other_names(struct watch *w, const char *name)
{
	struct stat st;

	str_clear(&w->key);
	str_add(&w->key, w->path.p, w->path.len);
	str_addz(&w->key, name);
	return fstatat(local_root_fd(w->local), str_z(&w->key), &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && st.st_nlink > 1;
}

static void
file_event(struct watch *w, const struct inotify_event *e)
{
	const char *dir = str_z(&w->path);
	size_t len = w->path.len;

	if (e->mask & IN_CLOSE_WRITE) {
		/* Its other names have the new bytes too, and no event. */
		if (has_other_names(w, e->name))
			crawl_links(w);
		watch_report(w, dir, len, e->name, MARK_PUT);
	} else if (e->mask & IN_MOVED_TO) {
		watch_report(w, dir, len, e->name, MARK_PUT);
	} else if (e->mask & (IN_DELETE | IN_MOVED_FROM)) {
		watch_report(w, dir, len, e->name, MARK_DELETE);
	} else if ((e->mask & IN_CREATE) && has_other_names(w, e->name)) {
		/* Created files are not finished, but for hard links: they are complete and no close follows. */
		watch_report(w, dir, len, e->name, MARK_PUT);
	}
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
		tree_forget(w, &d, false);
		return;
	}
	if (e->len == 0)
		return;		/* about the directory itself: its parent says what matters */
	str_clear(&w->path);
	tree_path(d, &w->path);
	if ((e->mask & IN_ISDIR) && (e->mask & (IN_MOVED_FROM | IN_MOVED_TO)))
		local_folders_moved(w->local);
	if (!(e->mask & IN_ISDIR))
		file_event(w, e);
	else if (strncmp(e->name, KEYPATH_OURS_PREFIX, strlen(KEYPATH_OURS_PREFIX)) == 0)
		return;
	else if (e->mask & IN_MOVED_FROM)
		dir_left(w, e, d);
	else if (e->mask & (IN_CREATE | IN_MOVED_TO))
		dir_came(w, e, d);
}

static void
read_events(struct watch *w, size_t left)
{
	char buf[TURN_BYTES] __attribute__((aligned(__alignof__(struct inotify_event))));

	while (left > 0) {
		ssize_t n = read(w->fd, buf, left < sizeof(buf) ? left : sizeof(buf));
		const char *p = buf;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		left -= (size_t)n < left ? (size_t)n : left;
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
}

static void
events_lost(struct watch *w)
{
	uint64_t since = w->drained_ms > LOST_MARGIN_MS ? w->drained_ms - LOST_MARGIN_MS : 1;

	/* What the crawl that is going on was to report is still owed. */
	if (w->part != CRAWL_NONE && (w->drained_ms == 0 || w->since_ms < since))
		since = w->since_ms;
	w->overflowed = false;
	metrics_add(METRIC_WATCH_OVERFLOWS, NULL, 1);
	log_warn("watch", "the kernel's event queue overflowed: looking at the whole tree again (fs.inotify.max_queued_events)");
	crawl_begin(w, since, true);
	w->cb->census(w->arg, "events were lost");
}

/* At most so many bytes, of what is queued now. */
static void
drain(struct watch *w, size_t most)
{
	uint64_t now = clock_real_ms();
	int queued = 0;

	(void)ioctl(w->fd, FIONREAD, &queued);
	w->at_once = AT_ONCE_ENTRIES;
	read_events(w, (size_t)queued < most ? (size_t)queued : most);
	if ((size_t)queued <= most) {
		moved_away(w);
		if (!w->overflowed && w->part == CRAWL_NONE)
			w->drained_ms = now;
	}
	if (w->overflowed)
		events_lost(w);
	local_folders_watched(w->local, watch_standing(w));
}

uint64_t
watch_drain(struct watch *w)
{
	drain(w, SIZE_MAX);
	return w->seq;
}

static void
readable_cb(void *arg, int what)
{
	(void)what;
	drain(arg, TURN_BYTES);
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
	w->by_name = map_new();
	list_init(&w->moving);
	str_init(&w->path);
	str_init(&w->key);
	crawl_init(w);
	loop_fd_init(&w->rd, l, fd, readable_cb, w);
	loop_fd_want(&w->rd, LOOP_READ);
	*wp = w;
	crawl_begin(w, since_ms, true);
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

uint64_t
watch_generation(const struct watch *w)
{
	return w->generation;
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
	struct moving *m;

	if (w == NULL)
		return;
	*wp = NULL;
	local_folders_watched(w->local, false);
	loop_fd_fini(&w->rd);
	crawl_fini(w);
	close(w->fd);
	while ((m = LIST_FIRST(&w->moving, struct moving, node)) != NULL)
		moving_free(m);
	tree_free(w);
	str_fini(&w->path);
	str_fini(&w->key);
	mem_free(w);
}
