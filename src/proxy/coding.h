/*
 * coding: prefixes.precompressed: in place of x its sibling x.br or x.gz, if there is one and the client takes it, with x's
 * Content-Type and a Content-Encoding. A sibling is a file like any other, migrated by itself: whether there is one is what the phase
 * says of its key, so that both sides give the same. It has its own ETag, and ranges are of its bytes.
 *
 * Part of a request: READ begins with the best sibling; where nobody has it, the next, and at last x itself. Loop thread only.
 */
#ifndef PROXY_CODING_H
#define PROXY_CODING_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"
#include "io/http1.h"
#include "proxy/accept.h"

struct request;

struct coding {
	bool on;			/* there may be siblings: caches must know what the answer depends on */
	enum accept_coding wanted[ACCEPT_CODINGS];
	unsigned n, at;			/* at n: the file itself */
	const char *key;		/* the file's own */
	size_t klen;
	struct str sibling;
};

/* What the client takes, while its head is there. */
void coding_take(struct request *r, const struct http1_head *h);
/* READ: the route's key becomes that of what is to be read now. */
void coding_use(struct request *r);
/* Nobody has it: is there another? */
bool coding_next(struct request *r);
bool coding_is_sibling(const struct request *r);
/* The key by whose name the answer has its type. */
const char *coding_name(const struct request *r, size_t *klen);
/* Lines for an answer with that status. */
void coding_lines(const struct request *r, int status, struct str *out);

#endif
