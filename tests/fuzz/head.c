#include "fuzz.h"

#include <string.h>

#include "base/err.h"

static const struct http1_limits limits = {.head_max = 4096, .target_max = 512, .headers_max = 32};

static enum http1_step
parse(int kind, struct http1_head *h, const char *p, size_t n, const struct http1_limits *lim, size_t *scan, size_t *used,
    enum http1_bad *bad)
{
	return kind == 'q' ? http1_parse_request(h, p, n, lim, scan, used, bad)
			   : http1_parse_response(h, p, n, lim, kind == 'h', scan, used, bad);
}

enum http1_step
fuzz_head(int kind, struct http1_head *h, const char *p, size_t n, size_t cut, size_t *used)
{
	static struct http1_head b;
	size_t scan = 0, used2 = 0;
	enum http1_bad bad = HTTP1_GOOD, bad2 = HTTP1_GOOD;
	enum http1_step st, st2;

	*used = 0;
	st = parse(kind, h, p, n, &limits, &scan, used, &bad);
	scan = 0;
	st2 = parse(kind, &b, p, cut, &limits, &scan, &used2, &bad2);
	if (st2 == HTTP1_MORE)
		st2 = parse(kind, &b, p, n, &limits, &scan, &used2, &bad2);
	/* Only an incomplete line may be judged later in pieces than at once. */
	if (st2 != HTTP1_MORE || st != HTTP1_ERROR)
		ASSERT(st == st2 && *used == used2 && bad == bad2);
	if (st == HTTP1_DONE)
		ASSERT(*used <= n && *used <= limits.head_max && h->framing == b.framing && h->nh == b.nh);
	return st;
}

void
fuzz_again(int kind, const struct http1_head *h, const struct str *text)
{
	static const struct http1_limits wide = {.head_max = 65536, .target_max = 1024, .headers_max = HTTP1_HEADERS};
	static struct http1_head h2;
	size_t scan = 0, used = 0;
	enum http1_bad bad = HTTP1_GOOD;

	ASSERT(parse(kind, &h2, text->p, text->len, &wide, &scan, &used, &bad) == HTTP1_DONE);
	ASSERT(used == text->len && h2.framing == h->framing && h2.content_length == h->content_length);
	ASSERT(h2.status == h->status && h2.path.n == h->path.n && h2.query.n == h->query.n && h2.method.n == h->method.n);
	ASSERT(h->path.n == 0 || memcmp(h2.path.p, h->path.p, h->path.n) == 0);
}
