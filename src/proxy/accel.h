/*
 * accel: a file that the application names in its answer instead of giving it: X-Accel-Redirect (an URI below a url of
 * media.internal, as nginx has it) or X-Sendfile (a path below its alias, as Apache and lighttpd have it). Pure: an answer's head
 * and the configuration go in, a key comes out, with the header lines that the client gets with the file.
 *
 * The application chooses the file, the client never: what a request brings of these headers is dropped (forward.h), and what an
 * answer brings is used up here. Both values are percent-decoded once, bytes that no URI may hold stand for themselves; a value
 * whose decoding, slash merging or dot removal changes its segments names nothing.
 */
#ifndef PROXY_ACCEL_H
#define PROXY_ACCEL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/conf.h"
#include "base/str.h"
#include "io/http1.h"

enum accel_what {
	ACCEL_NONE,		/* the answer is the answer */
	ACCEL_FILE,		/* key */
	ACCEL_ELSEWHERE,	/* below nothing in media.internal */
	ACCEL_BAD		/* malformed, several, or no file's name */
};

struct accel {
	enum accel_what what;
	const char *header;	/* which of the two; static */
	struct str named;	/* its value, for the log */
	struct str key;		/* FILE */
	struct str type;	/* FILE: the answer's Content-Type; empty: by the key's name */
	struct str lines;	/* FILE: the header lines that go with the file, see forward_kept */
	bool cached;		/* FILE: lines say how long it may be kept */
};

/* Looks at an answer of the application's. Only one that allows (2xx) can name a file. */
void accel_take(struct accel *a, const struct http1_head *h, const struct conf *c);
void accel_fini(struct accel *a);

#endif
