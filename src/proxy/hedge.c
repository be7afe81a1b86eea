#include "proxy/hedge.h"

#include "base/metrics.h"
#include "proxy/server.h"

static void
on_late(void *arg)
{
	struct request *r = arg;

	/* R2's head is there: its bytes are on their way. */
	if (r->read.op == NULL || r->read.is_ready)
		return;
	metrics_add(METRIC_HEDGES, read_from_disk(r) ? "disk" : "none", 1);
}

void
hedge_start(struct request *r)
{
	struct loop_timer *t = &r->read.hedge;
	uint64_t after = r->snap->conf->r2_hedge_after;

	if (after == 0 || r->read.plan.order != ROUTE_R2_DISK || r->read.plan.ask || r->read.redirect)
		return;
	loop_timer_init(t, r->sv->loop, on_late, r);
	loop_timer_set(t, after);
}

void
hedge_stop(struct request *r)
{
	if (r->read.hedge.loop != NULL)
		loop_timer_fini(&r->read.hedge);
}
