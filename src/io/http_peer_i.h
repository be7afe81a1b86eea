/*
 * http_peer_i: what the four files of http_peer share: the pool (http_peer.c), a connection and its bytes (http_peer_conn.c:
 * nowhere else is a socket read or written), a request and its body (http_peer_req.c), the answer (http_peer_answer.c).
 */
#ifndef IO_HTTP_PEER_I_H
#define IO_HTTP_PEER_I_H

#include "base/list.h"
#include "io/http_peer.h"

enum {
	PEER_READ_SIZE = 64 * 1024,	/* one recv, and the most of an answer's head */
	PEER_OUT_HIGH = 64 * 1024	/* from here on writers are told to wait */
};

enum peer_conn_state {
	PEER_CONN_CONNECTING,	/* the connect was begun */
	PEER_CONN_HANDSHAKE,	/* TLS is being agreed on; in the time of the connect */
	PEER_CONN_ACTIVE,	/* a request is in work */
	PEER_CONN_IDLE,		/* in the pool */
	PEER_CONN_CLOSED	/* freed in the loop's next turn */
};

struct peer_conn {
	struct list node;	/* in idle, busy or dead of its peer */
	struct http_peer *peer;
	struct http_peer_req *req;
	enum peer_conn_state state;
	struct loop_fd fd;
	struct tls *tls;	/* NULL: plain */
	unsigned addr;		/* index of the address that it was made to */
	struct loop_timer timer;
	struct loop_call again;	/* feeds what was read before a pause */
	struct str in;		/* read, not yet parsed; bounded by one recv */
	struct str out;		/* not yet sent: from out_off on */
	size_t out_off;
	uint64_t touched;	/* monotonic ms of the last progress */
	size_t scan;
	struct http1_body body;
	unsigned serial;	/* of the request: a callback may end one, and another may begin */
	bool reused, answered;	/* answered: a byte of the answer came */
	bool crossed;		/* TLS has to write before it can read on */
	bool deaf;		/* it takes no more of the request; its answer may still come */
};

struct http_peer_req {
	struct list node;	/* in waiting of its peer, while it has no connection */
	struct http_peer *peer;
	struct peer_conn *c;	/* NULL: it waits; or it could not connect, and fail is pending */
	const struct http_peer_cb *cb;
	void *arg;
	struct str head;	/* kept while it may be sent again */
	enum http1_framing framing;
	uint64_t timeout_ms;
	uint64_t left;		/* of a body of known length */
	struct str tail;	/* the body's last bytes so far, while held */
	struct str unsent;	/* all that was queued on a connection that never was one; for the next */
	struct loop_call fail;
	struct errbuf why;
	unsigned infos;
	unsigned tries;		/* connects that failed */
	uint32_t tried;		/* on_attempt's */
	bool to_head, repeatable, retried, safe, alone;
	bool moved;		/* to another server, after this one may have seen it */
	bool body_ended, head_done, keep, paused, want_drain, sent, held;
};

struct http_peer {
	struct loop *loop;
	struct http_peer_opts o;
	struct addr addrs[HTTP_PEER_ADDRS];
	unsigned naddrs, at;	/* connections are made to addrs[at]; the next one, when nobody answers there */
	struct list idle, busy, dead;
	struct list waiting;	/* requests without a connection */
	unsigned nidle, nbusy;
	struct loop_call bury, serve;
	struct http1_head head;	/* of the answer being parsed */
	char buf[PEER_READ_SIZE];
};

static inline size_t
peer_conn_queued(const struct peer_conn *c)
{
	return c->out.len - c->out_off;
}

/* A usable one from the pool, or NULL; it is not taken out. */
struct peer_conn *peer_conn_idle(struct http_peer *peer);
/* A new one for this request; why not is in r->why. */
enum err peer_conn_open(struct http_peer_req *r) ERR_MUST_CHECK;
/* The request's head is queued; peer_conn_activate sends it. */
void peer_conn_bind(struct peer_conn *c, struct http_peer_req *r);
void peer_conn_activate(struct peer_conn *c);
/* Into the pool: its request is over. */
void peer_conn_rest(struct peer_conn *c);
void peer_conn_close(struct peer_conn *c);
/* The same, for the sake of its request: what that has queued, if not a byte of it was sent, is kept for its next connection. */
void peer_conn_abandon(struct peer_conn *c);
void peer_conn_touch(struct peer_conn *c);
void peer_conn_want(struct peer_conn *c);
void peer_conn_flush(struct peer_conn *c);

/* Gives it a connection, from the pool or a new one; where none can be made, another server's. Why not is in r->why. */
enum err peer_req_begin(struct http_peer_req *r) ERR_MUST_CHECK;
/* The same, but none of this server's pool. */
enum err peer_req_connect(struct http_peer_req *r) ERR_MUST_CHECK;
void peer_req_free(struct http_peer_req *r);
void peer_req_end(struct http_peer_req *r, enum err e, const char *why);
/* Closes the connection and ends its request, unless another server takes it. */
void peer_req_fail(struct peer_conn *c, enum err e, const char *why);
void peer_req_drained(struct peer_conn *c);

/* Bytes that were read. Callbacks may end the request and close c (it is buried later). */
void peer_answer_feed(struct peer_conn *c, const char *p, size_t n);
/* The answer is complete. left: bytes behind it, which nobody asked for. */
void peer_answer_end(struct peer_conn *c, size_t left);

#endif
