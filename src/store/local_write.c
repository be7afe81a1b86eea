/* local_write: writing, renaming and removing them below the root. See local.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/trip.h"
#include "store/local_int.h"

enum err
local_make_parent(struct local *l, struct local_split *s, int *out)
{
	int dir = local_open_beneath(l->fd, ".", O_RDONLY | O_DIRECTORY, 0);
	size_t at = 0;

	while (dir >= 0 && at < s->dirlen) {
		size_t n = strcspn(s->path + at, "/");
		char name[NAME_MAX + 1];
		enum err e;
		int sub;

		if (n == 0 || n > NAME_MAX) {
			(void)close(dir);
			return n == 0 ? ERR_INVAL : ERR_TOOBIG;
		}
		memcpy(name, s->path + at, n);
		name[n] = '\0';
		sub = local_open_beneath(dir, name, O_RDONLY | O_DIRECTORY, 0);
		if (sub < 0 && errno == ENOENT && (mkdirat(dir, name, 0777) == 0 || errno == EEXIST)) {
			if ((e = local_fsync(dir)) != ERR_OK) {
				(void)close(dir);
				return e;
			}
			sub = local_open_beneath(dir, name, O_RDONLY | O_DIRECTORY, 0);
		}
		local_close(dir);
		dir = sub;
		at += n + 1;
	}
	*out = dir;
	if (dir >= 0)
		return ERR_OK;
	/* a file or a symlink stands where a folder is wanted */
	return errno == ENOTDIR || errno == ELOOP ? ERR_EXISTS : err_from_errno(errno);
}

/* Who writes it holds a lock on it: one that nobody holds is a dead writer's. Somebody who sweeps may have come in between. */
static bool
still_ours(int fd)
{
	struct stat st;

	if (flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return false;
	return fstat(fd, &st) < 0 || st.st_nlink > 0;
}

enum err
local_tmp_create(struct local *l, const char *key, size_t klen, int *fd, char **tmp_key)
{
	struct str name = STR_INIT;
	uint8_t random[8];
	struct local_split s;
	enum err e;
	int dir;

	*fd = -1;
	*tmp_key = NULL;
	if ((e = local_split_key(&s, key, klen)) != ERR_OK || (e = local_make_parent(l, &s, &dir)) != ERR_OK)
		return e;
	for (;;) {
		digest_random(random, sizeof(random));
		str_clear(&name);
		str_addz(&name, LOCAL_TMP_PREFIX);
		str_add_hex(&name, random, sizeof(random));
		if (TRIP("disk", "create") || (*fd = local_open_beneath(dir, str_z(&name), O_RDWR | O_CREAT | O_EXCL, 0666)) < 0) {
			e = err_from_errno(errno);
			break;
		}
		if (still_ours(*fd)) {
			*tmp_key = mem_printf("%.*s%s%s", (int)s.dirlen, s.path, s.dirlen > 0 ? "/" : "", str_z(&name));
			break;
		}
		(void)close(*fd);
	}
	(void)close(dir);
	str_fini(&name);
	return e;
}

bool
local_tmp_sweep(int dir, const char *name)
{
	struct stat st;
	int fd;

	if (strncmp(name, LOCAL_TMP_PREFIX, strlen(LOCAL_TMP_PREFIX)) != 0)
		return false;
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return true;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0 && unlinkat(dir, name, 0) == 0)
		log_info("local", "%s, left by a writer that died, is removed", name);
	(void)close(fd);
	return true;
}

static enum err
rename_into_place(int dir, const char *from, const char *to, bool *created)
{
	struct stat st;

	*created = true;
	if (TRIP("disk", "rename"))
		return err_from_errno(errno);
	if (renameat2(dir, from, dir, to, RENAME_NOREPLACE) == 0)
		return ERR_OK;
	if (errno == EINVAL || errno == ENOSYS) /* a file system without the flag */
		*created = fstatat(dir, to, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
	else if (errno == EEXIST)
		*created = false;
	else
		return err_from_errno(errno);
	if (renameat(dir, from, dir, to) == 0)
		return ERR_OK;
	return errno == EISDIR || errno == ENOTEMPTY ? ERR_EXISTS : err_from_errno(errno);
}

/* Two at once: one of them finds the other's. Where the file system has no such rename, a second name is as exclusive. */
static enum err
rename_where_none(int dir, const char *from, const char *to)
{
	if (TRIP("disk", "rename"))
		return err_from_errno(errno);
	if (renameat2(dir, from, dir, to, RENAME_NOREPLACE) == 0)
		return ERR_OK;
	if ((errno == EINVAL || errno == ENOSYS) && linkat(dir, from, dir, to, 0) == 0) {
		(void)unlinkat(dir, from, 0);
		return ERR_OK;
	}
	return errno == EEXIST ? ERR_PRECOND : err_from_errno(errno);
}

/* created NULL: only where there is none. */
static enum err
commit(struct local *l, int fd, char **tmp_key, const char *key, size_t klen, bool *created)
{
	const char *slash = strrchr(*tmp_key, '/'), *name = slash != NULL ? slash + 1 : *tmp_key;
	struct local_split s;
	int dir = -1;
	enum err e = local_split_key(&s, key, klen);

	if (e == ERR_OK && (dir = local_open_parent(l, &s)) < 0)
		e = err_from_errno(errno);
	if (e == ERR_OK && (TRIP("disk", "fsync") || fsync(fd) < 0))
		e = err_from_errno(errno);
	if (e == ERR_OK)
		e = created != NULL ? rename_into_place(dir, name, s.base, created) : rename_where_none(dir, name, s.base);
	if (e == ERR_OK) {
		mem_free(*tmp_key);
		*tmp_key = NULL;
		e = local_fsync(dir);
	}
	if (dir >= 0)
		(void)close(dir);
	local_tmp_discard(l, tmp_key);
	return e;
}

enum err
local_tmp_commit(struct local *l, int fd, char **tmp_key, const char *key, size_t klen, bool *created)
{
	*created = false;
	return commit(l, fd, tmp_key, key, klen, created);
}

enum err
local_tmp_commit_new(struct local *l, int fd, char **tmp_key, const char *key, size_t klen)
{
	return commit(l, fd, tmp_key, key, klen, NULL);
}

void
local_tmp_discard(struct local *l, char **tmp_key)
{
	struct local_split s;
	int dir;

	if (*tmp_key == NULL)
		return;
	if (local_split_key(&s, *tmp_key, strlen(*tmp_key)) == ERR_OK && (dir = local_open_parent(l, &s)) >= 0) {
		(void)unlinkat(dir, s.base, 0);
		(void)close(dir);
	}
	mem_free(*tmp_key);
	*tmp_key = NULL;
}

enum err
local_unlink(struct local *l, const char *key, size_t klen)
{
	struct local_split s;
	struct stat st;
	enum err e;
	int dir;

	if ((e = local_split_key(&s, key, klen)) != ERR_OK)
		return e;
	if ((dir = local_open_parent(l, &s)) < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			return local_prove_absence(l, &s);
		return errno == ELOOP ? ERR_UNSUPPORTED : err_from_errno(errno);
	}
	if (fstatat(dir, s.base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		e = errno == ENOENT ? local_prove_absence(l, &s) : err_from_errno(errno);
	else if (!S_ISREG(st.st_mode))
		e = ERR_NOTFOUND;
	else if (TRIP("disk", "unlink") || unlinkat(dir, s.base, 0) < 0)
		e = errno == ENOENT ? ERR_NOTFOUND : err_from_errno(errno);
	else
		e = local_fsync(dir);
	(void)close(dir);
	return e;
}
