#include "store/r2.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "store/r2_meta.h"
#include "store/r2_req.h"

#define BUCKET_KNOWN_MS 5000	/* how long a success proves that the bucket is there */

/* ---- is the bucket there? ---- */

struct bucket_op {
	struct r2_op op;
	struct r2_req *q;
	void (*done)(void *arg, enum err e);
	void *arg;
};

static void
bucket_cancel(struct r2_op *op)
{
	struct bucket_op *b = (struct bucket_op *)op;

	r2_req_free(&b->q);
	list_del(&b->op.node);
	mem_free(b);
}

static void
bucket_answer(struct bucket_op *b, enum err e)
{
	void (*done)(void *arg, enum err e) = b->done;
	void *arg = b->arg;

	bucket_cancel(&b->op);
	done(arg, e);
}

static void
bucket_listed(void *arg, enum err e)
{
	bucket_answer(arg, e);
}

static void
bucket_headed(void *arg, enum err e)
{
	struct bucket_op *b = arg;
	struct r2 *r2 = b->op.r2;

	if (e != ERR_DENIED) {
		bucket_answer(b, e == ERR_NOTFOUND ? ERR_NOBUCKET : e);
		return;
	}
	/* a key for objects only may not look at the bucket, or the bucket is another's: a list's answer has a body that tells */
	r2_req_free(&b->q);
	b->q = r2_req_new(r2, "list", "GET", NULL, 0);
	r2_req_query(b->q, "list-type", "2", 1);
	r2_req_query(b->q, "max-keys", "1", 1);
	r2_req_start(b->q, r2->conf->r2_request_limit, bucket_listed, b);
}

struct r2_op *
r2_bucket_check(struct r2 *r2, void (*done)(void *arg, enum err e), void *arg)
{
	struct bucket_op *b = mem_zalloc(sizeof(*b));

	r2_op_init(&b->op, r2, bucket_cancel);
	b->done = done;
	b->arg = arg;
	b->q = r2_req_new(r2, "head", "HEAD", NULL, 0);
	r2_req_start(b->q, r2->conf->r2_request_limit, bucket_headed, b);
	return &b->op;
}

bool
r2_bucket_known(const struct r2 *r2)
{
	return r2->bucket_seen_ms != 0 && clock_mono_ms() - r2->bucket_seen_ms < BUCKET_KNOWN_MS;
}

/* ---- head ---- */

struct head_op {
	struct r2_op op;
	struct r2_req *q;
	struct r2_op *bucket;
	char *key;
	size_t klen;
	store_head_done *done;
	void *arg;
};

static void
head_cancel(struct r2_op *op)
{
	struct head_op *h = (struct head_op *)op;

	r2_req_free(&h->q);
	if (h->bucket != NULL)
		h->bucket->cancel(h->bucket);
	list_del(&h->op.node);
	mem_free(h->key);
	mem_free(h);
}

static void
head_answer(struct head_op *h, enum err e, const struct store_meta *m)
{
	store_head_done *done = h->done;
	void *arg = h->arg;

	head_cancel(&h->op);
	done(arg, e, m);
}

static void
head_bucket(void *arg, enum err e)
{
	struct head_op *h = arg;

	h->bucket = NULL;
	head_answer(h, e == ERR_OK ? ERR_NOTFOUND : e, NULL);
}

static void
head_done(void *arg, enum err e)
{
	struct head_op *h = arg;
	struct store_meta m;

	if (e == ERR_NOTFOUND && !r2_bucket_known(h->op.r2)) {
		h->bucket = r2_bucket_check(h->op.r2, head_bucket, h);
		return;
	}
	store_meta_init(&m);
	if (e == ERR_OK && !r2_meta_read(h->q, &m))
		e = ERR_PROTO;
	if (e == ERR_OK && !r2_meta_is_key(&m, h->key, h->klen))
		e = ERR_NOTFOUND;
	head_answer(h, e, e == ERR_OK ? &m : NULL);
	store_meta_fini(&m);
}

struct store_op *
r2_head(struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_head_done *done, void *arg)
{
	struct r2 *r2 = (struct r2 *)s;
	struct head_op *h = mem_zalloc(sizeof(*h));

	r2_op_init(&h->op, r2, head_cancel);
	h->key = mem_strndup(key, klen);
	h->klen = klen;
	h->done = done;
	h->arg = arg;
	h->q = r2_req_new(r2, "head", "HEAD", key, klen);
	r2_req_start(h->q, limit_ms, head_done, h);
	return (struct store_op *)h;
}

/* ---- get ---- */

struct get_op {
	struct r2_op op;
	struct r2_req *q;
	char *key;
	size_t klen;
	bool ranged, begun;
	uint64_t left;		/* bytes still to come */
	struct loop_timer first;	/* until the head: waiting for a connection counts as well */
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
	if (!str_to_u64(z, a, first) || !str_to_u64(z + a + 1, b, &last) || !str_to_u64(z + a + b + 2, strlen(z + a + b + 2), total))
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
		ok = ok && g->ranged && parse_content_range(r2_req_answer(g->q, "content-range"), &first, &n, &total) && n == g->meta.size;
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

static struct store_op *
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

static void
r2_pause(struct store_op *op)
{
	r2_req_pause(((struct get_op *)op)->q);
}

static void
r2_resume(struct store_op *op)
{
	r2_req_resume(((struct get_op *)op)->q);
}

/* ---- delete ---- */

struct del_op {
	struct r2_op op;
	struct r2_req *q;
	struct store_op *head;
	char *key;
	size_t klen;
	uint64_t limit_ms;
	store_done *done;
	void *arg;
};

static void
del_cancel(struct r2_op *op)
{
	struct del_op *d = (struct del_op *)op;

	r2_req_free(&d->q);
	if (d->head != NULL)
		((struct r2_op *)d->head)->cancel((struct r2_op *)d->head);
	list_del(&d->op.node);
	mem_free(d->key);
	mem_free(d);
}

static void
del_done(void *arg, enum err e)
{
	struct del_op *d = arg;
	store_done *done = d->done;
	void *darg = d->arg;

	del_cancel(&d->op);
	done(darg, e == ERR_NOTFOUND ? ERR_OK : e, NULL);
}

static void
del_start(struct del_op *d)
{
	d->q = r2_req_new(d->op.r2, "delete", "DELETE", d->key, d->klen);
	r2_req_start(d->q, d->limit_ms, del_done, d);
}

static void
del_headed(void *arg, enum err e, const struct store_meta *m)
{
	struct del_op *d = arg;

	(void)m;
	d->head = NULL;
	if (e == ERR_OK)
		del_start(d);
	else
		del_done(d, e);
}

static bool
is_ascii(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)p[i] >= 0x80)
			return false;
	return true;
}

static struct store_op *
r2_del(struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_done *done, void *arg)
{
	struct del_op *d = mem_zalloc(sizeof(*d));

	r2_op_init(&d->op, (struct r2 *)s, del_cancel);
	d->key = mem_strndup(key, klen);
	d->klen = klen;
	d->limit_ms = limit_ms;
	d->done = done;
	d->arg = arg;
	/* R2 folds spellings: a name that could have a twin must not take the twin's object away */
	if (is_ascii(key, klen))
		del_start(d);
	else
		d->head = r2_head(s, key, klen, limit_ms, del_headed, d);
	return (struct store_op *)d;
}

/* ---- the store ---- */

static void
r2_cancel(struct store_op *op)
{
	((struct r2_op *)op)->cancel((struct r2_op *)op);
}

static void
r2_free(struct store *s)
{
	struct r2 *r2 = (struct r2 *)s;

	/* an operation that others serve stands before them, and takes them along */
	while (!list_empty(&r2->ops)) {
		struct r2_op *op = LIST_FIRST(&r2->ops, struct r2_op, node);

		op->kill(op);
	}
	http_client_free(&r2->http);
	conf_unref(&r2->conf);
	mem_free(r2->origin);
	mem_free(r2->host);
	mem_free(r2->bucket_path);
	mem_free(r2);
}

static const struct store_ops r2_ops = {
	.head = r2_head,
	.get = r2_get,
	.put = r2_put,
	.del = r2_del,
	.list = r2_list,
	.abort_uploads = r2_abort_uploads,
	.probe = r2_probe,
	.pause = r2_pause,
	.resume = r2_resume,
	.cancel = r2_cancel,
	.free = r2_free,
};

/* "https://host:port/path/" into what goes before the path, the Host that libcurl will send, and the path. */
static void
split_endpoint(struct r2 *r2, const char *endpoint, const char *bucket)
{
	const char *sep = strstr(endpoint, "://"), *authority = sep != NULL ? sep + 3 : endpoint;
	size_t alen = strcspn(authority, "/?#"), plen = strlen(authority + alen);
	const char *usual = strncmp(endpoint, "http:", 5) == 0 ? ":80" : ":443";
	size_t ulen = strlen(usual), hlen = alen;
	struct str path = STR_INIT;

	if (hlen > ulen && memcmp(authority + hlen - ulen, usual, ulen) == 0)
		hlen -= ulen;	/* the scheme's own port is not sent */
	while (plen > 0 && authority[alen + plen - 1] == '/')
		plen--;
	r2->origin = mem_strndup(endpoint, (size_t)(authority - endpoint) + alen);
	r2->host = mem_strndup(authority, hlen);
	str_add(&path, authority + alen, plen);
	str_addc(&path, '/');
	str_add_uri(&path, bucket, strlen(bucket), false);
	r2->bucket_path = str_take(&path);
}

struct store *
r2_new(struct loop *l, struct pool *pool, const struct conf *c)
{
	struct r2 *r2 = mem_zalloc(sizeof(*r2));
	struct http_client_opts o = {.connections = (unsigned)c->r2_connections, .connect_timeout_ms = c->r2_connect_timeout,
	    .ca_file = c->r2_ca_file};

	r2->base.ops = &r2_ops;
	r2->loop = l;
	r2->pool = pool;
	r2->conf = conf_ref(c);
	list_init(&r2->ops);
	split_endpoint(r2, c->r2_endpoint, c->r2_bucket);
	r2->http = http_client_new(l, &o);
	return &r2->base;
}
