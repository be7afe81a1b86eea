/*
 * s3xml: the XML documents of the S3 interface, both ways: what R2 answers, read with expat, and what is sent to it.
 * A document type is refused (no entity is ever expanded). Pure; thread safe.
 * Source: developers.cloudflare.com/r2/api/s3/api and docs.aws.amazon.com/AmazonS3/latest/API.
 */
#ifndef STORE_S3XML_H
#define STORE_S3XML_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

struct store_list_entry;

/* Is the document an <Error>? code and message (may be NULL) get its parts. An answer of status 200 may be one. */
bool s3xml_error(const char *p, size_t n, char code[64], struct str *message);

/* ListObjectsV2's result. Keys are decoded. Embedded: zero it; s3xml_list_fini. */
struct s3xml_list {
	struct store_list_entry *v;
	size_t n, cap;
	bool truncated;
	char *next; /* NextContinuationToken, or NULL */
};
/* PROTO if it is not a ListBucketResult, misses what it needs, or is truncated without a token. */
enum err s3xml_list(const char *p, size_t n, struct s3xml_list *out) ERR_MUST_CHECK;
void s3xml_list_fini(struct s3xml_list *l);

/* ListMultipartUploads' result. Embedded: zero it; s3xml_uploads_fini. */
struct s3xml_upload {
	char *key, *id;
};
struct s3xml_uploads {
	struct s3xml_upload *v;
	size_t n, cap;
	bool truncated;
	char *next_key, *next_id; /* where to go on */
};
enum err s3xml_uploads(const char *p, size_t n, struct s3xml_uploads *out) ERR_MUST_CHECK;
void s3xml_uploads_fini(struct s3xml_uploads *u);

/* CreateMultipartUpload's result: the upload's id, the caller's. */
enum err s3xml_created(const char *p, size_t n, char **upload_id) ERR_MUST_CHECK;
/* CompleteMultipartUpload's result: the ETag, without quotes. PROTO for anything else, an <Error> too. */
enum err s3xml_completed(const char *p, size_t n, char etag[80]) ERR_MUST_CHECK;

/* Text as XML character data; bytes that XML cannot hold (controls) become '?'. */
void s3xml_escape(struct str *out, const char *p, size_t n);
/* An ETag without its quotes and its W/; cut at 79 characters. */
void s3xml_etag(char out[80], const char *p, size_t n);

#endif
