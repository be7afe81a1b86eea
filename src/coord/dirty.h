/*
 * dirty: a proxy's own knowledge of dirty keys: its open intents, its marks, and a copy of everybody else's, fed from the
 * changes stream and never emptied by the loss of Redis. It stands on the journal and on marks: what it acknowledges is
 * durable in the journal, whether or not Redis is there.
 *
 * Life of a write on a known key:   dirty_intent -> (upstream) -> dirty_confirm or dirty_abandon -> ... cleared.
 * Keys learnt from the watcher:     dirty_notice -> (look) -> dirty_confirm or dirty_abandon; under a lease dirty_mark.
 * Loop thread only.
 */
#ifndef COORD_DIRTY_H
#define COORD_DIRTY_H

#include "coord/cluster.h"
#include "coord/journal.h"
#include "coord/marks.h"

struct dirty;

/* Neither runs inside a call of ours. */
struct dirty_cb {
	/* A key's mark was cleared, by us or by anyone. */
	void (*cleared)(void *arg, const char *key, size_t klen, uint64_t gen);
	/* At start and after a new epoch: a mark of ours that wants mirroring. */
	void (*owed)(void *arg, const char *key, size_t klen);
};

/* Opens the journal in dir and replays it: open intents of the last life become marks (outcome unknown). */
enum err dirty_open(struct dirty **d, struct loop *l, const struct conf *c, const struct dirty_cb *cb, void *arg, struct errbuf *eb) ERR_MUST_CHECK;
/* Binds it to Redis: from now on marks are announced and the changes stream is read. Call after cluster_new; on cluster up call
 * dirty_up(fresh). */
void dirty_bind(struct dirty *d, struct cluster *c);
void dirty_up(struct dirty *d, bool fresh);
void dirty_down(struct dirty *d);
/* Before cluster_free. */
void dirty_close(struct dirty **d);

/* What is known of a key now. false: clean. A key with an open intent is dirty, on the side that the write goes to. */
bool dirty_get(const struct dirty *d, const char *key, size_t klen, struct mark *m);
/* Is our copy possibly behind: Redis is away, or the changes stream has not been read up? Reads are then cautious: disk first. */
bool dirty_uncertain(const struct dirty *d);
size_t dirty_count(const struct dirty *d);
/* To how many keys, as far as we know, is the disk owed R2's bytes (marks of side r2)? */
size_t dirty_owed(const struct dirty *d);
/* Calls each for every mark of side r2, in no order. */
void dirty_each_owed(const struct dirty *d, void (*each)(void *arg, const char *key, size_t klen, const struct mark *m), void *arg);
/* How many marks are in our own journal? */
size_t dirty_own(const struct dirty *d);
size_t dirty_open_intents(const struct dirty *d);
enum err dirty_journal_state(const struct dirty *d);

struct dirty_intent;	/* one write in progress */
typedef void dirty_done(void *arg, enum err e);
/* Journal first: done(OK) = on disk, the write may be forwarded; NOSPACE/IO: it may not. key NULL: an upload whose keys the app
 * chooses. The handle is valid at once; confirm or abandon it exactly once, also after an error. */
struct dirty_intent *dirty_intent(struct dirty *d, const char *key, size_t klen, struct mark_write w, dirty_done *done, void *arg);
/* A write that has happened unseen (watcher, hint) is about to be looked at: its record goes to the journal while the look makes last what
 * the write has left, and dirty_confirm then waits for both at once. op: what it is said to have been. Nobody else is told, and the key does
 * not count as dirty yet. The handle is an intent's. */
struct dirty_intent *dirty_notice(struct dirty *d, const char *key, size_t klen, enum mark_op op);
/* The write ended. The own copy moves now; done runs when the journal says so on disk (the intent's record may be enough), and with a lease
 * when Redis has it, too. done may be NULL. For key NULL: just closes it. l: the key's lease, which Redis drops with the mark's setting; NULL: none is held. */
void dirty_confirm(struct dirty *d, struct dirty_intent **i, struct mark_write w, const struct lease *l, dirty_done *done, void *arg);
/* Nobody knows whether the write happened: a mark that stands keeps its side, a clean key is looked at from the intent's. done as above. */
void dirty_unknown(struct dirty *d, struct dirty_intent **i, dirty_done *done, void *arg);
/* The write certainly did not happen: nothing was forwarded. */
void dirty_abandon(struct dirty *d, struct dirty_intent **i);
/* A write that was learnt of after the fact and has been looked at: journal MARK with fdatasync, then Redis. done as above. */
void dirty_mark(struct dirty *d, const char *key, size_t klen, enum mark_op op, const struct lease *l, dirty_done *done, void *arg);
/* reconcile has made the sides equal at gen: moves the own copy at once (the changes stream will say it again). */
void dirty_cleared(struct dirty *d, const char *key, size_t klen, uint64_t gen);

/* The watcher's clean point: everything that happened before time_ms was seen and marked. */
void dirty_set_clean(struct dirty *d, uint64_t time_ms);
uint64_t dirty_clean(const struct dirty *d);	/* 0: never */
/* The last phase and epoch that this proxy was in, from the journal; -1: none. */
int dirty_last_phase(const struct dirty *d);
/* How long a write that was made under a lease waits until Redis knows of it (coord.write-wait); then done gets TIMEOUT. */
void dirty_set_write_wait(struct dirty *d, uint64_t ms);
/* Has this proxy acknowledged that the site is armed? By the journal, so that it is known without Redis. done: it is on disk. */
bool dirty_armed(const struct dirty *d);
void dirty_set_armed(struct dirty *d, bool armed, dirty_done *done, void *arg);
void dirty_set_phase(struct dirty *d, int phase);

#endif
