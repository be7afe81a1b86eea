/*
 * verify: compares the disk with R2 and puts every path into exactly one class. A key that is being written meanwhile is looked
 * at again: it counts as different only if it differs in two passes with no mark on it.
 * Full: every file is digested and compared with the object's digest, size and metadata (HEAD), every object without a file is
 * named. Sample: n files chosen at random, the listing not walked (objects without a file are not looked for).
 */
#ifndef MIGRATE_VERIFY_H
#define MIGRATE_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/reconcile.h"

enum verify_class {
	VERIFY_EQUAL,
	VERIFY_MISSING,		/* a file without an object */
	VERIFY_EXTRA,		/* an object without a file */
	VERIFY_DIFFERENT,	/* other bytes */
	VERIFY_OWED,		/* R2 was written first, and its mark says that the disk is owed it */
	VERIFY_R2_NEWER,	/* R2 was written first: the disk still shows what that write found; but no mark says so */
	VERIFY_METADATA,	/* equal bytes, other mtime, type or cache header */
	VERIFY_UNHOLDABLE,	/* a name that R2 cannot hold: the disk serves it */
	VERIFY_UNREADABLE,	/* the file cannot be read */
	VERIFY_ERROR		/* R2 did not tell */
};
#define VERIFY_CLASSES 10
const char *verify_class_name(enum verify_class v);

struct verify_report {
	bool full, clean;	/* clean: all are EQUAL or UNHOLDABLE, and full: none EXTRA */
	uint64_t started_ms, ended_ms;
	uint64_t files, bytes, objects;
	uint64_t n[VERIFY_CLASSES];
};

struct verify_cb {
	void (*progress)(void *arg, uint64_t done, uint64_t bytes);	/* a few times a second */
	void (*finding)(void *arg, enum verify_class v, const char *key, size_t klen, const char *why);	/* all but EQUAL */
	void (*done)(void *arg, enum err e, const struct verify_report *r, const char *why);
};

struct verify;
/* sample 0: full. concurrency: keys at once. The report is stored in Redis when it is done (struct run has it).
 * Free with verify_cancel, also after done. */
struct verify *verify_start(const struct reconcile_env *env, uint64_t sample, unsigned concurrency, const struct verify_cb *cb, void *arg);
void verify_cancel(struct verify **v);
/* The report that run_get gives (struct run, verify); false: there was none, or it is not understood. */
bool verify_report_parse(const char *json, struct verify_report *r);

#endif
