/*
 * Input: 'r', or 'h' for the answer to a HEAD, a byte that says where it is cut, and a response. What was found good must be good,
 * and framed alike, as it goes to the client.
 */
#include "fuzz.h"

#include <string.h>

#include "base/err.h"
#include "proxy/forward.h"

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct http1_head h;
	struct str out = STR_INIT;
	size_t used;

	if (n < 2 || (p[0] != 'r' && p[0] != 'h'))
		return 0;
	if (fuzz_head(p[0], &h, (const char *)p + 2, n - 2, (n - 2) * p[1] / 255, &used) != HTTP1_DONE)
		return 0;
	forward_response(&out, &h, false);
	/* As http_conn does it. */
	if (h.framing == HTTP1_CHUNKED)
		http1_add_header(&out, "Transfer-Encoding", "chunked");
	else if (h.has_length)
		http1_add_header_u64(&out, "Content-Length", h.content_length);
	http1_end_head(&out);
	fuzz_again(p[0], &h, &out);
	str_fini(&out);
	return 0;
}
