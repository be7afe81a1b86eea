/* local_list: a folder's names in order, a page at a time. See local.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/local_int.h"

/* The place of a name among those that are there, or where it would be. */
static size_t
place_of(const struct local_names *names, const char *name, bool *there)
{
	size_t lo = 0, hi = names->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(names->v[mid].name, name);

		if (c == 0) {
			*there = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*there = false;
	return lo;
}

/* Keeps the max smallest. The room is for one more. True: one was left out. */
static bool
keep(struct local_names *names, size_t max, const char *name)
{
	bool there;
	size_t at = place_of(names, name, &there);

	if (there)
		return false;
	if (at >= max)
		return true;
	memmove(names->v + at + 1, names->v + at, (names->n - at) * sizeof(*names->v));
	names->v[at] = (struct local_name){.name = mem_strdup(name), .len = strlen(name)};
	if (++names->n <= max)
		return false;
	mem_free(names->v[--names->n].name);
	return true;
}

/* Is it a file or a folder? An entry that vanished meanwhile is neither. */
static bool
is_listed(int dir, const struct dirent *d)
{
	struct stat st;

	if (strncmp(d->d_name, KEYPATH_OURS_PREFIX, sizeof(KEYPATH_OURS_PREFIX) - 1) == 0 || strcmp(d->d_name, ".") == 0 ||
	    strcmp(d->d_name, "..") == 0)
		return false;
	if (d->d_type != DT_UNKNOWN)
		return d->d_type == DT_REG || d->d_type == DT_DIR;
	return fstatat(dir, d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
}

static enum err
read_names(DIR *d, const char *after, size_t max, struct local_names *out)
{
	const struct dirent *e;
	bool more = false;

	for (errno = 0; (e = readdir(d)) != NULL; errno = 0)
		if (is_listed(dirfd(d), e) && (after == NULL || strcmp(e->d_name, after) > 0))
			more |= keep(out, max, e->d_name);
	if (errno != 0)
		return err_from_errno(errno);
	if (more)
		out->last = mem_strdup(out->v[out->n - 1].name);
	return ERR_OK;
}

/* What is gone by now is left out. */
static void
stat_names(int dir, struct local_names *names)
{
	struct stat st;
	size_t i, n = 0;

	for (i = 0; i < names->n; i++) {
		struct local_name *x = &names->v[i];

		if (fstatat(dir, x->name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))) {
			mem_free(x->name);
			continue;
		}
		x->is_folder = S_ISDIR(st.st_mode);
		x->size = x->is_folder ? 0 : (uint64_t)st.st_size;
		x->mtime_ns = clock_timespec_ns(&st.st_mtim);
		names->v[n++] = *x;
	}
	names->n = n;
}

static void
forget(struct local_names *names)
{
	while (names->n > 0)
		mem_free(names->v[--names->n].name);
}

static enum err
open_folder(struct local *l, const char *folder, size_t flen, int *fd)
{
	struct local_split s;
	enum err e;

	if (flen == 0) {
		*fd = local_open_beneath(l->fd, ".", O_RDONLY | O_DIRECTORY, 0);
		return *fd < 0 ? err_from_errno(errno) : ERR_OK;
	}
	e = local_split_key(&s, folder, flen - 1);
	if (e != ERR_OK)
		return e;
	*fd = local_open_beneath(l->fd, s.path, O_RDONLY | O_DIRECTORY, 0);
	if (*fd >= 0)
		return ERR_OK;
	if (errno == ENOTDIR || errno == ELOOP || errno == EXDEV)
		return ERR_NOTFOUND;
	return errno == ENOENT ? local_prove_absence(l, &s) : err_from_errno(errno);
}

enum err
local_list(struct local *l, const char *folder, size_t flen, const char *after, size_t max, struct local_names *out)
{
	DIR *d;
	enum err e;
	int fd;

	*out = (struct local_names){.v = mem_calloc(max + 1, sizeof(*out->v))};
	e = open_folder(l, folder, flen, &fd);
	if (e != ERR_OK)
		return e;
	d = fdopendir(fd);
	if (d == NULL) {
		e = err_from_errno(errno);
		(void)close(fd);
		return e;
	}
	e = read_names(d, after, max, out);
	if (e == ERR_OK)
		stat_names(dirfd(d), out);
	(void)closedir(d);
	/* An unmounted disk looks like an empty one. */
	if (e == ERR_OK && out->n == 0 && out->last == NULL)
		e = local_sentinel(l, NULL);
	if (e != ERR_OK)
		forget(out);
	return e;
}

void
local_names_fini(struct local_names *names)
{
	forget(names);
	mem_free(names->v);
	mem_free(names->last);
	*names = (struct local_names){NULL, 0, NULL};
}
