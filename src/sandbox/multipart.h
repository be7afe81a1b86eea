/*
 * multipart: the unfinished multipart uploads of a bucket. A folder each: "upload" says what the object will be, a file a
 * part, its number and MD5 in its name. They outlive a restart and expire after seven days, as R2's default rule has it.
 */
#ifndef SANDBOX_MULTIPART_H
#define SANDBOX_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/list.h"

struct bucket;
struct disk_writer;
struct str;

enum { MULTIPART_PARTS_MAX = 10000, MULTIPART_MIN_PART = 5 * 1024 * 1024 };

struct part {
	unsigned number;
	uint64_t size, modified_ms;
	uint8_t md5[DIGEST_MD5_LEN];
};

struct upload {
	struct list node;
	struct bucket *bucket;
	char *id;		/* what the client knows it by: about 300 characters of base64 */
	char *dir;
	char *name;		/* the key as the client spelt it */
	size_t nlen;
	char *nfc;
	size_t nfc_len;
	char *headers;		/* of the object to be */
	bool infrequent;
	uint64_t initiated_ms;
	bool completing;	/* its object is being put together: gone for everybody else */
	struct part *parts;	/* by number */
	size_t n, cap;
};

enum err multipart_load(struct bucket *b, struct errbuf *eb) ERR_MUST_CHECK;
void multipart_unload(struct bucket *b);

enum err multipart_create(struct bucket *b, const char *name, size_t nlen, const char *headers, bool infrequent,
    struct upload **out) ERR_MUST_CHECK;
/* The upload of that id, if it is one of this key (NFC); NULL if unknown, expired or being completed. */
struct upload *multipart_find(struct bucket *b, const char *id, const char *nfc, size_t len);
/* Stores a written part, in place of one of that number. md5: of its content. */
enum err multipart_put(struct upload *u, unsigned number, struct disk_writer *w, const uint8_t md5[DIGEST_MD5_LEN]) ERR_MUST_CHECK;
/* Forgets a part: a repeated upload of it has failed (R2 loses the earlier one then). */
void multipart_drop(struct upload *u, unsigned number);
struct part *multipart_part(const struct upload *u, unsigned number);
int multipart_open_part(const struct upload *u, const struct part *p);
/* Removes an upload and its parts. */
void multipart_remove(struct upload *u);

/* One line of a request to complete. */
struct part_ref {
	unsigned number;
	char etag[40];		/* without quotes */
};
enum multipart_fault { MULTIPART_OK, MULTIPART_NO_PART, MULTIPART_TWICE, MULTIPART_SMALL, MULTIPART_UNEQUAL };
/* Sorts the list and holds it against the parts that are there, by R2's rules: all but the last of one length and of at
 * least 5 MiB, the last not longer. */
enum multipart_fault multipart_check(const struct upload *u, struct part_ref *v, size_t n);
/* "hex-N": MD5 of the parts' binary MD5s. */
void multipart_etag(const struct upload *u, const struct part_ref *v, size_t n, char out[48]);

#endif
