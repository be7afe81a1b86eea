/*
 * upstream: the application's servers, by the options upstream.*: one, or several that do the same work on the same disk. Each is a peer
 * of HTTP (io/http_peer.h); balance.h picks among them and keeps who is up, health.h checks them.
 * A request is an http_peer_req, begun here; one that can go to another server where the first gives no byte of an answer does so by itself.
 * Loop thread only.
 */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include "base/conf.h"
#include "io/http_peer.h"
#include "proxy/balance.h"

struct upstream;

/* Who each server must be, by upstream.tls and its like; all NULL without TLS. */
struct upstream_tls {
	struct tls_client *v[BALANCE_MAX];
};

/* How a server is, for people. */
struct upstream_state {
	const char *address;	/* as configured */
	const char *why;	/* it is down, or ""; good until the next event */
	bool up;
	unsigned busy, idle;	/* connections */
};

/* INVAL: a file without certificates. */
enum err upstream_tls_new(struct upstream_tls *t, const struct conf *c, struct errbuf *eb) ERR_MUST_CHECK;
void upstream_tls_free(struct upstream_tls *t);

/* The addresses are resolved now (SYNTAX, CONNECT); INVAL as above. */
enum err upstream_new(struct upstream **up, struct loop *l, const struct conf *c, struct errbuf *eb) ERR_MUST_CHECK;
/* New timeouts, pool size, limits and checks, and *tls, which is taken over. The addresses stay. */
void upstream_set_conf(struct upstream *up, const struct conf *c, struct upstream_tls *tls);
/* Requests in work are dropped without a callback. Takes NULL, clears the pointer. */
void upstream_free(struct upstream **up);

/* http_peer_start at the server that is picked. */
struct http_peer_req *upstream_start(struct upstream *up, const struct http_peer_req_opts *o, const struct http_peer_cb *cb, void *arg);
unsigned upstream_count(const struct upstream *up);
void upstream_state(const struct upstream *up, unsigned i, struct upstream_state *out);

#endif
