/*
 * upstream: our client engine towards the application's server: a pool of keep-alive connections over TCP or a Unix socket.
 * Request bodies are streamed with back pressure both ways, answers are parsed strictly (http1), nothing is buffered whole.
 *
 * A request's life: upstream_start -> upstream_write* -> upstream_body_end, and meanwhile on_head -> on_data* -> done. done
 * comes exactly once and ends the request, whether or not its body was all taken: a server may answer early. A request that
 * is held has not its end sent before upstream_release: until then no server has a complete one. A pooled
 * connection that turns out to be dead before it gave a byte is tried once more on a new one, if the request is idempotent
 * and has no body; nothing else is ever sent twice. A connection is reused only after a complete, exact answer.
 * Loop thread only.
 */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/str.h"
#include "io/http1.h"
#include "io/loop.h"

struct upstream;
struct upstream_req;

struct upstream_cb {
	/* The final answer's head (1xx are skipped); valid until the callback returns. */
	void (*on_head)(void *arg, const struct http1_head *h);
	/* Decoded body bytes; all are to be taken. After upstream_pause none come. */
	void (*on_data)(void *arg, const void *p, size_t n);
	/* The queue is below half after a write that returned false. */
	void (*on_drain)(void *arg);
	/* The end. ERR_OK: the answer is complete; else why not: TIMEOUT, CONNECT, CLOSED, PROTO. sent: a byte of the request may
	 * have reached the server. why: for a person, without client data. The handle is gone. */
	void (*done)(void *arg, enum err e, bool sent, const char *why);
};

struct upstream_opts {
	struct str *head;		/* the serialised head; taken over */
	enum http1_framing framing;	/* of the request's body: NO_BODY, LENGTH or CHUNKED */
	uint64_t length;
	bool to_head;			/* a HEAD request */
	bool repeatable;		/* idempotent and without a body */
	bool held;			/* the body's last bytes, and its end, wait for upstream_release; not without a body */
};

/* The address is resolved now (SYNTAX, CONNECT). The snapshot is referenced. */
enum err upstream_new(struct upstream **u, struct loop *l, const struct conf *c, struct errbuf *eb) ERR_MUST_CHECK;
/* New timeouts and pool size. */
void upstream_set_conf(struct upstream *u, const struct conf *c);
/* Requests in work are dropped without a callback. Takes NULL, clears the pointer. */
void upstream_free(struct upstream **u);
unsigned upstream_idle(const struct upstream *u);

struct upstream_req *upstream_start(struct upstream *u, const struct upstream_opts *o, const struct upstream_cb *cb, void *arg);
/* Body bytes, copied. false: enough for now, wait for on_drain. */
bool upstream_write(struct upstream_req *r, const void *p, size_t n);
void upstream_body_end(struct upstream_req *r);
/* What was held may go. Once, at any time before done. */
void upstream_release(struct upstream_req *r);
/* The answer stops and goes on. */
void upstream_pause(struct upstream_req *r);
void upstream_resume(struct upstream_req *r);
/* Closes its connection; no callback runs. Takes NULL, clears the pointer. */
void upstream_cancel(struct upstream_req **r);

#endif
