/*
 * Clients that are too slow: a body that trickles in, an answer that is hardly read. The kernel counts what a TCP connection has
 * brought and what its client has acknowledged, so neither reading nor writing need know of this: the sweep asks, once in
 * min_rate_after for each direction in which a client is waited for.
 */
#include <linux/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "io/http_conn.h"

bool
http_conn_awaits_body(const struct http_conn *c)
{
	return c->asked && !c->paused && !c->end_told && !c->body_done && !c->tunnel;
}

/* Is there something to be asked of the kernel? */
static bool
is_due(struct http_rate *r, bool waits, const struct http_conn *c, uint64_t now)
{
	if (!waits)
		r->since = 0;
	return waits && (r->since == 0 || now - r->since >= c->server->o.min_rate_after);
}

/* A stretch of time ends and the next begins. True: too little moved in it. */
static bool
turn(struct http_rate *r, uint64_t bytes, const struct http_conn *c, uint64_t now)
{
	bool slow = r->since != 0 && (bytes - r->bytes) * 1000 < c->server->o.min_rate * (now - r->since);

	r->since = now;
	r->bytes = bytes;
	return slow;
}

enum http_close
http_rate_check(struct http_conn *c, uint64_t now)
{
	struct http_work *w = c->w;
	struct tcp_info info;
	socklen_t len = sizeof info;
	bool body, out;

	if (c->server->o.min_rate == 0 || w == NULL || c->state != CONN_REQUEST)
		return HTTP_CLOSE_NONE;
	body = is_due(&w->body_rate, http_conn_awaits_body(c), c, now);
	out = is_due(&w->out_rate, c->blocked, c, now);
	/* A Unix socket has no such counts. */
	if ((!body && !out) || getsockopt(c->fd.fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 ||
	    len < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received)
		return HTTP_CLOSE_NONE;
	if (body && turn(&w->body_rate, info.tcpi_bytes_received, c, now))
		return HTTP_CLOSE_BODY_RATE;
	if (out && turn(&w->out_rate, info.tcpi_bytes_acked, c, now))
		return HTTP_CLOSE_WRITE_RATE;
	return HTTP_CLOSE_NONE;
}
