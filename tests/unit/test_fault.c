/* fault: rules, and what they do to a store that always succeeds. */
#include "unit.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/loop.h"
#include "store/fault.h"

/* The inner store: counts, and answers OK in the next turn. */
struct calm_op {
	struct loop_call call;
	store_head_done *head;
	store_done *done;
	store_list_done *list;
	struct store_get_cb get;
	void *arg;
};
static struct loop *loop;
static unsigned begun, cancelled;
static char last_key[32], last_type[32];

static void
calm_answer(void *arg)
{
	struct calm_op o = *(struct calm_op *)arg;
	struct store_meta m;

	mem_free(arg);
	store_meta_init(&m);
	if (o.head != NULL)
		o.head(o.arg, ERR_OK, &m);
	else if (o.list != NULL)
		o.list(o.arg, ERR_OK, NULL, 0, "next");
	else if (o.done != NULL)
		o.done(o.arg, ERR_OK, "etag");
	else {
		o.get.on_meta(o.arg, &m, false, 0, 1, 1);
		o.get.on_data(o.arg, "x", 1);
		o.get.done(o.arg, ERR_OK);
	}
}

static struct calm_op *
calm_new(void *arg)
{
	struct calm_op *o = mem_zalloc(sizeof(*o));

	begun++;
	o->arg = arg;
	loop_call_init(&o->call, loop, calm_answer, o);
	loop_call_soon(&o->call);
	return o;
}

static struct store_op *
calm_head(struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_head_done *done, void *arg)
{
	struct calm_op *o = calm_new(arg);

	(void)s;
	(void)key;
	(void)klen;
	(void)limit_ms;
	o->head = done;
	return (struct store_op *)o;
}

static struct store_op *
calm_get(struct store *s, const struct store_get *g, const struct store_get_cb *cb, void *arg)
{
	struct calm_op *o = calm_new(arg);

	(void)s;
	(void)g;
	o->get = *cb;
	return (struct store_op *)o;
}

static struct store_op *
calm_put(struct store *s, const struct store_put *p, store_done *done, void *arg)
{
	struct calm_op *o = calm_new(arg);

	(void)s;
	memcpy(last_key, p->key, p->klen);
	last_key[p->klen] = '\0';
	memcpy(last_type, p->meta->content_type, strlen(p->meta->content_type) + 1);
	o->done = done;
	return (struct store_op *)o;
}

static struct store_op *
calm_list(struct store *s, const char *prefix, const char *start_after, const char *after, unsigned max,
    store_list_done *done, void *arg)
{
	struct calm_op *o = calm_new(arg);

	(void)s;
	(void)prefix;
	(void)start_after;
	(void)after;
	(void)max;
	o->list = done;
	return (struct store_op *)o;
}

static void
calm_cancel(struct store_op *op)
{
	struct calm_op *o = (struct calm_op *)op;

	cancelled++;
	loop_call_cancel(&o->call);
	mem_free(o);
}

static void
calm_free(struct store *s)
{
	mem_free(s);
}

static const struct store_ops calm_ops = {
    .head = calm_head, .get = calm_get, .put = calm_put, .list = calm_list, .cancel = calm_cancel, .free = calm_free};

static struct store *
calm(const char *rules, struct errbuf *eb)
{
	struct store *inner = mem_zalloc(sizeof(*inner)), *f;

	inner->ops = &calm_ops;
	begun = cancelled = 0;
	f = fault_new(loop, &inner, rules, eb);
	assert_int_equal(f == NULL, inner != NULL);
	if (f == NULL)
		store_free(&inner);
	return f;
}

struct result {
	bool done;
	enum err e;
	size_t bytes;
};

static void
on_head(void *arg, enum err e, const struct store_meta *m)
{
	struct result *r = arg;

	assert_int_equal(m != NULL, e == ERR_OK);
	r->done = true;
	r->e = e;
}

static void
on_done(void *arg, enum err e, const char *etag)
{
	struct result *r = arg;

	assert_int_equal(etag != NULL, e == ERR_OK);
	r->done = true;
	r->e = e;
}

static void
on_list(void *arg, enum err e, const struct store_list_entry *v, size_t n, const char *next)
{
	(void)v;
	(void)n;
	on_done(arg, e, next);
}

static void
on_meta(void *arg, const struct store_meta *m, bool partial, uint64_t first, uint64_t n, uint64_t total)
{
	(void)arg;
	(void)m;
	(void)partial;
	(void)first;
	(void)n;
	(void)total;
}

static void
on_data(void *arg, const void *p, size_t n)
{
	(void)p;
	((struct result *)arg)->bytes += n;
}

static void
on_get_done(void *arg, enum err e)
{
	on_done(arg, e, e == ERR_OK ? "" : NULL);
}

static enum err
answer(struct result *r)
{
	assert_false(r->done);
	assert_true(loop_run_until(loop, &r->done, 2000));
	return r->e;
}

static enum err
head(struct store *s)
{
	struct result r = {0};

	assert_non_null(store_head(s, "k", 1, 0, on_head, &r));
	return answer(&r);
}

/* The caller's key and metadata are gone before the operation begins. */
static enum err
put(struct store *s)
{
	struct result r = {0};
	char key[] = "key", type[] = "a/b";
	struct store_meta m = {.content_type = type};
	struct store_put p = {.key = key, .klen = 3, .fd = -1, .meta = &m};

	assert_non_null(store_put(s, &p, on_done, &r));
	memset(key, 'x', 3);
	memset(type, 'x', 3);
	return answer(&r);
}

static int
setup(void **state)
{
	(void)state;
	loop = loop_new();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	loop_free(&loop);
	return 0;
}

static void
test_rules(void **state)
{
	static const char *const bad[] = {"put", "put 1", "put x UNAVAIL", "put 0 UNAVAIL", "put 3-2 UNAVAIL",
	    "pot 1 UNAVAIL", "put 1 OK", "put 1 NOSUCH", "get 1 delay", "get 1 delay 5", "put 1 lost x",
	    "put 1 UNAVAIL\nput -1 lost"};
	struct errbuf eb;
	struct store *s;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_null(calm(bad[i], &eb));
		assert_non_null(strstr(eb.text, "fault rule"));
	}
	s = calm("# a comment\n\n  put 1 lost\n* 2-3 delay 1ms\n", &eb);
	assert_non_null(s);
	store_free(&s);
	assert_null(s);
}

static void
test_faults(void **state)
{
	struct errbuf eb;
	struct store *s = calm("head 2-3 TIMEOUT\nput 2 lost\nput 3 delay 30ms\nput 4 UNAVAIL\n* 7 BUSY", &eb);
	struct store_get_cb cb = {.on_meta = on_meta, .on_data = on_data, .done = on_get_done};
	struct store_get g = {.key = "k", .klen = 1};
	struct result r = {0};
	uint64_t t;

	(void)state;
	assert_int_equal(head(s), ERR_OK);
	assert_int_equal(head(s), ERR_TIMEOUT);
	assert_int_equal(head(s), ERR_TIMEOUT);
	assert_int_equal(begun, 1);
	assert_int_equal(put(s), ERR_OK);
	assert_int_equal(put(s), ERR_CLOSED);
	assert_int_equal(begun, 3); /* applied, the answer lost */
	t = clock_mono_ms();
	assert_int_equal(put(s), ERR_OK);
	assert_true(clock_mono_ms() - t >= 29);
	assert_string_equal(last_key, "key");
	assert_string_equal(last_type, "a/b");
	assert_int_equal(head(s), ERR_BUSY);
	assert_int_equal(head(s), ERR_OK);
	assert_int_equal(put(s), ERR_UNAVAIL);
	assert_non_null(store_get(s, &g, &cb, &r));
	assert_int_equal(answer(&r), ERR_OK);
	assert_int_equal(r.bytes, 1);
	store_free(&s);

	s = calm("get 1 lost\nlist 1 lost", &eb);
	r = (struct result){0};
	assert_non_null(store_get(s, &g, &cb, &r));
	assert_int_equal(answer(&r), ERR_CLOSED);
	r = (struct result){0};
	assert_non_null(store_list(s, "", NULL, NULL, 0, on_list, &r));
	assert_int_equal(answer(&r), ERR_CLOSED);
	store_free(&s);
}

static void
test_cancel(void **state)
{
	struct errbuf eb;
	struct store *s = calm("head 1 delay 1h\nhead 2 TIMEOUT", &eb);
	struct result r = {0};
	struct store_op *op;
	bool never = false;

	(void)state;
	for (int i = 0; i < 3; i++) {
		op = store_head(s, "k", 1, 0, on_head, &r);
		store_cancel(s, &op);
	}
	assert_int_equal(cancelled, 1); /* only the third had begun */
	assert_non_null(store_head(s, "k", 1, 0, on_head, &r));
	store_free(&s);
	assert_int_equal(cancelled, 2);
	(void)loop_run_until(loop, &never, 5);
	assert_false(r.done);
}

static void
test_kill(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0) {
		struct errbuf eb;
		struct store *s = calm("* 2 kill", &eb);
		struct result r = {0};

		(void)store_head(s, "k", 1, 0, on_head, &r);
		(void)store_head(s, "k", 1, 0, on_head, &r);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == 9);
}

int
main(void)
{
#define ROW(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {ROW(test_rules), ROW(test_faults), ROW(test_cancel), ROW(test_kill)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
