/*
 * admin: the admin listener (Unix socket, 0600, by default): GET /health (the process lives), /ready (it serves, and nothing
 * that it needs is missing), /metrics (Prometheus), /status (JSON), POST /reload. TCP only on loopback and with a token.
 * Never reachable through the public listener.
 */
#ifndef PROXY_ADMIN_H
#define PROXY_ADMIN_H

#include "base/conf.h"
#include "base/str.h"
#include "io/loop.h"

struct admin;
struct admin_cb {
	/* Is the proxy ready? Else why, appended. */
	bool (*ready)(void *arg, struct str *why);
	/* The status object, JSON text. */
	void (*status)(void *arg, struct str *json);
	/* Reload the configuration now; false: errors appended, the old one stays. */
	bool (*reload)(void *arg, struct str *errors);
};
enum err admin_new(struct admin **a, struct loop *l, const struct conf *c, const struct admin_cb *cb, void *arg, struct errbuf *eb) ERR_MUST_CHECK;
void admin_free(struct admin **a);

#endif
