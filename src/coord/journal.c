#include "coord/journal_int.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/trip.h"

enum {
	LAZY_MAX = 64 * 1024,		/* so much may wait for somebody else's sync */
	COMPACT_MIN = 1024 * 1024,	/* a smaller file is left alone */
	ROOM = 256 * 1024,		/* the file grows in such steps, ahead of the records */
	RETRY_MS = 1000			/* after a failure the file is written anew this often until that works */
};

struct waiter {
	journal_done *done;
	void *arg;
};

/* What goes to the disk as one: the records that came while the last group was being written. */
struct group {
	struct list node;
	struct str buf;
	struct waiter *waiters;
	size_t nwaiters, cap, nrecords;
	bool compact;			/* buf is the whole new file */
	bool sync;
	enum err result;
	uint64_t size;			/* of the file after it */
};

struct journal {
	struct loop *loop;
	char *path;			/* for people */
	int dirfd, lockfd;
	struct group *open;		/* gathers records; handed to the thread when it is free */
	struct loop_call finished;
	struct loop_timer retry;
	void (*live)(void *arg, void (*emit)(void *e, const struct journal_rec *r), void *e);
	void *live_arg;
	enum err state;
	uint64_t size, compacted;	/* of the file now, and after it was last written anew */
	bool compacting;
	bool *gone;			/* set while callbacks run: one of them closed the journal */

	pthread_t thread;
	pthread_mutex_t mutex;		/* the two lists, busy and closing */
	pthread_cond_t cond;
	struct list todo, done;
	bool busy, closing;

	/* The thread's own. */
	int fd;
	uint64_t good;			/* every byte before is of an intact record */
	uint64_t room;			/* the file's end: zeros from good to here */
	uint64_t room_again;		/* no room was to be had: not tried again before good is there */
	bool broken;			/* a sync failed: what the kernel holds of this file is unknown, it must be written anew */
	enum err why;			/* what has broken it */
};

/*
 * Zeros from `from` to behind `to`: a record that is written over them changes bytes only, and its sync need not write the file
 * system's own books as well (a half of the time of a small group). Zeros that are written, not an extent that counts as zeros:
 * that would have to be converted with each sync. Returns the file's new end; `from`, and no byte more than before, if there is no
 * room: then records make the file grow, and it is their failure that counts.
 */
static uint64_t
room_make(int fd, uint64_t from, uint64_t to)
{
	static const char zeros[ROOM / 4];
	uint64_t end = (to + ROOM - 1) / ROOM * ROOM, at = from;
	bool ok = fallocate(fd, 0, (off_t)from, (off_t)(end - from)) == 0;

	while (ok && at < end) {
		size_t n = end - at < sizeof zeros ? (size_t)(end - at) : sizeof zeros;

		ok = journal_file_write(fd, zeros, n, at);
		at += n;
	}
	if (ok)
		return end;
	(void)!ftruncate(fd, (off_t)from);
	return from;
}

static void
broke(struct journal *j, enum err e)
{
	j->broken = true;
	j->why = e;
}

/* Between groups, when nobody waits: the next ones find room. */
static void
thread_room(struct journal *j)
{
	uint64_t end;

	if (j->broken || j->room >= j->good + ROOM / 2 || j->good < j->room_again)
		return;
	end = room_make(j->fd, j->room, j->good + ROOM);
	if (end == j->room)
		j->room_again = j->good + ROOM / 4;
	else if (fsync(j->fd) != 0)
		broke(j, journal_file_error(errno));	/* as in thread_append */
	j->room = end;
}

static enum err
thread_append(struct journal *j, const struct group *g)
{
	enum err e;

	if (j->broken)
		return j->why;
	if (TRIP("journal", "write") || !journal_file_write(j->fd, g->buf.p, g->buf.len, j->good)) {
		e = journal_file_error(errno);
		/* A part may stand there: the next group is written over it, never behind it. */
		if (ftruncate(j->fd, (off_t)j->good) != 0)
			broke(j, e);
		j->room = j->good;
		return e;
	}
	if (g->sync && (TRIP("journal", "sync") || fdatasync(j->fd) != 0)) {
		e = journal_file_error(errno);
		/* The kernel has given up on these pages and calls them clean: a second sync would say well where nothing is. */
		broke(j, e);
		return e;
	}
	j->good += g->buf.len;
	if (j->room < j->good)
		j->room = j->good;
	TRIP_STEP("journal", "written");
	return ERR_OK;
}

static enum err
thread_compact(struct journal *j, const struct group *g)
{
	int fd = openat(j->dirfd, JOURNAL_NAME_NEW, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	uint64_t good = sizeof journal_file_magic + g->buf.len, room = good;
	enum err e;

	if (fd < 0)
		return journal_file_error(errno);
	if (!TRIP("journal", "rename") && journal_file_write(fd, journal_file_magic, sizeof journal_file_magic, 0) &&
	    journal_file_write(fd, g->buf.p, g->buf.len, sizeof journal_file_magic) &&
	    (room = room_make(fd, good, good + ROOM)) >= good && fdatasync(fd) == 0 &&
	    renameat(j->dirfd, JOURNAL_NAME_NEW, j->dirfd, JOURNAL_NAME) == 0) {
		e = fsync(j->dirfd) == 0 ? ERR_OK : journal_file_error(errno);
		close(j->fd);
		j->fd = fd;
		j->good = good;
		j->room = room;
		j->room_again = 0;
		/* Renamed, but after a power cut the old file may be back: not to be built upon. */
		j->broken = e != ERR_OK;
		j->why = e;
		return e;
	}
	e = journal_file_error(errno);
	close(fd);
	unlinkat(j->dirfd, JOURNAL_NAME_NEW, 0);
	return e;
}

static void *
thread_main(void *arg)
{
	struct journal *j = arg;

	thread_room(j);
	pthread_mutex_lock(&j->mutex);
	for (;;) {
		struct group *g = LIST_FIRST(&j->todo, struct group, node);

		if (g == NULL && j->closing)
			break;
		if (g == NULL) {
			pthread_cond_wait(&j->cond, &j->mutex);
			continue;
		}
		list_del(&g->node);
		pthread_mutex_unlock(&j->mutex);
		g->result = g->compact ? thread_compact(j, g) : thread_append(j, g);
		g->size = j->good;
		pthread_mutex_lock(&j->mutex);
		list_add_tail(&j->done, &g->node);
		if (j->closing)
			continue;
		loop_post(&j->finished);
		pthread_mutex_unlock(&j->mutex);
		thread_room(j);
		pthread_mutex_lock(&j->mutex);
	}
	pthread_mutex_unlock(&j->mutex);
	/* A file that was closed in order ends behind its last record; nothing depends on it. */
	if (!j->broken)
		(void)!ftruncate(j->fd, (off_t)j->good);
	return NULL;
}

static struct group *
group_new(void)
{
	struct group *g = mem_zalloc(sizeof *g);

	list_init(&g->node);
	return g;
}

static void
group_free(struct group *g)
{
	str_fini(&g->buf);
	mem_free(g->waiters);
	mem_free(g);
}

static void
hand_over(struct journal *j, struct group *g)
{
	pthread_mutex_lock(&j->mutex);
	list_add_tail(&j->todo, &g->node);
	j->busy = true;
	pthread_cond_signal(&j->cond);
	pthread_mutex_unlock(&j->mutex);
}

/* The gathered records go to the thread if it is free and somebody waits for them. */
static void
push(struct journal *j)
{
	struct group *g = j->open;

	if (j->busy || g->buf.len == 0 || (!g->sync && g->buf.len < LAZY_MAX))
		return;
	j->open = group_new();
	hand_over(j, g);
}

static void
emit_live(void *e, const struct journal_rec *r)
{
	journal_file_encode(e, r);
}

static void
compact(struct journal *j)
{
	struct group *g = group_new();

	/* What was appended before is in the owner's state, what comes later goes behind it: no record is lost between. */
	g->compact = true;
	j->live(j->live_arg, emit_live, &g->buf);
	j->compacting = true;
	hand_over(j, g);
}

static void
set_state(struct journal *j, enum err e)
{
	if (e == j->state)
		return;
	if (e == ERR_OK)
		log_info("journal", "%s: writable again", j->path);
	else
		log_error("journal", "%s: %s: writes are refused until it works again", j->path, err_text(e));
	j->state = e;
}

static void
account(struct journal *j, const struct group *g)
{
	if (g->compact) {
		j->compacting = false;
		if (g->result == ERR_OK)
			j->compacted = g->size;
		else if (j->state == ERR_OK)
			log_warn("journal", "%s: cannot be compacted: %s", j->path, err_text(g->result));
		if (g->result != ERR_OK)
			j->compacted = g->size;	/* not again before it has doubled */
		/* A failed compaction leaves a good file good. */
		if (g->result == ERR_OK || j->state != ERR_OK)
			set_state(j, g->result);
	} else {
		set_state(j, g->result);
	}
	if (g->result == ERR_OK) {
		metrics_add(METRIC_JOURNAL_SYNCS, NULL, g->sync || g->compact);
		metrics_add(METRIC_JOURNAL_RECORDS, NULL, (int64_t)g->nrecords);
	} else if (!loop_timer_pending(&j->retry)) {
		loop_timer_set(&j->retry, RETRY_MS);
	}
	j->size = g->size;
	metrics_set(METRIC_JOURNAL_BYTES, NULL, (int64_t)j->size);
}

static void
on_finished(void *arg)
{
	struct journal *j = arg;
	struct group *g;
	bool gone = false;

	pthread_mutex_lock(&j->mutex);
	g = LIST_FIRST(&j->done, struct group, node);
	if (g != NULL)
		list_del(&g->node);
	j->busy = !list_empty(&j->done) || !list_empty(&j->todo);
	pthread_mutex_unlock(&j->mutex);
	if (g == NULL)
		return;
	account(j, g);
	if (!j->compacting && g->result == ERR_OK && !g->compact && j->size > COMPACT_MIN && j->size > 2 * j->compacted)
		compact(j);
	else
		push(j);
	j->gone = &gone;
	for (size_t i = 0; i < g->nwaiters && !gone; i++)
		g->waiters[i].done(g->waiters[i].arg, g->result);
	if (!gone)
		j->gone = NULL;
	group_free(g);
}

static void
on_retry(void *arg)
{
	struct journal *j = arg;

	if (j->state == ERR_OK)
		return;
	if (j->busy)
		loop_timer_set(&j->retry, RETRY_MS);
	else
		compact(j);
}

static struct group *
gather(struct journal *j, const struct journal_rec *r)
{
	struct group *g = j->open;

	ASSERT(j->live != NULL);
	journal_file_encode(&g->buf, r);
	g->nrecords++;
	return g;
}

void
journal_append(struct journal *j, const struct journal_rec *r, journal_done *done, void *arg)
{
	struct group *g = gather(j, r);

	g->sync = true;
	if (done != NULL) {
		if (g->nwaiters == g->cap) {
			g->cap = g->cap > 0 ? g->cap * 2 : 16;
			g->waiters = mem_realloc(g->waiters, g->cap * sizeof *g->waiters);
		}
		g->waiters[g->nwaiters++] = (struct waiter){ done, arg };
	}
	push(j);
}

void
journal_append_lazy(struct journal *j, const struct journal_rec *r)
{
	gather(j, r);
	push(j);
}

void
journal_set_live(struct journal *j, void (*live)(void *arg, void (*emit)(void *e, const struct journal_rec *r), void *e), void *arg)
{
	j->live = live;
	j->live_arg = arg;
}

enum err
journal_state(const struct journal *j)
{
	return j->state;
}

enum err
journal_open(struct journal **jp, struct loop *l, const char *dir, void (*replay)(void *arg, const struct journal_rec *r), void *arg,
    uint64_t *cut, struct errbuf *eb)
{
	struct journal_file f;
	struct journal *j;
	sigset_t all, old;
	enum err e;

	*jp = NULL;
	e = journal_file_open(&f, dir, replay, arg, cut, eb);
	if (e != ERR_OK)
		return e;
	if (*cut > 0)
		log_warn("journal", "%s: %llu bytes of a torn tail were cut", f.path, (unsigned long long)*cut);
	j = mem_zalloc(sizeof *j);
	j->loop = l;
	j->path = f.path;
	j->dirfd = f.dirfd;
	j->lockfd = f.lockfd;
	j->fd = f.fd;
	j->size = j->room = j->good = f.good;
	list_init(&j->todo);
	list_init(&j->done);
	j->open = group_new();
	loop_call_init(&j->finished, l, on_finished, j);
	loop_timer_init(&j->retry, l, on_retry, j);
	ASSERT(pthread_mutex_init(&j->mutex, NULL) == 0 && pthread_cond_init(&j->cond, NULL) == 0);
	/* Signals are the loop's. */
	sigfillset(&all);
	ASSERT(pthread_sigmask(SIG_SETMASK, &all, &old) == 0);
	ASSERT(pthread_create(&j->thread, NULL, thread_main, j) == 0);
	pthread_setname_np(j->thread, "journal");
	ASSERT(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
	metrics_set(METRIC_JOURNAL_BYTES, NULL, (int64_t)j->size);
	*jp = j;
	return ERR_OK;
}

void
journal_close(struct journal **jp)
{
	struct journal *j = *jp;
	struct group *g;

	if (j == NULL)
		return;
	*jp = NULL;
	if (j->gone != NULL)
		*j->gone = true;
	g = j->open;
	g->sync = true;
	pthread_mutex_lock(&j->mutex);
	if (g->buf.len > 0)
		list_add_tail(&j->todo, &g->node);
	else
		group_free(g);
	j->closing = true;
	pthread_cond_signal(&j->cond);
	pthread_mutex_unlock(&j->mutex);
	ASSERT(pthread_join(j->thread, NULL) == 0);
	loop_call_cancel(&j->finished);
	loop_timer_fini(&j->retry);
	while ((g = LIST_FIRST(&j->done, struct group, node)) != NULL) {
		list_del(&g->node);
		if (g->result != ERR_OK)
			log_error("journal", "%s: the last records are not on disk: %s", j->path, err_text(g->result));
		group_free(g);
	}
	pthread_cond_destroy(&j->cond);
	pthread_mutex_destroy(&j->mutex);
	close(j->fd);
	close(j->lockfd);
	close(j->dirfd);
	mem_free(j->path);
	mem_free(j);
}
