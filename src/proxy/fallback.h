/* fallback: what is told of a read that the preferred side could not serve. Part of a request; loop thread only. */
#ifndef PROXY_FALLBACK_H
#define PROXY_FALLBACK_H

#include "base/err.h"
#include "proxy/request.h"
#include "store/local.h"

/* One side failed with why, and the other is asked. */
void fallback_count(struct request *r, enum err why);
/* The disk has served in R2's place: in a phase that should need none it is a violation, and Redis hears of it. */
void fallback_served(struct request *r, const struct local_stat *st);

#endif
