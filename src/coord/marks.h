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

/*
 * The disk's file as a write that went to R2 first found it: only that file may be replaced when the write is carried to the disk.
 * Anything else there is a later write. As text, without spaces: "-" (there was none) or "ino.size.mtime_ns.ctime_ns", with a "?" in
 * front if the write was never confirmed; "" for a mark of the disk's side.
 */
struct mark_base {
	bool known;		/* false: a mark of the disk's side, it has none */
	bool unconfirmed;	/* the write's outcome was never known: no event on the disk is older than it */
	bool exists;		/* false: there was no file */
	uint64_t ino, size;	/* of ino 63 bits count */
	int64_t mtime_ns, ctime_ns;
};
/* The longest text, with its NUL. */
#define MARK_BASE_MAX 88
const char *marks_base_text(const struct mark_base *b, char buf[MARK_BASE_MAX]);
/* false: malformed. */
bool marks_base_parse(const char *p, size_t n, struct mark_base *b);
bool marks_base_same(const struct mark_base *a, const struct mark_base *b);

/* A mark; in Redis as text "gen side op since_ms epoch[ base]" (side l|r, op p|d). */
struct mark {
	uint64_t gen;		/* unique, growing; 0: no mark */
	enum mark_side side;	/* of the write that was confirmed last */
	enum mark_op op;
	uint64_t since_ms;	/* when the key became dirty */
	uint64_t epoch;
	struct mark_base base;	/* side r2 */
};

/* What a write does: to the disk first, or to R2 first (then with what it found on the disk). */
struct mark_write {
	enum mark_op op;
	enum mark_side side;
	struct mark_base base;	/* side r2 */
};
#define MARK_DISK(o) ((struct mark_write){ .op = (o) })

/* Reads a mark's text form; false (and gen 0) if it is none. */
bool marks_parse(const char *p, size_t n, struct mark *m);

/* Every call below may be cancelled with cluster_cancel as long as its done has not run (a lease: with marks_lease_cancel); done runs
 * never inside the call. They fail with CONNECT, TIMEOUT, CLOSED, UNAVAIL, EPOCH: then it may have happened, or not.
 *
 * An open intent, told to Redis so that no one clears the key's mark meanwhile, and that it runs out if we die. deadline_ms:
 * from now. Told again, it lives longer. done may be NULL. */
typedef void marks_done(void *arg, enum err e);
struct cluster_call *marks_intent(struct cluster *c, uint64_t id, const char *key, size_t klen, struct mark_write w, uint64_t deadline_ms,
    marks_done *done, void *arg);
/* A migrator looks at a key that whoever marked it has not mirrored by then. */
#define MARKS_DUE_MS 5000
/* The outcome is known: a new gen, the mark is set, the intent (0: none) closed, the change published. due_ms: from now, after
 * which a migrator should look at it (0: at once). l: the key's lease, which the same script drops; NULL: none is held. LEASE_LOST: it
 * is not the caller's any more, nothing was set. */
struct lease;
typedef void marks_set_done(void *arg, enum err e, const struct mark *m);
struct cluster_call *marks_set(struct cluster *c, uint64_t intent, const char *key, size_t klen, struct mark_write w, uint64_t due_ms,
    const struct lease *l, marks_set_done *done, void *arg);
/* As marks_set, but the lease stays. */
struct cluster_call *marks_set_held(struct cluster *c, const char *key, size_t klen, struct mark_write w, uint64_t due_ms, const struct lease *l,
    marks_set_done *done, void *arg);
/* As marks_set, for an intent whose write's outcome nobody knows: a mark that stands keeps its side, and a tombstone stays one; a clean key
 * takes the intent's side. */
struct cluster_call *marks_set_unknown(struct cluster *c, uint64_t intent, const char *key, size_t klen, struct mark_write w,
    marks_set_done *done, void *arg);
/* The lease's holder has put R2's bytes on the disk: the mark of the gen that it saw gets that file as its base. LEASE_LOST: nothing changed. */
struct cluster_call *marks_rebase(struct cluster *c, const char *key, size_t klen, const struct lease *l, uint64_t seen_gen,
    const struct mark_base *b, marks_done *done, void *arg);
/* A census's tombstones, at most 250 at once. While the site is armed keys are passed over that were written to R2 first, or that somebody
 * works on; busy: how many were the latter. */
struct marks_key {
	const char *key;
	size_t klen;
	enum mark_side side;	/* whose the object is: MARK_LOCAL if it was made from a file */
};
struct cluster_call *marks_census(struct cluster *c, const struct marks_key *v, size_t n, void (*done)(void *arg, enum err e, uint64_t busy),
    void *arg);
/* The write certainly did not happen: closes the intent only. done may be NULL. */
struct cluster_call *marks_abandon(struct cluster *c, uint64_t intent, marks_done *done, void *arg);
/* Announce again after a new epoch or a lost Redis: set only where none with a higher gen stands. done gets the mark that stands. */
struct cluster_call *marks_announce(struct cluster *c, const char *key, size_t klen, const struct mark *m, marks_set_done *done, void *arg);
/* The mark of a key as Redis has it now: gen 0 if none. */
struct cluster_call *marks_get(struct cluster *c, const char *key, size_t klen, marks_set_done *done, void *arg);

struct lease {
	char token[33];
	uint64_t epoch;		/* in which it was given. In a later one no lease is given before it has ended */
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
/* R2 takes one write a second of a key, whoever sends it: asked before each. wait_ms 0: write, and nobody else does within interval_ms; else
 * nothing may be written before so long. */
struct cluster_call *marks_pace(struct cluster *c, const char *key, size_t klen, uint64_t interval_ms,
    void (*done)(void *arg, enum err e, uint64_t wait_ms), void *arg);
/* How many marks there are, the oldest's age, and to how many the disk is owed (side r2). */
struct cluster_call *marks_count(struct cluster *c, void (*done)(void *arg, enum err e, uint64_t n, uint64_t oldest_ms, uint64_t owed), void *arg);

#endif
