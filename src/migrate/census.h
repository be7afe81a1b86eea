/*
 * census: the evidence for deletes that nobody saw. Collects objects that a whole listing showed without a file, looks at each a
 * second time at least two seconds later, and marks those that still have none, and no put mark that is younger, as deleted,
 * unless there are more than migrator.max-delete. Loop thread.
 */
#ifndef MIGRATE_CENSUS_H
#define MIGRATE_CENSUS_H

#include <stddef.h>
#include <stdint.h>

#include "sync/reconcile.h"

struct census;

struct census *census_new(const struct reconcile_env *env);
void census_candidate(struct census *c, const char *key, size_t klen);
/* found: objects without a file in both looks; marked: as many, or 0 if that is too many. why not empty with OK: some were written too
 * short a time ago to be judged, another census is due. */
typedef void census_done(void *arg, enum err e, uint64_t found, uint64_t marked, const char *why);
void census_finish(struct census *c, census_done *done, void *arg);
void census_free(struct census **c);

#endif
