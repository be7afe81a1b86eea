#include "sandbox/s3.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "sandbox/disk.h"
#include "sandbox/keyrate.h"
#include "sandbox/multipart.h"
#include "sandbox/sandbox.h"

enum body_kind { BODY_NONE, BODY_STREAM, BODY_SMALL };

static const struct {
	enum body_kind body;
	bool (*begin)(struct s3_req *r);
	void (*commit)(struct s3_req *r);
} ops[S3_OP_COUNT] = {
#define OP(id, kind, begin, commit) [S3_OP_##id] = {BODY_##kind, begin, commit}
    OP(GET_OBJECT, NONE, NULL, s3_get_commit),
    OP(HEAD_OBJECT, NONE, NULL, s3_get_commit),
    OP(PUT_OBJECT, STREAM, s3_put_begin, s3_put_commit),
    OP(COPY_OBJECT, NONE, s3_copy_begin, s3_copy_commit),
    OP(DELETE_OBJECT, NONE, NULL, s3_delete_commit),
    OP(DELETE_OBJECTS, SMALL, s3_content_md5, s3_deletes_commit),
    OP(CREATE_UPLOAD, NONE, s3_create_begin, s3_create_commit),
    OP(UPLOAD_PART, STREAM, s3_part_begin, s3_part_commit),
    OP(UPLOAD_PART_COPY, NONE, NULL, s3_part_copy_commit),
    OP(COMPLETE_UPLOAD, SMALL, NULL, s3_complete_commit),
    OP(ABORT_UPLOAD, NONE, NULL, s3_abort_commit),
    OP(LIST_PARTS, NONE, NULL, s3_parts_commit),
    OP(LIST_UPLOADS, NONE, NULL, s3_uploads_commit),
    OP(LIST_OBJECTS, NONE, NULL, s3_list_commit),
    OP(LIST_OBJECTS_V2, NONE, NULL, s3_list_commit),
    OP(LIST_BUCKETS, NONE, NULL, s3_buckets_commit),
    OP(HEAD_BUCKET, NONE, NULL, s3_head_bucket_commit),
    OP(CREATE_BUCKET, NONE, NULL, s3_create_bucket_commit),
    OP(DELETE_BUCKET, NONE, NULL, s3_delete_bucket_commit),
    OP(BUCKET_INFO, NONE, NULL, s3_bucket_info_commit),
    OP(BUCKET_POST, NONE, NULL, s3_bucket_post_commit),
    OP(UNSUPPORTED, NONE, NULL, NULL),
#undef OP
};

static const char *const op_names[S3_OP_COUNT] = {
#define S3_OP(id, name, word, body, screen) name,
#include "sandbox/ops.def"
#undef S3_OP
};

const char *
s3_op_name(enum s3_op op)
{
	return op_names[op];
}

const char *
s3_header(const struct s3_req *r, const char *name)
{
	return headers_get(&r->headers, name);
}

const char *
s3_param(const struct s3_req *r, const char *name)
{
	return query_get(&r->query, name);
}

struct bucket *
s3_bucket(struct s3_req *r)
{
	struct bucket *b = disk_bucket(r->sb->disk, r->bucket_name);

	if (b == NULL)
		s3_reply_error(r, S3_NO_BUCKET);
	return b;
}

bool
s3_take_rate(struct s3_req *r)
{
	if (r->sb->rate == NULL || keyrate_take(r->sb->rate, r->bucket_name, r->nfc.p, r->nfc.len, clock_mono_ms()))
		return true;
	s3_reply_error(r, S3_WRITE_RATE);
	return false;
}

struct cond
s3_cond(const struct s3_req *r)
{
	return (struct cond){s3_header(r, "if-match"), s3_header(r, "if-none-match"), s3_header(r, "if-modified-since"),
	    s3_header(r, "if-unmodified-since")};
}

/* ---- answers ---- */

static void proceed(struct s3_req *r);

/* Waits as the plan says for this stage, then goes on. */
static void
wait_at(struct s3_req *r, enum fault_stage stage)
{
	r->stage = stage;
	if (r->plan.delay_ms[stage] > 0)
		loop_timer_set(&r->timer, r->plan.delay_ms[stage]);
	else if (r->plan.hold[stage] != NULL && faults_held(r->sb->faults, r->plan.hold[stage]))
		r->held = true;
	else
		proceed(r);
}

static void
on_timer(void *arg)
{
	struct s3_req *r = arg;

	r->plan.delay_ms[r->stage] = 0;
	wait_at(r, r->stage);
}

void
s3_release(struct sandbox *sb)
{
	struct list *it, *next;

	LIST_FOREACH(it, next, &sb->requests) {
		struct s3_req *r = LIST_ENTRY(it, struct s3_req, node);

		if (!r->held || faults_held(sb->faults, r->plan.hold[r->stage]))
			continue;
		r->held = false;
		loop_call_soon(&r->step);
	}
}

static void
on_step(void *arg)
{
	proceed(arg);
}

void
s3_reply(struct s3_req *r, int status, const char *lines)
{
	ASSERT(!r->answered && status > 0 && status < S3_STATUS_MAX);
	r->answered = true;
	r->status = status;
	if (lines != NULL)
		str_addz(&r->lines, lines);
	r->sb->counts[r->op][status]++;
	wait_at(r, FAULT_ANSWER);
}

void
s3_reply_xml(struct s3_req *r)
{
	s3_reply(r, 200, "Content-Type: application/xml\r\n");
}

static void
reply_error(struct s3_req *r, enum s3_error e, const char *message, const char *extra)
{
	str_clear(&r->body);
	str_clear(&r->lines);
	s3_error_xml(&r->body, e, message, extra);
	s3_reply(r, s3_error_status(e), "Content-Type: application/xml\r\n");
}

void
s3_reply_error(struct s3_req *r, enum s3_error e)
{
	reply_error(r, e, NULL, NULL);
}

void
s3_reply_errorf(struct s3_req *r, enum s3_error e, const char *fmt, ...)
{
	va_list ap, again;
	char *text;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	ASSERT(n >= 0);
	text = mem_alloc((size_t)n + 1);
	vsnprintf(text, (size_t)n + 1, fmt, again);
	va_end(again);
	va_end(ap);
	reply_error(r, e, text, NULL);
	mem_free(text);
}

void
s3_reply_file(struct s3_req *r, int status, const char *lines, int fd, uint64_t off, uint64_t n)
{
	r->fd = fd;
	r->off = off;
	r->n = n;
	s3_reply(r, status, lines);
}

static void
send_answer(struct s3_req *r)
{
	struct str head = STR_INIT;
	uint64_t total = r->body.len + r->n, n = total;
	char date[30];

	if (r->plan.lost) {
		r->sb->faulted++;
		http_conn_abort(r->conn, HTTP_CLOSE_CUT);
		return;
	}
	clock_http_date((int64_t)(clock_real_ms() / 1000), date);
	http1_add_status_line(&head, r->status, NULL);
	http1_add_header(&head, "Date", date);
	str_add(&head, str_z(&r->lines), r->lines.len);
	if (r->plan.cut && r->plan.cut_after < n) {
		n = r->plan.cut_after;
		r->sb->faulted++;
	}
	http_conn_start(r->conn, &head, r->status == 304 || r->status == 204 ? HTTP_CONN_BODYLESS : total);
	str_fini(&head);
	if (n > 0 && strcmp(r->method, "HEAD") != 0) {
		r->sb->bytes_out += n;
		if (r->fd >= 0) {
			http_conn_sendfile(r->conn, r->fd, r->off, n);
			r->fd = -1;
		} else
			http_conn_write(r->conn, r->body.p, (size_t)n);
	}
	http_conn_end(r->conn);
}

/* ---- the way of a request ---- */

static void
fault_status(struct s3_req *r)
{
	bool read = r->op == S3_OP_GET_OBJECT || r->op == S3_OP_HEAD_OBJECT;

	r->sb->faulted++;
	if (r->plan.status == 429)
		s3_reply_error(r, read ? S3_READ_RATE : S3_WRITE_RATE);
	else if (r->plan.status == 503)
		s3_reply_error(r, S3_UNAVAILABLE);
	else if (r->plan.status == 500)
		s3_reply_error(r, S3_INTERNAL);
	else {
		s3_error_xml(&r->body, r->plan.status < 500 ? S3_ACCESS_DENIED : S3_INTERNAL, NULL, NULL);
		s3_reply(r, r->plan.status, "Content-Type: application/xml\r\n");
	}
}

/* Signature, then route, then headers: R2's order. false: answered. */
static bool
admit(struct s3_req *r)
{
	struct auth_request a = {r->method, r->path, &r->query, &r->headers, (int64_t)(clock_real_ms() / 1000)};
	struct auth_keys k = {r->sb->key_id, r->sb->secret};

	if (!r->query_ok) {
		s3_reply_errorf(r, S3_INVALID_ARGUMENT, "The query cannot be read");
		return false;
	}
	if (r->op == S3_OP_BUCKET_POST && !auth_present(&a)) {
		/* A browser's form; the doubled words are R2's. */
		s3_reply_errorf(
		    r, S3_NOT_IMPLEMENTED, "Presigned post requests are not yet implemented not implemented");
		return false;
	}
	auth_check(&a, &k, &r->verdict);
	if (r->verdict.error != S3_OK) {
		reply_error(r, r->verdict.error, r->verdict.message.len > 0 ? r->verdict.message.p : NULL,
		    str_z(&r->verdict.extra));
		return false;
	}
	if (r->op != S3_OP_LIST_BUCKETS && r->op != S3_OP_CREATE_BUCKET && r->route_error != S3_NO_ROUTE) {
		if (r->op == S3_OP_PUT_OBJECT && disk_bucket_name_ok(r->bucket_name) &&
		    disk_bucket(r->sb->disk, r->bucket_name) == NULL &&
		    s3_header(r, "cf-create-bucket-if-missing") != NULL &&
		    strcmp(s3_header(r, "cf-create-bucket-if-missing"), "true") == 0 &&
		    disk_create_bucket(r->sb->disk, r->bucket_name, NULL) != ERR_OK) {
			s3_reply_error(r, S3_INTERNAL);
			return false;
		}
		if (s3_bucket(r) == NULL)
			return false;
	}
	if (r->route_error != S3_OK) {
		reply_error(r, r->route_error, r->route_message.len > 0 ? r->route_message.p : NULL, NULL);
		return false;
	}
	return s3_screen(r);
}

static void
begin(struct s3_req *r)
{
	enum body_kind kind = ops[r->op].body;

	if (r->plan.status != 0) {
		fault_status(r);
		return;
	}
	if (!admit(r))
		return;
	if (r->chunked || (kind != BODY_NONE && !r->has_length)) {
		s3_reply_error(r, S3_NO_LENGTH);
		return;
	}
	if (r->length > (kind == BODY_STREAM ? S3_PUT_MAX : SANDBOX_DOCUMENT_MAX)) {
		s3_reply_error(r, S3_TOO_LARGE);
		return;
	}
	if (ops[r->op].begin != NULL && !ops[r->op].begin(r))
		return;
	if (kind == BODY_STREAM)
		r->writer = disk_writer_new(r->sb->disk, true, r->verdict.literal_hash);
	else if (r->verdict.literal_hash)
		r->sha256 = digest_new(DIGEST_SHA256);
	r->reading = true;
	http_conn_read_body(r->conn);
}

/* The body is there: is it what was signed and announced? false: answered. */
static bool
check_body(struct s3_req *r)
{
	struct digest *sha = r->writer != NULL ? r->writer->sha256 : r->sha256;
	uint8_t sum[DIGEST_SHA256_LEN];

	if (sha != NULL) {
		digest_final(sha, sum);
		if (memcmp(sum, r->verdict.sha256, sizeof(sum)) != 0) {
			s3_reply_error(r, S3_PAYLOAD_HASH);
			return false;
		}
	}
	if (r->writer != NULL)
		digest_final(r->writer->md5, r->md5);
	else if (r->has_md5)
		digest_md5(str_z(&r->small), r->small.len, r->md5);
	if (r->has_md5 && memcmp(r->md5, r->want_md5, sizeof(r->md5)) != 0) {
		struct str hex = STR_INIT;

		str_add_hex(&hex, r->want_md5, sizeof(r->want_md5));
		str_addz(&hex, "\nActual MD5 was: ");
		str_add_hex(&hex, r->md5, sizeof(r->md5));
		s3_reply_errorf(r, S3_BAD_DIGEST,
		    "The MD5 checksum you specified did not match what we received.\n"
		    "You provided a MD5 checksum with value: %s",
		    str_z(&hex));
		str_fini(&hex);
		return false;
	}
	if (r->writer != NULL && r->writer->err != ERR_OK) {
		s3_reply_error(r, S3_INTERNAL);
		return false;
	}
	return true;
}

static void
proceed(struct s3_req *r)
{
	switch (r->stage) {
	case FAULT_START:
		begin(r);
		break;
	case FAULT_COMMIT:
		ops[r->op].commit(r);
		break;
	case FAULT_ANSWER:
		send_answer(r);
		break;
	case FAULT_STAGES:
		ASSERT(false);
	}
}

/* ---- the connection's callbacks ---- */

static void
on_request(struct http_conn *c, const struct http1_head *head)
{
	struct sandbox *sb = http_server_arg(http_conn_server(c));
	struct s3_req *r;
	char *query;

	if (control_request(sb, c, head))
		return;
	r = mem_zalloc(sizeof(*r));
	r->sb = sb;
	r->conn = c;
	r->fd = r->copy.fd = -1;
	list_add_tail(&sb->requests, &r->node);
	loop_timer_init(&r->timer, sb->loop, on_timer, r);
	loop_call_init(&r->step, sb->loop, on_step, r);
	http_conn_set(c, r);
	r->method = mem_strndup(head->method.p, head->method.n);
	r->path = mem_strndup(head->path.p, head->path.n);
	query = head->query.p == NULL ? NULL : mem_strndup(head->query.p, head->query.n);
	r->query_ok = query_parse(&r->query, query);
	mem_free(query);
	headers_copy(&r->headers, head);
	r->has_length = head->has_length;
	r->length = head->has_length ? head->content_length : 0;
	r->chunked = head->framing == HTTP1_CHUNKED;
	/* botocore takes a final status without a 100 for the next answer's too, if the connection lives on. */
	if (r->length == 0 && s3_header(r, "expect") != NULL)
		http_conn_close_after(c);
	s3_route(r, head);
	faults_plan(sb->faults, r->op, r->key.len > 0 ? r->key.p : NULL, &r->plan);
	wait_at(r, FAULT_START);
}

static void
on_body(struct http_conn *c, const void *p, size_t n)
{
	struct s3_req *r = http_conn_get(c);

	if (r->base.control) {
		control_body(c, p, n);
		return;
	}
	r->got += n;
	r->sb->bytes_in += n;
	if (r->answered)
		return;
	if (r->plan.drop && r->got > r->plan.drop_after) {
		r->answered = true;
		r->sb->faulted++;
		http_conn_abort(c, HTTP_CLOSE_CUT);
		return;
	}
	if (r->writer != NULL)
		disk_writer_add(r->writer, p, n);
	else {
		str_add(&r->small, p, n);
		if (r->sha256 != NULL)
			digest_update(r->sha256, p, n);
	}
}

static void
on_body_end(struct http_conn *c)
{
	struct s3_req *r = http_conn_get(c);

	if (r->base.control) {
		control_end(c);
		return;
	}
	r->reading = false;
	if (r->answered)
		return;
	if (check_body(r))
		wait_at(r, FAULT_COMMIT);
	else if (r->op == S3_OP_UPLOAD_PART)
		s3_part_failed(r);
}

/* The client has closed its side too early; it may be listening still. */
static void
on_body_cut(struct http_conn *c)
{
	struct s3_req *r = http_conn_get(c);

	if (r->base.control) {
		http_conn_abort(c, HTTP_CLOSE_CLIENT_ABORT);
		return;
	}
	r->reading = false;
	if (r->answered)
		return;
	if (r->op == S3_OP_UPLOAD_PART)
		s3_part_failed(r);
	s3_reply_error(r, S3_INCOMPLETE_BODY);
}

static void
on_done(struct http_conn *c, bool ok, enum http_close why)
{
	struct s3_req *r = http_conn_get(c);

	if (r->base.control) {
		control_done(c);
		return;
	}
	if (!ok) {
		r->sb->cut++;
		log_debug("sandbox", "%s %s: %s", r->method, op_names[r->op], http_close_name(why));
	}
	if (!r->answered && r->op == S3_OP_UPLOAD_PART && r->reading)
		s3_part_failed(r);
	http_conn_set(c, NULL);
	list_del(&r->node);
	loop_timer_fini(&r->timer);
	loop_call_cancel(&r->step);
	s3_copy_fini(r);
	disk_writer_free(&r->writer);
	digest_free(&r->sha256);
	if (r->fd >= 0)
		close(r->fd);
	mem_free(r->method);
	mem_free(r->path);
	mem_free(r->bucket_name);
	query_fini(&r->query);
	headers_fini(&r->headers);
	auth_verdict_fini(&r->verdict);
	fault_plan_fini(&r->plan);
	str_fini(&r->route_message);
	str_fini(&r->key);
	str_fini(&r->nfc);
	str_fini(&r->small);
	str_fini(&r->stored);
	str_fini(&r->lines);
	str_fini(&r->body);
	mem_free(r);
}

const struct http_server_cb s3_callbacks = {
    .on_request = on_request,
    .on_body = on_body,
    .on_body_end = on_body_end,
    .on_body_cut = on_body_cut,
    .on_done = on_done,
};
