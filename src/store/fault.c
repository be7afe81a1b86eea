#include "store/fault.h"

#include <signal.h>
#include <string.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"

enum kind { OP_HEAD, OP_GET, OP_PUT, OP_DELETE, OP_LIST, OP_ABORT, OP_PROBE, OP_ANY };
static const char *const kind_names[] = {"head", "get", "put", "delete", "list", "abort", "probe", "*"};

enum act { ACT_FAIL, ACT_LOST, ACT_DELAY, ACT_KILL };

struct rule {
	enum kind kind;
	uint64_t from, to; /* of the kind's operations, counted from 1 */
	enum act act;
	enum err e;
	uint64_t delay_ms;
};

struct fault {
	struct store base;
	struct loop *loop;
	struct store *inner;
	struct rule *rules;
	size_t nrules;
	uint64_t seen[OP_ANY + 1];
	struct list ops;
};

/* An operation: waiting, failing or running inside. Its arguments are kept while it waits; one shape for all kinds. */
struct fault_op {
	struct list node;
	struct fault *f;
	enum kind kind;
	struct loop_timer timer;
	struct store_op *inner; /* NULL: not begun, or over */
	bool lost, paused;
	enum err fail;
	char *key, *start_after, *after, *if_etag;
	size_t klen;
	uint64_t limit_ms;
	unsigned max;
	struct store_get get;
	struct store_get_cb get_cb;
	struct store_put put;
	struct store_meta meta;
	store_head_done *head_done;
	store_done *done;
	store_list_done *list_done;
	store_text_done *text_done;
	void *arg;
};

/* ---- rules ---- */

static const char *
word(const char **p, size_t *n)
{
	const char *w;

	*p += strspn(*p, " \t");
	w = *p;
	*n = strcspn(w, " \t\n");
	*p += *n;
	return *n > 0 ? w : NULL;
}

static bool
parse_kind(const char *w, size_t n, enum kind *kind)
{
	for (unsigned i = 0; i <= OP_ANY; i++)
		if (str_slice_eq(w, n, kind_names[i])) {
			*kind = (enum kind)i;
			return true;
		}
	return false;
}

static bool
parse_span(const char *w, size_t n, struct rule *r)
{
	const char *dash = memchr(w, '-', n);
	size_t a = dash != NULL ? (size_t)(dash - w) : n;

	if (!str_to_u64(w, a, &r->from))
		return false;
	r->to = r->from;
	if (dash != NULL && !str_to_u64(dash + 1, n - a - 1, &r->to))
		return false;
	return r->from > 0 && r->from <= r->to;
}

static bool
parse_act(const char **p, const char *w, size_t n, struct rule *r)
{
	char text[32];

	if (str_slice_eq(w, n, "lost") || str_slice_eq(w, n, "kill")) {
		r->act = *w == 'l' ? ACT_LOST : ACT_KILL;
		return true;
	}
	if (str_slice_eq(w, n, "delay")) {
		r->act = ACT_DELAY;
		if ((w = word(p, &n)) == NULL || n >= sizeof(text))
			return false;
		memcpy(text, w, n);
		text[n] = '\0';
		return str_to_duration(text, &r->delay_ms);
	}
	for (unsigned e = ERR_OK + 1; e < ERR_COUNT; e++)
		if (str_slice_eq(w, n, err_name((enum err)e))) {
			r->act = ACT_FAIL;
			r->e = (enum err)e;
			return true;
		}
	return false;
}

static bool
parse_line(const char *p, struct rule *r)
{
	size_t n;
	const char *w;

	memset(r, 0, sizeof(*r));
	return (w = word(&p, &n)) != NULL && parse_kind(w, n, &r->kind) && (w = word(&p, &n)) != NULL &&
	       parse_span(w, n, r) && (w = word(&p, &n)) != NULL && parse_act(&p, w, n, r) && word(&p, &n) == NULL;
}

/* ---- operations ---- */

static void
op_free(struct fault_op *op)
{
	loop_timer_fini(&op->timer);
	list_del(&op->node);
	mem_free(op->key);
	mem_free(op->start_after);
	mem_free(op->after);
	mem_free(op->if_etag);
	store_meta_fini(&op->meta);
	mem_free(op);
}

static enum err
outcome(struct fault_op *op, enum err e)
{
	op->inner = NULL;
	return op->lost && e == ERR_OK ? ERR_CLOSED : e;
}

static void
on_head(void *arg, enum err e, const struct store_meta *m)
{
	struct fault_op *op = arg;
	store_head_done *done = op->head_done;
	void *darg = op->arg;

	e = outcome(op, e);
	op_free(op);
	done(darg, e, e == ERR_OK ? m : NULL);
}

static void
on_done(void *arg, enum err e, const char *etag)
{
	struct fault_op *op = arg;
	store_done *done = op->done;
	void *darg = op->arg;

	e = outcome(op, e);
	op_free(op);
	done(darg, e, e == ERR_OK ? etag : NULL);
}

static void
on_list(void *arg, enum err e, const struct store_list_entry *v, size_t n, const char *next)
{
	struct fault_op *op = arg;
	store_list_done *done = op->list_done;
	void *darg = op->arg;

	e = outcome(op, e);
	op_free(op);
	if (e == ERR_OK)
		done(darg, e, v, n, next);
	else
		done(darg, e, NULL, 0, NULL);
}

static void
on_text(void *arg, enum err e, const char *why)
{
	struct fault_op *op = arg;
	store_text_done *done = op->text_done;
	void *darg = op->arg;
	enum err out = outcome(op, e);

	op_free(op);
	done(darg, out, out == e ? why : err_text(out));
}

static void
on_get_meta(void *arg, const struct store_meta *m, bool partial, uint64_t first, uint64_t n, uint64_t total)
{
	struct fault_op *op = arg;

	op->get_cb.on_meta(op->arg, m, partial, first, n, total);
}

static void
on_get_data(void *arg, const void *p, size_t n)
{
	struct fault_op *op = arg;

	op->get_cb.on_data(op->arg, p, n);
}

static void
on_get_done(void *arg, enum err e)
{
	struct fault_op *op = arg;
	void (*done)(void *arg, enum err e) = op->get_cb.done;
	void *darg = op->arg;

	e = outcome(op, e);
	op_free(op);
	done(darg, e);
}

static void
fail(struct fault_op *op)
{
	switch (op->kind) {
	case OP_HEAD:
		on_head(op, op->fail, NULL);
		break;
	case OP_GET:
		on_get_done(op, op->fail);
		break;
	case OP_LIST:
		on_list(op, op->fail, NULL, 0, NULL);
		break;
	case OP_PROBE:
		on_text(op, op->fail, err_text(op->fail));
		break;
	case OP_PUT:
	case OP_DELETE:
	case OP_ABORT:
	case OP_ANY:
		on_done(op, op->fail, NULL);
		break;
	}
}

static void
begin(struct fault_op *op)
{
	static const struct store_get_cb cb = {.on_meta = on_get_meta, .on_data = on_get_data, .done = on_get_done};
	struct store *s = op->f->inner;

	switch (op->kind) {
	case OP_HEAD:
		op->inner = store_head(s, op->key, op->klen, op->limit_ms, on_head, op);
		break;
	case OP_GET:
		op->inner = store_get(s, &op->get, &cb, op);
		if (op->paused)
			store_pause(s, op->inner);
		break;
	case OP_PUT:
		op->inner = store_put(s, &op->put, on_done, op);
		break;
	case OP_DELETE:
		op->inner = store_del(s, op->key, op->klen, op->limit_ms, on_done, op);
		break;
	case OP_LIST:
		op->inner = store_list(s, op->key, op->start_after, op->after, op->max, on_list, op);
		break;
	case OP_ABORT:
		op->inner = store_abort_uploads(s, op->key, op->klen, on_done, op);
		break;
	case OP_PROBE:
	case OP_ANY:
		op->inner = store_probe(s, on_text, op);
		break;
	}
}

static void
on_timer(void *arg)
{
	struct fault_op *op = arg;

	if (op->fail != ERR_OK)
		fail(op);
	else
		begin(op);
}

static struct fault_op *
op_new(struct store *s, enum kind kind, const char *key, size_t klen, void *arg)
{
	struct fault_op *op = mem_zalloc(sizeof(*op));
	struct fault *f = (struct fault *)s;

	op->f = f;
	op->kind = kind;
	op->key = key != NULL ? mem_strndup(key, klen) : NULL;
	op->klen = klen;
	op->arg = arg;
	loop_timer_init(&op->timer, f->loop, on_timer, op);
	list_init(&op->node);
	list_add_tail(&f->ops, &op->node);
	return op;
}

/* Counts the operation and applies the rules: delays add up, else the first one that fits wins. */
static struct store_op *
op_start(struct fault_op *op)
{
	struct fault *f = op->f;
	uint64_t delay = 0;
	bool decided = false;

	f->seen[op->kind]++;
	f->seen[OP_ANY]++;
	for (size_t i = 0; i < f->nrules; i++) {
		const struct rule *r = &f->rules[i];
		uint64_t n = f->seen[r->kind];

		if ((r->kind != op->kind && r->kind != OP_ANY) || n < r->from || n > r->to)
			continue;
		log_debug("fault", "%s %llu: rule %zu", kind_names[op->kind], (unsigned long long)n, i + 1);
		if (r->act == ACT_KILL)
			(void)raise(SIGKILL);
		else if (r->act == ACT_DELAY)
			delay += r->delay_ms;
		else if (!decided) {
			decided = true;
			op->lost = r->act == ACT_LOST;
			op->fail = r->e;
		}
	}
	if (delay > 0 || op->fail != ERR_OK)
		loop_timer_set(&op->timer, delay);
	else
		begin(op);
	return (struct store_op *)op;
}

/* ---- the interface ---- */

static struct store_op *
fault_head(struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_head_done *done, void *arg)
{
	struct fault_op *op = op_new(s, OP_HEAD, key, klen, arg);

	op->limit_ms = limit_ms;
	op->head_done = done;
	return op_start(op);
}

static struct store_op *
fault_get(struct store *s, const struct store_get *g, const struct store_get_cb *cb, void *arg)
{
	struct fault_op *op = op_new(s, OP_GET, g->key, g->klen, arg);

	op->get = *g;
	op->get.key = op->key;
	op->get.if_etag = op->if_etag = mem_strdup(g->if_etag);
	op->get_cb = *cb;
	return op_start(op);
}

static struct store_op *
fault_put(struct store *s, const struct store_put *p, store_done *done, void *arg)
{
	struct fault_op *op = op_new(s, OP_PUT, p->key, p->klen, arg);

	op->put = *p;
	op->put.key = op->key;
	op->put.fence.if_etag = op->if_etag = mem_strdup(p->fence.if_etag);
	if (p->meta != NULL) {
		op->meta = *p->meta;
		op->meta.content_type = mem_strdup(p->meta->content_type);
		op->meta.cache_control = mem_strdup(p->meta->cache_control);
		op->meta.content_disposition = mem_strdup(p->meta->content_disposition);
		op->meta.content_encoding = mem_strdup(p->meta->content_encoding);
		op->meta.base = mem_strdup(p->meta->base);
		op->meta.spelling = mem_strdup(p->meta->spelling);
		op->put.meta = &op->meta;
	}
	op->done = done;
	return op_start(op);
}

static struct store_op *
fault_del(struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_done *done, void *arg)
{
	struct fault_op *op = op_new(s, OP_DELETE, key, klen, arg);

	op->limit_ms = limit_ms;
	op->done = done;
	return op_start(op);
}

static struct store_op *
fault_list(struct store *s, const char *prefix, const char *start_after, const char *after, unsigned max,
    store_list_done *done, void *arg)
{
	struct fault_op *op = op_new(s, OP_LIST, prefix, prefix != NULL ? strlen(prefix) : 0, arg);

	op->start_after = mem_strdup(start_after);
	op->after = mem_strdup(after);
	op->max = max;
	op->list_done = done;
	return op_start(op);
}

static struct store_op *
fault_abort_uploads(struct store *s, const char *key, size_t klen, store_done *done, void *arg)
{
	struct fault_op *op = op_new(s, OP_ABORT, key, klen, arg);

	op->done = done;
	return op_start(op);
}

static struct store_op *
fault_probe(struct store *s, store_text_done *done, void *arg)
{
	struct fault_op *op = op_new(s, OP_PROBE, NULL, 0, arg);

	op->text_done = done;
	return op_start(op);
}

static enum err
fault_presign(struct store *s, const char *method, const char *key, size_t klen, unsigned lifetime_s, struct str *url)
{
	return store_presign(((struct fault *)s)->inner, method, key, klen, lifetime_s, url);
}

static void
fault_pause(struct store_op *o)
{
	struct fault_op *op = (struct fault_op *)o;

	op->paused = true;
	if (op->inner != NULL)
		store_pause(op->f->inner, op->inner);
}

static void
fault_resume(struct store_op *o)
{
	struct fault_op *op = (struct fault_op *)o;

	op->paused = false;
	if (op->inner != NULL)
		store_resume(op->f->inner, op->inner);
}

static void
fault_cancel(struct store_op *o)
{
	struct fault_op *op = (struct fault_op *)o;

	store_cancel(op->f->inner, &op->inner);
	op_free(op);
}

static void
fault_free(struct store *s)
{
	struct fault *f = (struct fault *)s;

	while (!list_empty(&f->ops))
		fault_cancel((struct store_op *)LIST_FIRST(&f->ops, struct fault_op, node));
	store_free(&f->inner);
	mem_free(f->rules);
	mem_free(f);
}

struct store *
fault_new(struct loop *l, struct store **inner, const char *rules, struct errbuf *eb)
{
	static const struct store_ops ops = {fault_head, fault_get, fault_put, fault_del, fault_list,
	    fault_abort_uploads, fault_probe, fault_presign, fault_pause, fault_resume, fault_cancel, fault_free};
	struct fault *f = mem_zalloc(sizeof(*f));
	unsigned line = 1;

	f->base.ops = &ops;
	f->loop = l;
	list_init(&f->ops);
	for (const char *p = rules; *p != '\0'; line++) {
		const char *end = p + strcspn(p, "\n");
		const char *first = p + strspn(p, " \t");

		if (first < end && *first != '#') {
			f->rules = mem_realloc(f->rules, (f->nrules + 1) * sizeof(*f->rules));
			if (!parse_line(p, &f->rules[f->nrules++])) {
				(void)err_set(eb, ERR_SYNTAX,
				    "fault rule %u: \"%.*s\": want e.g. \"put 3 UNAVAIL\", \"get 1-5 delay 500ms\", "
				    "\"put 2 lost\", \"* 7 kill\"",
				    line, (int)(end - p), p);
				mem_free(f->rules);
				mem_free(f);
				return NULL;
			}
		}
		p = *end != '\0' ? end + 1 : end;
	}
	f->inner = *inner;
	*inner = NULL;
	return &f->base;
}
