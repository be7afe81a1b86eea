#include "sandbox/s3.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "sandbox/disk.h"
#include "sandbox/objects.h"

#define CONTROL_PREFIX "/.sandbox/"
enum { RULES_TEXT_MAX = 256 * 1024 };

struct control_req {
	struct s3_conn base;
	struct sandbox *sb;
	struct str text;
	bool reading, too_big;
};

static bool
from_loopback(struct http_conn *c)
{
	const char *peer = http_conn_peer(c);

	return http_conn_peer_is_unix(c) || strncmp(peer, "127.", 4) == 0 || strcmp(peer, "::1") == 0;
}

static void
reply_text(struct http_conn *c, int status, const char *text)
{
	http_conn_reply(c, status, "text/plain; charset=utf-8", NULL, text, strlen(text));
}

static json_t *
operations(const struct sandbox *sb)
{
	json_t *all = json_object();

	for (int op = 0; op < S3_OP_COUNT; op++) {
		json_t *o = NULL;

		for (int status = 0; status < S3_STATUS_MAX; status++) {
			char key[16];

			if (sb->counts[op][status] == 0)
				continue;
			if (o == NULL)
				o = json_object();
			snprintf(key, sizeof(key), "%d", status);
			json_object_set_new(o, key, json_integer((json_int_t)sb->counts[op][status]));
		}
		if (o != NULL)
			json_object_set_new(all, s3_op_name((enum s3_op)op), o);
	}
	return all;
}

static json_t *
buckets(const struct sandbox *sb)
{
	json_t *all = json_object();
	struct list *it, *next;

	LIST_FOREACH(it, next, &sb->disk->buckets) {
		struct bucket *b = LIST_ENTRY(it, struct bucket, node);
		struct keyidx_pos pos = {0, 0};
		struct keyidx_node *n;
		uint64_t bytes = 0;
		size_t uploads = 0;

		while ((n = keyidx_next(b->keys, &pos)) != NULL)
			bytes += ((struct object *)(void *)n)->size;
		for (struct list *u = b->uploads.next; u != &b->uploads; u = u->next)
			uploads++;
		json_object_set_new(all, b->name,
		    json_pack("{s:I, s:I, s:I}", "objects", (json_int_t)keyidx_count(b->keys), "bytes",
			(json_int_t)bytes, "uploads", (json_int_t)uploads));
	}
	return all;
}

/* How many requests wait at each tag. */
static json_t *
held(const struct sandbox *sb)
{
	json_t *all = json_object();
	struct list *it, *next;

	LIST_FOREACH(it, next, &sb->requests) {
		struct s3_req *r = LIST_ENTRY(it, struct s3_req, node);

		if (r->held) {
			const char *tag = r->plan.hold[r->stage];
			json_int_t n = json_integer_value(json_object_get(all, tag));

			json_object_set_new(all, tag, json_integer(n + 1));
		}
	}
	return all;
}

static void
reply_stats(struct sandbox *sb, struct http_conn *c)
{
	json_t *o = json_pack("{s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I}", "operations", operations(sb), "buckets",
	    buckets(sb), "held", held(sb), "connections", (json_int_t)http_server_conns(sb->server), "bytes_in",
	    (json_int_t)sb->bytes_in, "bytes_out", (json_int_t)sb->bytes_out, "faults", (json_int_t)sb->faulted, "cut",
	    (json_int_t)sb->cut);
	char *text = json_dumps(o, JSON_INDENT(2) | JSON_SORT_KEYS);

	ASSERT(text != NULL);
	http_conn_reply(c, 200, "application/json", NULL, text, strlen(text));
	free(text);
	json_decref(o);
}

bool
control_request(struct sandbox *sb, struct http_conn *c, const struct http1_head *head)
{
	static const char prefix[] = CONTROL_PREFIX;
	struct control_req *q;
	struct str rules = STR_INIT;
	bool get = str_slice_eq(head->method.p, head->method.n, "GET");

	if (head->path.n < sizeof(prefix) - 1 || memcmp(head->path.p, prefix, sizeof(prefix) - 1) != 0)
		return false;
	q = mem_zalloc(sizeof(*q));
	q->base.control = true;
	q->sb = sb;
	http_conn_set(c, q);
	if (!from_loopback(c))
		reply_text(c, 403, "from loopback only\n");
	else if (get && str_slice_eq(head->path.p, head->path.n, CONTROL_PREFIX "stats"))
		reply_stats(sb, c);
	else if (get && str_slice_eq(head->path.p, head->path.n, CONTROL_PREFIX "faults")) {
		faults_print(sb->faults, &rules);
		reply_text(c, 200, str_z(&rules));
	} else if (str_slice_eq(head->method.p, head->method.n, "POST") &&
		   str_slice_eq(head->path.p, head->path.n, CONTROL_PREFIX "faults")) {
		q->reading = true;
		http_conn_read_body(c);
	} else
		reply_text(c, 404, "there are /.sandbox/stats and /.sandbox/faults\n");
	str_fini(&rules);
	return true;
}

void
control_body(struct http_conn *c, const void *p, size_t n)
{
	struct control_req *q = http_conn_get(c);

	if (q->text.len + n > RULES_TEXT_MAX)
		q->too_big = true;
	else
		str_add(&q->text, p, n);
}

void
control_end(struct http_conn *c)
{
	struct control_req *q = http_conn_get(c);
	struct errbuf eb = {""};
	bool reset;

	if (!q->reading)
		return;
	q->reading = false;
	if (q->too_big)
		reply_text(c, 413, "too many rules\n");
	else if (faults_apply(q->sb->faults, q->text.len > 0 ? q->text.p : "clear", &reset, &eb) != ERR_OK)
		reply_text(c, 400, eb.text);
	else {
		if (reset) {
			memset(q->sb->counts, 0, sizeof(q->sb->counts));
			q->sb->bytes_in = q->sb->bytes_out = q->sb->faulted = q->sb->cut = 0;
		}
		s3_release(q->sb);
		reply_text(c, 200, "ok\n");
	}
}

void
control_done(struct http_conn *c)
{
	struct control_req *q = http_conn_get(c);

	http_conn_set(c, NULL);
	str_fini(&q->text);
	mem_free(q);
}
