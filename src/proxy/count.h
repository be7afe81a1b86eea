/*
 * count: the metrics of every request: what was done with it, who answered, how it ended, how long it took. Loop thread only.
 */
#ifndef PROXY_COUNT_H
#define PROXY_COUNT_H

#include <stdbool.h>
#include <stdint.h>

struct request;

/* A request is over. ok: its whole answer went out. us: the time that it took. */
void count_request(const struct request *r, bool ok, uint64_t us);
/* A malformed head was answered with status. */
void count_malformed(int status);

#endif
