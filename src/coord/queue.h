/*
 * queue: the two work streams with their consumer group. `live` has one entry per dirty key that is due; `backfill` has
 * batches. Entries are hints to look, never orders. Taken entries are kept alive by queue_touch; entries of dead workers are
 * claimed after lease + request limit. ACK and DEL in one script; never MAXLEN on work.
 *
 * A batch's payload is documented here, so that other programs can push work: JSON, {"v":1,"keys":[{"k":base64 key,"e":etag or "",
 * "s":size,"m":last modified ms}, ...]} : e, s, m are what R2's listing said; e "" means that R2 has nothing under this key.
 * A live entry has the field k: the raw key.
 */
#ifndef COORD_QUEUE_H
#define COORD_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "coord/cluster.h"

enum queue_kind { QUEUE_LIVE, QUEUE_BACKFILL };

struct queue;
struct queue_item {
	enum queue_kind kind;
	char id[48];
	unsigned deliveries;	/* how often it was handed out */
	const char *data;	/* the key, or the batch's JSON; valid until queue_done/queue_release */
	size_t len;
};

struct queue_cb {
	/* Work. Up to `want` items are outstanding at a time. End each with queue_done. */
	void (*item)(void *arg, struct queue_item *it);
};

/* A consumer: live before backfill; want: how many items may be out at once; backfill: take batches too (else live only). Polls with short
 * blocking reads on a connection of its own; moves due keys into live; claims the items of the dead. */
struct queue *queue_new(struct loop *l, struct cluster *c, const struct conf *conf, const char *consumer, unsigned want_live,
    unsigned want_backfill, const struct queue_cb *cb, void *arg);
/* Takes no more (for a clean end); items out may still be ended. */
void queue_stop(struct queue *q);
unsigned queue_out(const struct queue *q);
/* Unended items stay pending: they are claimed by others. */
void queue_free(struct queue **q);
/* The work of an item is done (or has found another home): ack + delete. Frees it. done may be NULL. */
void queue_done(struct queue *q, struct queue_item **it, void (*done)(void *arg, enum err e), void *arg);
/* Gives it back at once for others (a clean end in the middle). Frees it. */
void queue_release(struct queue *q, struct queue_item **it);

/* A key failed. After migrator.attempts failures it becomes a dead letter (with why), else it is due again after a backoff. done(dead). */
void queue_fail(struct cluster *c, const struct conf *conf, const char *key, size_t klen, const char *why, void (*done)(void *arg, enum err e, bool dead), void *arg);
/* Whoever worked on the key died of it, again and again: it becomes a dead letter at once. done(dead). */
void queue_poison(struct cluster *c, const char *key, size_t klen, const char *why, void (*done)(void *arg, enum err e, bool dead), void *arg);
/* Puts a key into live now (promote, hint): no mark is set. */
void queue_hint(struct cluster *c, const char *key, size_t klen);
/* The feeder: adds a batch. */
void queue_add_batch(struct cluster *c, const char *json, size_t len, void (*done)(void *arg, enum err e), void *arg);

struct queue_depth {
	uint64_t live, live_pending, backfill, backfill_pending, dead, due;
};
void queue_depth(struct cluster *c, void (*done)(void *arg, enum err e, const struct queue_depth *d), void *arg);
/* Dead letters: each (key, JSON). */
void queue_dead(struct cluster *c, void (*each)(void *arg, const char *key, size_t klen, const char *json), void (*done)(void *arg, enum err e), void *arg);
/* All dead letters are due again. */
void queue_dead_retry(struct cluster *c, void (*done)(void *arg, enum err e, uint64_t n), void *arg);

#endif
