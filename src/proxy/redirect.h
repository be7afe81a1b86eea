/*
 * redirect: prefixes.delivery: a reader is sent to R2, by a signed URL or to the bucket's public domain, in place of bytes through us.
 * Only for a key that the phase reads from R2, that is marked nowhere, and that R2 has, as it has just said (HEAD): whatever else
 * there is to a read, the other side's file, a newer write, an absence, is seen to by us. Part of a request; loop thread only.
 */
#ifndef PROXY_REDIRECT_H
#define PROXY_REDIRECT_H

#include <stdbool.h>

#include "proxy/request.h"

/* By what is known before R2 is asked. */
bool redirect_wanted(const struct request *r, const struct route_marks *m);
/* R2 has it: the answer. */
enum request_step redirect_answer(struct request *r);

#endif
