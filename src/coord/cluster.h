/*
 * cluster: a process's tie to the site's Redis: the command connection, the epoch, heartbeats, the list of members.
 *
 * At each connect it runs the hello script: a missing epoch, or one made under another run_id, means that Redis is new,
 * emptied or restarted: the epoch grows and a site-wide quarantine of lease + request limit begins, in which no lease is
 * given. Every script carries the epoch and fails with ERR_EPOCH if it differs; the cluster then says hello again.
 * Redis must say noeviction and persist (appendonly or save), or the hello fails (redis.allow-unsafe overrides).
 */
#ifndef COORD_CLUSTER_H
#define COORD_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/str.h"
#include "coord/member.h"
#include "io/loop.h"
#include "io/rds.h"

struct cluster;

struct cluster_cb {
	/* Hello said: usable. fresh: the epoch is a new one: announce again every mark and open intent you know of. */
	void (*up)(void *arg, bool fresh);
	void (*down)(void *arg);
	/* Optional. A heartbeat of ours was taken: what it says of the site (cluster_armed, cluster_members, cluster_committed) is new. */
	void (*heard)(void *arg);
	/* Optional. Redis answers, but may lose what it is told (policy, persistence): it is not used. Said at each such hello. */
	void (*unsafe)(void *arg, const char *why);
};

/* role: "proxy", "migrator", "command"; id: unique in the site ("host-statedirhash" for proxies, host-pid for others); copied. */
struct cluster *cluster_new(struct loop *l, const struct conf *c, const char *role, const char *id, const struct cluster_cb *cb, void *arg);
void cluster_free(struct cluster **c);
bool cluster_up(const struct cluster *c);
/* Why not, for a person: "connection refused", "maxmemory-policy is allkeys-lru: set it to noeviction". */
const char *cluster_why(const struct cluster *c);
uint64_t cluster_epoch(const struct cluster *c);
struct rds *cluster_rds(struct cluster *c);
struct loop *cluster_loop(struct cluster *c);
const char *cluster_id(const struct cluster *c);
/* "r2shim:{site}:" + name, in a buffer of the caller's. */
void cluster_key(const struct cluster *c, const char *name, struct str *out);
/* Runs a script whose KEYS are the named keys (keys.h) and whose ARGV[1] is the epoch; further arguments follow. The callback
 * gets ERR_EPOCH if it differed (the script says so by an error that begins with "EPOCH"). CONNECT if the cluster is not up. */
struct cluster_call;
struct cluster_call *cluster_eval(struct cluster *c, struct rds_script *s, rds_cb *cb, void *arg, const char *const *keynames, size_t nkeys,
    const struct rds_arg *args, size_t nargs);
/* The same with a script of ours. ctx (from mem.h, may be NULL) is the callback's argument, and is freed after it, or when it will not run. */
struct lua;
struct cluster_call *cluster_run(struct cluster *c, struct lua *s, rds_cb *cb, void *ctx, const struct rds_arg *args, size_t nargs);
/* A script whose reply says nothing. done may be NULL. */
struct cluster_call *cluster_do(struct cluster *c, struct lua *s, const struct rds_arg *args, size_t nargs, void (*done)(void *arg, enum err e), void *arg);
/* Its ctx. */
void *cluster_ctx(const struct cluster_call *call);
/* The callback will not run; the script may still. Takes NULL, clears the pointer. */
void cluster_cancel(struct cluster_call **call);
/* A lease's length, the hard limit of one R2 request (its quarantine), and of one Redis command. */
uint64_t cluster_lease_ms(const struct cluster *c);
uint64_t cluster_limit_ms(const struct cluster *c);
uint64_t cluster_timeout_ms(const struct cluster *c);
/* Options for a second connection to the same Redis (blocking reads). */
void cluster_rds_opts(const struct cluster *c, struct rds_opts *o);
/* What this process remembers of the past: an epoch and gens older than these are never believed. Before the first hello, and
 * whenever a higher gen was seen. */
void cluster_know(struct cluster *c, uint64_t epoch, uint64_t gen);
/* This process has marks and intents of its own: after a new epoch no lease is given until it has said cluster_announced. */
void cluster_must_announce(struct cluster *c);
void cluster_announced(struct cluster *c);
/* This process's heartbeat: a JSON object (text) written every second to members or workers, with "time" (Redis's, ms) and "epoch" put in
 * front. Replaces the last one; copied. */
void cluster_heartbeat(struct cluster *c, const char *json);
/* The heartbeat has news that others wait for (a phase): it goes out now. */
void cluster_beat_now(struct cluster *c);
/* Is the site armed, by the last word of Redis: may some member write R2 first? Every writer then needs a key's lease. UNKNOWN: Redis
 * was not heard yet, or was emptied and nobody has said it again. ms: when it was said (CLUSTER_ARMED). */
enum cluster_armed { CLUSTER_UNARMED, CLUSTER_ARMED, CLUSTER_UNKNOWN };
enum cluster_armed cluster_armed(const struct cluster *c, uint64_t *ms);
/* Asks Redis to arm the site, or to disarm it if nothing stands against it (lua/arm.lua, lua/disarm.lua); what came of it is in the next
 * heartbeat's answer. */
enum cluster_arm { CLUSTER_ARM_AGAIN, CLUSTER_ARM_STAY };
void cluster_arm(struct cluster *c, enum cluster_arm why);
void cluster_disarm(struct cluster *c);
/* The registered proxies, by the answer to the last heartbeat (a proxy's); when all were in r2-only, 0: not yet (hello says so, too). */
const struct members *cluster_members(const struct cluster *c);
uint64_t cluster_committed(const struct cluster *c);
/* When Redis took this process's heartbeat last, on the monotonic clock; 0: never. */
uint64_t cluster_beaten_ms(const struct cluster *c);
/* Removes this process's entry (a clean end); done may be NULL, and there is nothing left to do about an error. */
void cluster_leave(struct cluster *c, void (*done)(void *arg, enum err e), void *arg);
/* Checks of Redis for `check --online` and the gates: policy, persistence. The callback's text is empty if all is well. */
void cluster_preflight(struct cluster *c, void (*done)(void *arg, enum err e, const char *text), void *arg);

#endif
