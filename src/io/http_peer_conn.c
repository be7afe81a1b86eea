/* A connection of http_peer.h: its states, its limits of time, and its bytes: conn_recv, conn_send and conn_splice alone move them. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/trip.h"
#include "io/http_peer_i.h"

enum {
	READS_A_TURN = 4,		/* then others' turn */
	SPLICE_HEAD = 16 * 1024,	/* of the first recv, where the rest may be spliced */
	SPLICE_LEAST = 48 * 1024	/* below it a copy is cheaper */
};

static void on_event(void *arg, int what);
static void on_timer(void *arg);
static void on_again(void *arg);

/* The one setter: keeps the lists and the counts true. */
static void
set_state(struct peer_conn *c, enum peer_conn_state s)
{
	struct http_peer *peer = c->peer;
	int64_t idle = peer->nidle;

	ASSERT(c->state != PEER_CONN_CLOSED);
	if (c->state == PEER_CONN_IDLE)
		peer->nidle--;
	else
		peer->nbusy--;
	list_del(&c->node);
	c->state = s;
	switch (s) {
	case PEER_CONN_CONNECTING:
	case PEER_CONN_HANDSHAKE:
	case PEER_CONN_ACTIVE:
		list_add_tail(&peer->busy, &c->node);
		peer->nbusy++;
		break;
	case PEER_CONN_IDLE:
		list_add_head(&peer->idle, &c->node);
		peer->nidle++;
		break;
	case PEER_CONN_CLOSED:
		list_add_tail(&peer->dead, &c->node);
		loop_call_soon(&peer->bury);
		break;
	}
	if (!list_empty(&peer->waiting))
		loop_call_soon(&peer->serve);
	if (idle != peer->nidle)	/* of all peers that count there */
		metrics_add(peer->o.idle_metric, NULL, peer->nidle - idle);
}

/* Both as send and recv: -1 with errno; 0: the server has said that nothing more comes. */
static ssize_t
conn_send(struct peer_conn *c, const void *p, size_t n)
{
	size_t put;

	if (c->tls == NULL)
		return send(c->fd.fd, p, n, MSG_NOSIGNAL);
	switch (tls_write(c->tls, p, n, &put)) {
	case TLS_OK:
		return (ssize_t)put;
	case TLS_WANT_WRITE:
		errno = EAGAIN;
		return -1;
	case TLS_WANT_READ:	/* never: the handshake is over, and there is no other */
	case TLS_EOF:
	case TLS_CUT:
	case TLS_FAILED:
	default:
		return -1;
	}
}

static ssize_t
tls_recv(struct peer_conn *c, void *p, size_t n)
{
	enum tls_result r = tls_read(c->tls, p, n, &n);

	c->crossed = r == TLS_WANT_WRITE;
	switch (r) {
	case TLS_OK:
		return (ssize_t)n;
	case TLS_WANT_READ:
	case TLS_WANT_WRITE:
		errno = EAGAIN;
		return -1;
	case TLS_EOF:
		return 0;
	case TLS_CUT:		/* what ends with the connection does not end like this */
	case TLS_FAILED:
	default:
		return -1;
	}
}

static ssize_t
conn_recv(struct peer_conn *c, void *p, size_t n)
{
	if (TRIP(c->peer->o.name, "read"))
		return -1;
	return c->tls != NULL ? tls_recv(c, p, n) : recv(c->fd.fd, p, n, 0);
}

/* Neither bytes nor an end have come. (TLS may have read tickets: they are none.) */
static bool
conn_silent(struct peer_conn *c)
{
	char byte;
	ssize_t n = c->tls != NULL ? tls_recv(c, &byte, 1) : recv(c->fd.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

/* Where the body may be spliced, little of it is to come with the head. */
static size_t
conn_read_size(const struct peer_conn *c)
{
	bool may = c->state == PEER_CONN_ACTIVE && c->tls == NULL && c->req->cb->on_splice != NULL && !c->answered;

	return may ? SPLICE_HEAD : sizeof c->peer->buf;
}

/* Is there more to be read now? The socket tells of what TLS has not read; behind a full record there is mostly another. */
static bool
conn_has_more(const struct peer_conn *c, size_t n, size_t wanted)
{
	return c->tls != NULL ? n >= TLS_RECORD || tls_pending(c->tls) : n == wanted;
}

/* Is what comes now nothing but bytes of the body, so many that it pays? */
static bool
may_splice(const struct peer_conn *c)
{
	return c->state == PEER_CONN_ACTIVE && c->tls == NULL && c->req->cb->on_splice != NULL && c->req->head_done && c->in.len == 0 &&
	    c->body.framing == HTTP1_LENGTH && c->body.left >= SPLICE_LEAST;
}

/* As recv; what was moved is accounted for. */
static ssize_t
conn_splice(struct peer_conn *c)
{
	struct http_peer_req *r = c->req;
	ssize_t n = TRIP(c->peer->o.name, "read") ? -1 : r->cb->on_splice(r->arg, c->fd.fd, c->body.left);

	if (n > 0) {
		ASSERT((uint64_t)n <= c->body.left);
		c->body.left -= (uint64_t)n;
		c->body.total += (uint64_t)n;
	}
	return n;
}

void
peer_conn_close(struct peer_conn *c)
{
	int fd = c->fd.fd;

	if (c->req != NULL)
		c->req->c = NULL;
	c->req = NULL;
	loop_timer_fini(&c->timer);
	loop_call_cancel(&c->again);
	loop_fd_fini(&c->fd);
	if (c->tls != NULL && c->state == PEER_CONN_IDLE)
		(void)tls_bye(c->tls);
	tls_free(&c->tls);
	close(fd);
	set_state(c, PEER_CONN_CLOSED);
}

void
peer_conn_abandon(struct peer_conn *c)
{
	struct http_peer_req *r = c->req;

	if (!r->sent && !c->deaf) {
		r->unsent = c->out;
		str_init(&c->out);
	}
	peer_conn_close(c);
}

void
peer_conn_touch(struct peer_conn *c)
{
	c->touched = clock_mono_ms();
}

void
peer_conn_want(struct peer_conn *c)
{
	int what = 0;

	if (c->state == PEER_CONN_CONNECTING)
		what = LOOP_WRITE;
	else if (c->req == NULL || !c->req->paused || c->state == PEER_CONN_HANDSHAKE)
		what = LOOP_READ;
	if (c->crossed || (c->state == PEER_CONN_ACTIVE && peer_conn_queued(c) > 0))
		what |= LOOP_WRITE;
	loop_fd_want(&c->fd, what);
}

/* Sends what it takes. A server that takes no more may have answered already: reading decides, not writing. */
void
peer_conn_flush(struct peer_conn *c)
{
	while (peer_conn_queued(c) > 0) {
		ssize_t n = conn_send(c, c->out.p + c->out_off, peer_conn_queued(c));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n < 0) {
			c->deaf = true;
			break;
		}
		peer_conn_touch(c);
		c->req->sent = true;
		c->out_off += (size_t)n;
	}
	if (c->deaf || peer_conn_queued(c) == 0) {
		str_clear(&c->out);
		c->out_off = 0;
	} else if (c->out_off > PEER_OUT_HIGH) {
		str_drop(&c->out, c->out_off);
		c->out_off = 0;
	}
	peer_conn_want(c);
}

void
peer_conn_activate(struct peer_conn *c)
{
	set_state(c, PEER_CONN_ACTIVE);
	peer_conn_touch(c);
	loop_timer_set(&c->timer, c->req->timeout_ms);
	peer_conn_flush(c);
}

void
peer_conn_rest(struct peer_conn *c)
{
	c->req->c = NULL;
	c->req = NULL;
	str_fini(&c->in);
	str_fini(&c->out);
	c->out_off = 0;
	loop_timer_set(&c->timer, c->peer->o.idle_timeout_ms);
	set_state(c, PEER_CONN_IDLE);
	peer_conn_want(c);
}

void
peer_conn_bind(struct peer_conn *c, struct http_peer_req *r)
{
	c->req = r;
	r->c = c;
	c->serial++;
	c->answered = c->deaf = false;
	c->scan = 0;
	str_clear(&c->in);
	if (r->unsent.len > 0) {
		c->out = r->unsent;
		str_init(&r->unsent);
	} else {
		str_add(&c->out, r->head.p, r->head.len);
	}
}

/* Nobody answers there. True if the request may try another address; others may have gone on to that meanwhile. */
static bool
next_addr(struct http_peer_req *r, unsigned addr)
{
	struct http_peer *peer = r->peer;

	if (addr == peer->at)
		peer->at = (peer->at + 1) % peer->naddrs;
	return ++r->tries < peer->naddrs;
}

enum err
peer_conn_open(struct http_peer_req *r)
{
	struct http_peer *peer = r->peer;
	struct peer_conn *c;
	unsigned addr;
	int fd;
	enum err e = TRIP_ERR(peer->o.name, "connect", "");

	if (e != ERR_OK)
		return e;
	do {
		addr = peer->at;
		e = addr_connect(&peer->addrs[addr], &fd, &r->why);
	} while (e != ERR_OK && next_addr(r, addr));
	if (e != ERR_OK)
		return e;
	c = mem_zalloc(sizeof *c);
	c->peer = peer;
	c->addr = addr;
	c->state = PEER_CONN_CONNECTING;
	list_init(&c->node);
	list_add_tail(&peer->busy, &c->node);
	peer->nbusy++;
	loop_fd_init(&c->fd, peer->loop, fd, on_event, c);
	loop_timer_init(&c->timer, peer->loop, on_timer, c);
	loop_call_init(&c->again, peer->loop, on_again, c);
	peer_conn_bind(c, r);
	loop_timer_set(&c->timer, peer->o.connect_timeout_ms);
	peer_conn_want(c);
	return ERR_OK;
}

/* A pooled connection is usable only if it is silent: bytes that nobody asked for would be taken for the next answer. */
struct peer_conn *
peer_conn_idle(struct http_peer *peer)
{
	while (!list_empty(&peer->idle)) {
		struct peer_conn *c = LIST_FIRST(&peer->idle, struct peer_conn, node);

		if (conn_silent(c))
			return c;
		peer_conn_close(c);
	}
	return NULL;
}


/* The server closed (orderly), or the connection broke. */
static void
lost(struct peer_conn *c, bool orderly)
{
	struct http_peer_req *r = c->req;

	if (c->state == PEER_CONN_IDLE) {
		peer_conn_close(c);
		return;
	}
	if (c->reused && !c->answered && r->repeatable && !r->retried) {
		r->retried = true;
		peer_conn_close(c);
		if (peer_req_connect(r) != ERR_OK)
			peer_req_end(r, ERR_CONNECT, r->why.text);
		return;
	}
	if (orderly && r->head_done && http1_body_eof_ok(&c->body)) {
		r->keep = false;
		peer_answer_end(c, 0);
		return;
	}
	peer_req_fail(c, ERR_CLOSED, r->head_done ? "the answer was cut short" : orderly ? "closed before it answered" : "reset before it answered");
}

static bool
is_later(ssize_t n)
{
	return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

/* Moves what there is of the body. False: it has to be read. */
static bool
splice_on(struct peer_conn *c)
{
	ssize_t n = conn_splice(c);

	if (n < 0 && errno == EOPNOTSUPP)
		return false;
	if (is_later(n))
		return true;
	if (n <= 0) {
		lost(c, n == 0);
		return true;
	}
	peer_conn_touch(c);
	if (c->body.left == 0)
		peer_answer_end(c, 0);
	return true;
}

/* What the socket and TLS have. */
static void
read_on(struct peer_conn *c)
{
	struct http_peer *peer = c->peer;
	unsigned serial = c->serial;
	int i;

	for (i = 0; i < READS_A_TURN; i++) {
		size_t size = conn_read_size(c);
		ssize_t n;

		if (may_splice(c) && splice_on(c))
			return;
		n = conn_recv(c, peer->buf, size);
		if (is_later(n)) {
			if (c->tls != NULL)
				peer_conn_want(c);
			return;
		}
		if (n <= 0) {
			lost(c, n == 0);
			return;
		}
		if (c->state == PEER_CONN_IDLE) {
			log_warn(peer->o.name, "bytes on an idle connection: it is closed");
			peer_conn_close(c);
			return;
		}
		peer_conn_touch(c);
		c->answered = true;
		peer_answer_feed(c, peer->buf, (size_t)n);
		if (c->state != PEER_CONN_ACTIVE || c->serial != serial || c->req->paused || !conn_has_more(c, (size_t)n, size))
			return;
	}
	/* The socket does not tell of what TLS has read ahead. */
	if (c->tls != NULL && tls_pending(c->tls))
		loop_call_soon(&c->again);
}

static void
on_again(void *arg)
{
	struct peer_conn *c = arg;
	unsigned serial = c->serial;

	if (c->state == PEER_CONN_ACTIVE)
		peer_req_drained(c);
	if (c->state == PEER_CONN_ACTIVE && !c->req->paused)
		peer_answer_feed(c, "", 0);
	if (c->state == PEER_CONN_ACTIVE && c->serial == serial && !c->req->paused && c->tls != NULL && tls_pending(c->tls))
		read_on(c);
}

static void
on_readable(struct peer_conn *c)
{
	unsigned serial = c->serial;

	if (c->again.pending) {
		/* Resumed a moment ago: what was kept comes before what the socket has, the end of it above all. */
		loop_call_cancel(&c->again);
		on_again(c);
		if (c->state != PEER_CONN_ACTIVE || c->serial != serial || c->req->paused)
			return;
	}
	read_on(c);
}

static void
begin(struct peer_conn *c)
{
	peer_conn_activate(c);
	/* A body that came while we connected was held back: it may have gone out at once. */
	peer_req_drained(c);
}

static void
on_handshake(struct peer_conn *c)
{
	struct errbuf why;
	enum tls_result r = tls_handshake(c->tls);

	c->crossed = r == TLS_WANT_WRITE;
	if (r == TLS_OK) {
		begin(c);
	} else if (r == TLS_WANT_READ || r == TLS_WANT_WRITE) {
		peer_conn_want(c);
	} else {
		err_set(&why, ERR_CONNECT, "TLS: %s", tls_why(c->tls));
		peer_req_fail(c, ERR_CONNECT, why.text);
	}
}

static void
not_connected(struct peer_conn *c, enum err e, const char *why)
{
	struct http_peer_req *r = c->req;

	if (!next_addr(r, c->addr)) {
		peer_req_fail(c, e, why);
		return;
	}
	peer_conn_abandon(c);
	if (peer_req_connect(r) != ERR_OK)
		peer_req_end(r, ERR_CONNECT, r->why.text);
}

static void
on_connected(struct peer_conn *c)
{
	struct errbuf why = { "" };
	enum err e = addr_connect_result(c->fd.fd, &why);

	if (e != ERR_OK) {
		not_connected(c, e == ERR_TIMEOUT ? ERR_TIMEOUT : ERR_CONNECT, why.text);
		return;
	}
	if (c->peer->o.tls == NULL) {
		begin(c);
		return;
	}
	c->tls = tls_connect(c->peer->o.tls, c->fd.fd);
	set_state(c, PEER_CONN_HANDSHAKE);
	on_handshake(c);
}

static void
on_event(void *arg, int what)
{
	struct peer_conn *c = arg;

	if (c->state == PEER_CONN_CLOSED)
		return;
	if (c->state == PEER_CONN_CONNECTING) {
		on_connected(c);
		return;
	}
	if (c->state == PEER_CONN_HANDSHAKE) {
		on_handshake(c);
		return;
	}
	if (what == LOOP_READ || c->crossed) {
		c->crossed = false;
		on_readable(c);
		return;
	}
	if (c->req == NULL) {
		peer_conn_want(c);
		return;
	}
	peer_conn_flush(c);
	peer_req_drained(c);
}

static void
on_timer(void *arg)
{
	struct peer_conn *c = arg;
	uint64_t limit, now = clock_mono_ms();

	if (c->state == PEER_CONN_IDLE) {
		peer_conn_close(c);
		return;
	}
	if (c->state == PEER_CONN_CONNECTING) {
		not_connected(c, ERR_TIMEOUT, "no connection in time");
		return;
	}
	if (c->state == PEER_CONN_HANDSHAKE) {
		peer_req_fail(c, ERR_TIMEOUT, "no TLS handshake in time");
		return;
	}
	limit = c->req->timeout_ms;
	/* Time in which we wait for our client, either way, or for what the end is held for, is not the server's. */
	if (c->req->paused || c->req->held || (!c->req->body_ended && peer_conn_queued(c) == 0))
		peer_conn_touch(c);
	if (now >= c->touched + limit) {
		peer_req_fail(c, ERR_TIMEOUT, c->req->head_done ? "the answer stopped" : "no answer in time");
		return;
	}
	loop_timer_set(&c->timer, c->touched + limit - (now < c->touched ? c->touched : now));
}
