#include "proxy/request.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/trip.h"
#include "coord/phase.h"
#include "proxy/accesslog.h"
#include "proxy/count.h"
#include "proxy/forward.h"
#include "proxy/mutant.h"
#include "proxy/private.h"
#include "proxy/server.h"

static enum request_step (*const step_table[])(struct request *r) = {
#define STEP(id, fn, text) [STEP_##id] = fn,
#include "proxy/steps.def"
#undef STEP
};

const char *
request_step_name(enum request_step s)
{
	static const char *const names[] = {
#define STEP(id, fn, text) [STEP_##id] = #id,
#include "proxy/steps.def"
#undef STEP
		[STEP_WAIT] = "WAIT",
	};

	return names[s];
}

const char *
request_source_name(enum request_source s)
{
	static const char *const names[] = { "self", "upstream", "disk", "r2" };

	return names[s];
}

/* The whole engine. */
void
request_go(struct request *r, enum request_step next)
{
	while (next != STEP_WAIT) {
		TRIP_STEP("step", request_step_name(next));
		r->step = next;
		next = step_table[next](r);
	}
}

static void
copy_value(struct str *out, const struct http1_head *h, const char *name)
{
	const struct http1_header *x = http1_find(h, name);

	if (x != NULL)
		str_add(out, x->value.p, x->value.n);
}

static void
keep_for_log(struct request *r, const struct http1_head *h)
{
	if (r->sv->accesslog == NULL)
		return;
	(void)str_reserve(&r->line, h->method.n + h->target.n + sizeof " HTTP/1.1");
	str_add(&r->line, h->method.p, h->method.n);
	str_addc(&r->line, ' ');
	str_add(&r->line, h->target.p, h->target.n);
	str_addz(&r->line, h->minor == 0 ? " HTTP/1.0" : " HTTP/1.1");
	copy_value(&r->referer, h, "Referer");
	copy_value(&r->agent, h, "User-Agent");
}

/* RFC 9110 9.2.2, and nothing to send again. */
static bool
is_repeatable(const struct http1_head *h)
{
	static const char *const v[] = { "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND" };
	size_t i;

	if (h->framing != HTTP1_NO_BODY && (h->framing != HTTP1_LENGTH || h->content_length > 0))
		return false;
	for (i = 0; i < sizeof v / sizeof v[0]; i++)
		if (str_slice_eq(h->method.p, h->method.n, v[i]))
			return true;
	return false;
}

static bool
is_put(const struct request *r)
{
	return r->route.what == ROUTE_STORE || (r->route.what == ROUTE_FIRST && r->route.op == MARK_PUT);
}

/* A condition that is not looked at would overwrite what its sender wanted to keep. */
static void
take_conditions(struct request *r, const struct http1_head *h)
{
	const struct http1_header *none = http1_find(h, "If-None-Match");

	if (none != NULL && is_put(r) && http1_only(h, "If-None-Match") == none && str_slice_eq(none->value.p, none->value.n, "*"))
		r->write.exclusive = true;
	else if (none != NULL || http1_find(h, "If-Match") != NULL || http1_find(h, "If-Unmodified-Since") != NULL)
		r->write.cannot = "of conditions only If-None-Match: * with PUT is built";
	if (http1_find(h, "Content-Range") != NULL)
		r->write.cannot = "a file is stored whole: no Content-Range";
}

/* The head is there only now: whatever a later step needs of it is taken here. */
static void
take_head(struct request *r, const struct http1_head *h)
{
	const char *peer = http_conn_peer(r->conn);

	keep_for_log(r, h);
	snprintf(r->peer, sizeof r->peer, "%s", peer);
	r->is_head = str_slice_eq(h->method.p, h->method.n, "HEAD");
	r->is_get = str_slice_eq(h->method.p, h->method.n, "GET");
	r->pass.framing = h->framing;
	r->pass.length = h->content_length;
	auth_take(r, h);
	switch (r->route.what) {
	case ROUTE_PASS:
	case ROUTE_WRITE:
		r->pass.trusted = forward_trusted(r->snap->trust, peer);
		r->pass.repeatable = is_repeatable(h);
		/* The token is between the client and us. */
		forward_request(&r->pass.head, h, &(struct forward_peer){ peer, http_conn_is_tls(r->conn), r->pass.trusted },
		    r->auth.verdict == ALLOW_TOKEN ? "Authorization" : NULL);
		/* The answer may name a file, and conditions are then for that. */
		if (r->snap->conf->ninternal > 0 && (r->is_get || r->is_head))
			answer_conds_take(&r->read.conds, h);
		break;
	case ROUTE_READ:
		answer_conds_take(&r->read.conds, h);
		coding_take(r, h);
		break;
	case ROUTE_FIRST:
	case ROUTE_STORE:
	case ROUTE_REMOVE:
		take_conditions(r, h);
		break;
	case ROUTE_LIST:
		list_take(r, h);
		break;
	case ROUTE_REFUSE:
		break;
	}
}

void
request_begin(struct server *sv, struct http_conn *c, const struct http1_head *h)
{
	struct request *r = mem_zalloc(sizeof *r);

	r->sv = sv;
	r->snap = sv->snap;
	r->conn = c;
	r->began_us = clock_real_us();
	r->began_mono_ns = clock_mono_ns();
	http_conn_set(c, r);
	route_decide(&r->route, h, r->snap->conf, r->snap->phase);
	take_head(r, h);
	request_go(r, STEP_ROUTE);
}

enum request_step
step_route(struct request *r)
{
	if (r->pass.framing == HTTP1_LENGTH && r->pass.length > r->snap->conf->body_max)
		return request_answer(r, 413, NULL, "the body is larger than proxy.body-max");
	return auth_wanted(r) ? STEP_AUTH : request_admitted(r);
}

enum request_step
request_admitted(struct request *r)
{
	switch (r->route.what) {
	case ROUTE_REFUSE:
		return STEP_REFUSE;
	case ROUTE_PASS:
		return STEP_FORWARD;
	case ROUTE_READ:
		return STEP_READ;
	case ROUTE_WRITE:
	case ROUTE_STORE:
	case ROUTE_REMOVE:
		if (r->write.cannot != NULL)
			return request_answer(r, 501, NULL, r->write.cannot);
		return r->write.exclusive && put_exists(r) ? request_answer(r, 412, NULL, PUT_EXISTS) : STEP_INTENT;
	case ROUTE_FIRST:
		if (r->write.cannot != NULL)
			return request_answer(r, 501, NULL, r->write.cannot);
		return r->route.op == MARK_PUT ? STEP_SPOOL : STEP_FIRST;
	case ROUTE_LIST:
		return STEP_LIST;
	}
	return STEP_REFUSE;
}

enum request_step
step_refuse(struct request *r)
{
	return request_answer(r, r->route.status, NULL, r->route.why);
}

enum request_step
request_refuse_write(struct request *r, enum err e)
{
	log_error("proxy", "a write is refused: %s", err_text(e));
	return request_answer(r, e == ERR_NOSPACE ? 507 : 503, "Retry-After: 5\r\n",
	    r->write.sent ? "the write could not be recorded: it was cut off before its end" :
	    "no write can be taken safely now; nothing was forwarded");
}

void
request_stop_body(struct request *r)
{
	if (r->body_ended || !r->reading_body)
		return;
	r->reading_body = false;
	http_conn_pause(r->conn);
}

void
request_write_over(struct request *r)
{
	if (r->write.op != NULL && !r->write.busy)
		writer_finish(r->sv->writer, &r->write.op, r->write.sent ? WRITER_UNKNOWN : WRITER_NOT_SENT, NULL, NULL);
}

bool
request_has_body(const struct request *r)
{
	return r->pass.framing == HTTP1_CHUNKED || (r->pass.framing == HTTP1_LENGTH && r->pass.length > 0);
}

/* The journal did not take the intent: nothing complete has reached anyone, and nothing will. */
static enum request_step
cut_write(struct request *r, enum err e)
{
	http_peer_cancel(&r->pass.up);
	writer_file_discard(&r->write.file);
	request_stop_body(r);
	request_write_over(r);
	return request_refuse_write(r, e);
}

static enum request_step
carry_out(const struct request *r)
{
	switch (r->route.what) {
	case ROUTE_STORE:
		return STEP_STORE;
	case ROUTE_REMOVE:
		return STEP_REMOVE;
	case ROUTE_FIRST:
	case ROUTE_WRITE:
	case ROUTE_PASS:
	case ROUTE_READ:
	case ROUTE_LIST:
	case ROUTE_REFUSE:
		break;
	}
	return STEP_FORWARD;
}

static void
on_begun(void *arg, enum err e)
{
	struct request *r = arg;

	r->write.busy = false;
	if (r->conn == NULL)
		request_go(r, STEP_DONE);
	else if (r->step == STEP_REPLY)
		return;		/* refused, or failed, meanwhile: DONE ends the write */
	else if (e != ERR_OK)
		request_go(r, cut_write(r, e));
	else if (r->step == STEP_FORWARD)
		request_go(r, pass_durable(r));
	else if (r->step == STEP_STORE)
		put_durable(r);
	else
		request_go(r, carry_out(r));
}

enum request_step
step_intent(struct request *r)
{
	enum err e = writer_ready(r->sv->writer);
	enum mark_op op = r->route.what == ROUTE_REMOVE ? MARK_DELETE : r->route.op;

	if (e != ERR_OK)
		return request_refuse_write(r, e);
	if (!phase_row(r->snap->phase)->mirror || TRIP_MUTANT("late-intent"))
		return carry_out(r);
	r->write.busy = true;
	r->write.op = writer_begin(r->sv->writer, r->route.key, r->route.klen, op, on_begun, r);
	/* A body travels while the journal syncs, all but its end. What has none is all end. */
	return writer_travels(r->write.op) && (request_has_body(r) || r->route.what == ROUTE_STORE) ? carry_out(r) : STEP_WAIT;
}

static void
on_finished(void *arg, enum err e, bool mirrored)
{
	struct request *r = arg;

	(void)mirrored;
	r->write.finishing = NULL;
	if (r->route.what == ROUTE_WRITE || r->route.what == ROUTE_PASS)
		request_go(r, pass_release(r, e));
	else if (e != ERR_OK)
		request_go(r, request_answer(r, e == ERR_NOSPACE ? 507 : 503, NULL, "the write could not be recorded"));
	else
		request_go(r, request_answer(r, r->write.status, NULL, NULL));
}

enum request_step
step_mark(struct request *r)
{
	if (r->write.op == NULL)	/* passthrough: not bracketed */
		return request_answer(r, r->write.status, NULL, NULL);
	r->write.finishing = r->write.op;
	writer_finish(r->sv->writer, &r->write.op, WRITER_ANSWERED, on_finished, r);
	r->write.op = NULL;
	return STEP_WAIT;
}

enum request_step
step_reply(struct request *r)
{
	(void)r;
	return STEP_WAIT;
}

static void
too_large(struct request *r)
{
	log_info("proxy", "a body grew beyond proxy.body-max: cut");
	http_peer_cancel(&r->pass.up);
	writer_file_discard(&r->write.file);
	request_write_over(r);
	if (r->write.finishing != NULL)		/* the upstream answered before it had the whole body: that answer is void */
		writer_forget(r->sv->writer, &r->write.finishing);
	request_stop_body(r);
	if (http_conn_started(r->conn))
		http_conn_abort(r->conn, HTTP_CLOSE_CUT);
	else
		request_go(r, request_answer(r, 413, NULL, "the body is larger than proxy.body-max"));
}

void
request_body(struct request *r, const void *p, size_t n)
{
	r->body_bytes += n;
	if (!r->reading_body)
		return;
	if (r->body_bytes > r->snap->conf->body_max)
		too_large(r);
	else if (r->write.file != NULL)
		put_body(r, p, n);
	else
		pass_body(r, p, n);
}

void
request_body_end(struct request *r)
{
	r->body_ended = true;
	if (!r->reading_body)
		return;
	if (r->write.file != NULL && r->route.what == ROUTE_FIRST)
		first_body_end(r);
	else if (r->write.file != NULL)
		put_body_end(r);
	else
		pass_body_end(r);
}

void
request_drain(struct request *r)
{
	if (r->pass.up != NULL)
		pass_drain(r);
	else if (r->read.op != NULL)
		read_drain(r);
}

void
request_start(struct request *r, int status, const struct str *head, uint64_t length, enum request_source source)
{
	r->status = status;
	r->source = source;
	http_conn_start(r->conn, head, length);
}

bool
request_send(struct request *r, const void *p, size_t n)
{
	if (!r->is_head)
		r->sent += n;
	return http_conn_write(r->conn, p, n);
}

void
request_end(struct request *r)
{
	http_conn_end(r->conn);
}

enum request_step
request_answer(struct request *r, int status, const char *headers, const char *text)
{
	struct str lines = STR_INIT, body = STR_INIT;

	if (headers != NULL)
		str_addz(&lines, headers);
	if (status >= 400)
		http1_add_header(&lines, "Cache-Control", "no-store");
	if (text != NULL)
		str_printf(&body, "%d %s: %s\n", status, http1_reason(status), text);
	r->status = status;
	r->source = REQUEST_SELF;
	r->sent = r->is_head ? 0 : body.len;
	if (status == 204) {
		struct str head = STR_INIT;

		http1_add_status_line(&head, status, NULL);
		str_addz(&head, http_server_date(r->sv->http));
		str_addz(&head, str_z(&lines));
		http_conn_start(r->conn, &head, HTTP_CONN_BODYLESS);
		http_conn_end(r->conn);
		str_fini(&head);
	} else {
		http_conn_reply(r->conn, status, "text/plain; charset=utf-8", str_z(&lines), str_z(&body), body.len);
	}
	str_fini(&lines);
	str_fini(&body);
	return STEP_REPLY;
}

static void
log_and_count(struct request *r, bool ok)
{
	uint64_t us = (clock_mono_ns() - r->began_mono_ns) / 1000;

	count_request(r, ok, us);
	if (r->sv->accesslog != NULL)
		accesslog_add(r->sv->accesslog, r, ok, us);
}

enum request_step
step_done(struct request *r)
{
	/* Whatever is open is given up; a write's outcome is then unknown, unless nothing was sent. */
	auth_fini(r);
	pass_fini(r);
	read_fini(r);
	private_fini(r);
	list_fini(r);
	writer_file_discard(&r->write.file);
	if (r->write.busy) {
		/* Its callback comes here again. */
		r->conn = NULL;
		return STEP_WAIT;
	}
	request_write_over(r);
	primary_forget(&r->write.first);
	if (r->write.finishing != NULL)
		writer_forget(r->sv->writer, &r->write.finishing);
	MUTANT_LATE_INTENT(r);
	route_fini(&r->route);
	str_fini(&r->line);
	str_fini(&r->referer);
	str_fini(&r->agent);
	mem_free(r);
	return STEP_WAIT;
}

void
request_over(struct request *r, bool ok, enum http_close why)
{
	if (!ok && log_on(LOG_LVL_DEBUG))
		log_debug("proxy", "a request ended in %s: %s", request_step_name(r->step), http_close_name(why));
	log_and_count(r, ok);
	request_go(r, STEP_DONE);
}
