/*
 * http_client: requests to an HTTP service, many at once, on the loop (libcurl multi). Used for R2. Nothing is followed,
 * decoded, normalised or retried here. libcurl's rules are kept: empty Expect, PATH_AS_IS, HTTP/1.1, NOSIGNAL, a
 * SEEKFUNCTION, handles never cleaned up inside a callback.
 */
#ifndef IO_HTTP_CLIENT_H
#define IO_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "io/loop.h"

struct http_client;
struct http_call;

struct http_client_opts {
	unsigned connections;		/* at most, per host */
	uint64_t connect_timeout_ms;	/* then ERR_CONNECT: nothing was sent */
	const char *ca_file;		/* NULL: the system's */
};

struct http_header {
	const char *name, *value;	/* value: no control characters, or the call is refused with ERR_INVAL */
};

/* What a call is. All strings are copied; header values are checked. Sent are exactly these headers, Host and
 * Content-Length (one given here is passed over); Transfer-Encoding is refused. */
struct http_call_opts {
	const char *method;
	const char *url;		/* as it goes on the wire: printable ASCII, percent-encoded by the caller */
	const struct http_header *headers;
	size_t nheaders;
	/* The body: bytes (must live until done), or a file's range by pread; body_len is always sent as Content-Length for
	 * methods with a body. fd is not closed. */
	const void *body;
	int body_fd;			/* -1: none */
	uint64_t body_off, body_len;
	bool has_body;			/* send Content-Length: 0 too */
	uint64_t limit_ms;		/* hard limit of the whole call; 0: none */
	uint64_t first_byte_ms;		/* from the request's last byte to the response head; 0: none */
	uint64_t stall_ms;		/* longest pause while data flows, either way, and we are not paused; 0: none */
	/* The final response head: status, then http_call_header() may be asked. Called once before any data. */
	void (*on_head)(void *arg, int status);
	/* Response bytes; all are taken. http_call_pause stops further ones. NULL: collected up to 1 MiB, see http_call_body. */
	void (*on_data)(void *arg, const void *p, size_t n);
	/* e is about the transfer: ERR_OK with any status. status is 0 if no head came. Exactly once. The call is freed
	 * after it. */
	void (*done)(void *arg, enum err e, int status);
	void *arg;
};

struct http_client *http_client_new(struct loop *l, const struct http_client_opts *o);
/* Running calls are cancelled. Takes NULL, clears the pointer. */
void http_client_free(struct http_client **c);

struct http_call *http_call_start(struct http_client *c, const struct http_call_opts *o);
/* No callback runs after this. */
void http_call_cancel(struct http_call **call);
void http_call_pause(struct http_call *call);
void http_call_resume(struct http_call *call);
/* A response header's value by case-insensitive name, or NULL; valid until done has returned. */
const char *http_call_header(const struct http_call *call, const char *name);
/* Every response header in turn: index from 0; false at the end. */
bool http_call_header_at(const struct http_call *call, size_t i, const char **name, const char **value);
/* The collected body (no on_data). */
const char *http_call_body(const struct http_call *call, size_t *len);
/* Why the transfer failed, for a person; "" if it did not. Errors: CONNECT (nothing was sent: refused, not resolved, TLS),
 * TIMEOUT (one of the call's limits), CLOSED (reset, or a body that was cut), PROTO, TOOBIG, INVAL (refused here), IO and
 * CHANGED (the body's file cannot be read, or became shorter). */
const char *http_call_why(const struct http_call *call);

#endif
