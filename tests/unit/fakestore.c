#include "fakestore.h"

#include "unit.h"

#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

struct store_op {
	struct list node;
	struct fakestore *f;
	const char *what;
	char *key, *body;
	size_t klen;
	struct store_put put;
	char if_etag[80];
	struct store_meta meta;
	store_head_done *head;
	store_done *done;
	void *arg;
	struct loop_call call;
};

static void
op_free(struct store_op *op)
{
	loop_call_cancel(&op->call);
	list_del(&op->node);
	store_meta_fini(&op->meta);
	mem_free(op->key);
	mem_free(op->body);
	mem_free(op);
}

static void
obj_free(struct fakeobj *o)
{
	store_meta_fini(&o->meta);
	mem_free(o);
}

static void
copy_meta(struct store_meta *to, const struct store_meta *m)
{
	store_meta_fini(to);
	to->has_mtime = m->has_mtime;
	to->mtime_ns = m->mtime_ns;
	to->content_type = mem_strdup(m->content_type);
	to->base = mem_strdup(m->base);
	to->cache_control = mem_strdup(m->cache_control);
}

static void
store_bytes(struct fakestore *f, const char *key, size_t klen, const void *p, size_t n, const struct store_meta *m)
{
	struct fakeobj *o = mem_zalloc(sizeof *o), *old;
	struct str hex = STR_INIT;
	static uint64_t version;

	o->size = n;
	o->version = ++version;
	digest_md5(p, n, o->md5);
	if (m != NULL)
		copy_meta(&o->meta, m);
	o->meta.size = n;
	o->meta.has_md5 = true;
	memcpy(o->meta.md5, o->md5, sizeof o->md5);
	str_add_hex(&hex, o->md5, sizeof o->md5);
	memcpy(o->meta.etag, hex.p, hex.len + 1);
	str_fini(&hex);
	old = map_set(f->objects, key, klen, o);
	if (old != NULL)
		obj_free(old);
}

static enum err
apply(struct store_op *op, const struct store_meta **meta)
{
	struct fakestore *f = op->f;
	struct fakeobj *o = map_get(f->objects, op->key, op->klen);

	if (strcmp(op->what, "head") == 0) {
		*meta = o != NULL ? &o->meta : NULL;
		return o != NULL ? ERR_OK : ERR_NOTFOUND;
	}
	if (strcmp(op->what, "put") == 0) {
		if (op->put.fence.if_absent && o != NULL)
			return ERR_PRECOND;
		if (op->put.fence.if_etag != NULL && (o == NULL || strcmp(o->meta.etag, op->if_etag) != 0))
			return ERR_PRECOND;
		store_bytes(f, op->key, op->klen, op->body, op->put.size, &op->meta);
		return ERR_OK;
	}
	if (strcmp(op->what, "del") == 0 && o != NULL) {
		map_del(f->objects, op->key, op->klen);
		obj_free(o);
	}
	return ERR_OK;
}

static void
on_call(void *arg)
{
	struct store_op *op = arg;
	struct fakestore *f = op->f;
	const struct store_meta *meta = NULL;
	enum err e = ERR_OK;

	if (f->hold != NULL && (strcmp(f->hold, "*") == 0 || strcmp(f->hold, op->what) == 0))
		return;
	if (f->before != NULL)
		e = f->before(f->arg, op->what);
	if (e == ERR_OK) {
		e = apply(op, &meta);
		if (f->after != NULL) {
			enum err after = f->after(f->arg, op->what);

			e = after != ERR_OK ? after : e;
		}
	}
	if (op->head != NULL) {
		struct store_meta copy;

		store_meta_init(&copy);
		if (e == ERR_OK)
			copy = *meta;
		op->head(op->arg, e, e == ERR_OK ? &copy : NULL);
	} else {
		op->done(op->arg, e, e == ERR_OK ? "" : NULL);
	}
	op_free(op);
}

static struct store_op *
op_new(struct store *s, const char *what, const char *key, size_t klen, void *arg)
{
	struct fakestore *f = (struct fakestore *)s;
	struct store_op *op = mem_zalloc(sizeof *op);

	op->f = f;
	op->what = what;
	op->key = mem_strndup(key, klen);
	op->klen = klen;
	op->arg = arg;
	list_add_tail(&f->ops, &op->node);
	loop_call_init(&op->call, f->loop, on_call, op);
	loop_call_soon(&op->call);
	return op;
}

static struct store_op *
fake_head(struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_head_done *done, void *arg)
{
	struct store_op *op = op_new(s, "head", key, klen, arg);

	assert_true(limit_ms > 0);
	op->head = done;
	op->f->heads++;
	return op;
}

static struct store_op *
fake_put(struct store *s, const struct store_put *p, store_done *done, void *arg)
{
	struct store_op *op = op_new(s, "put", p->key, p->klen, arg);
	uint8_t md5[16];

	op->done = done;
	op->f->puts++;
	op->put = *p;
	if (p->fence.if_etag != NULL)
		memcpy(op->if_etag, p->fence.if_etag, strlen(p->fence.if_etag) + 1);
	copy_meta(&op->meta, p->meta);
	op->body = mem_alloc(p->size + 1);
	assert_int_equal(pread(p->fd, op->body, p->size + 1, 0), p->size);
	digest_md5(op->body, p->size, md5);
	/* The bytes sent are the bytes hashed. */
	assert_memory_equal(md5, p->md5, sizeof md5);
	return op;
}

static struct store_op *
fake_del(struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_done *done, void *arg)
{
	struct store_op *op = op_new(s, "del", key, klen, arg);

	assert_true(limit_ms > 0);
	op->done = done;
	op->f->dels++;
	return op;
}

static struct store_op *
fake_abort(struct store *s, const char *key, size_t klen, store_done *done, void *arg)
{
	struct store_op *op = op_new(s, "abort", key, klen, arg);

	op->done = done;
	op->f->aborts++;
	return op;
}

static void
fake_cancel(struct store_op *op)
{
	op->f->cancels++;
	op_free(op);
}

void
fakestore_init(struct fakestore *f, struct loop *l)
{
	static const struct store_ops ops = { .head = fake_head, .put = fake_put, .del = fake_del, .abort_uploads = fake_abort, .cancel = fake_cancel };

	memset(f, 0, sizeof *f);
	f->s.ops = &ops;
	f->loop = l;
	f->objects = map_new();
	list_init(&f->ops);
}

void
fakestore_fini(struct fakestore *f)
{
	size_t pos = 0, len;
	const void *key;
	void *value;

	assert_true(list_empty(&f->ops));
	while (map_next(f->objects, &pos, &key, &len, &value))
		obj_free(value);
	map_free(&f->objects);
}

void
fakestore_release(struct fakestore *f)
{
	struct list *it, *nxt;

	f->hold = NULL;
	LIST_FOREACH(it, nxt, &f->ops)
		loop_call_soon(&LIST_ENTRY(it, struct store_op, node)->call);
}

struct fakeobj *
fakestore_get(struct fakestore *f, const char *key)
{
	return map_get(f->objects, key, strlen(key));
}

void
fakestore_set(struct fakestore *f, const char *key, const char *text)
{
	store_bytes(f, key, strlen(key), text, strlen(text), NULL);
}
