/*
 * accesslog: one line a request, by proxy.access-log-format: the combined format and behind it phase, source (self, upstream, disk, r2)
 * and seconds; or one JSON object. Lines are gathered and written once a turn of the loop. Reopened on SIGHUP and SIGUSR1, for log rotation. A query that holds a
 * signature is not logged. Loop thread only.
 */
#ifndef PROXY_ACCESSLOG_H
#define PROXY_ACCESSLOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "io/loop.h"

struct accesslog;
struct request;
struct snapshot;

enum err accesslog_open(struct accesslog **l, struct loop *loop, const char *path, struct errbuf *eb) ERR_MUST_CHECK;
/* Opens path again; if that fails the old file stays in use, and the log says so. */
void accesslog_reopen(struct accesslog *l);
void accesslog_close(struct accesslog **l);
/* ok: the whole answer went out. us: time that it took. */
void accesslog_add(struct accesslog *l, const struct request *r, bool ok, uint64_t us);
/* A malformed head, answered with status: its line is not repeated. */
void accesslog_add_bad(struct accesslog *l, const struct snapshot *snap, const char *peer, int status);

#endif
