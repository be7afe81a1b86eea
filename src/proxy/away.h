/*
 * away: directories that were renamed, or moved out of the media root. Nobody tells which files were below that are not below the new
 * name; R2 knows what it has there, so it is asked for each such prefix, and each key that it lists is noticed: the look at the disk is the evidence, as for every notice. The
 * census, which is due after a move as well, makes it true should we die meanwhile. Loop thread.
 */
#ifndef PROXY_AWAY_H
#define PROXY_AWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/reconcile.h"

struct away;

struct away_cb {
	void (*noticed)(void *arg, const char *key, size_t klen);
	bool (*room)(void *arg);
	/* A prefix is listed to its end, or R2 did not answer for the first time. */
	void (*progress)(void *arg);
};

struct away *away_new(const struct reconcile_env *env, const struct away_cb *cb, void *arg);
void away_set_env(struct away *a, const struct reconcile_env *env);
/* prefix: "a/b/". seq: of the watcher, for away_waits; 0: nobody waits. */
void away_add(struct away *a, const char *prefix, size_t len, uint64_t seq);
/* Is a prefix younger than seq not listed yet, with no failure so far? */
bool away_waits(const struct away *a, uint64_t seq);
/* There is room again. */
void away_resume(struct away *a);
void away_free(struct away **a);

#endif
