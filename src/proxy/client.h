/*
 * client: the glue between http_server's connections and requests: every event of a connection goes to the request in work.
 * Malformed heads never become a request: http_server answers them; here they are counted and logged.
 */
#ifndef PROXY_CLIENT_H
#define PROXY_CLIENT_H

#include "base/conf.h"
#include "io/http_server.h"

struct server;

/* The callbacks for http_server_new; its arg is the struct server. */
extern const struct http_server_cb client_callbacks;
/* The limits and times of a snapshot. */
void client_opts(const struct conf *c, struct http_server_opts *o);

#endif
