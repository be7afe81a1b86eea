/* FORWARD: a request goes to the upstream, its answer comes back; streamed both ways, nothing is kept whole. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "coord/phase.h"
#include "proxy/forward.h"
#include "proxy/private.h"
#include "proxy/request.h"
#include "proxy/server.h"

static uint64_t
answer_length(const struct request *r, const struct http1_head *h)
{
	if (h->status == 204 || h->status == 304)
		return HTTP_CONN_BODYLESS;
	if (r->is_head)
		return h->has_length ? h->content_length : HTTP_CONN_BODYLESS;
	if (h->framing == HTTP1_LENGTH)
		return h->content_length;
	return h->framing == HTTP1_NO_BODY ? 0 : HTTP_CONN_CHUNKED;
}

static void
on_late(void *arg, enum err e)
{
	struct request *r = arg;

	r->write.busy = false;
	if (r->conn == NULL) {
		request_go(r, STEP_DONE);
		return;
	}
	if (!r->body_ended && r->reading_body)
		http_conn_resume(r->conn);
	if (e == ERR_OK) {
		request_go(r, STEP_MARK);
		return;
	}
	writer_finish(r->sv->writer, &r->write.op, WRITER_NOT_SENT, NULL, NULL);
	request_go(r, pass_release(r, e));
}

/* The application has written where nobody expected it, and says so: its answer waits as if we had known. */
static enum request_step
begin_late(struct request *r)
{
	enum err e = writer_ready(r->sv->writer);

	if (e != ERR_OK)
		return pass_release(r, e);
	if (!r->body_ended && r->reading_body)
		http_conn_pause(r->conn);
	r->write.busy = true;
	r->write.op = writer_begin(r->sv->writer, NULL, 0, MARK_PUT, on_late, r);
	writer_hinted(r->write.op, &r->pass.hints);
	return STEP_WAIT;
}

static void
on_head(void *arg, const struct http1_head *h)
{
	struct request *r = arg;

	if (phase_row(r->snap->phase)->mirror)
		hints_take(&r->pass.hints, h, r->snap->conf);
	if (!private_named(r, h))
		forward_response(&r->pass.answer, h, r->pass.trusted);
	r->pass.answer_length = answer_length(r, h);
	r->pass.answer_status = h->status;
	if (r->write.op == NULL && r->pass.hints.n == 0) {
		request_go(r, pass_release(r, ERR_OK));
		return;
	}
	/* Not a byte of the answer before the write is known; the rest waits in the upstream's socket. */
	http_peer_pause(r->pass.up);
	if (r->write.op == NULL) {
		request_go(r, begin_late(r));
		return;
	}
	writer_hinted(r->write.op, &r->pass.hints);
	r->pass.early = r->write.busy;
	if (!r->pass.early)
		request_go(r, STEP_MARK);
}

enum request_step
pass_durable(struct request *r)
{
	http_peer_release(r->pass.up);
	return r->pass.early ? STEP_MARK : STEP_WAIT;
}

enum request_step
pass_release(struct request *r, enum err e)
{
	if (e != ERR_OK) {
		http_peer_cancel(&r->pass.up);
		log_error("proxy", "a write was answered by the upstream but could not be recorded: %s", err_text(e));
		return request_answer(r, e == ERR_NOSPACE ? 507 : 503, "Retry-After: 5\r\n", "the write could not be recorded");
	}
	if (r->accel.what != ACCEL_NONE)
		return STEP_ACCEL;
	request_start(r, r->pass.answer_status, &r->pass.answer, r->pass.answer_length, REQUEST_UPSTREAM);
	str_fini(&r->pass.answer);
	http_peer_resume(r->pass.up);
	return STEP_REPLY;
}

static void
on_data(void *arg, const void *p, size_t n)
{
	struct request *r = arg;

	if (r->step == STEP_ACCEL)
		private_data(r, n);
	else if (!request_send(r, p, n))
		http_peer_pause(r->pass.up);
}

static ssize_t
on_splice(void *arg, int fd, uint64_t max)
{
	struct request *r = arg;
	bool full;
	ssize_t n;

	if (r->step == STEP_ACCEL) {
		errno = EOPNOTSUPP;
		return -1;
	}
	n = http_conn_splice(r->conn, fd, max, &full);
	if (n > 0)
		r->sent += (uint64_t)n;
	if (full)
		http_peer_pause(r->pass.up);
	return n;
}

static void
on_drain(void *arg)
{
	struct request *r = arg;

	http_conn_resume(r->conn);
}

static const char *
reason(enum err e)
{
	if (e == ERR_TIMEOUT)
		return "the application did not answer in time";
	if (e == ERR_CONNECT)
		return "the application cannot be reached";
	if (e == ERR_PROTO)
		return "the application's answer is malformed";
	return "the application closed the connection before it had answered";
}

static void
on_done(void *arg, enum err e, bool sent, const char *why)
{
	struct request *r = arg;

	r->pass.up = NULL;
	if (r->step == STEP_ACCEL) {
		private_done(r);
		return;
	}
	request_stop_body(r);		/* an early answer */
	if (e == ERR_OK) {
		request_end(r);
		return;
	}
	log_warn("upstream", "%s: %s", err_text(e), why);
	if (http_conn_started(r->conn)) {
		http_conn_abort(r->conn, HTTP_CLOSE_CUT);
		return;
	}
	r->write.sent = sent;
	request_write_over(r);
	request_go(r, request_answer(r, e == ERR_TIMEOUT ? 504 : 502, NULL, reason(e)));
}

static const struct http_peer_cb callbacks = { on_head, on_data, on_splice, on_drain, on_done };

enum request_step
step_forward(struct request *r)
{
	bool body = r->pass.framing == HTTP1_CHUNKED || (r->pass.framing == HTTP1_LENGTH && r->pass.length > 0);
	struct http_peer_req_opts o = {
		.head = &r->pass.head,
		.framing = r->pass.framing,
		.length = r->pass.length,
		.to_head = r->is_head,
		.repeatable = r->pass.repeatable,
		.safe = r->pass.repeatable && (r->is_get || r->is_head),
		.held = r->write.busy,
	};

	r->write.sent = true;
	r->source = REQUEST_UPSTREAM;
	r->pass.up = upstream_start(r->sv->upstream, &o, &callbacks, r);
	if (body) {
		r->reading_body = true;
		http_conn_read_body(r->conn);
	}
	return STEP_WAIT;
}

void
pass_body(struct request *r, const void *p, size_t n)
{
	if (r->pass.up != NULL && !http_peer_write(r->pass.up, p, n))
		http_conn_pause(r->conn);
}

void
pass_body_end(struct request *r)
{
	if (r->pass.up != NULL)
		http_peer_body_end(r->pass.up);
}

void
pass_drain(struct request *r)
{
	http_peer_resume(r->pass.up);
}

void
pass_fini(struct request *r)
{
	http_peer_cancel(&r->pass.up);
	str_fini(&r->pass.head);
	str_fini(&r->pass.answer);
	hints_fini(&r->pass.hints);
}
