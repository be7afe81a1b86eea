/*
 * auth: the step AUTH: may whoever sent this change something here? It stands between ROUTE and INTENT, so that nothing is
 * journalled, opened or read of a body for a stranger. The rules are allow.h's; auth asks the application where they say so, with a
 * GET of its own: 2xx lets the write go on, 401 and 403 are the client's answer, anything else is 502 and silence 503.
 *
 * Part of a request (request.h), which owns struct request_auth. Loop thread only.
 */
#ifndef PROXY_AUTH_H
#define PROXY_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "io/http_peer.h"
#include "proxy/allow.h"

struct request;

struct request_auth {
	enum allow_verdict verdict;
	bool token;			/* it bears the prefix's token */
	struct str head;		/* ASK: the question, built while the client's head was there */
	struct http_peer_req *up;	/* NULL: not asked, or over */
	int status;			/* of the answer to it; 0: none yet */
	struct str challenge;		/* its WWW-Authenticate lines */
	uint64_t got;			/* bytes of its body, which nobody reads */
};

/* While the head is there: the verdict, and what a question will need. */
void auth_take(struct request *r, const struct http1_head *h);
/* Has the step something to do? */
bool auth_wanted(const struct request *r);
void auth_fini(struct request *r);

#endif
