/*
 * http_server: the server side of HTTP/1.1 connections on a loop. The proxy's clients, the admin listener and the sandbox all
 * stand on it. It owns sockets, parsing, framing, keep-alive, pipelining (one request at a time, in order), time-outs,
 * limits and water marks, and TLS on the listeners that want it; it knows nothing of what is served. The handshake has the time
 * of the first head: header_timeout.
 *
 * A connection has at most one request in work. Its life: on_request -> on_body* -> on_body_end, and at any time from
 * on_request on: http_conn_start, then write/sendfile, then http_conn_end. The request is over when both its body has been
 * read (or given up: the connection is then closed after the answer) and its answer is ended and flushed: on_done, the last
 * callback of a request, in every case. Callbacks run on the loop, never inside a call of the functions below
 * (but http_server_free). Between the end of a request that nobody has been told of yet and its on_done the functions
 * below do nothing.
 */
#ifndef IO_HTTP_SERVER_H
#define IO_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/network.h"
#include "base/str.h"
#include "io/addr.h"
#include "io/http1.h"
#include "io/loop.h"
#include "io/tls.h"

struct http_server;
struct http_conn;

/* Why a connection was closed; http_close.def: HTTP_CLOSE(name, text). A log word and a metric label. */
enum http_close {
#define HTTP_CLOSE(name, text) HTTP_CLOSE_##name,
#include "http_close.def"
#undef HTTP_CLOSE
	HTTP_CLOSE_COUNT
};
const char *http_close_name(enum http_close r);

/* Limits and times, in ms; read at use, so that a reload can change them (http_server_set_opts). */
struct http_server_opts {
	struct http1_limits limits;
	uint64_t header_timeout, idle_timeout, body_timeout, write_timeout;
	/* A body that comes, or an answer that is taken, at fewer bytes a second over min_rate_after ms is given up; time in which we
	 * make the client wait is not counted. TCP only. 0: no limit. */
	uint64_t min_rate, min_rate_after;
	unsigned requests_max;		/* per connection; 0: no limit */
	unsigned conns_max;		/* accepting pauses beyond */
	unsigned conns_per_address;	/* at once from one client (http_address.c); more are closed; 0: no limit */
	size_t out_high;		/* bytes queued for output above which http_conn_write returns false */
	/* Networks whose connections must begin with a PROXY header (proxyproto.h); nobody else's may. The caller's, as long as the
	 * options are in use. */
	const struct network *balancers;
	size_t nbalancers;
	/* Networks that speak for many clients, whose connections conns_per_address does not count; the caller's, too. */
	const struct network *proxies;
	size_t nproxies;
};

struct http_server_cb {
	/* A request head. head and its slices are valid until the callback returns: copy what is needed. Its body flows only
	 * after http_conn_read_body; "100 Continue" is sent by that call if the client waits for it. */
	void (*on_request)(struct http_conn *c, const struct http1_head *head);
	/* Decoded body bytes; all are taken. Use http_conn_pause to stop the flow. */
	void (*on_body)(struct http_conn *c, const void *p, size_t n);
	void (*on_body_end)(struct http_conn *c);
	/* Optional: the client closed its side within the body, before the answer was begun: nothing more comes, but the
	 * request may still answer. Without it the connection is closed at once. */
	void (*on_body_cut)(struct http_conn *c);
	/* Queued output fell below half of out_high after a write that returned false. */
	void (*on_drain)(struct http_conn *c);
	/* The request is over: ok = the whole answer was handed to the kernel. The connection may live on. */
	void (*on_done)(struct http_conn *c, bool ok, enum http_close why);
	/* Optional: connections opened and closed, for metrics. */
	void (*on_open)(struct http_conn *c);
	void (*on_close)(struct http_conn *c, enum http_close why);
	/* Optional: a malformed head: answered with the status of bad and closed by the server itself. */
	void (*on_bad)(struct http_conn *c, enum http1_bad bad);
};

struct http_server *http_server_new(struct loop *l, const struct http_server_opts *o, const struct http_server_cb *cb, void *arg);
void http_server_set_opts(struct http_server *s, const struct http_server_opts *o);
/* mode: of a Unix socket. The listener belongs to the server. */
enum err http_server_listen(struct http_server *s, const struct addr *a, unsigned mode, struct errbuf *eb) ERR_MUST_CHECK;
/* What listeners with TLS show to connections to come; those that are there keep theirs. Takes a reference. */
void http_server_set_tls(struct http_server *s, struct tls_server *tls);
/* The same as http_server_listen, with TLS; after the first http_server_set_tls. */
enum err http_server_listen_tls(struct http_server *s, const struct addr *a, unsigned mode, struct errbuf *eb) ERR_MUST_CHECK;
/* A listening socket that the process was given; a non-blocking one. It belongs to the server. */
void http_server_adopt(struct http_server *s, int fd, bool tls);
/* Port of the first TCP listener (0 was asked for: the kernel's choice), and of the first with TLS. */
unsigned http_server_port(const struct http_server *s);
unsigned http_server_tls_port(const struct http_server *s);
/* Stops accepting, closes connections once they have been idle for idle_ms (0: at once), lets running requests, and those that come
 * until then, end with "Connection: close". */
void http_server_drain(struct http_server *s, uint64_t idle_ms);
unsigned http_server_conns(const struct http_server *s);
/* Closes everything at once: on_done and on_close run for what was open, then nothing. Takes NULL, clears the pointer. */
void http_server_free(struct http_server **s);
void *http_server_arg(const struct http_server *s);
/* "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", now; for answers that are not relayed. http_conn_reply adds it itself. */
const char *http_server_date(struct http_server *s);

/* The request's own object, for its callbacks. */
void http_conn_set(struct http_conn *c, void *req);
void *http_conn_get(const struct http_conn *c);
struct http_server *http_conn_server(const struct http_conn *c);
/* The peer's address without its port, or the one that a balancer has named, "unix:" for Unix sockets; valid until on_done, or the callback returns. */
const char *http_conn_peer(struct http_conn *c);
bool http_conn_is_tls(const struct http_conn *c);
bool http_conn_peer_is_unix(const struct http_conn *c);

/* Let the body flow: on_body* and on_body_end (at once if there is no body) come only after this. A body that nobody asked for,
 * or that is paused when the answer has been sent, is drained up to 64 KiB after on_done, or the connection closed. */
void http_conn_read_body(struct http_conn *c);
void http_conn_pause(struct http_conn *c);
void http_conn_resume(struct http_conn *c);

/* Starts the answer. head: status line and headers without framing, connection headers and final CRLF, e.g. from
 * http1_add_status_line + http1_add_header; copied. length: of the body; HTTP_CONN_CHUNKED if not known (HTTP/1.0: until
 * close); HTTP_CONN_BODYLESS: the status has no body, no Content-Length is added (304, 204, 1xx).
 * To a HEAD request the headers are those of length and no body is sent; writes are then dropped. */
#define HTTP_CONN_CHUNKED UINT64_MAX
#define HTTP_CONN_BODYLESS (UINT64_MAX - 1)
void http_conn_start(struct http_conn *c, const struct str *head, uint64_t length);
/* Starts the answer 101 (RFC 9110 7.8) and makes a tunnel of the connection: what the client sends comes to on_body as it is, its
 * end of file to on_body_end; http_conn_write sends as it is. http_conn_end closes; nothing is timed but writes. The request
 * must have no body. head: with Connection and Upgrade, without the final CRLF. */
void http_conn_tunnel(struct http_conn *c, const struct str *head);
/* Queues body bytes (copied). false: queue above out_high, wait for on_drain (the bytes were taken all the same). */
bool http_conn_write(struct http_conn *c, const void *p, size_t n);
/* Queues a file's range; the descriptor is the connection's from now on and is closed by it. */
void http_conn_sendfile(struct http_conn *c, int fd, uint64_t off, uint64_t n);
/* Moves up to max bytes, which must not be more than the answer still owes, from a socket that does not block to the client, without
 * copying them: how many; 0 at its end of file; -1 with errno of the socket's (EAGAIN: nothing is there now), or with EOPNOTSUPP where
 * that is not possible now: read and write. *full: wait for on_drain (the bytes were taken all the same). */
ssize_t http_conn_splice(struct http_conn *c, int from, uint64_t max, bool *full);
/* The answer is complete. Fewer bytes than announced: the connection is closed abnormally. */
void http_conn_end(struct http_conn *c);
/* Gives up: closes so that the client sees a cut answer, never a complete one. on_done(ok = false) follows. */
void http_conn_abort(struct http_conn *c, enum http_close why);
/* No further request on this connection. */
void http_conn_close_after(struct http_conn *c);
bool http_conn_started(const struct http_conn *c);
/* A whole small answer: start, write, end. headers: more header lines ("Name: value\r\n"...), may be NULL. */
void http_conn_reply(struct http_conn *c, int status, const char *content_type, const char *headers, const void *body, size_t n);

#endif
