/*
 * journal_int: what journal's files share. journal.c: the appending thread, groups, compaction. journal_file.c: the file: its folder, its
 * records, and the reading of what the last life has left.
 *
 * The file: the magic, then records. A record: u32 length of its body, u32 CRC-32C of that length and the body, the body: u8 kind,
 * u8 op, u64 id, gen, time_ms, the key. All little endian. The record of an R2-first write has R2_FIRST in its op, and in front of its key
 * the base and a NUL. Behind the last record there may be zeros: room that was made ahead (room_make).
 */
#ifndef COORD_JOURNAL_INT_H
#define COORD_JOURNAL_INT_H

#include "coord/journal.h"

#define JOURNAL_NAME	 "journal"
#define JOURNAL_NAME_NEW "journal.new"	/* the next one, not yet whole */

extern const char journal_file_magic[8];

/* The file as it was opened. */
struct journal_file {
	char *path;		/* for people */
	int dirfd, lockfd, fd;
	uint64_t good;		/* every byte before is of an intact record, and here the file ends */
};

/* journal_open's part. Not OK: nothing is left open. Else all of *f is the caller's. */
enum err journal_file_open(struct journal_file *f, const char *dir, void (*replay)(void *arg, const struct journal_rec *r), void *arg,
    uint64_t *cut, struct errbuf *eb) ERR_MUST_CHECK;
/* Adds the record to out, as it stands in the file. */
void journal_file_encode(struct str *out, const struct journal_rec *r);
/* Writes all of it at `at`. false: errno says why, and a part may stand there. */
bool journal_file_write(int fd, const char *p, size_t n, uint64_t at);
/* NOSPACE or IO. */
enum err journal_file_error(int errnum);

#endif
