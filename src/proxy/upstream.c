#include "proxy/upstream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/trip.h"
#include "io/addr.h"

enum {
	READ_SIZE = 64 * 1024,	/* one recv */
	READS_A_TURN = 4,	/* then others' turn */
	OUT_HIGH = 64 * 1024,
	HELD_TAIL = 1024,	/* of a held body: more than a form's closing boundary, at which a server might stop reading */
	INFOS_MAX = 8		/* 1xx answers before the final one; more is a flood */
};

enum uconn_state {
	UCONN_CONNECTING,	/* the connect was begun */
	UCONN_ACTIVE,		/* a request is in work */
	UCONN_IDLE,		/* in the pool */
	UCONN_CLOSED		/* freed in the loop's next turn */
};

struct uconn {
	struct list node;	/* in idle, busy or dead of its upstream */
	struct upstream *u;
	struct upstream_req *req;
	enum uconn_state state;
	struct loop_fd fd;
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
	bool deaf;		/* it takes no more of the request; its answer may still come */
};

struct upstream_req {
	struct upstream *u;
	struct uconn *c;	/* NULL: could not connect; fail is pending */
	const struct upstream_cb *cb;
	void *arg;
	struct str head;	/* kept while it may be sent again */
	enum http1_framing framing;
	uint64_t left;		/* of a body of known length */
	struct str tail;	/* the body's last bytes so far, while held */
	struct loop_call fail;
	struct errbuf why;
	unsigned infos;
	bool to_head, repeatable, retried;
	bool body_ended, head_done, keep, paused, want_drain, sent, held;
};

struct upstream {
	struct loop *loop;
	struct conf *conf;
	struct addr addr;
	struct list idle, busy, dead;
	unsigned nidle;
	struct loop_call bury;
	struct http1_head head;	/* of the answer being parsed */
	char buf[READ_SIZE];
};

static void on_event(void *arg, int what);
static void on_timer(void *arg);
static void on_again(void *arg);
static void on_fail(void *arg);
static void feed(struct uconn *c, const char *p, size_t n);
static void tell_drained(struct uconn *c);

static void
on_bury(void *arg)
{
	struct upstream *u = arg;

	while (!list_empty(&u->dead)) {
		struct uconn *c = LIST_FIRST(&u->dead, struct uconn, node);

		list_del(&c->node);
		str_fini(&c->in);
		str_fini(&c->out);
		mem_free(c);
	}
}

enum err
upstream_new(struct upstream **up, struct loop *l, const struct conf *c, struct errbuf *eb)
{
	struct upstream *u = mem_zalloc(sizeof *u);
	enum err e = addr_parse(&u->addr, c->upstream, eb);

	if (e != ERR_OK) {
		mem_free(u);
		return e;
	}
	u->loop = l;
	u->conf = conf_ref(c);
	list_init(&u->idle);
	list_init(&u->busy);
	list_init(&u->dead);
	loop_call_init(&u->bury, l, on_bury, u);
	*up = u;
	return ERR_OK;
}

void
upstream_set_conf(struct upstream *u, const struct conf *c)
{
	struct conf *old = u->conf;

	u->conf = conf_ref(c);
	conf_unref(&old);
}

unsigned
upstream_idle(const struct upstream *u)
{
	return u->nidle;
}

/* The one setter: keeps the lists and the idle count true. */
static void
set_state(struct uconn *c, enum uconn_state s)
{
	struct upstream *u = c->u;

	ASSERT(c->state != UCONN_CLOSED);
	if (c->state == UCONN_IDLE && s != UCONN_IDLE)
		u->nidle--;
	list_del(&c->node);
	c->state = s;
	switch (s) {
	case UCONN_CONNECTING:
	case UCONN_ACTIVE:
		list_add_tail(&u->busy, &c->node);
		break;
	case UCONN_IDLE:
		list_add_head(&u->idle, &c->node);
		u->nidle++;
		break;
	case UCONN_CLOSED:
		list_add_tail(&u->dead, &c->node);
		loop_call_soon(&u->bury);
		break;
	}
	metrics_set(METRIC_UPSTREAM_IDLE, NULL, u->nidle);
}

static void
close_conn(struct uconn *c)
{
	int fd = c->fd.fd;

	if (c->req != NULL)
		c->req->c = NULL;
	c->req = NULL;
	loop_timer_fini(&c->timer);
	loop_call_cancel(&c->again);
	loop_fd_fini(&c->fd);
	close(fd);
	set_state(c, UCONN_CLOSED);
}

static void
free_req(struct upstream_req *r)
{
	loop_call_cancel(&r->fail);
	str_fini(&r->head);
	str_fini(&r->tail);
	mem_free(r);
}

/* Ends a request that has no connection any more. */
static void
end_req(struct upstream_req *r, enum err e, const char *why)
{
	const struct upstream_cb *cb = r->cb;
	void *arg = r->arg;
	bool sent = r->sent;
	struct errbuf text;

	ASSERT(r->c == NULL);
	err_set(&text, e, "%s", why);
	if (e != ERR_OK)
		metrics_add(METRIC_UPSTREAM_ERRORS, err_name(e), 1);
	free_req(r);
	cb->done(arg, e, sent, text.text);
}

static void
fail(struct uconn *c, enum err e, const char *why)
{
	struct upstream_req *r = c->req;

	close_conn(c);
	end_req(r, e, why);
}

static void
on_fail(void *arg)
{
	struct upstream_req *r = arg;

	end_req(r, ERR_CONNECT, r->why.text);
}

static void
touch(struct uconn *c)
{
	c->touched = clock_mono_ms();
}

static size_t
queued(const struct uconn *c)
{
	return c->out.len - c->out_off;
}

static void
want(struct uconn *c)
{
	int what = 0;

	if (c->state == UCONN_CONNECTING)
		what = LOOP_WRITE;
	else if (c->req == NULL || !c->req->paused)
		what = LOOP_READ;
	if (c->state == UCONN_ACTIVE && queued(c) > 0)
		what |= LOOP_WRITE;
	loop_fd_want(&c->fd, what);
}

/* Sends what it takes. A server that takes no more may have answered already: reading decides, not writing. */
static void
flush(struct uconn *c)
{
	while (queued(c) > 0) {
		ssize_t n = send(c->fd.fd, c->out.p + c->out_off, queued(c), MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n < 0) {
			c->deaf = true;
			break;
		}
		touch(c);
		c->req->sent = true;
		c->out_off += (size_t)n;
	}
	if (c->deaf || queued(c) == 0) {
		str_clear(&c->out);
		c->out_off = 0;
	} else if (c->out_off > OUT_HIGH) {
		str_drop(&c->out, c->out_off);
		c->out_off = 0;
	}
	want(c);
}

static void
activate(struct uconn *c)
{
	set_state(c, UCONN_ACTIVE);
	touch(c);
	loop_timer_set(&c->timer, c->u->conf->upstream_timeout);
	flush(c);
}

static void
bind_req(struct uconn *c, struct upstream_req *r)
{
	c->req = r;
	r->c = c;
	c->serial++;
	c->answered = c->deaf = false;
	c->scan = 0;
	str_clear(&c->in);
	str_add(&c->out, r->head.p, r->head.len);
}

static enum err
connect_new(struct upstream_req *r)
{
	struct upstream *u = r->u;
	struct uconn *c;
	int fd;
	enum err e = TRIP_ERR("upstream", "connect", "");

	if (e == ERR_OK)
		e = addr_connect(&u->addr, &fd, &r->why);
	if (e != ERR_OK)
		return e;
	c = mem_zalloc(sizeof *c);
	c->u = u;
	c->state = UCONN_CONNECTING;
	list_init(&c->node);
	list_add_tail(&u->busy, &c->node);
	loop_fd_init(&c->fd, u->loop, fd, on_event, c);
	loop_timer_init(&c->timer, u->loop, on_timer, c);
	loop_call_init(&c->again, u->loop, on_again, c);
	bind_req(c, r);
	loop_timer_set(&c->timer, u->conf->upstream_connect_timeout);
	want(c);
	return ERR_OK;
}

/* A pooled connection is usable only if it is silent: bytes that nobody asked for would be taken for the next answer. */
static struct uconn *
take_idle(struct upstream *u)
{
	while (!list_empty(&u->idle)) {
		struct uconn *c = LIST_FIRST(&u->idle, struct uconn, node);
		char byte;

		if (recv(c->fd.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return c;
		close_conn(c);
	}
	return NULL;
}

struct upstream_req *
upstream_start(struct upstream *u, const struct upstream_opts *o, const struct upstream_cb *cb, void *arg)
{
	struct upstream_req *r = mem_zalloc(sizeof *r);
	struct uconn *c;

	r->u = u;
	r->cb = cb;
	r->arg = arg;
	r->head = *o->head;
	str_init(o->head);
	r->framing = o->framing;
	r->left = o->length;
	r->to_head = o->to_head;
	r->repeatable = o->repeatable;
	r->body_ended = o->framing == HTTP1_NO_BODY || (o->framing == HTTP1_LENGTH && o->length == 0);
	r->held = o->held;
	ASSERT(!r->held || !r->body_ended);
	loop_call_init(&r->fail, u->loop, on_fail, r);
	c = take_idle(u);
	if (c != NULL) {
		c->reused = true;
		bind_req(c, r);
		activate(c);
	} else if (connect_new(r) != ERR_OK) {
		loop_call_soon(&r->fail);
	}
	return r;
}

static void
queue(struct uconn *c, const void *p, size_t n)
{
	if (!c->deaf)
		str_add(&c->out, p, n);
}

static void
queue_body(struct upstream_req *r, const char *p, size_t n)
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
queue_held(struct upstream_req *r, const char *p, size_t n)
{
	size_t all = r->tail.len + n, go = all > HELD_TAIL ? all - HELD_TAIL : 0, old = go < r->tail.len ? go : r->tail.len;

	queue_body(r, r->tail.p, old);
	queue_body(r, p, go - old);
	str_drop(&r->tail, old);
	str_add(&r->tail, p + (go - old), n - (go - old));
}

bool
upstream_write(struct upstream_req *r, const void *p, size_t n)
{
	struct uconn *c = r->c;

	ASSERT(!r->body_ended);
	if (c == NULL || n == 0)
		return true;
	if (r->held)
		queue_held(r, p, n);
	else
		queue_body(r, p, n);
	if (c->state == UCONN_ACTIVE)
		flush(c);
	r->want_drain = queued(c) > OUT_HIGH;
	return !r->want_drain;
}

static void
queue_end(struct upstream_req *r)
{
	if (r->framing == HTTP1_CHUNKED && !r->held)
		queue(r->c, "0\r\n\r\n", 5);
}

void
upstream_body_end(struct upstream_req *r)
{
	ASSERT(!r->body_ended);
	r->body_ended = true;
	if (r->c == NULL)
		return;
	touch(r->c);
	queue_end(r);
	if (r->c->state == UCONN_ACTIVE)
		flush(r->c);
}

void
upstream_release(struct upstream_req *r)
{
	ASSERT(r->held);
	r->held = false;
	if (r->c == NULL)
		return;
	touch(r->c);
	queue_body(r, r->tail.p, r->tail.len);
	str_fini(&r->tail);
	if (r->body_ended)
		queue_end(r);
	if (r->c->state == UCONN_ACTIVE)
		flush(r->c);
	/* This may have sent all that the rest of the body waits for. */
	if (r->want_drain)
		loop_call_soon(&r->c->again);
}

void
upstream_pause(struct upstream_req *r)
{
	r->paused = true;
	if (r->c != NULL)
		want(r->c);
}

void
upstream_resume(struct upstream_req *r)
{
	if (!r->paused)
		return;
	r->paused = false;
	if (r->c == NULL)
		return;
	touch(r->c);
	want(r->c);
	loop_call_soon(&r->c->again);
}

void
upstream_cancel(struct upstream_req **rp)
{
	struct upstream_req *r = *rp;

	if (r == NULL)
		return;
	*rp = NULL;
	if (r->c != NULL)
		close_conn(r->c);
	free_req(r);
}

/* The answer is complete. left: bytes behind it, which nobody asked for. */
static void
finish(struct uconn *c, size_t left)
{
	struct upstream_req *r = c->req;
	struct upstream *u = c->u;
	bool sent_all = r->body_ended && !r->held && queued(c) == 0 && !c->deaf;

	if (left > 0) {
		log_warn("upstream", "bytes behind the end of an answer: the connection is closed");
		metrics_add(METRIC_UPSTREAM_ERRORS, "extra-bytes", 1);
	}
	if (!r->keep || left > 0 || !sent_all || u->nidle >= (unsigned)u->conf->upstream_keepalive) {
		close_conn(c);
	} else {
		c->req = NULL;
		r->c = NULL;
		str_fini(&c->in);
		str_fini(&c->out);
		c->out_off = 0;
		loop_timer_set(&c->timer, u->conf->upstream_idle_timeout);
		set_state(c, UCONN_IDLE);
		want(c);
	}
	end_req(r, ERR_OK, "");
}

static bool
announces_body(const struct http1_head *h)
{
	return h->content_length != 0 || http1_find(h, "transfer-encoding") != NULL || !h->has_length;
}

/* False: the head is not complete, or the request is over. */
static bool
parse_head(struct uconn *c, const char *p, size_t n, size_t *used)
{
	struct upstream *u = c->u;
	struct upstream_req *r = c->req;
	struct http1_limits lim = { .head_max = READ_SIZE, .target_max = READ_SIZE, .headers_max = HTTP1_HEADERS };
	enum http1_bad bad;

	switch (http1_parse_response(&u->head, p, n, &lim, r->to_head, &c->scan, used, &bad)) {
	case HTTP1_MORE:
		*used = 0;
		return false;
	case HTTP1_ERROR:
		fail(c, ERR_PROTO, http1_bad_text(bad));
		return false;
	case HTTP1_DONE:
		break;
	}
	c->scan = 0;
	if (u->head.status < 200) {
		/* We asked for no upgrade; all other interim answers are ours to skip (RFC 9110 15.2). */
		if (u->head.status == 101 || ++r->infos > INFOS_MAX) {
			fail(c, ERR_PROTO, "unexpected interim answer");
			return false;
		}
		return true;
	}
	r->head_done = true;
	/* Some servers send a body to HEAD all the same (gunicorn 20.1, for a streamed file): what comes late would be taken for the
	 * next answer's head, and its bytes may be a client's. Only an answer that announces nothing leaves the connection clean. */
	r->keep = u->head.keep_alive && u->head.framing != HTTP1_UNTIL_CLOSE && !(r->to_head && announces_body(&u->head));
	str_fini(&r->head);
	http1_body_init(&c->body, u->head.framing, u->head.content_length);
	r->cb->on_head(r->arg, &u->head);
	return true;
}

/* Parses as far as it goes; returns how much was used. Callbacks may end the request and close c (it is buried later). */
static size_t
consume(struct uconn *c, const char *p, size_t n)
{
	size_t off = 0, used = 0, dn;
	enum http1_step step;
	enum http1_bad bad;
	const char *data;

	while (c->state == UCONN_ACTIVE && c->req != NULL && !c->req->paused) {
		struct upstream_req *r = c->req;

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
			fail(c, ERR_PROTO, http1_bad_text(bad));
			break;
		}
		if (dn > 0)
			r->cb->on_data(r->arg, data, dn);
		if (c->req != r)
			break;
		if (step == HTTP1_DONE) {
			finish(c, n - off);
			break;
		}
		if (used == 0)
			break;
	}
	return off;
}

static void
feed(struct uconn *c, const char *p, size_t n)
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
	if (c->state != UCONN_ACTIVE || c->serial != serial)
		return;
	if (kept)
		str_drop(&c->in, used);
	else if (used < n)
		str_add(&c->in, p + used, n - used);
}

static void
on_again(void *arg)
{
	struct uconn *c = arg;

	if (c->state == UCONN_ACTIVE)
		tell_drained(c);
	if (c->state == UCONN_ACTIVE && !c->req->paused)
		feed(c, "", 0);
}

/* The server closed, or reset (e). */
static void
lost(struct uconn *c, const char *why)
{
	struct upstream_req *r = c->req;

	if (c->state == UCONN_IDLE) {
		close_conn(c);
		return;
	}
	if (c->reused && !c->answered && r->repeatable && !r->retried) {
		r->retried = true;
		close_conn(c);
		if (connect_new(r) != ERR_OK)
			end_req(r, ERR_CONNECT, r->why.text);
		return;
	}
	if (r->head_done && http1_body_eof_ok(&c->body)) {
		r->keep = false;
		finish(c, 0);
		return;
	}
	fail(c, ERR_CLOSED, r->head_done ? "the answer was cut short" : why);
}

static void
on_readable(struct uconn *c)
{
	struct upstream *u = c->u;
	unsigned serial = c->serial;
	int i;

	if (c->again.pending) {
		/* Resumed a moment ago: what was kept comes before what the socket has, the end of it above all. */
		loop_call_cancel(&c->again);
		on_again(c);
		if (c->state != UCONN_ACTIVE || c->serial != serial || c->req->paused)
			return;
	}
	for (i = 0; i < READS_A_TURN; i++) {
		ssize_t n = TRIP("upstream", "read") ? -1 : recv(c->fd.fd, u->buf, sizeof u->buf, 0);

		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
			return;
		if (n <= 0) {
			lost(c, n == 0 ? "closed before it answered" : "reset before it answered");
			return;
		}
		if (c->state == UCONN_IDLE) {
			log_warn("upstream", "bytes on an idle connection: it is closed");
			close_conn(c);
			return;
		}
		touch(c);
		c->answered = true;
		feed(c, u->buf, (size_t)n);
		if (c->state != UCONN_ACTIVE || c->serial != serial || c->req->paused || (size_t)n < sizeof u->buf)
			return;
	}
}

/* Who was told to wait hears when most of it is gone. */
static void
tell_drained(struct uconn *c)
{
	struct upstream_req *r = c->req;

	if (r == NULL || !r->want_drain || queued(c) > OUT_HIGH / 2)
		return;
	r->want_drain = false;
	if (!r->body_ended)
		r->cb->on_drain(r->arg);
}

static void
on_connected(struct uconn *c)
{
	struct errbuf why = { "" };
	enum err e = addr_connect_result(c->fd.fd, &why);

	if (e != ERR_OK) {
		fail(c, e == ERR_TIMEOUT ? ERR_TIMEOUT : ERR_CONNECT, why.text);
		return;
	}
	activate(c);
	/* A body that came while we connected was held back: it may have gone out at once. */
	tell_drained(c);
}

static void
on_event(void *arg, int what)
{
	struct uconn *c = arg;

	if (c->state == UCONN_CLOSED)
		return;
	if (c->state == UCONN_CONNECTING) {
		on_connected(c);
		return;
	}
	if (what == LOOP_READ) {
		on_readable(c);
		return;
	}
	if (c->req == NULL)
		return;
	flush(c);
	tell_drained(c);
}

static void
on_timer(void *arg)
{
	struct uconn *c = arg;
	uint64_t limit = c->u->conf->upstream_timeout, now = clock_mono_ms();

	if (c->state == UCONN_IDLE) {
		close_conn(c);
		return;
	}
	if (c->state == UCONN_CONNECTING) {
		fail(c, ERR_TIMEOUT, "no connection in time");
		return;
	}
	/* Time in which we wait for our client, either way, or for what the end is held for, is not the server's. */
	if (c->req->paused || c->req->held || (!c->req->body_ended && queued(c) == 0))
		touch(c);
	if (now >= c->touched + limit) {
		fail(c, ERR_TIMEOUT, c->req->head_done ? "the answer stopped" : "no answer in time");
		return;
	}
	loop_timer_set(&c->timer, c->touched + limit - (now < c->touched ? c->touched : now));
}

static void
close_list(struct list *head)
{
	while (!list_empty(head)) {
		struct uconn *c = LIST_FIRST(head, struct uconn, node);
		struct upstream_req *r = c->req;

		close_conn(c);
		if (r != NULL)
			free_req(r);
	}
}

void
upstream_free(struct upstream **up)
{
	struct upstream *u = *up;

	if (u == NULL)
		return;
	*up = NULL;
	close_list(&u->idle);
	close_list(&u->busy);
	loop_call_cancel(&u->bury);
	on_bury(u);
	conf_unref(&u->conf);
	mem_free(u);
}
