/*
 * network: lists of networks as the configuration has them: "10.0.0.0/8", "192.0.2.7", "fd00::/8", and "unix:" for every Unix
 * socket. Pure, thread safe.
 */
#ifndef BASE_NETWORK_H
#define BASE_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct network {
	int family;		/* AF_UNIX: every Unix socket */
	uint8_t addr[16];
	unsigned bits;
};

/* False: that is no network. */
bool network_parse(const char *text, struct network *n);
/* Does one of them hold the address of family AF_INET (4 bytes) or AF_INET6 (16)? */
bool network_holds(const struct network *v, size_t n, int family, const void *addr);
/* Does one of them hold the peer: an address without port, or "unix:"? What is neither is in none. */
bool network_has(const struct network *v, size_t n, const char *peer);

#endif
