/* sides: a key's two sides, for the tests of what makes them equal: a media folder and a store in memory, on the ground of a real Redis. */
#ifndef UNIT_SIDES_H
#define UNIT_SIDES_H

#include "fakestore.h"
#include "ground.h"

#include "sync/reconcile.h"

enum { LIMIT = 300 };

extern struct sides {
	struct pool *pool;
	struct local *local;
	struct fakestore fake;
	struct conf_prefix prefix;	/* the only one, /media/ */
	struct conf conf;
	struct cluster *cluster;
	struct reconcile_env env;
	char root[64];

	struct reconcile *r;		/* sides_start's */
	bool done;			/* ... has ended, with this */
	struct reconcile_report rep;
} sides;

/* All but the cluster; name: of the folder. */
void sides_setup(const char *name);
void sides_teardown(void);
/* This process joins the site; cb may be NULL. Who calls it waits for cluster_up. */
void sides_join(const char *role, const char *id, const struct cluster_cb *cb);

void sides_write(const char *key, const char *text);
/* Has R2 this; NULL: no object? */
bool sides_object_is(const char *key, const char *text);
/* Sets a mark in Redis; its gen. */
uint64_t sides_mark(const char *key, struct mark_write w);
/* ... without waiting for it. */
void sides_mark_soon(const char *key, struct mark_write w);
struct mark sides_mark_now(const char *key);
enum err sides_lease(const char *key, struct lease *l);
/* Does anybody hold any lease? */
bool sides_leased(void);

void sides_start(const char *key, const struct reconcile_hint *hint);
/* Starts and waits for the end. */
enum reconcile_result sides_go(const char *key);

#endif
