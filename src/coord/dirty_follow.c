#include <string.h>

#include <hiredis/hiredis.h>

#include "base/log.h"
#include "base/mem.h"
#include "coord/dirty_int.h"
#include "coord/keys.h"

/*
 * Whole: the id of the last change, then all marks (HSCAN), then the epoch: if it is still ours nothing was flushed in between, and
 * what no scan has seen is clean. Then the changes from that id on, one blocking read after the other. Ids count without a gap: if
 * one is missing, the whole is read again.
 */

enum {
	BLOCK_MS = 1000,
	COUNT = 500,		/* entries a read */
	AGAIN_MS = 200
};

static void read_changes(struct dirty *d);

static void
key_arg(const struct dirty *d, const char *name, struct str *buf, struct rds_arg *a)
{
	cluster_key(d->cluster, name, buf);
	*a = RDS_B(buf->p, buf->len);
}

static void
give_up(struct dirty *d, const char *why)
{
	log_debug("dirty", "changes: %s", why);
	d->follow = DIRTY_AWAY;
	loop_timer_set(&d->follow_again, AGAIN_MS);
}

/* One mark as Redis has it. */
static void
apply_mark(struct dirty *d, const redisReply *key, const redisReply *text)
{
	struct dirty_entry *e;
	struct mark m;

	if (key->type != REDIS_REPLY_STRING || text->type != REDIS_REPLY_STRING || key->len == 0 || !marks_parse(text->str, (size_t)text->len, &m))
		return;
	dirty_saw_gen(d, m.gen);
	e = dirty_entry(d, key->str, (size_t)key->len);
	e->round = d->round;
	/* By gen, not by arrival; and what is ours is settled by the answer to our own call. */
	if (e->calls == 0 && !e->untold && m.gen > e->m.gen)
		dirty_entry_mark(d, e, &m);
}

static void
apply_clear(struct dirty *d, const redisReply *key, const redisReply *gen)
{
	struct dirty_entry *e;
	uint64_t g;

	if (key->type != REDIS_REPLY_STRING || gen->type != REDIS_REPLY_STRING || !str_to_u64(gen->str, (size_t)gen->len, &g))
		return;
	e = map_get(d->entries, key->str, (size_t)key->len);
	if (e != NULL)
		dirty_entry_cleared(d, e, g);
}

/* The changes. */

/* One entry of the stream: id, {k, key, m or c, value}. false: some before it are missing. */
static bool
apply_change(struct dirty *d, const redisReply *entry)
{
	const redisReply *id, *f;
	uint64_t seq;

	if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 2)
		return false;
	id = entry->element[0];
	f = entry->element[1];
	if (id->type != REDIS_REPLY_STRING || !str_to_u64(id->str, strcspn(id->str, "-"), &seq) || seq != d->seq + 1)
		return false;
	d->seq = seq;
	if (f->type != REDIS_REPLY_ARRAY || f->elements != 4)
		return true;
	if (strcmp(f->element[2]->str, "m") == 0)
		apply_mark(d, f->element[1], f->element[3]);
	else
		apply_clear(d, f->element[1], f->element[3]);
	return true;
}

static void
on_changes(void *arg, enum err e, const struct redisReply *r)
{
	struct dirty *d = arg;

	d->call = NULL;
	if (e != ERR_OK) {
		give_up(d, r != NULL ? r->str : err_text(e));
		return;
	}
	if (r->type == REDIS_REPLY_ARRAY && r->elements == 1 && r->element[0]->elements == 2) {
		const redisReply *list = r->element[0]->element[1];

		d->caught_up = list->elements < COUNT;
		for (size_t i = 0; i < list->elements; i++) {
			if (!apply_change(d, list->element[i])) {
				d->synced = false;
				give_up(d, "some are missing");
				return;
			}
		}
	} else {
		d->caught_up = true;
	}
	read_changes(d);
}

/* Blocks only once there was nothing left to read: until then our copy is behind. */
static void
read_changes(struct dirty *d)
{
	struct rds_arg argv[8] = { RDS_Z("XREAD"), RDS_Z("COUNT"), RDS_Z("500") };
	struct str key = STR_INIT, id = STR_INIT;
	size_t n = 3;

	if (d->caught_up) {
		argv[n++] = RDS_Z("BLOCK");
		argv[n++] = RDS_Z("1000");
	}
	argv[n++] = RDS_Z("STREAMS");
	key_arg(d, KEYS_CHANGES, &key, &argv[n++]);
	str_printf(&id, "%llu-0", (unsigned long long)d->seq);
	argv[n++] = RDS_B(id.p, id.len);
	d->call = rds_command(d->stream, BLOCK_MS + cluster_timeout_ms(d->cluster), on_changes, d, argv, n);
	str_fini(&key);
	str_fini(&id);
}

/* The whole. */

static void
forget_unseen(struct dirty *d)
{
	size_t pos = 0, len;
	const void *key;
	void *value;

	while (map_next(d->entries, &pos, &key, &len, &value)) {
		struct dirty_entry *e = value;

		if (e->round != d->round && e->m.gen > 0 && e->calls == 0 && !e->untold)
			dirty_entry_cleared(d, e, e->m.gen);
	}
}

static void
on_epoch(void *arg, enum err e, const struct redisReply *r)
{
	struct dirty *d = arg;
	uint64_t epoch;

	d->call = NULL;
	if (e != ERR_OK || r->type != REDIS_REPLY_STRING || !str_to_u64(r->str, (size_t)r->len, &epoch) || epoch != cluster_epoch(d->cluster)) {
		give_up(d, "another epoch");
		return;
	}
	forget_unseen(d);
	d->seq = d->scan_seq;
	d->synced = true;
	d->follow = DIRTY_READING;
	log_info("dirty", "in step with Redis: %zu marks", map_count(d->entries));
	read_changes(d);
}

static void scan(struct dirty *d);

static void
on_scanned(void *arg, enum err e, const struct redisReply *r)
{
	struct dirty *d = arg;
	const redisReply *v;
	struct str key = STR_INIT;
	struct rds_arg argv[2] = { RDS_Z("GET") };

	d->call = NULL;
	if (e != ERR_OK || r->type != REDIS_REPLY_ARRAY || r->elements != 2) {
		give_up(d, err_text(e));
		return;
	}
	v = r->element[1];
	for (size_t i = 0; i + 1 < v->elements; i += 2)
		apply_mark(d, v->element[i], v->element[i + 1]);
	str_clear(&d->cursor);
	str_add(&d->cursor, r->element[0]->str, (size_t)r->element[0]->len);
	if (strcmp(str_z(&d->cursor), "0") != 0) {
		scan(d);
		return;
	}
	key_arg(d, KEYS_EPOCH, &key, &argv[1]);
	d->call = rds_command(d->stream, 0, on_epoch, d, argv, 2);
	str_fini(&key);
}

static void
scan(struct dirty *d)
{
	struct rds_arg argv[5] = { RDS_Z("HSCAN") };
	struct str key = STR_INIT;

	key_arg(d, KEYS_MARKS, &key, &argv[1]);
	argv[2] = RDS_B(d->cursor.p, d->cursor.len);
	argv[3] = RDS_Z("COUNT");
	argv[4] = RDS_Z("500");
	d->call = rds_command(d->stream, 0, on_scanned, d, argv, 5);
	str_fini(&key);
}

static void
on_seq(void *arg, enum err e, const struct redisReply *r)
{
	struct dirty *d = arg;

	d->call = NULL;
	d->scan_seq = 0;
	if (e != ERR_OK || (r->type == REDIS_REPLY_STRING && !str_to_u64(r->str, (size_t)r->len, &d->scan_seq))) {
		give_up(d, err_text(e));
		return;
	}
	d->round++;
	str_clear(&d->cursor);
	str_addc(&d->cursor, '0');
	scan(d);
}

void
dirty_follow_start(struct dirty *d)
{
	struct rds_arg argv[2] = { RDS_Z("GET") };
	struct str key = STR_INIT;

	if (d->follow != DIRTY_AWAY || !d->up || !d->stream_up)
		return;
	loop_timer_cancel(&d->follow_again);
	d->caught_up = false;
	if (d->synced) {
		d->follow = DIRTY_READING;
		read_changes(d);
		return;
	}
	d->follow = DIRTY_SCANNING;
	key_arg(d, KEYS_CHANGESEQ, &key, &argv[1]);
	d->call = rds_command(d->stream, 0, on_seq, d, argv, 2);
	str_fini(&key);
}

void
dirty_follow_stop(struct dirty *d)
{
	if (d->call != NULL)
		rds_cancel(d->call);
	d->call = NULL;
	d->follow = DIRTY_AWAY;
	loop_timer_cancel(&d->follow_again);
}

/* Everything is announced again first, should it be needed; that starts us. */
static void
on_again(void *arg)
{
	dirty_announce(arg);
}

static void
on_state(void *arg, bool up)
{
	struct dirty *d = arg;

	d->stream_up = up;
	if (up)
		dirty_announce(d);
	else
		dirty_follow_stop(d);
}

void
dirty_follow_init(struct dirty *d)
{
	loop_timer_init(&d->follow_again, d->loop, on_again, d);
}

void
dirty_follow_bind(struct dirty *d)
{
	struct rds_opts o;

	cluster_rds_opts(d->cluster, &o);
	o.state = on_state;
	o.arg = d;
	d->stream = rds_new(d->loop, &o);
}

void
dirty_follow_fini(struct dirty *d)
{
	rds_free(&d->stream);
	loop_timer_fini(&d->follow_again);
	str_fini(&d->cursor);
}
