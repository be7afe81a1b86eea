#include "proxy/auth.h"

#include "base/log.h"
#include "base/metrics.h"
#include "proxy/forward.h"
#include "proxy/request.h"
#include "proxy/server.h"

/* An answer's body beyond this is not waited for: its connection is closed instead. */
enum { BODY_MAX = 64 * 1024 };

static bool
is_ours(const struct request *r)
{
	return r->route.what == ROUTE_STORE || r->route.what == ROUTE_REMOVE || r->route.what == ROUTE_FIRST;
}

/* What only the token opens. */
static bool
is_privileged_read(const struct request *r)
{
	return r->auth.token && (r->route.what == ROUTE_LIST || (r->route.what == ROUTE_READ && r->route.prefix->class != CONF_CLASS_PUBLIC));
}

/* The question can only be built while the head is there. */
static void
prepare(struct request *r, const struct http1_head *h, const char *path)
{
	r->auth.verdict = ALLOW_ASK;
	r->auth.asked = path;
	forward_question(&r->auth.head, h, path,
	    &(struct forward_peer){ r->peer, http_conn_is_tls(r->conn), forward_trusted(r->snap->trust, r->peer) });
}

void
auth_take(struct request *r, const struct http1_head *h)
{
	const struct conf_prefix *p = r->route.prefix;
	char client[FORWARD_CLIENT_MAX];

	if (p == NULL || r->route.what == ROUTE_REFUSE)
		return;
	r->auth.token = allow_token(p, h);
	forward_client(r->snap->trust, h, r->peer, client);
	if (!r->route.changes) {
		if (is_privileged_read(r) && !allow_network(p, client))
			r->auth.verdict = ALLOW_NOT_HERE;
	} else {
		r->auth.verdict = allow_judge(p, h, client, is_ours(r));
	}
	if (r->auth.verdict == ALLOW_ASK) {
		prepare(r, h, p->auth);
	} else if (r->auth.verdict == ALLOW_FREE && p->read_auth != NULL && !is_privileged_read(r)) {
		r->auth.reading = true;
		prepare(r, h, p->read_auth);
	}
}

bool
auth_wanted(const struct request *r)
{
	return r->auth.verdict != ALLOW_FREE;
}

static void
count(const struct request *r, const char *result)
{
	metrics_add(r->auth.reading ? METRIC_READ_AUTH : METRIC_WRITE_AUTH, result, 1);
}

static void
on_head(void *arg, const struct http1_head *h)
{
	struct request *r = arg;
	unsigned i;

	r->auth.status = h->status;
	for (i = 0; i < h->nh; i++) {
		if (str_slice_ieq(h->h[i].name.p, h->h[i].name.n, "WWW-Authenticate"))
			http1_add_header_slices(&r->auth.challenge, h->h[i].name, h->h[i].value);
		else if (r->auth.reading && str_slice_ieq(h->h[i].name.p, h->h[i].name.n, "Set-Cookie"))
			http1_add_header_slices(&r->auth.cookies, h->h[i].name, h->h[i].value);
	}
}

static const char *
about(const struct request *r)
{
	return r->auth.reading ? "read" : "write";
}

/* The application has spoken. */
static enum request_step
verdict(struct request *r)
{
	int status = r->auth.status;

	if (status >= 200 && status < 300) {
		count(r, "asked");
		return request_admitted(r);
	}
	if (status == 401 || status == 403) {
		count(r, "refused");
		return request_answer(r, status, str_z(&r->auth.challenge), "the application does not allow this");
	}
	count(r, "error");
	log_error("proxy", "%s answered %d to the question whether a %s is allowed: 2xx, 401 or 403 is expected", r->auth.asked, status,
	    about(r));
	return request_answer(r, 502, NULL, "the application did not say whether this is allowed");
}

static void
on_data(void *arg, const void *p, size_t n)
{
	struct request *r = arg;

	(void)p;
	r->auth.got += n;
	if (r->auth.got <= BODY_MAX)
		return;
	http_peer_cancel(&r->auth.up);
	request_go(r, verdict(r));
}

static void
on_drain(void *arg)
{
	(void)arg;	/* the question has no body */
}

static void
on_done(void *arg, enum err e, bool sent, const char *why)
{
	struct request *r = arg;

	(void)sent;
	r->auth.up = NULL;
	/* A head is an answer, whatever became of the body behind it. */
	if (r->auth.status != 0) {
		request_go(r, verdict(r));
		return;
	}
	count(r, "error");
	log_error("upstream", "whether a %s is allowed could not be asked: %s: %s", about(r), err_text(e), why);
	request_go(r, request_answer(r, 503, "Retry-After: 5\r\n", "the application cannot say whether this is allowed"));
}

static const struct http_peer_cb callbacks = { .on_head = on_head, .on_data = on_data, .on_drain = on_drain, .done = on_done };

static enum request_step
ask(struct request *r)
{
	struct http_peer_req_opts o = { .head = &r->auth.head, .framing = HTTP1_NO_BODY, .repeatable = true, .safe = true };

	r->auth.up = upstream_start(r->sv->upstream, &o, &callbacks, r);
	return STEP_WAIT;
}

static enum request_step
refuse_method(struct request *r)
{
	struct str allow = STR_INIT;
	enum request_step next;

	str_addz(&allow, "Allow: ");
	allow_methods(&allow, r->route.prefix);
	str_addz(&allow, "\r\n");
	next = request_answer(r, 405, str_z(&allow), "this method is not allowed here");
	str_fini(&allow);
	return next;
}

enum request_step
step_auth(struct request *r)
{
	switch (r->auth.verdict) {
	case ALLOW_FREE:
		break;
	case ALLOW_TOKEN:
		count(r, "token");
		break;
	case ALLOW_ASK:
		return ask(r);
	case ALLOW_NOT_METHOD:
		count(r, "method");
		return refuse_method(r);
	case ALLOW_NOT_HERE:
		count(r, "network");
		return request_answer(r, 403, NULL, "not from this network");
	case ALLOW_NO_TOKEN:
		count(r, "refused");
		return request_answer(r, 401, "WWW-Authenticate: Bearer\r\n", "this prefix needs its bearer token");
	case ALLOW_NO_RULE:
		count(r, "refused");
		return request_answer(r, 403, NULL, "nothing says who may write here");
	}
	return request_admitted(r);
}

void
auth_fini(struct request *r)
{
	http_peer_cancel(&r->auth.up);
	str_fini(&r->auth.head);
	str_fini(&r->auth.challenge);
	str_fini(&r->auth.cookies);
}
