/*
 * cluster_int: what cluster's files share. cluster.c: the connection, the hello, the epoch. cluster_call.c: scripts. cluster_inspect.c:
 * what Redis says of itself. cluster_beat.c: what is said and heard with the heartbeats.
 */
#ifndef COORD_CLUSTER_INT_H
#define COORD_CLUSTER_INT_H

#include "base/list.h"
#include "coord/cluster.h"

enum cluster_state {
	CLUSTER_DOWN,		/* no connection */
	CLUSTER_HELLO,		/* connected; asking what Redis is and which epoch it has */
	CLUSTER_REFUSED,	/* connected, but not usable: `why` says it; asked again by and by */
	CLUSTER_UP
};

struct cluster {
	struct loop *loop;
	struct rds *rds;
	struct cluster_cb cb;
	void *arg;
	char *site, *role, *id, *address, *user, *password;
	int db;
	uint64_t timeout_ms, lease_ms, limit_ms;
	bool allow_unsafe, warned;

	enum cluster_state state;
	struct errbuf why;
	uint64_t epoch, told;		/* now, and the last one that up() was called with */
	uint64_t known_epoch, known_gen;
	char run_id[48];
	struct loop_timer again;
	struct loop_call lost;		/* a script found another epoch */
	struct list calls, inspects;

	struct loop_timer beat;
	struct cluster_call *beating;
	uint64_t beaten_ms;		/* when Redis last took one, by the monotonic clock; 0: never */
	enum cluster_armed armed;	/* by Redis's last word */
	uint64_t armed_ms, committed;
	struct members members;
	char *json;
	bool must_announce, announced, left;
};

/* The names as keys, in buf, that the caller frees after use; the array, too. */
struct rds_arg *cluster_keys(const struct cluster *c, const char *const *names, size_t n, struct str *buf);
/* Ends all calls; no callback runs. */
void cluster_call_fini(struct cluster *c);

/* Asks Redis what it is. done(c, OK): it loses nothing that it is told. STATE: it may, and why says how. Or it does not answer. */
void cluster_inspect(struct cluster *c, void (*done)(struct cluster *c, enum err e, const char *why, const char *run_id));
/* After the connection's end. */
void cluster_inspect_fini(struct cluster *c);

void cluster_beat_init(struct cluster *c);
void cluster_beat_fini(struct cluster *c);
/* What the scripts' armed() and committed_ms() say. */
void cluster_beat_site(struct cluster *c, const struct redisReply *armed, const struct redisReply *committed);

#endif
