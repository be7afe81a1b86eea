/* Addresses as text, and sockets made of them. */
#include "unit.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <fcntl.h>

#include "io/addr.h"
#include "io/inherit.h"

static void
test_parse(void **state)
{
	static const struct {
		const char *text, *again; /* NULL: refused */
		bool loopback;
	} rows[] = {
	    {"127.0.0.1:8080", "127.0.0.1:8080", true},
	    {"127.8.9.1:1", "127.8.9.1:1", true},
	    {"localhost:80", "127.0.0.1:80", true},
	    {"0.0.0.0:0", "0.0.0.0:0", false},
	    {"10.1.2.3:65535", "10.1.2.3:65535", false},
	    {"[::1]:443", "[::1]:443", true},
	    {"[2001:db8::1]:443", "[2001:db8::1]:443", false},
	    {"[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:1", true},
	    {"[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.1]:1", false},
	    {"[::]:80", "[::]:80", false},
	    {"unix:/run/x.sock", "unix:/run/x.sock", true},
	    {"unix:x", "unix:x", true},
	    {"", NULL, false},
	    {"127.0.0.1", NULL, false},
	    {"127.0.0.1:", NULL, false},
	    {"127.0.0.1:65536", NULL, false},
	    {"127.0.0.1:-1", NULL, false},
	    {"127.0.0.1:+1", NULL, false},
	    {"127.0.0.1: 1", NULL, false},
	    {"127.0.0.1:1x", NULL, false},
	    {":80", NULL, false},
	    {"80", NULL, false},
	    {"::1:80", NULL, false},
	    {"[::1]", NULL, false},
	    {"[::1]80", NULL, false},
	    {"[::1:80", NULL, false},
	    {"[]:80", NULL, false},
	    {"[127.0.0.1]:80", NULL, false},
	    {"unix:", NULL, false},
	};
	struct errbuf eb;
	struct addr a;
	char text[128], longer[300];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		enum err e = addr_parse(&a, rows[i].text, &eb);

		if ((e == ERR_OK) != (rows[i].again != NULL))
			fail_msg("%s: %s", rows[i].text, err_name(e));
		if (e != ERR_OK) {
			assert_int_equal(e, ERR_SYNTAX);
			assert_true(strlen(eb.text) > 0);
			continue;
		}
		addr_text(&a, text);
		assert_string_equal(text, rows[i].again);
		assert_int_equal(addr_is_loopback(&a), rows[i].loopback);
	}
	memset(longer, 'a', sizeof longer);
	memcpy(longer, "unix:/", 6);
	longer[5 + 107] = '\0';
	assert_int_equal(addr_parse(&a, longer, &eb), ERR_OK);
	addr_text(&a, text);
	assert_string_equal(text, longer);
	longer[5 + 107] = 'a';
	longer[5 + 108] = '\0';
	assert_int_equal(addr_parse(&a, longer, &eb), ERR_SYNTAX);
	memset(longer, 'a', sizeof longer);
	memcpy(longer + 290, ":80", 4);
	assert_int_equal(addr_parse(&a, longer, &eb), ERR_SYNTAX);
}

static enum err
connected(const struct addr *a, int *fd)
{
	struct errbuf eb;
	enum err e = addr_connect(a, fd, &eb);
	struct pollfd pfd = {.fd = *fd, .events = POLLOUT};

	if (e != ERR_OK)
		return e;
	assert_int_equal(fcntl(*fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_int_equal(fcntl(*fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(poll(&pfd, 1, 10000), 1);
	return addr_connect_result(*fd, &eb);
}

static void
test_tcp(void **state)
{
	struct addr a, b;
	struct errbuf eb;
	int lfd, fd, again;

	(void)state;
	assert_int_equal(addr_parse(&a, "127.0.0.1:0", &eb), ERR_OK);
	assert_int_equal(addr_listen(&a, 5, 0, &lfd, &eb), ERR_OK);
	assert_int_equal(fcntl(lfd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_int_equal(fcntl(lfd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	b = a;
	b.len = sizeof b.ss;
	assert_int_equal(getsockname(lfd, &b.sa, &b.len), 0);
	assert_int_equal(connected(&b, &fd), ERR_OK);
	close(fd);
	assert_int_equal(addr_listen(&b, 5, 0, &again, &eb), ERR_EXISTS);
	assert_int_equal(again, -1);
	assert_non_null(strstr(eb.text, "127.0.0.1:"));
	close(lfd);
	assert_int_equal(connected(&b, &fd), ERR_CONNECT);
	if (fd >= 0)
		close(fd);
}

static void
test_unix(void **state)
{
	char folder[] = "/tmp/test_addr.XXXXXX", text[128];
	struct addr a;
	struct errbuf eb;
	struct stat st;
	int lfd, fd, again;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(text, sizeof text, "unix:%s/s", folder);
	assert_int_equal(addr_parse(&a, text, &eb), ERR_OK);
	assert_int_equal(connected(&a, &fd), ERR_CONNECT);
	assert_int_equal(addr_listen(&a, 5, 0660, &lfd, &eb), ERR_OK);
	assert_int_equal(stat(text + 5, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(connected(&a, &fd), ERR_OK);
	close(fd);
	/* Somebody listens. */
	assert_int_equal(addr_listen(&a, 5, 0660, &again, &eb), ERR_EXISTS);
	assert_int_equal(connected(&a, &fd), ERR_OK);
	close(fd);
	/* Left over by a process that is gone. */
	close(lfd);
	assert_int_equal(connected(&a, &fd), ERR_CONNECT);
	assert_int_equal(addr_listen(&a, 5, 0600, &lfd, &eb), ERR_OK);
	assert_int_equal(stat(text + 5, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	close(lfd);
	unlink(text + 5);
	/* Not ours to remove. */
	fd = open(text + 5, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(addr_listen(&a, 5, 0600, &lfd, &eb), ERR_EXISTS);
	assert_int_equal(access(text + 5, F_OK), 0);
	unlink(text + 5);
	rmdir(folder);
	assert_int_not_equal(addr_listen(&a, 5, 0600, &lfd, &eb), ERR_OK);
}

static void
announce(long pid, const char *n)
{
	char text[24];

	snprintf(text, sizeof text, "%ld", pid);
	setenv("LISTEN_PID", text, 1);
	setenv("LISTEN_FDS", n, 1);
}

/* sd_listen_fds(3): descriptors from 3 on. What stands there in the test's own process gives way for a moment. */
static void
test_inherited(void **state)
{
	int was = dup(3), fd, other;
	struct inherit in;
	struct errbuf eb;
	struct addr a, b;
	char left[128], text[128];

	(void)state;
	assert_int_equal(addr_parse(&a, "127.0.0.1:0", &eb), ERR_OK);
	assert_int_equal(addr_listen(&a, 5, 0, &fd, &eb), ERR_OK);
	assert_int_equal(getsockname(fd, &a.sa, &a.len), 0);
	assert_int_equal(addr_parse(&b, "127.0.0.1:0", &eb), ERR_OK);
	assert_int_equal(addr_listen(&b, 5, 0, &other, &eb), ERR_OK);
	assert_int_equal(getsockname(other, &b.sa, &b.len), 0);
	assert_int_equal(dup2(fd, 3), 3);

	announce(getpid() + 1L, "1");	/* our parent's, perhaps */
	assert_int_equal(inherit_open(&in, &eb), ERR_OK);
	assert_int_equal(in.n, 0);
	assert_null(getenv("LISTEN_FDS"));
	announce(getpid(), "1");
	assert_int_equal(inherit_open(&in, &eb), ERR_OK);
	assert_int_equal(in.n, 1);
	assert_null(getenv("LISTEN_PID"));
	assert_int_equal(inherit_take(&in, &b), -1);
	assert_true(inherit_left(&in, left));
	addr_text(&a, text);
	assert_string_equal(left, text);
	assert_int_equal(inherit_take(&in, &a), 3);
	assert_int_equal(fcntl(3, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(3, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_int_equal(inherit_take(&in, &a), -1);
	assert_false(inherit_left(&in, left));
	announce(getpid(), "65");
	assert_int_equal(inherit_open(&in, &eb), ERR_INVAL);
	assert_int_equal(dup2(0, 3), 3);	/* no socket */
	announce(getpid(), "1");
	assert_int_equal(inherit_open(&in, &eb), ERR_INVAL);
	close(3);
	announce(getpid(), "1");
	assert_int_equal(inherit_open(&in, &eb), ERR_INVAL);
	if (was >= 0) {
		assert_int_equal(dup2(was, 3), 3);
		close(was);
	}
	if (fd != 3)
		close(fd);
	close(other);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_parse), cmocka_unit_test(test_tcp), cmocka_unit_test(test_unix),
	    cmocka_unit_test(test_inherited)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
