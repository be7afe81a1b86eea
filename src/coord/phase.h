/*
 * phase: the table phases.def as data. Pure.
 */
#ifndef COORD_PHASE_H
#define COORD_PHASE_H

#include <stdbool.h>
#include <stddef.h>

enum phase {
#define PHASE(id, name, read, miss, mirror, backfill, r2_first, text) PHASE_##id,
#include "phases.def"
#undef PHASE
	PHASE_COUNT
};
enum phase_read { PHASE_FROM_UPSTREAM, PHASE_FROM_LOCAL, PHASE_FROM_CANARY, PHASE_FROM_R2 };
enum phase_miss { PHASE_MISS_NONE, PHASE_MISS_ERRORS, PHASE_MISS_FALLBACK, PHASE_MISS_VIOLATION };

struct phase_row {
	const char *name;
	enum phase_read read;
	enum phase_miss miss;
	bool mirror, backfill, r2_first;
	const char *text;
};
const struct phase_row *phase_row(enum phase p);
/* -1: no such phase. The same order as options.def's enum; a unit test holds them together. */
int phase_by_name(const char *name);
/* Is the key among the `percent` of keys that read from R2? A stable hash of the key: a key does not flap. */
bool phase_canary(const char *key, size_t klen, unsigned percent);

#endif
