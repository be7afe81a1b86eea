/* r2_get: an object's bytes, whole or a range, as they come. See r2_req.h. */
#include <string.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "store/r2_meta.h"
#include "store/r2_req.h"

struct get_op {
	struct r2_op op;
	struct r2_req *q;
	char *key;
	size_t klen;
	bool ranged, begun;
	uint64_t left;           /* bytes still to come */
	struct loop_timer first; /* until the head: waiting for a connection counts as well */
	struct store_get_cb cb;
	struct store_meta meta;
	void *arg;
};

static void
get_cancel(struct r2_op *op)
{
	struct get_op *g = (struct get_op *)op;

	r2_req_free(&g->q);
	loop_timer_fini(&g->first);
	list_del(&g->op.node);
	store_meta_fini(&g->meta);
	mem_free(g->key);
	mem_free(g);
}

static void
get_answer(struct get_op *g, enum err e)
{
	void (*done)(void *arg, enum err e) = g->cb.done;
	void *arg = g->arg;

	get_cancel(&g->op);
	done(arg, e);
}

/* "bytes 0-4/10" */
static bool
parse_content_range(const char *z, uint64_t *first, uint64_t *n, uint64_t *total)
{
	uint64_t last;
	size_t a, b;

	if (z == NULL || strncmp(z, "bytes ", 6) != 0)
		return false;
	z += 6;
	a = strcspn(z, "-");
	if (z[a] != '-')
		return false;
	b = strcspn(z + a + 1, "/");
	if (z[a + 1 + b] != '/')
		return false;
	if (!str_to_u64(z, a, first) || !str_to_u64(z + a + 1, b, &last) ||
	    !str_to_u64(z + a + b + 2, strlen(z + a + b + 2), total))
		return false;
	*n = last - *first + 1;
	return *first <= last && last < *total;
}

static void
get_head(void *arg)
{
	struct get_op *g = arg;
	bool ok = r2_meta_read(g->q, &g->meta), partial = g->q->status == 206;
	uint64_t first = 0, n = g->meta.size, total = n;

	if (partial)
		ok = ok && g->ranged && parse_content_range(r2_req_answer(g->q, "content-range"), &first, &n, &total) &&
		     n == g->meta.size;
	if (!ok || (!partial && g->q->status != 200)) {
		get_answer(g, ERR_PROTO);
		return;
	}
	if (!r2_meta_is_key(&g->meta, g->key, g->klen)) {
		get_answer(g, ERR_NOTFOUND);
		return;
	}
	loop_timer_cancel(&g->first);
	g->begun = true;
	g->meta.size = total;
	g->left = n;
	g->cb.on_meta(g->arg, &g->meta, partial, first, n, total);
}

static void
get_data(void *arg, const void *p, size_t n)
{
	struct get_op *g = arg;

	if (!g->begun)
		return;
	if (n > g->left) {
		get_answer(g, ERR_PROTO);
		return;
	}
	g->left -= n;
	g->cb.on_data(g->arg, p, n);
}

static void
get_late(void *arg)
{
	struct get_op *g = arg;

	metrics_add(METRIC_R2_ERRORS, err_name(ERR_TIMEOUT), 1);
	get_answer(g, ERR_TIMEOUT);
}

static void
get_done(void *arg, enum err e)
{
	struct get_op *g = arg;

	if (e == ERR_OK && (!g->begun || g->left > 0))
		e = ERR_CLOSED;
	get_answer(g, e);
}

static void
add_range(struct r2_req *q, const struct store_get *g)
{
	struct str s = STR_INIT;

	if (g->suffix > 0)
		str_printf(&s, "bytes=-%llu", (unsigned long long)g->suffix);
	else if (g->last == UINT64_MAX)
		str_printf(&s, "bytes=%llu-", (unsigned long long)g->first);
	else
		str_printf(&s, "bytes=%llu-%llu", (unsigned long long)g->first, (unsigned long long)g->last);
	r2_req_header(q, "range", str_z(&s));
	str_fini(&s);
}

struct store_op *
r2_get(struct store *s, const struct store_get *opt, const struct store_get_cb *cb, void *arg)
{
	struct r2 *r2 = (struct r2 *)s;
	struct get_op *g = mem_zalloc(sizeof(*g));

	r2_op_init(&g->op, r2, get_cancel);
	store_meta_init(&g->meta);
	g->key = mem_strndup(opt->key, opt->klen);
	g->klen = opt->klen;
	g->cb = *cb;
	g->arg = arg;
	g->ranged = opt->ranged;
	g->q = r2_req_new(r2, "get", "GET", opt->key, opt->klen);
	if (opt->ranged)
		add_range(g->q, opt);
	if (opt->if_etag != NULL) {
		struct str quoted = STR_INIT;

		str_printf(&quoted, "\"%s\"", opt->if_etag);
		r2_req_header(g->q, "if-match", str_z(&quoted));
		str_fini(&quoted);
	}
	loop_timer_init(&g->first, r2->loop, get_late, g);
	if (opt->first_byte_ms > 0)
		loop_timer_set(&g->first, opt->first_byte_ms);
	g->q->stall_ms = opt->stall_ms;
	g->q->on_head = get_head;
	g->q->on_data = get_data;
	r2_req_start(g->q, 0, get_done, g);
	return (struct store_op *)g;
}

void
r2_pause(struct store_op *op)
{
	r2_req_pause(((struct get_op *)op)->q);
}

void
r2_resume(struct store_op *op)
{
	r2_req_resume(((struct get_op *)op)->q);
}
