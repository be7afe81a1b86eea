/*
 * auth: the step AUTH: may whoever sent this change something here? May he read? It stands between ROUTE and what follows, so that
 * nothing is journalled, opened, asked of R2 or read of a body for a stranger. The rules for who may change are allow.h's; auth asks the
 * application where they say so, with a GET of its own: 2xx lets the request go on, 401 and 403 are the client's answer, anything
 * else is 502 and silence 503.
 *
 * Below an authorized prefix with read-auth the application is asked in the same way about every request to which no such rule
 * applies: reads, which we then serve, and whatever is passed on. What an answer says does not depend on what files there are.
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
	const char *asked;		/* the question's path, of the prefix */
	bool reading;			/* it is about reading */
	struct str challenge;		/* its WWW-Authenticate lines */
	struct str cookies;		/* its Set-Cookie lines, if it is about reading */
	uint64_t got;			/* bytes of its body, which nobody reads */
};

/* While the head is there: the verdict, and what a question will need. */
void auth_take(struct request *r, const struct http1_head *h);
/* Has the step something to do? */
bool auth_wanted(const struct request *r);
void auth_fini(struct request *r);

#endif
