/*
 * The proxy's own writing. writes = disk: a body goes to a temporary file beside its target, chunk by chunk on the pool, then fsync,
 * rename into place, fsync of the folder; the key's bracket (intent, mark) is the caller's. R2 first: the body goes to a file without
 * a name below state-dir, which is then digested and handed to whoever sends it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/trip.h"
#include "proxy/writer.h"
#include "proxy/writer_disk.h"

/* More than this waiting for the disk: the client is paused. */
#define HIGH_WATER (256 * 1024)

enum file_stage {
	FILE_CREATE,		/* the temporary file is being made */
	FILE_IDLE,		/* nothing runs on the pool */
	FILE_WRITE,		/* a chunk is being written */
	FILE_COMMIT,		/* sync and rename run, or a spool's digests */
	FILE_UNLINK		/* a delete, no file */
};

struct writer_file {
	struct loop *loop;
	struct pool *pool;
	struct local *local;
	char *key, *tmp_key;		/* key NULL: a spool */
	char *dir;			/* where that is */
	struct spool spool;		/* its result */
	writer_spool_done *spooled;
	size_t klen;
	int fd;
	enum file_stage stage;
	struct str waiting;		/* filled by the loop */
	struct str writing;		/* the pool's */
	enum err e;
	enum err work_e;		/* the pool's; e follows when its job has ended */
	bool created, commit, exclusive;
	void (*drained)(void *arg);
	void *drained_arg;
	writer_file_done *done;
	void *done_arg;
	struct pool_job job;
};

static void file_next(struct writer_file *f);

static void
file_release(void *arg)
{
	struct writer_file *f = arg;

	if (f->tmp_key != NULL)
		local_tmp_discard(f->local, &f->tmp_key);
	if (f->fd >= 0)
		close(f->fd);
	str_fini(&f->waiting);
	str_fini(&f->writing);
	mem_free(f->dir);
	mem_free(f->key);
	mem_free(f);
}

/* A file that goes with its last descriptor; a name for a moment where the file system knows no other way. */
static enum err
spool_create(struct writer_file *f)
{
	char *name;

	f->fd = open(f->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (f->fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return f->fd >= 0 ? ERR_OK : err_from_errno(errno);
	name = mem_printf("%s/spool-XXXXXX", f->dir);
	f->fd = mkostemp(name, O_CLOEXEC);
	if (f->fd >= 0)
		unlink(name);
	mem_free(name);
	return f->fd >= 0 ? ERR_OK : err_from_errno(errno);
}

static enum err
spool_commit(struct writer_file *f)
{
	struct stat st;

	if (fstat(f->fd, &st) != 0)
		return err_from_errno(errno);
	f->spool.size = (uint64_t)st.st_size;
	return local_digest(f->fd, f->spool.size, f->spool.md5, f->spool.sha256, NULL);
}

static void
file_work(void *arg)
{
	struct writer_file *f = arg;
	size_t off = 0;

	switch (f->stage) {
	case FILE_CREATE:
		f->work_e = f->key == NULL ? spool_create(f) : local_tmp_create(f->local, f->key, f->klen, &f->fd, &f->tmp_key);
		return;
	case FILE_WRITE:
		while (f->work_e == ERR_OK && off < f->writing.len) {
			ssize_t n = TRIP("disk", "write") ? -1 : write(f->fd, f->writing.p + off, f->writing.len - off);

			if (n > 0)
				off += (size_t)n;
			else if (errno != EINTR)
				f->work_e = err_from_errno(errno);
		}
		return;
	case FILE_COMMIT:
		if (f->work_e == ERR_OK && f->key == NULL) {
			f->work_e = spool_commit(f);
		} else if (f->work_e == ERR_OK && f->exclusive) {
			f->work_e = local_tmp_commit_new(f->local, f->fd, &f->tmp_key, f->key, f->klen);
			f->created = true;
		} else if (f->work_e == ERR_OK) {
			f->work_e = local_tmp_commit(f->local, f->fd, &f->tmp_key, f->key, f->klen, &f->created);
		}
		return;
	case FILE_UNLINK:
		f->work_e = local_unlink(f->local, f->key, f->klen);
		return;
	case FILE_IDLE:
		return;
	}
}

static void
file_worked(void *arg)
{
	struct writer_file *f = arg;
	void (*drained)(void *arg) = f->drained;

	f->e = f->work_e;
	if (f->stage == FILE_COMMIT && f->spooled != NULL) {
		f->spool.fd = f->e == ERR_OK ? f->fd : -1;
		f->fd = f->e == ERR_OK ? -1 : f->fd;
		f->spooled(f->done_arg, f->e, &f->spool);
		if (f->spool.fd >= 0)	/* not taken over */
			close(f->spool.fd);
		file_release(f);
		return;
	}
	if (f->stage == FILE_COMMIT || f->stage == FILE_UNLINK) {
		f->done(f->done_arg, f->e, f->created);
		file_release(f);
		return;
	}
	str_clear(&f->writing);
	f->stage = FILE_IDLE;
	file_next(f);
	if (drained != NULL && f->waiting.len < HIGH_WATER) {
		f->drained = NULL;
		drained(f->drained_arg);
	}
}

/* Starts what is next on the pool; one job at a time keeps the order. */
static void
file_next(struct writer_file *f)
{
	struct str swap;

	if (f->stage != FILE_IDLE)
		return;
	if (f->waiting.len > 0 && f->e == ERR_OK) {
		swap = f->writing;
		f->writing = f->waiting;
		f->waiting = swap;
		f->stage = FILE_WRITE;
	} else if (f->commit) {
		f->stage = FILE_COMMIT;
	} else {
		str_clear(&f->waiting);		/* failed: the rest is dropped, commit tells */
		return;
	}
	pool_submit(f->pool, &f->job, file_work, file_worked, f);
}

static struct writer_file *
file_new(const struct reconcile_env *env, const char *key, size_t klen, enum file_stage stage)
{
	struct writer_file *f = mem_zalloc(sizeof(*f));

	f->loop = env->loop;
	f->pool = env->pool;
	f->local = env->local;
	f->key = key != NULL ? mem_strndup(key, klen) : NULL;
	f->klen = klen;
	f->fd = -1;
	f->stage = stage;
	return f;
}

struct writer_file *
writer_disk_open(const struct reconcile_env *env, const char *key, size_t klen, bool exclusive)
{
	struct writer_file *f = file_new(env, key, klen, FILE_CREATE);

	f->exclusive = exclusive;
	pool_submit(f->pool, &f->job, file_work, file_worked, f);
	return f;
}

struct writer_file *
writer_disk_spool(const struct reconcile_env *env)
{
	struct writer_file *f = file_new(env, NULL, 0, FILE_CREATE);

	f->dir = mem_strdup(env->conf->state_dir);
	pool_submit(f->pool, &f->job, file_work, file_worked, f);
	return f;
}

/* The caller's no more: the rest is written, then done or spooled, whichever is set, tells. */
static void
file_commit(struct writer_file **fp, writer_file_done *done, writer_spool_done *spooled, void *arg)
{
	struct writer_file *f = *fp;

	*fp = NULL;
	f->drained = NULL;
	f->commit = true;
	f->done = done;
	f->spooled = spooled;
	f->done_arg = arg;
	file_next(f);
}

void
writer_spool_commit(struct writer_file **fp, writer_spool_done *done, void *arg)
{
	file_commit(fp, NULL, done, arg);
}

bool
writer_file_write(struct writer_file *f, const void *p, size_t n, void (*drained)(void *arg), void *arg)
{
	if (f->e == ERR_OK)
		str_add(&f->waiting, p, n);
	file_next(f);
	if (f->waiting.len < HIGH_WATER)
		return true;
	f->drained = drained;
	f->drained_arg = arg;
	return false;
}

void
writer_file_commit(struct writer_file **fp, writer_file_done *done, void *arg)
{
	file_commit(fp, done, NULL, arg);
}

void
writer_file_discard(struct writer_file **fp)
{
	struct writer_file *f = *fp;

	if (f == NULL)
		return;
	*fp = NULL;
	if (f->job.busy)
		pool_cancel(&f->job, file_release);
	else
		file_release(f);
}

void
writer_disk_unlink(const struct reconcile_env *env, const char *key, size_t klen, writer_file_done *done, void *arg)
{
	struct writer_file *f = file_new(env, key, klen, FILE_UNLINK);

	f->done = done;
	f->done_arg = arg;
	pool_submit(f->pool, &f->job, file_work, file_worked, f);
}
