/*
 * keys: the name of every key in Redis. All begin with "r2shim:{SITE}:", so that one ACL rule (~r2shim:*) covers them and a
 * cluster keeps a site on one node. What is in flight lives here, never an entry per file of the site.
 */
#ifndef COORD_KEYS_H
#define COORD_KEYS_H

#define KEYS_PREFIX "r2shim:{%s}:"

#define KEYS_EPOCH     "epoch"		/* string: the epoch; missing: Redis is new or was emptied */
#define KEYS_RUN       "run"		/* string: Redis's run_id that the epoch was made under */
#define KEYS_QUARANTINE "quarantine"	/* string: until this time (Redis TIME, ms) no lease is given */
#define KEYS_GEN       "gen"		/* string: the last gen given */
#define KEYS_MARKS     "marks"		/* hash: key -> mark, text form in marks.h */
#define KEYS_SINCE     "since"		/* zset: key, scored by the time (ms) at which it became dirty */
#define KEYS_DEBT      "debt"		/* zset: key whose mark says r2: the disk is owed, scored like since */
#define KEYS_OPEN      "open"		/* hash: "member/intent" -> op, side, base, a space, key: open intents */
#define KEYS_OPENUNTIL "open-until"	/* zset: "member/intent", scored by the time (ms) at which it runs out */
#define KEYS_OPENKEYS  "open-keys"	/* hash: key -> how many open intents it has */
#define KEYS_DUE       "due"		/* zset: key, scored by the time (ms) at which a migrator should look at it */
#define KEYS_CHANGES   "changes"	/* stream: mark set / cleared, for the proxies' own copies; trimmed */
#define KEYS_CHANGESEQ "changes-seq"	/* string: the last id in changes ("N-0", without a gap) */
#define KEYS_LEASES    "leases"		/* hash: key -> "token until_ms free_ms": free: until + its request limit */
#define KEYS_PACED     "paced"		/* zset: key, scored by the time (ms) until which nobody writes it to R2 again */
#define KEYS_LIVE      "live"		/* stream, group "w": dirty keys */
#define KEYS_BACKFILL  "backfill"	/* stream, group "w": batches */
#define KEYS_ATTEMPTS  "attempts"	/* hash: key -> failures so far */
#define KEYS_DEAD      "dead"		/* hash: key -> JSON: why, since, attempts */
#define KEYS_MEMBERS   "members"	/* hash: proxy id -> JSON heartbeat: phase, epoch, time, degraded */
#define KEYS_BEATS     "beats"		/* hash: proxy id -> "epoch until_ms": the epoch in which it has announced all it knows. Who is in it is a
					 * member, from its start until it has ended cleanly or was forgotten by a person */
#define KEYS_WORKERS   "workers"	/* hash: migrator name -> JSON heartbeat: counters, time */
#define KEYS_FEEDER    "feeder"		/* string with expiry: the migrator that feeds the backfill */
#define KEYS_RUNSTATE  "run-state"	/* hash: the backfill run: state, id, cursor, counters, census */
#define KEYS_VERIFY    "verify"		/* string: the last verify's report, JSON */
#define KEYS_SITE      "site"		/* hash, times in ms, fields below */

#define KEYS_SITE_LEFT_PASSTHROUGH "left-passthrough"	/* what was verified or backfilled before counts no more */
#define KEYS_SITE_LAST_FALLBACK    "last-fallback"	/* in validate: a read that R2 should have served */
#define KEYS_SITE_CENSUS_DUE       "census-due"		/* something may have vanished unseen since then */
#define KEYS_SITE_CENSUS_DONE      "census-done"	/* the last census began then */
#define KEYS_SITE_ARMED            "armed"		/* since then a proxy may write to R2 first; 0: none any more; missing: nobody has said */
#define KEYS_SITE_ARMED_LAST       "armed-last"		/* the last time that armed had */
#define KEYS_SITE_R2_ONLY_SINCE    "r2-only-since"	/* every proxy is in r2-only: the way back closes soon */
#define KEYS_SITE_COMMITTED        "committed"		/* then every proxy was in r2-only: there is no way back */
#define KEYS_SITE_LAST_DISK_WRITE  "last-disk-write"	/* in r2-primary: something wrote straight to the disk */

#endif
