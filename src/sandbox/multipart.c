#include "sandbox/multipart.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/utf8.h"
#include "sandbox/disk.h"

enum { ID_BYTES = 231, STATE_MAX = 256 * 1024 };
#define EXPIRY_MS (7 * 24 * 3600 * UINT64_C(1000))

static void
upload_free(struct upload *u)
{
	list_del(&u->node);
	mem_free(u->id);
	mem_free(u->dir);
	mem_free(u->name);
	mem_free(u->nfc);
	mem_free(u->headers);
	mem_free(u->parts);
	mem_free(u);
}

static char *
part_path(const struct upload *u, const struct part *p)
{
	struct str s = STR_INIT;

	str_printf(&s, "%s/%05u-", u->dir, p->number);
	str_add_hex(&s, p->md5, sizeof(p->md5));
	return str_take(&s);
}

/* Where a part of that number is, or belongs. */
static size_t
part_at(const struct upload *u, unsigned number)
{
	size_t lo = 0, hi = u->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (u->parts[mid].number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct part *
multipart_part(const struct upload *u, unsigned number)
{
	size_t at = part_at(u, number);

	return at < u->n && u->parts[at].number == number ? &u->parts[at] : NULL;
}

static void
unlink_part(const struct upload *u, const struct part *p)
{
	char *path;

	if (u->bucket->disk->discard)
		return;
	path = part_path(u, p);
	if (unlink(path) != 0 && errno != ENOENT)
		log_warn("sandbox", "%s: %s", path, strerror(errno));
	mem_free(path);
}

static void
set_part(struct upload *u, const struct part *p)
{
	struct part *old = multipart_part(u, p->number);
	size_t at;

	if (old != NULL) {
		*old = *p;
		return;
	}
	if (u->n == u->cap) {
		u->cap = u->cap == 0 ? 16 : u->cap * 2;
		u->parts = mem_realloc(u->parts, u->cap * sizeof(u->parts[0]));
	}
	at = part_at(u, p->number);
	memmove(u->parts + at + 1, u->parts + at, (u->n - at) * sizeof(u->parts[0]));
	u->parts[at] = *p;
	u->n++;
}

/* The state file: id, key, time and class, a line each, then the header lines. */
static enum err
save(const struct upload *u)
{
	char *path = mem_printf("%s/upload", u->dir);
	struct disk_writer *w = disk_writer_new(u->bucket->disk, false, false);
	struct str s = STR_INIT;
	enum err e;

	str_printf(&s, "%s\n", u->id);
	str_add_uri(&s, u->name, u->nlen, true);
	str_printf(&s, "\n%llu\n%d\n%s", (unsigned long long)u->initiated_ms, u->infrequent, u->headers);
	disk_writer_add(w, s.p, s.len);
	e = disk_writer_publish(w, path);
	disk_writer_free(&w);
	str_fini(&s);
	mem_free(path);
	return e;
}

static bool
next_line(char **at, char **line)
{
	char *nl = strchr(*at, '\n');

	if (nl == NULL)
		return false;
	*nl = '\0';
	*line = *at;
	*at = nl + 1;
	return true;
}

static void
set_name(struct upload *u, const char *name, size_t nlen)
{
	struct str nfc = STR_INIT;

	u->name = mem_strndup(name, nlen);
	u->nlen = nlen;
	if (utf8_add_nfc(&nfc, name, nlen)) {
		u->nfc_len = nfc.len;
		u->nfc = str_take(&nfc);
	}
	str_fini(&nfc);
}

static bool
parse_state(struct upload *u, char *text)
{
	char *id, *key, *time, *class;
	struct str name = STR_INIT;
	bool ok = next_line(&text, &id) && next_line(&text, &key) && next_line(&text, &time) &&
		  next_line(&text, &class) && str_to_u64(time, strlen(time), &u->initiated_ms);

	for (const char *p = ok ? key : ""; ok && *p != '\0'; p++) {
		uint8_t c = (uint8_t)*p;
		size_t got;

		if (c == '%') {
			ok = strlen(p) >= 3 && str_unhex(p + 1, 2, &c, 1, &got);
			p += ok ? 2 : 0;
		}
		str_addc(&name, (char)c);
	}
	if (ok) {
		u->id = mem_strdup(id);
		u->infrequent = *class == '1';
		u->headers = mem_strdup(text);
		set_name(u, str_z(&name), name.len);
	}
	str_fini(&name);
	return ok && u->nfc != NULL;
}

static bool
load_state(struct upload *u)
{
	char *path = mem_printf("%s/upload", u->dir), *text = mem_zalloc(STATE_MAX + 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, STATE_MAX);
	bool ok = n > 0 && parse_state(u, text);

	if (fd >= 0)
		close(fd);
	mem_free(text);
	mem_free(path);
	return ok;
}

static void
load_parts(struct upload *u)
{
	DIR *d = opendir(u->dir);
	struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		struct part p = {0}, *old;
		struct stat st;
		uint64_t number;
		size_t n;

		if (strlen(e->d_name) != 6 + 32 || e->d_name[5] != '-' || !str_to_u64(e->d_name, 5, &number) ||
		    !str_unhex(e->d_name + 6, 32, p.md5, sizeof(p.md5), &n) ||
		    fstatat(dirfd(d), e->d_name, &st, 0) != 0)
			continue;
		p.number = (unsigned)number;
		p.size = (uint64_t)st.st_size;
		p.modified_ms = (uint64_t)clock_timespec_ns(&st.st_mtim) / 1000000;
		old = multipart_part(u, p.number);
		if (old == NULL || old->modified_ms <= p.modified_ms)
			set_part(u, &p);
	}
	if (d != NULL)
		closedir(d);
}

static void
insert_by_age(struct bucket *b, struct upload *u)
{
	struct list *it = b->uploads.prev;

	while (it != &b->uploads && LIST_ENTRY(it, struct upload, node)->initiated_ms > u->initiated_ms)
		it = it->prev;
	list_add_head(it, &u->node);
}

enum err
multipart_load(struct bucket *b, struct errbuf *eb)
{
	char *dir = mem_printf("%s/uploads", b->dir);
	DIR *d = opendir(dir);
	struct dirent *e;
	enum err r = ERR_OK;

	if (d == NULL)
		r = err_set(eb, err_from_errno(errno), "%s: %s", dir, strerror(errno));
	while (d != NULL && (e = readdir(d)) != NULL) {
		struct upload *u;

		if (e->d_name[0] == '.')
			continue;
		u = mem_zalloc(sizeof(*u));
		u->bucket = b;
		list_init(&u->node);
		u->dir = mem_printf("%s/%s", dir, e->d_name);
		if (load_state(u) && u->initiated_ms + EXPIRY_MS > clock_real_ms()) {
			load_parts(u);
			insert_by_age(b, u);
		} else {
			disk_remove_tree(u->dir);
			upload_free(u);
		}
	}
	if (d != NULL)
		closedir(d);
	mem_free(dir);
	return r;
}

void
multipart_unload(struct bucket *b)
{
	while (!list_empty(&b->uploads))
		upload_free(LIST_FIRST(&b->uploads, struct upload, node));
}

enum err
multipart_create(
    struct bucket *b, const char *name, size_t nlen, const char *headers, bool infrequent, struct upload **out)
{
	struct upload *u = mem_zalloc(sizeof(*u));
	uint8_t random[ID_BYTES], hash[DIGEST_SHA256_LEN];
	struct str id = STR_INIT, dir = STR_INIT;
	enum err e = ERR_OK;

	digest_random(random, sizeof(random));
	str_add_base64(&id, random, sizeof(random));
	digest_sha256(id.p, id.len, hash);
	str_printf(&dir, "%s/uploads/", b->dir);
	str_add_hex(&dir, hash, 16);
	u->bucket = b;
	list_init(&u->node);
	u->id = str_take(&id);
	u->dir = str_take(&dir);
	set_name(u, name, nlen);
	u->headers = mem_strdup(headers);
	u->infrequent = infrequent;
	u->initiated_ms = clock_real_ms();
	if (!b->disk->discard)
		e = save(u);
	if (e == ERR_OK) {
		list_add_tail(&b->uploads, &u->node);
		*out = u;
	} else
		upload_free(u);
	return e;
}

struct upload *
multipart_find(struct bucket *b, const char *id, const char *nfc, size_t len)
{
	struct list *it, *next;

	LIST_FOREACH(it, next, &b->uploads) {
		struct upload *u = LIST_ENTRY(it, struct upload, node);

		if (strcmp(u->id, id) != 0 || u->completing || u->nfc_len != len || memcmp(u->nfc, nfc, len) != 0)
			continue;
		if (u->initiated_ms + EXPIRY_MS > clock_real_ms())
			return u;
		multipart_remove(u);
		return NULL;
	}
	return NULL;
}

enum err
multipart_put(struct upload *u, unsigned number, struct disk_writer *w, const uint8_t md5[DIGEST_MD5_LEN])
{
	struct part p = {.number = number, .size = w->size, .modified_ms = clock_real_ms()}, *old;
	enum err e = ERR_OK;

	memcpy(p.md5, md5, sizeof(p.md5));
	if (!u->bucket->disk->discard) {
		char *path = part_path(u, &p);

		e = disk_writer_publish(w, path);
		mem_free(path);
	}
	if (e != ERR_OK)
		return e;
	old = multipart_part(u, number);
	if (old != NULL && memcmp(old->md5, md5, sizeof(old->md5)) != 0)
		unlink_part(u, old);
	set_part(u, &p);
	return ERR_OK;
}

void
multipart_drop(struct upload *u, unsigned number)
{
	struct part *p = multipart_part(u, number);
	size_t at;

	if (p == NULL)
		return;
	unlink_part(u, p);
	at = (size_t)(p - u->parts);
	u->n--;
	memmove(p, p + 1, (u->n - at) * sizeof(*p));
}

int
multipart_open_part(const struct upload *u, const struct part *p)
{
	char *path = part_path(u, p);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	mem_free(path);
	return fd;
}

void
multipart_remove(struct upload *u)
{
	if (!u->bucket->disk->discard)
		disk_remove_tree(u->dir);
	upload_free(u);
}

static int
ref_cmp(const void *a, const void *b)
{
	const struct part_ref *x = a, *y = b;

	return (x->number > y->number) - (x->number < y->number);
}

static bool
etag_is(const struct part *p, const char *etag)
{
	uint8_t md5[DIGEST_MD5_LEN];
	size_t n;

	return strlen(etag) == 32 && str_unhex(etag, 32, md5, sizeof(md5), &n) && memcmp(md5, p->md5, sizeof(md5)) == 0;
}

enum multipart_fault
multipart_check(const struct upload *u, struct part_ref *v, size_t n)
{
	uint64_t size = 0;

	qsort(v, n, sizeof(v[0]), ref_cmp);
	for (size_t i = 0; i < n; i++) {
		if (i > 0 && v[i].number == v[i - 1].number)
			return MULTIPART_TWICE;
		const struct part *p = multipart_part(u, v[i].number);

		if (p == NULL || !etag_is(p, v[i].etag))
			return MULTIPART_NO_PART;
	}
	for (size_t i = 0; i + 1 < n; i++)
		if (multipart_part(u, v[i].number)->size < MULTIPART_MIN_PART)
			return MULTIPART_SMALL;
	for (size_t i = 0; i < n; i++) {
		uint64_t here = multipart_part(u, v[i].number)->size;

		if (i == 0)
			size = here;
		else if (here > size || (here < size && i + 1 < n))
			return MULTIPART_UNEQUAL;
	}
	return MULTIPART_OK;
}

void
multipart_etag(const struct upload *u, const struct part_ref *v, size_t n, char out[48])
{
	struct digest *d = digest_new(DIGEST_MD5);
	uint8_t md5[DIGEST_MD5_LEN];
	struct str hex = STR_INIT;

	for (size_t i = 0; i < n; i++)
		digest_update(d, multipart_part(u, v[i].number)->md5, DIGEST_MD5_LEN);
	digest_final(d, md5);
	digest_free(&d);
	str_add_hex(&hex, md5, sizeof(md5));
	snprintf(out, 48, "%s-%zu", str_z(&hex), n);
	str_fini(&hex);
}
