/*
 * addr: "host:port", "[v6]:port" or "unix:/path" as a socket address. Numeric hosts and "localhost" are resolved at once;
 * other names with getaddrinfo (blocking: at start and reload only).
 */
#ifndef IO_ADDR_H
#define IO_ADDR_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"

struct addr {
	union {
		struct sockaddr sa;
		struct sockaddr_storage ss;
		struct sockaddr_un un;
	};
	socklen_t len;
};

enum err addr_parse(struct addr *a, const char *text, struct errbuf *eb) ERR_MUST_CHECK;
/* Is the host a name that getaddrinfo must be asked for? */
bool addr_is_name(const char *text);
/* As addr_parse, but all addresses that the name has, max at most (> 0), *n of them. Blocks as long as the resolver does: for the pool. */
enum err addr_resolve(struct addr *v, unsigned max, unsigned *n, const char *text, struct errbuf *eb) ERR_MUST_CHECK;
/* "127.0.0.1:8080" or "unix:/path". */
void addr_text(const struct addr *a, char out[128]);
bool addr_is_loopback(const struct addr *a);	/* Unix sockets too */
/* A listening, non-blocking, close-on-exec socket. A stale Unix socket nobody listens on is replaced; mode for Unix sockets. */
enum err addr_listen(const struct addr *a, int backlog, unsigned mode, int *fd, struct errbuf *eb) ERR_MUST_CHECK;
/* A non-blocking connect was begun; *fd is to be watched for writing, then addr_connect_result. */
enum err addr_connect(const struct addr *a, int *fd, struct errbuf *eb) ERR_MUST_CHECK;
enum err addr_connect_result(int fd, struct errbuf *eb) ERR_MUST_CHECK;

#endif
