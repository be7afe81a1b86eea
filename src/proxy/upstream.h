/* upstream: the application's server as a peer of HTTP (io/http_peer.h), by the options upstream.*. */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include "base/conf.h"
#include "io/http_peer.h"

/* Who the upstream must be, by upstream.tls and its like; NULL, and OK, without TLS. INVAL: a file without certificates. */
enum err upstream_tls(struct tls_client **tls, const struct conf *c, struct errbuf *eb) ERR_MUST_CHECK;
/* The address is resolved now (SYNTAX, CONNECT); INVAL as above. */
enum err upstream_new(struct http_peer **peer, struct loop *l, const struct conf *c, struct errbuf *eb) ERR_MUST_CHECK;
/* New timeouts and pool size, and *tls, which is taken over. */
void upstream_set_conf(struct http_peer *peer, const struct conf *c, struct tls_client **tls);

#endif
