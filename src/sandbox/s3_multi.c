#include "sandbox/s3.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sandbox/disk.h"
#include "sandbox/multipart.h"
#include "sandbox/objects.h"
#include "sandbox/xml.h"

enum { PAGE = 1000 };

/* The upload that the request names; answers NoSuchUpload. */
static struct upload *
find_upload(struct s3_req *r, struct bucket *b)
{
	struct upload *u = multipart_find(b, s3_param(r, "uploadId"), r->nfc.p, r->nfc.len);

	if (u == NULL)
		s3_reply_error(r, S3_NO_UPLOAD);
	return u;
}

bool
s3_create_begin(struct s3_req *r)
{
	return s3_storage_class(r) && s3_content_md5(r) && s3_collect_stored(r);
}

void
s3_create_commit(struct s3_req *r)
{
	struct bucket *b = s3_bucket(r);
	struct upload *u;

	if (b == NULL)
		return;
	if (multipart_create(b, r->key.p, r->key.len, str_z(&r->stored), r->infrequent, &u) != ERR_OK) {
		s3_reply_error(r, S3_INTERNAL);
		return;
	}
	xml_root(&r->body, "InitiateMultipartUploadResult");
	xml_text(&r->body, "UploadId", u->id);
	xml_text(&r->body, "Bucket", b->name);
	xml_text_n(&r->body, "Key", r->key.p, r->key.len);
	xml_close(&r->body, "InitiateMultipartUploadResult");
	s3_reply_xml(r);
}

bool
s3_part_begin(struct s3_req *r)
{
	struct bucket *b;

	if (r->part_number == 0) {
		s3_reply_errorf(
		    r, S3_INVALID_ARGUMENT, "Part number must be an integer between 1 and 10000, inclusive.");
		return false;
	}
	return s3_content_md5(r) && (b = s3_bucket(r)) != NULL && find_upload(r, b) != NULL;
}

void
s3_part_failed(struct s3_req *r)
{
	struct bucket *b = disk_bucket(r->sb->disk, r->bucket_name);
	struct upload *u = b == NULL ? NULL : multipart_find(b, s3_param(r, "uploadId"), r->nfc.p, r->nfc.len);

	if (u != NULL)
		multipart_drop(u, r->part_number);
}

void
s3_part_commit(struct s3_req *r)
{
	struct bucket *b = s3_bucket(r);
	struct upload *u = b == NULL ? NULL : find_upload(r, b);
	struct str line = STR_INIT;

	if (u == NULL)
		return;
	if (multipart_put(u, r->part_number, r->writer, r->md5) == ERR_OK) {
		str_addz(&line, "ETag: \"");
		str_add_hex(&line, r->md5, sizeof(r->md5));
		str_addz(&line, "\"\r\n");
		s3_reply(r, 200, line.p);
	} else
		s3_reply_error(r, S3_INTERNAL);
	str_fini(&line);
}

/* ---- Complete ---- */

struct completion {
	struct part_ref *v;
	size_t n;
	bool has_number, has_etag, out_of_range;
};

/* A whole number, with blanks around it; false: it is none. */
static bool
whole_number(const char *text, long *out)
{
	char *end;

	while (isspace((unsigned char)*text))
		text++;
	if (*text == '\0')
		return false;
	*out = strtol(text, &end, 10);
	while (isspace((unsigned char)*end))
		end++;
	return *end == '\0';
}

static bool
completion_field(void *arg, const char *item, const char *name, const char *text, size_t n)
{
	struct completion *c = arg;
	struct part_ref *p = &c->v[c->n];
	long number;

	if (item == NULL || strcmp(item, "Part") != 0)
		return true;
	if (c->n == MULTIPART_PARTS_MAX)
		return false;
	if (strcmp(name, "PartNumber") == 0) {
		if (!whole_number(text, &number))
			return false;
		if (number < 1 || number > MULTIPART_PARTS_MAX)
			c->out_of_range = true;
		else
			p->number = (unsigned)number;
		c->has_number = true;
	} else if (strcmp(name, "ETag") == 0) {
		bool front = n > 0 && text[0] == '"', back = n > 1 && text[n - 1] == '"';
		size_t len = n - front - back;

		/* Longer than any part's: it cannot be found, but it is no malformed document. */
		snprintf(p->etag, sizeof(p->etag), "%.*s", (int)(len < sizeof(p->etag) ? len : sizeof(p->etag) - 1),
		    text + front);
		c->has_etag = true;
	}
	return true;
}

static bool
completion_end(void *arg, const char *item)
{
	struct completion *c = arg;
	bool ok = c->has_number && c->has_etag;

	if (strcmp(item, "Part") != 0)
		return true;
	c->has_number = c->has_etag = false;
	c->n++;
	return ok;
}

static void
complete_done(struct s3_req *r)
{
	struct upload *u = r->upload;
	char etag[48];
	enum err e;

	multipart_etag(u, r->copy.parts, r->copy.nparts, etag);
	struct object_put p = {u->nfc, u->nfc_len, u->name, u->nlen, etag, u->infrequent, u->headers};
	e = r->writer->err != ERR_OK ? r->writer->err : objects_put(u->bucket, r->writer, &p, NULL);
	r->upload = NULL;
	if (e != ERR_OK) {
		u->completing = false;
		s3_reply_error(r, S3_INTERNAL);
		return;
	}
	multipart_remove(u);
	xml_root(&r->body, "CompleteMultipartUploadResult");
	xml_text(&r->body, "Bucket", r->bucket_name);
	xml_text_n(&r->body, "Key", r->key.p, r->key.len);
	str_printf(&r->body, "<ETag>&quot;%s&quot;</ETag><Location>http://", etag);
	xml_escape(&r->body, s3_header(r, "host"), strlen(s3_header(r, "host")));
	str_printf(&r->body, "/%s/", r->bucket_name);
	str_add_uri(&r->body, r->key.p, r->key.len, false);
	str_addz(&r->body, "</Location>");
	xml_close(&r->body, "CompleteMultipartUploadResult");
	s3_reply_xml(r);
}

static void
complete(struct s3_req *r, struct upload *u)
{
	switch (multipart_check(u, r->copy.parts, r->copy.nparts)) {
	case MULTIPART_OK:
		if (!s3_take_rate(r))
			return;
		u->completing = true;
		r->upload = u;
		r->writer = disk_writer_new(r->sb->disk, false, false);
		s3_copy_start(r, complete_done);
		return;
	case MULTIPART_NO_PART:
		s3_reply_error(r, S3_NO_PART);
		return;
	case MULTIPART_TWICE:
		s3_reply_error(r, S3_PART_TWICE);
		return;
	case MULTIPART_SMALL:
		s3_reply_error(r, S3_TOO_SMALL);
		return;
	case MULTIPART_UNEQUAL:
		s3_reply_error(r, S3_PART_LENGTH);
		return;
	}
}

void
s3_complete_commit(struct s3_req *r)
{
	struct completion c = {.n = 0};
	struct xml_reader x = {"CompleteMultipartUpload", completion_field, completion_end, &c};
	struct bucket *b = s3_bucket(r);
	struct upload *u;

	if (b == NULL)
		return;
	c.v = mem_calloc(MULTIPART_PARTS_MAX + 1, sizeof(c.v[0]));
	r->copy.parts = c.v;
	if (!xml_read(&x, str_z(&r->small), r->small.len) || c.n == 0) {
		s3_reply_error(r, S3_MALFORMED_XML);
		return;
	}
	r->copy.nparts = c.n;
	if (c.out_of_range)
		s3_reply_error(r, S3_NO_PART);
	else if ((u = find_upload(r, b)) != NULL)
		complete(r, u);
}

void
s3_abort_commit(struct s3_req *r)
{
	struct bucket *b = s3_bucket(r);
	struct upload *u = b == NULL ? NULL : find_upload(r, b);

	if (u == NULL)
		return;
	multipart_remove(u);
	s3_reply(r, 204, NULL);
}

/* ---- lists ---- */

/* A parameter that is a number up to max; absent: def. false: answered. */
static bool
number_param(struct s3_req *r, const char *name, unsigned def, unsigned max, unsigned *out)
{
	const char *v = s3_param(r, name);
	uint64_t n = def;

	if (v != NULL && !str_to_u64(v, strlen(v), &n)) {
		s3_reply_errorf(r, S3_INVALID_ARGUMENT, "%s must be a positive integer", name);
		return false;
	}
	*out = n < max ? (unsigned)n : max;
	return true;
}

void
s3_parts_commit(struct s3_req *r)
{
	struct bucket *b = s3_bucket(r);
	struct upload *u = b == NULL ? NULL : find_upload(r, b);
	unsigned max, marker, last = 0, shown = 0;
	size_t i = 0;

	if (u == NULL || !number_param(r, "max-parts", PAGE, PAGE, &max) ||
	    !number_param(r, "part-number-marker", 0, MULTIPART_PARTS_MAX, &marker))
		return;
	xml_root(&r->body, "ListPartsResult");
	xml_text(&r->body, "Bucket", b->name);
	xml_text_n(&r->body, "Key", u->name, u->nlen);
	xml_text(&r->body, "UploadId", u->id);
	xml_u64(&r->body, "PartNumberMarker", marker);
	while (i < u->n && u->parts[i].number <= marker)
		i++;
	for (; i < u->n && shown < max; i++, shown++) {
		char iso[25];

		clock_iso(u->parts[i].modified_ms, iso);
		str_printf(&r->body, "<Part><PartNumber>%u</PartNumber><LastModified>%s</LastModified><ETag>&quot;",
		    u->parts[i].number, iso);
		str_add_hex(&r->body, u->parts[i].md5, sizeof(u->parts[i].md5));
		str_printf(&r->body, "&quot;</ETag><Size>%llu</Size></Part>", (unsigned long long)u->parts[i].size);
		last = u->parts[i].number;
	}
	if (i < u->n)
		xml_u64(&r->body, "NextPartNumberMarker", last);
	xml_u64(&r->body, "MaxParts", max);
	xml_text(&r->body, "IsTruncated", i < u->n ? "true" : "false");
	xml_text(&r->body, "StorageClass", u->infrequent ? "STANDARD_IA" : "STANDARD");
	xml_close(&r->body, "ListPartsResult");
	s3_reply_xml(r);
}

static int
upload_cmp(const void *a, const void *b)
{
	const struct upload *x = *(const struct upload *const *)a, *y = *(const struct upload *const *)b;
	int c = keyidx_cmp(x->nfc, x->nfc_len, y->nfc, y->nfc_len);

	if (c == 0)
		c = (x->initiated_ms > y->initiated_ms) - (x->initiated_ms < y->initiated_ms);
	return c != 0 ? c : strcmp(x->id, y->id);
}

/* The uploads below prefix, in the order of the list. */
static struct upload **
sorted_uploads(struct bucket *b, const char *prefix, size_t *n)
{
	struct list *it, *next;
	struct upload **v;
	size_t max = 0;

	LIST_FOREACH(it, next, &b->uploads)
	max++;
	v = mem_calloc(max + 1, sizeof(struct upload *));
	*n = 0;
	LIST_FOREACH(it, next, &b->uploads) {
		struct upload *u = LIST_ENTRY(it, struct upload, node);

		if (!u->completing && u->nlen >= strlen(prefix) && memcmp(u->name, prefix, strlen(prefix)) == 0)
			v[(*n)++] = u;
	}
	qsort(v, *n, sizeof(struct upload *), upload_cmp);
	return v;
}

static void
add_key(struct s3_req *r, const char *name, const char *p, size_t n, bool encode)
{
	struct str s = STR_INIT;

	if (encode)
		str_add_uri(&s, p, n, false);
	xml_text_n(&r->body, name, encode ? str_z(&s) : p, encode ? s.len : n);
	str_fini(&s);
}

/* Where to go on: behind the marker's id within its key, else behind the key. */
static size_t
skip_uploads(struct upload **v, size_t n, const char *key, const char *id)
{
	size_t i = 0, at;

	while (i < n && keyidx_cmp(v[i]->name, v[i]->nlen, key, strlen(key)) < 0)
		i++;
	for (at = i; at < n && *key != '\0' && keyidx_cmp(v[at]->name, v[at]->nlen, key, strlen(key)) == 0; at++)
		if (*id != '\0' && strcmp(v[at]->id, id) == 0)
			return at + 1;
	return at;
}

void
s3_uploads_commit(struct s3_req *r)
{
	const char *prefix = s3_param(r, "prefix"), *key = s3_param(r, "key-marker"),
		   *id = s3_param(r, "upload-id-marker");
	const char *enc = s3_param(r, "encoding-type");
	bool encode = enc != NULL && strcmp(enc, "url") == 0;
	struct bucket *b = s3_bucket(r);
	struct upload **v, *last = NULL;
	size_t n, i;
	unsigned max;

	if (b == NULL || !number_param(r, "max-uploads", PAGE, PAGE, &max))
		return;
	v = sorted_uploads(b, prefix == NULL ? "" : prefix, &n);
	i = skip_uploads(v, n, key == NULL ? "" : key, id == NULL ? "" : id);
	xml_root(&r->body, "ListMultipartUploadsResult");
	xml_text(&r->body, "Bucket", b->name);
	for (unsigned shown = 0; i < n && shown < max; i++, shown++) {
		char iso[25];

		last = v[i];
		clock_iso(last->initiated_ms, iso);
		xml_open(&r->body, "Upload");
		add_key(r, "Key", last->name, last->nlen, encode);
		xml_text(&r->body, "UploadId", last->id);
		xml_text(&r->body, "StorageClass", last->infrequent ? "STANDARD_IA" : "STANDARD");
		xml_text(&r->body, "Initiated", iso);
		xml_close(&r->body, "Upload");
	}
	xml_text(&r->body, "KeyMarker", key == NULL ? "" : key);
	xml_text(&r->body, "UploadIdMarker", id == NULL ? "" : id);
	if (i < n && last != NULL) {
		add_key(r, "NextKeyMarker", last->name, last->nlen, encode);
		xml_text(&r->body, "NextUploadIdMarker", last->id);
	}
	xml_u64(&r->body, "MaxUploads", max);
	xml_text(&r->body, "Prefix", prefix == NULL ? "" : prefix);
	xml_text(&r->body, "IsTruncated", i < n ? "true" : "false");
	if (encode)
		xml_text(&r->body, "EncodingType", "url");
	xml_close(&r->body, "ListMultipartUploadsResult");
	s3_reply_xml(r);
	mem_free(v);
}
