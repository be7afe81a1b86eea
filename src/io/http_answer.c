/*
 * The request's side of http_server.h: its body's flow and its answer. Nothing here calls back; what is asked for is done by
 * the connection's next turn, or, inside a callback, right after it. Only large writes go out at once, to save the copy.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"
#include "io/http_conn.h"

#define SPLICE_TURN (1 << 20)	/* bytes of one call of http_conn_splice, about */
#define DIRECT 8192	/* bytes from which a system call is cheaper than a copy that may be joined with others */

/* The request was given up and nobody was told yet, or it is over. */
static bool
dead(const struct http_conn *c)
{
	return c->state != CONN_REQUEST || c->aborting;
}

static void
give_up(struct http_conn *c, enum http_close why)
{
	c->aborting = true;
	c->why = (unsigned char)why;
	http_conn_kick(c);
}

static void
await_body(struct http_conn *c)
{
	uint64_t ms = c->server->o.body_timeout;
	c->read_by = ms > 0 ? clock_mono_ms() + ms : 0;
}

void
http_conn_read_body(struct http_conn *c)
{
	if (dead(c) || c->asked)
		return;
	c->asked = true;
	if (!c->body_done) {
		/* RFC 9110 10.1.1: not if the body is coming already, or the final status is on its way. */
		if (c->expect && !c->started && c->w->in_n == 0)
			http_out_add(&c->w->out, "HTTP/1.1 100 Continue\r\n\r\n", 25);
		if (!c->started)
			c->expect = false;
		if (!c->paused)
			await_body(c);
	}
	http_conn_kick(c);
}

void
http_conn_pause(struct http_conn *c)
{
	if (dead(c))
		return;
	c->paused = true;
	c->read_by = 0;
	c->w->body_rate.since = 0;
}

void
http_conn_resume(struct http_conn *c)
{
	if (dead(c) || !c->paused)
		return;
	c->paused = false;
	if (c->asked && !c->body_done && !c->tunnel)
		await_body(c);
	http_conn_kick(c);
}

/* May another request follow? Decided when the head is written, which must say it. */
static bool
may_keep(const struct http_conn *c)
{
	const struct http_server *s = c->server;
	if (!c->keep || s->draining || (s->o.requests_max > 0 && c->nreq >= s->o.requests_max))
		return false;
	/* The body may or may not come, or is more than is worth reading. */
	return c->body_done || (!c->expect &&
	    (c->asked || c->w->body.framing != HTTP1_LENGTH || c->w->body.left <= HTTP_DISCARD_MAX));
}

void
http_conn_start(struct http_conn *c, const struct str *head, uint64_t length)
{
	struct str *r = &c->server->reply;
	if (dead(c))
		return;
	ASSERT(!c->started);
	c->started = true;
	c->keep = may_keep(c);
	c->framing = SEND_NOTHING;
	if (head != r) {
		str_clear(r);
		str_add(r, head->p, head->len);
	}
	if (length == HTTP_CONN_CHUNKED && c->minor > 0) {
		c->framing = SEND_CHUNKED;
		str_addz(r, "Transfer-Encoding: chunked\r\n");
	} else if (length == HTTP_CONN_CHUNKED) {
		c->framing = SEND_RAW;
		c->keep = false;
	} else if (length != HTTP_CONN_BODYLESS) {
		c->framing = SEND_LENGTH;
		c->w->left = length;
		http1_add_header_u64(r, "Content-Length", length);
	}
	if (c->is_head) {
		c->framing = SEND_NOTHING;
		c->w->left = 0;
	}
	if (!c->keep)
		str_addz(r, "Connection: close\r\n");
	else if (c->minor == 0)
		str_addz(r, "Connection: keep-alive\r\n");
	http1_end_head(r);
	http_out_add(&c->w->out, r->p, r->len);
	http_conn_kick(c);
}

void
http_conn_tunnel(struct http_conn *c, const struct str *head)
{
	if (dead(c))
		return;
	ASSERT(!c->started && c->body_done);
	c->started = c->tunnel = true;
	c->keep = false;
	c->framing = SEND_RAW;
	http1_body_init(&c->w->body, HTTP1_UNTIL_CLOSE, 0);
	c->body_done = c->end_told = false;
	c->asked = true;
	http_out_add(&c->w->out, head->p, head->len);
	http_out_add(&c->w->out, "\r\n", 2);
	http_conn_kick(c);
}

static void
send_bytes(struct http_conn *c, const void *p, size_t n)
{
	uint64_t sent;
	if (n < DIRECT || c->blocked || c->w->out.files > 0) {
		http_out_add(&c->w->out, p, n);
		return;
	}
	switch (http_out_send(&c->w->out, c->fd.fd, c->tls, p, n, &sent)) {
	case HTTP_OUT_ERROR:
		give_up(c, errno == EPIPE || errno == ECONNRESET ? HTTP_CLOSE_CLIENT_ABORT : HTTP_CLOSE_SOCKET);
		break;
	case HTTP_OUT_FULL:
		http_conn_blocked(c);
		break;
	case HTTP_OUT_EMPTY:
	case HTTP_OUT_TURN:
	case HTTP_OUT_CUT:
	default:
		break;
	}
}

/* Accounts for n bytes of the answer; what stands before and behind them is the framing's. False: they are not sent. */
static bool
announce(struct http_conn *c, uint64_t n)
{
	char chunk[20];
	ASSERT(c->started && !c->ended);
	if (c->framing == SEND_NOTHING || n == 0)
		return false;
	if (c->framing == SEND_LENGTH) {
		ASSERT(n <= c->w->left);
		c->w->left -= n;
	} else if (c->framing == SEND_CHUNKED) {
		http_out_add(&c->w->out, chunk, http1_chunk_head(chunk, (size_t)n));
	}
	return true;
}

static void
announced(struct http_conn *c)
{
	if (c->framing == SEND_CHUNKED)
		http_out_add(&c->w->out, "\r\n", 2);
	http_conn_kick(c);
}

bool
http_conn_write(struct http_conn *c, const void *p, size_t n)
{
	if (dead(c) || !announce(c, n))
		return true;
	send_bytes(c, p, n);
	announced(c);
	if (c->w->out.bytes <= c->server->o.out_high)
		return true;
	c->want_drain = true;
	return false;
}

void
http_conn_sendfile(struct http_conn *c, int fd, uint64_t off, uint64_t n)
{
	if (dead(c) || !announce(c, n)) {
		close(fd);
		return;
	}
	http_out_add_file(&c->w->out, fd, off, n);
	announced(c);
}

/* What is in the pipe follows what is queued. False: the socket takes no more, or is broken. */
static bool
send_pipe(struct http_conn *c, struct pipes_pipe *pipe, uint64_t n)
{
	uint64_t sent;
	http_out_add_pipe(&c->w->out, pipe, n);
	switch (http_out_flush(&c->w->out, c->fd.fd, NULL, &sent)) {
	case HTTP_OUT_EMPTY:
		return true;
	case HTTP_OUT_FULL:
		http_conn_blocked(c);
		return false;
	case HTTP_OUT_TURN:
		return false;
	case HTTP_OUT_CUT:
	case HTTP_OUT_ERROR:
	default:
		give_up(c, errno == EPIPE || errno == ECONNRESET ? HTTP_CLOSE_CLIENT_ABORT : HTTP_CLOSE_SOCKET);
		return false;
	}
}

ssize_t
http_conn_splice(struct http_conn *c, int from, uint64_t max, bool *full)
{
	ssize_t n = 0, got = 0;
	*full = false;
	errno = EOPNOTSUPP;
	if (dead(c) || c->tls || c->framing != SEND_LENGTH || c->blocked || c->w->out.files > 0)
		return -1;
	ASSERT(c->started && !c->ended && max <= c->w->left);
	while (max > 0 && n < SPLICE_TURN && !*full) {
		struct pipes_pipe *pipe = pipes_take(&c->server->pipes);
		if (!pipe) {
			errno = EOPNOTSUPP;
			got = -1;
			break;
		}
		got = splice(from, NULL, pipe->in, NULL, max < PIPES_ROOM ? (size_t)max : PIPES_ROOM, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (got <= 0) {
			int why = errno == EINVAL ? EOPNOTSUPP : errno;
			pipes_give(pipe, true);
			errno = why;
			break;
		}
		max -= (uint64_t)got;
		n += got;
		c->w->left -= (uint64_t)got;
		*full = !send_pipe(c, pipe, (uint64_t)got);
	}
	if (n == 0)
		return got;
	http_conn_kick(c);
	c->want_drain = *full;
	return n;
}

void
http_conn_end(struct http_conn *c)
{
	if (dead(c))
		return;
	ASSERT(c->started && !c->ended);
	c->ended = true;
	if (c->w->left > 0) {
		give_up(c, HTTP_CLOSE_CUT);
		return;
	}
	if (c->framing == SEND_CHUNKED)
		http_out_add(&c->w->out, "0\r\n\r\n", 5);
	http_conn_kick(c);
}

void
http_conn_abort(struct http_conn *c, enum http_close why)
{
	if (!dead(c))
		give_up(c, why);
}

void
http_conn_close_after(struct http_conn *c)
{
	if (!dead(c))
		c->keep = false;
}

bool
http_conn_started(const struct http_conn *c)
{
	return c->started;
}

void
http_conn_reply(struct http_conn *c, int status, const char *content_type, const char *headers, const void *body, size_t n)
{
	struct str *r = &c->server->reply;
	bool bodyless = status < 200 || status == 204 || status == 304;
	if (dead(c))
		return;
	ASSERT(!bodyless || n == 0);
	str_clear(r);
	http1_add_status_line(r, status, NULL);
	str_addz(r, http_server_date(c->server));
	if (content_type)
		http1_add_header(r, "Content-Type", content_type);
	if (headers)
		str_addz(r, headers);
	http_conn_start(c, r, bodyless ? HTTP_CONN_BODYLESS : n);
	http_conn_write(c, body, n);
	http_conn_end(c);
}
