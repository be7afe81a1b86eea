#include "cli/admin_client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "io/addr.h"
#include "io/http1.h"

#define TIMEOUT_S 15
#define ANSWER_MAX (4 << 20)

static enum err
exchange(int fd, const struct str *req, struct str *answer, struct errbuf *eb)
{
	size_t off = 0;
	ssize_t n;

	while (off < req->len) {
		n = send(fd, req->p + off, req->len - off, MSG_NOSIGNAL);
		if (n <= 0)
			return err_set(eb, ERR_CLOSED, "the admin listener closed the connection");
		off += (size_t)n;
	}
	while (answer->len < ANSWER_MAX) {
		char *p = str_reserve(answer, 16384);

		n = recv(fd, p, 16384, 0);
		if (n == 0)
			return ERR_OK;
		if (n < 0)
			return err_set(eb, errno == EAGAIN ? ERR_TIMEOUT : ERR_CLOSED, "the admin listener did not answer: %s", strerror(errno));
		answer->len += (size_t)n;
		p[n] = '\0';
	}
	return err_set(eb, ERR_TOOBIG, "the admin listener's answer has no end");
}

static enum err
parse(const struct str *answer, int *status, struct str *body, struct errbuf *eb)
{
	static const struct http1_limits lim = {65536, 1024, 100};
	struct http1_head head;
	size_t scan = 0, used;
	enum http1_bad bad;

	if (http1_parse_response(&head, str_z(answer), answer->len, &lim, false, &scan, &used, &bad) != HTTP1_DONE)
		return err_set(eb, ERR_PROTO, "what listens at the admin address does not speak HTTP");
	*status = head.status;
	str_clear(body);
	str_add(body, answer->p + used, answer->len - used);
	return ERR_OK;
}

enum err
admin_client(const struct conf *c, const char *method, const char *path, int *status, struct str *body, struct errbuf *eb)
{
	struct timeval tv = {.tv_sec = TIMEOUT_S};
	struct str req = STR_INIT, answer = STR_INIT;
	struct addr a;
	enum err e;
	int fd;

	e = addr_parse(&a, c->admin_listen, eb);
	if (e != ERR_OK)
		return e;
	fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(eb, err_from_errno(errno), "socket: %s", strerror(errno));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	if (connect(fd, &a.sa, a.len) != 0) {
		close(fd);
		return err_set(eb, ERR_CONNECT, "%s: %s (is the proxy running?)", c->admin_listen, strerror(errno));
	}
	str_printf(&req, "%s %s HTTP/1.1\r\nHost: admin\r\nConnection: close\r\nContent-Length: 0\r\n", method, path);
	if (a.sa.sa_family != AF_UNIX)
		str_printf(&req, "Authorization: Bearer %s\r\n", c->admin_token);
	str_addz(&req, "\r\n");
	e = exchange(fd, &req, &answer, eb);
	if (e == ERR_OK)
		e = parse(&answer, status, body, eb);
	close(fd);
	str_fini(&req);
	str_fini(&answer);
	return e;
}
