/* child: what a test starts does not outlive it. */
#include "child.h"
#include "unit.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

static void
test_ends_with_its_parent(void **state)
{
	const char *const argv[] = { "sleep", "1000", NULL };
	struct pollfd said = { .events = POLLIN };
	int fds[2];
	pid_t parent;
	char byte;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	parent = fork();
	assert_true(parent >= 0);
	if (parent == 0) {
		alarm(60);
		child_start(argv, NULL, fds[1]);
		if (write(fds[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	close(fds[1]);
	said.fd = fds[0];
	assert_int_equal(read(fds[0], &byte, 1), 1);
	/* Both hold the pipe's other end. */
	assert_int_equal(poll(&said, 1, 0), 0);
	child_kill(parent);
	assert_int_equal(poll(&said, 1, 20000), 1);
	assert_int_equal(read(fds[0], &byte, 1), 0);
	close(fds[0]);
}

static void
test_kill(void **state)
{
	const char *const argv[] = { "sleep", "1000", NULL };
	pid_t pid = child_start(argv, "/", -1);

	(void)state;
	child_kill(pid);
	assert_int_equal(kill(pid, 0), -1);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends_with_its_parent),
		cmocka_unit_test(test_kill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
