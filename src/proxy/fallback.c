#include "proxy/fallback.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "coord/keys.h"
#include "proxy/coding.h"
#include "proxy/server.h"

enum { YOUNG_S = 2 };		/* a file this fresh may not be in R2 yet: no violation */

static void
ignore_reply(void *arg, enum err e, const struct redisReply *reply)
{
	(void)arg;
	(void)e;
	(void)reply;
}

void
fallback_served(struct request *r, const struct local_stat *st)
{
	struct cluster *c = r->sv->cluster;
	struct str key = STR_INIT, now = STR_INIT;
	uint64_t ms = clock_real_ms();
	int64_t newest = st->mtime_ns > st->ctime_ns ? st->mtime_ns : st->ctime_ns;

	if (!r->read.plan.violation || newest / 1000000 + YOUNG_S * 1000 > (int64_t)ms)
		return;
	metrics_add(METRIC_VIOLATIONS, NULL, 1);
	log_warn("proxy", "%s: read from the disk in validate: R2 said %s", log_key(r->route.key, r->route.klen), err_name(r->read.r2_err));
	if (!cluster_up(c))
		return;
	cluster_key(c, KEYS_SITE, &key);
	str_printf(&now, "%" PRIu64, ms);
	rds_command(cluster_rds(c), 0, ignore_reply, NULL,
	    (struct rds_arg[]){ RDS_Z("HSET"), RDS_B(key.p, key.len), RDS_Z("last-fallback"), RDS_B(now.p, now.len) }, 4);
	str_fini(&key);
	str_fini(&now);
}

void
fallback_count(struct request *r, enum err why)
{
	r->read.fell_back = true;
	/* That a file has no sibling is nothing that is missing. */
	if (why != ERR_NOTFOUND || !coding_is_sibling(r))
		metrics_add(METRIC_FALLBACKS, err_name(why), 1);
}
