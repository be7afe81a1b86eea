/*
 * http1: HTTP/1.1 messages, strict, no I/O. One incremental parser for the heads of requests and responses, one decoder
 * for bodies, and writers. Stricter than RFC 9112 wherever it allows leniency: CRLF only, no folding, token names, no
 * control bytes, exactly one Host, one digits-only Content-Length, Transfer-Encoding exactly "chunked" and never with a
 * Content-Length or in HTTP/1.0. Trailers are checked and dropped. Nothing is ever forwarded but re-serialised parts.
 * Pure and thread safe.
 */
#ifndef IO_HTTP1_H
#define IO_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct str;

enum http1_bad {
	HTTP1_GOOD,
#define HTTP1_BAD(name, status, text) HTTP1_BAD_##name,
#include "http1.def"
#undef HTTP1_BAD
	HTTP1_BAD_COUNT
};
const char *http1_bad_name(enum http1_bad b);
const char *http1_bad_text(enum http1_bad b);
int http1_bad_status(enum http1_bad b);

struct http1_limits {
	size_t head_max;	/* bytes of the whole head */
	size_t target_max;
	unsigned headers_max;	/* at most HTTP1_HEADERS */
};

#define HTTP1_HEADERS 128

/* A slice of the buffer that was parsed; not terminated. */
struct http1_slice {
	const char *p;
	size_t n;
};

struct http1_header {
	struct http1_slice name, value;	/* value without surrounding spaces */
};

enum http1_framing {
	HTTP1_NO_BODY,		/* none announced, or none allowed (HEAD, 1xx, 204, 304) */
	HTTP1_LENGTH,		/* content_length bytes; may be 0 */
	HTTP1_CHUNKED,
	HTTP1_UNTIL_CLOSE	/* responses only */
};

/* A parsed head. Slices point into the caller's buffer and move with it: parse again, or copy, after moving it. */
struct http1_head {
	bool response;
	int minor;			/* HTTP/1.minor */
	struct http1_slice method, target;	/* requests */
	/* Of an origin-form or absolute-form target; query without '?', p NULL if none. The path of an absolute-form target
	 * without one is "/", that of "OPTIONS *" is "*". */
	struct http1_slice path, query;
	int status;			/* responses */
	struct http1_slice reason;
	struct http1_header h[HTTP1_HEADERS];
	unsigned nh;
	enum http1_framing framing;
	uint64_t content_length;
	bool has_length;		/* a Content-Length stood there (HEAD and 304 keep it for information) */
	bool keep_alive;		/* the connection may be used again after this message */
	bool expect_continue;		/* the client waits for "100 Continue" before it sends the body */
	bool upgrade;			/* Connection names upgrade and an Upgrade header is there */
	bool names_headers;		/* Connection names headers of its own, see http1_hop_by_hop */
	struct http1_slice host;	/* requests: Host, or the authority of an absolute-form target (then equal to Host) */
};

enum http1_step { HTTP1_MORE, HTTP1_DONE, HTTP1_ERROR };

/* Parses a request head at p. MORE: not complete, nothing is kept, call again with more (how much was seen is remembered in
 * *scan, which starts at 0). DONE: *used bytes were the head. ERROR: *bad says why; close after answering. */
enum http1_step http1_parse_request(struct http1_head *h, const char *p, size_t n, const struct http1_limits *lim, size_t *scan,
    size_t *used, enum http1_bad *bad);
/* The same for a response to a request with the given method (HEAD has no body). */
enum http1_step http1_parse_response(struct http1_head *h, const char *p, size_t n, const struct http1_limits *lim, bool to_head,
    size_t *scan, size_t *used, enum http1_bad *bad);

/* RFC 9110 5.6.2 and 5.5: is it a token, may it stand in a header value? */
bool http1_is_token(const char *p, size_t n);
bool http1_is_value(const char *p, size_t n);
/* The first header of that name (case-insensitive), or NULL. */
const struct http1_header *http1_find(const struct http1_head *h, const char *name);
/* The one header of that name; NULL if there is none or several. */
const struct http1_header *http1_only(const struct http1_head *h, const char *name);
/* Is the header hop-by-hop: by RFC 9110 7.6.1's list, or named in this message's Connection? Never to be forwarded. */
bool http1_hop_by_hop(const struct http1_head *h, const struct http1_header *x);
/* Does a comma-separated list contain the token (case-insensitive)? */
bool http1_list_has(struct http1_slice list, const char *token);

/* Decodes a body. Embedded; no allocation. */
struct http1_body {
	enum http1_framing framing;
	uint64_t left;		/* of the body, or of the chunk */
	uint64_t total;		/* decoded bytes so far */
	unsigned state, count;	/* of the chunk machine */
};
void http1_body_init(struct http1_body *b, enum http1_framing framing, uint64_t length);
/* Takes bytes from p: sets *used, and the decoded piece *data,*dn (may be empty) that lies within them. Call again until
 * *used is 0 or DONE. DONE: the body has ended (bytes behind *used belong to the next message). */
enum http1_step http1_body_feed(struct http1_body *b, const char *p, size_t n, size_t *used, const char **data, size_t *dn,
    enum http1_bad *bad);
/* The peer closed: was that a proper end? */
bool http1_body_eof_ok(const struct http1_body *b);

/* Writers. They trust their arguments but assert that no value holds CR, LF or NUL. */
void http1_add_request_line(struct str *s, struct http1_slice method, struct http1_slice target);
void http1_add_status_line(struct str *s, int status, const char *reason);	/* reason NULL: the standard one */
void http1_add_header(struct str *s, const char *name, const char *value);
void http1_add_header_slices(struct str *s, struct http1_slice name, struct http1_slice value);
void http1_add_header_u64(struct str *s, const char *name, uint64_t v);
void http1_end_head(struct str *s);
/* "1a2\r\n" before a chunk of n bytes; "\r\n" follows it; the last is "0\r\n\r\n". */
size_t http1_chunk_head(char out[20], size_t n);
const char *http1_reason(int status);

#endif
