/*
 * answer: what a file's or an object's answer looks like, decided from its size, its time and the request's conditions
 * alone. Both sides are answered through here, so that caches and half-finished downloads survive the move to R2: same
 * status, ETag, Last-Modified, ranges, to the last header. Pure, thread safe.
 *
 * ETag has nginx's form, "mtime-size" in hex; so a cache that was filled by nginx before the migration stays warm.
 * Sources: RFC 9110 13 (conditions), 14 (ranges). Where nginx is known to differ and caches live from it, nginx is followed
 * and the place says so.
 */
#ifndef PROXY_ANSWER_H
#define PROXY_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct http1_head;

/* The request's conditions, copied out of its head. Offsets into text; len 0 and set false: not there. */
enum answer_cond {
	ANSWER_RANGE,
	ANSWER_IF_RANGE,
	ANSWER_IF_MATCH,
	ANSWER_IF_NONE_MATCH,
	ANSWER_IF_MODIFIED_SINCE,
	ANSWER_IF_UNMODIFIED_SINCE,
	ANSWER_CONDS
};
struct answer_conds {
	bool any;			/* at least one is set */
	bool set[ANSWER_CONDS];
	size_t off[ANSWER_CONDS], len[ANSWER_CONDS];
	struct str text;
};
void answer_conds_init(struct answer_conds *c);
void answer_conds_fini(struct answer_conds *c);
/* Takes them from a request head. A repeated If-Match or If-None-Match is joined into one list; any other repeated one is ignored. */
void answer_conds_take(struct answer_conds *c, const struct http1_head *h);
/* Do they need the file's time or size before the first byte may be asked for? A Range alone does not. */
bool answer_conds_need_meta(const struct answer_conds *c);

/* One Range header. Several ranges are answered with the whole (RFC 9110 14.2 allows it; nothing is amplified). */
enum answer_range {
	ANSWER_WHOLE,		/* none, another unit, or several */
	ANSWER_PART,		/* first..last, or the last `suffix` bytes */
	ANSWER_UNSATISFIABLE	/* malformed ("bytes="), or an empty suffix: 416, as nginx */
};
struct answer_span {
	uint64_t first, last;	/* both included; last UINT64_MAX: to the end */
	uint64_t suffix;	/* > 0: the last n bytes instead */
};
enum answer_range answer_parse_range(const struct answer_conds *c, struct answer_span *s);

enum { ANSWER_ETAG = 48 };
struct answer {
	int status;		/* 200, 206, 304, 412, 416 */
	uint64_t first, n;	/* the bytes to send; n 0 where there are none */
	uint64_t size;		/* of the whole */
	int64_t mtime_s;
	char etag[ANSWER_ETAG];	/* with quotes */
};

/* Decides. is_get false (HEAD): Range is not looked at. */
void answer_decide(struct answer *a, const struct answer_conds *c, bool is_get, uint64_t size, int64_t mtime_s);
/* The head's lines for http_conn_start: status, Content-Type, Last-Modified, ETag, Accept-Ranges or Content-Range,
 * Cache-Control (may be NULL). date: the Date line, complete. */
void answer_head(const struct answer *a, const char *content_type, const char *cache_control, const char *date, struct str *out);
/* Whole seconds of a time in ns, as stat counts them: rounded down, before 1970 too. */
int64_t answer_seconds(int64_t ns);
/* Has the status a body of the file? (not 304, 412, 416) */
bool answer_has_body(const struct answer *a);

#endif
