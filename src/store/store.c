#include "store/store.h"

#include <string.h>

#include "base/mem.h"

void
store_meta_init(struct store_meta *m)
{
	memset(m, 0, sizeof(*m));
}

void
store_meta_fini(struct store_meta *m)
{
	mem_free(m->content_type);
	mem_free(m->cache_control);
	mem_free(m->content_disposition);
	mem_free(m->content_encoding);
	mem_free(m->base);
	mem_free(m->spelling);
	store_meta_init(m);
}

struct store_op *
store_head(struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_head_done *done, void *arg)
{
	return s->ops->head(s, key, klen, limit_ms, done, arg);
}

struct store_op *
store_get(struct store *s, const struct store_get *g, const struct store_get_cb *cb, void *arg)
{
	return s->ops->get(s, g, cb, arg);
}

struct store_op *
store_put(struct store *s, const struct store_put *p, store_done *done, void *arg)
{
	ASSERT(!p->fence.if_absent || p->fence.if_etag == NULL);
	return s->ops->put(s, p, done, arg);
}

struct store_op *
store_del(struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_done *done, void *arg)
{
	return s->ops->del(s, key, klen, limit_ms, done, arg);
}

struct store_op *
store_list(struct store *s, const char *prefix, const char *start_after, const char *after, unsigned max,
    store_list_done *done, void *arg)
{
	return s->ops->list(s, prefix, start_after, after, max, done, arg);
}

struct store_op *
store_abort_uploads(struct store *s, const char *key, size_t klen, store_done *done, void *arg)
{
	return s->ops->abort_uploads(s, key, klen, done, arg);
}

struct store_op *
store_probe(struct store *s, store_text_done *done, void *arg)
{
	return s->ops->probe(s, done, arg);
}

enum err
store_presign(struct store *s, const char *method, const char *key, size_t klen, unsigned lifetime_s, struct str *url)
{
	return s->ops->presign(s, method, key, klen, lifetime_s, url);
}

void
store_pause(struct store *s, struct store_op *op)
{
	s->ops->pause(op);
}

void
store_resume(struct store *s, struct store_op *op)
{
	s->ops->resume(op);
}

void
store_cancel(struct store *s, struct store_op **op)
{
	struct store_op *o = *op;

	*op = NULL;
	if (o != NULL)
		s->ops->cancel(o);
}

void
store_free(struct store **s)
{
	struct store *x = *s;

	*s = NULL;
	if (x != NULL)
		x->ops->free(x);
}
