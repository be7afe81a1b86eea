/*
 * Input: a byte that says where it is cut, and a request. What was found good must be good, and mean the same, as it goes to the
 * upstream; and nothing goes there that forward.h says is dropped.
 */
#include "fuzz.h"

#include <string.h>

#include "base/err.h"
#include "proxy/forward.h"

/* Is there a line that begins so? */
static bool
has_line(const struct str *s, const char *begin)
{
	size_t n = strlen(begin);
	const char *p = s->p, *end = s->p + s->len;

	for (; p && (size_t)(end - p) >= n; p = memchr(p, '\n', (size_t)(end - p)), p = p ? p + 1 : NULL)
		if (str_ieq(p, begin, n))
			return true;
	return false;
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct http1_head h;
	static const char *const gone[] = {"x-accel-", "x-sendfile", "x-shim-", "connection:", "keep-alive:", "te:", "expect:", "content_length:"};
	static const struct forward_peer from = {.addr = "192.0.2.1"};
	struct str out = STR_INIT;
	size_t used;

	if (n < 1)
		return 0;
	if (fuzz_head('q', &h, (const char *)p + 1, n - 1, (n - 1) * p[0] / 255, &used) != HTTP1_DONE)
		return 0;
	forward_request(&out, &h, &from, NULL);
	fuzz_again('q', &h, &out);
	for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
		ASSERT(!has_line(&out, gone[i]));
	str_clear(&out);
	forward_question(&out, &h, "/may", &from);
	ASSERT(out.len > 4 && memcmp(out.p + out.len - 4, "\r\n\r\n", 4) == 0);
	str_fini(&out);
	return 0;
}
