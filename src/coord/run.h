/*
 * run: the state of the backfill in Redis (keys.h, run-state, site, feeder), as everybody sees it: status, gates, migrators,
 * commands. Loop thread.
 */
#ifndef COORD_RUN_H
#define COORD_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "coord/cluster.h"
#include "coord/member.h"

enum run_state {
	RUN_IDLE,	/* never started */
	RUN_FEEDING,	/* the feeder walks */
	RUN_FED,	/* everything is queued: workers are at it */
	RUN_STOPPED,	/* by `backfill stop`; `start` goes on from the cursor */
	RUN_COMPLETE	/* nothing is left in the queue */
};
const char *run_state_name(enum run_state s);

/* Counters grow by HINCRBY from many processes. */
struct run {
	enum run_state state;
	uint64_t id;			/* its start, ms; a new one each start */
	uint64_t started_ms, finished_ms;
	char *cursor;			/* the last key that was fed, raw bytes; NULL: the beginning */
	size_t cursor_len;
	uint64_t files, bytes;		/* walked */
	uint64_t all;			/* 1: the listing is not believed about an object's headers */
	uint64_t queued;		/* keys put into batches */
	uint64_t skipped;		/* equal by the listing alone */
	uint64_t copied, copied_bytes, equal, deleted, failed;	/* done by workers */
	uint64_t unholdable, symlinks, specials, walk_errors;
	/* Site-wide notes. */
	uint64_t left_passthrough_ms, last_fallback_ms, census_due_ms, census_done_ms;
	uint64_t census_found, census_marked;	/* of the last census; found > marked: over migrator.max-delete */
	uint64_t armed_ms, committed_ms, last_disk_write_ms;	/* 0: not armed, the way back is open, there was none */
	uint64_t now_ms, quarantine_ms;		/* Redis's clock, and until when it gives no lease because it was new */
	char feeder[128];		/* "" if nobody feeds now */
	char *verify;			/* the last verify's report, JSON; NULL: none */
	struct members members;
	/* The proxies' phases by their heartbeats: members_low, members_high. */
	int phase_low, phase_high;
	/* The heartbeats themselves, JSON: proxies and migrators. */
	char **member_json, **worker_json;
	size_t nmember_json, nworkers;
};
void run_fini(struct run *r);
/* Reads it. r is valid during the callback. */
void run_get(struct cluster *c, void (*done)(void *arg, enum err e, const struct run *r), void *arg);
/* start: a new run, or on from the cursor of a stopped one; STATE if it runs already. all: ask R2 for the headers of every object, also
 * where the listing shows that the bytes are equal. stop: STATE if it does not. */
void run_start(struct cluster *c, bool all, void (*done)(void *arg, enum err e), void *arg);
void run_stop(struct cluster *c, void (*done)(void *arg, enum err e), void *arg);
/* The feeder's: everything is queued; nothing is left. STATE if the run has another id or was stopped meanwhile. */
void run_fed(struct cluster *c, uint64_t id, void (*done)(void *arg, enum err e), void *arg);
void run_complete(struct cluster *c, uint64_t id, void (*done)(void *arg, enum err e), void *arg);
/* Adds to a counter by its field name in the hash ("copied", ...): nobody waits. */
void run_count(struct cluster *c, const char *field, uint64_t n);
void run_cursor(struct cluster *c, const char *key, size_t klen);
/* Sets a field of the site's notes (KEYS_SITE_*). */
void run_note(struct cluster *c, const char *site_field, uint64_t value);
/* What the disk had first was carried to R2: noted if the site is armed (KEYS_SITE_LAST_DISK_WRITE). */
void run_disk_write(struct cluster *c);
/* Stores a verify's report. */
void run_verified(struct cluster *c, const char *json, void (*done)(void *arg, enum err e), void *arg);
/* For `phase set r2-primary`: arms the site if every proxy is in validate or above. since_ms 0: it is not armed, because of those named. */
void run_arm(struct cluster *c, void (*done)(void *arg, enum err e, uint64_t since_ms, const char *below), void *arg);
/* A person says that a proxy will never come back. NOTFOUND: it is no member; BUSY: it was heard within the last silent_ms, and not force. */
void run_forget(struct cluster *c, const char *id, bool force, uint64_t silent_ms, void (*done)(void *arg, enum err e), void *arg);
/* Becomes or stays the one feeder for ms (0: gives it up); ours: whether it is. */
void run_feeder(struct cluster *c, uint64_t ms, void (*done)(void *arg, bool ours), void *arg);

#endif
