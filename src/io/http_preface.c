/*
 * What a balancer says before the first request: the PROXY protocol's header (proxyproto.h), whose address takes the place of the
 * connection's own. It is looked at in the socket and taken out to its last byte: what follows may be anything.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/http_conn.h"

enum { LOOK = 512 };	/* bytes at once; most headers have fewer */

bool
http_conn_has_preface(const struct http_server *s, struct http_conn *c)
{
	return s->o.nbalancers > 0 && network_has(s->o.balancers, s->o.nbalancers, http_conn_peer(c));
}

/* False: the balancer speaks for itself. */
static bool
set_peer(struct http_conn *c, const struct proxyproto *x)
{
	union {
		struct sockaddr sa;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} a;

	memset(&a, 0, sizeof a);
	a.sa.sa_family = (sa_family_t)x->family;
	if (x->family == AF_INET)
		memcpy(&a.v4.sin_addr, x->addr, sizeof a.v4.sin_addr);
	else if (x->family == AF_INET6)
		memcpy(&a.v6.sin6_addr, x->addr, sizeof a.v6.sin6_addr);
	else
		return false;
	http_conn_set_from(c, &a.sa);
	return true;
}

/* The server stops: an idle connection's time, and no more. */
static bool
wait_drained(struct http_conn *c)
{
	uint64_t until = c->server->idle_until;

	if (until <= clock_mono_ms()) {
		http_conn_close(c, HTTP_CLOSE_DRAIN);
		return true;
	}
	if (c->read_by > until || c->read_by == 0)
		c->read_by = until;
	return false;
}

bool
http_conn_step_preface(struct http_conn *c)
{
	char buf[LOOK];
	size_t used;
	ssize_t n;
	enum proxyproto_step step;

	if (!c->readable && !c->server->draining)
		return false;
	do
		n = recv(c->fd.fd, buf, sizeof buf, MSG_PEEK | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		c->readable = false;
		return c->server->draining && wait_drained(c);
	}
	if (n <= 0) {
		http_conn_close(c, n == 0 ? HTTP_CLOSE_CLIENT : HTTP_CLOSE_CLIENT_ABORT);
		return true;
	}
	step = proxyproto_feed(&c->w->preface, buf, (size_t)n, &used);
	if (step == PROXYPROTO_BAD || recv(c->fd.fd, buf, used, MSG_DONTWAIT) != (ssize_t)used) {
		log_warn("http", "%s: no PROXY header where one must be", http_conn_peer(c));
		http_conn_close(c, HTTP_CLOSE_PROXY_HEADER);
		return true;
	}
	if (step == PROXYPROTO_DONE) {
		http_conn_begin(c);
		if (set_peer(c, &c->w->preface) && !http_address_enter(c))
			http_conn_close(c, HTTP_CLOSE_ADDRESS_LIMIT);
	}
	return true;
}
