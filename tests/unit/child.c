#include "child.h"

#include "unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

pid_t
child_start(const char *const argv[], const char *folder, int out)
{
	pid_t parent = getpid(), pid = fork();
	int null;

	assert_true(pid >= 0);
	if (pid > 0)
		return pid;
	/* The parent may be dead already, and then nobody tells. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(127);
	null = open("/dev/null", O_RDWR);
	dup2(null, 0);
	dup2(out >= 0 ? out : null, 1);
	dup2(null, 2);
	if (folder == NULL || chdir(folder) == 0)
		execvp(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

void
child_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}
