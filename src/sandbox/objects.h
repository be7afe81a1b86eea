/*
 * objects: the objects of a bucket. A key's identity is its NFC form, the spelling shown is the last one stored
 * (developers.cloudflare.com/r2/reference/unicode-interoperability). One file an object: the content from offset 0, behind
 * it what is known of it, published by one rename. An index of all keys is in memory, rebuilt at start.
 */
#ifndef SANDBOX_OBJECTS_H
#define SANDBOX_OBJECTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "sandbox/keyidx.h"

struct bucket;
struct disk_writer;

struct object {
	struct keyidx_node node;	/* first; the key's NFC form */
	char *name;			/* the spelling; node.key itself if it is the same */
	size_t nlen;
	uint64_t size, modified_ms;
	char etag[48];			/* without quotes */
	bool infrequent;		/* storage class STANDARD_IA */
	char *headers;			/* with discard: what is in the file otherwise; else NULL */
};

enum err objects_load(struct bucket *b, struct errbuf *eb) ERR_MUST_CHECK;
/* Frees the index's entries, no file. */
void objects_unload(struct bucket *b);

struct object *objects_get(const struct bucket *b, const char *nfc, size_t len);

struct object_put {
	const char *nfc;
	size_t nfc_len;
	const char *name;
	size_t name_len;
	const char *etag;
	bool infrequent;
	const char *headers;		/* header lines "Name: value\r\n" to be sent back as they are */
};
/* Publishes a written file as an object, in place of one of that key. */
enum err objects_put(struct bucket *b, struct disk_writer *w, const struct object_put *p, struct object **out) ERR_MUST_CHECK;
/* true: there was one. */
bool objects_delete(struct bucket *b, const char *nfc, size_t len);
/* Opens an object's file (content from offset 0), and gives its header lines. With discard *fd is -1. */
enum err objects_open(const struct bucket *b, const struct object *o, int *fd, struct str *headers) ERR_MUST_CHECK;

#endif
