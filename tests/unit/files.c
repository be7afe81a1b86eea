#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void
file_write(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(close(fd), 0);
}

bool
file_is(const char *path, const char *text)
{
	char buf[64];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return text[0] == '\0' && errno == ENOENT;
	n = read(fd, buf, sizeof buf);
	assert_int_equal(close(fd), 0);
	return text[0] != '\0' && n == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)n) == 0;
}

bool
folder_has(const char *path, const char *prefix)
{
	DIR *d = opendir(path);
	struct dirent *e;
	bool found = false;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL)
		found = found || strncmp(e->d_name, prefix, strlen(prefix)) == 0;
	assert_int_equal(closedir(d), 0);
	return found;
}
