#include "store/r2_req.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/trip.h"
#include "base/utf8.h"
#include "io/http1.h"
#include "store/r2_peer.h"
#include "store/s3xml.h"
#include "store/sigv4.h"

#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SKEW_SURE_S  (14 * 60) /* R2 allows 15 minutes */
#define ANSWER_MAX   (64u << 10)
#define HEAD_MOST    600 /* bytes of most heads without their target: room that saves growing, no limit */
/* Not signed, since the edge may rewrite it: naming the codings keeps it from decoding what is stored encoded. */
#define CODINGS "gzip, br"

static void send_signed(struct r2_req *q);

void
r2_op_init(struct r2_op *op, struct r2 *r2, void (*cancel)(struct r2_op *))
{
	op->r2 = r2;
	op->cancel = op->kill = cancel;
	list_init(&op->node);
	list_add_tail(&r2->ops, &op->node);
}

static void
on_refuse(void *arg)
{
	struct r2_req *q = arg;

	q->finished = true;
	metrics_add(METRIC_R2_ERRORS, err_name(q->refused), 1);
	q->done(q->arg, q->refused);
}

struct r2_req *
r2_req_new(struct r2 *r2, const char *label, const char *method, const char *key, size_t klen)
{
	struct r2_req *q = mem_zalloc(sizeof(*q));
	struct str nfc = STR_INIT;

	q->r2 = r2;
	list_init(&q->node);
	q->label = label;
	q->method = method;
	q->fd = -1;
	q->answer_max = ANSWER_MAX;
	memcpy(q->payload, EMPTY_SHA256, sizeof(q->payload));
	loop_call_init(&q->refuse, r2->loop, on_refuse, q);
	(void)str_reserve(&q->path, strlen(r2->bucket_path) + klen + 32);
	str_addz(&q->path, r2->bucket_path);
	if (key == NULL)
		return q;
	if (klen == 0 || !utf8_add_nfc(&nfc, key, klen))
		q->refused = ERR_INVAL;
	str_addc(&q->path, '/');
	str_add_uri(&q->path, nfc.p, nfc.len, true);
	str_fini(&nfc);
	return q;
}

void
r2_req_free(struct r2_req **qp)
{
	struct r2_req *q = *qp;

	*qp = NULL;
	if (q == NULL)
		return;
	loop_call_cancel(&q->refuse);
	if (q->on_peer)
		r2_peer_cancel(q);
	else if (q->call != NULL && !q->finished)
		http_call_cancel(&q->call);
	for (unsigned i = 0; i < q->nh; i++)
		mem_free(q->h[i].value);
	str_fini(&q->path);
	str_fini(&q->query);
	str_fini(&q->message);
	str_fini(&q->answer);
	str_fini(&q->head);
	mem_free(q->answers);
	mem_free(q);
}

void
r2_req_query(struct r2_req *q, const char *name, const char *value, size_t vlen)
{
	if (q->query.len > 0)
		str_addc(&q->query, '&');
	str_addz(&q->query, name);
	str_addc(&q->query, '=');
	if (value != NULL)
		str_add_uri(&q->query, value, vlen, false);
}

void
r2_req_header(struct r2_req *q, const char *name, const char *value)
{
	if (value == NULL)
		return;
	ASSERT(q->nh < R2_REQ_HEADERS);
	q->h[q->nh].name = name;
	q->h[q->nh++].value = mem_strdup(value);
}

void
r2_req_body(struct r2_req *q, const void *p, int fd, uint64_t off, uint64_t len, const uint8_t md5[16],
    const uint8_t sha256[32])
{
	struct str s = STR_INIT;

	q->body = p;
	q->fd = fd;
	q->off = off;
	q->len = len;
	q->has_body = true;
	str_add_base64(&s, md5, 16);
	r2_req_header(q, "content-md5", str_z(&s));
	str_clear(&s);
	str_add_hex(&s, sha256, 32);
	memcpy(q->payload, str_z(&s), sizeof(q->payload));
	str_fini(&s);
}

enum err
r2_req_classify(int status, const char *code)
{
	static const struct {
		const char *code;
		enum err e;
	} by_code[] = {
	    {"NoSuchKey", ERR_NOTFOUND},
	    {"NoSuchBucket", ERR_NOBUCKET},
	    {"NoSuchUpload", ERR_CLOSED}, /* aborted by somebody else: begin again */
	    {"RequestTimeTooSkewed", ERR_CLOCK},
	    {"SignatureDoesNotMatch", ERR_UNAUTH},
	    {"PreconditionFailed", ERR_PRECOND},
	    {"BadDigest", ERR_BADDIGEST},
	    {"InvalidDigest", ERR_BADDIGEST},
	    {"XAmzContentSHA256Mismatch", ERR_BADDIGEST},
	    {"IncompleteBody", ERR_CLOSED},
	    {"ClientDisconnect", ERR_CLOSED},
	    {"InvalidObjectName", ERR_INVAL},
	    {"MetadataTooLarge", ERR_TOOBIG},
	    {"EntityTooLarge", ERR_TOOBIG},
	    {"NotImplemented", ERR_UNSUPPORTED},
	    {"SlowDown", ERR_THROTTLED},
	};

	/* 429 comes with the code ServiceUnavailable: the status decides there */
	if (status == 429)
		return ERR_THROTTLED;
	for (size_t i = 0; i < sizeof(by_code) / sizeof(by_code[0]); i++)
		if (strcmp(by_code[i].code, code) == 0)
			return by_code[i].e;
	switch (status) {
	case 401:
		return ERR_UNAUTH;
	case 403:
		return ERR_DENIED;
	case 408:
		return ERR_TIMEOUT;
	case 409:
		return ERR_UNAVAIL;
	case 412:
		return ERR_PRECOND;
	case 416:
		return ERR_RANGE;
	case 501:
		return ERR_UNSUPPORTED;
	default:
		/* a 404 without a code of S3 may be anybody's: it proves nothing */
		return status >= 500 && status <= 599 ? ERR_UNAVAIL : ERR_PROTO;
	}
}

/* Was it refused for our clock, and what is the server's? A HEAD's 403 has no body to say so: the difference itself
 * must. */
static bool
clock_refused(const struct r2_req *q, int64_t *server_s)
{
	const char *date = r2_req_answer(q, "date");
	bool named = strcmp(q->code, "RequestTimeTooSkewed") == 0;

	if (q->status != 403 || (!named && q->code[0] != '\0'))
		return false;
	if (date == NULL || !clock_parse_http_date(date, strlen(date), server_s)) {
		*server_s = q->signed_s;
		return named;
	}
	return named || llabs(*server_s - q->signed_s) >= SKEW_SURE_S;
}

/* An answer that is no success: its code, its error. True if the request has been sent again instead. */
static bool
failed_answer(struct r2_req *q, enum err *e)
{
	int64_t server_s = 0;

	(void)s3xml_error(q->answer.p, q->answer.len, q->code, &q->message);
	if (clock_refused(q, &server_s)) {
		*e = ERR_CLOCK;
		if (q->resent || server_s == q->signed_s)
			return false;
		q->r2->clock_off_s = server_s - (int64_t)(clock_real_ms() / 1000);
		log_warn("r2", "this machine's clock is %+lld s from R2's: signing with R2's time",
		    (long long)-q->r2->clock_off_s);
		q->resent = true;
		send_signed(q);
		return true;
	}
	*e = r2_req_classify(q->status, q->code);
	/* a HEAD's 404 has no body: whoever asked must tell the key from the bucket */
	if (q->status == 404 && q->code[0] == '\0' && strcmp(q->method, "HEAD") == 0)
		*e = ERR_NOTFOUND;
	if (*e == ERR_PROTO || *e == ERR_INVAL || *e == ERR_TOOBIG || *e == ERR_UNSUPPORTED)
		log_warn("r2", "%s %s: status %d %s %s", q->method, log_key(str_z(&q->path), q->path.len), q->status,
		    q->code, log_key(str_z(&q->message), q->message.len));
	return false;
}

void
r2_req_refuse(struct r2_req *q, enum err e, const char *why)
{
	str_clear(&q->message);
	str_addz(&q->message, why);
	q->refused = e;
	loop_call_soon(&q->refuse);
}

void
r2_req_got_head(struct r2_req *q, int status)
{
	q->status = status;
	if (status >= 200 && status <= 299 && q->on_head != NULL)
		q->on_head(q->arg);
}

static void
on_head(void *arg, int status)
{
	r2_req_got_head(arg, status);
}

void
r2_req_got_data(struct r2_req *q, const void *p, size_t n)
{
	if (q->status >= 200 && q->status <= 299 && q->on_data != NULL) {
		metrics_add(METRIC_R2_BYTES_IN, NULL, (int64_t)n);
		q->on_data(q->arg, p, n);
	} else if (q->answer.len + n > q->answer_max) {
		q->too_big = true;
	} else {
		str_add(&q->answer, p, n);
	}
}

static void
on_data(void *arg, const void *p, size_t n)
{
	r2_req_got_data(arg, p, n);
}

void
r2_req_got_done(struct r2_req *q, enum err e, const char *why)
{
	bool counted = e != ERR_OK;
	int status = q->status;

	metrics_observe(METRIC_R2_SECONDS, q->label, clock_mono_ns() / 1000 - q->begun_us);
	if (e == ERR_OK)
		e = TRIP_ERR("r2", q->label, "answer");
	if (e == ERR_OK) {
		if (status < 200 || status > 299) {
			if (failed_answer(q, &e))
				return;
		} else {
			q->r2->bucket_seen_ms = clock_mono_ms();
			e = q->too_big ? ERR_PROTO : ERR_OK;
		}
	} else {
		str_addz(&q->message, why);
	}
	q->finished = true;
	if (e == ERR_OK && q->has_body)
		metrics_add(METRIC_R2_BYTES_OUT, NULL, (int64_t)q->len);
	if (e != ERR_OK && e != ERR_NOTFOUND && !counted)
		metrics_add(METRIC_R2_ERRORS, err_name(e), 1);
	q->done(q->arg, e);
}

static void
on_done(void *arg, enum err e, int status)
{
	struct r2_req *q = arg;

	q->status = status;
	if (e != ERR_OK)
		metrics_add(METRIC_R2_ERRORS, err_name(e), 1);
	r2_req_got_done(q, e, e != ERR_OK ? http_call_why(q->call) : "");
}

/* The headers to be signed; the last slot is left for Authorization. */
static size_t
signed_headers(const struct r2_req *q, const char *date, struct sigv4_header v[R2_REQ_HEADERS + 4])
{
	size_t n = 0;

	v[n++] = (struct sigv4_header){"x-amz-content-sha256", q->payload};
	v[n++] = (struct sigv4_header){"x-amz-date", date};
	for (unsigned i = 0; i < q->nh; i++)
		v[n++] = (struct sigv4_header){q->h[i].name, q->h[i].value};
	v[n++] = (struct sigv4_header){"host", q->r2->host};
	return n;
}

/* n signed headers, Host the last of them, with their signature. */
static void
send_on_peer(struct r2_req *q, const struct sigv4_header *v, size_t n, const struct str *auth)
{
	struct str head = STR_INIT;

	(void)str_reserve(&head, q->path.len + q->query.len + HEAD_MOST);
	str_printf(&head, "%s %s%s%s HTTP/1.1\r\n", q->method, str_z(&q->path), q->query.len > 0 ? "?" : "", str_z(&q->query));
	for (size_t i = 0; i < n; i++) {
		if (!http1_is_value(v[i].value, strlen(v[i].value))) {
			r2_req_refuse(q, ERR_INVAL, "a header's value has control characters");
			str_fini(&head);
			return;
		}
		http1_add_header(&head, v[i].name, v[i].value);
	}
	http1_add_header(&head, "authorization", str_z(auth));
	http1_add_header(&head, "accept-encoding", CODINGS);
	http1_end_head(&head);
	r2_peer_send(q, &head);
}

static void
send_on_curl(struct r2_req *q, const struct sigv4_header *v, size_t n, const struct str *auth)
{
	struct http_header wire[R2_REQ_HEADERS + 4];
	struct str url = STR_INIT;
	struct http_call_opts o = {.method = q->method,
	    .headers = wire,
	    .body = q->body,
	    .body_fd = q->fd,
	    .body_off = q->off,
	    .body_len = q->len,
	    .has_body = q->has_body,
	    .limit_ms = q->limit_ms,
	    .stall_ms = q->stall_ms,
	    .on_head = on_head,
	    .on_data = on_data,
	    .done = on_done,
	    .arg = q};

	/* all but Host, which the URL gives */
	for (; o.nheaders < n - 1; o.nheaders++)
		wire[o.nheaders] = (struct http_header){v[o.nheaders].name, v[o.nheaders].value};
	wire[o.nheaders++] = (struct http_header){"authorization", str_z(auth)};
	if (strcmp(q->method, "HEAD") == 0)
		wire[o.nheaders++] = (struct http_header){"accept-encoding", CODINGS};
	(void)str_reserve(&url, strlen(q->r2->origin) + q->path.len + q->query.len + 1);
	str_addz(&url, q->r2->origin);
	str_add(&url, q->path.p, q->path.len);
	if (q->query.len > 0) {
		str_addc(&url, '?');
		str_add(&url, q->query.p, q->query.len);
	}
	o.url = str_z(&url);
	q->call = http_call_start(q->r2->http, &o);
	str_fini(&url);
}

static void
send_signed(struct r2_req *q)
{
	struct sigv4_header v[R2_REQ_HEADERS + 4];
	const struct conf *c = q->r2->conf;
	struct sigv4_creds creds = {c->r2_access_key, c->r2_secret, c->r2_region};
	struct sigv4_request r = {.method = q->method,
	    .path = str_z(&q->path),
	    .query = str_z(&q->query),
	    .headers = v,
	    .payload = q->payload};
	struct str auth = STR_INIT;
	char date[17];

	q->signed_s = (int64_t)(clock_real_ms() / 1000) + q->r2->clock_off_s;
	clock_amz_date(q->signed_s, date);
	r.amz_date = date;
	r.nheaders = signed_headers(q, date, v);
	sigv4_authorization(&r, &creds, &auth);
	q->status = 0;
	q->too_big = false;
	str_clear(&q->answer);
	str_clear(&q->message);
	q->begun_us = clock_mono_ns() / 1000;
	metrics_add(METRIC_R2_REQUESTS, q->label, 1);
	if (q->on_peer)
		send_on_peer(q, v, r.nheaders, &auth);
	else
		send_on_curl(q, v, r.nheaders, &auth);
	str_fini(&auth);
}

void
r2_req_start(struct r2_req *q, uint64_t limit_ms, void (*done)(void *arg, enum err e), void *arg)
{
	q->limit_ms = limit_ms;
	q->done = done;
	q->arg = arg;
	/* a HEAD's answer announces a body that does not come, which costs our engine the connection */
	q->on_peer = strcmp(q->method, "GET") == 0;
	if (q->refused == ERR_OK)
		q->refused = TRIP_ERR("r2", q->label, "send");
	if (q->refused != ERR_OK)
		loop_call_soon(&q->refuse);
	else
		send_signed(q);
}

void
r2_req_pause(struct r2_req *q)
{
	q->paused = true;
	if (!q->finished && q->on_peer)
		r2_peer_pause(q);
}

void
r2_req_resume(struct r2_req *q)
{
	q->paused = false;
	if (!q->finished && q->on_peer)
		r2_peer_resume(q);
}

const char *
r2_req_answer(const struct r2_req *q, const char *name)
{
	if (q->on_peer)
		return r2_peer_answer(q, name);
	return q->call != NULL ? http_call_header(q->call, name) : NULL;
}
