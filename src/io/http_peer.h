/*
 * http_peer: our client engine towards one server of HTTP: a pool of keep-alive connections over TCP or a Unix socket, with or without
 * TLS, whose handshake has the time of the connect.
 * Request bodies are streamed with back pressure both ways, answers are parsed strictly (http1), nothing is buffered whole.
 *
 * A request's life: http_peer_start -> http_peer_write* -> http_peer_body_end, and meanwhile on_head -> on_data* -> done. done
 * comes exactly once and ends the request, whether or not its body was all taken: a server may answer early. A request that
 * is held has not its end sent before http_peer_release: until then no server has a complete one. A pooled
 * connection that turns out to be dead before it gave a byte is tried once more on a new one, if the request is idempotent
 * and has no body; nothing else is ever sent twice to a server. A connection is reused only after a complete, exact answer.
 * Where several servers do the same work, a hook (on_attempt) hears how each does, and may send a request on to another's peer: one of
 * which no byte was sent, or, once, one that is safe and got no byte of an answer.
 * Loop thread only.
 */
#ifndef IO_HTTP_PEER_H
#define IO_HTTP_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/metrics.h"
#include "base/str.h"
#include "io/addr.h"
#include "io/http1.h"
#include "io/loop.h"
#include "io/tls.h"

struct http_peer;
struct http_peer_req;

enum { HTTP_PEER_ADDRS = 8 };

struct http_peer_opts {
	const char *name;		/* static: the area in the log, and the kind of its trip points */
	const char *address;		/* of addr_resolve; looked at by http_peer_new only. NULL: see http_peer_set_addrs */
	enum metric idle_metric;	/* gauge without a label: idle connections */
	enum metric errors_metric;	/* counter by reason: requests that failed, and odd connections */
	uint64_t connect_timeout_ms;
	uint64_t timeout_ms;		/* to the first byte of an answer, and longest pause within it */
	uint64_t idle_timeout_ms;	/* how long an idle connection is kept */
	unsigned keepalive;		/* idle connections kept */
	unsigned connections;		/* at most; requests, which may have no body then, wait for one. 0: one for each request */
	struct tls_client *tls;		/* NULL: plain; else who the server must be. The engine takes a reference of its own */
	/* NULL, or hears once of each attempt at a request. ERR_OK: the answer's head has come; else not a byte of one came, and why. (Half
	 * a head, or a kept connection that was closed meanwhile, say nothing.) may: the request can go to another peer of this loop
	 * with `connections` 0, which is returned; NULL: it ends. *tried: the request's, 0 at its start, to note where it was. */
	struct http_peer *(*on_attempt)(void *arg, enum err e, const char *why, bool may, uint32_t *tried);
	void *attempt_arg;
};

struct http_peer_cb {
	/* The final answer's head (1xx are skipped); valid until the callback returns. */
	void (*on_head)(void *arg, const struct http1_head *h);
	/* Decoded body bytes; all are to be taken. After http_peer_pause none come. */
	void (*on_data)(void *arg, const void *p, size_t n);
	/* Optional: up to max bytes of a body of known length may be moved off the socket, which does not block, by other means than
	 * on_data: how many were; 0 at its end of file; -1 with errno, EOPNOTSUPP to have them by on_data now. May pause. */
	ssize_t (*on_splice)(void *arg, int fd, uint64_t max);
	/* The queue is below half after a write that returned false. */
	void (*on_drain)(void *arg);
	/* The end. ERR_OK: the answer is complete; else why not: TIMEOUT, CONNECT (TLS that could not be agreed on is that, too), CLOSED,
	 * PROTO. sent: a byte of the request may
	 * have reached the server. why: for a person, without client data. The handle is gone. */
	void (*done)(void *arg, enum err e, bool sent, const char *why);
};

struct http_peer_req_opts {
	struct str *head;		/* the serialised head; taken over */
	enum http1_framing framing;	/* of the request's body: NO_BODY, LENGTH or CHUNKED */
	uint64_t length;
	uint64_t timeout_ms;		/* as the engine's, of this request; 0: the engine's */
	bool to_head;			/* a HEAD request */
	bool repeatable;		/* idempotent and without a body */
	bool safe;			/* repeatable, and changes nothing: a second server may be asked, too */
	bool alone;			/* for this server only; on_attempt does not hear of it */
	bool held;			/* the body's last bytes, and its end, wait for http_peer_release; not without a body */
};

/* The address is resolved now (SYNTAX, CONNECT); if the name has several, the next is tried where one does not answer. */
enum err http_peer_new(struct http_peer **peer, struct loop *l, const struct http_peer_opts *o, struct errbuf *eb) ERR_MUST_CHECK;
/* Where new connections go to from now on, the first that answers; those that there are stay. n: up to HTTP_PEER_ADDRS, 1 at least. */
void http_peer_set_addrs(struct http_peer *peer, const struct addr *v, unsigned n);
/* New timeouts, pool size and TLS, for all that begins from now on. The addresses stay. */
void http_peer_set_opts(struct http_peer *peer, const struct http_peer_opts *o);
/* Requests in work are dropped without a callback. Takes NULL, clears the pointer. */
void http_peer_free(struct http_peer **peer);
unsigned http_peer_idle(const struct http_peer *peer);
/* Connections with a request in work. */
unsigned http_peer_busy(const struct http_peer *peer);

struct http_peer_req *http_peer_start(struct http_peer *peer, const struct http_peer_req_opts *o, const struct http_peer_cb *cb, void *arg);
/* Body bytes, copied. false: enough for now, wait for on_drain. */
bool http_peer_write(struct http_peer_req *r, const void *p, size_t n);
void http_peer_body_end(struct http_peer_req *r);
/* What was held may go. Once, at any time before done. */
void http_peer_release(struct http_peer_req *r);
/* The answer stops and goes on. */
void http_peer_pause(struct http_peer_req *r);
void http_peer_resume(struct http_peer_req *r);
/* Closes its connection; no callback runs. Takes NULL, clears the pointer. */
void http_peer_cancel(struct http_peer_req **r);

#endif
