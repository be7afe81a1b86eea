/*
 * request: one request, from its head to its last byte, as a walk over steps.def. It owns all that is open on its behalf
 * (upstream request, store read, write bracket, file) and gives it up in DONE, whenever that comes.
 *
 * client.c makes it and hands on the connection's events; pass.c, private.c, read.c and put.c hold the larger steps. It keeps the snapshot
 * (configuration, phase, R2 store) that it started with until it ends. Loop thread only.
 */
#ifndef PROXY_REQUEST_H
#define PROXY_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "io/http_peer.h"
#include "io/http_server.h"
#include "proxy/accel.h"
#include "proxy/answer.h"
#include "proxy/auth.h"
#include "proxy/coding.h"
#include "proxy/route.h"
#include "proxy/writer.h"
#include "store/store.h"

struct list_job;
struct server;
struct snapshot;

enum request_step {
#define STEP(id, fn, text) STEP_##id,
#include "proxy/steps.def"
#undef STEP
	STEP_WAIT	/* not a step: a callback will go on */
};

/* Who gave the answer's bytes: a word for the access log and the metrics. */
enum request_source { REQUEST_SELF, REQUEST_UPSTREAM, REQUEST_DISK, REQUEST_R2 };

/* A request that is passed on. */
struct request_pass {
	struct str head;		/* for the upstream, built while the client's head was there */
	enum http1_framing framing;
	uint64_t length;
	bool trusted;			/* the peer is one of proxy.trusted-proxies */
	bool repeatable;
	struct http_peer_req *up;	/* NULL: over, or not begun */
	bool early;			/* the answer came before the intent was on disk */
	struct str answer;		/* its head, while it waits for the write's mark */
	struct hints hints;		/* what it says was stored or removed, until the writer has them */
	uint64_t answer_length;		/* as for http_conn_start */
	int answer_status;
	uint64_t ignored;		/* ACCEL: bytes of its body */
};

/* A write that is bracketed by the writer. */
struct request_write {
	struct writer_op *op;		/* begun, not finished */
	struct writer_op *finishing;	/* finish was called, done is to come */
	struct writer_file *file;
	struct primary_op *first;	/* on its way to R2: done is to come */
	bool busy;			/* a callback that cannot be withdrawn is to come (the intent, the commit): the request must outlive it */
	bool sent;			/* something may have been written */
	bool exclusive;			/* STORE, FIRST: only where there is no such file (If-None-Match: *) */
	const char *cannot;		/* STORE, REMOVE, FIRST: a condition or a range that we cannot keep to */
	int status;			/* writes = disk: the answer, once marked */
};

/* Media that we serve. */
struct request_read {
	struct answer_conds conds;
	struct coding coding;
	struct route_plan plan;
	struct store_op *op;
	struct answer answer;
	bool decided;			/* answer holds: the object was looked at first */
	bool look;			/* HEAD first */
	bool redirect;			/* what R2 has it gives itself */
	bool is_ready;			/* head is made: the next byte starts the answer */
	bool asked_disk, asked_r2, fell_back;
	struct loop_timer hedge;	/* hedge.h */
	struct cluster_call *ask;	/* Redis is asked whether the disk may answer */
	enum err disk_err, r2_err;
	unsigned retries;
	uint64_t sent;
	char etag[80];
	struct str head;
};

struct request {
	struct server *sv;
	const struct snapshot *snap;
	struct http_conn *conn;		/* NULL: the client is gone (only while write.busy) */
	enum request_step step;
	struct route route;
	bool is_head, is_get;
	bool reading_body, body_ended;
	uint64_t body_bytes;

	struct request_auth auth;
	struct request_pass pass;
	struct request_write write;
	struct request_read read;
	struct accel accel;		/* what the upstream's answer names */
	struct list_job *list;		/* a listing that is being made */

	/* For the access log. */
	struct str line, referer, agent;
	char peer[64];
	uint64_t began_us, began_mono_ns;
	int status;
	uint64_t sent;
	enum request_source source;
};

const char *request_source_name(enum request_source s);
const char *request_step_name(enum request_step s);

/* client.c: a new request; runs its first steps. */
void request_begin(struct server *sv, struct http_conn *c, const struct http1_head *h);
void request_body(struct request *r, const void *p, size_t n);
void request_body_end(struct request *r);
void request_drain(struct request *r);
/* The last event: logs, counts, gives up, frees. */
void request_over(struct request *r, bool ok, enum http_close why);

/* For the steps: goes on at a step, from a callback. */
void request_go(struct request *r, enum request_step next);
/* For ROUTE and AUTH: what the request asks for may be done. The step that begins it. */
enum request_step request_admitted(struct request *r);
/* Has the client's message a body? */
bool request_has_body(const struct request *r);
/* No write can be taken: 507 or 503. */
enum request_step request_refuse_write(struct request *r, enum err e);
/* Nobody takes the rest of the client's body: the server drains a little of it, or closes. */
void request_stop_body(struct request *r);
/* The write ends without an answer of the upstream's. While its intent is on its way to the disk, DONE does this instead. */
void request_write_over(struct request *r);
/* A small answer of our own, "status reason: text"; then REPLY. headers: more lines, or NULL. */
enum request_step request_answer(struct request *r, int status, const char *headers, const char *text);
/* The answer's head and its first status; the connection's start. */
void request_start(struct request *r, int status, const struct str *head, uint64_t length, enum request_source source);
/* Body bytes of the answer; false: wait for request_drain. */
bool request_send(struct request *r, const void *p, size_t n);
void request_end(struct request *r);

#define STEP(id, fn, text) enum request_step fn(struct request *r);
#include "proxy/steps.def"
#undef STEP

/* pass.c */
void pass_body(struct request *r, const void *p, size_t n);
void pass_body_end(struct request *r);
void pass_drain(struct request *r);
/* The write is marked (ERR_OK) or could not be: the held answer goes out, or is replaced. */
enum request_step pass_release(struct request *r, enum err e);
/* The intent is on disk: the request's end may go to the upstream. */
enum request_step pass_durable(struct request *r);
void pass_fini(struct request *r);
/* put.c */
#define PUT_EXISTS "there is such a file already"
bool put_exists(struct request *r);
void put_body(struct request *r, const void *p, size_t n);
void put_body_end(struct request *r);
/* The intent is on disk: the file may take its place. */
void put_durable(struct request *r);
/* list.c: takes what the query asks for. */
void list_take(struct request *r, const struct http1_head *h);
void list_fini(struct request *r);
/* first.c */
void first_body_end(struct request *r);
/* read.c */
void read_drain(struct request *r);
/* While R2 is asked: the disk answers in its place; false: it has no such file, and R2 goes on. */
bool read_from_disk(struct request *r);
void read_fini(struct request *r);

#endif
