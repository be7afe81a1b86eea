#include "migrate/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

/* Deeper than any sane tree; a bound on what a hostile one can cost. */
#define DEPTH_MAX 64

struct name {
	char *z;
	size_t len;	/* with the '/' that a directory's name bears here */
};

/* A directory on the way down: its names, sorted as R2 sorts the keys below it. */
struct level {
	struct name *names;
	size_t n, next;
	size_t path_len;	/* of w->path, with its trailing slash */
};

struct walk {
	struct local *local;
	struct str path;	/* of the deepest level, then of the entry */
	struct level levels[DEPTH_MAX];
	unsigned depth;
	char *after;		/* start_after; NULL once we are beyond it */
	size_t after_len;
	struct walk_counts counts;
	char first_error[512];
	bool begun;
};

static void
note_error(struct walk *w, const char *path, size_t len, int errnum)
{
	struct str safe = STR_INIT;

	w->counts.errors++;
	if (*w->first_error)
		return;
	str_add_safe(&safe, path, len);
	snprintf(w->first_error, sizeof(w->first_error), "%s: %s", len > 0 ? str_z(&safe) : "the media root", strerror(errnum));
	str_fini(&safe);
}

static int
name_order(const void *a, const void *b)
{
	const struct name *x = a, *y = b;
	size_t n = x->len < y->len ? x->len : y->len;
	int c = memcmp(x->z, y->z, n);

	if (c != 0)
		return c;
	return (x->len > y->len) - (x->len < y->len);
}

static int
dir_open(struct walk *w, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, local_root_fd(w->local), *path ? path : ".", &how, sizeof(how));
}

static unsigned char
type_of(int dirfd, const struct dirent *e)
{
	struct stat st;

	if (e->d_type != DT_UNKNOWN)
		return e->d_type;
	if (fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return DT_UNKNOWN;
	return (unsigned char)IFTODT(st.st_mode);
}

/* Reads and sorts the directory at w->path. */
static void
level_enter(struct walk *w)
{
	struct level *lv = &w->levels[w->depth];
	size_t cap = 0, ours = strlen(KEYPATH_OURS_PREFIX);
	struct dirent *e;
	DIR *dir;
	int fd;

	memset(lv, 0, sizeof(*lv));
	lv->path_len = w->path.len;
	w->depth++;
	fd = dir_open(w, str_z(&w->path));
	dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (dir == NULL) {
		if (errno != ENOENT)	/* removed meanwhile: its files' own events tell */
			note_error(w, str_z(&w->path), w->path.len, errno);
		if (fd >= 0)
			close(fd);
		return;
	}
	w->counts.dirs++;
	errno = 0;
	while ((e = readdir(dir)) != NULL) {
		unsigned char type;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || strncmp(e->d_name, KEYPATH_OURS_PREFIX, ours) == 0)
			continue;
		type = type_of(fd, e);
		if (type == DT_LNK)
			w->counts.symlinks++;
		else if (type != DT_REG && type != DT_DIR && type != DT_UNKNOWN)
			w->counts.specials++;
		if (type != DT_REG && type != DT_DIR)
			continue;
		if (lv->n == cap) {
			cap = cap != 0 ? cap * 2 : 64;
			lv->names = mem_realloc(lv->names, cap * sizeof(*lv->names));
		}
		lv->names[lv->n].z = type == DT_DIR ? mem_printf("%s/", e->d_name) : mem_strdup(e->d_name);
		lv->names[lv->n].len = strlen(lv->names[lv->n].z);
		lv->n++;
		errno = 0;
	}
	if (errno != 0)
		note_error(w, str_z(&w->path), w->path.len, errno);
	closedir(dir);
	if (lv->n > 1)
		qsort(lv->names, lv->n, sizeof(*lv->names), name_order);
}

static void
level_leave(struct walk *w)
{
	struct level *lv = &w->levels[--w->depth];

	for (size_t i = 0; i < lv->n; i++)
		mem_free(lv->names[i].z);
	mem_free(lv->names);
}

static void
path_set(struct walk *w, size_t keep, const char *z, size_t n)
{
	w->path.len = keep;
	str_add(&w->path, z, n);
}

/* Is everything at or below this path behind us already (start_after)? */
static bool
is_before_start(const struct walk *w, bool dir)
{
	size_t n = w->path.len < w->after_len ? w->path.len : w->after_len;
	int c = memcmp(w->path.p, w->after, n);

	if (c != 0)
		return c < 0;
	if (dir)
		return false;	/* a prefix of the start, or behind it: look inside */
	return w->path.len <= w->after_len;
}

static bool
entry_fill(struct walk *w, struct walk_entry *e)
{
	struct stat st;

	if (fstatat(local_root_fd(w->local), w->path.p, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
		return false;	/* gone meanwhile */
	memset(e, 0, sizeof(*e));
	e->key = w->path.p;
	e->klen = w->path.len;
	e->fault = keypath_check(e->key, e->klen);
	if (!keypath_servable(e->fault))
		return false;
	e->size = (uint64_t)st.st_size;
	e->mtime_ns = clock_timespec_ns(&st.st_mtim);
	e->ctime_ns = clock_timespec_ns(&st.st_ctim);
	w->counts.files++;
	w->counts.bytes += e->size;
	if (e->fault != KEYPATH_OK)
		w->counts.unholdable++;
	return true;
}

enum err
walk_next(struct walk *w, struct walk_entry *e)
{
	if (!w->begun) {
		w->begun = true;
		level_enter(w);
	}
	while (w->depth > 0) {
		struct level *lv = &w->levels[w->depth - 1];
		const struct name *nm;
		bool dir;

		if (lv->next == lv->n) {
			level_leave(w);
			continue;
		}
		nm = &lv->names[lv->next++];
		dir = nm->z[nm->len - 1] == '/';
		path_set(w, lv->path_len, nm->z, nm->len);
		if (w->after != NULL && is_before_start(w, dir))
			continue;
		if (!dir) {
			if (entry_fill(w, e))
				return ERR_OK;
		} else if (w->depth == DEPTH_MAX) {
			note_error(w, w->path.p, w->path.len, ELOOP);
		} else {
			level_enter(w);
		}
	}
	/* An unmounted root looks like an empty one: the end is only believed with the sentinel there. */
	return local_sentinel(w->local, NULL) == ERR_OK ? ERR_NOTFOUND : ERR_SENTINEL;
}

struct walk *
walk_new(struct local *l, const char *start_after, size_t len)
{
	struct walk *w = mem_zalloc(sizeof(*w));

	w->local = l;
	str_init(&w->path);
	if (start_after != NULL) {
		w->after = mem_strndup(start_after, len);
		w->after_len = len;
	}
	return w;
}

const struct walk_counts *
walk_counts(const struct walk *w)
{
	return &w->counts;
}

const char *
walk_first_error(const struct walk *w)
{
	return w->first_error;
}

void
walk_free(struct walk **wp)
{
	struct walk *w = *wp;

	if (w == NULL)
		return;
	*wp = NULL;
	while (w->depth > 0)
		level_leave(w);
	str_fini(&w->path);
	mem_free(w->after);
	mem_free(w);
}
