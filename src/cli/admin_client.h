/*
 * admin_client: one request to the proxy's admin listener. Blocks, with a time limit.
 */
#ifndef CLI_ADMIN_CLIENT_H
#define CLI_ADMIN_CLIENT_H

#include "base/conf.h"
#include "base/err.h"
#include "base/str.h"

/* status and body of the answer; CONNECT if no proxy listens there, TIMEOUT, PROTO. */
enum err admin_client(const struct conf *c, const char *method, const char *path, int *status, struct str *body, struct errbuf *eb) ERR_MUST_CHECK;

#endif
