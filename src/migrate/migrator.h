/*
 * migrator: one worker process. Takes live keys and batches, reconciles them; one migrator at a time also feeds: it merges the
 * walk with R2's listing, queues what may differ (back pressure by migrator.queue-max), and takes the census: objects
 * without a file, found twice, bound by migrator.max-delete. SIGTERM ends it cleanly (work in hand is finished or given back);
 * SIGKILL loses nothing: others claim it.
 */
#ifndef MIGRATE_MIGRATOR_H
#define MIGRATE_MIGRATOR_H

#include "base/conf.h"
#include "io/loop.h"
#include "sync/reconcile.h"

struct migrator;

/* name: its consumer name, unique among the site's migrators. env->cluster must be the migrator's own. */
struct migrator *migrator_new(const struct reconcile_env *env, const char *name);
void migrator_up(struct migrator *m);
void migrator_down(struct migrator *m);
/* Finishes what is in hand, leaves; then stopped(arg). */
void migrator_stop(struct migrator *m, void (*stopped)(void *arg), void *arg);
void migrator_free(struct migrator **m);

#endif
