/*
 * health: asks one server of the application, again and again, whether it is well: GET of a path, 2xx and 3xx are yes. The interval is also
 * the time that an answer has. Embedded; loop thread.
 */
#ifndef PROXY_HEALTH_H
#define PROXY_HEALTH_H

#include "io/http_peer.h"
#include "io/loop.h"

struct health {
	struct http_peer *peer;
	struct loop_timer timer;
	struct http_peer_req *req;	/* the question that is out */
	char *path, *host;	/* path NULL: it asks nothing */
	uint64_t interval_ms;
	uint64_t got;		/* bytes of the answer's body */
	int status;		/* of its head; 0: none yet */
	void (*on_checked)(void *arg, bool well, const char *why);
	void *arg;
};

/* peer stays the caller's, and lives longer. on_checked: once a question; why, if not well, is for a person. */
void health_init(struct health *h, struct loop *l, struct http_peer *peer, void (*on_checked)(void *arg, bool well, const char *why), void *arg);
/* What to ask from now on, and at once; the strings are copied, path NULL ends it. A question that is out is dropped. */
void health_set(struct health *h, const char *path, const char *host, uint64_t interval_ms);
void health_fini(struct health *h);

#endif
