/*
 * status: what the proxy says of itself: to the admin listener, and in its heartbeat to the other members. Pure reading.
 */
#ifndef PROXY_STATUS_H
#define PROXY_STATUS_H

#include <stdbool.h>

#include "base/str.h"

struct server;

/* What is missing or failing, one short text each, with ", " between them. False: nothing. */
bool status_degraded(const struct server *sv, struct str *out);
/* Does it serve, with all that the phase needs? Else why, appended. */
bool status_ready(const struct server *sv, struct str *why);
/* The status object and the heartbeat, JSON text. */
void status_json(const struct server *sv, struct str *out);
void status_heartbeat(const struct server *sv, struct str *out);

#endif
