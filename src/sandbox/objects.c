#include "sandbox/objects.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "sandbox/disk.h"

/* The file's last bytes: a mark and the length of the record before it, in hex. */
#define TAIL_MARK "\nr2shim-object "
enum { TAIL_LEN = sizeof(TAIL_MARK) - 1 + 8 + 1, RECORD_MAX = 256 * 1024 };

static char *
object_path(const struct bucket *b, const char *nfc, size_t len)
{
	uint8_t h[DIGEST_SHA256_LEN];
	struct str s = STR_INIT;

	digest_sha256(nfc, len, h);
	str_printf(&s, "%s/objects/", b->dir);
	str_add_hex(&s, h, 1);
	str_addc(&s, '/');
	str_add_hex(&s, h + 1, sizeof(h) - 1);
	return str_take(&s);
}

static void
object_free(struct object *o)
{
	if (o->name != o->node.key)
		mem_free(o->name);
	mem_free(o->node.key);
	mem_free(o->headers);
	mem_free(o);
}

static void
set_name(struct object *o, const char *name, size_t nlen)
{
	if (o->name != o->node.key)
		mem_free(o->name);
	if (keyidx_cmp(name, nlen, o->node.key, o->node.klen) == 0) {
		o->name = o->node.key;
		o->nlen = o->node.klen;
	} else {
		o->name = mem_strndup(name, nlen);
		o->nlen = nlen;
	}
}

struct object *
objects_get(const struct bucket *b, const char *nfc, size_t len)
{
	return (struct object *)(void *)keyidx_get(b->keys, nfc, len);
}

/* "key", "etag" ... one a line, an empty line, the header lines, the tail. */
static void
add_record(struct str *s, const struct object *o, const char *headers)
{
	size_t start = s->len;

	str_addz(s, "key ");
	str_add_uri(s, o->name, o->nlen, true);
	str_printf(s, "\nsize %llu\netag %s\nmodified %llu\nclass %s\n\n%s", (unsigned long long)o->size, o->etag,
	    (unsigned long long)o->modified_ms, o->infrequent ? "STANDARD_IA" : "STANDARD", headers);
	str_printf(s, "%s%08zx\n", TAIL_MARK, s->len - start);
}

/* Reads the record behind an object's content. */
static bool
read_record(int fd, struct str *out)
{
	char tail[TAIL_LEN + 1];
	struct stat st;
	unsigned len;

	if (fstat(fd, &st) != 0 || st.st_size < TAIL_LEN ||
	    pread(fd, tail, TAIL_LEN, st.st_size - TAIL_LEN) != TAIL_LEN)
		return false;
	tail[TAIL_LEN] = '\0';
	if (memcmp(tail, TAIL_MARK, sizeof(TAIL_MARK) - 1) != 0 ||
	    sscanf(tail + sizeof(TAIL_MARK) - 1, "%8x", &len) != 1 || len > RECORD_MAX ||
	    (off_t)len > st.st_size - TAIL_LEN)
		return false;
	if (pread(fd, str_reserve(out, len), len, st.st_size - TAIL_LEN - (off_t)len) != (ssize_t)len)
		return false;
	out->len += len;
	out->p[out->len] = '\0';
	return true;
}

/* The value of a record's line, up to the end of the line. */
static bool
record_field(const struct str *rec, const char *name, const char **p, size_t *n)
{
	size_t nlen = strlen(name);
	const char *at = str_z(rec);

	while (*at != '\0' && *at != '\n') {
		size_t len = strcspn(at, "\n");

		if (len > nlen && memcmp(at, name, nlen) == 0 && at[nlen] == ' ') {
			*p = at + nlen + 1;
			*n = len - nlen - 1;
			return true;
		}
		at += len + (at[len] == '\n');
	}
	return false;
}

static const char *
record_headers(const struct str *rec)
{
	const char *p = strstr(str_z(rec), "\n\n");

	return p == NULL ? "" : p + 2;
}

static bool
decode_key(const char *p, size_t n, struct str *out)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t c = (uint8_t)p[i];
		size_t got;

		if (c == '%') {
			if (n - i < 3 || !str_unhex(p + i + 1, 2, &c, 1, &got))
				return false;
			i += 2;
		}
		str_addc(out, (char)c);
	}
	return out->len > 0;
}

static struct object *
parse_record(const struct str *rec)
{
	struct object *o = mem_zalloc(sizeof(*o));
	struct str name = STR_INIT, nfc = STR_INIT;
	const char *p;
	size_t n;
	bool ok;

	ok = record_field(rec, "key", &p, &n) && decode_key(p, n, &name) && utf8_add_nfc(&nfc, name.p, name.len) &&
	     record_field(rec, "size", &p, &n) && str_to_u64(p, n, &o->size) && record_field(rec, "modified", &p, &n) &&
	     str_to_u64(p, n, &o->modified_ms) && record_field(rec, "etag", &p, &n) && n < sizeof(o->etag);
	if (ok) {
		memcpy(o->etag, p, n);
		o->infrequent = record_field(rec, "class", &p, &n) && str_slice_eq(p, n, "STANDARD_IA");
		o->node.klen = nfc.len;
		o->node.key = str_take(&nfc);
		set_name(o, name.p, name.len);
	} else {
		mem_free(o);
		o = NULL;
	}
	str_fini(&name);
	str_fini(&nfc);
	return o;
}

static void
load_file(struct bucket *b, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct str rec = STR_INIT;
	struct object *o = NULL;

	if (fd >= 0 && read_record(fd, &rec))
		o = parse_record(&rec);
	if (o != NULL && objects_get(b, o->node.key, o->node.klen) == NULL)
		keyidx_add(b->keys, &o->node);
	else {
		log_warn("sandbox", "%s is no object: ignored", path);
		if (o != NULL)
			object_free(o);
	}
	str_fini(&rec);
	if (fd >= 0)
		close(fd);
}

static void
load_folder(struct bucket *b, const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		char *path = mem_printf("%s/%s", dir, e->d_name);

		if (e->d_name[0] != '.')
			load_file(b, path);
		mem_free(path);
	}
	if (d != NULL)
		closedir(d);
}

enum err
objects_load(struct bucket *b, struct errbuf *eb)
{
	char *dir = mem_printf("%s/objects", b->dir);
	DIR *d = opendir(dir);
	struct dirent *e;
	enum err r = ERR_OK;

	if (d == NULL)
		r = err_set(eb, err_from_errno(errno), "%s: %s", dir, strerror(errno));
	while (d != NULL && (e = readdir(d)) != NULL) {
		char *sub = mem_printf("%s/%s", dir, e->d_name);

		if (e->d_name[0] != '.')
			load_folder(b, sub);
		mem_free(sub);
	}
	if (d != NULL)
		closedir(d);
	mem_free(dir);
	return r;
}

void
objects_unload(struct bucket *b)
{
	struct keyidx_pos pos = {0, 0};
	struct keyidx_node *n;

	while ((n = keyidx_next(b->keys, &pos)) != NULL)
		object_free((struct object *)(void *)n);
	keyidx_free(&b->keys);
	b->keys = keyidx_new();
}

static enum err
publish(struct bucket *b, struct disk_writer *w, const struct object *o, const char *headers)
{
	struct str rec = STR_INIT;
	char *path;
	enum err e;

	add_record(&rec, o, headers);
	disk_writer_add(w, rec.p, rec.len);
	str_fini(&rec);
	path = object_path(b, o->node.key, o->node.klen);
	e = disk_writer_publish(w, path);
	mem_free(path);
	return e;
}

enum err
objects_put(struct bucket *b, struct disk_writer *w, const struct object_put *p, struct object **out)
{
	struct object *old = objects_get(b, p->nfc, p->nfc_len), *o = mem_zalloc(sizeof(*o));
	enum err e = ERR_OK;

	ASSERT(strlen(p->etag) < sizeof(o->etag));
	o->node.key = mem_strndup(p->nfc, p->nfc_len);
	o->node.klen = p->nfc_len;
	set_name(o, p->name, p->name_len);
	o->size = w->size;
	o->modified_ms = clock_real_ms();
	o->infrequent = p->infrequent;
	memcpy(o->etag, p->etag, strlen(p->etag));
	if (b->disk->discard)
		o->headers = mem_strdup(p->headers);
	else
		e = publish(b, w, o, p->headers);
	if (e != ERR_OK) {
		object_free(o);
		return e;
	}
	if (old != NULL) {
		keyidx_del(b->keys, p->nfc, p->nfc_len);
		object_free(old);
	}
	keyidx_add(b->keys, &o->node);
	if (out != NULL)
		*out = o;
	return ERR_OK;
}

bool
objects_delete(struct bucket *b, const char *nfc, size_t len)
{
	struct object *o = (struct object *)(void *)keyidx_del(b->keys, nfc, len);
	char *path;

	if (o == NULL)
		return false;
	if (!b->disk->discard) {
		path = object_path(b, nfc, len);
		if (unlink(path) != 0)
			log_error("sandbox", "%s: %s", path, strerror(errno));
		mem_free(path);
	}
	object_free(o);
	return true;
}

enum err
objects_open(const struct bucket *b, const struct object *o, int *fd, struct str *headers)
{
	struct str rec = STR_INIT;
	enum err e = ERR_OK;
	char *path;

	*fd = -1;
	if (o->headers != NULL) {
		str_addz(headers, o->headers);
		return ERR_OK;
	}
	path = object_path(b, o->node.key, o->node.klen);
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	if (*fd < 0)
		e = err_from_errno(errno);
	else if (!read_record(*fd, &rec))
		e = ERR_IO;
	else
		str_addz(headers, record_headers(&rec));
	if (e != ERR_OK) {
		log_error("sandbox", "%s: %s", path, err_text(e));
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
	mem_free(path);
	str_fini(&rec);
	return e;
}
