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
	struct store_get_cb get;	/* of a get */
	size_t size, sent;
	bool begun, paused;
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
	mem_free(o->body);
	mem_free(o);
}

static void
copy_meta(struct store_meta *to, const struct store_meta *m)
{
	store_meta_fini(to);
	to->has_mtime = m->has_mtime;
	to->mtime_ns = m->mtime_ns;
	to->has_mode = m->has_mode;
	to->mode = m->mode;
	to->uid = m->uid;
	to->gid = m->gid;
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
	o->body = mem_dup(n > 0 ? p : "", n > 0 ? n : 1);
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

/* A get: the head, then a piece a turn, then the end. */
static void
get_end(struct store_op *op, enum err e)
{
	if (e == ERR_OK && op->f->after != NULL)
		e = op->f->after(op->f->arg, op->what);
	op->get.done(op->arg, e);
	op_free(op);
}

static void
get_turn(struct store_op *op)
{
	struct fakestore *f = op->f;
	struct fakeobj *o = map_get(f->objects, op->key, op->klen);
	size_t n;
	enum err e;

	if (!op->begun) {
		e = f->before != NULL ? f->before(f->arg, op->what) : ERR_OK;
		o = map_get(f->objects, op->key, op->klen);
		if (e == ERR_OK && o == NULL)
			e = ERR_NOTFOUND;
		if (e == ERR_OK && op->if_etag[0] != '\0' && strcmp(o->meta.etag, op->if_etag) != 0)
			e = ERR_PRECOND;
		if (e != ERR_OK) {
			get_end(op, e);
			return;
		}
		op->begun = true;
		op->body = mem_dup(o->body, o->size > 0 ? o->size : 1);
		op->body[0] ^= f->corrupt;
		op->size = o->size;
		loop_call_soon(&op->call);
		op->get.on_meta(op->arg, &o->meta, false, 0, op->size, op->size);
		return;
	}
	if (op->paused)
		return;
	n = op->size - op->sent < f->chunk ? op->size - op->sent : f->chunk;
	if (n == 0) {
		get_end(op, ERR_OK);
		return;
	}
	op->sent += n;
	loop_call_soon(&op->call);
	op->get.on_data(op->arg, op->body + op->sent - n, n);
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
	if (op->get.done != NULL) {
		get_turn(op);
		return;
	}
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
fake_get(struct store *s, const struct store_get *g, const struct store_get_cb *cb, void *arg)
{
	struct store_op *op = op_new(s, "get", g->key, g->klen, arg);

	assert_true(g->first_byte_ms > 0 && g->stall_ms > 0 && !g->ranged);
	op->get = *cb;
	if (g->if_etag != NULL)
		memcpy(op->if_etag, g->if_etag, strlen(g->if_etag) + 1);
	op->f->gets++;
	return op;
}

static void
fake_pause(struct store_op *op)
{
	op->paused = true;
	op->f->pauses++;
}

static void
fake_resume(struct store_op *op)
{
	op->paused = false;
	loop_call_soon(&op->call);
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
	static const struct store_ops ops = { .head = fake_head, .get = fake_get, .put = fake_put, .del = fake_del, .abort_uploads = fake_abort, .pause = fake_pause,
		.resume = fake_resume, .cancel = fake_cancel };

	memset(f, 0, sizeof *f);
	f->s.ops = &ops;
	f->loop = l;
	f->objects = map_new();
	f->chunk = 64 << 10;
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
