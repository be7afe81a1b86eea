#include "coord/journal.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/trip.h"

/*
 * The file: the magic, then records. A record: u32 length of its body, u32 CRC-32C of that length and the body, the body: u8 kind,
 * u8 op, u64 id, gen, time_ms, the key. All little endian. The record of an R2-first write has R2_FIRST in its op, and in front of its key
 * the base and a NUL. Behind the last record there may be zeros: room that was made ahead (room_make).
 */
static const char magic[8] = { 'r', '2', 's', 'h', 'i', 'm', 'J', '1' };
#define NAME	  "journal"
#define NAME_NEW  "journal.new"
#define NAME_LOCK "journal.lock"
enum {
	FRAME = 8,
	FIXED = 26,
	R2_FIRST = 0x80,
	BODY_MAX = 64 * 1024,
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
};

static enum err
disk_error(int errnum)
{
	switch (errnum) {
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return ERR_NOSPACE;
	default:
		return ERR_IO;
	}
}

static void
encode(struct str *out, const struct journal_rec *r)
{
	size_t blen = r->base != NULL ? r->blen + 1 : 0;
	uint32_t len = (uint32_t)(FIXED + blen + r->klen), le = htole32(len), crc;
	uint64_t n[3] = { htole64(r->id), htole64(r->gen), htole64(r->time_ms) };
	uint8_t head[2] = { (uint8_t)r->kind, (uint8_t)(r->op | (r->base != NULL ? R2_FIRST : 0)) };
	char *body;
	size_t at = out->len;

	ASSERT(r->klen + blen <= BODY_MAX - FIXED);
	str_reserve(out, FRAME + len);
	str_add(out, &le, sizeof le);
	str_add(out, &le, sizeof le);	/* the CRC's place */
	str_add(out, head, sizeof head);
	str_add(out, n, sizeof n);
	if (r->base != NULL) {
		str_add(out, r->base, r->blen);
		str_add(out, "", 1);
	}
	if (r->klen > 0)
		str_add(out, r->key, r->klen);
	body = out->p + at + FRAME;
	crc = htole32(digest_crc32c(digest_crc32c(0, &le, sizeof le), body, len));
	memcpy(out->p + at + 4, &crc, sizeof crc);
}

/* The record at p of n bytes; its whole length, or 0 if none stands there. */
static size_t
decode(const char *p, size_t n, struct journal_rec *r)
{
	uint32_t le, len, crc;
	uint64_t v[3];

	if (n < FRAME + FIXED)
		return 0;
	memcpy(&le, p, sizeof le);
	memcpy(&crc, p + 4, sizeof crc);
	len = le32toh(le);
	if (len < FIXED || len > BODY_MAX || n < FRAME + len)
		return 0;
	if (digest_crc32c(digest_crc32c(0, &le, sizeof le), p + FRAME, len) != le32toh(crc))
		return 0;
	p += FRAME;
	memcpy(v, p + 2, sizeof v);
	*r = (struct journal_rec){ .kind = (enum journal_kind)(uint8_t)p[0], .op = (uint8_t)p[1], .id = le64toh(v[0]), .gen = le64toh(v[1]),
		.time_ms = le64toh(v[2]), .key = p + FIXED, .klen = len - FIXED };
	/* A phase's op may have any value, and its record has no key. */
	if ((r->op & R2_FIRST) != 0 && (r->kind == JOURNAL_INTENT || r->kind == JOURNAL_MARK)) {
		const char *nul = memchr(r->key, '\0', r->klen);

		if (nul == NULL)
			return 0;
		r->op &= (uint8_t)~R2_FIRST;
		r->base = r->key;
		r->blen = (size_t)(nul - r->key);
		r->key = nul + 1;
		r->klen -= r->blen + 1;
	}
	return FRAME + len;
}

static bool
write_all(int fd, const char *p, size_t n, uint64_t at)
{
	while (n > 0) {
		ssize_t k = pwrite(fd, p, n, (off_t)at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			if (k == 0)
				errno = ENOSPC;
			return false;
		}
		p += k;
		n -= (size_t)k;
		at += (uint64_t)k;
	}
	return true;
}

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

		ok = write_all(fd, zeros, n, at);
		at += n;
	}
	if (ok)
		return end;
	(void)!ftruncate(fd, (off_t)from);
	return from;
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
		j->broken = true;	/* as in thread_append */
	j->room = end;
}

static enum err
thread_append(struct journal *j, const struct group *g)
{
	enum err e;

	if (j->broken)
		return ERR_IO;
	if (TRIP("journal", "write") || !write_all(j->fd, g->buf.p, g->buf.len, j->good)) {
		e = disk_error(errno);
		/* A part may stand there: the next group is written over it, never behind it. */
		if (ftruncate(j->fd, (off_t)j->good) != 0)
			j->broken = true;
		j->room = j->good;
		return e;
	}
	if (g->sync && (TRIP("journal", "sync") || fdatasync(j->fd) != 0)) {
		e = disk_error(errno);
		/* The kernel has given up on these pages and calls them clean: a second sync would say well where nothing is. */
		j->broken = true;
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
	int fd = openat(j->dirfd, NAME_NEW, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	uint64_t good = sizeof magic + g->buf.len, room = good;
	enum err e;

	if (fd < 0)
		return disk_error(errno);
	if (!TRIP("journal", "rename") && write_all(fd, magic, sizeof magic, 0) && write_all(fd, g->buf.p, g->buf.len, sizeof magic) &&
	    (room = room_make(fd, good, good + ROOM)) >= good && fdatasync(fd) == 0 &&
	    renameat(j->dirfd, NAME_NEW, j->dirfd, NAME) == 0) {
		e = fsync(j->dirfd) == 0 ? ERR_OK : disk_error(errno);
		close(j->fd);
		j->fd = fd;
		j->good = good;
		j->room = room;
		j->room_again = 0;
		/* Renamed, but after a power cut the old file may be back: not to be built upon. */
		j->broken = e != ERR_OK;
		return e;
	}
	e = disk_error(errno);
	close(fd);
	unlinkat(j->dirfd, NAME_NEW, 0);
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

static void
release(struct journal *j)
{
	if (j->fd >= 0)
		close(j->fd);
	if (j->lockfd >= 0)
		close(j->lockfd);
	if (j->dirfd >= 0)
		close(j->dirfd);
	mem_free(j->path);
	mem_free(j);
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
	encode(e, r);
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
	encode(&g->buf, r);
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

/* Hands every intact record to replay; *good is where the first other byte stands. */
static enum err
replay_file(int fd, void (*replay)(void *arg, const struct journal_rec *r), void *arg, uint64_t *good)
{
	struct str buf = STR_INIT;
	uint64_t at = sizeof magic;
	enum err e = ERR_OK;
	ssize_t n;

	*good = at;
	do {
		size_t used = 0, len;
		struct journal_rec r;
		char *p = str_reserve(&buf, BODY_MAX + FRAME);

		n = pread(fd, p, BODY_MAX + FRAME, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			e = ERR_IO;
			break;
		}
		buf.len += (size_t)n;
		at += (uint64_t)n;
		while ((len = decode(buf.p + used, buf.len - used, &r)) > 0) {
			replay(arg, &r);
			used += len;
		}
		/* Stuck with a whole record's room read: what stands here is none. */
		if (used == 0 && buf.len >= BODY_MAX + FRAME)
			break;
		str_drop(&buf, used);
		*good += used;
	} while (n != 0);
	str_fini(&buf);
	return e;
}

/* Where the last byte that is not a zero ends, from `at` on. */
static enum err
zeros_begin(int fd, uint64_t at, uint64_t *end)
{
	char buf[16 * 1024];
	ssize_t n;

	for (*end = at; (n = pread(fd, buf, sizeof buf, (off_t)at)) != 0; at += (uint64_t)n) {
		if (n < 0 && errno != EINTR)
			return ERR_IO;
		n = n < 0 ? 0 : n;
		for (ssize_t i = n; i > 0; i--)
			if (buf[i - 1] != '\0') {
				*end = at + (uint64_t)i;
				break;
			}
	}
	return ERR_OK;
}

static enum err
lock_folder(struct journal *j, const char *dir, struct errbuf *eb)
{
	j->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (j->dirfd < 0)
		return err_set(eb, ERR_IO, "%s: %s", dir, strerror(errno));
	j->lockfd = openat(j->dirfd, NAME_LOCK, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (j->lockfd < 0)
		return err_set(eb, disk_error(errno), "%s/" NAME_LOCK ": %s", dir, strerror(errno));
	if (flock(j->lockfd, LOCK_EX | LOCK_NB) == 0)
		return ERR_OK;
	if (errno == EWOULDBLOCK)
		return err_set(eb, ERR_STATE, "%s: in use by another proxy: each has a state-dir of its own", dir);
	return err_set(eb, ERR_IO, "%s/" NAME_LOCK ": %s", dir, strerror(errno));
}

/* Reads the file, or begins one, and leaves it ending behind its last intact record. */
static enum err
load(struct journal *j, void (*replay)(void *arg, const struct journal_rec *r), void *arg, uint64_t *cut, struct errbuf *eb)
{
	char head[sizeof magic];
	struct stat st;
	ssize_t n;

	/* A compaction that was cut short: the old file is still the journal. */
	unlinkat(j->dirfd, NAME_NEW, 0);
	j->fd = openat(j->dirfd, NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (j->fd < 0 || fstat(j->fd, &st) != 0)
		return err_set(eb, disk_error(errno), "%s: %s", j->path, strerror(errno));
	n = pread(j->fd, head, sizeof head, 0);
	if (n < 0)
		return err_set(eb, ERR_IO, "%s: %s", j->path, strerror(errno));
	if (memcmp(head, magic, (size_t)n) != 0)
		return err_set(eb, ERR_SYNTAX, "%s: is not a journal of r2shim, or of another version", j->path);
	j->good = sizeof magic;
	if ((size_t)n < sizeof magic) {
		*cut = (uint64_t)n;
		if (!write_all(j->fd, magic, sizeof magic, 0))
			return err_set(eb, disk_error(errno), "%s: %s", j->path, strerror(errno));
	} else {
		if (replay_file(j->fd, replay, arg, &j->good) != ERR_OK)
			return err_set(eb, ERR_IO, "%s: cannot be read", j->path);
		/* Zeros are no damage: room that was not used. They go all the same: what is torn may have left something behind them. */
		if (zeros_begin(j->fd, j->good, cut) != ERR_OK)
			return err_set(eb, ERR_IO, "%s: cannot be read", j->path);
		*cut -= j->good;
		if ((uint64_t)st.st_size > j->good && ftruncate(j->fd, (off_t)j->good) != 0)
			return err_set(eb, disk_error(errno), "%s: %s", j->path, strerror(errno));
	}
	if (fsync(j->fd) != 0 || fsync(j->dirfd) != 0)
		return err_set(eb, disk_error(errno), "%s: %s", j->path, strerror(errno));
	j->size = j->room = j->good;
	return ERR_OK;
}

enum err
journal_open(struct journal **jp, struct loop *l, const char *dir, void (*replay)(void *arg, const struct journal_rec *r), void *arg,
    uint64_t *cut, struct errbuf *eb)
{
	struct journal *j = mem_zalloc(sizeof *j);
	sigset_t all, old;
	enum err e;

	*jp = NULL;
	*cut = 0;
	j->loop = l;
	j->path = mem_printf("%s/" NAME, dir);
	j->dirfd = j->lockfd = j->fd = -1;
	e = lock_folder(j, dir, eb);
	if (e == ERR_OK)
		e = load(j, replay, arg, cut, eb);
	if (e != ERR_OK) {
		release(j);
		return e;
	}
	if (*cut > 0)
		log_warn("journal", "%s: %llu bytes of a torn tail were cut", j->path, (unsigned long long)*cut);
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
	release(j);
}
