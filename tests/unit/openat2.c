/*
 * openat2 for valgrind 3.19, which does not know the system call: scripts/valgrind preloads it. As r2shim calls it: below a directory,
 * through no symlink. Every other system call goes on to the C library's syscall.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NESTED_MAX 4096

long syscall(long number, ...);

/* Opens one component. A symlink is ELOOP, as RESOLVE_NO_SYMLINKS has it, but for O_PATH in the last place. */
static int
open_one(int dir, const char *name, int flags, mode_t mode, bool last)
{
	struct stat st;

	if (strcmp(name, "..") == 0) {
		errno = EXDEV;
		return -1;
	}
	if (!(last && (flags & O_PATH) != 0) && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode)) {
		errno = ELOOP;
		return -1;
	}
	return openat(dir, name, flags, mode);
}

static int
open_beneath(int dir, const char *path, const struct open_how *how)
{
	char copy[NESTED_MAX], *name = copy, *slash;
	size_t n = strlen(path);
	int at = dir, fd, saved;

	if (*path == '/') {
		errno = EXDEV;
		return -1;
	}
	if (n >= sizeof(copy)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(copy, path, n + 1);
	while ((slash = strchr(name, '/')) != NULL && slash[strspn(slash, "/")] != '\0') {
		*slash = '\0';
		fd = open_one(at, name, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0, false);
		saved = errno;
		if (at != dir)
			close(at);
		errno = saved;
		if (fd < 0)
			return -1;
		at = fd;
		name = slash + 1;
	}
	if (slash != NULL)
		*slash = '\0';
	fd = open_one(at, name, (int)how->flags | (slash != NULL ? O_DIRECTORY : 0), (mode_t)how->mode, true);
	saved = errno;
	if (at != dir)
		close(at);
	errno = saved;
	return fd;
}

long
syscall(long number, ...)
{
	static long (*next)(long, ...);
	long a[6];
	va_list ap;

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_openat2) {
		const char *path;
		const struct open_how *how;

		memcpy(&path, &a[1], sizeof(path));
		memcpy(&how, &a[2], sizeof(how));
		return open_beneath((int)a[0], path, how);
	}
	if (next == NULL)
		*(void **)&next = dlsym(RTLD_NEXT, "syscall");
	return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
