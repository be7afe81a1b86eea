/*
 * proxyproto: the header that a balancer puts before a connection's first byte, the PROXY protocol's versions 1 (text) and 2
 * (binary). An incremental parser, as strict as the specification: one space between fields, numbers without leading zeros, known
 * commands and families, lengths that fit. Of the extensions behind the addresses only the structure is looked at.
 * Pure, no allocation.
 */
#ifndef IO_PROXYPROTO_H
#define IO_PROXYPROTO_H

#include <stddef.h>
#include <stdint.h>

#define PROXYPROTO_V1_MAX 107	/* bytes of a whole line with its CRLF */
#define PROXYPROTO_V2_MAX 4096	/* bytes behind the 16 of version 2; more is refused */

struct proxyproto {
	/* The result: AF_INET, AF_INET6, or AF_UNSPEC: the balancer speaks for itself (LOCAL), or does not know for whom (UNKNOWN,
	 * UNSPEC, a Unix socket of its own): the connection's own address stands. */
	int family;
	uint8_t addr[16];
	uint16_t port;

	/* Inside. */
	unsigned char buf[PROXYPROTO_V1_MAX];	/* the line; the fixed part and the addresses */
	unsigned n;		/* bytes taken */
	unsigned version;	/* 0: not known yet */
	unsigned total;		/* version 2: of the whole header */
	unsigned addrs;		/* version 2: of the addresses */
	unsigned tlv_n, tlv_left;	/* version 2: bytes of an extension's head, and of its value that are to come */
};

enum proxyproto_step { PROXYPROTO_MORE, PROXYPROTO_DONE, PROXYPROTO_BAD };

void proxyproto_init(struct proxyproto *x);
/* Takes bytes from p; *used of them belong to the header (with MORE: all), what follows is the connection's own. */
enum proxyproto_step proxyproto_feed(struct proxyproto *x, const void *p, size_t n, size_t *used);

#endif
