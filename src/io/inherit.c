#include "io/inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"

enum { FIRST = 3 };

/* A number in the environment, taken out of it; 0: not there, or none. */
static uint64_t
take_number(const char *name)
{
	const char *text = getenv(name);
	uint64_t v = 0;

	if (text != NULL && !str_to_u64(text, strlen(text), &v))
		v = 0;
	(void)unsetenv(name);
	return v;
}

static bool
has(int fd, int option, int want)
{
	int v = 0;
	socklen_t n = sizeof v;

	return getsockopt(fd, SOL_SOCKET, option, &v, &n) == 0 && v == want;
}

enum err
inherit_open(struct inherit *in, struct errbuf *eb)
{
	uint64_t pid = take_number("LISTEN_PID"), n = take_number("LISTEN_FDS");
	unsigned i;

	memset(in, 0, sizeof *in);
	(void)unsetenv("LISTEN_FDNAMES");
	if (pid != (uint64_t)getpid() || n == 0)
		return ERR_OK;
	if (n > INHERIT_MAX)
		return err_set(eb, ERR_INVAL, "LISTEN_FDS: more than %d sockets", INHERIT_MAX);
	for (i = 0; i < n; i++) {
		int fd = FIRST + (int)i;

		if (!has(fd, SO_TYPE, SOCK_STREAM) || !has(fd, SO_ACCEPTCONN, 1))
			return err_set(eb, ERR_INVAL, "LISTEN_FDS: descriptor %d is no listening stream socket", fd);
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
			return err_set(eb, err_from_errno(errno), "LISTEN_FDS: descriptor %d: %s", fd, strerror(errno));
	}
	in->n = (unsigned)n;
	return ERR_OK;
}

static void
name_of(unsigned i, char text[128])
{
	struct addr a;

	memset(&a, 0, sizeof a);
	a.len = sizeof a.ss;
	if (getsockname(FIRST + (int)i, &a.sa, &a.len) == 0)
		addr_text(&a, text);
	else
		text[0] = '\0';
}

int
inherit_take(struct inherit *in, const struct addr *a)
{
	char want[128], have[128];
	unsigned i;

	addr_text(a, want);
	for (i = 0; i < in->n; i++) {
		name_of(i, have);
		if (in->taken[i] || strcmp(want, have) != 0)
			continue;
		in->taken[i] = true;
		return FIRST + (int)i;
	}
	return -1;
}

bool
inherit_left(const struct inherit *in, char text[128])
{
	unsigned i;

	for (i = 0; i < in->n && in->taken[i]; i++)
		;
	if (i == in->n)
		return false;
	name_of(i, text);
	return true;
}
