/* Input: 8 bytes of size and time, and header lines (conditions and ranges of a GET). Whatever they say, the answer is one of the file's. */
#include "fuzz.h"

#include <string.h>

#include "base/err.h"
#include "proxy/answer.h"

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const struct http1_limits limits = {.head_max = 8192, .target_max = 64, .headers_max = 64};
	static struct http1_head h;
	struct answer_conds c;
	struct answer a;
	struct str text = STR_INIT, out = STR_INIT;
	size_t scan = 0, used;
	enum http1_bad bad;
	uint32_t size, mtime;

	if (n < 8)
		return 0;
	memcpy(&size, p, 4);
	memcpy(&mtime, p + 4, 4);
	str_addz(&text, "GET / HTTP/1.1\r\nHost: a\r\n");
	str_add(&text, p + 8, n - 8);
	str_addz(&text, "\r\n\r\n");
	if (http1_parse_request(&h, text.p, text.len, &limits, &scan, &used, &bad) == HTTP1_DONE) {
		answer_conds_init(&c);
		answer_conds_take(&c, &h);
		answer_decide(&a, &c, true, size, mtime);
		ASSERT(a.status == 200 || a.status == 206 || a.status == 304 || a.status == 412 || a.status == 416);
		ASSERT(a.size == size && a.first <= size && a.n <= size - a.first);
		ASSERT(a.status == 200 ? a.first == 0 && a.n == size : a.status == 206 ? a.n > 0 : a.n == 0);
		answer_head(&a, "text/plain", NULL, "", &out);
		ASSERT(out.len > 12);
		answer_conds_fini(&c);
	}
	str_fini(&text);
	str_fini(&out);
	return 0;
}
