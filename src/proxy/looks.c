#include "proxy/looks.h"

#include <string.h>

#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"
#include "store/local_swap.h"

/* So many groups are at work at once: a disk makes one of the flushes that come together. What waits is shared among them. */
#define GROUPS 16

struct look {
	struct list node;		/* in looks.waiting, else in its group only */
	struct looks *s;
	look_done *done;		/* NULL: cancelled */
	void *arg;
	bool swaps, swapping;
	bool alone;
	size_t klen;
	char key[];
};

struct group {
	struct list node;
	struct looks *s;
	struct local *local;		/* for the thread: s may be gone by then */
	struct pool_job job;
	size_t n;
	struct look *look[LOCAL_SETTLE_MAX];
	struct local_seen seen[LOCAL_SETTLE_MAX];
};

struct looks {
	struct local *local;
	struct pool *pool;
	struct list waiting, groups;
	size_t nwaiting, running;
	struct loop_call begin;
	bool *gone;			/* set while callbacks run: one of them freed us */
};

static void
group_work(void *arg)
{
	struct group *g = arg;

	for (size_t i = 0; i < g->n; i++)
		g->look[i]->swapping = g->look[i]->swaps && local_swap_pending(g->local, g->look[i]->key, g->look[i]->klen);
	local_settle(g->local, g->seen, g->n);
}

static void group_done(void *arg);

static void
group_begin(struct looks *s, size_t most)
{
	struct group *g = mem_zalloc(sizeof(*g));

	g->s = s;
	g->local = s->local;
	while (g->n < most && !list_empty(&s->waiting)) {
		struct look *look = LIST_FIRST(&s->waiting, struct look, node);

		if (look->alone && g->n > 0)
			break;
		list_del(&look->node);
		s->nwaiting--;
		g->seen[g->n] = (struct local_seen){ .key = look->key, .klen = look->klen };
		g->look[g->n++] = look;
		if (look->alone)
			break;
	}
	list_add_tail(&s->groups, &g->node);
	s->running++;
	pool_submit(s->pool, &g->job, group_work, group_done, g);
}

static void
begin(void *arg)
{
	struct looks *s = arg;

	while (s->running < GROUPS && s->nwaiting > 0) {
		size_t share = (s->nwaiting + GROUPS - 1) / GROUPS;

		group_begin(s, share < LOCAL_SETTLE_MAX ? share : LOCAL_SETTLE_MAX);
	}
}

static void
group_release(void *arg)
{
	struct group *g = arg;

	for (size_t i = 0; i < g->n; i++)
		mem_free(g->look[i]);
	mem_free(g);
}

static void
group_done(void *arg)
{
	struct group *g = arg;
	struct looks *s = g->s;
	bool gone = false;

	list_del(&g->node);
	s->running--;
	for (size_t i = 0; i < g->n; i++) {
		struct look *look = g->look[i];

		if (look->done == NULL || !g->seen[i].alone)
			continue;
		look->alone = true;
		list_add_tail(&s->waiting, &look->node);
		s->nwaiting++;
		g->look[i] = NULL;
	}
	begin(s);
	s->gone = &gone;
	for (size_t i = 0; !gone && i < g->n; i++) {
		struct look *look = g->look[i];

		if (look == NULL)
			continue;
		g->look[i] = NULL;
		if (look->done != NULL)
			look->done(look->arg, &g->seen[i], look->swapping);
		mem_free(look);
	}
	if (!gone)
		s->gone = NULL;
	group_release(g);
}

struct looks *
looks_new(struct loop *l, struct local *local, struct pool *pool)
{
	struct looks *s = mem_zalloc(sizeof(*s));

	s->local = local;
	s->pool = pool;
	list_init(&s->waiting);
	list_init(&s->groups);
	loop_call_init(&s->begin, l, begin, s);
	return s;
}

void
looks_free(struct looks **sp)
{
	struct looks *s = *sp;
	struct list *p, *n;

	if (s == NULL)
		return;
	*sp = NULL;
	if (s->gone != NULL)
		*s->gone = true;
	LIST_FOREACH(p, n, &s->groups) {
		struct group *g = LIST_ENTRY(p, struct group, node);

		list_del(&g->node);
		pool_cancel(&g->job, group_release);
	}
	LIST_FOREACH(p, n, &s->waiting)
		mem_free(LIST_ENTRY(p, struct look, node));
	loop_call_cancel(&s->begin);
	mem_free(s);
}

struct look *
look_at(struct looks *s, const char *key, size_t klen, bool swaps, look_done *done, void *arg)
{
	struct look *look = mem_zalloc(sizeof(*look) + klen);

	look->s = s;
	look->done = done;
	look->arg = arg;
	look->swaps = swaps;
	look->klen = klen;
	memcpy(look->key, key, klen);
	list_add_tail(&s->waiting, &look->node);
	s->nwaiting++;
	/* What else comes in this turn goes along. */
	loop_call_soon(&s->begin);
	return look;
}

void
look_cancel(struct look **lookp)
{
	struct look *look = *lookp;

	if (look == NULL)
		return;
	*lookp = NULL;
	look->done = NULL;
	if (list_empty(&look->node))
		return;		/* a thread may be reading it: its group frees it */
	list_del(&look->node);
	look->s->nwaiting--;
	mem_free(look);
}
