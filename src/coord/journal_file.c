#include "coord/journal_int.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/mem.h"

#define NAME_LOCK "journal.lock"
enum {
	FRAME = 8,
	FIXED = 26,
	R2_FIRST = 0x80,
	BODY_MAX = 64 * 1024
};

const char journal_file_magic[8] = { 'r', '2', 's', 'h', 'i', 'm', 'J', '1' };

enum err
journal_file_error(int errnum)
{
	switch (errnum) {
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return ERR_NOSPACE;
	default:
		return ERR_IO;
	}
}

void
journal_file_encode(struct str *out, const struct journal_rec *r)
{
	size_t blen = r->base != NULL ? r->blen + 1 : 0;
	uint32_t len = (uint32_t)(FIXED + blen + r->klen), le = htole32(len), crc;
	uint64_t n[3] = { htole64(r->id), htole64(r->gen), htole64(r->time_ms) };
	uint8_t head[2] = { (uint8_t)r->kind, (uint8_t)(r->op | (r->base != NULL ? R2_FIRST : 0)) };
	char *body;
	size_t at = out->len;

	ASSERT(r->klen + blen <= BODY_MAX - FIXED);
	str_reserve(out, FRAME + len);
	str_add(out, &le, sizeof le);
	str_add(out, &le, sizeof le);	/* the CRC's place */
	str_add(out, head, sizeof head);
	str_add(out, n, sizeof n);
	if (r->base != NULL) {
		str_add(out, r->base, r->blen);
		str_add(out, "", 1);
	}
	if (r->klen > 0)
		str_add(out, r->key, r->klen);
	body = out->p + at + FRAME;
	crc = htole32(digest_crc32c(digest_crc32c(0, &le, sizeof le), body, len));
	memcpy(out->p + at + 4, &crc, sizeof crc);
}

/* The record at p of n bytes; its whole length, or 0 if none stands there. */
static size_t
decode(const char *p, size_t n, struct journal_rec *r)
{
	uint32_t le, len, crc;
	uint64_t v[3];

	if (n < FRAME + FIXED)
		return 0;
	memcpy(&le, p, sizeof le);
	memcpy(&crc, p + 4, sizeof crc);
	len = le32toh(le);
	if (len < FIXED || len > BODY_MAX || n < FRAME + len)
		return 0;
	if (digest_crc32c(digest_crc32c(0, &le, sizeof le), p + FRAME, len) != le32toh(crc))
		return 0;
	p += FRAME;
	memcpy(v, p + 2, sizeof v);
	*r = (struct journal_rec){ .kind = (enum journal_kind)(uint8_t)p[0], .op = (uint8_t)p[1], .id = le64toh(v[0]), .gen = le64toh(v[1]),
		.time_ms = le64toh(v[2]), .key = p + FIXED, .klen = len - FIXED };
	/* A phase's op may have any value, and its record has no key. */
	if ((r->op & R2_FIRST) != 0 && (r->kind == JOURNAL_INTENT || r->kind == JOURNAL_MARK)) {
		const char *nul = memchr(r->key, '\0', r->klen);

		if (nul == NULL)
			return 0;
		r->op &= (uint8_t)~R2_FIRST;
		r->base = r->key;
		r->blen = (size_t)(nul - r->key);
		r->key = nul + 1;
		r->klen -= r->blen + 1;
	}
	return FRAME + len;
}

bool
journal_file_write(int fd, const char *p, size_t n, uint64_t at)
{
	while (n > 0) {
		ssize_t k = pwrite(fd, p, n, (off_t)at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			if (k == 0)
				errno = ENOSPC;
			return false;
		}
		p += k;
		n -= (size_t)k;
		at += (uint64_t)k;
	}
	return true;
}

/* Hands every intact record to replay; *good is where the first other byte stands. */
static enum err
replay_file(int fd, void (*replay)(void *arg, const struct journal_rec *r), void *arg, uint64_t *good)
{
	struct str buf = STR_INIT;
	uint64_t at = sizeof journal_file_magic;
	enum err e = ERR_OK;
	ssize_t n;

	*good = at;
	do {
		size_t used = 0, len;
		struct journal_rec r;
		char *p = str_reserve(&buf, BODY_MAX + FRAME);

		n = pread(fd, p, BODY_MAX + FRAME, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			e = ERR_IO;
			break;
		}
		buf.len += (size_t)n;
		at += (uint64_t)n;
		while ((len = decode(buf.p + used, buf.len - used, &r)) > 0) {
			replay(arg, &r);
			used += len;
		}
		/* Stuck with a whole record's room read: what stands here is none. */
		if (used == 0 && buf.len >= BODY_MAX + FRAME)
			break;
		str_drop(&buf, used);
		*good += used;
	} while (n != 0);
	str_fini(&buf);
	return e;
}

/* Where the last byte that is not a zero ends, from `at` on. */
static enum err
zeros_begin(int fd, uint64_t at, uint64_t *end)
{
	char buf[16 * 1024];
	ssize_t n;

	for (*end = at; (n = pread(fd, buf, sizeof buf, (off_t)at)) != 0; at += (uint64_t)n) {
		if (n < 0 && errno != EINTR)
			return ERR_IO;
		n = n < 0 ? 0 : n;
		for (ssize_t i = n; i > 0; i--)
			if (buf[i - 1] != '\0') {
				*end = at + (uint64_t)i;
				break;
			}
	}
	return ERR_OK;
}

static enum err
lock_folder(struct journal_file *f, const char *dir, struct errbuf *eb)
{
	f->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->dirfd < 0)
		return err_set(eb, ERR_IO, "%s: %s", dir, strerror(errno));
	f->lockfd = openat(f->dirfd, NAME_LOCK, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (f->lockfd < 0)
		return err_set(eb, journal_file_error(errno), "%s/" NAME_LOCK ": %s", dir, strerror(errno));
	if (flock(f->lockfd, LOCK_EX | LOCK_NB) == 0)
		return ERR_OK;
	if (errno == EWOULDBLOCK)
		return err_set(eb, ERR_STATE, "%s: in use by another proxy: each has a state-dir of its own", dir);
	return err_set(eb, ERR_IO, "%s/" NAME_LOCK ": %s", dir, strerror(errno));
}

/* Reads the file, or begins one, and leaves it ending behind its last intact record. */
static enum err
load(struct journal_file *f, void (*replay)(void *arg, const struct journal_rec *r), void *arg, uint64_t *cut, struct errbuf *eb)
{
	char head[sizeof journal_file_magic];
	struct stat st;
	ssize_t n;

	/* A compaction that was cut short: the old file is still the journal. */
	unlinkat(f->dirfd, JOURNAL_NAME_NEW, 0);
	f->fd = openat(f->dirfd, JOURNAL_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (f->fd < 0 || fstat(f->fd, &st) != 0)
		return err_set(eb, journal_file_error(errno), "%s: %s", f->path, strerror(errno));
	n = pread(f->fd, head, sizeof head, 0);
	if (n < 0)
		return err_set(eb, ERR_IO, "%s: %s", f->path, strerror(errno));
	if (memcmp(head, journal_file_magic, (size_t)n) != 0)
		return err_set(eb, ERR_SYNTAX, "%s: is not a journal of r2shim, or of another version", f->path);
	f->good = sizeof journal_file_magic;
	if ((size_t)n < sizeof journal_file_magic) {
		*cut = (uint64_t)n;
		if (!journal_file_write(f->fd, journal_file_magic, sizeof journal_file_magic, 0))
			return err_set(eb, journal_file_error(errno), "%s: %s", f->path, strerror(errno));
	} else {
		if (replay_file(f->fd, replay, arg, &f->good) != ERR_OK)
			return err_set(eb, ERR_IO, "%s: cannot be read", f->path);
		/* Zeros are no damage: room that was not used. They go all the same: what is torn may have left something behind them. */
		if (zeros_begin(f->fd, f->good, cut) != ERR_OK)
			return err_set(eb, ERR_IO, "%s: cannot be read", f->path);
		*cut -= f->good;
		if ((uint64_t)st.st_size > f->good && ftruncate(f->fd, (off_t)f->good) != 0)
			return err_set(eb, journal_file_error(errno), "%s: %s", f->path, strerror(errno));
	}
	if (fsync(f->fd) != 0 || fsync(f->dirfd) != 0)
		return err_set(eb, journal_file_error(errno), "%s: %s", f->path, strerror(errno));
	return ERR_OK;
}

static void
file_close(struct journal_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	if (f->lockfd >= 0)
		close(f->lockfd);
	if (f->dirfd >= 0)
		close(f->dirfd);
	mem_free(f->path);
}

enum err
journal_file_open(struct journal_file *f, const char *dir, void (*replay)(void *arg, const struct journal_rec *r), void *arg, uint64_t *cut,
    struct errbuf *eb)
{
	enum err e;

	*cut = 0;
	f->path = mem_printf("%s/" JOURNAL_NAME, dir);
	f->dirfd = f->lockfd = f->fd = -1;
	e = lock_folder(f, dir, eb);
	if (e == ERR_OK)
		e = load(f, replay, arg, cut, eb);
	if (e != ERR_OK)
		file_close(f);
	return e;
}
