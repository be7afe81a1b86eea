/*
 * journal: the proxy's own memory of writes whose two sides may differ: an append-only file in state-dir, written by one
 * thread that gathers all waiting records into one write and one fdatasync (group commit). Records are framed by length and
 * CRC-32C; a torn tail is recognised and cut at start. The file is made longer ahead of the records, so that a sync has only
 * their bytes to write. One process per folder (flock).
 *
 * The journal is compacted when it has grown (only live records are written to a new file, fsync, rename, fsync of the
 * folder). What is live is asked of the owner through `live`.
 * All calls belong to the loop's thread; done runs on the loop.
 */
#ifndef COORD_JOURNAL_H
#define COORD_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "io/loop.h"

struct journal;

enum journal_kind {
	JOURNAL_INTENT = 1,	/* id, key (empty: an upload whose keys the app chooses), op: a write is about to happen */
	JOURNAL_MARK,		/* id of its intent or 0, key, gen, op: the outcome is known, the other side is owed */
	JOURNAL_CLEAR,		/* key, gen: the mark was cleared at this gen or a later one; takes older records of the key along */
	JOURNAL_ABANDON,	/* id: the intent's write certainly did not happen */
	JOURNAL_CLEAN,		/* time_ms: the watcher had seen and marked everything up to here */
	JOURNAL_PHASE,		/* op: phase number; gen: epoch: the last phase that this proxy was in */
	JOURNAL_ARMED		/* op 1: the site is armed, and so are we; 0: it is not any more */
};

struct journal_rec {
	enum journal_kind kind;
	uint8_t op;
	uint64_t id, gen, time_ms;
	const char *key;
	size_t klen;
	const char *base;	/* INTENT, MARK: the text of an R2-first write's base (marks.h); NULL: the disk is written first */
	size_t blen;
};

/* Opens (creates) the folder's journal, locks it, replays every intact record in order through replay. STATE: another
 * process holds it. cut: bytes of a torn tail that were dropped; the zeros of unused room are none. */
enum err journal_open(struct journal **j, struct loop *l, const char *dir, void (*replay)(void *arg, const struct journal_rec *r),
    void *arg, uint64_t *cut, struct errbuf *eb) ERR_MUST_CHECK;
/* What compaction keeps: the callback calls emit for each live record. Set before the first append. */
void journal_set_live(struct journal *j, void (*live)(void *arg, void (*emit)(void *e, const struct journal_rec *r), void *e), void *arg);
/* Appends; done (may be NULL) when the record is on disk (fdatasync), or with NOSPACE / IO: then nothing of it is relied on. */
typedef void journal_done(void *arg, enum err e);
void journal_append(struct journal *j, const struct journal_rec *r, journal_done *done, void *arg);
/* Appends without asking for an fdatasync: goes with the next group. */
void journal_append_lazy(struct journal *j, const struct journal_rec *r);
/* Does the last write or sync stand as failed? The proxy then refuses writes with 507 or 503 until one succeeds. */
enum err journal_state(const struct journal *j);
/* Writes what is queued, syncs, unlocks. Pending done callbacks do not run. Takes NULL, clears the pointer. */
void journal_close(struct journal **j);

#endif
