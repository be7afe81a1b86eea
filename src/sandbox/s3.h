/*
 * s3: a request to the S3 interface, from its head to its answer. Only the files of this folder include it.
 *
 *	on_request -> route -> [START] -> authenticate, screen, begin -> body -> hash and MD5 -> [COMMIT] -> commit
 *	-> [ANSWER] -> send -> on_done
 *
 * In brackets: where a fault can make it wait. An operation has a begin (reads its arguments; may refuse) and a commit
 * (does it, all of it or nothing). Both end in one s3_reply* call, or begin returns true to go on, or commit has started
 * a copy (s3_copy.c), which replies when it is done. Buckets and uploads are looked up again at commit: they may be gone.
 */
#ifndef SANDBOX_S3_H
#define SANDBOX_S3_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/str.h"
#include "io/http_server.h"
#include "io/loop.h"
#include "sandbox/auth.h"
#include "sandbox/cond.h"
#include "sandbox/faults.h"
#include "sandbox/headers.h"
#include "sandbox/query.h"
#include "sandbox/s3_error.h"

struct bucket;
struct disk;
struct digest;
struct keyrate;
struct part_ref;
struct s3_req;
struct upload;
struct disk_writer;

enum { S3_STATUS_MAX = 600, S3_KEY_MAX = 1024, S3_METADATA_MAX = 8192 };
#define S3_PUT_MAX UINT64_C(5363466240)	/* 5 GiB - 5 MiB */

struct sandbox {
	struct loop *loop;
	struct http_server *server;
	struct disk *disk;
	struct faults *faults;
	struct keyrate *rate;		/* NULL: no limit */
	char *key_id, *secret;
	struct list requests;
	uint64_t counts[S3_OP_COUNT][S3_STATUS_MAX];
	uint64_t bytes_in, bytes_out, faulted, cut;
};

/* Content on its way into a writer, in steps of the loop. */
struct s3_copy {
	int fd;				/* -1: none open */
	uint64_t off, left;
	struct part_ref *parts;		/* of a Complete; NULL otherwise */
	size_t nparts, next;
	struct loop_call call;
	void (*done)(struct s3_req *r);	/* NULL: not started */
};

/* What a connection's object begins with. */
struct s3_conn {
	bool control;			/* a struct control_req (control.c), else a struct s3_req */
};

struct s3_req {
	struct s3_conn base;
	struct sandbox *sb;
	struct http_conn *conn;
	struct list node;

	/* the head */
	char *method, *path;
	struct query query;
	struct headers headers;
	bool query_ok, has_length, chunked;
	uint64_t length;

	/* what it asks for */
	enum s3_op op;
	enum s3_error route_error;	/* S3_OK: none; reported once the signature is right */
	struct str route_message;
	char *bucket_name;		/* "" if none */
	struct str key, nfc;		/* as spelt, and its identity */
	bool key_ok;
	unsigned part_number;

	struct auth_verdict verdict;
	bool has_md5;
	uint8_t want_md5[16], md5[16];

	/* the body */
	struct disk_writer *writer;		/* of STREAM bodies and copies */
	struct str small;
	struct digest *sha256;		/* of SMALL bodies */
	uint64_t got;
	bool reading;

	struct str stored;		/* header lines of the object to be */
	bool infrequent;

	struct fault_plan plan;
	enum fault_stage stage;
	bool held;
	struct loop_timer timer;
	struct loop_call step;
	struct s3_copy copy;
	struct upload *upload;		/* being completed by this request */

	/* the answer */
	int status;
	struct str lines, body;
	int fd;
	uint64_t off, n;		/* of fd */
	bool answered;
};

/* s3.c */
extern const struct http_server_cb s3_callbacks;
void s3_release(struct sandbox *sb);	/* lets requests go on whose tag was released */
const char *s3_op_name(enum s3_op op);
/* Answers; lines are header lines "Name: value\r\n", may be NULL. Once a request. */
void s3_reply(struct s3_req *r, int status, const char *lines);
void s3_reply_xml(struct s3_req *r);			/* 200 with r->body */
void s3_reply_error(struct s3_req *r, enum s3_error e);
void s3_reply_errorf(struct s3_req *r, enum s3_error e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void s3_reply_file(struct s3_req *r, int status, const char *lines, int fd, uint64_t off, uint64_t n);
void s3_commit(struct s3_req *r);
const char *s3_header(const struct s3_req *r, const char *name);
const char *s3_param(const struct s3_req *r, const char *name);
/* The bucket as of now; answers NoSuchBucket and returns NULL if it is gone. */
struct bucket *s3_bucket(struct s3_req *r);
/* Counts a write to the key; false: the limit was hit and 429 answered. */
bool s3_take_rate(struct s3_req *r);
struct cond s3_cond(const struct s3_req *r);

/* s3_route.c: which operation? Sets op, bucket_name, key, route_error. */
void s3_route(struct s3_req *r, const struct http1_head *head);

/* s3_screen.c: headers that R2 refuses, and those that it keeps. false: answered. */
bool s3_screen(struct s3_req *r);
bool s3_storage_class(struct s3_req *r);
bool s3_content_md5(struct s3_req *r);
bool s3_collect_stored(struct s3_req *r);

/* s3_copy.c */
void s3_copy_start(struct s3_req *r, void (*done)(struct s3_req *r));
void s3_copy_fini(struct s3_req *r);

/* Operations: begin (NULL: nothing to do) and commit. */
bool s3_put_begin(struct s3_req *r);
void s3_put_commit(struct s3_req *r);
void s3_get_commit(struct s3_req *r);
void s3_delete_commit(struct s3_req *r);
void s3_deletes_commit(struct s3_req *r);
bool s3_copy_begin(struct s3_req *r);
void s3_copy_commit(struct s3_req *r);
void s3_part_copy_commit(struct s3_req *r);
bool s3_part_begin(struct s3_req *r);
void s3_part_commit(struct s3_req *r);
void s3_part_failed(struct s3_req *r);
bool s3_create_begin(struct s3_req *r);
void s3_create_commit(struct s3_req *r);
void s3_complete_commit(struct s3_req *r);
void s3_abort_commit(struct s3_req *r);
void s3_parts_commit(struct s3_req *r);
void s3_uploads_commit(struct s3_req *r);
void s3_list_commit(struct s3_req *r);
void s3_buckets_commit(struct s3_req *r);
void s3_head_bucket_commit(struct s3_req *r);
void s3_create_bucket_commit(struct s3_req *r);
void s3_delete_bucket_commit(struct s3_req *r);
void s3_bucket_info_commit(struct s3_req *r);
void s3_bucket_post_commit(struct s3_req *r);

/* control.c: /.sandbox/...; control_request: true: it is one, and the other callbacks of the connection go there too. */
bool control_request(struct sandbox *sb, struct http_conn *c, const struct http1_head *head);
void control_body(struct http_conn *c, const void *p, size_t n);
void control_end(struct http_conn *c);
void control_done(struct http_conn *c);

#endif
