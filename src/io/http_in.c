/* A connection's input: the bytes that have come and are not used yet, plain or out of TLS. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "io/http_conn.h"

#define IN_MIN 4096

void
http_in_release(struct http_conn *c)
{
	if (c->w->in != c->server->scratch)
		mem_free(c->w->in);
	c->w->in = NULL;
	c->w->in_off = c->w->in_n = c->w->in_cap = 0;
}

void
http_in_consume(struct http_conn *c, size_t n)
{
	c->w->in_off += (unsigned)n;
	c->w->in_n -= (unsigned)n;
}

/* Makes the input the connection's own, with room for `room` more bytes. */
static void
own_input(struct http_conn *c, unsigned room)
{
	unsigned need = c->w->in_n + room;
	if (c->w->in && c->w->in != c->server->scratch && c->w->in_cap >= need) {
		if (c->w->in_cap - c->w->in_off < need) {
			memmove(c->w->in, c->w->in + c->w->in_off, c->w->in_n);
			c->w->in_off = 0;
		}
		return;
	}
	unsigned cap = need < IN_MIN ? IN_MIN : need;
	char *p = mem_alloc(cap);
	if (c->w->in_n > 0)
		memcpy(p, c->w->in + c->w->in_off, c->w->in_n);
	unsigned n = c->w->in_n;
	http_in_release(c);
	c->w->in = p;
	c->w->in_n = n;
	c->w->in_cap = cap;
}

void
http_in_settle(struct http_conn *c)
{
	if (c->w->in_n == 0)
		http_in_release(c);
	else if (c->w->in == c->server->scratch)
		own_input(c, 0);
}

void
http_in_note_handshake(struct http_conn *c, const char *result)
{
	if (!c->shaken)
		metrics_add(METRIC_TLS_HANDSHAKES, result, 1);
	c->shaken = true;
}

static enum filled
tls_recv(struct http_conn *c, char *p, unsigned max)
{
	size_t n;
	enum tls_result r = tls_read(c->tls, p, max, &n);
	if (tls_established(c->tls))
		http_in_note_handshake(c, tls_resumed(c->tls) ? "resumed" : "full");
	c->readable = false;
	switch (r) {
	case TLS_OK:
		/* Behind a full record there is mostly another. Of what it holds itself the socket does not tell. */
		c->readable = n >= TLS_RECORD || tls_pending(c->tls);
		c->w->in_n += (unsigned)n;
		return FILLED;
	case TLS_WANT_WRITE:
		c->crossed = true;
		return FILL_LATER;
	case TLS_WANT_READ:
		return FILL_LATER;
	case TLS_EOF:
	case TLS_CUT:		/* HTTP's own framing tells whether something is missing */
		return FILL_EOF;
	case TLS_FAILED:
	default:
		http_in_note_handshake(c, tls_peer_left(c->tls) ? "left" : "failed");
		if (log_on(LOG_LVL_DEBUG))
			log_debug("http", "%s: TLS: %s", http_conn_peer(c), tls_why(c->tls));
		return tls_peer_left(c->tls) ? FILL_EOF : FILL_ERROR;
	}
}

enum filled
http_in_fill(struct http_conn *c, unsigned max)
{
	if (c->w->in_n == 0) {
		http_in_release(c);
		c->w->in = c->server->scratch;
		c->w->in_cap = HTTP_SCRATCH;
	} else {
		unsigned room = c->w->in_n < IN_MIN ? IN_MIN : c->w->in_n;
		max = room < max ? room : max;
		own_input(c, max);
	}
	char *p = c->w->in + c->w->in_off + c->w->in_n;
	ssize_t n;
	c->reads++;
	if (c->tls)
		return tls_recv(c, p, max);
	do
		n = recv(c->fd.fd, p, max, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		c->readable = false;
		return errno == EAGAIN || errno == EWOULDBLOCK ? FILL_LATER : FILL_ERROR;
	}
	if (n == 0)
		return FILL_EOF;
	if ((unsigned)n < max)
		c->readable = false;
	c->w->in_n += (unsigned)n;
	return FILLED;
}
