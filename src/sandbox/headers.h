/*
 * headers: a copy of a request's headers that outlives the connection's buffer: names in lower case, repeated ones joined
 * by a comma (RFC 9110 5.3, and SigV4's canonical form).
 */
#ifndef SANDBOX_HEADERS_H
#define SANDBOX_HEADERS_H

#include <stddef.h>

#include "io/http1.h"
#include "store/sigv4.h"

struct headers {
	struct sigv4_header v[HTTP1_HEADERS];
	size_t n;
};

void headers_copy(struct headers *h, const struct http1_head *head);
/* For tests and made-up requests: adds one, joining. name in lower case. */
void headers_add(struct headers *h, const char *name, size_t nlen, const char *value, size_t vlen);
void headers_fini(struct headers *h);
/* The value, or NULL. name in lower case. */
const char *headers_get(const struct headers *h, const char *name);

#endif
