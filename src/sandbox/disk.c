#include "sandbox/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "sandbox/keyidx.h"
#include "sandbox/multipart.h"
#include "sandbox/objects.h"

enum { COPY_BUFFER = 256 * 1024 };

static enum err
make_dir(const char *path, struct errbuf *eb)
{
	if (mkdir(path, 0700) == 0 || errno == EEXIST)
		return ERR_OK;
	return err_set(eb, err_from_errno(errno), "%s: %s", path, strerror(errno));
}

void
disk_remove_tree(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		char *path;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		path = mem_printf("%s/%s", dir, e->d_name);
		if (unlink(path) != 0 && (errno == EISDIR || errno == EPERM))
			disk_remove_tree(path);
		mem_free(path);
	}
	if (d != NULL)
		closedir(d);
	if (rmdir(dir) != 0 && errno != ENOENT)
		log_warn("sandbox", "cannot remove %s: %s", dir, strerror(errno));
}

bool
disk_bucket_name_ok(const char *name)
{
	size_t n = strlen(name);

	return n >= 3 && n <= 63 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n && name[0] != '-' &&
	       name[n - 1] != '-';
}

struct bucket *
disk_bucket(struct disk *d, const char *name)
{
	struct list *it, *next;

	LIST_FOREACH(it, next, &d->buckets) {
		struct bucket *b = LIST_ENTRY(it, struct bucket, node);

		if (strcmp(b->name, name) == 0)
			return b;
	}
	return NULL;
}

static void
insert_by_name(struct disk *d, struct bucket *b)
{
	struct list *it = d->buckets.next;

	while (it != &d->buckets && strcmp(LIST_ENTRY(it, struct bucket, node)->name, b->name) < 0)
		it = it->next;
	list_add_tail(it, &b->node);
}

static void
bucket_free(struct bucket *b)
{
	list_del(&b->node);
	multipart_unload(b);
	objects_unload(b);
	keyidx_free(&b->keys);
	mem_free(b->name);
	mem_free(b->dir);
	mem_free(b);
}

static enum err
load_bucket(struct disk *d, const char *name, struct errbuf *eb)
{
	static const char *const subs[] = {"", "/objects", "/uploads"};
	struct bucket *b = mem_zalloc(sizeof(*b));
	enum err e = ERR_OK;
	struct stat st;

	b->disk = d;
	b->name = mem_strdup(name);
	b->dir = mem_printf("%s/buckets/%s", d->dir, name);
	b->keys = keyidx_new();
	list_init(&b->uploads);
	list_init(&b->node);
	for (size_t i = 0; i < sizeof(subs) / sizeof(subs[0]) && e == ERR_OK; i++) {
		char *path = mem_printf("%s%s", b->dir, subs[i]);

		e = make_dir(path, eb);
		mem_free(path);
	}
	if (e == ERR_OK)
		b->created_ms =
		    stat(b->dir, &st) == 0 ? (uint64_t)clock_timespec_ns(&st.st_mtim) / 1000000 : clock_real_ms();
	if (e == ERR_OK)
		e = objects_load(b, eb);
	if (e == ERR_OK)
		e = multipart_load(b, eb);
	if (e == ERR_OK)
		insert_by_name(d, b);
	else
		bucket_free(b);
	return e;
}

static enum err
load_buckets(struct disk *d, struct errbuf *eb)
{
	char *path = mem_printf("%s/buckets", d->dir);
	enum err e = ERR_OK;
	struct dirent *ent;
	DIR *dir = opendir(path);

	while (dir != NULL && e == ERR_OK && (ent = readdir(dir)) != NULL)
		if (disk_bucket_name_ok(ent->d_name))
			e = load_bucket(d, ent->d_name, eb);
	if (dir != NULL)
		closedir(dir);
	mem_free(path);
	return e;
}

static enum err
prepare(struct disk *d, struct errbuf *eb)
{
	char *lock = mem_printf("%s/lock", d->dir), *tmp = mem_printf("%s/tmp", d->dir);
	char *buckets = mem_printf("%s/buckets", d->dir);
	enum err e = make_dir(d->dir, eb);

	if (e == ERR_OK) {
		d->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (d->lock_fd < 0)
			e = err_set(eb, err_from_errno(errno), "%s: %s", lock, strerror(errno));
		else if (flock(d->lock_fd, LOCK_EX | LOCK_NB) != 0)
			e = err_set(eb, ERR_BUSY, "%s is in use by another sandbox", d->dir);
	}
	if (e == ERR_OK) {
		disk_remove_tree(tmp);
		e = make_dir(tmp, eb);
	}
	if (e == ERR_OK)
		e = make_dir(buckets, eb);
	mem_free(lock);
	mem_free(tmp);
	mem_free(buckets);
	return e;
}

enum err
disk_open(struct disk **out, const char *dir, bool discard, struct errbuf *eb)
{
	struct disk *d = mem_zalloc(sizeof(*d));
	enum err e;

	d->dir = mem_strdup(dir);
	d->lock_fd = -1;
	d->discard = discard;
	list_init(&d->buckets);
	e = prepare(d, eb);
	if (e == ERR_OK)
		e = load_buckets(d, eb);
	*out = d;
	if (e != ERR_OK)
		disk_close(out);
	return e;
}

void
disk_close(struct disk **d)
{
	if (*d == NULL)
		return;
	while (!list_empty(&(*d)->buckets))
		bucket_free(LIST_FIRST(&(*d)->buckets, struct bucket, node));
	if ((*d)->lock_fd >= 0)
		close((*d)->lock_fd);
	mem_free((*d)->dir);
	mem_free(*d);
	*d = NULL;
}

enum err
disk_create_bucket(struct disk *d, const char *name, struct errbuf *eb)
{
	if (!disk_bucket_name_ok(name))
		return err_set(eb, ERR_INVAL, "'%s' is no bucket name: 3-63 of a-z 0-9 -, no - at either end", name);
	if (disk_bucket(d, name) != NULL)
		return ERR_EXISTS;
	return load_bucket(d, name, eb);
}

void
disk_delete_bucket(struct bucket *b)
{
	ASSERT(keyidx_count(b->keys) == 0);
	disk_remove_tree(b->dir);
	bucket_free(b);
}

struct disk_writer *
disk_writer_new(struct disk *d, bool md5, bool sha256)
{
	struct disk_writer *w = mem_zalloc(sizeof(*w));

	w->disk = d;
	w->fd = -1;
	w->md5 = md5 ? digest_new(DIGEST_MD5) : NULL;
	w->sha256 = sha256 ? digest_new(DIGEST_SHA256) : NULL;
	if (d->discard)
		return w;
	w->path = mem_printf("%s/tmp/%llu", d->dir, (unsigned long long)++d->tmp_seq);
	w->fd = open(w->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (w->fd < 0) {
		log_error("sandbox", "%s: %s", w->path, strerror(errno));
		w->err = err_from_errno(errno);
	}
	return w;
}

static void
write_all(struct disk_writer *w, const void *p, size_t n)
{
	const char *at = p;

	while (n > 0 && w->err == ERR_OK && w->fd >= 0) {
		ssize_t r = write(w->fd, at, n);

		if (r > 0) {
			at += r;
			n -= (size_t)r;
		} else if (r < 0 && errno != EINTR) {
			log_error("sandbox", "%s: %s", w->path, strerror(errno));
			w->err = err_from_errno(errno);
		}
	}
}

void
disk_writer_add(struct disk_writer *w, const void *p, size_t n)
{
	if (w->err != ERR_OK)
		return;
	if (w->md5 != NULL)
		digest_update(w->md5, p, n);
	if (w->sha256 != NULL)
		digest_update(w->sha256, p, n);
	write_all(w, p, n);
	w->size += n;
}

void
writer_add_file(struct disk_writer *w, int fd, uint64_t off, uint64_t n)
{
	char *buf = NULL;
	bool plain = w->md5 == NULL && w->sha256 == NULL;

	while (n > 0 && w->err == ERR_OK) {
		off_t at = (off_t)off;
		ssize_t r = -1;

		if (plain && buf == NULL) {
			r = copy_file_range(fd, &at, w->fd, NULL, n < (1 << 30) ? (size_t)n : (size_t)1 << 30, 0);
			if (r > 0)
				w->size += (uint64_t)r;
		}
		if (r <= 0) {
			if (buf == NULL)
				buf = mem_alloc(COPY_BUFFER);
			r = pread(fd, buf, n < COPY_BUFFER ? (size_t)n : COPY_BUFFER, (off_t)off);
			if (r > 0)
				disk_writer_add(w, buf, (size_t)r);
		}
		if (r == 0)
			w->err = ERR_IO;
		else if (r < 0 && errno != EINTR)
			w->err = err_from_errno(errno);
		else if (r > 0) {
			off += (uint64_t)r;
			n -= (uint64_t)r;
		}
	}
	mem_free(buf);
}

enum err
disk_writer_publish(struct disk_writer *w, const char *path)
{
	if (w->err != ERR_OK)
		return w->err;
	ASSERT(w->path != NULL);
	if (rename(w->path, path) != 0) {
		char *slash, *dir = mem_strdup(path);
		int r = -1;

		slash = strrchr(dir, '/');
		ASSERT(slash != NULL);
		*slash = '\0';
		if (errno == ENOENT && (mkdir(dir, 0700) == 0 || errno == EEXIST))
			r = rename(w->path, path);
		mem_free(dir);
		if (r != 0) {
			log_error("sandbox", "%s: %s", path, strerror(errno));
			return err_from_errno(errno);
		}
	}
	mem_free(w->path);
	w->path = NULL;
	return ERR_OK;
}

void
disk_writer_free(struct disk_writer **w)
{
	if (*w == NULL)
		return;
	if ((*w)->fd >= 0)
		close((*w)->fd);
	if ((*w)->path != NULL)
		unlink((*w)->path);
	mem_free((*w)->path);
	digest_free(&(*w)->md5);
	digest_free(&(*w)->sha256);
	mem_free(*w);
	*w = NULL;
}
