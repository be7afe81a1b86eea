/*
 * private: media that the application guards. Two ways lead to a file: the application's answer to the request names it (accel.h),
 * then ACCEL comes behind FORWARD; or the application was asked by AUTH (prefixes.read-auth). Either way READ gives the bytes.
 *
 * Part of a request (request.h). Loop thread only.
 */
#ifndef PROXY_PRIVATE_H
#define PROXY_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/request.h"

/* While the head of the application's answer is there: does it name a file, or what it may not? Then ACCEL has to follow. */
bool private_named(struct request *r, const struct http1_head *h);
/* ACCEL: bytes of the answer's body, which nobody reads. */
void private_data(struct request *r, size_t n);
/* ACCEL: the answer's end, whole or not. */
void private_done(struct request *r);
/* READ: Content-Type, Cache-Control and further lines of the file's answer. NULL: by its name; none; none. */
const char *private_type(const struct request *r);
const char *private_cache_control(const struct request *r);
const char *private_lines(const struct request *r);
void private_fini(struct request *r);

#endif
