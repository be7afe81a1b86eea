/* listen: the sockets that clients connect to, as proxy.listen names them: inherited, or bound by us. At the start only. */
#ifndef PROXY_LISTEN_H
#define PROXY_LISTEN_H

#include <stdbool.h>

#include "base/conf.h"
#include "base/err.h"
#include "base/str.h"
#include "io/http_server.h"

/* *inherited: somebody else holds them open too, and may give them to the next process. ready: their addresses are appended.
 * INVAL: a mistake of the configuration or of whoever passes the sockets. */
enum err listen_start(struct http_server *http, const struct conf *c, bool *inherited, struct str *ready, struct errbuf *eb) ERR_MUST_CHECK;

#endif
