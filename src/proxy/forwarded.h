/*
 * forwarded: the header Forwarded (RFC 7239), strictly: what is not by its grammar names nobody. Pure, thread safe.
 */
#ifndef PROXY_FORWARDED_H
#define PROXY_FORWARDED_H

#include <stdbool.h>

#include "base/str.h"
#include "io/http1.h"

/* One hop as an element of the list: who it came from (an address, or "unix:"), the Host it asked for (p NULL: none), and how. */
void forwarded_add(struct str *out, const char *peer, struct http1_slice host, const char *proto);

/* Takes the first element off a header's value. False: the value is at its end. *addr: the address of its for=, without brackets
 * and port, p NULL if it has none (unknown, an obfuscated name, no for= at all) or the rest of the value is malformed: *rest is
 * then at its end. */
bool forwarded_next(struct http1_slice *rest, struct http1_slice *addr);

#endif
