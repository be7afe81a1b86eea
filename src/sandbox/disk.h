/*
 * disk: the sandbox's folder, its buckets, and the files that are being written.
 *
 *	DIR/lock			held while a sandbox uses the folder
 *	DIR/tmp/			files being written; emptied at start
 *	DIR/buckets/NAME/objects/hh/	objects (objects.h), by the SHA-256 of their key's NFC form
 *	DIR/buckets/NAME/uploads/	unfinished multipart uploads (multipart.h)
 *
 * With discard nothing is written but the folders: contents are hashed and dropped, what is known of them is in memory only.
 */
#ifndef SANDBOX_DISK_H
#define SANDBOX_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/list.h"

struct keyidx;

struct disk {
	char *dir;
	int lock_fd;
	bool discard;
	uint64_t tmp_seq;
	struct list buckets;	/* of struct bucket, by name */
};

struct bucket {
	struct list node;
	struct disk *disk;
	char *name, *dir;
	uint64_t created_ms;
	struct keyidx *keys;	/* of struct object */
	struct list uploads;	/* of struct upload, oldest first */
};

/* Opens the folder (made if missing) and loads every bucket in it. */
enum err disk_open(struct disk **d, const char *dir, bool discard, struct errbuf *eb) ERR_MUST_CHECK;
void disk_close(struct disk **d);
struct bucket *disk_bucket(struct disk *d, const char *name);
/* R2's rule: 3-63 of a-z 0-9 -, no - at either end. */
bool disk_bucket_name_ok(const char *name);
enum err disk_create_bucket(struct disk *d, const char *name, struct errbuf *eb) ERR_MUST_CHECK;
/* The bucket must be empty. */
void disk_delete_bucket(struct bucket *b);
/* Removes a folder with all that is below it. */
void disk_remove_tree(const char *dir);

/* A file being written: hashed as it grows, in DIR/tmp until somebody renames it. */
struct disk_writer {
	struct disk *disk;
	int fd;			/* -1 with discard */
	char *path;		/* NULL when it was renamed, or with discard */
	uint64_t size;
	struct digest *md5, *sha256;
	enum err err;		/* the first failure; later bytes are dropped */
};
/* md5, sha256: which digests are wanted. */
struct disk_writer *disk_writer_new(struct disk *d, bool md5, bool sha256);
void disk_writer_add(struct disk_writer *w, const void *p, size_t n);
/* Takes the same range of another file, by the kernel's copy if no digest is wanted. */
void writer_add_file(struct disk_writer *w, int fd, uint64_t off, uint64_t n);
/* Gives the file its final name, in a folder that is made if missing. */
enum err disk_writer_publish(struct disk_writer *w, const char *path) ERR_MUST_CHECK;
/* Removes the file if it was not published. Takes NULL, clears the pointer. */
void disk_writer_free(struct disk_writer **w);

#endif
