/*
 * http_server with TLS on its listener. The server lives on the loop; its clients are scripts on a thread of their own, with blocking
 * sockets, which also look at what the wire says of the end. What the server tells is written down in `said`.
 */
#include "unit.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "certs.h"
#include "io/http_server.h"

#define SOON 20000
#define BIG (3 << 20)	/* more than sockets hold */
#define H "Host: a\r\n"

static struct certs ca, first, second;
static char ca_file[] = "/tmp/test_http_tls.XXXXXX";
static struct loop *loop;
static struct http_server *server;
static struct http_server_opts opts;
static struct str said, body;
static char *big;
static struct http_conn *held;
static struct loop_timer later;

/* A script and the connection that it uses. Its mistakes end the program: cmocka's would have to on the test's own thread. */
struct script {
	void (*run)(struct script *s);
	pthread_t thread;
	struct loop_call done;
	bool over;
	int fd;
	struct tls_client *tls_client;
	struct tls *tls;
};

static void
start(struct http_conn *c, uint64_t length)
{
	struct str head = STR_INIT;

	http1_add_status_line(&head, 200, NULL);
	http_conn_start(c, &head, length);
	str_fini(&head);
}

static void
send_file(struct http_conn *c, size_t n, size_t announced)
{
	char name[] = "/tmp/test_http_tls.XXXXXX";
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	unlink(name);
	assert_int_equal(write(fd, big, n), n);
	start(c, announced + 1);
	http_conn_sendfile(c, fd, 1, announced - 1);
	http_conn_write(c, "!!", 2);
	http_conn_end(c);
}

static void
on_request(struct http_conn *c, const struct http1_head *h)
{
	char path[64];

	snprintf(path, sizeof path, "%.*s", (int)h->path.n, h->path.p);
	str_printf(&said, "%s ", path);
	assert_true(http_conn_is_tls(c));
	if (strcmp(path, "/hello") == 0) {
		http_conn_reply(c, 200, NULL, NULL, "hello", 5);
	} else if (strcmp(path, "/big") == 0) {
		http_conn_reply(c, 200, NULL, NULL, big, BIG);
	} else if (strcmp(path, "/file") == 0) {
		send_file(c, BIG, BIG);
	} else if (strcmp(path, "/short-file") == 0) {
		send_file(c, BIG, BIG + 10);
	} else if (strcmp(path, "/abort") == 0) {
		start(c, HTTP_CONN_CHUNKED);
		http_conn_write(c, "part", 4);
		held = c;
		loop_timer_set(&later, 1);
	} else {
		str_clear(&body);
		http_conn_read_body(c);
	}
}

/* Takes the body in pieces, with a pause behind each. */
static void
on_body(struct http_conn *c, const void *p, size_t n)
{
	str_add(&body, p, n);
	http_conn_pause(c);
	held = c;
	loop_timer_set(&later, 1);
}

static void
on_later(void *arg)
{
	(void)arg;
	if (http_conn_started(held))
		http_conn_abort(held, HTTP_CLOSE_CUT);
	else
		http_conn_resume(held);
}

static void
on_body_end(struct http_conn *c)
{
	http_conn_reply(c, 200, NULL, NULL, body.p, body.len);
}

static void
on_done(struct http_conn *c, bool ok, enum http_close why)
{
	(void)c;
	str_printf(&said, "%s:%s ", ok ? "ok" : "failed", http_close_name(why));
}

static void
on_close(struct http_conn *c, enum http_close why)
{
	(void)c;
	str_printf(&said, "closed:%s ", http_close_name(why));
}

static const struct http_server_cb callbacks = {
    .on_request = on_request,
    .on_body = on_body,
    .on_body_end = on_body_end,
    .on_done = on_done,
    .on_close = on_close,
};

static void
show(const struct certs *c)
{
	struct tls_pair pair = {"x.pem", c->cert, c->key};
	struct tls_server *tls;

	assert_int_equal(tls_server_new(&tls, &pair, 1, false, NULL), ERR_OK);
	http_server_set_tls(server, tls);
	tls_server_free(&tls);
}

static int
make_all(void **state)
{
	int fd = mkstemp(ca_file);

	(void)state;
	certs_make(&ca, &(struct certs_want){.name = "authority"});
	certs_make(&first, &(struct certs_want){.name = "first", .alt = "DNS:first.example", .by = &ca});
	certs_make(&second, &(struct certs_want){.name = "second", .alt = "DNS:second.example", .by = &ca});
	assert_int_equal(write(fd, ca.cert, strlen(ca.cert)), strlen(ca.cert));
	close(fd);
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
	certs_free(&first);
	certs_free(&second);
	unlink(ca_file);
	mem_free(big);
	return 0;
}

static int
setup(void **state)
{
	struct addr a;

	(void)state;
	loop = loop_new();
	opts = (struct http_server_opts){
	    .limits = {.head_max = 32768, .target_max = 8192, .headers_max = 100},
	    .header_timeout = 30000,
	    .idle_timeout = 30000,
	    .body_timeout = 30000,
	    .write_timeout = 30000,
	    .out_high = 65536,
	};
	server = http_server_new(loop, &opts, &callbacks, NULL);
	show(&first);
	assert_int_equal(addr_parse(&a, "127.0.0.1:0", NULL), ERR_OK);
	assert_int_equal(http_server_listen_tls(server, &a, 0, NULL), ERR_OK);
	assert_true(http_server_tls_port(server) > 0 && http_server_port(server) == 0);
	loop_timer_init(&later, loop, on_later, NULL);
	str_clear(&said);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	http_server_free(&server);
	loop_timer_fini(&later);
	loop_free(&loop);
	str_fini(&said);
	str_fini(&body);
	return 0;
}

static void
on_over(void *arg)
{
	struct script *s = arg;

	s->over = true;
}

static void *
thread(void *arg)
{
	struct script *s = arg;

	s->run(s);
	loop_post(&s->done);
	return NULL;
}

static void
dial(struct script *s)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)http_server_tls_port(server))};
	struct timeval limit = {.tv_sec = 15};

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT(s->fd >= 0);
	setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	ASSERT(connect(s->fd, (struct sockaddr *)&sin, sizeof sin) == 0);
}

static void
shake(struct script *s, const char *host)
{
	ASSERT(tls_client_new(&s->tls_client, host, ca_file, NULL) == ERR_OK);
	s->tls = tls_connect(s->tls_client, s->fd);
	ASSERT(tls_handshake(s->tls) == TLS_OK);
}

static void
dial_tls(struct script *s, const char *host)
{
	dial(s);
	shake(s, host);
}

static void
hang_up(struct script *s)
{
	tls_free(&s->tls);
	tls_client_free(&s->tls_client);
	close(s->fd);
}

static void
ask_bytes(struct script *s, const char *text, size_t len)
{
	for (size_t n, done = 0; done < len; done += n)
		ASSERT(tls_write(s->tls, text + done, len - done, &n) == TLS_OK);
}

static void
ask(struct script *s, const char *text)
{
	ask_bytes(s, text, strlen(text));
}

static void
cork(struct script *s, int on)
{
	ASSERT(setsockopt(s->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on) == 0);
}

/* Reads n bytes of answers. */
static void
get(struct script *s, struct str *out, size_t n)
{
	size_t got;

	str_clear(out);
	while (out->len < n) {
		ASSERT(tls_read(s->tls, str_reserve(out, n - out->len), n - out->len, &got) == TLS_OK);
		out->len += got;
	}
	str_addz(out, "");	/* its end */
}

/* Reads to the end, which must be of that kind. */
static void
get_end(struct script *s, struct str *out, enum tls_result end)
{
	enum tls_result r;
	size_t got;

	str_clear(out);
	while ((r = tls_read(s->tls, str_reserve(out, 16384), 16384, &got)) == TLS_OK)
		out->len += got;
	str_addz(out, "");	/* its end */
	ASSERT(r == end);
}

/* An answer's length: its head, and n bytes. */
static size_t
answer_len(size_t n)
{
	char text[128];

	/* "Date" is the same length at all times */
	return (size_t)snprintf(text, sizeof text,
		   "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: %zu\r\n\r\n", n) +
	       n;
}

static void
play_alone(void (*run)(struct script *s))
{
	struct script s = {.run = run};

	loop_call_init(&s.done, loop, on_over, &s);
	assert_int_equal(pthread_create(&s.thread, NULL, thread, &s), 0);
	assert_true(loop_run_until(loop, &s.over, SOON));
	assert_int_equal(pthread_join(s.thread, NULL), 0);
}

/* What the script does, and what the server then has told. */
static void
play(void (*run)(struct script *s), const char *want)
{
	play_alone(run);
	for (bool never = false; http_server_conns(server) > 0 && !strstr(str_z(&said), "closed");)
		(void)loop_run_until(loop, &never, 1);
	assert_string_equal(str_z(&said), want);
}

/* Several requests in one record, an answer and a file larger than the socket, a record's end within a head. */
static void
run_requests(struct script *s)
{
	struct str got = STR_INIT;

	dial_tls(s, "first.example");
	ask(s, "GET /hello HTTP/1.1\r\n" H "\r\nGET /hello HTTP/1.1\r\n" H "\r\n");
	get(s, &got, 2 * answer_len(5));
	ASSERT(strcmp(got.p + got.len - 5, "hello") == 0);
	/* Two records that arrive together: the socket tells of them once. */
	cork(s, 1);
	ask(s, "GET /b");
	ask(s, "ig HTTP/1.1\r\n" H "\r\n");
	cork(s, 0);
	get(s, &got, answer_len(BIG));
	ASSERT(memcmp(got.p + got.len - BIG, big, BIG) == 0);
	ask(s, "GET /file HTTP/1.1\r\n" H "\r\n");
	get(s, &got, answer_len(BIG + 1) - strlen("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
	ASSERT(memcmp(got.p + got.len - BIG - 1, big + 1, BIG - 1) == 0);
	ASSERT(strcmp(got.p + got.len - 2, "!!") == 0);
	ask(s, "GET /hello HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
	get_end(s, &got, TLS_EOF);
	hang_up(s);
	str_fini(&got);
}

static void
test_requests(void **state)
{
	(void)state;
	play(run_requests, "/hello ok:NONE /hello ok:NONE /big ok:NONE /file ok:NONE /hello ok:DONE closed:DONE ");
}

/* A body of many records, that is paused within them. */
static void
run_body(struct script *s)
{
	char head[128];
	struct str got = STR_INIT;

	dial_tls(s, "first.example");
	snprintf(head, sizeof head, "POST /echo HTTP/1.1\r\n" H "Content-Length: %d\r\n\r\n", BIG);
	ask(s, head);
	ask_bytes(s, big, BIG);
	get(s, &got, answer_len(BIG));
	ASSERT(memcmp(got.p + got.len - BIG, big, BIG) == 0);
	hang_up(s);
	str_fini(&got);
}

static void
test_body(void **state)
{
	(void)state;
	play(run_body, "/echo ok:NONE closed:CLIENT ");
}

/* An answer that is not whole never ends as a whole one does. */
static void
run_abort(struct script *s)
{
	struct str got = STR_INIT;

	dial_tls(s, "first.example");
	ask(s, "GET /abort HTTP/1.1\r\n" H "\r\n");
	get_end(s, &got, TLS_FAILED);
	ASSERT(!strstr(str_z(&got), "0\r\n\r\n"));
	hang_up(s);
	str_fini(&got);
}

static void
test_abort(void **state)
{
	(void)state;
	play(run_abort, "/abort failed:CUT closed:CUT ");
}

static void
run_short_file(struct script *s)
{
	struct str got = STR_INIT;

	dial_tls(s, "first.example");
	ask(s, "GET /short-file HTTP/1.1\r\n" H "\r\n");
	get_end(s, &got, TLS_FAILED);
	ASSERT(!strstr(got.p, "!!"));
	hang_up(s);
	str_fini(&got);
}

static void
test_short_file(void **state)
{
	(void)state;
	play(run_short_file, "/short-file failed:CUT closed:CUT ");
}

static void
run_silent(struct script *s)
{
	char c;

	dial(s);
	ASSERT(recv(s->fd, &c, 1, 0) == 0);
	close(s->fd);
}

/* Begins a handshake and does not go on. */
static void
run_slow(struct script *s)
{
	static const unsigned char hello[] = {0x16, 3, 1, 1, 0, 1};
	char c;

	dial(s);
	ASSERT(send(s->fd, hello, sizeof hello, 0) == sizeof hello);
	ASSERT(recv(s->fd, &c, 1, 0) == 0);
	close(s->fd);
}

static void
run_silent_then(struct script *s)
{
	char c;
	size_t n;

	dial_tls(s, "first.example");
	ASSERT(tls_read(s->tls, &c, 1, &n) == TLS_EOF);
	hang_up(s);
}

static void
test_timeouts(void **state)
{
	(void)state;
	opts.header_timeout = 50;
	http_server_set_opts(server, &opts);
	play(run_silent, "closed:TLS_TIMEOUT ");
	str_clear(&said);
	play(run_slow, "closed:TLS_TIMEOUT ");
	str_clear(&said);
	/* the handshake is no part of this, and has time also where all is slow */
	opts.header_timeout = 1500;
	http_server_set_opts(server, &opts);
	play(run_silent_then, "closed:HEADER_TIMEOUT ");
}

static void
run_plain(struct script *s)
{
	static const char request[] = "GET /hello HTTP/1.1\r\n" H "\r\n";
	char got[64];

	dial(s);
	ASSERT(send(s->fd, request, sizeof request - 1, 0) == sizeof request - 1);
	ASSERT(recv(s->fd, got, sizeof got, 0) <= 7);	/* an alert at most */
	close(s->fd);
}

static void
run_goes(struct script *s)
{
	dial(s);
	close(s->fd);
}

/* After the handshake, something that is no record. */
static void
run_noise(struct script *s)
{
	static const char noise[] = "noise noise noise";
	struct str got = STR_INIT;

	dial_tls(s, "first.example");
	ask(s, "GET /hello HTTP/1.1\r\n" H "\r\n");
	get(s, &got, answer_len(5));
	ASSERT(send(s->fd, noise, sizeof noise - 1, 0) == sizeof noise - 1);
	get_end(s, &got, TLS_FAILED);
	hang_up(s);
	str_fini(&got);
}

/* A balancer in front of TLS: its header is plain, and the first byte behind it is the handshake's. */
static void
run_balancer(struct script *s)
{
	static const char line[] = "PROXY TCP4 1.2.3.4 10.0.0.1 4660 443\r\n";
	struct str got = STR_INIT;

	dial(s);
	ASSERT(send(s->fd, line, sizeof line - 1, 0) == sizeof line - 1);
	shake(s, "first.example");
	ask(s, "GET /hello HTTP/1.1\r\n" H "\r\n");
	get(s, &got, answer_len(5));
	hang_up(s);
	str_fini(&got);
}

static void
test_balancer(void **state)
{
	static const struct network net = { .family = AF_INET, .addr = { 127 }, .bits = 8 };

	(void)state;
	opts.balancers = &net;
	opts.nbalancers = 1;
	http_server_set_opts(server, &opts);
	play(run_balancer, "/hello ok:NONE closed:CLIENT ");
	str_clear(&said);
	play(run_plain, "closed:PROXY_HEADER ");
}

static void
test_strangers(void **state)
{
	(void)state;
	play(run_plain, "closed:TLS_HANDSHAKE ");
	str_clear(&said);
	play(run_goes, "closed:CLIENT ");
	str_clear(&said);
	play(run_noise, "/hello ok:NONE closed:TLS_RECORD ");
}

static struct script kept;

static void
run_begin(struct script *s)
{
	struct str got = STR_INIT;

	dial_tls(&kept, "first.example");
	ask(&kept, "GET /hello HTTP/1.1\r\n" H "\r\n");
	get(&kept, &got, answer_len(5));
	str_fini(&got);
	(void)s;
}

static void
run_after_swap(struct script *s)
{
	struct str got = STR_INIT;

	dial_tls(s, "second.example");
	ask(s, "GET /hello HTTP/1.1\r\n" H "\r\n");
	get(s, &got, answer_len(5));
	ask(&kept, "GET /hello HTTP/1.1\r\n" H "\r\n");
	get(&kept, &got, answer_len(5));
	hang_up(&kept);
	hang_up(s);
	str_fini(&got);
}

static void
test_swap(void **state)
{
	(void)state;
	play_alone(run_begin);
	show(&second);
	str_clear(&said);
	play_alone(run_after_swap);
	assert_ptr_equal(strstr(str_z(&said), "/hello ok:NONE /hello ok:NONE "), said.p);
}

/* A stop closes what idles, with close_notify, and is over then. */
static void
run_drained(struct script *s)
{
	char c;
	size_t n;

	ASSERT(tls_read(kept.tls, &c, 1, &n) == TLS_EOF);
	hang_up(&kept);
	(void)s;
}

static void
test_drain(void **state)
{
	(void)state;
	play_alone(run_begin);
	http_server_drain(server, 0);
	str_clear(&said);
	play(run_drained, "closed:DRAIN ");
	assert_int_equal(http_server_conns(server), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_body, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_abort, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_short_file, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_timeouts, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_balancer, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_strangers, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_swap, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_drain, setup, teardown),
	};

	return cmocka_run_group_tests(tests, make_all, free_all);
}
