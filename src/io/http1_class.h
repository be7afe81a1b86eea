/*
 * http1_class: what a byte may be in an HTTP/1.1 message, as one table. For http1_*.c only.
 */
#ifndef IO_HTTP1_CLASS_H
#define IO_HTTP1_CLASS_H

#include <stdbool.h>

enum http1_class {
	C_TOKEN = 1,	/* RFC 9110 5.6.2 tchar */
	C_TARGET = 2,	/* visible ASCII but '#' (RFC 9112 3.2; browsers send more than RFC 3986 allows) */
	C_VALUE = 4,	/* RFC 9110 5.5: HTAB, SP, VCHAR, obs-text */
	C_HOST = 8	/* RFC 3986 3.2.2 reg-name, a port's colon and '%' included */
};
extern const unsigned char http1_classes[256];

static inline bool
http1_is(char c, enum http1_class k)
{
	return http1_classes[(unsigned char)c] & k;
}

#endif
