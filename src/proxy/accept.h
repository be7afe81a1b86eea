/* accept: which content codings a client takes (RFC 9110 12.5.3). Pure, thread safe. */
#ifndef PROXY_ACCEPT_H
#define PROXY_ACCEPT_H

#include <stddef.h>

/* Codings that a sibling of a file may be in. */
enum accept_coding { ACCEPT_BR, ACCEPT_GZIP, ACCEPT_CODINGS };
const char *accept_coding_name(enum accept_coding c);
/* The end of the sibling's name. */
const char *accept_coding_suffix(enum accept_coding c);

/* accept: the values of Accept-Encoding, joined by commas. Of the n offered codings, best first, those that the client takes and does
 * not like less than the bytes as they are, best for it first; returns how many. */
unsigned accept_choose(const char *accept, size_t len, const enum accept_coding *offered, unsigned n, enum accept_coding chosen[ACCEPT_CODINGS]);

#endif
