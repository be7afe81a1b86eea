/*
 * hint: the application says in its answer which media it has stored or removed:
 *
 *   X-Media-Stored: /media/a/b%20c.jpg        a URL path below media.url, or the key alone, percent-encoded as in a URL;
 *   X-Media-Deleted: a/old.jpg                one a line, any number of lines
 *
 * Believed only with upstream.trust-hints; never passed on (forward.h). A name goes through the same door as a request's target:
 * what could not be a key there is dropped, and said in the log. A hint is no evidence: the disk is looked at, and a file that was
 * "stored" and is not there is not taken for a deleted one. Pure, but for the log and the metrics.
 */
#ifndef PROXY_HINT_H
#define PROXY_HINT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/conf.h"
#include "coord/marks.h"
#include "io/http1.h"
#include "store/local.h"

struct hint {
	char *key;
	size_t klen;
	enum mark_op op;
	enum err e;		/* hints_look: what the look said */
	bool exists;
};

/* Zeroed: none. */
struct hints {
	struct hint *v;
	size_t n;
};

bool hint_is_header(struct http1_slice name);
/* Appends the answer's hints, if they are believed. */
void hints_take(struct hints *hs, const struct http1_head *h, const struct conf *c);
/* For the pool: looks at each file. */
void hints_look(struct hints *hs, struct local *l);
/* After the look: is there something to be marked? */
bool hint_counts(const struct hint *h);
void hints_fini(struct hints *hs);

#endif
