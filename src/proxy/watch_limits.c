/* The kernel's limits for inotify, and what a tree wants of them. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "proxy/watch.h"

/* Room to grow, in what is advised. */
#define GROWTH 2

static uint64_t
limit(const char *folder, const char *name)
{
	char path[128], text[32] = "";
	uint64_t n = 0;
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/%s/%s", folder, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
		len--;
	return len > 0 && str_to_u64(text, (size_t)len, &n) ? n : 0;
}

void
watch_limits(struct watch_limits *lim)
{
	uint64_t user = limit("user", "max_inotify_watches");

	lim->watches = limit("fs/inotify", "max_user_watches");
	lim->watches_name = "fs.inotify.max_user_watches";
	/* A container's user namespace may have a tighter one of its own. */
	if (user != 0 && user < lim->watches) {
		lim->watches = user;
		lim->watches_name = "user.max_inotify_watches";
	}
	lim->events = limit("fs/inotify", "max_queued_events");
	lim->instances = limit("fs/inotify", "max_user_instances");
}

/* The limit is the user's: other programs of the same user take from it too. */
void
watch_limits_text(const struct watch_limits *lim, uint64_t dirs, bool more, char *out, size_t cap)
{
	*out = '\0';
	if (lim->watches == 0 || dirs + dirs / 10 <= lim->watches)
		return;
	snprintf(out, cap, "%s%llu directories, but %s = %llu: sysctl -w %s=%llu", more ? "more than " : "", (unsigned long long)dirs,
	    lim->watches_name, (unsigned long long)lim->watches, lim->watches_name, (unsigned long long)(dirs * GROWTH));
}

struct level {
	DIR *dir;
	struct level *up;
};

bool
watch_count_dirs(struct local *l, uint64_t max_ms, uint64_t *n)
{
	uint64_t until = clock_mono_ms() + max_ms;
	struct level *lv = NULL;
	const struct dirent *e;
	int fd = openat(local_root_fd(l), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool all = true;

	*n = 0;
	for (;;) {
		if (fd >= 0) {
			struct level *down = mem_zalloc(sizeof(*down));

			down->dir = fdopendir(fd);
			down->up = lv;
			lv = down;
			++*n;
		}
		fd = -1;
		if (lv == NULL)
			return all;
		e = all && lv->dir != NULL ? readdir(lv->dir) : NULL;
		if (e == NULL) {
			struct level *up = lv->up;

			if (lv->dir != NULL)
				closedir(lv->dir);
			mem_free(lv);
			lv = up;
		} else if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && (e->d_type == DT_DIR || e->d_type == DT_UNKNOWN)) {
			fd = openat(dirfd(lv->dir), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		}
		all = all && clock_mono_ms() < until;
	}
}
