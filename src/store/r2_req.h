/*
 * r2_req: one signed request to R2 and its answer, for the r2*.c files. Built, started, answered once (done), freed by
 * its owner: in done, or before, which cancels it. A clock that differs is corrected from the answer's Date, once;
 * nothing else is retried. Loop's thread only.
 */
#ifndef STORE_R2_REQ_H
#define STORE_R2_REQ_H

#include "base/conf.h"
#include "base/list.h"
#include "io/http_client.h"
#include "io/http_peer.h"
#include "io/loop.h"
#include "io/pool.h"
#include "store/store.h"

struct r2 {
	struct store base; /* first: what the caller holds */
	struct loop *loop;
	struct pool *pool;
	struct conf *conf;
	struct http_client *http;
	struct r2_peer *peer;	 /* of GETs */
	char *origin, *host;     /* "https://host:port", and what is signed as Host */
	char *bucket_path;       /* encoded: what stands before "/key" */
	int64_t clock_off_s;     /* the server's clock minus ours */
	uint64_t bucket_seen_ms; /* when an answer last proved that the bucket is there; 0: never */
	struct list ops;
};

/* What a store_op is here: the first member of each operation's own struct. */
struct r2_op {
	struct list node;
	struct r2 *r2;
	void (*cancel)(struct r2_op *op); /* frees; no callback after it */
	void (*kill)(struct r2_op *op);   /* the same, and no request of its own may follow either: r2 goes away */
};
void r2_op_init(struct r2_op *op, struct r2 *r2, void (*cancel)(struct r2_op *));

#define R2_REQ_HEADERS 20
#define R2_LIST_MAX    (16u << 20) /* 1000 keys of 1024 bytes, percent-encoded, fit four times */

struct r2_req {
	struct r2 *r2;
	const char *label, *method; /* label: the metrics' op */
	struct str path, query;
	struct {
		const char *name;
		char *value;
	} h[R2_REQ_HEADERS];
	unsigned nh;
	char payload[65];
	const void *body;
	int fd;
	uint64_t off, len;
	bool has_body;
	uint64_t limit_ms, stall_ms;
	size_t answer_max;                                   /* what is collected of an answer; more is PROTO */
	void (*on_head)(void *arg);                          /* of a 2xx; NULL: none. It may free the request */
	void (*on_data)(void *arg, const void *p, size_t n); /* of a 2xx; NULL: collected in answer */
	void (*done)(void *arg, enum err e);
	void *arg;

	/* the answer, from on_head or done on */
	int status;
	char code[64]; /* S3's, "" if it sent none */
	struct str message, answer;

	/* r2_req.c's own */
	struct http_call *call;
	bool on_peer;		/* a GET: r2_peer.c's, whose are the next ones, too */
	struct http_peer_req *get;
	struct list node;	/* until an address is known */
	struct str head;
	struct loop_timer limit;
	char *answers;		/* name, NUL, value, NUL, ... */
	unsigned nanswers;
	struct loop_call refuse;
	enum err refused;
	bool finished, paused, resent, too_big;
	uint64_t begun_us;
	int64_t signed_s;
};

/* key NULL: the bucket itself. The key goes in its NFC form; one that is no UTF-8 makes the request fail with INVAL. */
struct r2_req *r2_req_new(struct r2 *r2, const char *label, const char *method, const char *key, size_t klen);
/* Cancels what runs. Takes NULL, clears the pointer. */
void r2_req_free(struct r2_req **q);
/* A parameter; value NULL: none. Encoded here. */
void r2_req_query(struct r2_req *q, const char *name, const char *value, size_t vlen);
/* A header to be signed; name must be static. A NULL value is left out. */
void r2_req_header(struct r2_req *q, const char *name, const char *value);
/* A body with its digests: bytes, or (fd >= 0) a file's range. Not copied. */
void r2_req_body(struct r2_req *q, const void *p, int fd, uint64_t off, uint64_t len, const uint8_t md5[16],
    const uint8_t sha256[32]);
void r2_req_start(struct r2_req *q, uint64_t limit_ms, void (*done)(void *arg, enum err e), void *arg);
void r2_req_pause(struct r2_req *q);
void r2_req_resume(struct r2_req *q);
/* A header of the answer, or NULL; in on_head and done only. */
const char *r2_req_answer(const struct r2_req *q, const char *name);
/* For r2_peer.c, as the names say; e is about the transfer, and counted already, why for a person. */
void r2_req_got_head(struct r2_req *q, int status);
void r2_req_got_data(struct r2_req *q, const void *p, size_t n);
void r2_req_got_done(struct r2_req *q, enum err e, const char *why);
/* done comes soon, with e: it cannot be sent. */
void r2_req_refuse(struct r2_req *q, enum err e, const char *why);
/* What an error of this status and S3 code is to us. */
enum err r2_req_classify(int status, const char *code);

/* Is the bucket there? Known for some seconds after any success; else asked for. An operation of its own (kill,
 * cancel). */
struct r2_op *r2_bucket_check(struct r2 *r2, void (*done)(void *arg, enum err e), void *arg);
bool r2_bucket_known(const struct r2 *r2);

/* The parts of the interface that have files of their own. */
struct store_op *r2_head(
    struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_head_done *done, void *arg);
/* The same, whatever spelling the object bears: what a condition on a PUT would look at. */
struct store_op *r2_head_any(
    struct r2 *r2, const char *key, size_t klen, uint64_t limit_ms, store_head_done *done, void *arg);
struct store_op *r2_get(struct store *s, const struct store_get *g, const struct store_get_cb *cb, void *arg);
void r2_pause(struct store_op *op);
void r2_resume(struct store_op *op);
struct store_op *r2_put(struct store *s, const struct store_put *p, store_done *done, void *arg);
struct store_op *r2_put_multipart(struct r2 *r2, const struct store_put *p, store_done *done, void *arg);
struct store_op *r2_list(struct store *s, const char *prefix, const char *start_after, const char *after, unsigned max,
    store_list_done *done, void *arg);
struct store_op *r2_abort_uploads(struct store *s, const char *key, size_t klen, store_done *done, void *arg);
enum err r2_presign(struct store *s, const char *method, const char *key, size_t klen, unsigned lifetime_s, struct str *url);
struct store_op *r2_probe(struct store *s, store_text_done *done, void *arg);

#endif
