#include "sandbox/s3.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "sandbox/disk.h"
#include "sandbox/multipart.h"
#include "sandbox/objects.h"
#include "sandbox/xml.h"

enum { STEP = 8 * 1024 * 1024 };

/* ---- content into a writer, a step a turn of the loop ---- */

static void
close_source(struct s3_req *r)
{
	if (r->copy.fd >= 0)
		close(r->copy.fd);
	r->copy.fd = -1;
}

/* Opens the next part of a Complete; false: there is none. */
static bool
next_source(struct s3_req *r)
{
	struct part *p;

	close_source(r);
	if (r->copy.next >= r->copy.nparts)
		return false;
	p = multipart_part(r->upload, r->copy.parts[r->copy.next++].number);
	ASSERT(p != NULL);
	r->copy.off = 0;
	r->copy.left = p->size;
	if (r->sb->disk->discard) {
		r->writer->size += p->size;
		r->copy.left = 0;
		return true;
	}
	r->copy.fd = multipart_open_part(r->upload, p);
	if (r->copy.fd < 0)
		r->writer->err = ERR_IO;
	return r->copy.fd >= 0;
}

static void
copy_step(void *arg)
{
	struct s3_req *r = arg;
	uint64_t budget = STEP;

	while (budget > 0 && r->writer->err == ERR_OK) {
		uint64_t n = r->copy.left < budget ? r->copy.left : budget;

		if (r->copy.left == 0) {
			if (!next_source(r))
				break;
			continue;
		}
		writer_add_file(r->writer, r->copy.fd, r->copy.off, n);
		r->copy.off += n;
		r->copy.left -= n;
		budget -= n;
	}
	if (budget == 0 && r->writer->err == ERR_OK) {
		loop_call_soon(&r->copy.call);
		return;
	}
	close_source(r);
	r->copy.done(r);
}

void
s3_copy_start(struct s3_req *r, void (*done)(struct s3_req *r))
{
	r->copy.done = done;
	loop_call_init(&r->copy.call, r->sb->loop, copy_step, r);
	loop_call_soon(&r->copy.call);
}

void
s3_copy_fini(struct s3_req *r)
{
	if (r->copy.done != NULL)
		loop_call_cancel(&r->copy.call);
	close_source(r);
	mem_free(r->copy.parts);
	r->copy.parts = NULL;
	if (r->upload != NULL)
		r->upload->completing = false;
	r->upload = NULL;
}

/* ---- CopyObject, UploadPartCopy ---- */

/* x-amz-copy-source: "/bucket/key" or "bucket/key", percent-encoded. NULL: answered. */
static const struct object *
find_source(struct s3_req *r, struct bucket **from)
{
	const char *v = s3_header(r, "x-amz-copy-source"), *p, *slash;
	struct str path = STR_INIT, nfc = STR_INIT;
	const struct object *o = NULL;
	char *name;

	if (!query_decode_path(&path, v, strlen(v))) {
		str_fini(&path);
		s3_reply_errorf(r, S3_INVALID_ARGUMENT, "copy source bucket name");
		return NULL;
	}
	p = str_z(&path) + (*str_z(&path) == '/');
	slash = strchr(p, '/');
	if (slash == NULL || slash[1] == '\0') {
		s3_reply_errorf(r, S3_INVALID_ARGUMENT, "copy source bucket name");
		str_fini(&path);
		return NULL;
	}
	name = mem_strndup(p, (size_t)(slash - p));
	*from = disk_bucket(r->sb->disk, name);
	mem_free(name);
	if (*from != NULL && utf8_add_nfc(&nfc, slash + 1, strlen(slash + 1)))
		o = objects_get(*from, nfc.p, nfc.len);
	if (o == NULL)
		s3_reply_error(r, *from == NULL ? S3_NO_BUCKET : S3_NO_KEY);
	str_fini(&path);
	str_fini(&nfc);
	return o;
}

bool
s3_copy_begin(struct s3_req *r)
{
	const char *d = s3_header(r, "x-amz-metadata-directive");

	if (d != NULL && strcmp(d, "COPY") != 0 && strcmp(d, "REPLACE") != 0 && strcmp(d, "MERGE") != 0) {
		s3_reply_errorf(r, S3_INVALID_ARGUMENT, "metadata directive %s.", d);
		return false;
	}
	return s3_storage_class(r) && s3_collect_stored(r);
}

static bool
has_line(const struct str *lines, const char *name, size_t n)
{
	for (const char *p = str_z(lines); *p != '\0';) {
		size_t len = strcspn(p, "\n");

		if (len > n && str_ieq(p, name, n) && p[n] == ':')
			return true;
		p += len + (p[len] == '\n');
	}
	return false;
}

/* COPY: the source's lines. REPLACE: the request's. MERGE: the request's, and those of the source that they do not
 * name. */
static void
merge_stored(struct s3_req *r, const struct str *source)
{
	const char *d = s3_header(r, "x-amz-metadata-directive");

	if (d != NULL && strcmp(d, "REPLACE") == 0)
		return;
	if (d == NULL || strcmp(d, "COPY") == 0) {
		str_clear(&r->stored);
		str_add(&r->stored, str_z(source), source->len);
		return;
	}
	if (s3_header(r, "content-type") == NULL) /* the default line stands first, and must not win */
		str_drop(&r->stored, strcspn(str_z(&r->stored), "\n") + 1);
	for (const char *p = str_z(source); *p != '\0';) {
		size_t len = strcspn(p, "\n");

		len += p[len] == '\n';
		if (!has_line(&r->stored, p, strcspn(p, ":")))
			str_add(&r->stored, p, len);
		p += len;
	}
}

static void
copy_done(struct s3_req *r)
{
	struct bucket *b = s3_bucket(r);
	struct cond c = {s3_header(r, "cf-copy-destination-if-match"),
	    s3_header(r, "cf-copy-destination-if-none-match"), s3_header(r, "cf-copy-destination-if-modified-since"),
	    s3_header(r, "cf-copy-destination-if-unmodified-since")};
	struct object *old, *o;
	struct str etag = STR_INIT;
	char iso[25];

	if (b == NULL)
		return;
	old = objects_get(b, r->nfc.p, r->nfc.len);
	if (cond_any(&c) &&
	    cond_test(&c, old == NULL ? NULL : old->etag, old == NULL ? 0 : old->modified_ms) != COND_HOLDS) {
		s3_reply_error(r, S3_PRECONDITION);
		return;
	}
	if (!s3_take_rate(r))
		return;
	digest_final(r->writer->md5, r->md5);
	str_add_hex(&etag, r->md5, sizeof(r->md5));
	struct object_put p = {r->nfc.p, r->nfc.len, r->key.p, r->key.len, etag.p, r->infrequent, str_z(&r->stored)};
	if (objects_put(b, r->writer, &p, &o) == ERR_OK) {
		clock_iso(o->modified_ms, iso);
		xml_root(&r->body, "CopyObjectResult");
		str_printf(&r->body, "<ETag>&quot;%s&quot;</ETag><LastModified>%s</LastModified></CopyObjectResult>",
		    o->etag, iso);
		s3_reply_xml(r);
	} else
		s3_reply_error(r, S3_INTERNAL);
	str_fini(&etag);
}

/* The source is open: conditions, then its bytes. */
static bool
open_source(struct s3_req *r, const struct cond *c, const struct object **o, struct str *stored)
{
	struct bucket *from;

	if (s3_bucket(r) == NULL || (*o = find_source(r, &from)) == NULL)
		return false;
	if (cond_any(c) && cond_test(c, (*o)->etag, (*o)->modified_ms) != COND_HOLDS) {
		s3_reply_error(r, S3_PRECONDITION);
		return false;
	}
	if (r->sb->disk->discard) {
		s3_reply_errorf(r, S3_NOT_IMPLEMENTED, "%s of discarded content not implemented", s3_op_name(r->op));
		return false;
	}
	if (objects_open(from, *o, &r->copy.fd, stored) != ERR_OK) {
		s3_reply_error(r, S3_INTERNAL);
		return false;
	}
	r->writer = disk_writer_new(r->sb->disk, true, false);
	return true;
}

void
s3_copy_commit(struct s3_req *r)
{
	struct cond c = {s3_header(r, "x-amz-copy-source-if-match"), s3_header(r, "x-amz-copy-source-if-none-match"),
	    s3_header(r, "x-amz-copy-source-if-modified-since"), s3_header(r, "x-amz-copy-source-if-unmodified-since")};
	struct str stored = STR_INIT;
	const struct object *o;

	if (open_source(r, &c, &o, &stored)) {
		merge_stored(r, &stored);
		r->copy.left = o->size;
		s3_copy_start(r, copy_done);
	}
	str_fini(&stored);
}

static void
part_copy_done(struct s3_req *r)
{
	struct bucket *b = s3_bucket(r);
	struct upload *u;
	struct str etag = STR_INIT;
	char iso[25];

	if (b == NULL)
		return;
	u = multipart_find(b, s3_param(r, "uploadId"), r->nfc.p, r->nfc.len);
	digest_final(r->writer->md5, r->md5);
	if (u == NULL)
		s3_reply_error(r, S3_NO_UPLOAD);
	else if (multipart_put(u, r->part_number, r->writer, r->md5) != ERR_OK)
		s3_reply_error(r, S3_INTERNAL);
	else {
		str_add_hex(&etag, r->md5, sizeof(r->md5));
		clock_iso(clock_real_ms(), iso);
		xml_root(&r->body, "CopyPartResult");
		str_printf(&r->body, "<ETag>&quot;%s&quot;</ETag><LastModified>%s</LastModified></CopyPartResult>",
		    etag.p, iso);
		s3_reply_xml(r);
	}
	str_fini(&etag);
}

/* "bytes=a-b", both given; the end is cut to the object's. false: answered. */
static bool
copy_range(struct s3_req *r, uint64_t size)
{
	const char *v = s3_header(r, "x-amz-copy-source-range"), *dash;
	uint64_t first, last;

	r->copy.off = 0;
	r->copy.left = size;
	if (v == NULL)
		return true;
	dash = strchr(v, '-');
	if (strncmp(v, "bytes=", 6) != 0 || dash == NULL || !str_to_u64(v + 6, (size_t)(dash - v - 6), &first) ||
	    !str_to_u64(dash + 1, strlen(dash + 1), &last)) {
		s3_reply_errorf(r, S3_INVALID_ARGUMENT, "Invalid x-amz-copy-source-range: %s", v);
		return false;
	}
	if (last < first) {
		s3_reply_errorf(r, S3_INVALID_ARGUMENT, "x-amz-copy-source-range must be positive.");
		return false;
	}
	if (first >= size) {
		s3_reply_error(r, S3_RANGE);
		return false;
	}
	r->copy.off = first;
	r->copy.left = (last < size ? last : size - 1) - first + 1;
	return true;
}

void
s3_part_copy_commit(struct s3_req *r)
{
	struct str stored = STR_INIT;
	struct cond none = {NULL, NULL, NULL, NULL};
	const struct object *o;

	if (r->part_number == 0)
		s3_reply_errorf(
		    r, S3_INVALID_ARGUMENT, "Part number must be an integer between 1 and 10000, inclusive.");
	else if (open_source(r, &none, &o, &stored) && copy_range(r, o->size))
		s3_copy_start(r, part_copy_done);
	str_fini(&stored);
}
