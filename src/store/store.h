/*
 * store: where objects live: the interface that R2 implements and that the fault decorator wraps.
 *
 * Every operation is asynchronous on the loop: done runs exactly once, never inside the call; after store_cancel, never.
 * Keys are raw bytes as on disk. Identity is the NFC form: an object that bears another spelling than the key asked for
 * counts as not found. Errors: NOTFOUND (the key, for sure), PRECOND (a condition did not hold), NOBUCKET, UNAUTH, DENIED,
 * CLOCK (outages, never absence), THROTTLED, UNAVAIL, TIMEOUT, CLOSED, CONNECT (retry), BADDIGEST, PROTO.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct store;
struct store_op;

/* What is known of an object. Owned by whoever embeds it: store_meta_init / _fini. Strings are NULL if absent. */
struct store_meta {
	uint64_t size;
	char etag[80];			/* without quotes */
	bool has_md5;			/* md5 of the whole content is known: from a single PUT's ETag or the md5chksum of a multipart */
	uint8_t md5[16];
	int64_t mtime_ns;		/* the file's, from x-amz-meta-mtime (rclone's form); 0 if absent */
	bool has_mtime;
	int64_t last_modified_s;	/* the object's own, Unix seconds */
	uint32_t mode, uid, gid;	/* s3fs's x-amz-meta-mode/uid/gid */
	bool has_mode;
	char *content_type, *cache_control, *content_disposition, *content_encoding;
	char *base;			/* of an object that was written before the disk: what the writer found there (x-amz-meta-r2shim-base) */
	char *spelling;			/* raw key bytes if they differ from the NFC form, else NULL */
};
void store_meta_init(struct store_meta *m);
void store_meta_fini(struct store_meta *m);

/* Conditions of a put: at most one. */
struct store_fence {
	bool if_absent;		/* If-None-Match: * */
	const char *if_etag;	/* If-Match, without quotes */
};

/* Copied by the call but for fd and body, which must stay until done (a cancel ends that too). */
struct store_put {
	const char *key;
	size_t klen;
	int fd;				/* the file; read by pread from 0; not closed; -1: body */
	const void *body;
	uint64_t size;
	uint8_t md5[16];		/* of the content: sent as Content-MD5, compared with the answer's ETag */
	uint8_t sha256[32];		/* of the content: signed */
	const struct store_meta *meta;	/* mtime, mode, content_type, cache_control are sent */
	struct store_fence fence;
	uint64_t limit_ms;		/* hard limit of each request */
};

struct store_list_entry {
	const char *key;		/* valid during the callback */
	size_t klen;
	uint64_t size;
	char etag[80];
	int64_t last_modified_ms;
};

/* A get's answer begins: status 200 or 206. Meta is valid until done. total: size of the whole object. */
struct store_get_cb {
	void (*on_meta)(void *arg, const struct store_meta *m, bool partial, uint64_t first, uint64_t n, uint64_t total);
	void (*on_data)(void *arg, const void *p, size_t n);
	void (*done)(void *arg, enum err e);
};
struct store_get {
	const char *key;
	size_t klen;
	bool ranged;			/* first..last, both included; last UINT64_MAX: to the end */
	uint64_t first, last;
	uint64_t suffix;		/* ranged with suffix > 0: the last n bytes instead */
	const char *if_etag;		/* If-Match: PRECOND when it changed; NULL: none */
	uint64_t first_byte_ms, stall_ms;	/* limits: to the answer's head, all waiting included; of a pause within it; 0: none */
};

typedef void store_head_done(void *arg, enum err e, const struct store_meta *m);
typedef void store_done(void *arg, enum err e, const char *etag);	/* etag: put only */
/* A page of a listing: ascending by the key's UTF-8 bytes. next is NULL at the end, else where to go on (copy it). */
typedef void store_list_done(void *arg, enum err e, const struct store_list_entry *v, size_t n, const char *next);
typedef void store_text_done(void *arg, enum err e, const char *why);

struct store_ops {
	struct store_op *(*head)(struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_head_done *done, void *arg);
	struct store_op *(*get)(struct store *s, const struct store_get *g, const struct store_get_cb *cb, void *arg);
	struct store_op *(*put)(struct store *s, const struct store_put *p, store_done *done, void *arg);
	struct store_op *(*del)(struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_done *done, void *arg);
	/* after: continuation as given by the last page, NULL for the first. start_after: a key to begin behind, NULL: none. */
	struct store_op *(*list)(struct store *s, const char *prefix, const char *start_after, const char *after, unsigned max,
	    store_list_done *done, void *arg);
	/* Lists and aborts the unfinished multipart uploads of exactly this key. UNSUPPORTED where the server cannot list them. */
	struct store_op *(*abort_uploads)(struct store *s, const char *key, size_t klen, store_done *done, void *arg);
	/* Is the service there, with these keys and this bucket? why: for a person. */
	struct store_op *(*probe)(struct store *s, store_text_done *done, void *arg);
	enum err (*presign)(struct store *s, const char *method, const char *key, size_t klen, unsigned lifetime_s, struct str *url);
	void (*pause)(struct store_op *op);	/* of a get */
	void (*resume)(struct store_op *op);
	void (*cancel)(struct store_op *op);
	void (*free)(struct store *s);
};
struct store {
	const struct store_ops *ops;
};

struct store_op *store_head(struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_head_done *done, void *arg);
struct store_op *store_get(struct store *s, const struct store_get *g, const struct store_get_cb *cb, void *arg);
struct store_op *store_put(struct store *s, const struct store_put *p, store_done *done, void *arg);
struct store_op *store_del(struct store *s, const char *key, size_t klen, uint64_t limit_ms, store_done *done, void *arg);
struct store_op *store_list(struct store *s, const char *prefix, const char *start_after, const char *after, unsigned max,
    store_list_done *done, void *arg);
struct store_op *store_abort_uploads(struct store *s, const char *key, size_t klen, store_done *done, void *arg);
struct store_op *store_probe(struct store *s, store_text_done *done, void *arg);
/* Appends a URL that lets anybody do method on the key for lifetime_s (up to a week). INVAL: no such key can be. Nobody is asked. */
enum err store_presign(struct store *s, const char *method, const char *key, size_t klen, unsigned lifetime_s, struct str *url) ERR_MUST_CHECK;
void store_pause(struct store *s, struct store_op *op);
void store_resume(struct store *s, struct store_op *op);
/* Takes NULL, clears the pointer. */
void store_cancel(struct store *s, struct store_op **op);
void store_free(struct store **s);

#endif
