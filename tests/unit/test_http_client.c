/* Against a scripted peer on the same loop, which records what it gets, byte for byte. */
#include "child.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/addr.h"
#include "io/http_client.h"
#include "io/loop.h"

enum { LONG = 10000 };

static struct loop *loop;

/* ---- the peer ---- */

struct peer {
	int fd;
	struct loop_fd lf;
	char base[140];    /* "http://127.0.0.1:1234" */
	const char *reply; /* to each request, NULL: none */
	size_t filler;     /* bytes 'x' after it */
	bool close_after, only_head;
	unsigned hang_up_on; /* the n-th request is answered by closing */
	unsigned accepted, open, max_open, requests;
	struct str last; /* the last request */
	struct list conns;
};

struct conn {
	struct list node;
	struct peer *peer;
	int fd;
	struct loop_fd lf;
	struct str in, out;
	size_t out_off;
	bool closing;
};

static void
conn_free(struct conn *c)
{
	list_del(&c->node);
	c->peer->open--;
	loop_fd_fini(&c->lf);
	close(c->fd);
	str_fini(&c->in);
	str_fini(&c->out);
	mem_free(c);
}

static bool
conn_flush(struct conn *c)
{
	while (c->out_off < c->out.len) {
		ssize_t n = send(c->fd, c->out.p + c->out_off, c->out.len - c->out_off, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0)
			break;
		c->out_off += (size_t)n;
	}
	if (c->out_off == c->out.len && c->closing) {
		conn_free(c);
		return false;
	}
	loop_fd_want(&c->lf, c->out_off < c->out.len ? LOOP_READ | LOOP_WRITE : LOOP_READ);
	return true;
}

/* The length of the request at the front of in, 0 if it is not complete. */
static size_t
request_len(const struct conn *c)
{
	const char *z = str_z(&c->in), *end = strstr(z, "\r\n\r\n"), *len = strstr(z, "Content-Length: ");
	size_t n;

	if (end == NULL)
		return 0;
	n = (size_t)(end + 4 - z);
	if (len != NULL && len < end && !c->peer->only_head)
		n += (size_t)strtoull(len + 16, NULL, 10);
	return c->in.len >= n ? n : 0;
}

static void
on_conn(void *arg, int what)
{
	struct conn *c = arg;
	struct peer *p = c->peer;
	char buf[65536];
	ssize_t n;
	size_t len;

	if (what == LOOP_WRITE) {
		conn_flush(c);
		return;
	}
	n = recv(c->fd, buf, sizeof buf, 0);
	if (n <= 0) {
		conn_free(c);
		return;
	}
	str_add(&c->in, buf, (size_t)n);
	while ((len = request_len(c)) > 0) {
		p->requests++;
		str_clear(&p->last);
		str_add(&p->last, c->in.p, len);
		str_drop(&c->in, len);
		if (p->hang_up_on == p->requests) {
			conn_free(c);
			return;
		}
		if (p->reply != NULL)
			str_addz(&c->out, p->reply);
		memset(str_reserve(&c->out, p->filler), 'x', p->filler);
		c->out.len += p->filler;
		c->closing = p->close_after;
		if (!conn_flush(c))
			return;
	}
}

static void
on_accept(void *arg, int what)
{
	struct peer *p = arg;
	struct conn *c = mem_zalloc(sizeof *c);

	(void)what;
	c->peer = p;
	c->fd = accept(p->fd, NULL, NULL);
	assert_true(c->fd >= 0);
	p->accepted++;
	if (++p->open > p->max_open)
		p->max_open = p->open;
	list_add_tail(&p->conns, &c->node);
	loop_fd_init(&c->lf, loop, c->fd, on_conn, c);
	loop_fd_want(&c->lf, LOOP_READ);
}

static void
peer_init(struct peer *p, const char *reply)
{
	struct addr a;
	char text[128];

	*p = (struct peer){.reply = reply};
	list_init(&p->conns);
	assert_int_equal(addr_parse(&a, "127.0.0.1:0", NULL), ERR_OK);
	assert_int_equal(addr_listen(&a, 64, 0, &p->fd, NULL), ERR_OK);
	a.len = sizeof a.ss;
	assert_int_equal(getsockname(p->fd, &a.sa, &a.len), 0);
	addr_text(&a, text);
	snprintf(p->base, sizeof p->base, "http://%s", text);
	loop_fd_init(&p->lf, loop, p->fd, on_accept, p);
	loop_fd_want(&p->lf, LOOP_READ);
}

static void
peer_hang_up(struct peer *p)
{
	while (!list_empty(&p->conns))
		conn_free(LIST_FIRST(&p->conns, struct conn, node));
}

static void
peer_fini(struct peer *p)
{
	peer_hang_up(p);
	loop_fd_fini(&p->lf);
	close(p->fd);
	str_fini(&p->last);
}

/* ---- a call under test ---- */

struct probe {
	struct http_client *client;
	struct http_call *call;
	bool done;
	unsigned heads, dones;
	enum err e;
	int status, head_status;
	struct str body;
	char why[256], etag[64];
	/* what to do */
	int stop_in; /* 1: cancel in on_head, 2: cancel in on_data, 3: free the client in on_data, 4: in done */
	bool pause, paused;
	unsigned pauses;
	struct loop_timer timer;
};

static void
on_head(void *arg, int status)
{
	struct probe *p = arg;
	const char *etag = http_call_header(p->call, "ETAG");

	p->heads++;
	p->head_status = status;
	if (etag != NULL)
		snprintf(p->etag, sizeof p->etag, "%s", etag);
	if (p->stop_in == 1)
		http_call_cancel(&p->call);
}

static void
on_resume(void *arg)
{
	struct probe *p = arg;

	p->paused = false;
	http_call_resume(p->call);
}

static void
on_data(void *arg, const void *data, size_t n)
{
	struct probe *p = arg;

	assert_int_equal(p->heads, 1);
	assert_false(p->paused);
	str_add(&p->body, data, n);
	if (p->stop_in == 2)
		http_call_cancel(&p->call);
	if (p->stop_in == 3)
		http_client_free(&p->client);
	if (p->pause) {
		p->paused = true;
		p->pauses++;
		http_call_pause(p->call);
		loop_timer_set(&p->timer, 0);
	}
}

static void
on_done(void *arg, enum err e, int status)
{
	struct probe *p = arg;
	size_t n;
	const char *body = http_call_body(p->call, &n);

	p->dones++;
	p->done = true;
	p->e = e;
	p->status = status;
	snprintf(p->why, sizeof p->why, "%s", http_call_why(p->call));
	if (n > 0)
		str_add(&p->body, body, n);
	if (p->stop_in == 4)
		http_client_free(&p->client);
	http_call_cancel(&p->call);
}

static void
probe_init(struct probe *p, unsigned connections)
{
	struct http_client_opts o = {.connections = connections, .connect_timeout_ms = LONG};

	*p = (struct probe){.client = http_client_new(loop, &o)};
	loop_timer_init(&p->timer, loop, on_resume, p);
}

static void
probe_fini(struct probe *p)
{
	loop_timer_fini(&p->timer);
	http_client_free(&p->client);
	str_fini(&p->body);
}

static void
again(struct probe *p)
{
	p->done = false;
	p->heads = p->dones = p->pauses = 0;
	p->status = p->head_status = 0;
	str_clear(&p->body);
}

static void
start(struct probe *p, const char *base, const char *target, struct http_call_opts o)
{
	char *url = mem_printf("%s%s", base, target);

	again(p);
	o.url = url;
	if (o.method == NULL)
		o.method = "GET";
	if (o.body == NULL && o.body_fd == 0)
		o.body_fd = -1;
	o.on_head = on_head;
	o.done = on_done;
	o.arg = p;
	p->call = http_call_start(p->client, &o);
	assert_false(p->done);
	mem_free(url);
}

static void
run(struct probe *p, const char *base, const char *target, struct http_call_opts o)
{
	start(p, base, target, o);
	assert_true(loop_run_until(loop, &p->done, LONG));
	assert_int_equal(p->dones, 1);
}

#define NONE  ((struct http_call_opts){.body_fd = -1})
#define OK_HI "HTTP/1.1 200 OK\r\nETag:  \"abc\" \r\nContent-Length: 2\r\n\r\nhi"

/* ---- what goes over the wire ---- */

static void
assert_request(const struct peer *p, const char *method, const char *target, const char *rest)
{
	char *want = mem_printf("%s %s HTTP/1.1\r\nHost: %s\r\n%s", method, target, p->base + 7, rest);

	assert_string_equal(str_z(&p->last), want);
	mem_free(want);
}

static void
test_get(void **state)
{
	static const char target[] = "/a/../b%20c/./%2e%2E//d%C3%A9%2f+;=?x=1&y=/../z?%2F";
	const struct http_header h[] = {{"Authorization", "AWS4 x"}, {"X-Empty", ""}, {"Range", "bytes=0-1"}};
	struct http_call_opts o = {.body_fd = -1, .headers = h, .nheaders = 3};
	struct peer peer;
	struct probe p;

	(void)state;
	peer_init(&peer, OK_HI);
	probe_init(&p, 4);
	run(&p, peer.base, target, o);
	assert_request(&peer, "GET", target, "Authorization: AWS4 x\r\nX-Empty:\r\nRange: bytes=0-1\r\n\r\n");
	assert_int_equal(p.e, ERR_OK);
	assert_int_equal(p.status, 200);
	assert_int_equal(p.heads, 1);
	assert_string_equal(p.etag, "\"abc\"");
	assert_string_equal(str_z(&p.body), "hi");
	assert_string_equal(p.why, "");
	run(&p, peer.base, "/2", NONE);
	assert_request(&peer, "GET", "/2", "\r\n");
	assert_int_equal(peer.accepted, 1);
	probe_fini(&p);
	peer_fini(&peer);
}

static void
test_methods(void **state)
{
	static const struct {
		const char *method, *body, *rest;
	} rows[] = {
	    {"PUT", "hello", "Content-Length: 5\r\n\r\nhello"},
	    {"PUT", "", "Content-Length: 0\r\n\r\n"},
	    {"POST", "<x/>", "Content-Length: 4\r\n\r\n<x/>"},
	    {"POST", "", "Content-Length: 0\r\n\r\n"},
	    {"POST", NULL, "\r\n"},
	    {"DELETE", NULL, "\r\n"},
	    {"OPTIONS", NULL, "\r\n"},
	};
	struct peer peer;
	struct probe p;

	(void)state;
	peer_init(&peer, OK_HI);
	probe_init(&p, 1);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct http_call_opts o = {.method = rows[i].method, .body_fd = -1};

		o.body = rows[i].body;
		o.has_body = o.body != NULL;
		o.body_len = o.has_body ? strlen(rows[i].body) : 0;
		run(&p, peer.base, "/m", o);
		assert_int_equal(p.e, ERR_OK);
		assert_request(&peer, rows[i].method, "/m", rows[i].rest);
		assert_string_equal(str_z(&p.body), "hi");
	}
	peer.reply = "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n";
	run(&p, peer.base, "/h", (struct http_call_opts){.method = "HEAD", .body_fd = -1});
	assert_int_equal(p.e, ERR_OK);
	assert_request(&peer, "HEAD", "/h", "\r\n");
	assert_int_equal(p.body.len, 0);
	assert_int_equal(peer.accepted, 1);
	probe_fini(&p);
	peer_fini(&peer);
}

static void
test_default_headers_if_given(void **state)
{
	const struct http_header h[] = {{"accept", "a/b"}, {"Content-Type", "c/d"}, {"Content-Length", "999"}};
	struct http_call_opts o = {
	    .method = "PUT", .headers = h, .nheaders = 3, .has_body = true, .body = "x", .body_fd = -1, .body_len = 1};
	struct peer peer;
	struct probe p;

	(void)state;
	peer_init(&peer, OK_HI);
	probe_init(&p, 1);
	run(&p, peer.base, "/", o);
	/* libcurl puts its own Content-Length behind. */
	assert_request(&peer, "PUT", "/", "accept: a/b\r\nContent-Type: c/d\r\nContent-Length: 1\r\n\r\nx");
	probe_fini(&p);
	peer_fini(&peer);
}

static int
temp_file(size_t n)
{
	char path[] = "/tmp/test_http_client.XXXXXX";
	int fd = mkstemp(path);
	char *p = mem_alloc(n);

	assert_true(fd >= 0);
	unlink(path);
	for (size_t i = 0; i < n; i++)
		p[i] = (char)(i * 7 + i / 251);
	assert_int_equal(write(fd, p, n), n);
	mem_free(p);
	return fd;
}

static void
assert_file_body(const struct peer *peer, uint64_t off, size_t n)
{
	assert_true(peer->last.len > n);
	for (size_t i = 0; i < n; i++) {
		size_t k = off + i;

		if (peer->last.p[peer->last.len - n + i] != (char)(k * 7 + k / 251))
			fail_msg("byte %zu of the body differs", i);
	}
}

static void
test_file_body(void **state)
{
	size_t n = 3 << 20;
	int fd = temp_file(n);
	struct http_call_opts o = {
	    .method = "PUT", .has_body = true, .body_fd = fd, .body_off = 1000, .body_len = n - 3000};
	struct peer peer;
	struct probe p;

	(void)state;
	peer_init(&peer, OK_HI);
	probe_init(&p, 1);
	run(&p, peer.base, "/f", o);
	assert_int_equal(p.e, ERR_OK);
	assert_null(strstr(str_z(&peer.last), "Expect"));
	assert_file_body(&peer, 1000, n - 3000);
	/* Longer than the file. */
	o.body_len = n;
	run(&p, peer.base, "/f", o);
	assert_int_equal(p.e, ERR_CHANGED);
	assert_non_null(strstr(p.why, "shorter"));
	probe_fini(&p);
	peer_fini(&peer);
	close(fd);
}

static void
test_dead_kept_connection(void **state)
{
	size_t n = 300000;
	int fd = temp_file(n);
	struct http_call_opts o = {.method = "PUT", .has_body = true, .body_fd = fd, .body_len = n};
	struct peer peer;
	struct probe p;

	(void)state;
	peer_init(&peer, OK_HI);
	probe_init(&p, 1);
	run(&p, peer.base, "/1", o);
	/* Closed while idle. */
	peer_hang_up(&peer);
	run(&p, peer.base, "/2", o);
	assert_int_equal(p.e, ERR_OK);
	assert_file_body(&peer, 0, n);
	/* Closed as the request comes: the body is sent again, from its start. */
	peer.hang_up_on = 3;
	run(&p, peer.base, "/3", o);
	assert_int_equal(p.e, ERR_OK);
	assert_file_body(&peer, 0, n);
	assert_int_equal(peer.requests, 4);
	assert_int_equal(peer.accepted, 3);
	probe_fini(&p);
	peer_fini(&peer);
	close(fd);
}

/* ---- what comes back ---- */

static void
test_replies(void **state)
{
	static char many[400 * 1024];
	static const char end[] = "\r\n\r\n";
	const struct {
		const char *reply;
		bool close_after;
		enum err e;
		int status;
		const char *body;
	} rows[] = {
	    {"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone", false, ERR_OK, 404, "none"},
	    {"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", false, ERR_OK, 302, ""},
	    {"HTTP/1.1 204 No Content\r\n\r\n", false, ERR_OK, 204, ""},
	    {"HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\n\r\n", false, ERR_OK, 304, ""},
	    {"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n", false, ERR_OK, 503, ""},
	    {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nz", false, ERR_OK,
		200, "z"},
	    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: t\r\n\r\n",
		false, ERR_OK, 200, "abcde"},
	    {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nraw", false, ERR_OK, 200, "raw"},
	    {"HTTP/1.0 200 OK\r\n\r\nuntil close", true, ERR_OK, 200, "until close"},
	    {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", true, ERR_CLOSED, 200, "short"},
	    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", true, ERR_CLOSED, 200, "ab"},
	    {"", true, ERR_CLOSED, 0, ""},
	    {"SSH-2.0-OpenSSH_9.2\r\n", true, ERR_PROTO, 0, ""},
	    {"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", true, ERR_PROTO, 0, ""},
	    {many, true, ERR_PROTO, 0, ""},
	};
	struct peer peer;
	struct probe p;
	size_t n = 0;

	(void)state;
	n = (size_t)snprintf(many, sizeof many, "HTTP/1.1 200 OK\r\n");
	while (n < sizeof many - 100)
		n += (size_t)snprintf(many + n, sizeof many - n, "X-Filler: %040d\r\n", 1);
	memcpy(many + n - 2, end, sizeof end);
	peer_init(&peer, NULL);
	probe_init(&p, 1);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		peer.reply = rows[i].reply;
		peer.close_after = rows[i].close_after;
		run(&p, peer.base, "/r", NONE);
		if (p.e != rows[i].e || p.status != rows[i].status || strcmp(str_z(&p.body), rows[i].body) != 0)
			fail_msg("row %zu: %s %d \"%s\" (%s)", i, err_name(p.e), p.status, str_z(&p.body), p.why);
		assert_int_equal(p.heads, rows[i].status != 0);
		assert_int_equal(p.head_status, rows[i].status);
		assert_int_equal(p.why[0] == '\0', rows[i].e == ERR_OK);
	}
	probe_fini(&p);
	peer_fini(&peer);
}

static void
test_large_collected(void **state)
{
	struct peer peer;
	struct probe p;

	(void)state;
	peer_init(&peer, "HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n");
	peer.filler = 1 << 20;
	probe_init(&p, 1);
	run(&p, peer.base, "/", NONE);
	assert_int_equal(p.e, ERR_OK);
	assert_int_equal(p.body.len, 1 << 20);
	peer.reply = "HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n";
	peer.filler++;
	run(&p, peer.base, "/", NONE);
	assert_int_equal(p.e, ERR_TOOBIG);
	probe_fini(&p);
	peer_fini(&peer);
}

static void
test_pause(void **state)
{
	struct peer peer;
	struct probe p;

	(void)state;
	peer_init(&peer, "HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n");
	peer.filler = 4000000;
	probe_init(&p, 1);
	p.pause = true;
	run(&p, peer.base, "/", (struct http_call_opts){.body_fd = -1, .on_data = on_data, .stall_ms = LONG});
	assert_int_equal(p.e, ERR_OK);
	assert_int_equal(p.body.len, 4000000);
	assert_true(p.pauses > 10);
	/* Chunked: several pieces out of one read. */
	peer.filler = 0;
	peer.reply = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n";
	run(&p, peer.base, "/", (struct http_call_opts){.body_fd = -1, .on_data = on_data});
	assert_int_equal(p.e, ERR_OK);
	assert_string_equal(str_z(&p.body), "abc");
	probe_fini(&p);
	peer_fini(&peer);
}

static void
test_errors_before_sending(void **state)
{
	static const struct http_header bad[] = {{"X", "a\r\nY: b"}, {"X\r\nY", "b"}, {"", "b"}, {"X", "a\x7f"},
	    {"X", "a\tb"}, {"Transfer-Encoding", "chunked"}};
	struct peer peer;
	struct probe p;
	char *tls;

	(void)state;
	peer_init(&peer, OK_HI);
	probe_init(&p, 1);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		run(&p, peer.base, "/", (struct http_call_opts){.body_fd = -1, .headers = &bad[i], .nheaders = 1});
		assert_int_equal(p.e, ERR_INVAL);
		assert_string_not_equal(p.why, "");
	}
	run(&p, peer.base, "/a b", NONE);
	assert_int_equal(p.e, ERR_INVAL);
	run(&p, peer.base, "/a\r\nb", NONE);
	assert_int_equal(p.e, ERR_INVAL);
	run(&p, peer.base, "/\xc3\xa9", NONE);
	assert_int_equal(p.e, ERR_INVAL);
	run(&p, "file:///etc", "/passwd", NONE);
	assert_int_equal(p.e, ERR_INVAL);
	run(&p, "http://user:pass@127.0.0.1:1", "/", NONE);
	assert_int_equal(p.e, ERR_INVAL);
	run(&p, peer.base, "/", (struct http_call_opts){.method = "G ET", .body_fd = -1});
	assert_int_equal(p.e, ERR_INVAL);
	assert_int_equal(peer.requests, 0);
	peer.reply = "no TLS here\r\n\r\n";
	peer.close_after = true;
	tls = mem_printf("https%s", peer.base + 4);
	start(&p, tls, "/", (struct http_call_opts){.body_fd = -1, .limit_ms = LONG});
	/* Its hello holds no blank line: answer whatever comes. */
	while (list_empty(&peer.conns))
		loop_run_until(loop, &p.done, 1);
	str_addz(&LIST_FIRST(&peer.conns, struct conn, node)->out, "HTTP/1.1 400 Bad Request\r\n\r\n");
	conn_flush(LIST_FIRST(&peer.conns, struct conn, node));
	assert_true(loop_run_until(loop, &p.done, LONG));
	assert_int_equal(p.e, ERR_CONNECT);
	assert_string_not_equal(p.why, "");
	mem_free(tls);
	peer_fini(&peer);
	run(&p, peer.base, "/", NONE);
	assert_int_equal(p.e, ERR_CONNECT);
	probe_fini(&p);
}

/* ---- TLS: against openssl s_server with a certificate of its own ---- */

/* The port that s_server says it listens on ("ACCEPT 127.0.0.1:1234"). */
static unsigned
accept_port(int fd)
{
	char text[512];
	size_t n = 0;
	const char *at, *colon;
	ssize_t got;

	while (n < sizeof text - 1 && (got = read(fd, text + n, sizeof text - 1 - n)) > 0) {
		n += (size_t)got;
		text[n] = '\0';
		at = strstr(text, "ACCEPT ");
		if (at != NULL && strchr(at, '\n') != NULL && (colon = strchr(at, ':')) != NULL)
			return (unsigned)strtoul(colon + 1, NULL, 10);
	}
	return 0;
}

static void
test_tls(void **state)
{
	static const char *const make[] = {"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
	    "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-days",
	    "2", "-keyout", "key.pem", "-out", "cert.pem", NULL};
	static const char *const serve[] = {
	    "openssl", "s_server", "-accept", "127.0.0.1:0", "-www", "-cert", "cert.pem", "-key", "key.pem", NULL};
	char folder[] = "/tmp/test_http_client.XXXXXX", ca[64], key[64], url[64];
	struct http_client_opts o = {.connections = 1, .connect_timeout_ms = LONG, .ca_file = ca};
	struct probe p;
	int status, fds[2];
	unsigned port;
	pid_t pid;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(ca, sizeof ca, "%s/cert.pem", folder);
	snprintf(key, sizeof key, "%s/key.pem", folder);
	assert_int_equal(waitpid(child_start(make, folder, -1), &status, 0) > 0, 1);
	if (!WIFEXITED(status) || WEXITSTATUS(status) == 127) {
		rmdir(folder);
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = child_start(serve, folder, fds[1]);
	close(fds[1]);
	port = accept_port(fds[0]);
	assert_true(port > 0);
	probe_init(&p, 1);
	/* Nobody vouches for it. */
	snprintf(url, sizeof url, "https://127.0.0.1:%u", port);
	run(&p, url, "/", NONE);
	assert_int_equal(p.e, ERR_CONNECT);
	assert_non_null(strstr(p.why, "certificate"));
	http_client_free(&p.client);
	p.client = http_client_new(loop, &o);
	run(&p, url, "/", NONE);
	assert_int_equal(p.e, ERR_OK);
	assert_int_equal(p.status, 200);
	/* Another name than the certificate's. */
	snprintf(url, sizeof url, "https://localhost:%u", port);
	run(&p, url, "/", NONE);
	assert_int_equal(p.e, ERR_CONNECT);
	assert_string_not_equal(p.why, "");
	probe_fini(&p);
	child_kill(pid);
	close(fds[0]);
	unlink(ca);
	unlink(key);
	rmdir(folder);
}

/* ---- limits ---- */

static void
test_limits(void **state)
{
	uint64_t begun;
	struct peer peer;
	struct probe p;

	(void)state;
	peer_init(&peer, NULL);
	probe_init(&p, 1);
	begun = clock_mono_ms();
	run(&p, peer.base, "/", (struct http_call_opts){.body_fd = -1, .limit_ms = 30});
	assert_int_equal(p.e, ERR_TIMEOUT);
	assert_true(clock_mono_ms() - begun >= 30);
	assert_string_equal(p.why, "not finished within 30 ms");
	run(&p, peer.base, "/", (struct http_call_opts){.body_fd = -1, .first_byte_ms = 30});
	assert_int_equal(p.e, ERR_TIMEOUT);
	assert_string_equal(p.why, "no response within 30 ms");
	/* An upload that the peer reads to its end but never answers. */
	run(&p, peer.base, "/",
	    (struct http_call_opts){
		.method = "PUT", .has_body = true, .body = "abc", .body_len = 3, .body_fd = -1, .first_byte_ms = 30});
	assert_int_equal(p.e, ERR_TIMEOUT);
	/* A stall within the body. */
	peer.reply = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
	run(&p, peer.base, "/", (struct http_call_opts){.body_fd = -1, .first_byte_ms = LONG, .stall_ms = 30});
	assert_int_equal(p.e, ERR_TIMEOUT);
	assert_int_equal(p.status, 200);
	assert_string_equal(p.why, "no byte went over for 30 ms");
	probe_fini(&p);
	peer_fini(&peer);
}

/* The peer takes nothing for a while. What we have given up must not reach it when it does, or its network, at last. */
static void
test_given_up_is_not_sent_later(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	size_t size = 8 << 20, got = 0;
	int fd, server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char *body = mem_zalloc(size), base[64], buf[65536];
	struct probe p;
	ssize_t n;

	(void)state;
	assert_int_equal(bind(server, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(server, 1), 0);
	assert_int_equal(getsockname(server, (struct sockaddr *)&a, &len), 0);
	snprintf(base, sizeof base, "http://127.0.0.1:%u", ntohs(a.sin_port));
	probe_init(&p, 1);
	run(&p, base, "/", (struct http_call_opts){.method = "PUT", .has_body = true, .body = body, .body_len = size, .body_fd = -1, .limit_ms = 100});
	assert_int_equal(p.e, ERR_TIMEOUT);
	fd = accept(server, NULL, NULL);
	assert_true(fd >= 0);
	while ((n = recv(fd, buf, sizeof buf, 0)) > 0)
		got += (size_t)n;
	assert_true(n < 0 && errno == ECONNRESET);
	assert_true(got < size);
	close(fd);
	close(server);
	mem_free(body);
	probe_fini(&p);
}

static void
test_paused_is_no_stall(void **state)
{
	struct peer peer;
	struct probe p;
	bool never = false;

	(void)state;
	peer_init(&peer, OK_HI);
	probe_init(&p, 1);
	start(&p, peer.base, "/", (struct http_call_opts){.body_fd = -1, .on_data = on_data, .stall_ms = 10});
	http_call_pause(p.call);
	assert_false(loop_run_until(loop, &never, 60));
	assert_int_equal(p.heads, 1);
	assert_int_equal(p.body.len, 0);
	assert_false(p.done);
	http_call_resume(p.call);
	assert_int_equal(p.body.len, 0);
	assert_true(loop_run_until(loop, &p.done, LONG));
	assert_int_equal(p.e, ERR_OK);
	assert_string_equal(str_z(&p.body), "hi");
	probe_fini(&p);
	peer_fini(&peer);
}

static void
test_connections_are_bounded(void **state)
{
	struct peer peer;
	struct probe first, p[20];

	(void)state;
	peer_init(&peer, OK_HI);
	probe_init(&first, 2);
	for (int i = 0; i < 20; i++) {
		p[i] = (struct probe){.client = first.client};
		start(&p[i], peer.base, "/", NONE);
	}
	for (int i = 0; i < 20; i++) {
		assert_true(loop_run_until(loop, &p[i].done, LONG));
		assert_int_equal(p[i].e, ERR_OK);
		str_fini(&p[i].body);
	}
	assert_int_equal(peer.requests, 20);
	assert_true(peer.max_open <= 2);
	probe_fini(&first);
	peer_fini(&peer);
}

/* A connection that a call gives up must go to the next in the queue. */
static void
test_queue_moves_on(void **state)
{
	struct peer peer;
	struct probe p, q;
	bool never = false;

	(void)state;
	peer_init(&peer, NULL);
	probe_init(&p, 1);
	for (int how = 0; how < 3; how++) {
		peer.reply = NULL;
		peer.requests = 0;
		q = (struct probe){.client = p.client};
		start(&p, peer.base, "/1", (struct http_call_opts){.body_fd = -1, .limit_ms = how == 0 ? 20 : 0});
		while (peer.requests < 1)
			loop_run_until(loop, &never, 1);
		start(&q, peer.base, "/2", (struct http_call_opts){.body_fd = -1, .first_byte_ms = LONG});
		loop_run_until(loop, &never, 0);
		assert_int_equal(peer.requests, 1);
		peer.reply = OK_HI;
		if (how == 0)
			assert_true(loop_run_until(loop, &p.done, LONG));
		else if (how == 1)
			http_call_cancel(&p.call);
		else
			peer_hang_up(&peer);
		assert_true(loop_run_until(loop, &q.done, LONG));
		assert_int_equal(q.e, ERR_OK);
		str_fini(&q.body);
	}
	probe_fini(&p);
	peer_fini(&peer);
}

/* Waiting in the queue counts for limit_ms only. */
static void
test_queued_call_times_out(void **state)
{
	struct peer peer;
	struct probe p, q;

	(void)state;
	peer_init(&peer, NULL);
	probe_init(&p, 1);
	q = (struct probe){.client = p.client};
	start(&p, peer.base, "/1", NONE);
	start(&q, peer.base, "/2", (struct http_call_opts){.body_fd = -1, .first_byte_ms = 1, .limit_ms = 40});
	assert_true(loop_run_until(loop, &q.done, LONG));
	assert_int_equal(q.e, ERR_TIMEOUT);
	assert_string_equal(q.why, "not finished within 40 ms");
	assert_false(p.done);
	probe_fini(&p);
	peer_fini(&peer);
}

static void
test_answer_before_the_body_is_read(void **state)
{
	size_t n = 8 << 20;
	int fd = temp_file(n);
	struct peer peer;
	struct probe p;

	(void)state;
	peer_init(&peer, "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno");
	peer.only_head = true;
	probe_init(&p, 1);
	run(&p, peer.base, "/",
	    (struct http_call_opts){.method = "PUT", .has_body = true, .body_fd = fd, .body_len = n});
	assert_int_equal(p.e, ERR_OK);
	assert_int_equal(p.status, 403);
	assert_string_equal(str_z(&p.body), "no");
	probe_fini(&p);
	peer_fini(&peer);
	close(fd);
}

/* ---- cancel and free ---- */

static void
test_cancel_and_free_anywhere(void **state)
{
	struct peer peer;
	struct probe p, q;
	bool never = false;

	(void)state;
	peer_init(&peer, "HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n");
	peer.filler = 4000000;
	for (int how = 1; how <= 4; how++) {
		probe_init(&p, 2);
		p.stop_in = how;
		if (how == 4) {
			peer.reply = NULL;
			peer.filler = 0;
		}
		q = (struct probe){.client = p.client};
		start(&p, peer.base, "/",
		    (struct http_call_opts){.body_fd = -1, .on_data = on_data, .limit_ms = how == 4 ? 1 : 0});
		start(&q, peer.base, "/", (struct http_call_opts){.body_fd = -1, .on_data = how == 4 ? NULL : on_data});
		if (how == 4)
			assert_true(loop_run_until(loop, &p.done, LONG));
		else if (how != 3)
			assert_true(loop_run_until(loop, &q.done, LONG));
		else
			while (p.client != NULL)
				loop_run_until(loop, &never, 1);
		loop_run_until(loop, &never, 1);
		assert_int_equal(p.dones, how == 4);
		assert_int_equal(p.heads > 0, how != 4);
		if (how <= 2) {
			assert_int_equal(q.e, ERR_OK);
			assert_int_equal(q.body.len, 4000000);
		} else {
			assert_int_equal(q.dones, 0);
		}
		str_fini(&q.body);
		probe_fini(&p);
	}
	/* In all states from outside: queued, connecting, and with the client. */
	probe_init(&p, 1);
	start(&p, peer.base, "/", NONE);
	http_call_cancel(&p.call);
	assert_null(p.call);
	start(&p, peer.base, "/", NONE);
	loop_run_until(loop, &never, 0);
	http_call_cancel(&p.call);
	start(&p, peer.base, "/", NONE);
	loop_run_until(loop, &never, 0);
	probe_fini(&p);
	assert_int_equal(p.dones, 0);
	peer_fini(&peer);
}

static int
group_setup(void **state)
{
	(void)state;
	/* None of these may matter. */
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("https_proxy", "http://127.0.0.1:1", 1);
	setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
	setenv("CURL_CA_BUNDLE", "/nonexistent", 1);
	setenv("SSL_CERT_FILE", "/nonexistent", 1);
	setenv("AWS_ACCESS_KEY_ID", "leak", 1);
	loop = loop_new();
	return 0;
}

static int
group_teardown(void **state)
{
	(void)state;
	loop_free(&loop);
	return 0;
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_get),
	    cmocka_unit_test(test_methods),
	    cmocka_unit_test(test_default_headers_if_given),
	    cmocka_unit_test(test_file_body),
	    cmocka_unit_test(test_dead_kept_connection),
	    cmocka_unit_test(test_replies),
	    cmocka_unit_test(test_large_collected),
	    cmocka_unit_test(test_pause),
	    cmocka_unit_test(test_errors_before_sending),
	    cmocka_unit_test(test_tls),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_given_up_is_not_sent_later),
	    cmocka_unit_test(test_paused_is_no_stall),
	    cmocka_unit_test(test_connections_are_bounded),
	    cmocka_unit_test(test_queue_moves_on),
	    cmocka_unit_test(test_queued_call_times_out),
	    cmocka_unit_test(test_answer_before_the_body_is_read),
	    cmocka_unit_test(test_cancel_and_free_anywhere),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
