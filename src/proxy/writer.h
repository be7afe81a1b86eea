/*
 * writer: how a write becomes known, durable and mirrored. It owns the watcher, the marks' own copy (dirty) and the mirror
 * queue; the request engine brackets each request that may write with writer_begin and writer_finish.
 *
 *   begin:  the intent goes to the disk (fdatasync); not before done says so the request's end may be forwarded, or the file
 *           take its place: 507/503 if that is not possible
 *   finish: the upstream has answered (or not). With a key: look at the disk, confirm the mark. Without: the watcher barrier:
 *           drain the kernel's event queue, fsync each finished file and its folder, mark each key in the journal.
 *           Keys that the answer named (hint.h) are looked at, synced and marked likewise, whatever the watcher saw.
 *           Then, with mirror.policy = sync, wait until R2 has them or mirror.deadline has passed or a first try has failed;
 *           then done: the answer may go. The marks that are left are mirrored behind it, until they are gone.
 *
 * While the site is armed (some member may write R2 first) a write with a key has the key's lease from begin to finish, and what the
 * watcher notices is looked at and marked under it.
 *
 * Loop thread only.
 */
#ifndef PROXY_WRITER_H
#define PROXY_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "coord/dirty.h"
#include "proxy/hint.h"
#include "proxy/primary.h"
#include "sync/reconcile.h"

struct writer;
struct writer_op;

/* Opens the journal and, from phase dual-write on, starts the watcher with its first crawl. env stays the caller's and may be
 * swapped by writer_reload. cluster may be down. */
enum err writer_new(struct writer **w, const struct reconcile_env *env, int phase, struct errbuf *eb) ERR_MUST_CHECK;
/* A reload: new options, another phase (0 -> 1 starts the watcher, a crawl of what changed since the clean point, and asks for
 * a census; 1 -> 0 stops it after a last drain). */
void writer_reload(struct writer *w, const struct reconcile_env *env, int phase);
/* cluster's callbacks are handed on. */
void writer_up(struct writer *w, bool fresh);
void writer_down(struct writer *w);
/* The site is armed, or is not any more: from now on writes take leases, or need not. */
void writer_arm(struct writer *w, bool armed);
/* Has this proxy acknowledged it: no write runs without a lease, and the journal says so? */
bool writer_armed(const struct writer *w);
/* SIGTERM: mirrors what is owed up to ms, then done. */
void writer_drain(struct writer *w, uint64_t ms, void (*done)(void *arg), void *arg);
void writer_free(struct writer **w);

/* To how many keys is the disk owed R2's bytes, as far as this proxy knows? */
size_t writer_owed(const struct writer *w);

/* For reads. */
struct dirty *writer_dirty(struct writer *w);
/* Is it possible that keys are dirty that we do not know of: Redis is away, the watcher has not looked at the whole tree yet, or it lost
 * events and no census has told yet what was deleted meanwhile? */
bool writer_uncertain(const struct writer *w);
/* Did the watcher lose events, and no census has told yet what was deleted meanwhile? */
bool writer_blind(const struct writer *w);

/* May a write be taken at all now: journal writable, free disk above media.min-free? OK, NOSPACE, IO, SENTINEL,
 * UNAVAIL (the watcher could not start). */
enum err writer_ready(struct writer *w);

typedef void writer_begun(void *arg, enum err e);
/* key NULL: the app chooses the keys. The op is valid at once; finish it exactly once, also after an error. */
struct writer_op *writer_begin(struct writer *w, const char *key, size_t klen, enum mark_op op, writer_begun *done, void *arg);
/* May a body travel before done runs, all but its end? Not while a lease is waited for, nor, if the application chooses the keys, while not
 * every directory is watched: an application may finish a file before the body's end, and nobody would see it. */
bool writer_travels(const struct writer_op *op);
/* The upstream's answer names keys: finish looks at them, and marks them with the write. Before finish; takes the hints over. */
void writer_hinted(struct writer_op *op, struct hints *hs);
enum writer_outcome {
	WRITER_ANSWERED,	/* the upstream answered, with whatever status: look at what is there */
	WRITER_UNKNOWN,		/* timeout, cut, crash: something may have happened, or may still happen */
	WRITER_NOT_SENT		/* certainly nothing was forwarded */
};
/* mirrored: R2 has it too. done runs when the answer may go out; e: ERR_OK, or why the durable mark could not be made (the
 * client then gets 503 or 507 instead of the upstream's answer). NULL done: the client is gone. */
typedef void writer_finished(void *arg, enum err e, bool mirrored);
void writer_finish(struct writer *w, struct writer_op **op, enum writer_outcome o, writer_finished *done, void *arg);
/* The client has gone while finish was waiting: done will not run, the work goes on. */
void writer_forget(struct writer *w, struct writer_op **op);

/* A read found a file that R2 has not and that nobody has noticed: it is looked at, and marked. */
void writer_noticed(struct writer *w, const char *key, size_t klen);
/* A read found a key in the other side only: have it looked at (no mark). */
void writer_promote(struct writer *w, const char *key, size_t klen);

/* writes = disk: the proxy itself stores a body. Between begin and finish. Chunks are written on the pool in order. */
struct writer_file;
typedef void writer_file_done(void *arg, enum err e, bool created);
/* exclusive: commit fails with PRECOND if there is such a file. */
struct writer_file *writer_file_open(struct writer *w, const char *key, size_t klen, bool exclusive);
/* false: pause the source until drained(arg) is called. */
bool writer_file_write(struct writer_file *f, const void *p, size_t n, void (*drained)(void *arg), void *arg);
/* fsync, rename into place, fsync of the folder. */
void writer_file_commit(struct writer_file **f, writer_file_done *done, void *arg);
void writer_file_discard(struct writer_file **f);
/* unlink + fsync; NOTFOUND if there was none. */
void writer_unlink(struct writer *w, const char *key, size_t klen, writer_file_done *done, void *arg);

/* R2 first (phase r2-primary): the body goes to a spool, then to whoever writes R2. */
struct primary *writer_primary(struct writer *w);
struct writer_file *writer_spool_open(struct writer *w);
/* Digested; s is the callee's if it takes it (fd set to -1), else it goes. */
typedef void writer_spool_done(void *arg, enum err e, struct spool *s);
void writer_spool_commit(struct writer_file **f, writer_spool_done *done, void *arg);

/* What is degraded or going on, for status and health: appends to a JSON object's body. */
struct writer_state {
	size_t marks, intents, mirroring, waiting, owed;	/* owed: to the disk */
	uint64_t oldest_ms;		/* age of the oldest mark, 0: none */
	bool watching, crawling, census_due, armed;
	size_t watched_dirs;
	const char *watch_trouble;	/* NULL: none; e.g. the inotify limit */
	const char *mirror_trouble;	/* NULL: none; why the last key that was tried still waits */
	enum err journal;
};
void writer_state(const struct writer *w, struct writer_state *s);

#endif
