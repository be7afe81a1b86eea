/*
 * Input: a byte that says what it is ('q' request, 'r' response, 'h' response to HEAD, 'c' chunked body), a byte that says
 * where it is cut, the message. Whole and cut must come to the same end, and what was found good must be good again after it
 * was written anew.
 */
#include "fuzz.h"

#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "io/http1.h"

static const struct http1_limits limits = {.head_max = 4096, .target_max = 512, .headers_max = 32};

static enum http1_step
parse(int kind, struct http1_head *h, const char *p, size_t n, size_t *scan, size_t *used, enum http1_bad *bad)
{
	return kind == 'q' ? http1_parse_request(h, p, n, &limits, scan, used, bad)
			   : http1_parse_response(h, p, n, &limits, kind == 'h', scan, used, bad);
}

static void
again(int kind, const struct http1_head *h)
{
	static struct http1_head h2;
	struct http1_limits wide = {.head_max = 16384, .target_max = 1024, .headers_max = 33};
	struct str s = STR_INIT;
	size_t scan = 0, used = 0;
	enum http1_bad bad;
	if (kind == 'q')
		http1_add_request_line(&s, h->method, h->target);
	else
		http1_add_status_line(&s, h->status, NULL);
	for (unsigned i = 0; i < h->nh; i++)
		if (!http1_hop_by_hop(h, &h->h[i]))
			http1_add_header_slices(&s, h->h[i].name, h->h[i].value);
	if (kind == 'q' && h->minor == 0 && !http1_find(h, "host"))
		http1_add_header(&s, "Host", h->host.n ? "x" : "y");
	http1_end_head(&s);
	enum http1_step st = kind == 'q' ? http1_parse_request(&h2, s.p, s.len, &wide, &scan, &used, &bad)
					 : http1_parse_response(&h2, s.p, s.len, &wide, kind == 'h', &scan, &used, &bad);
	/* A Host of our own choice, or an expectation that HTTP/1.0 let pass, may be refused. */
	if (h->minor > 0) {
		ASSERT(st == HTTP1_DONE && used == s.len);
		ASSERT(h2.path.n == h->path.n && h2.has_length == h->has_length && h2.content_length == h->content_length);
	}
	str_fini(&s);
}

static void
fuzz_head(int kind, const char *p, size_t n, size_t cut)
{
	static struct http1_head a, b;
	size_t scan = 0, used = 0, used2 = 0;
	enum http1_bad bad = HTTP1_GOOD, bad2 = HTTP1_GOOD;
	enum http1_step st = parse(kind, &a, p, n, &scan, &used, &bad), st2;
	scan = 0;
	st2 = parse(kind, &b, p, cut, &scan, &used2, &bad2);
	if (st2 == HTTP1_MORE)
		st2 = parse(kind, &b, p, n, &scan, &used2, &bad2);
	/* Only an incomplete line may be judged later in pieces than at once. */
	if (st2 != HTTP1_MORE || st != HTTP1_ERROR)
		ASSERT(st == st2 && used == used2 && bad == bad2);
	if (st != HTTP1_DONE)
		return;
	ASSERT(used <= n && used <= limits.head_max && a.framing == b.framing && a.nh == b.nh);
	again(kind, &a);
}

static enum http1_step
decode(const char *p, size_t n, size_t cut, struct str *out, size_t *taken, enum http1_bad *bad)
{
	struct http1_body b;
	http1_body_init(&b, HTTP1_CHUNKED, 0);
	*taken = 0;
	for (;;) {
		size_t used, dn, end = *taken < cut ? cut : n;
		const char *data;
		enum http1_step st = http1_body_feed(&b, p + *taken, end - *taken, &used, &data, &dn, bad);
		if (st == HTTP1_ERROR)
			return st;
		ASSERT(used <= end - *taken && dn <= used);
		str_add(out, data, dn);
		*taken += used;
		if (st == HTTP1_DONE || *taken == n) {
			ASSERT(b.total == out->len);
			return st;
		}
	}
}

static void
fuzz_body(const char *p, size_t n, size_t cut)
{
	struct str a = STR_INIT, b = STR_INIT;
	size_t taken, taken2;
	enum http1_bad bad = HTTP1_GOOD, bad2 = HTTP1_GOOD;
	enum http1_step st = decode(p, n, 0, &a, &taken, &bad), st2 = decode(p, n, cut, &b, &taken2, &bad2);
	ASSERT(st == st2 && bad == bad2);
	if (st != HTTP1_ERROR)	/* what precedes an error may be held back */
		ASSERT(a.len == b.len && memcmp(str_z(&a), str_z(&b), a.len) == 0);
	if (st == HTTP1_DONE)
		ASSERT(taken == taken2);
	str_fini(&a);
	str_fini(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	if (n < 2)
		return 0;
	size_t len = n - 2, cut = len * p[1] / 255;
	const char *msg = (const char *)p + 2;
	if (p[0] == 'c')
		fuzz_body(msg, len, cut);
	else if (p[0] == 'q' || p[0] == 'r' || p[0] == 'h')
		fuzz_head(p[0], msg, len, cut);
	return 0;
}
