/*
 * http_peer over TLS, against http_server with TLS on the same loop; and against scripts on a thread, for ends that no good server
 * makes. What a request's callbacks tell is kept in `got`.
 */
#include "unit.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "base/str.h"
#include "certs.h"
#include "io/http_peer.h"
#include "io/http_server.h"

#define SOON 20000
#define BIG (3 << 20)	/* more than sockets hold */

static struct certs ca, other_ca, cert;
static char ca_file[] = "/tmp/test_http_peer.XXXXXX", other_file[] = "/tmp/test_http_peer.XXXXXX";
static struct loop *loop;
static struct http_server *server;
static struct http_peer *peer;
static struct http_peer_opts opts;
static struct tls_client *client;
static unsigned connections;
static struct str upload;
static char *big;

static struct {
	struct str body, why;
	struct http_peer_req *req;
	struct loop_timer later;
	int status;
	enum err e;
	bool done, sent, pauses;
	size_t to_send;		/* of big, in pieces */
} got;

static void
on_request(struct http_conn *c, const struct http1_head *h)
{
	if (str_slice_eq(h->path.p, h->path.n, "/big"))
		http_conn_reply(c, 200, NULL, NULL, big, BIG);
	else if (str_slice_eq(h->path.p, h->path.n, "/last"))
		http_conn_reply(c, 200, NULL, "Connection: close\r\n", "last", 4);
	else if (str_slice_eq(h->method.p, h->method.n, "PUT"))
		http_conn_read_body(c);
	else
		http_conn_reply(c, 200, NULL, NULL, "hello", 5);
}

static void
on_body(struct http_conn *c, const void *p, size_t n)
{
	(void)c;
	str_add(&upload, p, n);
}

static void
on_body_end(struct http_conn *c)
{
	http_conn_reply(c, 201, NULL, NULL, NULL, 0);
}

static void
on_over(struct http_conn *c, bool ok, enum http_close why)
{
	(void)c;
	(void)ok;
	(void)why;
}

static void
on_open(struct http_conn *c)
{
	(void)c;
	connections++;
}

static const struct http_server_cb server_cb = {
    .on_request = on_request, .on_body = on_body, .on_body_end = on_body_end, .on_done = on_over, .on_open = on_open};

static void
on_head(void *arg, const struct http1_head *h)
{
	(void)arg;
	got.status = h->status;
}

static void
on_data(void *arg, const void *p, size_t n)
{
	(void)arg;
	str_add(&got.body, p, n);
	str_addz(&got.body, "");	/* its end */
	if (got.pauses) {
		http_peer_pause(got.req);
		loop_timer_set(&got.later, 1);
	}
}

static void
on_later(void *arg)
{
	(void)arg;
	http_peer_resume(got.req);
}

static void
send_on(void)
{
	bool go = true;

	while (go && got.to_send > 0) {
		size_t n = got.to_send < 100000 ? got.to_send : 100000;

		got.to_send -= n;
		go = http_peer_write(got.req, big + BIG - got.to_send - n, n);
	}
	if (go)
		http_peer_body_end(got.req);
}

static void
on_drain(void *arg)
{
	(void)arg;
	send_on();
}

static void
on_done(void *arg, enum err e, bool sent, const char *why)
{
	(void)arg;
	loop_timer_cancel(&got.later);
	got.req = NULL;
	got.done = true;
	got.e = e;
	got.sent = sent;
	str_clear(&got.why);
	str_addz(&got.why, why);
}

static const struct http_peer_cb peer_cb = {.on_head = on_head, .on_data = on_data, .on_drain = on_drain, .done = on_done};

static void
make_file(char *name, const char *text)
{
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static int
make_all(void **state)
{
	(void)state;
	certs_make(&ca, &(struct certs_want){.name = "authority"});
	certs_make(&other_ca, &(struct certs_want){.name = "other"});
	certs_make(&cert, &(struct certs_want){.name = "server", .alt = "DNS:server.example", .by = &ca});
	make_file(ca_file, ca.cert);
	make_file(other_file, other_ca.cert);
	big = mem_alloc(BIG);
	for (size_t i = 0; i < BIG; i++)
		big[i] = (char)('a' + i % 23);
	return 0;
}

static int
free_all(void **state)
{
	(void)state;
	certs_free(&ca);
	certs_free(&other_ca);
	certs_free(&cert);
	unlink(ca_file);
	unlink(other_file);
	mem_free(big);
	return 0;
}

static struct tls_server *
server_tls(void)
{
	struct tls_pair pair = {"x.pem", cert.cert, cert.key};
	struct tls_server *s;

	assert_int_equal(tls_server_new(&s, &pair, 1, false, NULL), ERR_OK);
	return s;
}

static void
serve(void)
{
	static const struct http_server_opts server_opts = {
	    .limits = {.head_max = 32768, .target_max = 8192, .headers_max = 100}, .header_timeout = 30000, .idle_timeout = 30000,
	    .body_timeout = 30000, .write_timeout = 30000, .out_high = 65536};
	struct tls_server *tls = server_tls();
	struct addr a;

	server = http_server_new(loop, &server_opts, &server_cb, NULL);
	http_server_set_tls(server, tls);
	tls_server_free(&tls);
	assert_int_equal(addr_parse(&a, "127.0.0.1:0", NULL), ERR_OK);
	assert_int_equal(http_server_listen_tls(server, &a, 0, NULL), ERR_OK);
}

static int
setup(void **state)
{
	(void)state;
	loop = loop_new();
	memset(&got, 0, sizeof got);
	loop_timer_init(&got.later, loop, on_later, NULL);
	connections = 0;
	str_clear(&upload);
	assert_int_equal(tls_client_new(&client, "server.example", ca_file, NULL), ERR_OK);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	http_peer_free(&peer);
	http_server_free(&server);
	tls_client_free(&client);
	loop_timer_fini(&got.later);
	loop_free(&loop);
	str_fini(&got.body);
	str_fini(&got.why);
	str_fini(&upload);
	return 0;
}

static void
dial(unsigned port)
{
	char to[40];

	snprintf(to, sizeof to, "127.0.0.1:%u", port);
	opts = (struct http_peer_opts){.name = "upstream",
	    .address = to,
	    .idle_metric = METRIC_UPSTREAM_IDLE,
	    .errors_metric = METRIC_UPSTREAM_ERRORS,
	    .connect_timeout_ms = 10000,
	    .timeout_ms = 10000,
	    .idle_timeout_ms = 10000,
	    .keepalive = 4,
	    .tls = client};
	assert_int_equal(http_peer_new(&peer, loop, &opts, NULL), ERR_OK);
	opts.address = NULL;
}

static void
begin(const char *method, const char *path, size_t send)
{
	struct http_peer_req_opts o = {.framing = send > 0 ? HTTP1_LENGTH : HTTP1_NO_BODY, .length = send, .repeatable = send == 0};
	struct str head = STR_INIT;

	str_printf(&head, "%s %s HTTP/1.1\r\nHost: server.example\r\n", method, path);
	if (send > 0)
		str_printf(&head, "Content-Length: %zu\r\n", send);
	str_addz(&head, "\r\n");
	o.head = &head;
	got.done = false;
	got.status = 0;
	got.to_send = send;
	str_clear(&got.body);
	got.req = http_peer_start(peer, &o, &peer_cb, NULL);
	if (send > 0)
		send_on();
}

static void
await(enum err e)
{
	assert_true(loop_run_until(loop, &got.done, SOON));
	if (got.e != e)
		fail_msg("%s, not %s: %s", err_name(got.e), err_name(e), str_z(&got.why));
}

static void
hello(void)
{
	begin("GET", "/", 0);
	await(ERR_OK);
	assert_int_equal(got.status, 200);
	assert_int_equal(got.body.len, 5);
	assert_memory_equal(got.body.p, "hello", 5);
}

/* One connection for many requests; a second one goes on with the first one's session. */
static void
test_pool(void **state)
{
	int64_t resumed = metrics_get(METRIC_TLS_HANDSHAKES, "resumed");

	(void)state;
	serve();
	dial(http_server_tls_port(server));
	for (int i = 0; i < 5; i++) {
		hello();
		assert_int_equal(http_peer_idle(peer), 1);
	}
	assert_int_equal(connections, 1);
	begin("GET", "/last", 0);
	await(ERR_OK);
	assert_int_equal(http_peer_idle(peer), 0);
	hello();
	assert_int_equal(connections, 2);
	assert_int_equal(metrics_get(METRIC_TLS_HANDSHAKES, "resumed"), resumed + 1);
}

/* Answers and bodies of many records, with and without pauses. */
static void
test_big(void **state)
{
	(void)state;
	serve();
	dial(http_server_tls_port(server));
	for (int i = 0; i < 2; i++) {
		got.pauses = i > 0;
		begin("GET", "/big", 0);
		await(ERR_OK);
		assert_int_equal(got.body.len, BIG);
		assert_memory_equal(got.body.p, big, BIG);
	}
	begin("PUT", "/", BIG);
	await(ERR_OK);
	assert_int_equal(got.status, 201);
	assert_int_equal(upload.len, BIG);
	assert_memory_equal(upload.p, big, BIG);
	assert_int_equal(connections, 1);
}

static void
refused(const char *host, const char *file, const char *why)
{
	int64_t failed = metrics_get(METRIC_UPSTREAM_ERRORS, "CONNECT");

	tls_client_free(&client);
	assert_int_equal(tls_client_new(&client, host, file, NULL), ERR_OK);
	opts.tls = client;
	http_peer_set_opts(peer, &opts);
	begin("PUT", "/", 10);
	await(ERR_CONNECT);
	assert_false(got.sent);
	if (!strstr(str_z(&got.why), why))
		fail_msg("\"%s\", not: %s", str_z(&got.why), why);
	assert_int_equal(metrics_get(METRIC_UPSTREAM_ERRORS, "CONNECT"), failed + 1);
	assert_int_equal(upload.len, 0);
}

/* New demands end what idles under the old ones. */
static void
test_demands(void **state)
{
	(void)state;
	serve();
	dial(http_server_tls_port(server));
	hello();
	refused("another.example", ca_file, "TLS: the certificate of \"server\" is not for another.example");
	refused("server.example", other_file, "leads to none of /tmp/test_http_peer.");
	refused("server.example", NULL, "leads to none of the system's authorities");
	assert_int_equal(http_peer_idle(peer), 0);
	tls_client_free(&client);
	assert_int_equal(tls_client_new(&client, "server.example", ca_file, NULL), ERR_OK);
	opts.tls = client;
	http_peer_set_opts(peer, &opts);
	hello();
}

/* A server that is played by a thread: it accepts one connection. */
struct script {
	pthread_t thread;
	int listener;
	const char *answer;
	size_t piece;		/* bytes in a record; all records arrive together */
	bool plain, bye;
};

static unsigned
listen_any(int *fd)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	socklen_t len = sizeof sin;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	*fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(*fd, (struct sockaddr *)&sin, sizeof sin), 0);
	assert_int_equal(listen(*fd, 10), 0);
	assert_int_equal(getsockname(*fd, (struct sockaddr *)&sin, &len), 0);
	return ntohs(sin.sin_port);
}

static void *
play(void *arg)
{
	struct script *s = arg;
	int fd = accept(s->listener, NULL, NULL);
	struct tls_server *server_side = server_tls();
	struct tls *tls = tls_accept(server_side, fd);
	int on = 1, off = 0;
	char buf[4096];
	size_t n;

	tls_server_free(&server_side);
	if (s->plain) {
		ASSERT(send(fd, s->answer, strlen(s->answer), MSG_NOSIGNAL) > 0);
		(void)recv(fd, buf, sizeof buf, 0);
	} else {
		ASSERT(tls_read(tls, buf, sizeof buf, &n) == TLS_OK);
		ASSERT(setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on) == 0);
		for (size_t left = strlen(s->answer), at = 0; left > 0; left -= n, at += n)
			ASSERT(tls_write(tls, s->answer + at, left < s->piece ? left : s->piece, &n) == TLS_OK);
		ASSERT(setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof off) == 0);
		if (s->bye)
			ASSERT(tls_bye(tls) == TLS_OK);
		else if (s->piece < strlen(s->answer))	/* nothing but what was sent wakes the other end */
			ASSERT(tls_read(tls, buf, sizeof buf, &n) != TLS_OK);
	}
	tls_free(&tls);
	close(fd);
	return NULL;
}

static void
scripted(const char *answer, size_t piece, bool plain, bool bye, enum err e)
{
	struct script s = {.answer = answer, .piece = piece, .plain = plain, .bye = bye};

	dial(listen_any(&s.listener));
	assert_int_equal(pthread_create(&s.thread, NULL, play, &s), 0);
	begin("GET", "/", 0);
	await(e);
	http_peer_free(&peer);
	assert_int_equal(pthread_join(s.thread, NULL), 0);
	close(s.listener);
}

/* A body that ends with the connection is whole only if the server said so. */
static void
test_cut(void **state)
{
	(void)state;
	scripted("HTTP/1.1 200 OK\r\n\r\nsome", SIZE_MAX, false, true, ERR_OK);
	assert_memory_equal(got.body.p, "some", got.body.len);
	scripted("HTTP/1.1 200 OK\r\n\r\nsome", SIZE_MAX, false, false, ERR_CLOSED);
	assert_string_equal(str_z(&got.why), "the answer was cut short");
	scripted("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsome", SIZE_MAX, false, false, ERR_OK);
	scripted("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsome", SIZE_MAX, false, true, ERR_CLOSED);
	scripted("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", SIZE_MAX, true, false, ERR_CONNECT);
	assert_string_equal(str_z(&got.why), "TLS: wrong version number");
}

/* Records of which the socket tells once, and more than are read in a turn. */
static void
test_small_records(void **state)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n"
				     "123456789.123456789.123456789.123456789.123456789.123456789.";

	(void)state;
	for (int i = 0; i < 2; i++) {
		got.pauses = i > 0;
		scripted(answer, 5, false, false, ERR_OK);
		assert_int_equal(got.body.len, 60);
		assert_string_equal(strstr(answer, "123456789"), got.body.p);
	}
}

/* Nobody answers the handshake: the time to connect is over. */
static void
test_no_handshake(void **state)
{
	int fd;

	(void)state;
	dial(listen_any(&fd));
	opts.connect_timeout_ms = 50;
	http_peer_set_opts(peer, &opts);
	begin("GET", "/", 0);
	await(ERR_TIMEOUT);
	assert_string_equal(str_z(&got.why), "no TLS handshake in time");
	assert_false(got.sent);
	close(fd);
}

/* A server that is gone while its connection idled: another one is made, once. */
static void
test_stale(void **state)
{
	(void)state;
	serve();
	dial(http_server_tls_port(server));
	hello();
	http_server_free(&server);
	begin("GET", "/", 0);
	await(ERR_CONNECT);
	assert_false(got.sent);
}

static void
test_cancel(void **state)
{
	(void)state;
	serve();
	dial(http_server_tls_port(server));
	begin("GET", "/big", 0);
	http_peer_cancel(&got.req);
	begin("PUT", "/", BIG);
	(void)loop_run_until(loop, &got.done, 1);
	http_peer_cancel(&got.req);
	hello();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_pool, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_big, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_demands, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_cut, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_small_records, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_no_handshake, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_stale, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
	};

	return cmocka_run_group_tests(tests, make_all, free_all);
}
