/*
 * marks: dirty marks and leases in Redis, by scripts (lua/). A mark says "the two sides of this key may differ". Leases give
 * the exclusive right to touch a key: bound to the epoch, ended by the holder itself on the monotonic clock, given to another
 * only after lease + request limit (quarantine), because a dead holder's request may still be on the wire.
 */
#ifndef COORD_MARKS_H
#define COORD_MARKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "coord/cluster.h"

enum mark_op { MARK_PUT, MARK_DELETE };
enum mark_side { MARK_LOCAL, MARK_R2 };

/* A mark; in Redis as text "gen side op since_ms epoch" (side l|r, op p|d). */
struct mark {
	uint64_t gen;		/* unique, growing; 0: no mark */
	enum mark_side side;	/* of the write that was confirmed last */
	enum mark_op op;
	uint64_t since_ms;	/* when the key became dirty */
	uint64_t epoch;
};

/* Reads a mark's text form; false (and gen 0) if it is none. */
bool marks_parse(const char *p, size_t n, struct mark *m);

/* Every call below may be cancelled with cluster_cancel as long as its done has not run (a lease: with marks_lease_cancel); done runs
 * never inside the call. They fail with CONNECT, TIMEOUT, CLOSED, UNAVAIL, EPOCH: then it may have happened, or not.
 *
 * An open intent, told to Redis so that no one clears the key's mark meanwhile, and that it runs out if we die. deadline_ms:
 * from now. Told again, it lives longer. done may be NULL. */
typedef void marks_done(void *arg, enum err e);
struct cluster_call *marks_intent(struct cluster *c, uint64_t id, const char *key, size_t klen, enum mark_op op, uint64_t deadline_ms,
    marks_done *done, void *arg);
/* The outcome is known: a new gen, the mark is set, the intent (0: none) closed, the change published. due_ms: from now, after
 * which a migrator should look at it (0: at once). */
typedef void marks_set_done(void *arg, enum err e, const struct mark *m);
struct cluster_call *marks_set(struct cluster *c, uint64_t intent, const char *key, size_t klen, enum mark_op op, uint64_t due_ms, marks_set_done *done, void *arg);
/* As marks_set, for an intent whose write's outcome nobody knows: a put lets a tombstone that stands be one. */
struct cluster_call *marks_set_unknown(struct cluster *c, uint64_t intent, const char *key, size_t klen, enum mark_op op, marks_set_done *done,
    void *arg);
/* Many at once without intents (a census, a rescan). At most 500 keys. */
struct marks_key {
	const char *key;
	size_t klen;
	enum mark_op op;
};
struct cluster_call *marks_set_many(struct cluster *c, const struct marks_key *v, size_t n, uint64_t due_ms, void (*done)(void *arg, enum err e), void *arg);
/* The write certainly did not happen: closes the intent only. done may be NULL. */
struct cluster_call *marks_abandon(struct cluster *c, uint64_t intent, marks_done *done, void *arg);
/* Announce again after a new epoch or a lost Redis: set only where none with a higher gen stands. done gets the mark that stands. */
struct cluster_call *marks_announce(struct cluster *c, const char *key, size_t klen, const struct mark *m, marks_set_done *done, void *arg);
/* The mark of a key as Redis has it now: gen 0 if none. */
struct cluster_call *marks_get(struct cluster *c, const char *key, size_t klen, marks_set_done *done, void *arg);

struct lease {
	char token[33];
	uint64_t until_mono_ms;	/* the holder stops here: well before it expires in Redis */
	bool takeover;		/* its last holder did not drop it: look for unfinished uploads first */
	struct mark seen;	/* the mark that stood when it was taken; gen 0: none */
	bool open;		/* a write on the key is open */
};
/* BUSY: held, or in its quarantine. QUARANTINE: site-wide. CONNECT/TIMEOUT: no Redis, no lease. */
typedef void marks_lease_done(void *arg, enum err e, const struct lease *l);
struct cluster_call *marks_lease(struct cluster *c, const char *key, size_t klen, marks_lease_done *done, void *arg);
/* done will not run; a lease that is given none the less is dropped. */
void marks_lease_cancel(struct cluster_call **call);
/* Prolongs a held lease by its full length; LEASE_LOST if it is not ours any more. done gets no struct: *l is updated by the caller
 * with marks_lease_until(). */
struct cluster_call *marks_renew(struct cluster *c, const char *key, size_t klen, const struct lease *l, marks_done *done, void *arg);
/* The monotonic time at which a lease asked for now must be given up. */
uint64_t marks_lease_until(const struct cluster *c);
/* In one script: the mark is cleared if its gen is seen_gen (0: nothing to clear) and no write on the key is open; attempts are
 * forgotten; the lease is dropped; the clearing is published. cleared false: the key is still dirty. */
struct cluster_call *marks_finish(struct cluster *c, const char *key, size_t klen, const struct lease *l, uint64_t seen_gen,
    void (*done)(void *arg, enum err e, bool cleared), void *arg);
/* Drops the lease, leaves the mark. done may be NULL. */
struct cluster_call *marks_drop(struct cluster *c, const char *key, size_t klen, const struct lease *l, marks_done *done, void *arg);
/* Stops holding it, but a request of ours may still be on the wire: nobody gets it before the request limit has passed. */
struct cluster_call *marks_park(struct cluster *c, const char *key, size_t klen, const struct lease *l);
/* How many marks there are, and the oldest's age. */
struct cluster_call *marks_count(struct cluster *c, void (*done)(void *arg, enum err e, uint64_t n, uint64_t oldest_ms), void *arg);

#endif
