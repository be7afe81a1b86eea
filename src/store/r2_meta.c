#include "store/r2_meta.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "store/r2_req.h"
#include "store/s3xml.h"

#define NS 1000000000ll

void
r2_meta_format_mtime(int64_t ns, char out[40])
{
	uint64_t abs = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;

	(void)snprintf(out, 40, "%s%llu.%09llu", ns < 0 ? "-" : "", (unsigned long long)(abs / NS),
	    (unsigned long long)(abs % NS));
}

bool
r2_meta_parse_mtime(const char *z, int64_t *ns)
{
	bool negative = *z == '-';
	const char *p = z + negative;
	size_t n = strcspn(p, ".");
	uint64_t s, frac = 0;

	if (!str_to_u64(p, n, &s) || s > INT64_MAX / NS - 1)
		return false;
	if (p[n] == '.') {
		/* digits beyond the ninth are cut */
		const char *f = p + n + 1;
		int64_t unit = NS / 10;

		if (strspn(f, "0123456789") != strlen(f))
			return false;
		for (; *f != '\0' && unit > 0; f++, unit /= 10)
			frac += (uint64_t)(*f - '0') * (uint64_t)unit;
	}
	*ns = (int64_t)(s * NS + frac);
	if (negative)
		*ns = -*ns;
	return true;
}

static void
send_u64(struct r2_req *q, const char *name, uint64_t v)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
	r2_req_header(q, name, text);
}

void
r2_meta_send(struct r2_req *q, const char *key, size_t klen, const struct store_meta *m)
{
	char mtime[40];

	if (m != NULL) {
		r2_req_header(
		    q, "content-type", m->content_type != NULL ? m->content_type : "application/octet-stream");
		r2_req_header(q, "cache-control", m->cache_control);
		r2_req_header(q, "content-disposition", m->content_disposition);
		r2_req_header(q, "content-encoding", m->content_encoding);
		if (m->has_mtime) {
			r2_meta_format_mtime(m->mtime_ns, mtime);
			r2_req_header(q, "x-amz-meta-mtime", mtime);
		}
		if (m->has_mode) {
			/* s3fs wants the type's bits too */
			send_u64(q, "x-amz-meta-mode", (m->mode & 07777) | S_IFREG);
			send_u64(q, "x-amz-meta-uid", m->uid);
			send_u64(q, "x-amz-meta-gid", m->gid);
		}
		r2_req_header(q, "x-amz-meta-r2shim-base", m->base);
	}
	if (!utf8_is_nfc(key, klen)) {
		struct str name = STR_INIT;

		str_add_uri(&name, key, klen, true);
		r2_req_header(q, "x-amz-meta-r2shim-name", str_z(&name));
		str_fini(&name);
	}
}

static char *
copy_header(const struct r2_req *q, const char *name)
{
	return mem_strdup(r2_req_answer(q, name));
}

static bool
read_u64(const struct r2_req *q, const char *name, uint64_t *v)
{
	const char *z = r2_req_answer(q, name);

	return z != NULL && str_to_u64(z, strlen(z), v);
}

static char *
decode_name(const char *z)
{
	struct str s = STR_INIT;

	for (; *z != '\0'; z++) {
		uint8_t byte;
		size_t n;

		if (*z == '%' && z[1] != '\0' && z[2] != '\0' && str_unhex(z + 1, 2, &byte, 1, &n)) {
			str_addc(&s, (char)byte);
			z += 2;
		} else {
			str_addc(&s, *z);
		}
	}
	return str_take(&s);
}

/* An ETag of 32 hex digits is the content's MD5; a multipart's is not, but rclone's md5chksum then says it. A weak one
 * was made of bytes that the edge has changed. */
static void
read_digest(const struct r2_req *q, struct store_meta *m)
{
	const char *etag = r2_req_answer(q, "etag"), *sum = r2_req_answer(q, "x-amz-meta-md5chksum");
	size_t n;

	if (etag != NULL)
		s3xml_etag(m->etag, etag, strlen(etag));
	if (etag != NULL && etag[0] == '"' && strlen(m->etag) == 32)
		m->has_md5 = str_unhex(m->etag, 32, m->md5, sizeof(m->md5), &n);
	else if (sum != NULL)
		m->has_md5 = str_unbase64(sum, strlen(sum), m->md5, sizeof(m->md5), &n) && n == sizeof(m->md5);
}

bool
r2_meta_read(const struct r2_req *q, struct store_meta *m)
{
	const char *z;
	uint64_t mode, uid, gid;

	read_digest(q, m);
	if ((z = r2_req_answer(q, "x-amz-meta-mtime")) != NULL)
		m->has_mtime = r2_meta_parse_mtime(z, &m->mtime_ns);
	if ((z = r2_req_answer(q, "last-modified")) != NULL)
		(void)clock_parse_http_date(z, strlen(z), &m->last_modified_s);
	if (read_u64(q, "x-amz-meta-mode", &mode) && read_u64(q, "x-amz-meta-uid", &uid) &&
	    read_u64(q, "x-amz-meta-gid", &gid) && uid <= UINT32_MAX && gid <= UINT32_MAX) {
		m->has_mode = true;
		m->mode = (uint32_t)(mode & 07777);
		m->uid = (uint32_t)uid;
		m->gid = (uint32_t)gid;
	}
	m->content_type = copy_header(q, "content-type");
	m->cache_control = copy_header(q, "cache-control");
	m->content_disposition = copy_header(q, "content-disposition");
	m->content_encoding = copy_header(q, "content-encoding");
	m->base = copy_header(q, "x-amz-meta-r2shim-base");
	if ((z = r2_req_answer(q, "x-amz-meta-r2shim-name")) != NULL)
		m->spelling = decode_name(z);
	return read_u64(q, "content-length", &m->size);
}

bool
r2_meta_is_key(const struct store_meta *m, const char *key, size_t klen)
{
	if (m->spelling != NULL)
		return strlen(m->spelling) == klen && memcmp(m->spelling, key, klen) == 0;
	return utf8_is_nfc(key, klen);
}
