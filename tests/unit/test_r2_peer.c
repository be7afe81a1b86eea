/* r2_peer: GETs on our own engine: its connections, and the addresses of the endpoint's name. The resolver is ours. */
#include "unit.h"

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "io/loop.h"
#include "io/pool.h"
#include "peer.h"
#include "store/r2.h"

#define SCRIPT(...)                                                                                                    \
	do {                                                                                                           \
		static const struct peer_rule rules[] = {__VA_ARGS__};                                                 \
		peer_script(peer, rules, sizeof(rules) / sizeof(rules[0]));                                            \
	} while (0)
#define ERRDOC(code) "<Error><Code>" code "</Code><Message>said so</Message></Error>"

enum { CONNECTIONS = 3, MANY = 20 };

static struct loop *loop;
static struct pool *pool;
static struct peer *peer;
static struct store *r2;
static struct conf conf;
static char endpoint[64], bucket[] = "b", key_id[] = "AKID", secret[] = "s", region[] = "auto";

/* What a GET ended with; done counts. */
static struct {
	unsigned ended, good;
	enum err e;
	bool all;
	unsigned want;
	struct str data;
} out;

/* The resolver: a thread that asks waits at the gate while that is closed. */
static struct {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool closed;
	unsigned asked;
	const char *answer[3];	/* NULL: no more; none at all: there is no such name */
} names = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **first);
int __real_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **first);

int
__wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **first)
{
	struct addrinfo **end = first;

	assert_string_equal(host, "r2.test");
	(void)pthread_mutex_lock(&names.mutex);
	names.asked++;
	(void)pthread_cond_broadcast(&names.cond);
	while (names.closed)
		(void)pthread_cond_wait(&names.cond, &names.mutex);
	*first = NULL;
	for (unsigned i = 0; i < 3 && names.answer[i] != NULL; i++) {
		assert_int_equal(__real_getaddrinfo(names.answer[i], service, hints, end), 0);
		end = &(*end)->ai_next;
	}
	(void)pthread_mutex_unlock(&names.mutex);
	return *first != NULL ? 0 : EAI_NONAME;
}

static void
gate(bool closed)
{
	(void)pthread_mutex_lock(&names.mutex);
	names.closed = closed;
	(void)pthread_cond_broadcast(&names.cond);
	(void)pthread_mutex_unlock(&names.mutex);
}

static unsigned
asked(void)
{
	unsigned n;

	(void)pthread_mutex_lock(&names.mutex);
	n = names.asked;
	(void)pthread_mutex_unlock(&names.mutex);
	return n;
}

static void
resolve_to(const char *a, const char *b, const char *c)
{
	(void)pthread_mutex_lock(&names.mutex);
	names.answer[0] = a;
	names.answer[1] = b;
	names.answer[2] = c;
	(void)pthread_mutex_unlock(&names.mutex);
}

static void
make(const char *host)
{
	(void)snprintf(endpoint, sizeof(endpoint), "http://%s:%u", host, peer_port(peer));
	r2 = r2_new(loop, pool, &conf);
}

static int
setup(void **state)
{
	(void)state;
	loop = loop_new();
	pool = pool_new(loop, 2);
	peer = peer_new(key_id, secret, region);
	memset(&conf, 0, sizeof(conf));
	conf.refs = 2; /* never freed: it is ours */
	conf.r2_endpoint = endpoint;
	conf.r2_bucket = bucket;
	conf.r2_region = region;
	conf.r2_access_key = key_id;
	conf.r2_secret = secret;
	conf.r2_connections = CONNECTIONS;
	conf.r2_connect_timeout = 2000;
	conf.r2_request_limit = 5000;
	names.asked = 0;
	resolve_to(NULL, NULL, NULL);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	store_free(&r2);
	pool_free(&pool);
	loop_free(&loop);
	peer_free(peer);
	str_fini(&out.data);
	return 0;
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
	(void)arg;
	str_add(&out.data, p, n);
}

static void
on_done(void *arg, enum err e)
{
	(void)arg;
	out.ended++;
	out.good += e == ERR_OK;
	out.e = e;
	out.all = out.ended == out.want;
}

static const struct store_get_cb get_cb = {.on_meta = on_meta, .on_data = on_data, .done = on_done};

static void
begin(unsigned n)
{
	struct store_get g = {.key = "k", .klen = 1, .first_byte_ms = 3000, .stall_ms = 3000};

	str_fini(&out.data);
	memset(&out, 0, sizeof(out));
	out.want = n;
	for (unsigned i = 0; i < n; i++)
		assert_non_null(store_get(r2, &g, &get_cb, NULL));
	assert_int_equal(out.ended, 0);
}

static enum err
end(void)
{
	assert_true(loop_run_until(loop, &out.all, 5000));
	assert_int_equal(peer_bad_signatures(peer), 0);
	return out.e;
}

static enum err
get(void)
{
	begin(1);
	return end();
}

static void
test_connections_are_kept_and_few(void **state)
{
	(void)state;
	make("127.0.0.1");
	SCRIPT({.match = "GET ", .status = 200, .body = "x"});
	assert_int_equal(get(), ERR_OK);
	assert_int_equal(get(), ERR_OK);
	assert_int_equal(peer_connections(peer), 1);
	begin(MANY);
	assert_int_equal(end(), ERR_OK);
	assert_int_equal(out.good, MANY);
	assert_int_equal(out.data.len, MANY);
	assert_int_equal(peer_connections(peer), CONNECTIONS);
}

/* Those that wait for a connection may be cancelled, and go with the store. */
static void
test_who_waits_may_go(void **state)
{
	struct store_get g = {.key = "k", .klen = 1};
	struct store_op *op;

	(void)state;
	make("127.0.0.1");
	SCRIPT({.match = "GET ", .status = 200, .body = "x"});
	begin(CONNECTIONS + 2);
	op = store_get(r2, &g, &get_cb, NULL);
	store_cancel(r2, &op);
	assert_int_equal(end(), ERR_OK);
	assert_int_equal(out.good, CONNECTIONS + 2);
	begin(MANY);
	store_free(&r2);
	assert_int_equal(out.ended, 0);
}

static void
test_a_stale_connection_is_no_failure(void **state)
{
	(void)state;
	make("127.0.0.1");
	SCRIPT({.match = "GET ", .status = 200, .body = "x", .times = 1}, {.match = "GET ", .gone = true, .times = 1},
	    {.match = "GET ", .status = 200, .body = "y", .times = 1}, {.match = "GET ", .gone = true, .times = 2});
	assert_int_equal(get(), ERR_OK);
	assert_int_equal(get(), ERR_OK);
	assert_memory_equal(out.data.p, "y", 1);
	assert_int_equal(peer_connections(peer), 2);
	/* twice is the server's fault */
	assert_int_equal(get(), ERR_CLOSED);
}

static void
test_R28_clock_of_a_get(void **state)
{
	char date[30], headers[64];
	struct peer_rule rules[] = {
	    {.match = "GET ", .status = 403, .headers = headers, .body = ERRDOC("RequestTimeTooSkewed"), .times = 1},
	    {.match = "GET ", .status = 200, .body = "x"}};

	(void)state;
	make("127.0.0.1");
	clock_http_date((int64_t)(clock_real_ms() / 1000) + 7200, date);
	(void)snprintf(headers, sizeof(headers), "Date: %s\r\n", date);
	peer_script(peer, rules, 2);
	assert_int_equal(get(), ERR_OK);
	assert_int_equal(peer_count(peer, "GET ", NULL), 2);
	assert_int_equal(out.data.len, 1);
	peer_script(peer, NULL, 0);
}

static void
on_listed(void *arg, enum err e, const struct store_list_entry *v, size_t n, const char *next)
{
	(void)v;
	(void)n;
	(void)next;
	on_done(arg, e);
}

static void
test_a_hard_limit(void **state)
{
	(void)state;
	conf.r2_request_limit = 50;
	make("127.0.0.1");
	SCRIPT({.match = "GET ", .silent = true});
	begin(0);
	out.want = 1;
	assert_non_null(store_list(r2, "", NULL, NULL, 10, on_listed, NULL));
	assert_int_equal(end(), ERR_TIMEOUT);
}

/* Asked once for all that wait; the address that answers is the one that is used from then on. */
static void
test_a_name(void **state)
{
	int64_t failed = metrics_get(METRIC_R2_ERRORS, err_name(ERR_CONNECT));

	(void)state;
	make("r2.test");
	resolve_to("127.0.0.3", "127.0.0.2", "127.0.0.1");
	gate(true);
	SCRIPT({.match = "GET ", .status = 200, .body = "x"});
	begin(MANY);
	gate(false);
	assert_int_equal(end(), ERR_OK);
	assert_int_equal(out.good, MANY);
	assert_int_equal(asked(), 1);
	assert_int_equal(metrics_get(METRIC_R2_ERRORS, err_name(ERR_CONNECT)), failed);
}

static void
test_no_such_name(void **state)
{
	(void)state;
	make("r2.test");
	SCRIPT({.match = "GET ", .status = 200, .body = "x"});
	begin(2);
	assert_int_equal(end(), ERR_CONNECT);
	assert_int_equal(out.good, 0);
	/* The next one asks again. */
	resolve_to("127.0.0.1", NULL, NULL);
	assert_int_equal(get(), ERR_OK);
	assert_int_equal(asked(), 2);
}

static void
test_nobody_answers_at_any_address(void **state)
{
	(void)state;
	make("r2.test");
	resolve_to("127.0.0.2", "127.0.0.3", NULL);
	assert_int_equal(get(), ERR_CONNECT);
	assert_int_equal(out.ended, 1);
	assert_int_equal(asked(), 1);
}

/* The resolver may take long: the store does not wait for it. */
static void
test_freed_while_the_name_is_asked_for(void **state)
{
	(void)state;
	make("r2.test");
	gate(true);
	begin(2);
	(void)pthread_mutex_lock(&names.mutex);
	while (names.asked == 0)
		(void)pthread_cond_wait(&names.cond, &names.mutex);
	(void)pthread_mutex_unlock(&names.mutex);
	store_free(&r2);
	gate(false);
	pool_free(&pool);
	assert_int_equal(out.ended, 0);
}

int
main(void)
{
#define ROW(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {ROW(test_connections_are_kept_and_few), ROW(test_who_waits_may_go), ROW(test_a_stale_connection_is_no_failure),
	    ROW(test_R28_clock_of_a_get), ROW(test_a_hard_limit), ROW(test_a_name), ROW(test_no_such_name), ROW(test_nobody_answers_at_any_address),
	    ROW(test_freed_while_the_name_is_asked_for)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
