/* The answer to a request of http_peer.h: parsed as it comes; what follows from its end for the connection. */
#include "base/log.h"
#include "io/http_peer_i.h"

enum {
	INFOS_MAX = 8 /* 1xx answers before the final one; more is a flood */
};

void
peer_answer_end(struct peer_conn *c, size_t left)
{
	struct http_peer_req *r = c->req;
	struct http_peer *peer = c->peer;
	bool sent_all = r->body_ended && !r->held && peer_conn_queued(c) == 0 && !c->deaf;

	if (left > 0) {
		log_warn(peer->o.name, "bytes behind the end of an answer: the connection is closed");
		metrics_add(peer->o.errors_metric, "extra-bytes", 1);
	}
	if (!r->keep || left > 0 || !sent_all || peer->nidle >= peer->o.keepalive)
		peer_conn_close(c);
	else
		peer_conn_rest(c);
	peer_req_end(r, ERR_OK, "");
}

static bool
announces_body(const struct http1_head *h)
{
	return h->content_length != 0 || http1_find(h, "transfer-encoding") != NULL || !h->has_length;
}

/* False: the head is not complete, or the request is over. */
static bool
parse_head(struct peer_conn *c, const char *p, size_t n, size_t *used)
{
	struct http_peer *peer = c->peer;
	struct http_peer_req *r = c->req;
	struct http1_limits lim = { .head_max = PEER_READ_SIZE, .target_max = PEER_READ_SIZE, .headers_max = HTTP1_HEADERS };
	enum http1_bad bad;

	switch (http1_parse_response(&peer->head, p, n, &lim, r->to_head, &c->scan, used, &bad)) {
	case HTTP1_MORE:
		*used = 0;
		return false;
	case HTTP1_ERROR:
		peer_req_fail(c, ERR_PROTO, http1_bad_text(bad));
		return false;
	case HTTP1_DONE:
		break;
	}
	c->scan = 0;
	if (peer->head.status < 200) {
		/* We asked for no upgrade; all other interim answers are ours to skip (RFC 9110 15.2). */
		if (peer->head.status == 101 || ++r->infos > INFOS_MAX) {
			peer_req_fail(c, ERR_PROTO, "unexpected interim answer");
			return false;
		}
		return true;
	}
	r->head_done = true;
	if (peer->o.on_attempt != NULL && !r->alone)
		(void)peer->o.on_attempt(peer->o.attempt_arg, ERR_OK, "", false, &r->tried);
	/* Some servers send a body to HEAD all the same (gunicorn 20.1, for a streamed file): what comes late would be taken for the
	 * next answer's head, and its bytes may be a client's. Only an answer that announces nothing leaves the connection clean. */
	r->keep = peer->head.keep_alive && peer->head.framing != HTTP1_UNTIL_CLOSE && !(r->to_head && announces_body(&peer->head));
	str_fini(&r->head);
	http1_body_init(&c->body, peer->head.framing, peer->head.content_length);
	r->cb->on_head(r->arg, &peer->head);
	return true;
}

/* Parses as far as it goes; returns how much was used. */
static size_t
consume(struct peer_conn *c, const char *p, size_t n)
{
	size_t off = 0, used = 0, dn;
	enum http1_step step;
	enum http1_bad bad;
	const char *data;

	while (c->state == PEER_CONN_ACTIVE && c->req != NULL && !c->req->paused) {
		struct http_peer_req *r = c->req;

		if (!r->head_done) {
			if (!parse_head(c, p + off, n - off, &used))
				break;
			off += used;
			continue;
		}
		data = NULL;
		dn = used = 0;
		step = http1_body_feed(&c->body, p + off, n - off, &used, &data, &dn, &bad);
		off += used;
		if (step == HTTP1_ERROR) {
			peer_req_fail(c, ERR_PROTO, http1_bad_text(bad));
			break;
		}
		if (dn > 0)
			r->cb->on_data(r->arg, data, dn);
		if (c->req != r)
			break;
		if (step == HTTP1_DONE) {
			peer_answer_end(c, n - off);
			break;
		}
		if (used == 0)
			break;
	}
	return off;
}

void
peer_answer_feed(struct peer_conn *c, const char *p, size_t n)
{
	bool kept = c->in.len > 0;
	unsigned serial = c->serial;
	size_t used;

	if (kept) {
		str_add(&c->in, p, n);
		p = c->in.p;
		n = c->in.len;
	}
	used = consume(c, p, n);
	if (c->state != PEER_CONN_ACTIVE || c->serial != serial)
		return;
	if (kept)
		str_drop(&c->in, used);
	else if (used < n)
		str_add(&c->in, p + used, n - used);
}
