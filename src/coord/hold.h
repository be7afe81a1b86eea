/*
 * hold: a key's lease while somebody works on the key: taken, renewed, and given up in time. Its owner is told when it is lost, so
 * early that nothing of the owner's may be on the wire when Redis gives the key to another. Used by reconcile and by writers of a
 * site that is armed. Loop thread.
 *
 *   hold_new -> got(OK) -> ... -> hold_drop | hold_park | hold_spent
 *            -> got(error): nothing is held; free it with hold_drop
 */
#ifndef COORD_HOLD_H
#define COORD_HOLD_H

#include "coord/marks.h"

struct hold;

struct hold_cb {
	/* Once. OK: it is held from now on. BUSY, QUARANTINE, EPOCH, CONNECT, TIMEOUT: it could not be had, not within patience_ms either. */
	void (*got)(void *arg, enum err e, const struct lease *l);
	/* It ends: stop everything at once, then hold_drop or hold_park. LEASE_LOST. At most once, after got(OK). A new epoch does not end it: its
	 * quarantine outlasts every lease of the old one, which only cannot be renewed any more. */
	void (*lost)(void *arg, enum err e);
};

/* The key is copied. patience_ms: for so long it is asked for again; 0: one try. alone: not while a write of somebody's is open on the key
 * (a writer that died: its intent runs out); BUSY then. Callbacks never run inside the call, and may end the hold. */
struct hold *hold_new(struct cluster *c, const char *key, size_t klen, uint64_t patience_ms, bool alone, const struct hold_cb *cb, void *arg);
/* Is it held, and has it not been lost? */
bool hold_held(const struct hold *h);
/* Valid after got(OK), also when it is lost: Redis then refuses it. */
const struct lease *hold_lease(const struct hold *h);
/* No renewal from here on: a script that drops the lease is on its way, and the owner waits for its answer. The deadline stands. */
void hold_last(struct hold *h);
/* Gives it back; a lease that is still being asked for is dropped when it comes. Takes NULL, clears the pointer. */
void hold_drop(struct hold **h);
/* Stops holding it, but a request of the owner's may still be on the wire: nobody gets the key before the request limit has passed. */
void hold_park(struct hold **h);
/* A script has dropped it (marks_finish, marks_set), or somebody else has it. */
void hold_spent(struct hold **h);

#endif
