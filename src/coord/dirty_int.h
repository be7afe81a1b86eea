/*
 * dirty_int: what dirty's files share. dirty.c: the table, intents. dirty_journal.c: what the journal keeps of them, and its replay.
 * dirty_wait.c: who waits for the end of a write. dirty_announce.c: telling Redis. dirty_follow.c: the copy of everybody else's marks.
 */
#ifndef COORD_DIRTY_INT_H
#define COORD_DIRTY_INT_H

#include "base/list.h"
#include "base/map.h"
#include "coord/dirty.h"

/* One key of which something is known. */
struct dirty_entry {
	struct list todo;	/* in dirty.todo: Redis is to be told */
	struct mark m;		/* gen 0: no mark, only open intents */
	bool own;		/* the journal holds its mark */
	bool untold;		/* a write of ours that Redis does not know of: m.gen is our own clock's */
	bool again;		/* Redis knew of it, in another epoch */
	bool unknown;		/* nobody knows whether its write happened */
	bool leased;		/* made under the key's lease: its gen is above all that stood then, and orders it among others' */
	bool owed;		/* tell the owner once Redis knows of it */
	uint64_t writes;	/* of ours, counted */
	unsigned calls;		/* on their way to Redis; m.gen and a clearing are settled by the last answer */
	unsigned open;		/* intents */
	unsigned notices;	/* of writes that are being looked at: the entry stays for them */
	struct mark_write open_write;	/* of the last one */
	uint64_t cleared;	/* highest gen that was cleared while calls or untold stood */
	uint64_t round;		/* of the last scan that saw it */
	size_t klen;
	char key[];
};

struct wait;

struct dirty_intent {
	struct list node;
	struct dirty *d;
	struct dirty_entry *e;	/* NULL: an upload whose keys the app chooses */
	uint64_t id;
	bool notice;		/* the write has happened: nobody but the journal is told */
	struct mark_write w;
	dirty_done *done;
	void *arg;
	struct wait *heir;	/* the mark that rests upon the record, and waits for it */
	bool writing;		/* its record is on its way to the disk */
	bool durable;		/* ... and is there */
	bool ended;		/* the owner has gone, only the journal's answer is waited for */
};

enum dirty_follow {
	DIRTY_AWAY,		/* not following: Redis is away, or does not know yet what we know */
	DIRTY_SCANNING,		/* reading the whole of the marks */
	DIRTY_READING		/* reading the changes */
};

struct dirty {
	struct loop *loop;
	struct dirty_cb cb;
	void *arg;
	struct journal *journal;
	struct map *entries, *replayed;
	struct list intents, waits;
	size_t open, owed;	/* intents; marks of side r2 */
	uint64_t next_id, last_gen, clean_ms, epoch;
	int phase;
	bool armed;
	uint64_t deadline_ms, write_wait_ms;
	struct loop_timer renew;

	struct list events;	/* for the owner, told by tell */
	struct loop_call tell;

	struct cluster *cluster;
	bool up;
	struct list todo, tellings;
	unsigned calls;		/* announcements on their way */
	struct loop_timer retry;
	uint64_t *closing;	/* intents that are over and that Redis may still hold open */
	size_t nclosing, closing_cap;

	struct rds *stream;
	struct rds_call *call;
	enum dirty_follow follow;
	bool stream_up;
	bool synced;		/* the copy was complete at changes' id `seq` */
	bool caught_up;		/* the last read left nothing */
	uint64_t seq, scan_seq, round;
	struct str cursor;
	struct loop_timer follow_again;
};

struct dirty_entry *dirty_entry(struct dirty *d, const char *key, size_t klen);
/* Every change of its mark comes here: what the disk is owed is counted. */
void dirty_entry_mark(struct dirty *d, struct dirty_entry *e, const struct mark *m);
/* Frees it if nothing is known of it any more. */
void dirty_entry_drop(struct dirty *d, struct dirty_entry *e);
/* A write of ours of which nobody knows whether it happened: what was confirmed before keeps its side. */
void dirty_entry_moved_unknown(struct dirty *d, struct dirty_entry *e, struct mark_write w);
uint64_t dirty_next_gen(struct dirty *d);
void dirty_saw_gen(struct dirty *d, uint64_t gen);
/* The mark was cleared in Redis at gen. */
void dirty_entry_cleared(struct dirty *d, struct dirty_entry *e, uint64_t gen);
void dirty_event_owed(struct dirty *d, const struct dirty_entry *e);

/* Opens the journal: what the last life left is in the table, and Redis is to be told of it. Fails like journal_open. */
enum err dirty_journal_open(struct dirty *d, const char *dir, struct errbuf *eb) ERR_MUST_CHECK;
void dirty_journal_intent(struct dirty *d, const struct dirty_intent *i, journal_done *done, void *arg);
/* The entry's mark; id: of the intent that it ends, or 0. */
void dirty_journal_mark(struct dirty *d, const struct dirty_entry *e, uint64_t id, journal_done *done, void *arg);
void dirty_journal_mark_lazy(struct dirty *d, const struct dirty_entry *e, uint64_t id);
/* Of d->phase and d->epoch. */
void dirty_journal_phase(struct dirty *d);

void dirty_wait_init(struct dirty *d);
void dirty_wait_fini(struct dirty *d);
/* The entry has moved, and its intent (NULL: none) is over, but not ended yet: tells the journal and Redis. covers: the intent's record, on
 * disk or on its way, says as much. done (may be NULL) runs when nothing is to be waited for any more, in a turn of its own: OK, or why the
 * write cannot be acknowledged. */
void dirty_wait(struct dirty *d, struct dirty_entry *e, struct dirty_intent *i, const struct lease *l, bool covers, dirty_done *done, void *arg);
/* The record that it has waited for is on disk, or will not be. */
void dirty_wait_written(struct wait *w, enum err e);
/* There is nothing to wait for: done runs in a turn of its own. */
void dirty_wait_none(struct dirty *d, dirty_done *done, void *arg);
/* Redis knows of the entry's writes: who waits for that goes on. */
void dirty_wait_told(struct dirty *d, const struct dirty_entry *e);

void dirty_announce_init(struct dirty *d);
void dirty_announce_fini(struct dirty *d);
/* Tells Redis of a write at once; closes the intent (0: none). done (may be NULL) runs when it has answered, or will not: OK, or why. */
void dirty_tell(struct dirty *d, struct dirty_entry *e, uint64_t intent, const struct lease *l, dirty_done *done, void *arg);
void dirty_announce_later(struct dirty *d, struct dirty_entry *e);
void dirty_announce(struct dirty *d);
void dirty_close_later(struct dirty *d, uint64_t intent);

void dirty_follow_init(struct dirty *d);
void dirty_follow_bind(struct dirty *d);
/* All is announced: follow the changes, after a look at all marks if the copy is not complete. */
void dirty_follow_start(struct dirty *d);
void dirty_follow_stop(struct dirty *d);
void dirty_follow_fini(struct dirty *d);

#endif
