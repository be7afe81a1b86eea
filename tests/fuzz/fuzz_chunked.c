/* Input: a byte that says where it is cut, and a chunked body. In one piece and in two it must come to the same bytes and the same end. */
#include "fuzz.h"

#include <string.h>

#include "base/err.h"

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
			ASSERT(http1_body_eof_ok(&b) == (st == HTTP1_DONE));
			return st;
		}
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str a = STR_INIT, b = STR_INIT;
	const char *body = (const char *)p + 1;
	size_t taken, taken2;
	enum http1_bad bad = HTTP1_GOOD, bad2 = HTTP1_GOOD;
	enum http1_step st, st2;

	if (n < 1)
		return 0;
	st = decode(body, n - 1, 0, &a, &taken, &bad);
	st2 = decode(body, n - 1, (n - 1) * p[0] / 255, &b, &taken2, &bad2);
	ASSERT(st == st2 && bad == bad2);
	if (st != HTTP1_ERROR)	/* what precedes an error may be held back */
		ASSERT(a.len == b.len && memcmp(str_z(&a), str_z(&b), a.len) == 0);
	if (st == HTTP1_DONE)
		ASSERT(taken == taken2);
	str_fini(&a);
	str_fini(&b);
	return 0;
}
