#include "coord/queue.h"

#include <stdio.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "coord/keys.h"
#include "coord/lua.h"

enum {
	BLOCK_MS = 1000,
	AGAIN_MS = 200,		/* after an error */
	SWEEP_MS = 250,		/* how often due keys are moved */
	LIVE_MAX = 2000,	/* entries of live; what is due beyond waits */
	SLACK_MS = 5000		/* a key still dirty this long after lease and limit: its entry may be lost */
};

struct taken {
	struct queue_item item;	/* first */
	struct list node;	/* in queue.fresh, then in queue.out */
	struct lane *lane;
	char data[];
};

/* One of the two streams, with a connection of its own for blocking reads. */
struct lane {
	struct queue *q;
	enum queue_kind kind;
	const char *name, *letter;
	struct rds *rds;
	struct rds_call *reading;
	struct cluster_call *claiming;
	bool grouped;		/* the consumer group is there */
	bool own_done;		/* what our last life left has been taken */
	char own_from[52];
	unsigned want, out;
	unsigned asked, reserved;	/* by the read, by claims */
	struct loop_timer again;
};

struct queue {
	struct loop *loop;
	struct cluster *cluster;
	struct queue_cb cb;
	void *arg;
	char *consumer;
	struct lane lanes[2];
	struct list fresh, out;
	struct loop_call deliver, step;
	struct loop_timer sweep, claim, touch;
	struct cluster_call *sweeping;
	bool stopped;
};

static void
lane_again(struct lane *l)
{
	loop_timer_set(&l->again, AGAIN_MS);
}

static unsigned
room(const struct lane *l)
{
	unsigned used = l->out + l->asked + l->reserved;

	return used < l->want ? l->want - used : 0;
}

static uint64_t
idle_ms(const struct queue *q)
{
	return cluster_lease_ms(q->cluster) + cluster_limit_ms(q->cluster);
}

/* Items. */

static void
on_deliver(void *arg)
{
	struct queue *q = arg;
	struct taken *t = LIST_FIRST(&q->fresh, struct taken, node);

	/* One a turn: the callback may free us. */
	if (t == NULL)
		return;
	list_del(&t->node);
	list_add_tail(&q->out, &t->node);
	if (!list_empty(&q->fresh))
		loop_call_soon(&q->deliver);
	q->cb.item(q->arg, &t->item);
}

static void
end_item(struct taken *t)
{
	struct queue *q = t->lane->q;

	t->lane->out--;
	list_del(&t->node);
	mem_free(t);
	loop_call_soon(&q->step);
}

static bool
is_out(const struct queue *q, const char *id, enum queue_kind kind)
{
	const struct list *lists[2] = { &q->fresh, &q->out };

	for (int i = 0; i < 2; i++)
		for (struct list *n = lists[i]->next; n != lists[i]; n = n->next) {
			const struct taken *t = LIST_ENTRY(n, struct taken, node);

			if (t->item.kind == kind && strcmp(t->item.id, id) == 0)
				return true;
		}
	return false;
}

static void
take(struct lane *l, const redisReply *id, const redisReply *data, unsigned deliveries)
{
	struct queue *q = l->q;
	struct queue_item *it;
	struct taken *t;

	if (id->type != REDIS_REPLY_STRING || data->type != REDIS_REPLY_STRING || (size_t)id->len >= sizeof it->id || is_out(q, id->str, l->kind))
		return;
	t = mem_zalloc(sizeof *t + (size_t)data->len + 1);
	it = &t->item;
	t->lane = l;
	it->kind = l->kind;
	memcpy(it->id, id->str, (size_t)id->len + 1);
	it->deliveries = deliveries;
	memcpy(t->data, data->str, (size_t)data->len);
	it->data = t->data;
	it->len = (size_t)data->len;
	l->out++;
	list_add_tail(&q->fresh, &t->node);
	if (q->stopped)		/* came too late: for others */
		queue_release(q, &it);
	else
		loop_call_soon(&q->deliver);
}

void
queue_done(struct queue *q, struct queue_item **itp, void (*done)(void *arg, enum err e), void *arg)
{
	struct taken *t = (struct taken *)*itp;

	*itp = NULL;
	cluster_do(q->cluster, &lua_ack, (struct rds_arg[]){ RDS_Z(t->lane->letter), RDS_Z(t->item.id) }, 2, done, arg);
	end_item(t);
}

void
queue_release(struct queue *q, struct queue_item **itp)
{
	struct taken *t = (struct taken *)*itp;

	*itp = NULL;
	cluster_do(q->cluster, &lua_release, (struct rds_arg[]){ RDS_Z(q->consumer), RDS_Z(t->lane->letter), RDS_Z(t->item.id) }, 3, NULL, NULL);
	end_item(t);
}

/* Claiming: of the dead, and at start of our own last life. */

struct claim_ctx {
	struct lane *lane;
	unsigned reserved;
	bool own;
};

static void
on_claimed(void *arg, enum err e, const struct redisReply *r)
{
	const struct claim_ctx *x = arg;
	struct lane *l = x->lane;

	l->claiming = NULL;
	l->reserved -= x->reserved;
	if (e != ERR_OK || r->type != REDIS_REPLY_ARRAY) {
		lane_again(l);
		return;
	}
	for (size_t i = 0; i < r->elements; i++) {
		const redisReply *v = r->element[i];

		if (v->type != REDIS_REPLY_ARRAY || v->elements != 3)
			continue;
		take(l, v->element[0], v->element[2], (unsigned)v->element[1]->integer);
		if (x->own)
			snprintf(l->own_from, sizeof l->own_from, "(%s", v->element[0]->str);
	}
	if (x->own && r->elements == 0)
		l->own_done = true;
	loop_call_soon(&l->q->step);
}

static void
claim(struct lane *l, unsigned n, bool own)
{
	struct claim_ctx x = { l, n, own };
	struct queue *q = l->q;
	char idle[24], count[16];

	snprintf(idle, sizeof idle, "%llu", own ? 0ull : (unsigned long long)idle_ms(q));
	snprintf(count, sizeof count, "%u", n);
	l->reserved += n;
	l->claiming = cluster_run(q->cluster, &lua_claim, on_claimed, mem_dup(&x, sizeof x), (struct rds_arg[]){ RDS_Z(q->consumer), RDS_Z(l->letter),
		RDS_Z(idle), RDS_Z(count), RDS_Z(own ? "1" : "0"), RDS_Z(own ? l->own_from : "-") }, 6);
}

/* Reading. */

static void
on_grouped(void *arg, enum err e, const struct redisReply *r)
{
	struct lane *l = arg;

	l->reading = NULL;
	if (e != ERR_OK && !(e == ERR_PROTO && r != NULL && strncmp(r->str, "BUSYGROUP", 9) == 0)) {
		lane_again(l);
		return;
	}
	l->grouped = true;
	loop_call_soon(&l->q->step);
}

static void
on_read(void *arg, enum err e, const struct redisReply *r)
{
	struct lane *l = arg;

	l->reading = NULL;
	l->asked = 0;
	if (e != ERR_OK) {
		/* NOGROUP, "UNBLOCKED the stream key no longer exists": after a flush. */
		l->grouped = false;
		lane_again(l);
		return;
	}
	if (r->type == REDIS_REPLY_ARRAY && r->elements == 1 && r->element[0]->elements == 2) {
		const redisReply *list = r->element[0]->element[1];

		for (size_t i = 0; i < list->elements; i++) {
			const redisReply *entry = list->element[i];

			if (entry->elements == 2 && entry->element[1]->type == REDIS_REPLY_ARRAY && entry->element[1]->elements >= 2)
				take(l, entry->element[0], entry->element[1]->element[1], 1);
		}
	}
	loop_call_soon(&l->q->step);
}

static void
lane_read(struct lane *l)
{
	struct queue *q = l->q;
	struct str key = STR_INIT;
	char count[16];
	unsigned n = room(l);

	cluster_key(q->cluster, l->name, &key);
	if (!l->grouped) {
		l->reading = rds_command(l->rds, 0, on_grouped, l, (struct rds_arg[]){ RDS_Z("XGROUP"), RDS_Z("CREATE"), { key.p, key.len }, RDS_Z("w"),
			RDS_Z("0"), RDS_Z("MKSTREAM") }, 6);
	} else {
		snprintf(count, sizeof count, "%u", n);
		l->asked = n;
		l->reading = rds_command(l->rds, BLOCK_MS + cluster_timeout_ms(q->cluster), on_read, l, (struct rds_arg[]){ RDS_Z("XREADGROUP"),
			RDS_Z("GROUP"), RDS_Z("w"), RDS_Z(q->consumer), RDS_Z("COUNT"), RDS_Z(count), RDS_Z("BLOCK"), RDS_Z("1000"), RDS_Z("STREAMS"),
			{ key.p, key.len }, RDS_Z(">") }, 11);
	}
	str_fini(&key);
}

static void
lane_step(struct lane *l)
{
	struct queue *q = l->q;

	if (l->want == 0 || l->reading != NULL || l->claiming != NULL || loop_timer_pending(&l->again) || !rds_up(l->rds))
		return;
	if (room(l) == 0)
		return;
	/* live goes before backfill: no new batch while it has more than we take. */
	if (l->kind == QUEUE_BACKFILL && q->lanes[QUEUE_LIVE].want > 0 && q->lanes[QUEUE_LIVE].out >= q->lanes[QUEUE_LIVE].want)
		return;
	if (l->grouped && !l->own_done)
		claim(l, room(l), true);
	else
		lane_read(l);
}

static void
on_step(void *arg)
{
	struct queue *q = arg;

	if (q->stopped || !cluster_up(q->cluster))
		return;
	lane_step(&q->lanes[QUEUE_LIVE]);
	lane_step(&q->lanes[QUEUE_BACKFILL]);
}

static void
on_lane_again(void *arg)
{
	struct lane *l = arg;

	on_step(l->q);
}

static void
on_lane_state(void *arg, bool up)
{
	struct lane *l = arg;

	if (up)
		loop_call_soon(&l->q->step);
}

/* Timers. */

static void
on_swept(void *arg, enum err e, const struct redisReply *r)
{
	struct queue *q = *(struct queue **)arg;

	(void)e;
	(void)r;
	q->sweeping = NULL;
}

static void
on_sweep(void *arg)
{
	struct queue *q = arg;
	char max[16], again[24];

	loop_timer_set(&q->sweep, SWEEP_MS);
	if (q->stopped || !cluster_up(q->cluster))
		return;
	/* Redis may have come up meanwhile. */
	loop_call_soon(&q->step);
	if (q->sweeping != NULL)
		return;
	snprintf(max, sizeof max, "%d", LIVE_MAX);
	snprintf(again, sizeof again, "%llu", (unsigned long long)idle_ms(q) + SLACK_MS);
	q->sweeping = cluster_run(q->cluster, &lua_due, on_swept, mem_dup(&q, sizeof q), (struct rds_arg[]){ RDS_Z(max), RDS_Z(again) }, 2);
}

static void
on_claim(void *arg)
{
	struct queue *q = arg;

	loop_timer_set(&q->claim, idle_ms(q) / 4 + 1);
	if (q->stopped || !cluster_up(q->cluster))
		return;
	for (int i = 0; i < 2; i++) {
		struct lane *l = &q->lanes[i];
		unsigned n = l->out < l->want ? l->want - l->out : 0;

		/* A blocking read has reserved all the room; dead workers' entries may go beyond it. */
		if (n > 0 && l->own_done && l->claiming == NULL)
			claim(l, n, false);
	}
}

static void
on_touch(void *arg)
{
	struct queue *q = arg;
	struct list *it, *nxt;
	struct rds_arg *args;
	size_t n = 1;

	loop_timer_set(&q->touch, cluster_lease_ms(q->cluster) / 3 + 1);
	if (list_empty(&q->out) || !cluster_up(q->cluster))
		return;
	args = mem_calloc(1 + 2 * (size_t)(q->lanes[0].out + q->lanes[1].out), sizeof *args);
	args[0] = RDS_Z(q->consumer);
	LIST_FOREACH(it, nxt, &q->out) {
		const struct taken *t = LIST_ENTRY(it, struct taken, node);

		args[n++] = RDS_Z(t->lane->letter);
		args[n++] = RDS_Z(t->item.id);
	}
	cluster_do(q->cluster, &lua_touch, args, n, NULL, NULL);
	mem_free(args);
}

/* Life. */

static void
lane_init(struct queue *q, enum queue_kind kind, unsigned want)
{
	struct lane *l = &q->lanes[kind];
	struct rds_opts o;

	*l = (struct lane){ .q = q, .kind = kind, .want = want, .own_from = "-" };
	l->name = kind == QUEUE_LIVE ? KEYS_LIVE : KEYS_BACKFILL;
	l->letter = kind == QUEUE_LIVE ? "l" : "b";
	loop_timer_init(&l->again, q->loop, on_lane_again, l);
	if (want == 0)
		return;
	cluster_rds_opts(q->cluster, &o);
	o.state = on_lane_state;
	o.arg = l;
	l->rds = rds_new(q->loop, &o);
}

struct queue *
queue_new(struct loop *l, struct cluster *c, const struct conf *conf, const char *consumer, unsigned want_live, unsigned want_backfill,
    const struct queue_cb *cb, void *arg)
{
	struct queue *q = mem_zalloc(sizeof *q);

	(void)conf;
	q->loop = l;
	q->cluster = c;
	q->cb = *cb;
	q->arg = arg;
	q->consumer = mem_strdup(consumer);
	list_init(&q->fresh);
	list_init(&q->out);
	loop_call_init(&q->deliver, l, on_deliver, q);
	loop_call_init(&q->step, l, on_step, q);
	loop_timer_init(&q->sweep, l, on_sweep, q);
	loop_timer_init(&q->claim, l, on_claim, q);
	loop_timer_init(&q->touch, l, on_touch, q);
	lane_init(q, QUEUE_LIVE, want_live);
	lane_init(q, QUEUE_BACKFILL, want_backfill);
	loop_timer_set(&q->sweep, 0);
	loop_timer_set(&q->claim, idle_ms(q) / 4 + 1);
	loop_timer_set(&q->touch, cluster_lease_ms(c) / 3 + 1);
	return q;
}

void
queue_stop(struct queue *q)
{
	struct taken *t;

	if (q->stopped)
		return;
	q->stopped = true;
	loop_timer_cancel(&q->sweep);
	loop_timer_cancel(&q->claim);
	while ((t = LIST_FIRST(&q->fresh, struct taken, node)) != NULL) {
		struct queue_item *it = &t->item;

		queue_release(q, &it);
	}
}

unsigned
queue_out(const struct queue *q)
{
	return q->lanes[QUEUE_LIVE].out + q->lanes[QUEUE_BACKFILL].out;
}

static void
free_items(struct list *l)
{
	struct taken *t;

	while ((t = LIST_FIRST(l, struct taken, node)) != NULL) {
		list_del(&t->node);
		mem_free(t);
	}
}

void
queue_free(struct queue **qp)
{
	struct queue *q = *qp;

	if (q == NULL)
		return;
	*qp = NULL;
	for (int i = 0; i < 2; i++) {
		rds_free(&q->lanes[i].rds);
		cluster_cancel(&q->lanes[i].claiming);
		loop_timer_fini(&q->lanes[i].again);
	}
	cluster_cancel(&q->sweeping);
	loop_timer_fini(&q->sweep);
	loop_timer_fini(&q->claim);
	loop_timer_fini(&q->touch);
	loop_call_cancel(&q->deliver);
	loop_call_cancel(&q->step);
	free_items(&q->fresh);
	free_items(&q->out);
	mem_free(q->consumer);
	mem_free(q);
}
