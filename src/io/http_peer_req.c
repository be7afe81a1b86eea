/* A request of http_peer.h: its start, its body, what is held of it, its end. */
#include "base/mem.h"
#include "io/http_peer_i.h"

enum {
	HELD_TAIL = 1024 /* of a held body: more than a form's closing boundary, at which a server might stop reading */
};

void
peer_req_free(struct http_peer_req *r)
{
	list_del(&r->node);
	loop_call_cancel(&r->fail);
	str_fini(&r->head);
	str_fini(&r->tail);
	str_fini(&r->unsent);
	mem_free(r);
}

/* Ends a request that has no connection any more. */
void
peer_req_end(struct http_peer_req *r, enum err e, const char *why)
{
	const struct http_peer_cb *cb = r->cb;
	void *arg = r->arg;
	bool sent = r->sent;
	struct errbuf text;

	ASSERT(r->c == NULL);
	err_set(&text, e, "%s", why);
	if (e != ERR_OK)
		metrics_add(r->peer->o.errors_metric, err_name(e), 1);
	peer_req_free(r);
	cb->done(arg, e, sent, text.text);
}

/* Not a byte of an answer has come. True: the request is another peer's now. */
static bool
elsewhere(struct http_peer_req *r, enum err e, const char *why, bool complete)
{
	const struct http_peer_opts *o = &r->peer->o;
	bool may = (complete && !r->sent) || (r->safe && !r->moved);
	struct http_peer *next;

	if (o->on_attempt == NULL || r->alone)
		return false;
	next = o->on_attempt(o->attempt_arg, e, why, may, &r->tried);
	ASSERT(next == NULL || may);
	if (next == NULL)
		return false;
	r->moved = r->moved || r->sent;
	r->peer = next;
	r->tries = 0;
	r->retried = false;
	return true;
}

void
peer_req_fail(struct peer_conn *c, enum err e, const char *why)
{
	struct http_peer_req *r = c->req;
	/* A server may close what was idle: that says nothing of how it is. */
	bool silent = !c->answered && !(c->reused && e == ERR_CLOSED);
	/* Is all there that was to be sent? A deaf connection's bytes are gone. */
	bool complete = !c->deaf;

	peer_conn_abandon(c);
	if (!silent || !elsewhere(r, e, why, complete)) {
		peer_req_end(r, e, why);
		return;
	}
	if (peer_req_begin(r) != ERR_OK) {
		peer_req_end(r, ERR_CONNECT, r->why.text);
		return;
	}
	/* A connection from the pool takes it at once, and nobody would tell. */
	if (r->want_drain)
		loop_call_soon(&r->c->again);
}

static void
on_fail(void *arg)
{
	struct http_peer_req *r = arg;

	peer_req_end(r, ERR_CONNECT, r->why.text);
}

enum err
peer_req_connect(struct http_peer_req *r)
{
	enum err e = peer_conn_open(r);

	if (e == ERR_OK || !elsewhere(r, e, r->why.text, true))
		return e;
	return peer_req_begin(r);
}

enum err
peer_req_begin(struct http_peer_req *r)
{
	struct peer_conn *c = peer_conn_idle(r->peer);

	if (c == NULL)
		return peer_req_connect(r);
	c->reused = true;
	peer_conn_bind(c, r);
	peer_conn_activate(c);
	return ERR_OK;
}

struct http_peer_req *
http_peer_start(struct http_peer *peer, const struct http_peer_req_opts *o, const struct http_peer_cb *cb, void *arg)
{
	struct http_peer_req *r = mem_zalloc(sizeof *r);

	list_init(&r->node);
	r->peer = peer;
	r->cb = cb;
	r->arg = arg;
	r->head = *o->head;
	str_init(o->head);
	r->framing = o->framing;
	r->left = o->length;
	r->timeout_ms = o->timeout_ms > 0 ? o->timeout_ms : peer->o.timeout_ms;
	r->to_head = o->to_head;
	r->repeatable = o->repeatable;
	r->safe = o->safe;
	r->alone = o->alone;
	r->body_ended = o->framing == HTTP1_NO_BODY || (o->framing == HTTP1_LENGTH && o->length == 0);
	r->held = o->held;
	ASSERT(!r->held || !r->body_ended);
	loop_call_init(&r->fail, peer->loop, on_fail, r);
	if (peer->o.connections > 0 && (peer->nbusy >= peer->o.connections || !list_empty(&peer->waiting))) {
		ASSERT(o->framing == HTTP1_NO_BODY);
		list_add_tail(&peer->waiting, &r->node);
	} else if (peer_req_begin(r) != ERR_OK) {
		loop_call_soon(&r->fail);
	}
	return r;
}

static void
queue(struct peer_conn *c, const void *p, size_t n)
{
	if (!c->deaf)
		str_add(&c->out, p, n);
}

static void
queue_body(struct http_peer_req *r, const char *p, size_t n)
{
	char head[20];

	if (n == 0)
		return;
	if (r->framing == HTTP1_CHUNKED) {
		queue(r->c, head, http1_chunk_head(head, n));
		queue(r->c, p, n);
		queue(r->c, "\r\n", 2);
	} else {
		ASSERT(n <= r->left);
		r->left -= n;
		queue(r->c, p, n);
	}
}

/* Lets go all but the last HELD_TAIL bytes of what has come. */
static void
queue_held(struct http_peer_req *r, const char *p, size_t n)
{
	size_t all = r->tail.len + n, go = all > HELD_TAIL ? all - HELD_TAIL : 0, old = go < r->tail.len ? go : r->tail.len;

	queue_body(r, r->tail.p, old);
	queue_body(r, p, go - old);
	str_drop(&r->tail, old);
	str_add(&r->tail, p + (go - old), n - (go - old));
}

bool
http_peer_write(struct http_peer_req *r, const void *p, size_t n)
{
	struct peer_conn *c = r->c;

	ASSERT(!r->body_ended);
	if (c == NULL || n == 0)
		return true;
	if (r->held)
		queue_held(r, p, n);
	else
		queue_body(r, p, n);
	if (c->state == PEER_CONN_ACTIVE)
		peer_conn_flush(c);
	r->want_drain = peer_conn_queued(c) > PEER_OUT_HIGH;
	return !r->want_drain;
}

static void
queue_end(struct http_peer_req *r)
{
	if (r->framing == HTTP1_CHUNKED && !r->held)
		queue(r->c, "0\r\n\r\n", 5);
}

void
http_peer_body_end(struct http_peer_req *r)
{
	ASSERT(!r->body_ended);
	r->body_ended = true;
	if (r->c == NULL)
		return;
	peer_conn_touch(r->c);
	queue_end(r);
	if (r->c->state == PEER_CONN_ACTIVE)
		peer_conn_flush(r->c);
}

void
http_peer_release(struct http_peer_req *r)
{
	ASSERT(r->held);
	r->held = false;
	if (r->c == NULL)
		return;
	peer_conn_touch(r->c);
	queue_body(r, r->tail.p, r->tail.len);
	str_fini(&r->tail);
	if (r->body_ended)
		queue_end(r);
	if (r->c->state == PEER_CONN_ACTIVE)
		peer_conn_flush(r->c);
	/* This may have sent all that the rest of the body waits for. */
	if (r->want_drain)
		loop_call_soon(&r->c->again);
}

/* Who was told to wait hears when most of it is gone. */
void
peer_req_drained(struct peer_conn *c)
{
	struct http_peer_req *r = c->req;

	if (r == NULL || !r->want_drain || peer_conn_queued(c) > PEER_OUT_HIGH / 2)
		return;
	r->want_drain = false;
	if (!r->body_ended)
		r->cb->on_drain(r->arg);
}

void
http_peer_pause(struct http_peer_req *r)
{
	r->paused = true;
	if (r->c != NULL)
		peer_conn_want(r->c);
}

void
http_peer_resume(struct http_peer_req *r)
{
	if (!r->paused)
		return;
	r->paused = false;
	if (r->c == NULL)
		return;
	peer_conn_touch(r->c);
	peer_conn_want(r->c);
	loop_call_soon(&r->c->again);
}

void
http_peer_cancel(struct http_peer_req **rp)
{
	struct http_peer_req *r = *rp;

	if (r == NULL)
		return;
	*rp = NULL;
	if (r->c != NULL)
		peer_conn_close(r->c);
	peer_req_free(r);
}
