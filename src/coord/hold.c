#include "coord/hold.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

enum {
	AGAIN_FIRST_MS = 5,	/* somebody else's work on a key is mostly a matter of milliseconds */
	AGAIN_MOST_MS = 100
};

struct hold {
	struct cluster *cluster;
	const struct hold_cb *cb;
	void *arg;
	struct lease lease;
	bool held, lost, alone;
	uint64_t patience_until, pause_ms, renewed_until;
	struct cluster_call *asking, *renewing;
	struct loop_timer renew, deadline, again;
	size_t klen;
	char key[];
};

static void
set_deadline(struct hold *h)
{
	uint64_t now = clock_mono_ms();

	loop_timer_set(&h->deadline, h->lease.until_mono_ms > now ? h->lease.until_mono_ms - now : 0);
}

static void
lost(struct hold *h, enum err e)
{
	cluster_cancel(&h->renewing);
	loop_timer_cancel(&h->renew);
	loop_timer_cancel(&h->deadline);
	h->lost = true;
	h->cb->lost(h->arg, e);
}

static void
on_deadline(void *arg)
{
	lost(arg, ERR_LEASE_LOST);
}

static void
on_renewed(void *arg, enum err e)
{
	struct hold *h = arg;

	h->renewing = NULL;
	if (e == ERR_OK) {
		h->lease.until_mono_ms = h->renewed_until;
		set_deadline(h);
	} else if (e == ERR_LEASE_LOST && h->lease.epoch == cluster_epoch(h->cluster)) {
		lost(h, e);
	}
	/* Anything else: the next third tries again, and the deadline stands. */
}

static void
on_renew(void *arg)
{
	struct hold *h = arg;

	loop_timer_set(&h->renew, cluster_lease_ms(h->cluster) / 3);
	if (h->renewing != NULL || h->lease.epoch != cluster_epoch(h->cluster))
		return;
	h->renewed_until = marks_lease_until(h->cluster);
	h->renewing = marks_renew(h->cluster, h->key, h->klen, &h->lease, on_renewed, h);
}

static void
on_lease(void *arg, enum err e, const struct lease *l)
{
	struct hold *h = arg;

	h->asking = NULL;
	if (e == ERR_OK && h->alone && l->open) {
		marks_drop(h->cluster, h->key, h->klen, l, NULL, NULL);
		e = ERR_BUSY;
	}
	if (e != ERR_OK && clock_mono_ms() + h->pause_ms < h->patience_until) {
		loop_timer_set(&h->again, h->pause_ms);
		h->pause_ms = h->pause_ms * 2 < AGAIN_MOST_MS ? h->pause_ms * 2 : AGAIN_MOST_MS;
		return;
	}
	if (e == ERR_OK) {
		h->lease = *l;
		h->held = true;
		set_deadline(h);
		loop_timer_set(&h->renew, cluster_lease_ms(h->cluster) / 3);
	}
	h->cb->got(h->arg, e, &h->lease);
}

static void
on_again(void *arg)
{
	struct hold *h = arg;

	h->asking = marks_lease(h->cluster, h->key, h->klen, on_lease, h);
}

struct hold *
hold_new(struct cluster *c, const char *key, size_t klen, uint64_t patience_ms, bool alone, const struct hold_cb *cb, void *arg)
{
	struct hold *h = mem_zalloc(sizeof *h + klen);

	h->cluster = c;
	h->cb = cb;
	h->arg = arg;
	h->patience_until = clock_mono_ms() + patience_ms;
	h->alone = alone;
	h->pause_ms = AGAIN_FIRST_MS;
	h->klen = klen;
	memcpy(h->key, key, klen);
	loop_timer_init(&h->renew, cluster_loop(c), on_renew, h);
	loop_timer_init(&h->deadline, cluster_loop(c), on_deadline, h);
	loop_timer_init(&h->again, cluster_loop(c), on_again, h);
	on_again(h);
	return h;
}

bool
hold_held(const struct hold *h)
{
	return h->held && !h->lost;
}

const struct lease *
hold_lease(const struct hold *h)
{
	ASSERT(h->held);
	return &h->lease;
}

void
hold_last(struct hold *h)
{
	cluster_cancel(&h->renewing);
	loop_timer_cancel(&h->renew);
}

void
hold_spent(struct hold **hp)
{
	struct hold *h = *hp;

	if (h == NULL)
		return;
	*hp = NULL;
	marks_lease_cancel(&h->asking);
	cluster_cancel(&h->renewing);
	loop_timer_fini(&h->renew);
	loop_timer_fini(&h->deadline);
	loop_timer_fini(&h->again);
	mem_free(h);
}

void
hold_drop(struct hold **hp)
{
	if (*hp != NULL && (*hp)->held)
		marks_drop((*hp)->cluster, (*hp)->key, (*hp)->klen, &(*hp)->lease, NULL, NULL);
	hold_spent(hp);
}

void
hold_park(struct hold **hp)
{
	if (*hp != NULL && (*hp)->held)
		marks_park((*hp)->cluster, (*hp)->key, (*hp)->klen, &(*hp)->lease);
	hold_spent(hp);
}
