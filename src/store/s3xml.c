#include "store/s3xml.h"

#include <expat.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/store.h"

#define DEPTH_MAX    8
#define NAME_MAX_LEN 63
#define TEXT_MAX     (64 << 10) /* of one element; keys are at most 3 KiB when encoded */

/* Walks a document and reports the end of each element: its depth (the root is 1), its parent, its name, its text. */
struct walk {
	XML_Parser parser;
	char path[DEPTH_MAX + 1][NAME_MAX_LEN + 1]; /* path[1] is the root */
	int depth;
	struct str text;
	bool bad;
	void (*end)(void *arg, int depth, const char *parent, const char *name, const struct str *text);
	void (*start)(void *arg, int depth, const char *name); /* may be NULL */
	void *arg;
};

static void
walk_stop(struct walk *w)
{
	w->bad = true;
	(void)XML_StopParser(w->parser, XML_FALSE);
}

static void XMLCALL
on_start(void *arg, const XML_Char *name, const XML_Char **attrs)
{
	struct walk *w = arg;

	(void)attrs;
	if (w->depth >= DEPTH_MAX || strlen(name) > NAME_MAX_LEN) {
		walk_stop(w);
		return;
	}
	w->depth++;
	(void)snprintf(w->path[w->depth], sizeof(w->path[0]), "%s", name);
	str_clear(&w->text);
	if (w->start != NULL)
		w->start(w->arg, w->depth, name);
}

static void XMLCALL
on_end(void *arg, const XML_Char *name)
{
	struct walk *w = arg;

	if (w->bad)
		return;
	w->end(w->arg, w->depth, w->path[w->depth - 1], name, &w->text);
	w->depth--;
	str_clear(&w->text);
}

static void XMLCALL
on_text(void *arg, const XML_Char *p, int n)
{
	struct walk *w = arg;

	if (w->text.len + (size_t)n > TEXT_MAX)
		walk_stop(w);
	else
		str_add(&w->text, p, (size_t)n);
}

static void XMLCALL
on_doctype(void *arg, const XML_Char *name, const XML_Char *sysid, const XML_Char *pubid, int internal)
{
	(void)name;
	(void)sysid;
	(void)pubid;
	(void)internal;
	walk_stop(arg);
}

static bool
walk(struct walk *w, const char *p, size_t n)
{
	bool ok;

	if (n > (64 << 20) || (w->parser = XML_ParserCreate("UTF-8")) == NULL)
		return false;
	XML_SetUserData(w->parser, w);
	XML_SetElementHandler(w->parser, on_start, on_end);
	XML_SetCharacterDataHandler(w->parser, on_text);
	XML_SetStartDoctypeDeclHandler(w->parser, on_doctype);
	ok = XML_Parse(w->parser, p, (int)n, 1) == XML_STATUS_OK && !w->bad;
	XML_ParserFree(w->parser);
	str_fini(&w->text);
	return ok;
}

static bool
is(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* encoding-type=url: percent, and '+' for a space, as some servers write it ('+' itself is always encoded). */
static char *
url_decode(const char *p, size_t n, size_t *len)
{
	char *out = mem_alloc(n + 1);
	size_t o = 0;

	for (size_t i = 0; i < n; i++) {
		uint8_t byte;
		size_t got;

		if (p[i] == '%' && n - i > 2 && str_unhex(p + i + 1, 2, &byte, 1, &got)) {
			out[o++] = (char)byte;
			i += 2;
		} else {
			out[o++] = p[i] == '+' ? ' ' : p[i];
		}
	}
	out[o] = '\0';
	*len = o;
	return out;
}

void
s3xml_etag(char out[80], const char *p, size_t n)
{
	if (n >= 2 && p[0] == 'W' && p[1] == '/') {
		p += 2;
		n -= 2;
	}
	if (n >= 2 && p[0] == '"' && p[n - 1] == '"') {
		p++;
		n -= 2;
	}
	if (n > 79)
		n = 79;
	memcpy(out, p, n);
	out[n] = '\0';
}

/* ---- errors ---- */

struct error_doc {
	char code[64];
	struct str *message;
	bool root;
};

static void
error_end(void *arg, int depth, const char *parent, const char *name, const struct str *text)
{
	struct error_doc *e = arg;

	if (depth == 1)
		e->root = is(name, "Error");
	if (depth != 2 || !is(parent, "Error"))
		return;
	if (is(name, "Code"))
		(void)snprintf(e->code, sizeof(e->code), "%s", str_z(text));
	else if (is(name, "Message") && e->message != NULL)
		str_add(e->message, text->p, text->len);
}

bool
s3xml_error(const char *p, size_t n, char code[64], struct str *message)
{
	struct error_doc e = {.message = message};
	struct walk w = {.end = error_end, .arg = &e};

	code[0] = '\0';
	if (!walk(&w, p, n) || !e.root || e.code[0] == '\0') {
		if (message != NULL)
			str_clear(message);
		return false;
	}
	memcpy(code, e.code, sizeof(e.code));
	return true;
}

/* ---- ListObjectsV2 ---- */

struct list_doc {
	struct s3xml_list *l;
	bool root, bad, url, has_truncated;
	bool has_key, has_size, has_time; /* of the entry being read */
};

static void
list_start(void *arg, int depth, const char *name)
{
	struct list_doc *d = arg;
	struct s3xml_list *l = d->l;

	if (depth != 2 || !is(name, "Contents"))
		return;
	if (l->n == l->cap) {
		l->cap = l->cap > 0 ? l->cap * 2 : 64;
		l->v = mem_realloc(l->v, l->cap * sizeof(*l->v));
	}
	memset(&l->v[l->n++], 0, sizeof(*l->v));
	d->has_key = d->has_size = d->has_time = false;
}

static void
list_entry_end(struct list_doc *d, const char *name, const struct str *text)
{
	struct store_list_entry *e = &d->l->v[d->l->n - 1];
	uint64_t ms;

	if (is(name, "Key") && !d->has_key) {
		e->key = mem_strndup(str_z(text), text->len);
		e->klen = text->len;
		d->has_key = true;
	} else if (is(name, "Size")) {
		d->has_size = str_to_u64(str_z(text), text->len, &e->size);
	} else if (is(name, "ETag")) {
		s3xml_etag(e->etag, str_z(text), text->len);
	} else if (is(name, "LastModified")) {
		d->has_time = clock_parse_iso(str_z(text), text->len, &ms);
		e->last_modified_ms = d->has_time ? (int64_t)ms : 0;
	}
}

static void
list_end(void *arg, int depth, const char *parent, const char *name, const struct str *text)
{
	struct list_doc *d = arg;

	if (depth == 1) {
		d->root = is(name, "ListBucketResult");
	} else if (depth == 3 && is(parent, "Contents") && d->l->n > 0) {
		list_entry_end(d, name, text);
	} else if (depth == 2 && is(name, "Contents")) {
		d->bad |= !d->has_key || !d->has_size || !d->has_time;
	} else if (depth == 2 && is(name, "IsTruncated")) {
		d->has_truncated = is(str_z(text), "true") || is(str_z(text), "false");
		d->l->truncated = is(str_z(text), "true");
	} else if (depth == 2 && is(name, "NextContinuationToken") && d->l->next == NULL && text->len > 0) {
		d->l->next = mem_strndup(text->p, text->len);
	} else if (depth == 2 && is(name, "EncodingType")) {
		d->url = is(str_z(text), "url");
	}
}

enum err
s3xml_list(const char *p, size_t n, struct s3xml_list *out)
{
	struct list_doc d = {.l = out};
	struct walk w = {.start = list_start, .end = list_end, .arg = &d};

	memset(out, 0, sizeof(*out));
	if (!walk(&w, p, n) || !d.root || d.bad || !d.has_truncated || (out->truncated && out->next == NULL)) {
		s3xml_list_fini(out);
		return ERR_PROTO;
	}
	for (size_t i = 0; d.url && i < out->n; i++) {
		const char *raw = out->v[i].key;

		out->v[i].key = url_decode(raw, out->v[i].klen, &out->v[i].klen);
		mem_free((void *)(uintptr_t)raw);
	}
	return ERR_OK;
}

void
s3xml_list_fini(struct s3xml_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		mem_free((void *)(uintptr_t)l->v[i].key);
	mem_free(l->v);
	mem_free(l->next);
	memset(l, 0, sizeof(*l));
}

/* ---- ListMultipartUploads ---- */

struct uploads_doc {
	struct s3xml_uploads *u;
	bool root, bad, url, has_truncated;
};

static void
uploads_start(void *arg, int depth, const char *name)
{
	struct uploads_doc *d = arg;
	struct s3xml_uploads *u = d->u;

	if (depth != 2 || !is(name, "Upload"))
		return;
	if (u->n == u->cap) {
		u->cap = u->cap > 0 ? u->cap * 2 : 16;
		u->v = mem_realloc(u->v, u->cap * sizeof(*u->v));
	}
	memset(&u->v[u->n++], 0, sizeof(*u->v));
}

static void
set_once(char **field, const struct str *text)
{
	if (*field == NULL)
		*field = mem_strndup(str_z(text), text->len);
}

static void
uploads_end(void *arg, int depth, const char *parent, const char *name, const struct str *text)
{
	struct uploads_doc *d = arg;
	struct s3xml_uploads *u = d->u;

	if (depth == 1) {
		d->root = is(name, "ListMultipartUploadsResult");
	} else if (depth == 3 && is(parent, "Upload") && u->n > 0) {
		if (is(name, "Key"))
			set_once(&u->v[u->n - 1].key, text);
		else if (is(name, "UploadId"))
			set_once(&u->v[u->n - 1].id, text);
	} else if (depth == 2 && is(name, "Upload")) {
		d->bad |= u->v[u->n - 1].key == NULL || u->v[u->n - 1].id == NULL;
	} else if (depth == 2 && is(name, "IsTruncated")) {
		d->has_truncated = is(str_z(text), "true") || is(str_z(text), "false");
		u->truncated = is(str_z(text), "true");
	} else if (depth == 2 && is(name, "NextKeyMarker")) {
		set_once(&u->next_key, text);
	} else if (depth == 2 && is(name, "NextUploadIdMarker")) {
		set_once(&u->next_id, text);
	} else if (depth == 2 && is(name, "EncodingType")) {
		d->url = is(str_z(text), "url");
	}
}

static void
decode_field(char **field)
{
	size_t n;
	char *raw = *field;

	if (raw == NULL)
		return;
	*field = url_decode(raw, strlen(raw), &n);
	mem_free(raw);
}

enum err
s3xml_uploads(const char *p, size_t n, struct s3xml_uploads *out)
{
	struct uploads_doc d = {.u = out};
	struct walk w = {.start = uploads_start, .end = uploads_end, .arg = &d};

	memset(out, 0, sizeof(*out));
	if (!walk(&w, p, n) || !d.root || d.bad || !d.has_truncated || (out->truncated && out->next_key == NULL)) {
		s3xml_uploads_fini(out);
		return ERR_PROTO;
	}
	for (size_t i = 0; d.url && i < out->n; i++)
		decode_field(&out->v[i].key);
	if (d.url)
		decode_field(&out->next_key);
	return ERR_OK;
}

void
s3xml_uploads_fini(struct s3xml_uploads *u)
{
	for (size_t i = 0; i < u->n; i++) {
		mem_free(u->v[i].key);
		mem_free(u->v[i].id);
	}
	mem_free(u->v);
	mem_free(u->next_key);
	mem_free(u->next_id);
	memset(u, 0, sizeof(*u));
}

/* ---- multipart: one text of interest ---- */

struct field_doc {
	const char *root, *field;
	bool is_root;
	char *value;
};

static void
field_end(void *arg, int depth, const char *parent, const char *name, const struct str *text)
{
	struct field_doc *d = arg;

	(void)parent;
	if (depth == 1)
		d->is_root = is(name, d->root);
	else if (depth == 2 && is(name, d->field) && d->value == NULL && text->len > 0)
		d->value = mem_strndup(text->p, text->len);
}

static char *
field(const char *p, size_t n, const char *root, const char *name)
{
	struct field_doc d = {.root = root, .field = name};
	struct walk w = {.end = field_end, .arg = &d};

	if (walk(&w, p, n) && d.is_root)
		return d.value;
	mem_free(d.value);
	return NULL;
}

enum err
s3xml_created(const char *p, size_t n, char **upload_id)
{
	*upload_id = field(p, n, "InitiateMultipartUploadResult", "UploadId");
	return *upload_id != NULL ? ERR_OK : ERR_PROTO;
}

enum err
s3xml_completed(const char *p, size_t n, char etag[80])
{
	char *value = field(p, n, "CompleteMultipartUploadResult", "ETag");

	if (value == NULL)
		return ERR_PROTO;
	s3xml_etag(etag, value, strlen(value));
	mem_free(value);
	return ERR_OK;
}

void
s3xml_escape(struct str *out, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		switch (p[i]) {
		case '&':
			str_addz(out, "&amp;");
			break;
		case '<':
			str_addz(out, "&lt;");
			break;
		case '>':
			str_addz(out, "&gt;");
			break;
		case '"':
			str_addz(out, "&quot;");
			break;
		case '\'':
			str_addz(out, "&apos;");
			break;
		default:
			if ((unsigned char)p[i] < 0x20 && p[i] != '\t' && p[i] != '\n' && p[i] != '\r')
				str_addc(out, '?');
			else
				str_addc(out, p[i]);
		}
	}
}
