#include "store/r2.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/r2_meta.h"
#include "store/r2_peer.h"
#include "store/r2_req.h"

#define BUCKET_KNOWN_MS 5000 /* how long a success proves that the bucket is there */

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
	/* a key for objects only may not look at the bucket, or the bucket is another's: a list's answer has a body
	 * that tells */
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
	bool any_spelling;
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
	if (e == ERR_OK && !h->any_spelling && !r2_meta_is_key(&m, h->key, h->klen))
		e = ERR_NOTFOUND;
	head_answer(h, e, e == ERR_OK ? &m : NULL);
	store_meta_fini(&m);
}

static struct store_op *
head_start(
    struct r2 *r2, const char *key, size_t klen, bool any_spelling, uint64_t limit_ms, store_head_done *done, void *arg)
{
	struct head_op *h = mem_zalloc(sizeof(*h));

	r2_op_init(&h->op, r2, head_cancel);
	h->key = mem_strndup(key, klen);
	h->klen = klen;
	h->any_spelling = any_spelling;
	h->done = done;
	h->arg = arg;
	h->q = r2_req_new(r2, "head", "HEAD", key, klen);
	r2_req_start(h->q, limit_ms, head_done, h);
	return (struct store_op *)h;
}

struct store_op *
r2_head(struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_head_done *done, void *arg)
{
	return head_start((struct r2 *)s, key, klen, false, limit_ms, done, arg);
}

struct store_op *
r2_head_any(struct r2 *r2, const char *key, size_t klen, uint64_t limit_ms, store_head_done *done, void *arg)
{
	return head_start(r2, key, klen, true, limit_ms, done, arg);
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
	r2_peer_free(&r2->peer);
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
    .presign = r2_presign,
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
		hlen -= ulen; /* the scheme's own port is not sent */
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
	struct http_client_opts o = {.connections = (unsigned)c->r2_connections,
	    .connect_timeout_ms = c->r2_connect_timeout,
	    .ca_file = c->r2_ca_file};

	r2->base.ops = &r2_ops;
	r2->loop = l;
	r2->pool = pool;
	r2->conf = conf_ref(c);
	list_init(&r2->ops);
	split_endpoint(r2, c->r2_endpoint, c->r2_bucket);
	r2->http = http_client_new(l, &o);
	r2->peer = r2_peer_new(r2);
	return &r2->base;
}
