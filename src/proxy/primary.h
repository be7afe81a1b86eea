/*
 * primary: writes that go to R2 first (phase r2-primary): PUT and DELETE on media URLs. For each, in this order and under the key's
 * lease: look at the disk (what nobody has noticed there is marked first), the intent to the journal, the request to R2, the mark
 * "the disk is owed", which names the disk's file as it was found. Then the answer may go. The mirror carries it to the disk.
 *
 * Writes of one key run one after the other, and no two PUTs of a key within its pace (R2 takes one a second). Those that wait
 * meanwhile are one: the newest is carried out, and answers for all that it overtook. A PUT that must create never is.
 *
 * Owned by the writer. Loop thread only; files are looked at on the pool.
 */
#ifndef PROXY_PRIMARY_H
#define PROXY_PRIMARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coord/dirty.h"
#include "proxy/mirror.h"
#include "sync/reconcile.h"

/* A body on the disk, without a name: it goes with the descriptor. */
struct spool {
	int fd;			/* -1: none */
	uint64_t size;
	uint8_t md5[16], sha256[32];
};

struct primary;
struct primary_deps {
	const struct reconcile_env *env;
	struct dirty *dirty;
	struct mirror *mirror;
	/* Reads the watcher's queue dry, so that what happens to a file after the look is an event of its own: one with a higher number. */
	uint64_t (*drain)(void *arg);
	void *arg;
};

struct primary *primary_new(const struct primary_deps *d);
void primary_set_env(struct primary *p, const struct reconcile_env *env);
/* Before dirty_close and mirror_free. What is on the wire is cut: its outcome is unknown, the journal has its intent. No done runs. */
void primary_free(struct primary **p);
/* Writes that are not ended. */
size_t primary_count(const struct primary *p);

/* What became of it at R2. */
enum primary_fate {
	PRIMARY_NOT_SENT,	/* R2 was not asked */
	PRIMARY_REFUSED,	/* R2 has certainly not done it */
	PRIMARY_UNKNOWN,	/* R2 may have done it, or may still do it */
	PRIMARY_TAKEN		/* R2 has done it */
};

/* OK: R2 has it and the mark is durable; created says whether there was none before. NOTFOUND: a DELETE of nothing. PRECOND: it must
 * create, and there is one. Else, NOT_SENT: BUSY, UNAVAIL: the lease could not be had in time; all else, NOSPACE too, is the disk's word,
 * the site's or the journal's. REFUSED, UNKNOWN: R2's word, or none. TAKEN: why the mark could not be made durable. */
typedef void primary_done(void *arg, enum err e, enum primary_fate fate, bool created);
/* Takes the spool over (PUT). create: only if there is none. done may be NULL; primary_forget: it will not run. */
struct primary_op;
struct primary_op *primary_put(struct primary *p, const char *key, size_t klen, struct spool *body, bool create, primary_done *done, void *arg);
struct primary_op *primary_delete(struct primary *p, const char *key, size_t klen, primary_done *done, void *arg);
/* The client is gone: the write goes on. */
void primary_forget(struct primary_op **op);

#endif
