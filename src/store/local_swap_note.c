/* local_swap_note: the note beside a key's file. Fixed records, appended and synced, each with its checksum: a torn one
 * was never acted upon, and all before it stand. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "store/local_swap_int.h"

#define RECORD_MAGIC 0x72327377u /* changes with the form */

struct record {
	uint32_t magic, kind;
	struct swap_id prev, placed;
	uint32_t reserved, crc; /* of all before it */
};

static uint32_t
record_crc(const struct record *r)
{
	return digest_crc32c(0, r, offsetof(struct record, crc));
}

static enum err
append(int fd, enum swap_kind kind, const struct swap_id *prev, const struct swap_id *placed)
{
	struct record r;
	ssize_t n;

	memset(&r, 0, sizeof(r));
	r.magic = RECORD_MAGIC;
	r.kind = (uint32_t)kind;
	r.prev = *prev;
	r.placed = *placed;
	r.crc = record_crc(&r);
	do
		n = write(fd, &r, sizeof(r));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_from_errno(errno);
	if (n != (ssize_t)sizeof(r))
		return ERR_NOSPACE;
	return fsync(fd) == 0 ? ERR_OK : err_from_errno(errno);
}

enum err
swap_note_write(
    const struct local_swap *s, int dir, enum swap_kind kind, const struct swap_id *base, const struct swap_id *ours)
{
	int fd = local_open_beneath(dir, s->note, O_WRONLY | O_CREAT | O_EXCL, 0600);
	enum err e;

	if (fd < 0)
		return errno == EEXIST ? ERR_STATE : err_from_errno(errno);
	e = append(fd, kind, base, ours);
	(void)close(fd);
	if (e == ERR_OK)
		e = local_fsync(dir);
	return e;
}

enum err
swap_note_back(const struct local_swap *s, int dir, struct swap_note *n, const struct swap_id *placed)
{
	int fd = local_open_beneath(dir, s->note, O_WRONLY | O_APPEND, 0);
	enum err e;

	if (fd < 0)
		return err_from_errno(errno);
	e = append(fd, SWAP_BACK, &n->placed, placed);
	(void)close(fd);
	if (e == ERR_OK) {
		n->prev = n->placed;
		n->placed = *placed;
		n->records++;
	}
	return e;
}

enum err
swap_note_read(const struct local_swap *s, int dir, struct swap_note *n)
{
	int fd = local_open_beneath(dir, s->note, O_RDONLY, 0);
	struct record r;
	ssize_t got;

	memset(n, 0, sizeof(*n));
	if (fd < 0)
		return errno == ENOENT ? ERR_OK : err_from_errno(errno);
	n->present = true;
	for (;;) {
		got = pread(fd, &r, sizeof(r), (off_t)(n->records * sizeof(r)));
		if (got != (ssize_t)sizeof(r) || r.magic != RECORD_MAGIC || r.crc != record_crc(&r))
			break;
		if ((n->records == 0) == (r.kind == SWAP_BACK))
			break;
		if (n->records++ == 0) {
			n->kind = (enum swap_kind)r.kind;
			n->base = r.prev;
			n->ours = r.placed;
		}
		n->prev = r.prev;
		n->placed = r.placed;
	}
	local_close(fd);
	return got < 0 ? err_from_errno(errno) : ERR_OK;
}
