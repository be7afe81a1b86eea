/*
 * http_server over loopback and Unix sockets. The server's callbacks and the client live on the same loop; what a request does is
 * chosen by its path. What the server tells is written down in `said`.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "io/http_server.h"

#define SOON 5000
#define H "Host: a\r\n"

static struct loop *loop;
static struct http_server *server;
static struct http_server_opts opts;
static struct str said, body;
static struct http_conn *held;	/* the request that waits for the test */
static bool tell_opens, free_when_done;
static unsigned pieces, drains;
static size_t produced, longest;
static struct loop_timer later;

struct client {
	int fd;
	struct loop_fd lf;
	struct str got;
	bool eof, reset, changed, deaf;
};

static void
reading(struct http_conn *c)
{
	str_clear(&body);
	pieces = 0;
	http_conn_read_body(c);
}

static void
start(struct http_conn *c, int status, uint64_t length)
{
	struct str head = STR_INIT;
	http1_add_status_line(&head, status, NULL);
	http1_add_header(&head, "X", "y");
	http_conn_start(c, &head, length);
	str_fini(&head);
}

/* Writes until told to wait, 100 KB a piece, 16 MB in all. */
static void
produce(struct http_conn *c)
{
	static char block[100000];
	bool go = true;
	memset(block, 'b', sizeof block);
	while (go && produced < 16000000) {
		go = http_conn_write(c, block, sizeof block);
		produced += sizeof block;
	}
	if (produced >= 16000000)
		http_conn_end(c);
}

static void
send_file(struct http_conn *c, const char *path, uint64_t length)
{
	char name[] = "/tmp/test_http_server.XXXXXX";
	int fd = mkstemp(name);
	assert_true(fd >= 0);
	unlink(name);
	assert_int_equal(write(fd, "0123456789", 10), 10);
	if (strcmp(path, "/short-file") == 0)
		assert_int_equal(ftruncate(fd, 5), 0);
	start(c, 200, length);
	http_conn_sendfile(c, fd, 2, 6);
	http_conn_write(c, "!", 1);
	http_conn_end(c);
}

static void
on_request(struct http_conn *c, const struct http1_head *h)
{
	char path[64];
	snprintf(path, sizeof path, "%.*s", (int)h->path.n, h->path.p);
	str_printf(&said, "%s ", path);
	http_conn_set(c, &said);
	if (strcmp(path, "/hello") == 0) {
		http_conn_reply(c, 200, "text/plain", "A: b\r\n", "hello", 5);
	} else if (strcmp(path, "/204") == 0) {
		http_conn_reply(c, 204, NULL, NULL, NULL, 0);
	} else if (strcmp(path, "/chunks") == 0) {
		start(c, 200, HTTP_CONN_CHUNKED);
		http_conn_write(c, "one", 3);
		http_conn_write(c, "", 0);
		http_conn_write(c, "two two two", 11);
		http_conn_end(c);
	} else if (strcmp(path, "/echo") == 0 || strcmp(path, "/slow") == 0 || strcmp(path, "/early") == 0) {
		reading(c);
		if (strcmp(path, "/early") == 0)
			http_conn_reply(c, 200, NULL, NULL, "early", 5);
	} else if (strcmp(path, "/file") == 0 || strcmp(path, "/short-file") == 0) {
		send_file(c, path, 7);
	} else if (strcmp(path, "/chunked-file") == 0) {
		send_file(c, path, HTTP_CONN_CHUNKED);
	} else if (strcmp(path, "/produce") == 0) {
		produced = drains = 0;
		start(c, 200, HTTP_CONN_CHUNKED);
		produce(c);
	} else if (strcmp(path, "/abort") == 0) {
		start(c, 200, HTTP_CONN_CHUNKED);
		http_conn_write(c, "part", 4);
		http_conn_abort(c, HTTP_CLOSE_CUT);
		http_conn_write(c, "more", 4);
		http_conn_end(c);
	} else if (strcmp(path, "/too-short") == 0) {
		start(c, 200, 10);
		http_conn_write(c, "part", 4);
		http_conn_end(c);
	} else if (strcmp(path, "/tunnel") == 0) {
		struct str head = STR_INIT;
		str_addz(&head, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n");
		http_conn_tunnel(c, &head);
		str_fini(&head);
	} else if (strcmp(path, "/free") == 0) {
		http_server_free(&server);
	} else if (strcmp(path, "/unread") == 0) {
		http_conn_reply(c, 403, NULL, NULL, "no", 2);
	} else {
		held = c;
	}
}

static void
on_body(struct http_conn *c, const void *p, size_t n)
{
	assert_ptr_equal(http_conn_get(c), &said);
	str_add(&body, p, n);
	pieces++;
	longest = n > longest ? n : longest;
	held = c;
	if (strstr(said.p, "/tunnel"))
		http_conn_write(c, p, n);
	if (strstr(said.p, "/slow")) {
		http_conn_pause(c);
		loop_timer_set(&later, 1);
	}
}

static void
on_later(void *arg)
{
	(void)arg;
	http_conn_resume(held);
}

static void
on_body_end(struct http_conn *c)
{
	str_addz(&said, "end ");
	if (strstr(said.p, "/tunnel"))
		http_conn_end(c);
	if (!http_conn_started(c))
		http_conn_reply(c, 200, NULL, NULL, body.p ? body.p : "", body.len);
}

static void
on_drain(struct http_conn *c)
{
	drains++;
	produce(c);
}

static void
on_done(struct http_conn *c, bool ok, enum http_close why)
{
	held = NULL;
	assert_ptr_equal(http_conn_get(c), &said);
	str_printf(&said, "%s:%s ", ok ? "ok" : "failed", http_close_name(why));
	if (free_when_done)
		http_server_free(&server);
}

static void
on_open(struct http_conn *c)
{
	assert_string_equal(http_conn_peer(c), http_conn_peer_is_unix(c) ? "unix:" : "127.0.0.1");
	if (tell_opens)
		str_addz(&said, "open ");
}

static void
on_close(struct http_conn *c, enum http_close why)
{
	assert_ptr_equal(http_server_arg(http_conn_server(c)), &opts);
	str_printf(&said, "closed:%s ", http_close_name(why));
}

static void
on_bad(struct http_conn *c, enum http1_bad bad)
{
	(void)c;
	str_printf(&said, "bad:%s ", http1_bad_name(bad));
}

static const struct http_server_cb callbacks = {
    .on_request = on_request,
    .on_body = on_body,
    .on_body_end = on_body_end,
    .on_drain = on_drain,
    .on_done = on_done,
    .on_open = on_open,
    .on_close = on_close,
    .on_bad = on_bad,
};

static int
setup(void **state)
{
	struct addr a;
	(void)state;
	loop = loop_new();
	opts = (struct http_server_opts) {
	    .limits = {.head_max = 32768, .target_max = 8192, .headers_max = 100},
	    .header_timeout = 30000,
	    .idle_timeout = 30000,
	    .body_timeout = 30000,
	    .write_timeout = 30000,
	    .out_high = 65536,
	};
	server = http_server_new(loop, &opts, &callbacks, &opts);
	assert_int_equal(addr_parse(&a, "127.0.0.1:0", NULL), ERR_OK);
	assert_int_equal(http_server_listen(server, &a, 0, NULL), ERR_OK);
	assert_true(http_server_port(server) > 0);
	loop_timer_init(&later, loop, on_later, NULL);
	str_clear(&said);
	str_clear(&body);
	tell_opens = free_when_done = false;
	held = NULL;
	longest = 0;
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
on_client(void *arg, int what)
{
	struct client *k = arg;
	char buf[16384];
	ssize_t n;
	(void)what;
	if (k->deaf) {
		loop_fd_want(&k->lf, 0);
		return;
	}
	while ((n = recv(k->fd, buf, sizeof buf, MSG_DONTWAIT)) > 0)
		str_add(&k->got, buf, (size_t)n);
	if (n == 0)
		k->eof = true;
	else if (errno != EAGAIN)
		k->reset = true;
	if (k->eof || k->reset)
		loop_fd_want(&k->lf, 0);
	k->changed = true;
}

static void
dial_addr(struct client *k, const char *to, int window)
{
	struct addr a;
	memset(k, 0, sizeof *k);
	assert_int_equal(addr_parse(&a, to, NULL), ERR_OK);
	k->fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(k->fd >= 0);
	if (window > 0)
		setsockopt(k->fd, SOL_SOCKET, SO_RCVBUF, &window, sizeof window);
	assert_int_equal(connect(k->fd, &a.sa, a.len), 0);
	loop_fd_init(&k->lf, loop, k->fd, on_client, k);
	loop_fd_want(&k->lf, LOOP_READ);
}

static void
dial_window(struct client *k, int window)
{
	char to[40];
	snprintf(to, sizeof to, "127.0.0.1:%u", http_server_port(server));
	dial_addr(k, to, window);
}

static void
dial(struct client *k)
{
	dial_window(k, 0);
}

/* It takes little and, until told otherwise, reads nothing. */
static void
dial_deaf(struct client *k)
{
	dial_window(k, 4096);
	k->deaf = true;
}

static void
hang_up(struct client *k)
{
	loop_fd_fini(&k->lf);
	close(k->fd);
	str_fini(&k->got);
}

static void
put_n(struct client *k, const char *p, size_t n)
{
	assert_int_equal(send(k->fd, p, n, MSG_NOSIGNAL), (ssize_t)n);
}

static void
put(struct client *k, const char *z)
{
	put_n(k, z, strlen(z));
}

/* Runs the loop until the client has seen the text, or fails. */
static void
see(struct client *k, const char *text)
{
	while (!strstr(str_z(&k->got), text)) {
		k->changed = false;
		if (!loop_run_until(loop, &k->changed, SOON) || ((k->eof || k->reset) && !strstr(str_z(&k->got), text)))
			fail_msg("no \"%s\" in \"%s\"; %s", text, str_z(&k->got), str_z(&said));
	}
}

static void
see_end(struct client *k)
{
	while (!k->eof && !k->reset) {
		k->changed = false;
		if (!loop_run_until(loop, &k->changed, SOON))
			fail_msg("still open after \"%s\"; %s", str_z(&k->got), str_z(&said));
	}
}

static void
turns(uint64_t ms)
{
	bool never = false;
	(void)loop_run_until(loop, &never, ms);
}

/* Runs the loop until the server has said so. */
static void
hear(const char *text)
{
	for (int i = 0; i < SOON / 2 && !strstr(str_z(&said), text); i++)
		turns(2);
	if (!strstr(str_z(&said), text))
		fail_msg("not said \"%s\" but \"%s\"", text, str_z(&said));
}

static unsigned
count(const char *in, const char *what)
{
	unsigned n = 0;
	for (const char *p = in; (p = strstr(p, what)); p++)
		n++;
	return n;
}

static void
test_plain(void **state)
{
	struct client k;
	(void)state;
	dial(&k);
	put(&k, "GET /hello HTTP/1.1\r\n" H "\r\n");
	see(&k, "\r\n\r\nhello");
	assert_memory_equal(k.got.p, "HTTP/1.1 200 OK\r\nDate: ", 23);
	assert_non_null(strstr(k.got.p, "\r\nContent-Type: text/plain\r\nA: b\r\nContent-Length: 5\r\n\r\nhello"));
	str_clear(&k.got);
	put(&k, "GET /chunks HTTP/1.1\r\n" H "\r\n");
	see(&k, "0\r\n\r\n");
	assert_string_equal(k.got.p, "HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n"
				     "3\r\none\r\nb\r\ntwo two two\r\n0\r\n\r\n");
	str_clear(&k.got);
	put(&k, "GET /204 HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
	see_end(&k);
	assert_non_null(strstr(k.got.p, "204 No Content"));
	assert_null(strstr(k.got.p, "Content-Length"));
	assert_non_null(strstr(k.got.p, "Connection: close\r\n\r\n"));
	assert_true(k.eof);
	assert_string_equal(said.p, "/hello ok:NONE /chunks ok:NONE /204 ok:DONE closed:DONE ");
	assert_int_equal(http_server_conns(server), 0);
	hang_up(&k);
}

static void
test_unix(void **state)
{
	struct client k;
	struct addr a;
	char dir[] = "/tmp/test_http_server.XXXXXX", name[80];
	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(name, sizeof name, "unix:%s/s", dir);
	assert_int_equal(addr_parse(&a, name, NULL), ERR_OK);
	assert_int_equal(http_server_listen(server, &a, 0600, NULL), ERR_OK);
	dial_addr(&k, name, 0);
	put(&k, "GET /hello HTTP/1.1\r\n" H "\r\n");
	see(&k, "\r\n\r\nhello");
	hang_up(&k);
	hear("closed:CLIENT ");
	unlink(name + 5);
	rmdir(dir);
}

static void
test_head_requests(void **state)
{
	struct client k;
	(void)state;
	dial(&k);
	put(&k, "HEAD /hello HTTP/1.1\r\n" H "\r\nHEAD /chunks HTTP/1.1\r\n" H "\r\n");
	put(&k, "HEAD /file HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
	see_end(&k);
	assert_int_equal(count(k.got.p, "\r\n\r\nHTTP/1.1 200 OK\r\n"), 2);
	assert_non_null(strstr(k.got.p, "Content-Length: 5\r\n"));
	assert_non_null(strstr(k.got.p, "Transfer-Encoding: chunked\r\n"));
	static const char last[] = "Content-Length: 7\r\nConnection: close\r\n\r\n";
	assert_true(k.got.len > sizeof last);
	assert_string_equal(k.got.p + k.got.len - (sizeof last - 1), last);
	assert_null(strstr(k.got.p, "hello"));
	hang_up(&k);
}

static void
test_http10(void **state)
{
	struct client k;
	(void)state;
	dial(&k);
	put(&k, "GET /chunks HTTP/1.0\r\n\r\n");
	see_end(&k);
	assert_string_equal(k.got.p, "HTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\nonetwo two two");
	hang_up(&k);
	dial(&k);
	put(&k, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	see(&k, "Connection: keep-alive\r\n\r\nhello");
	put(&k, "GET /hello HTTP/1.0\r\n\r\n");
	see_end(&k);
	assert_non_null(strstr(k.got.p, "Connection: close\r\n\r\nhello"));
	hang_up(&k);
}

/* In order, and the next is not looked at before the last is answered. */
static void
test_pipeline(void **state)
{
	struct client k;
	(void)state;
	dial(&k);
	put(&k, "GET /held HTTP/1.1\r\n" H "\r\nGET /hello HTTP/1.1\r\n" H "\r\nPOST /echo HTTP/1.1\r\n" H
		"Content-Length: 3\r\n\r\nabcGET /chunks HTTP/1.1\r\n" H "\r\n");
	hear("/held ");
	turns(5);
	assert_string_equal(said.p, "/held ");
	http_conn_reply(held, 200, NULL, NULL, "first", 5);
	assert_string_equal(said.p, "/held ");
	see(&k, "0\r\n\r\n");
	assert_string_equal(said.p, "/held ok:NONE /hello ok:NONE /echo end ok:NONE /chunks ok:NONE ");
	assert_true(strstr(k.got.p, "first") < strstr(k.got.p, "hello"));
	assert_true(strstr(k.got.p, "hello") < strstr(k.got.p, "abc"));
	hang_up(&k);
}

static void
test_bytewise(void **state)
{
	static const char all[] = "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\nT: u\r\n\r\n"
				  "GET /hello HTTP/1.1\r\n" H "\r\n";
	struct client k;
	(void)state;
	dial(&k);
	for (size_t i = 0; i + 1 < sizeof all; i++) {
		put_n(&k, all + i, 1);
		turns(0);
	}
	see(&k, "hello");
	assert_non_null(strstr(k.got.p, "\r\n\r\nabcd"));
	hang_up(&k);
}

static void
test_bodies(void **state)
{
	struct client k;
	struct str big = STR_INIT;
	(void)state;
	memset(str_reserve(&big, 300000), 'x', 300000);
	big.len = 300000;
	dial(&k);
	put(&k, "POST /slow HTTP/1.1\r\n" H "Content-Length: 300000\r\n\r\n");
	for (size_t at = 0; at < big.len; at += 30000) {	/* what the kernel does not hold waits for the reader */
		put_n(&k, big.p + at, 30000);
		turns(0);
	}
	hear("ok:NONE");
	assert_int_equal(body.len, 300000);
	assert_true(pieces > 3 && longest <= 65536);
	str_clear(&said);
	put(&k, "POST /echo HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\nGET /echo HTTP/1.1\r\n" H "\r\n");
	hear("/echo end ok:NONE /echo end ok:NONE");
	/* An answer before the end does not stop the flow. */
	str_clear(&said);
	put(&k, "POST /early HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nab");
	see(&k, "early");
	put(&k, "cd");
	hear("/early end ok:NONE");
	assert_string_equal(body.p, "abcd");
	hang_up(&k);
	str_fini(&big);
}

static void
test_expect(void **state)
{
	struct client k;
	(void)state;
	dial(&k);
	put(&k, "POST /echo HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
	see(&k, "HTTP/1.1 100 Continue\r\n\r\n");
	put(&k, "abc");
	see(&k, "\r\n\r\nabc");
	/* The body is here already: nothing needs to be said. */
	str_clear(&k.got);
	put(&k, "POST /echo HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc");
	see(&k, "\r\n\r\nabc");
	assert_null(strstr(k.got.p, "100 Continue"));
	/* Refused without reading: nobody knows whether the body will come. */
	put(&k, "POST /unread HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
	see_end(&k);
	assert_non_null(strstr(k.got.p, "Connection: close\r\n\r\nno"));
	hang_up(&k);
	hear("ok:BODY_UNREAD closed:BODY_UNREAD");
}

static void
test_unread(void **state)
{
	struct client k;
	char junk[50000];
	(void)state;
	memset(junk, 'j', sizeof junk);
	dial(&k);
	put(&k, "POST /unread HTTP/1.1\r\n" H "Content-Length: 50000\r\n\r\n");
	see(&k, "no");
	assert_string_equal(said.p, "/unread ok:NONE ");
	put_n(&k, junk, sizeof junk);
	put(&k, "GET /hello HTTP/1.1\r\n" H "\r\n");
	see(&k, "hello");
	/* Too much to read: closed, but so that the answer arrives although the client goes on sending. */
	str_clear(&said);
	str_clear(&k.got);
	put(&k, "POST /unread HTTP/1.1\r\n" H "Content-Length: 500000\r\n\r\n");
	put_n(&k, junk, sizeof junk);
	see(&k, "Connection: close\r\n\r\nno");
	for (int i = 0; i < 9; i++)
		put_n(&k, junk, sizeof junk);
	see_end(&k);
	assert_true(k.eof && !k.reset);
	hang_up(&k);
	hear("closed:BODY_UNREAD");
	/* Chunked: found out on the way. */
	str_clear(&said);
	dial(&k);
	put(&k, "POST /unread HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nfffff\r\n");
	put_n(&k, junk, sizeof junk);
	put_n(&k, junk, sizeof junk);
	see_end(&k);
	hang_up(&k);
	hear("/unread ok:NONE closed:BODY_UNREAD");
}

static void
test_tunnel(void **state)
{
	struct client k;
	(void)state;
	dial(&k);
	put(&k, "GET /tunnel HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: x\r\n\r\nGET early");
	see(&k, "Upgrade: x\r\n\r\nGET early");
	put(&k, "late\n");
	see(&k, "GET earlylate\n");
	shutdown(k.fd, SHUT_WR);	/* the server ends what it says in on_body_end */
	see_end(&k);
	assert_true(k.eof);
	assert_string_equal(said.p, "/tunnel end ok:DONE closed:DONE ");
	hang_up(&k);
	/* Our side ends first. */
	str_clear(&said);
	dial(&k);
	put(&k, "GET /tunnel HTTP/1.1\r\n" H "\r\nx");
	see(&k, "\r\n\r\nx");
	http_conn_end(held);
	see_end(&k);
	hang_up(&k);
	hear("/tunnel ok:DONE closed:DONE");
}

static void
test_files(void **state)
{
	struct client k;
	(void)state;
	dial(&k);
	put(&k, "GET /file HTTP/1.1\r\n" H "\r\nGET /chunked-file HTTP/1.1\r\n" H "\r\n");
	see(&k, "0\r\n\r\n");
	assert_non_null(strstr(k.got.p, "Content-Length: 7\r\n\r\n234567!HTTP/1.1"));
	assert_non_null(strstr(k.got.p, "\r\n\r\n6\r\n234567\r\n1\r\n!\r\n0\r\n\r\n"));
	put(&k, "GET /short-file HTTP/1.1\r\n" H "\r\n");
	see_end(&k);
	hang_up(&k);
	hear("/short-file failed:CUT closed:CUT");
}

static void
test_back_pressure(void **state)
{
	struct client k;
	(void)state;
	dial_deaf(&k);
	put(&k, "GET /produce HTTP/1.1\r\n" H "\r\n");
	hear("/produce");
	turns(20);
	assert_true(produced < 16000000);
	size_t before = produced;
	turns(20);
	assert_int_equal(produced, before);
	k.deaf = false;
	loop_fd_want(&k.lf, LOOP_READ);
	see(&k, "\r\n0\r\n\r\n");
	assert_int_equal(produced, 16000000);
	assert_true(k.got.len > 16000000);
	assert_true(drains > 0);
	hang_up(&k);
	hear("/produce ok:NONE");
}

static void
test_aborts(void **state)
{
	static const struct {
		const char *path, *said;
	} cases[] = {
	    {"/abort", "/abort failed:CUT closed:CUT "},
	    {"/too-short", "/too-short failed:CUT closed:CUT "},
	};
	struct client k;
	char req[100];
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		str_clear(&said);
		dial(&k);
		snprintf(req, sizeof req, "GET %s HTTP/1.1\r\n" H "\r\n", cases[i].path);
		put(&k, req);
		see_end(&k);
		assert_null(strstr(str_z(&k.got), "0\r\n\r\n"));
		hear(cases[i].said);
		hang_up(&k);
	}
	/* From outside of any callback: nothing is called inside the call. */
	str_clear(&said);
	dial(&k);
	put(&k, "GET /held HTTP/1.1\r\n" H "\r\n");
	hear("/held");
	http_conn_abort(held, HTTP_CLOSE_CUT);
	http_conn_reply(held, 200, NULL, NULL, "x", 1);
	assert_string_equal(said.p, "/held ");
	see_end(&k);
	assert_int_equal(k.got.len, 0);
	assert_string_equal(said.p, "/held failed:CUT closed:CUT ");
	hang_up(&k);
}

static void
test_client_gone(void **state)
{
	struct client k;
	(void)state;
	dial(&k);
	put(&k, "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nab");
	hear("/echo");
	shutdown(k.fd, SHUT_WR);
	see_end(&k);
	hang_up(&k);
	hear("/echo failed:CLIENT_ABORT closed:CLIENT_ABORT");
	/* Half a head. */
	str_clear(&said);
	dial(&k);
	put(&k, "GET /he");
	turns(5);
	hang_up(&k);
	hear("closed:CLIENT_ABORT");
	/* It has said all and still listens: it is answered. */
	str_clear(&said);
	dial(&k);
	put(&k, "GET /held HTTP/1.1\r\n" H "\r\n");
	shutdown(k.fd, SHUT_WR);
	hear("/held");
	turns(5);
	http_conn_reply(held, 200, NULL, NULL, "still", 5);
	see_end(&k);
	assert_non_null(strstr(k.got.p, "still"));
	assert_string_equal(said.p, "/held ok:NONE closed:CLIENT ");
	hang_up(&k);
	/* It is gone for good: the answer finds out. */
	str_clear(&said);
	dial(&k);
	put(&k, "GET /held HTTP/1.1\r\n" H "\r\n");
	hear("/held");
	struct linger reset = {1, 0};
	setsockopt(k.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	hang_up(&k);
	turns(5);
	http_conn_reply(held, 200, NULL, NULL, "lost", 4);
	hear("/held failed:CLIENT_ABORT closed:CLIENT_ABORT");
}

static void
test_bad(void **state)
{
	static const struct {
		const char *req, *status, *said;
	} cases[] = {
	    {"\r\n", "400 Bad Request", "bad:START_LINE closed:BAD_REQUEST "},
	    {"GET / HTTP/1.1\r\n\r\n", "400 Bad Request", "bad:HOST closed:BAD_REQUEST "},
	    {"GET / HTTP/3.0\r\n\r\n", "505 HTTP Version Not Supported", "bad:VERSION closed:BAD_REQUEST "},
	    {"\x16\x03\x01", "400 Bad Request", "bad:METHOD closed:BAD_REQUEST "},
	    {"POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd", "400 Bad Request",
		"/echo failed:BAD_REQUEST closed:BAD_REQUEST "},
	};
	struct client k;
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		str_clear(&said);
		dial(&k);
		put(&k, cases[i].req);
		put(&k, "and more of it\r\n");
		see(&k, cases[i].status);
		see(&k, "Connection: close\r\n");
		see_end(&k);
		assert_true(k.eof);
		assert_int_equal(count(k.got.p, "HTTP/1.1 "), 1);
		hang_up(&k);
		hear(cases[i].said);
	}
}

static void
short_times(void)
{
	opts.header_timeout = opts.idle_timeout = opts.body_timeout = opts.write_timeout = 30;
	http_server_set_opts(server, &opts);
}

static void
test_timeouts(void **state)
{
	struct client k;
	(void)state;
	short_times();
	dial(&k);
	see_end(&k);
	hear("closed:HEADER_TIMEOUT");
	hang_up(&k);
	str_clear(&said);
	dial(&k);
	put(&k, "GET / HT");
	see(&k, "408 Request Timeout");
	see_end(&k);
	hang_up(&k);
	hear("closed:HEADER_TIMEOUT");
	str_clear(&said);
	dial(&k);
	put(&k, "GET /hello HTTP/1.1\r\n" H "\r\n");
	see_end(&k);
	hang_up(&k);
	hear("/hello ok:NONE closed:IDLE_TIMEOUT");
	str_clear(&said);
	dial(&k);
	put(&k, "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nab");
	see(&k, "408 Request Timeout");
	see_end(&k);
	hang_up(&k);
	hear("/echo failed:BODY_TIMEOUT closed:BODY_TIMEOUT");
	/* A request that takes long is no reason. */
	str_clear(&said);
	dial(&k);
	put(&k, "GET /held HTTP/1.1\r\n" H "\r\n");
	hear("/held");
	turns(100);
	assert_non_null(held);
	http_conn_reply(held, 200, NULL, NULL, "held", 4);
	see(&k, "held");
	hang_up(&k);
	hear("closed:");
	str_clear(&said);
	dial_deaf(&k);
	put(&k, "GET /produce HTTP/1.1\r\n" H "\r\n");
	hear("closed:");
	assert_string_equal(said.p, "/produce failed:WRITE_TIMEOUT closed:WRITE_TIMEOUT ");
	hang_up(&k);
}

static void
ask_hello(struct client *k)
{
	put(k, "GET /hello HTTP/1.1\r\n" H "\r\n");
	see(k, "\r\n\r\nhello");
}

/* From a balancer's network the header comes first, and says who the client is. */
static void
test_balancer(void **state)
{
	static const struct network net = {.family = AF_INET, .addr = {127}, .bits = 8};
	static const char request[] = "GET /held HTTP/1.1\r\n" H "\r\n";
	struct client k;
	(void)state;
	opts.balancers = &net;
	opts.nbalancers = 1;
	http_server_set_opts(server, &opts);
	dial(&k);
	put(&k, "PROXY TCP4 1.2.3.4 10.0.0.1 4660 ");
	turns(10);
	put(&k, "443\r\nGET /held HTTP/1.1\r\n" H "\r\n");
	hear("/held");
	assert_string_equal(http_conn_peer(held), "1.2.3.4");
	http_conn_reply(held, 200, NULL, NULL, "one", 3);
	see(&k, "\r\n\r\none");
	put(&k, "GET /hello HTTP/1.1\r\n" H "\r\n");	/* once a connection */
	see(&k, "\r\n\r\nhello");
	hang_up(&k);
	hear("closed:CLIENT ");

	str_clear(&said);
	dial(&k);
	put_n(&k, "\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\7"
		  "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\x12\x34\x01\xbb", 52);
	put(&k, request);
	hear("/held");
	assert_string_equal(http_conn_peer(held), "fd00::7");
	http_conn_abort(held, HTTP_CLOSE_CUT);
	see_end(&k);
	hang_up(&k);

	/* One that speaks for itself. */
	str_clear(&said);
	dial(&k);
	put(&k, "PROXY UNKNOWN\r\n");
	put(&k, request);
	hear("/held");
	assert_string_equal(http_conn_peer(held), "127.0.0.1");
	http_conn_abort(held, HTTP_CLOSE_CUT);
	see_end(&k);
	hang_up(&k);

	/* Without the header not a byte is answered. */
	str_clear(&said);
	dial(&k);
	put(&k, "GET /hello HTTP/1.1\r\n" H "\r\n");
	see_end(&k);
	assert_int_equal(k.got.len, 0);
	hang_up(&k);
	hear("closed:PROXY_HEADER ");

	str_clear(&said);
	opts.header_timeout = 30;
	http_server_set_opts(server, &opts);
	dial(&k);
	put(&k, "PROXY TCP4 1.2.3.4");
	see_end(&k);
	assert_int_equal(k.got.len, 0);
	hang_up(&k);
	hear("closed:HEADER_TIMEOUT ");

	str_clear(&said);
	opts.header_timeout = 30000;
	http_server_set_opts(server, &opts);
	dial(&k);
	put(&k, "PROXY ");
	turns(10);
	http_server_drain(server, 30);
	see_end(&k);
	hang_up(&k);
	hear("closed:DRAIN ");
}

/* From anybody else it is a malformed request. */
static void
test_no_balancer(void **state)
{
	static const struct network net = {.family = AF_INET, .addr = {10}, .bits = 8};
	struct client k;
	(void)state;
	opts.balancers = &net;
	opts.nbalancers = 1;
	http_server_set_opts(server, &opts);
	dial(&k);
	put(&k, "PROXY TCP4 1.2.3.4 10.0.0.1 4660 443\r\nGET /hello HTTP/1.1\r\n" H "\r\n");
	see(&k, "400 Bad Request");
	hang_up(&k);
	hear("bad:START_LINE ");
}

/* As many at once as one address may have, and again when one has gone; those who speak for many have no limit. */
static void
test_address_limit(void **state)
{
	static const struct network local = {.family = AF_INET, .addr = {127}, .bits = 8};
	struct client k, m, n;
	(void)state;
	opts.conns_per_address = 2;
	http_server_set_opts(server, &opts);
	dial(&k);
	dial(&m);
	ask_hello(&k);
	ask_hello(&m);
	dial(&n);
	see_end(&n);
	assert_int_equal(n.got.len, 0);
	hang_up(&n);
	assert_string_equal(said.p, "/hello ok:NONE /hello ok:NONE closed:ADDRESS_LIMIT ");
	hang_up(&k);
	hear("closed:CLIENT ");
	dial(&k);
	ask_hello(&k);
	opts.proxies = &local;
	opts.nproxies = 1;
	http_server_set_opts(server, &opts);
	dial(&n);
	ask_hello(&n);
	hang_up(&n);
	hang_up(&m);
	hang_up(&k);
}

/* Sends a PROXY header for addr and a request; true if it is answered, false if the connection is closed. */
static bool
asks_as(struct client *k, const char *family, const char *addr)
{
	char line[128];
	snprintf(line, sizeof line, "PROXY %s %s %s 4660 443\r\nGET /hello HTTP/1.1\r\n" H "\r\n", family, addr, addr);
	dial(k);
	put(k, line);
	while (!k->eof && !k->reset && !strstr(str_z(&k->got), "hello")) {
		k->changed = false;
		assert_true(loop_run_until(loop, &k->changed, SOON));
	}
	return !k->eof && !k->reset;
}

/* Behind a balancer the address counts that it names: an IPv6 network of 64 bits is one. What it sends itself does not count. */
static void
test_address_limit_balanced(void **state)
{
	static const struct network net = {.family = AF_INET, .addr = {127}, .bits = 8};
	struct client k[6];
	size_t i;
	(void)state;
	opts.balancers = &net;
	opts.nbalancers = 1;
	opts.conns_per_address = 1;
	http_server_set_opts(server, &opts);
	assert_true(asks_as(&k[0], "TCP4", "192.0.2.7"));
	assert_true(asks_as(&k[1], "TCP4", "192.0.2.8"));
	assert_true(asks_as(&k[2], "TCP6", "2001:db8::7"));
	assert_true(asks_as(&k[3], "TCP6", "2001:db8:0:1::7"));
	assert_false(asks_as(&k[4], "TCP4", "192.0.2.7"));
	assert_false(asks_as(&k[5], "TCP6", "2001:db8::ffff:8"));
	for (i = 0; i < 6; i++)
		hang_up(&k[i]);
	for (i = 0; i < 2; i++) {
		dial(&k[i]);
		put(&k[i], "PROXY UNKNOWN\r\n");
		ask_hello(&k[i]);
	}
	hang_up(&k[0]);
	hang_up(&k[1]);
}

/* Every few ms a byte of a body, until the server has had enough or the test. */
static void
trickle(struct client *k, unsigned bytes)
{
	for (unsigned i = 0; i < bytes && !k->eof && !k->reset; i++) {
		put(k, "x");
		turns(5);
	}
}

/* A body of 200 bytes a second, where 20000 are the least; the timeouts for pauses are far away. */
static void
test_slow_body(void **state)
{
	struct client k;
	(void)state;
	opts.min_rate = 20000;
	opts.min_rate_after = 100;
	http_server_set_opts(server, &opts);
	dial(&k);
	put(&k, "POST /echo HTTP/1.1\r\n" H "Content-Length: 1000\r\n\r\n");
	hear("/echo");
	trickle(&k, 999);
	see(&k, "408 Request Timeout");
	see_end(&k);
	hang_up(&k);
	hear("/echo failed:BODY_RATE closed:BODY_RATE ");
	/* Fast enough. */
	opts.min_rate = 10;
	http_server_set_opts(server, &opts);
	str_clear(&said);
	dial(&k);
	put(&k, "POST /echo HTTP/1.1\r\n" H "Content-Length: 100\r\n\r\n");
	trickle(&k, 100);
	see(&k, "200 OK");
	hang_up(&k);
	hear("/echo end ok:NONE ");
}

/* Who is made to wait is not slow, nor is one who waits for his answer; afterwards the rate counts again. */
static void
test_slow_is_us(void **state)
{
	struct client k;
	(void)state;
	opts.min_rate = 1000000;
	opts.min_rate_after = 40;
	http_server_set_opts(server, &opts);
	dial(&k);
	put(&k, "POST /held HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nx");
	hear("/held");
	turns(200);
	http_conn_read_body(held);
	http_conn_pause(held);
	turns(200);
	assert_non_null(held);
	assert_false(k.eof);
	http_conn_resume(held);
	hear("failed:BODY_RATE closed:BODY_RATE ");
	hang_up(&k);
	str_clear(&said);
	dial(&k);
	put(&k, "GET /held HTTP/1.1\r\n" H "\r\n");
	hear("/held");
	start(held, 200, 10);
	http_conn_write(held, "x", 1);
	turns(200);
	assert_non_null(held);
	http_conn_write(held, "123456789", 9);
	http_conn_end(held);
	see(&k, "x123456789");
	hang_up(&k);
}

/* One that reads nothing of 16 MB. */
static void
test_slow_reader(void **state)
{
	struct client k;
	char piece[4096];
	(void)state;
	opts.min_rate = 500;
	opts.min_rate_after = 100;
	http_server_set_opts(server, &opts);
	dial_deaf(&k);
	put(&k, "GET /produce HTTP/1.1\r\n" H "\r\n");
	hear("closed:");
	assert_string_equal(said.p, "/produce failed:WRITE_RATE closed:WRITE_RATE ");
	hang_up(&k);
	/* One that reads on, in small pieces, is not, however long it takes. */
	str_clear(&said);
	dial_deaf(&k);
	put(&k, "GET /produce HTTP/1.1\r\n" H "\r\n");
	for (int i = 0; i < 80; i++) {
		(void)recv(k.fd, piece, sizeof piece, MSG_DONTWAIT);
		turns(5);
	}
	assert_string_equal(said.p, "/produce ");
	hang_up(&k);
}

static void
test_limits(void **state)
{
	struct client k, m;
	struct str big = STR_INIT;
	(void)state;
	opts.requests_max = 2;
	opts.conns_max = 1;
	http_server_set_opts(server, &opts);
	dial(&k);
	put(&k, "GET /hello HTTP/1.1\r\n" H "\r\n");
	see(&k, "hello");
	dial(&m);
	put(&m, "GET /hello HTTP/1.1\r\n" H "\r\n");
	turns(10);
	assert_int_equal(http_server_conns(server), 1);
	assert_int_equal(m.got.len, 0);
	put(&k, "GET /hello HTTP/1.1\r\n" H "\r\n");
	see(&k, "Connection: close\r\n");
	see_end(&k);
	see(&m, "hello");
	hang_up(&m);
	hang_up(&k);
	/* A large head, up to its limit. */
	str_addz(&big, "GET /hello HTTP/1.1\r\n" H "X: ");
	while (big.len < opts.limits.head_max - 4)
		str_addc(&big, 'x');
	str_addz(&big, "\r\n\r\n");
	dial(&k);
	put_n(&k, big.p, 20000);
	turns(5);
	put_n(&k, big.p + 20000, big.len - 20000);
	see(&k, "hello");
	str_addc(&big, 'x');
	memcpy(big.p + big.len - 5, "xxxxx", 5);
	put_n(&k, big.p, big.len);
	see(&k, "431 ");
	see_end(&k);
	hang_up(&k);
	str_fini(&big);
}

/* No descriptors left: accepting waits until there are. */
static void
test_starved(void **state)
{
	struct rlimit old, low;
	struct client k;
	int fd;
	(void)state;
	if (getenv("R2SHIM_VALGRIND") != NULL)
		skip();		/* valgrind itself closes what is accepted above the limit: that connection is lost */
	fd = dup(0);
	dial(&k);
	getrlimit(RLIMIT_NOFILE, &old);
	low = old;
	low.rlim_cur = (rlim_t)k.fd + 1;	/* descriptors are given out from the lowest */
	close(fd);
	fd = dup(0);
	while (fd >= 0 && fd < k.fd)
		fd = dup(0);
	if (fd > k.fd)
		close(fd);
	setrlimit(RLIMIT_NOFILE, &low);
	put(&k, "GET /hello HTTP/1.1\r\n" H "\r\n");
	turns(20);
	assert_int_equal(http_server_conns(server), 0);
	setrlimit(RLIMIT_NOFILE, &old);
	see(&k, "hello");
	hang_up(&k);
}

static void
test_drain(void **state)
{
	struct client idle, busy, late;
	struct http_conn *running;
	(void)state;
	tell_opens = true;
	dial(&idle);
	put(&idle, "GET /hello HTTP/1.1\r\n" H "\r\n");
	see(&idle, "hello");
	dial(&busy);
	put(&busy, "GET /held HTTP/1.1\r\n" H "\r\n");
	hear("/held");
	running = held;
	dial(&late);
	hear("open /hello ok:NONE open /held open ");
	put(&late, "GET /hello HTTP/1.1\r\n" H "\r\n");	/* in the socket when draining begins */
	str_clear(&said);
	http_server_drain(server, 0);
	see_end(&idle);
	see(&late, "Connection: close\r\n\r\nhello");
	see_end(&late);
	assert_int_equal(http_server_conns(server), 1);
	http_conn_reply(running, 200, NULL, NULL, "last", 4);
	see(&busy, "Connection: close\r\n\r\nlast");
	see_end(&busy);
	assert_int_equal(http_server_conns(server), 0);
	assert_int_equal(count(said.p, "closed:DRAIN"), 3);
	hang_up(&idle);
	hang_up(&busy);
	hang_up(&late);
}

/* Another process goes on with the listening socket: an idle client may send one request more, or is let go in time. */
static void
test_drain_with_grace(void **state)
{
	struct client asks, silent;
	bool never = false;
	(void)state;
	tell_opens = true;
	dial(&asks);
	put(&asks, "GET /hello HTTP/1.1\r\n" H "\r\n");
	see(&asks, "hello");
	dial(&silent);
	hear("open /hello ok:NONE open ");
	http_server_drain(server, 300);
	(void)loop_run_until(loop, &never, 1);	/* it has looked at them */
	assert_int_equal(http_server_conns(server), 2);
	put(&asks, "GET /hello HTTP/1.1\r\n" H "\r\n");
	see(&asks, "Connection: close\r\n\r\nhello");
	see_end(&asks);
	assert_int_equal(http_server_conns(server), 1);
	see_end(&silent);
	assert_int_equal(http_server_conns(server), 0);
	assert_int_equal(count(said.p, "closed:DRAIN"), 2);
	hang_up(&asks);
	hang_up(&silent);
}

static void
test_freeing(void **state)
{
	struct client k, m;
	(void)state;
	dial(&k);
	dial(&m);
	put(&m, "GET /held HTTP/1.1\r\n" H "\r\n");
	hear("/held");
	put(&k, "GET /free HTTP/1.1\r\n" H "\r\n");
	see_end(&k);
	see_end(&m);
	assert_null(server);
	assert_non_null(strstr(said.p, "/held /free "));
	assert_int_equal(count(said.p, "failed:SHUTDOWN"), 2);
	assert_int_equal(count(said.p, "closed:SHUTDOWN"), 2);
	hang_up(&k);
	hang_up(&m);
}

static void
test_freeing_when_done(void **state)
{
	static const char *const paths[] = {"/hello", "/abort", "/unread"};
	struct client k;
	char req[100];
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		if (!server) {
			teardown(state);
			setup(state);
		}
		free_when_done = true;
		dial(&k);
		snprintf(req, sizeof req, "POST %s HTTP/1.1\r\n" H "Content-Length: %d\r\n\r\n", paths[i], i == 2 ? 100000 : 0);
		put(&k, req);
		see_end(&k);
		assert_null(server);
		assert_int_equal(count(said.p, "closed:"), 1);
		hang_up(&k);
	}
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	static const struct CMUnitTest tests[] = {
	    TEST(test_plain),
	    TEST(test_unix),
	    TEST(test_head_requests),
	    TEST(test_http10),
	    TEST(test_pipeline),
	    TEST(test_bytewise),
	    TEST(test_bodies),
	    TEST(test_expect),
	    TEST(test_unread),
	    TEST(test_tunnel),
	    TEST(test_files),
	    TEST(test_back_pressure),
	    TEST(test_aborts),
	    TEST(test_client_gone),
	    TEST(test_bad),
	    TEST(test_timeouts),
	    TEST(test_balancer),
	    TEST(test_no_balancer),
	    TEST(test_slow_body),
	    TEST(test_slow_is_us),
	    TEST(test_slow_reader),
	    TEST(test_address_limit),
	    TEST(test_address_limit_balanced),
	    TEST(test_limits),
	    TEST(test_starved),
	    TEST(test_drain),
	    TEST(test_drain_with_grace),
	    TEST(test_freeing),
	    TEST(test_freeing_when_done),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
