#include "io/http_conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

#define HEAD_READ 16384		/* bytes of one recv while a head is awaited */
#define BODY_READS 4		/* recvs for a body before other connections have their turn */
#define LINGER_MS 2000
#define LINGER_MAX (1 << 20)

static void run(void *arg);

void
http_conn_work(struct http_conn *c)
{
	struct http_server *s = c->server;
	struct http_work *w = s->store;
	if (c->w)
		return;
	if (w) {
		s->store = w->next;
		s->stored--;
		memset(w, 0, sizeof *w);
	} else {
		w = mem_zalloc(sizeof *w);
	}
	loop_call_init(&w->call, s->loop, run, c);
	c->w = w;
}

static void
release_work(struct http_conn *c)
{
	struct http_server *s = c->server;
	struct http_work *w = c->w;
	c->w = NULL;
	if (s->stored >= HTTP_STORE_MAX) {
		mem_free(w);
		return;
	}
	w->next = s->store;
	s->store = w;
	s->stored++;
}

static void
deadline(struct http_conn *c, uint64_t ms)
{
	c->read_by = ms > 0 ? clock_mono_ms() + ms : 0;
}

/* Is the request's body still to come, and wanted? */
static bool
body_flows(const struct http_conn *c)
{
	return c->asked && !c->paused && !c->end_told;
}

static bool
answer_sent(const struct http_conn *c)
{
	return c->ended && !c->w->out.first && c->w->left == 0;
}

void
http_conn_close(struct http_conn *c, enum http_close why)
{
	struct http_server *s = c->server;
	http_conn_work(c);
	bool in_request = c->state == CONN_REQUEST, ok = answer_sent(c);
	int fd = c->fd.fd;
	ASSERT(c->state != CONN_CLOSED);
	c->state = CONN_CLOSED;
	list_del(&c->node);
	loop_fd_fini(&c->fd);
	loop_call_cancel(&c->w->call);
	if (in_request && c->started && !ok) {
		/* A reset: nobody takes what came so far for the whole. */
		struct linger now = {.l_onoff = 1, .l_linger = 0};
		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	} else if (c->tls && !c->bye) {
		(void)tls_bye(c->tls);
	}
	tls_free(&c->tls);
	close(fd);
	http_out_fini(&c->w->out);
	http_in_release(c);
	http_server_enter(s);
	http_address_leave(c);
	http_server_conn_gone(s);
	if (in_request)
		s->cb.on_done(c, ok, why);
	if (s->cb.on_close)
		s->cb.on_close(c, why);
	release_work(c);
	http_server_leave(s);
	if (!c->running)
		mem_free(c);
}

/* Tells the client that nothing more comes. A close_notify that the socket does not take yet is sent by a later turn. */
static void
say_bye(struct http_conn *c)
{
	if (c->tls && tls_bye(c->tls) == TLS_WANT_WRITE) {
		http_conn_blocked(c);
		return;
	}
	c->bye = true;
	(void)shutdown(c->fd.fd, SHUT_WR);
}

/* Everything is sent, but the client may still be sending: a close now could destroy our answer on its way. */
static void
linger(struct http_conn *c, enum http_close why)
{
	c->state = CONN_LINGER;
	c->why = (unsigned char)why;
	c->w->discarded = 0;
	http_in_consume(c, c->w->in_n);
	say_bye(c);
	deadline(c, LINGER_MS);
}

/* The server's own last answer. */
static void
last_answer(struct http_conn *c, int status, const char *text, enum http_close why)
{
	struct str *r = &c->server->reply;
	str_clear(r);
	http1_add_status_line(r, status, NULL);
	str_addz(r, http_server_date(c->server));
	str_addz(r, "Connection: close\r\nContent-Type: text/plain\r\n");
	http1_add_header_u64(r, "Content-Length", strlen(text) + 1);
	http1_end_head(r);
	if (!c->is_head)
		str_printf(r, "%s\n", text);
	http_out_add(&c->w->out, r->p, r->len);
	c->state = CONN_FLUSH;
	c->why = (unsigned char)why;
	deadline(c, 0);
}

/* The request cannot go on through the client's fault: tells the client if nothing was said yet. */
static void
fail_request(struct http_conn *c, int status, const char *text, enum http_close why)
{
	if (c->started) {
		http_conn_close(c, why);
		return;
	}
	last_answer(c, status, text, why);
	c->server->cb.on_done(c, false, why);
}

static bool
expire(struct http_conn *c)
{
	uint64_t now = clock_mono_ms();
	c->expired = false;
	if (c->w->write_by > 0 && c->w->write_by <= now) {
		http_conn_close(c, HTTP_CLOSE_WRITE_TIMEOUT);
		return true;
	}
	if (c->read_by == 0 || c->read_by > now)
		return true;
	switch ((enum http_conn_state)c->state) {
	case CONN_PREFACE:
		http_conn_close(c, c->server->draining ? HTTP_CLOSE_DRAIN : HTTP_CLOSE_HEADER_TIMEOUT);
		break;
	case CONN_IDLE:
		c->is_head = false;
		if (c->w->in_n > 0)
			last_answer(c, 408, "the head took too long", HTTP_CLOSE_HEADER_TIMEOUT);
		else if (c->tls && !tls_established(c->tls)) {
			http_in_note_handshake(c, "timeout");
			http_conn_close(c, HTTP_CLOSE_TLS_TIMEOUT);
		} else
			http_conn_close(c, c->server->draining ? HTTP_CLOSE_DRAIN : c->nreq > 0 ? HTTP_CLOSE_IDLE_TIMEOUT : HTTP_CLOSE_HEADER_TIMEOUT);
		break;
	case CONN_REQUEST:
		fail_request(c, 408, "the body took too long", HTTP_CLOSE_BODY_TIMEOUT);
		break;
	case CONN_DISCARD:
		http_conn_close(c, HTTP_CLOSE_BODY_TIMEOUT);
		break;
	case CONN_FLUSH:
	case CONN_LINGER:
	case CONN_CLOSED:
	default:
		http_conn_close(c, (enum http_close)c->why);
		break;
	}
	return true;
}

/* The sweep found the client too slow; unless it has been waited for in vain no longer meanwhile. */
static bool
give_up_slow(struct http_conn *c)
{
	enum http_close why = c->w->slow;
	c->w->slow = HTTP_CLOSE_NONE;
	if (why == HTTP_CLOSE_BODY_RATE && c->state == CONN_REQUEST && http_conn_awaits_body(c))
		fail_request(c, 408, "the body came too slowly", why);
	else if (why == HTTP_CLOSE_WRITE_RATE && c->state == CONN_REQUEST && c->blocked)
		http_conn_close(c, why);
	return true;
}

void
http_conn_blocked(struct http_conn *c)
{
	uint64_t ms = c->server->o.write_timeout;
	c->blocked = true;
	c->w->write_by = ms > 0 ? clock_mono_ms() + ms : 0;
}

/* What is queued, as far as the socket takes it. True if something happened. */
static bool
flush(struct http_conn *c)
{
	uint64_t sent;
	if (!c->w->out.first || c->blocked || c->yields)
		return false;
	switch (http_out_flush(&c->w->out, c->fd.fd, c->tls, &sent)) {
	case HTTP_OUT_EMPTY:
		c->w->write_by = 0;
		break;
	case HTTP_OUT_FULL:
		http_conn_blocked(c);
		break;
	case HTTP_OUT_TURN:
		c->yields = true;
		loop_call_soon(&c->w->call);
		break;
	case HTTP_OUT_CUT:
		http_conn_close(c, HTTP_CLOSE_CUT);
		return true;
	case HTTP_OUT_ERROR:
	default:
		http_conn_close(c, errno == EPIPE || errno == ECONNRESET ? HTTP_CLOSE_CLIENT_ABORT : HTTP_CLOSE_SOCKET);
		return true;
	}
	return sent > 0;
}

static void
begin_request(struct http_conn *c, size_t head_len)
{
	struct http_server *s = c->server;
	const struct http1_head *h = &s->head;
	c->w->scan = 0;
	c->in_head = false;
	deadline(c, 0);
	http_in_consume(c, head_len);
	c->state = CONN_REQUEST;
	c->nreq++;
	c->w->req = NULL;
	c->minor = (unsigned char)h->minor;
	c->keep = h->keep_alive;
	c->is_head = str_slice_eq(h->method.p, h->method.n, "HEAD");
	c->expect = h->expect_continue;
	c->asked = c->paused = c->end_told = c->started = c->ended = c->tunnel = c->want_drain = false;
	c->w->left = 0;
	c->w->body_rate.since = c->w->out_rate.since = 0;
	c->w->slow = HTTP_CLOSE_NONE;
	http1_body_init(&c->w->body, h->framing, h->content_length);
	c->body_done = h->framing == HTTP1_NO_BODY || (h->framing == HTTP1_LENGTH && h->content_length == 0);
	s->cb.on_request(c, h);
}

static void
await_request(struct http_conn *c)
{
	c->state = CONN_IDLE;
	c->w->scan = 0;
	c->in_head = false;
	c->fresh = c->w->in_n > 0;
	deadline(c, c->server->o.idle_timeout);
}

/* The reason of a connection that ended while it was read. */
static enum http_close
gone(const struct http_conn *c, enum filled f, enum http_close at_eof)
{
	if (f == FILL_ERROR && c->tls)
		return tls_established(c->tls) ? HTTP_CLOSE_TLS_RECORD : HTTP_CLOSE_TLS_HANDSHAKE;
	return f == FILL_EOF ? at_eof : errno == ECONNRESET ? HTTP_CLOSE_CLIENT_ABORT : HTTP_CLOSE_SOCKET;
}

static bool
step_idle(struct http_conn *c)
{
	struct http_server *s = c->server;
	size_t scan = c->w->scan, used;
	enum http1_bad bad;
	if (c->fresh) {
		c->fresh = false;
		switch (http1_parse_request(&s->head, c->w->in + c->w->in_off, c->w->in_n, &s->o.limits, &scan, &used, &bad)) {
		case HTTP1_DONE:
			begin_request(c, used);
			return true;
		case HTTP1_ERROR:
			c->is_head = str_slice_eq(s->head.method.p, s->head.method.n, "HEAD");
			last_answer(c, http1_bad_status(bad), http1_bad_text(bad), HTTP_CLOSE_BAD_REQUEST);
			if (s->cb.on_bad)
				s->cb.on_bad(c, bad);
			return true;
		case HTTP1_MORE:
		default:
			c->w->scan = (unsigned)scan;
			if (!c->in_head)
				deadline(c, s->o.header_timeout);
			c->in_head = true;
			break;
		}
	}
	if ((c->reads == 0 && c->readable) || s->draining) {
		enum filled f = http_in_fill(c, HEAD_READ);
		if (f == FILLED)
			return c->fresh = true;
		if (f != FILL_LATER) {
			http_conn_close(c, gone(c, f, c->w->in_n > 0 ? HTTP_CLOSE_CLIENT_ABORT : HTTP_CLOSE_CLIENT));
			return true;
		}
	}
	if (s->draining && c->w->in_n == 0) {
		if (s->idle_until <= clock_mono_ms()) {
			http_conn_close(c, HTTP_CLOSE_DRAIN);
			return true;
		}
		if (c->read_by > s->idle_until || c->read_by == 0)
			c->read_by = s->idle_until;
	}
	return false;
}

/* Decodes one piece of the body that has arrived. *data is within the input. */
static enum http1_step
decode(struct http_conn *c, const char **data, size_t *n, enum http1_bad *bad)
{
	size_t used;
	enum http1_step st = http1_body_feed(&c->w->body, c->w->in + c->w->in_off, c->w->in_n, &used, data, n, bad);
	if (st != HTTP1_ERROR)
		http_in_consume(c, used);
	c->body_done = st == HTTP1_DONE;
	return st;
}

static bool
step_body(struct http_conn *c)
{
	struct http_server *s = c->server;
	if (c->body_done) {
		c->end_told = true;
		deadline(c, 0);
		if (s->cb.on_body_end)
			s->cb.on_body_end(c);
		return true;
	}
	if (c->w->in_n > 0) {
		const char *data;
		size_t n;
		enum http1_bad bad;
		if (decode(c, &data, &n, &bad) == HTTP1_ERROR)
			fail_request(c, http1_bad_status(bad), http1_bad_text(bad), HTTP_CLOSE_BAD_REQUEST);
		else if (n > 0 && s->cb.on_body)
			s->cb.on_body(c, data, n);
		return true;
	}
	if (!c->readable || c->reads >= BODY_READS)
		return false;
	enum filled f = http_in_fill(c, HTTP_SCRATCH);
	if (f == FILL_EOF && c->tunnel)
		c->body_done = true;	/* it may still listen */
	else if (f == FILL_EOF && s->cb.on_body_cut && !c->started) {
		c->end_told = true;
		c->keep = false;
		deadline(c, 0);
		s->cb.on_body_cut(c);
	} else if (f == FILL_EOF || f == FILL_ERROR)
		http_conn_close(c, gone(c, f, HTTP_CLOSE_CLIENT_ABORT));
	else if (f == FILLED && !c->tunnel)
		deadline(c, s->o.body_timeout);
	return f != FILL_LATER;
}

/* The answer is out. What becomes of the connection is settled first: on_done may do anything. */
static void
finish(struct http_conn *c)
{
	struct http_server *s = c->server;
	enum http_close why = HTTP_CLOSE_NONE;
	if (c->tunnel && !c->body_done) {
		why = HTTP_CLOSE_DONE;
		linger(c, why);
	} else if (!c->body_done && (c->expect || !c->keep || c->server->draining ||
	    (c->w->body.framing == HTTP1_LENGTH && c->w->body.left > HTTP_DISCARD_MAX))) {
		/* Behind a body that is not read nothing can be found. */
		why = HTTP_CLOSE_BODY_UNREAD;
		linger(c, why);
	} else if (!c->body_done) {
		c->state = CONN_DISCARD;
		c->w->discarded = 0;
		deadline(c, s->o.body_timeout);
	} else if (c->keep) {
		await_request(c);
	} else {
		why = s->draining ? HTTP_CLOSE_DRAIN : HTTP_CLOSE_DONE;
		if (c->w->in_n == 0 && !c->tls) {
			http_conn_close(c, why);	/* tells on_done; it is still CONN_REQUEST */
			return;
		}
		linger(c, why);
	}
	s->cb.on_done(c, true, why);
	if (c->w)	/* else on_done freed the server */
		c->w->req = NULL;
}

static bool
step_request(struct http_conn *c)
{
	if (body_flows(c) && step_body(c))
		return true;
	/* A body that is flowing is awaited, unless the client may never send it. */
	if (!answer_sent(c) || (!c->body_done && body_flows(c) && !c->expect && !c->tunnel))
		return false;
	finish(c);
	return true;
}

static bool
step_discard(struct http_conn *c)
{
	if (c->w->in_n > 0) {
		const char *data;
		size_t n;
		unsigned before = c->w->in_n;
		enum http1_bad bad;
		enum http1_step st = decode(c, &data, &n, &bad);
		c->w->discarded += before - c->w->in_n;
		if (st == HTTP1_DONE)
			await_request(c);
		else if (st == HTTP1_ERROR || c->w->discarded > HTTP_DISCARD_MAX)
			linger(c, st == HTTP1_ERROR ? HTTP_CLOSE_BAD_REQUEST : HTTP_CLOSE_BODY_UNREAD);
		return true;
	}
	if (!c->readable || c->reads >= BODY_READS)
		return false;
	enum filled f = http_in_fill(c, HEAD_READ);
	if (f == FILL_EOF || f == FILL_ERROR)
		http_conn_close(c, gone(c, f, HTTP_CLOSE_CLIENT_ABORT));
	return f != FILL_LATER;
}

static bool
step_linger(struct http_conn *c)
{
	http_in_consume(c, c->w->in_n);
	if (!c->bye && !c->blocked)
		say_bye(c);
	if (!c->readable || c->reads >= BODY_READS)
		return false;
	enum filled f = http_in_fill(c, HTTP_SCRATCH);
	c->w->discarded += c->w->in_n;
	if (f == FILL_EOF || f == FILL_ERROR || c->w->discarded > LINGER_MAX)
		http_conn_close(c, (enum http_close)c->why);
	return f != FILL_LATER;
}

/* One thing that can be done now; false if there is none. */
static bool
step(struct http_conn *c)
{
	struct http_server *s = c->server;
	if (c->aborting) {
		http_conn_close(c, (enum http_close)c->why);
		return true;
	}
	if (c->expired)
		return expire(c);
	if (c->w->slow != HTTP_CLOSE_NONE)
		return give_up_slow(c);
	if (flush(c))
		return true;
	if (c->want_drain && c->w->out.bytes < s->o.out_high / 2 && c->w->out.files == 0 && c->state == CONN_REQUEST) {
		c->want_drain = false;
		if (s->cb.on_drain && !c->ended)
			s->cb.on_drain(c);
		return true;
	}
	switch ((enum http_conn_state)c->state) {
	case CONN_PREFACE:
		return http_conn_step_preface(c);
	case CONN_IDLE:
		return step_idle(c);
	case CONN_REQUEST:
		return step_request(c);
	case CONN_DISCARD:
		return step_discard(c);
	case CONN_FLUSH:
		if (c->w->out.first)
			return false;
		linger(c, (enum http_close)c->why);
		return true;
	case CONN_LINGER:
		return step_linger(c);
	case CONN_CLOSED:
	default:
		return false;
	}
}

/* Reading stays on while a request runs, until something comes that cannot be taken yet: mostly nothing does, and a
 * keep-alive request costs no change. */
static void
watch(struct http_conn *c)
{
	bool wanted = c->state == CONN_PREFACE || c->state == CONN_IDLE || c->state == CONN_DISCARD || c->state == CONN_LINGER ||
	    (c->state == CONN_REQUEST && body_flows(c));
	int rd = wanted ? LOOP_READ : c->readable ? 0 : c->fd.want & LOOP_READ;
	/* The socket does not tell of what TLS has read ahead. */
	if (wanted && c->readable && c->tls && tls_pending(c->tls))
		http_conn_kick(c);
	loop_fd_want(&c->fd, rd | (c->blocked || c->crossed ? LOOP_WRITE : 0));
}

static void
run(void *arg)
{
	struct http_conn *c = arg;
	struct http_server *s = c->server;
	ASSERT(!c->running);
	http_server_enter(s);
	http_conn_work(c);
	c->running = true;
	c->yields = false;
	c->reads = 0;
	while (c->state != CONN_CLOSED && step(c))
		;
	c->running = false;
	if (c->state == CONN_CLOSED) {
		mem_free(c);
	} else {
		http_in_settle(c);
		watch(c);
		if (c->state == CONN_IDLE && !c->w->in && !c->w->out.first && !c->w->call.pending)
			release_work(c);
	}
	http_server_leave(s);
}

void
http_conn_kick(struct http_conn *c)
{
	http_conn_work(c);
	if (!c->running)
		loop_call_soon(&c->w->call);
}

static void
on_fd(void *arg, int what)
{
	struct http_conn *c = arg;
	if (what & LOOP_READ)
		c->readable = true;
	if (what & LOOP_WRITE) {
		c->readable = c->readable || c->crossed;
		c->blocked = c->crossed = false;
	}
	run(c);
}

void
http_conn_set_from(struct http_conn *c, const struct sockaddr *sa)
{
	c->is_unix = c->is_v6 = false;
	if (c->w)
		c->w->peer[0] = '\0';
	if (sa->sa_family == AF_INET) {
		c->from.v4 = ((const struct sockaddr_in *)(const void *)sa)->sin_addr;
	} else if (sa->sa_family == AF_INET6) {
		const struct in6_addr *a = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
		c->is_v6 = !IN6_IS_ADDR_V4MAPPED(a);
		if (c->is_v6)
			c->from.v6 = *a;
		else
			memcpy(&c->from.v4, &a->s6_addr[12], 4);
	} else {
		c->is_unix = true;
	}
}

void
http_conn_begin(struct http_conn *c)
{
	c->state = CONN_IDLE;
}

struct http_conn *
http_conn_new(struct http_server *s, int fd, const struct sockaddr *sa, struct tls_server *tls)
{
	struct http_conn *c = mem_zalloc(sizeof *c);
	c->server = s;
	if (tls)
		c->tls = tls_accept(tls, fd);
	http_conn_set_from(c, sa);
	loop_fd_init(&c->fd, s->loop, fd, on_fd, c);
	list_add_tail(&s->conns, &c->node);
	deadline(c, s->o.header_timeout);
	if (http_conn_has_preface(s, c)) {
		http_conn_work(c);
		proxyproto_init(&c->w->preface);
		c->state = CONN_PREFACE;
	} else {
		http_conn_begin(c);
	}
	loop_fd_want(&c->fd, LOOP_READ);
	return c;
}

void
http_conn_set(struct http_conn *c, void *req)
{
	http_conn_work(c);
	c->w->req = req;
}

void *
http_conn_get(const struct http_conn *c)
{
	return c->w ? c->w->req : NULL;
}

struct http_server *
http_conn_server(const struct http_conn *c)
{
	return c->server;
}

bool
http_conn_is_tls(const struct http_conn *c)
{
	return c->tls != NULL;
}

bool
http_conn_peer_is_unix(const struct http_conn *c)
{
	return c->is_unix;
}

/* inet_ntop takes longer than all the parsing of a request. */
static void
v4_text(const struct in_addr *a, char *out)
{
	const unsigned char *b = (const unsigned char *)a;
	for (int i = 0; i < 4; i++) {
		if (b[i] >= 100)
			*out++ = (char)('0' + b[i] / 100);
		if (b[i] >= 10)
			*out++ = (char)('0' + b[i] / 10 % 10);
		*out++ = (char)('0' + b[i] % 10);
		*out++ = i < 3 ? '.' : '\0';
	}
}

const char *
http_conn_peer(struct http_conn *c)
{
	if (c->is_unix)
		return "unix:";
	http_conn_work(c);
	char *text = c->w->peer;
	if (text[0] == '\0' && !c->is_v6)
		v4_text(&c->from.v4, text);
	else if (text[0] == '\0' && !inet_ntop(AF_INET6, &c->from.v6, text, sizeof c->w->peer))
		return "?";
	return text;
}
