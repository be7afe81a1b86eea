/*
 * r2_peer: the GETs of r2_req.h on our own engine (io/http_peer.h), which costs a fraction of libcurl's time for each. A pool of
 * connections to the endpoint, verified TLS where it is https. The endpoint's name is asked for on a pool thread, again after a
 * minute, or soon when nobody answers at any of its addresses.
 * Loop's thread only.
 */
#ifndef STORE_R2_PEER_H
#define STORE_R2_PEER_H

#include "base/str.h"
#include "io/http1.h"

struct r2;
struct r2_peer;
struct r2_req;

/* Nobody is asked, nothing connected yet. */
struct r2_peer *r2_peer_new(struct r2 *r2);
/* No request may be in work. Takes NULL, clears the pointer. */
void r2_peer_free(struct r2_peer **p);

/* Sends a request whose head is given (taken over). Its on_head, on_data and done come as r2_req_got_head, _data, _done. */
void r2_peer_send(struct r2_req *q, struct str *head);
void r2_peer_cancel(struct r2_req *q);
void r2_peer_pause(struct r2_req *q);
void r2_peer_resume(struct r2_req *q);
/* A header of the answer, or NULL; see r2_req_answer. */
const char *r2_peer_answer(const struct r2_req *q, const char *name);

#endif
