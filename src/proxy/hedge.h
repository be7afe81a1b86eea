/*
 * hedge: r2.hedge-after: where both sides may answer, a read that R2 has not begun to answer by then is given by the disk, if that has
 * the file; R2's request is given up. Off unless set. Not for what R2 alone can decide (r2-primary and above), and neither a fallback
 * nor a violation: nothing was missing. Part of a request; loop thread only.
 */
#ifndef PROXY_HEDGE_H
#define PROXY_HEDGE_H

#include "proxy/request.h"

/* R2 is about to be asked. */
void hedge_start(struct request *r);
/* The read is over, or an answer has begun: nothing is to come any more. */
void hedge_stop(struct request *r);

#endif
