/*
 * listen: the sockets that clients connect to, as proxy.listen and proxy.tls-listen name them: inherited, or bound by us, at the start
 * only; and what the connections that are accepted there get, from a configuration to the next: limits, times, certificates.
 */
#ifndef PROXY_LISTEN_H
#define PROXY_LISTEN_H

#include <stdbool.h>

#include "base/conf.h"
#include "base/err.h"
#include "base/str.h"
#include "io/http_server.h"

/* What proxy.certificates give; NULL, and OK, without proxy.tls-listen. INVAL: OpenSSL takes one of them not. */
enum err listen_tls(const struct conf *c, struct tls_server **tls, struct errbuf *eb) ERR_MUST_CHECK;
/* Connections to come get what c says, and *tls, which is taken over. Those that are there keep their certificates. */
void listen_use(struct http_server *http, const struct conf *c, struct tls_server **tls);
/* After listen_use. *inherited: somebody else holds them open too, and may give them to the next process. ready: their addresses are appended.
 * INVAL: a mistake of the configuration or of whoever passes the sockets. */
enum err listen_start(struct http_server *http, const struct conf *c, bool *inherited, struct str *ready, struct errbuf *eb) ERR_MUST_CHECK;

#endif
