/* upstream: the application's server as a peer of HTTP (io/http_peer.h), by the options upstream.*. */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include "base/conf.h"
#include "io/http_peer.h"

/* The address is resolved now (SYNTAX, CONNECT). */
enum err upstream_new(struct http_peer **peer, struct loop *l, const struct conf *c, struct errbuf *eb) ERR_MUST_CHECK;
/* New timeouts and pool size. */
void upstream_set_conf(struct http_peer *peer, const struct conf *c);

#endif
