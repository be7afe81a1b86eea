#include "io/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"

static enum err
parse_unix(struct addr *a, const char *path, struct errbuf *eb)
{
	size_t n = strlen(path);

	if (n == 0)
		return err_set(eb, ERR_SYNTAX, "unix: without a path");
	if (n >= sizeof a->un.sun_path)
		return err_set(eb, ERR_SYNTAX, "%s: longer than the %zu bytes a socket's path may have", path,
		    sizeof a->un.sun_path - 1);
	a->un.sun_family = AF_UNIX;
	memcpy(a->un.sun_path, path, n + 1);
	a->len = sizeof a->un;
	return ERR_OK;
}

static bool
set_v4(struct addr *a, const char *host, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};

	if (inet_pton(AF_INET, host, &in.sin_addr) != 1)
		return false;
	memcpy(&a->ss, &in, sizeof in);
	a->len = sizeof in;
	return true;
}

static bool
set_v6(struct addr *a, const char *host, uint16_t port)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	if (inet_pton(AF_INET6, host, &in6.sin6_addr) != 1)
		return false;
	memcpy(&a->ss, &in6, sizeof in6);
	a->len = sizeof in6;
	return true;
}

/* "host:port" taken apart; v6: the host stood in brackets. */
struct place {
	char host[256];
	uint16_t port;
	bool v6;
};

static enum err
split(struct place *p, const char *text, struct errbuf *eb)
{
	const char *host = text + (text[0] == '[' ? 1 : 0), *end, *colon;
	uint64_t port;

	p->v6 = text[0] == '[';
	end = strchr(host, p->v6 ? ']' : ':');
	colon = end == NULL ? NULL : end + (p->v6 ? 1 : 0);
	if (colon == NULL || *colon != ':' || end == host)
		return err_set(eb, ERR_SYNTAX, "%s: not host:port, [v6]:port or unix:/path", text);
	/* str_to_u64 refuses a second colon, so a v6 address without brackets ends here. */
	if (!str_to_u64(colon + 1, strlen(colon + 1), &port) || port > 65535)
		return err_set(eb, ERR_SYNTAX, "%s: the port is not a number from 0 to 65535%s", text,
		    strchr(colon + 1, ':') != NULL ? " (a v6 address needs [brackets])" : "");
	if ((size_t)(end - host) >= sizeof p->host)
		return err_set(eb, ERR_SYNTAX, "%.40s...: host name too long", text);
	memcpy(p->host, host, (size_t)(end - host));
	p->host[end - host] = '\0';
	p->port = (uint16_t)port;
	return ERR_OK;
}

/* True if nobody has to be asked. */
static bool
set_numeric(struct addr *a, const struct place *p)
{
	return p->v6 ? set_v6(a, p->host, p->port) : set_v4(a, strcmp(p->host, "localhost") == 0 ? "127.0.0.1" : p->host, p->port);
}

bool
addr_is_name(const char *text)
{
	struct errbuf eb;
	struct place p;
	struct addr a;

	return strncmp(text, "unix:", 5) != 0 && split(&p, text, &eb) == ERR_OK && !p.v6 && !set_numeric(&a, &p);
}

static enum err
ask(struct addr *v, unsigned max, unsigned *n, const struct place *p, struct errbuf *eb)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	struct addrinfo *first = NULL, *ai;
	char service[8];
	int rc;

	snprintf(service, sizeof service, "%u", (unsigned)p->port);
	rc = getaddrinfo(p->host, service, &hints, &first);
	if (rc != 0)
		return err_set(eb, ERR_CONNECT, "%s: %s", p->host, gai_strerror(rc));
	*n = 0;
	for (ai = first; ai != NULL && *n < max; ai = ai->ai_next) {
		struct addr *a = &v[(*n)++];

		memset(a, 0, sizeof *a);
		memcpy(&a->ss, ai->ai_addr, ai->ai_addrlen);
		a->len = ai->ai_addrlen;
	}
	freeaddrinfo(first);
	return ERR_OK;
}

enum err
addr_resolve(struct addr *v, unsigned max, unsigned *n, const char *text, struct errbuf *eb)
{
	struct place p;
	enum err e;

	memset(v, 0, sizeof *v);
	*n = 1;
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(v, text + 5, eb);
	e = split(&p, text, eb);
	if (e != ERR_OK || set_numeric(v, &p))
		return e;
	return p.v6 ? err_set(eb, ERR_SYNTAX, "%s: not a v6 address", text) : ask(v, max, n, &p, eb);
}

enum err
addr_parse(struct addr *a, const char *text, struct errbuf *eb)
{
	unsigned n;

	return addr_resolve(a, 1, &n, text, eb);
}

void
addr_text(const struct addr *a, char out[128])
{
	char host[INET6_ADDRSTRLEN] = "";

	if (a->sa.sa_family == AF_UNIX) {
		snprintf(out, 128, "unix:%s", a->un.sun_path);
	} else if (a->sa.sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, &a->ss, sizeof in);
		inet_ntop(AF_INET, &in.sin_addr, host, sizeof host);
		snprintf(out, 128, "%s:%u", host, (unsigned)ntohs(in.sin_port));
	} else if (a->sa.sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, &a->ss, sizeof in6);
		inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof host);
		snprintf(out, 128, "[%s]:%u", host, (unsigned)ntohs(in6.sin6_port));
	} else {
		snprintf(out, 128, "?");
	}
}

bool
addr_is_loopback(const struct addr *a)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (a->sa.sa_family == AF_UNIX)
		return true;
	if (a->sa.sa_family == AF_INET) {
		memcpy(&in, &a->ss, sizeof in);
		return ntohl(in.sin_addr.s_addr) >> 24 == 127;
	}
	if (a->sa.sa_family != AF_INET6)
		return false;
	memcpy(&in6, &a->ss, sizeof in6);
	return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr) ||
	       (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr) && in6.sin6_addr.s6_addr[12] == 127);
}

/* Removes a Unix socket that no process listens on; whatever else stands there stays. */
static enum err
remove_stale(const struct addr *a, struct errbuf *eb)
{
	const char *path = a->un.sun_path;
	struct stat st;
	int fd, rc, e;

	if (lstat(path, &st) != 0)
		return errno == ENOENT ? ERR_OK : err_set(eb, err_from_errno(errno), "%s: %s", path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return err_set(eb, ERR_EXISTS, "%s: exists and is not a socket", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(eb, err_from_errno(errno), "socket: %s", strerror(errno));
	rc = connect(fd, &a->sa, a->len);
	e = errno;
	close(fd);
	if (rc == 0 || e != ECONNREFUSED)
		return err_set(eb, ERR_EXISTS, "%s: another process listens there", path);
	if (unlink(path) != 0 && errno != ENOENT)
		return err_set(eb, err_from_errno(errno), "%s: %s", path, strerror(errno));
	return ERR_OK;
}

static enum err
bind_listen(const struct addr *a, int fd, int backlog, unsigned mode)
{
	int one = 1;

	if (a->sa.sa_family != AF_UNIX && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0)
		return ERR_IO;
	if (a->sa.sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) != 0)
		return ERR_IO;
	if (bind(fd, &a->sa, a->len) != 0)
		return errno == EADDRINUSE ? ERR_EXISTS : err_from_errno(errno);
	/* Nobody can connect before listen, so the mode holds from the first moment. */
	if (a->sa.sa_family == AF_UNIX && chmod(a->un.sun_path, (mode_t)mode) != 0)
		return err_from_errno(errno);
	if (listen(fd, backlog) != 0)
		return errno == EADDRINUSE ? ERR_EXISTS : err_from_errno(errno);
	return ERR_OK;
}

enum err
addr_listen(const struct addr *a, int backlog, unsigned mode, int *fdp, struct errbuf *eb)
{
	char text[128];
	enum err e;
	int fd;

	*fdp = -1;
	addr_text(a, text);
	if (a->sa.sa_family == AF_UNIX && (e = remove_stale(a, eb)) != ERR_OK)
		return e;
	fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(eb, err_from_errno(errno), "%s: socket: %s", text, strerror(errno));
	e = bind_listen(a, fd, backlog, mode);
	if (e != ERR_OK) {
		err_set(eb, e, "%s: cannot listen: %s", text, strerror(errno));
		close(fd);
		return e;
	}
	*fdp = fd;
	return ERR_OK;
}

enum err
addr_connect(const struct addr *a, int *fdp, struct errbuf *eb)
{
	char text[128];
	int fd, one = 1;

	*fdp = -1;
	addr_text(a, text);
	fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(eb, err_from_errno(errno), "%s: socket: %s", text, strerror(errno));
	if (a->sa.sa_family != AF_UNIX)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	/* A Unix socket's full backlog gives EAGAIN: there is nothing to wait on then. */
	if (connect(fd, &a->sa, a->len) != 0 && errno != EINPROGRESS) {
		err_set(eb, ERR_CONNECT, "%s: %s", text, strerror(errno));
		close(fd);
		return ERR_CONNECT;
	}
	*fdp = fd;
	return ERR_OK;
}

enum err
addr_connect_result(int fd, struct errbuf *eb)
{
	int e = 0;
	socklen_t n = sizeof e;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) != 0)
		e = errno;
	if (e == 0)
		return ERR_OK;
	return err_set(eb, e == ETIMEDOUT ? ERR_TIMEOUT : ERR_CONNECT, "%s", strerror(e));
}
