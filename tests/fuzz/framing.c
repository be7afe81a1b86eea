/*
 * framing: what our parser makes of messages, one line each, so that it can be held against another's (node.mjs does the same).
 *
 * stdin: again and again 'q' (requests) or 'r' (a response), the length as u32 little endian, so many bytes.
 * A line: the messages, each as "method target minor body", in a response "status - minor body", the texts in hex and "-" for empty
 * ones; then how it ends: "end", "more" (of a head), "more" and the message so far (of a body), "close" (the connection is not
 * used again) or, perhaps behind "more", "bad" and why.
 */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "io/http1.h"

static const struct http1_limits limits = {.head_max = 65536, .target_max = 16384, .headers_max = 100};

static void
put_hex(const char *p, size_t n)
{
	if (n == 0)
		putchar('-');
	for (size_t i = 0; i < n; i++)
		printf("%02x", (unsigned char)p[i]);
	putchar(' ');
}

static void
put_message(const struct http1_head *h, const struct str *body)
{
	if (h->response)
		printf("%d - ", h->status);
	else {
		put_hex(h->method.p, h->method.n);
		put_hex(h->target.p, h->target.n);
	}
	printf("%d ", h->minor);
	put_hex(body->p, body->len);
}

/* One message; false: it was the last. */
static bool
message(bool response, const char **pp, const char *end)
{
	static struct http1_head h;
	struct http1_body b;
	struct str body = STR_INIT;
	size_t scan = 0, used, dn;
	enum http1_bad bad;
	enum http1_step st;
	const char *data;

	st = response ? http1_parse_response(&h, *pp, (size_t)(end - *pp), &limits, false, &scan, &used, &bad)
		      : http1_parse_request(&h, *pp, (size_t)(end - *pp), &limits, &scan, &used, &bad);
	if (st == HTTP1_DONE) {
		*pp += used;
		http1_body_init(&b, h.framing, h.content_length);
		do {
			st = http1_body_feed(&b, *pp, (size_t)(end - *pp), &used, &data, &dn, &bad);
			if (st == HTTP1_ERROR)
				break;
			str_add(&body, data, dn);
			*pp += used;
		} while (st == HTTP1_MORE && used > 0);
		if (st != HTTP1_DONE)
			printf("more ");
		put_message(&h, &body);
		if (st == HTTP1_DONE && !h.keep_alive)
			printf("close");
	} else if (st == HTTP1_MORE) {
		printf("more");
	}
	if (st == HTTP1_ERROR)
		printf("bad %s", http1_bad_name(bad));
	str_fini(&body);
	return st == HTTP1_DONE && h.keep_alive && !response;
}

int
main(void)
{
	static char buf[1 << 20];
	unsigned char kind;
	uint32_t n;

	while (fread(&kind, 1, 1, stdin) == 1) {
		const char *p = buf, *end;

		if (fread(&n, sizeof n, 1, stdin) != 1 || (n = le32toh(n)) > sizeof buf || fread(buf, 1, n, stdin) != n)
			return EXIT_FAILURE;
		end = buf + n;
		bool more = p < end;
		while (more)
			if ((more = message(kind == 'r', &p, end)) && p == end) {
				printf("end");
				more = false;
			}
		putchar('\n');
	}
	return EXIT_SUCCESS;
}
