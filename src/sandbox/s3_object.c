#include "sandbox/s3.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "sandbox/disk.h"
#include "sandbox/objects.h"
#include "sandbox/xml.h"

enum { DELETE_KEYS_MAX = 1000 };

/* ---- PutObject ---- */

bool
s3_put_begin(struct s3_req *r)
{
	return s3_storage_class(r) && s3_content_md5(r) && s3_collect_stored(r);
}

void
s3_put_commit(struct s3_req *r)
{
	struct bucket *b = s3_bucket(r);
	struct cond c = s3_cond(r);
	struct object *old;
	struct str etag = STR_INIT;
	char line[80];

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
	str_add_hex(&etag, r->md5, sizeof(r->md5));
	struct object_put p = {r->nfc.p, r->nfc.len, r->key.p, r->key.len, etag.p, r->infrequent, str_z(&r->stored)};
	if (objects_put(b, r->writer, &p, NULL) == ERR_OK) {
		snprintf(line, sizeof(line), "ETag: \"%s\"\r\n", etag.p);
		s3_reply(r, 200, line);
	} else
		s3_reply_error(r, S3_INTERNAL);
	str_fini(&etag);
}

/* ---- GetObject, HeadObject ---- */

struct range {
	bool given, suffix;
	uint64_t first, last; /* suffix: the last "last" bytes */
};

static bool
malformed_range(struct s3_req *r)
{
	s3_reply_errorf(
	    r, S3_INVALID_ARGUMENT, "range must be in format 'bytes=start-end', 'bytes=start-' or 'bytes=-suffix'.'");
	return false;
}

/* Digits, of any size: beyond 2^63 they mean the end. */
static bool
digits(const char *p, size_t n, uint64_t *out)
{
	if (n == 0 || strspn(p, "0123456789") < n)
		return false;
	if (!str_to_u64(p, n, out))
		*out = INT64_MAX;
	return true;
}

/* One range, or refused: R2 neither ignores nor combines. false: answered. */
static bool
parse_range(struct s3_req *r, struct range *g)
{
	const char *v = s3_header(r, "range"), *dash;

	memset(g, 0, sizeof(*g));
	if (v == NULL)
		return true;
	g->given = true;
	if (strncmp(v, "bytes=", 6) != 0 || (dash = strchr(v + 6, '-')) == NULL)
		return malformed_range(r);
	v += 6;
	g->last = UINT64_MAX;
	if (dash == v) {
		g->suffix = true;
		if (!digits(dash + 1, strlen(dash + 1), &g->last))
			return malformed_range(r);
		if (g->last == 0) {
			s3_reply_error(r, S3_RANGE);
			return false;
		}
		return true;
	}
	if (!digits(v, (size_t)(dash - v), &g->first) ||
	    (dash[1] != '\0' && !digits(dash + 1, strlen(dash + 1), &g->last)))
		return malformed_range(r);
	if (g->first > g->last) {
		s3_reply_errorf(r, S3_INVALID_ARGUMENT, "range must be positive.");
		return false;
	}
	return true;
}

/* The range's place in an object of that size; false: there is none. */
static bool
resolve_range(const struct range *g, uint64_t size, uint64_t *off, uint64_t *n)
{
	*off = 0;
	*n = size;
	if (!g->given)
		return true;
	if (size == 0 || (!g->suffix && g->first >= size))
		return false;
	if (g->suffix) {
		*n = g->last < size ? g->last : size;
		*off = size - *n;
	} else {
		*off = g->first;
		*n = (g->last < size ? g->last : size - 1) - g->first + 1;
	}
	return true;
}

static void
add_object_headers(struct str *lines, const struct object *o, const struct str *stored)
{
	char date[30];

	clock_http_date((int64_t)(o->modified_ms / 1000), date);
	str_add(lines, str_z(stored), stored->len);
	str_printf(lines, "ETag: \"%s\"\r\nLast-Modified: %s\r\nAccept-Ranges: bytes\r\n", o->etag, date);
	if (o->infrequent)
		str_addz(lines, "x-amz-storage-class: STANDARD_IA\r\n");
}

/* The object is there and its conditions hold: send it, or its range. */
static void
serve(struct s3_req *r, const struct object *o, const struct range *g, int fd, struct str *lines)
{
	uint64_t off, n;

	if (!resolve_range(g, o->size, &off, &n)) {
		s3_reply_error(r, S3_RANGE);
		if (fd >= 0)
			close(fd);
		return;
	}
	if (r->op == S3_OP_GET_OBJECT && o->headers != NULL && n > 0) {
		s3_reply_errorf(r, S3_NOT_IMPLEMENTED, "GetObject of discarded content not implemented");
		return;
	}
	if (g->given)
		str_printf(lines, "Content-Range: bytes %llu-%llu/%llu\r\n", (unsigned long long)off,
		    (unsigned long long)(off + n - 1), (unsigned long long)o->size);
	s3_reply_file(r, g->given ? 206 : 200, str_z(lines), fd, off, n);
}

void
s3_get_commit(struct s3_req *r)
{
	struct bucket *b = s3_bucket(r);
	struct str stored = STR_INIT, lines = STR_INIT;
	struct cond c = s3_cond(r);
	const struct object *o;
	struct range g;
	int fd;

	if (b == NULL || !parse_range(r, &g))
		return;
	o = objects_get(b, r->nfc.p, r->nfc.len);
	if (o == NULL) {
		s3_reply_error(r, S3_NO_KEY);
		return;
	}
	if (objects_open(b, o, &fd, &stored) != ERR_OK) {
		s3_reply_error(r, S3_INTERNAL);
		return;
	}
	add_object_headers(&lines, o, &stored);
	switch (cond_test(&c, o->etag, o->modified_ms)) {
	case COND_HOLDS:
		serve(r, o, &g, fd, &lines);
		fd = -1;
		break;
	case COND_FAILED:
		s3_reply_error(r, S3_PRECONDITION);
		break;
	case COND_NOT_MODIFIED:
		s3_reply(r, 304, str_z(&lines));
		break;
	}
	if (fd >= 0)
		close(fd);
	str_fini(&stored);
	str_fini(&lines);
}

/* ---- DeleteObject, DeleteObjects ---- */

void
s3_delete_commit(struct s3_req *r)
{
	struct bucket *b = s3_bucket(r);

	if (b == NULL)
		return;
	if (objects_get(b, r->nfc.p, r->nfc.len) != NULL) {
		if (!s3_take_rate(r))
			return;
		objects_delete(b, r->nfc.p, r->nfc.len);
	}
	s3_reply(r, 204, NULL);
}

struct deletion {
	struct str keys[DELETE_KEYS_MAX];
	size_t n;
	bool has_key;
};

static bool
deletion_field(void *arg, const char *item, const char *name, const char *text, size_t n)
{
	struct deletion *d = arg;

	if (item == NULL) /* Quiet is checked and has no effect */
		return strcmp(name, "Quiet") != 0 || strcmp(text, "true") == 0 || strcmp(text, "false") == 0;
	if (strcmp(item, "Object") != 0 || strcmp(name, "Key") != 0)
		return true;
	if (d->n == DELETE_KEYS_MAX || d->has_key || n == 0)
		return false;
	d->has_key = true;
	str_add(&d->keys[d->n++], text, n);
	return true;
}

static bool
deletion_end(void *arg, const char *item)
{
	struct deletion *d = arg;
	bool ok = d->has_key || strcmp(item, "Object") != 0;

	d->has_key = false;
	return ok;
}

void
s3_deletes_commit(struct s3_req *r)
{
	struct bucket *b = s3_bucket(r);
	struct deletion *d;
	struct xml_reader x = {"Delete", deletion_field, deletion_end, NULL};

	if (b == NULL)
		return;
	x.arg = d = mem_zalloc(sizeof(*d));
	if (!xml_read(&x, str_z(&r->small), r->small.len) || d->n == 0)
		s3_reply_error(r, S3_MALFORMED_XML);
	else {
		xml_root(&r->body, "DeleteResult");
		for (size_t i = 0; i < d->n; i++) {
			struct str nfc = STR_INIT;

			if (utf8_add_nfc(&nfc, d->keys[i].p, d->keys[i].len))
				objects_delete(b, nfc.p, nfc.len);
			str_fini(&nfc);
			xml_open(&r->body, "Deleted");
			xml_text_n(&r->body, "Key", d->keys[i].p, d->keys[i].len);
			xml_close(&r->body, "Deleted");
		}
		xml_close(&r->body, "DeleteResult");
		s3_reply_xml(r);
	}
	for (size_t i = 0; i < d->n; i++)
		str_fini(&d->keys[i]);
	mem_free(d);
}
