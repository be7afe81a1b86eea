/*
 * Input: 'r', and a journal as a crash may have left it; or 'c', and the same, whose records get the checksums that fit. What is
 * replayed is what stands there, record for record; what is cut off stays off; and a second start finds the same.
 */
#include "fuzz.h"

#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/mem.h"
#include "coord/journal_int.h"

enum { FRAME = 8 };

static char dir[64];

static void
remove_dir(void)
{
	char path[96];

	snprintf(path, sizeof path, "%s/" JOURNAL_NAME, dir);
	(void)unlink(path);
	snprintf(path, sizeof path, "%s/journal.lock", dir);
	(void)unlink(path);
	(void)rmdir(dir);
}

/* In memory where there is such a folder: each run syncs. */
static void
make_dir(void)
{
	if (dir[0] != '\0')
		return;
	snprintf(dir, sizeof dir, "%s/fuzz-journal-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(dir))
		abort();
	atexit(remove_dir);
}

static void
checksums(char *p, size_t n)
{
	uint32_t le, crc;
	size_t len;

	while (n >= FRAME) {
		memcpy(&le, p, sizeof le);
		len = le32toh(le);
		if (len > n - FRAME)
			return;
		crc = htole32(digest_crc32c(digest_crc32c(0, &le, sizeof le), p + FRAME, len));
		memcpy(p + 4, &crc, sizeof crc);
		p += FRAME + len;
		n -= FRAME + len;
	}
}

static void
replay(void *arg, const struct journal_rec *r)
{
	journal_file_encode(arg, r);
}

/* Opens it, and says how much of it was cut. All records that were replayed, encoded anew, go to *seen. */
static enum err
start(struct str *seen, uint64_t *good, uint64_t *cut)
{
	struct journal_file f;
	struct errbuf eb;
	enum err e;

	str_clear(seen);
	e = journal_file_open(&f, dir, replay, seen, cut, &eb);
	if (e != ERR_OK)
		return e;
	*good = f.good;
	close(f.fd);
	close(f.lockfd);
	close(f.dirfd);
	mem_free(f.path);
	return ERR_OK;
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str data = STR_INIT, seen = STR_INIT, again = STR_INIT;
	uint64_t good, cut;
	char path[96];
	int fd;

	if (n < 1 || n > 65536)
		return 0;
	make_dir();
	if (p[0] == 'c')
		str_add(&data, journal_file_magic, sizeof journal_file_magic);
	str_add(&data, p + 1, n - 1);
	if (p[0] == 'c')
		checksums(data.p + sizeof journal_file_magic, n - 1);
	snprintf(path, sizeof path, "%s/" JOURNAL_NAME, dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || !journal_file_write(fd, str_z(&data), data.len, 0))
		abort();
	close(fd);
	if (start(&seen, &good, &cut) == ERR_OK) {
		size_t magic = sizeof journal_file_magic;

		ASSERT(good == magic + seen.len && (data.len < magic || good + cut <= data.len));
		ASSERT(seen.len == 0 || memcmp(data.p + magic, seen.p, seen.len) == 0);
		ASSERT(start(&again, &good, &cut) == ERR_OK && cut == 0);
		ASSERT(again.len == seen.len && (seen.len == 0 || memcmp(again.p, seen.p, seen.len) == 0));
	}
	str_fini(&data);
	str_fini(&seen);
	str_fini(&again);
	return 0;
}
