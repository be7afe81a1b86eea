#include "store/sigv4.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

#define ALGORITHM "AWS4-HMAC-SHA256"
#define DATE_LEN  8 /* YYYYMMDD of amz_date */
#define CANONICAL_MOST 511 /* of most requests: room that saves growing, no limit */

/* A name and a value of the query, or of a header, in canonical form; order keeps the sort stable. */
struct pair {
	struct str name, value;
	size_t order;
};

static int
pair_cmp(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;
	int c = strcmp(str_z(&x->name), str_z(&y->name));

	return c != 0 ? c : (x->order > y->order) - (x->order < y->order);
}

/* Parameters of one name are ordered by value, unlike headers, which keep the order that they came in. */
static int
pair_cmp_query(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;
	int c = strcmp(str_z(&x->name), str_z(&y->name));

	return c != 0 ? c : strcmp(str_z(&x->value), str_z(&y->value));
}

static void
pairs_free(struct pair *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		str_fini(&v[i].name);
		str_fini(&v[i].value);
	}
	mem_free(v);
}

/* Lowercased names, values trimmed and with runs of blanks made one, sorted by name. */
static struct pair *
canonical_headers(const struct sigv4_request *r)
{
	struct pair *v = mem_calloc(r->nheaders, sizeof(*v));

	for (size_t i = 0; i < r->nheaders; i++) {
		bool blank = false;

		v[i].order = i;
		(void)str_reserve(&v[i].name, strlen(r->headers[i].name));
		(void)str_reserve(&v[i].value, strlen(r->headers[i].value));
		for (const char *p = r->headers[i].name; *p != '\0'; p++)
			str_addc(&v[i].name, (char)tolower((unsigned char)*p));
		for (const char *p = r->headers[i].value; *p != '\0'; p++) {
			if (*p == ' ' || *p == '\t') {
				blank = v[i].value.len > 0;
				continue;
			}
			if (blank)
				str_addc(&v[i].value, ' ');
			blank = false;
			str_addc(&v[i].value, *p);
		}
	}
	if (r->nheaders > 1)
		qsort(v, r->nheaders, sizeof(*v), pair_cmp);
	return v;
}

static bool
same_name(const struct pair *v, size_t i)
{
	return i > 0 && strcmp(str_z(&v[i - 1].name), str_z(&v[i].name)) == 0;
}

static void
add_signed_names(const struct pair *v, size_t n, struct str *out)
{
	for (size_t i = 0; i < n; i++) {
		if (same_name(v, i))
			continue;
		if (i > 0)
			str_addc(out, ';');
		str_addz(out, str_z(&v[i].name));
	}
}

static int
hexval(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes once and encodes again: whatever way the sender chose to write it, R2 sees the parameter, not its spelling.
 */
static void
add_recoded(struct str *out, const char *p, size_t n)
{
	struct str raw = STR_INIT;

	for (size_t i = 0; i < n; i++) {
		if (p[i] == '%' && n - i > 2 && hexval(p[i + 1]) >= 0 && hexval(p[i + 2]) >= 0) {
			str_addc(&raw, (char)(hexval(p[i + 1]) << 4 | hexval(p[i + 2])));
			i += 2;
		} else {
			str_addc(&raw, p[i] == '+' ? ' ' : p[i]);
		}
	}
	str_add_uri(out, raw.p, raw.len, false);
	str_fini(&raw);
}

static void
add_canonical_query(const char *query, struct str *out)
{
	struct pair *v;
	size_t n = 1, used = 0;

	if (query == NULL || *query == '\0')
		return;
	for (const char *p = query; *p != '\0'; p++)
		n += *p == '&';
	v = mem_calloc(n, sizeof(*v));
	for (const char *p = query; p != NULL && *p != '\0';) {
		const char *amp = strchr(p, '&');
		size_t len = amp != NULL ? (size_t)(amp - p) : strlen(p);
		const char *eq = memchr(p, '=', len);
		size_t nlen = eq != NULL ? (size_t)(eq - p) : len;

		if (len > 0) {
			add_recoded(&v[used].name, p, nlen);
			if (eq != NULL)
				add_recoded(&v[used].value, eq + 1, len - nlen - 1);
			used++;
		}
		p = amp != NULL ? amp + 1 : NULL;
	}
	if (used > 1)
		qsort(v, used, sizeof(*v), pair_cmp_query);
	for (size_t i = 0; i < used; i++)
		str_printf(out, "%s%s=%s", i > 0 ? "&" : "", str_z(&v[i].name), str_z(&v[i].value));
	pairs_free(v, n);
}

/* v: the canonical headers. */
static void
add_canonical(const struct sigv4_request *r, const struct pair *v, struct str *out)
{
	str_addz(out, r->method);
	str_addc(out, '\n');
	str_addz(out, r->path);
	str_addc(out, '\n');
	add_canonical_query(r->query, out);
	for (size_t i = 0; i < r->nheaders; i++) {
		if (same_name(v, i)) {
			str_addc(out, ',');
		} else {
			str_addc(out, '\n');
			str_addz(out, str_z(&v[i].name));
			str_addc(out, ':');
		}
		str_addz(out, str_z(&v[i].value));
	}
	str_addz(out, "\n\n");
	add_signed_names(v, r->nheaders, out);
	str_addc(out, '\n');
	str_addz(out, r->payload);
}

void
sigv4_canonical(const struct sigv4_request *r, struct str *out)
{
	struct pair *v = canonical_headers(r);

	add_canonical(r, v, out);
	pairs_free(v, r->nheaders);
}

void
sigv4_signed_headers(const struct sigv4_request *r, struct str *out)
{
	struct pair *v = canonical_headers(r);

	add_signed_names(v, r->nheaders, out);
	pairs_free(v, r->nheaders);
}

static void
add_scope(const struct sigv4_request *r, const char *region, struct str *out)
{
	ASSERT(strlen(r->amz_date) >= DATE_LEN);
	str_add(out, r->amz_date, DATE_LEN);
	str_addc(out, '/');
	str_addz(out, region);
	str_addz(out, "/s3/aws4_request");
}

static void
add_string_to_sign(const struct sigv4_request *r, const char *region, const struct pair *v, struct str *out)
{
	struct str canonical = STR_INIT;
	uint8_t hash[DIGEST_SHA256_LEN];

	(void)str_reserve(&canonical, CANONICAL_MOST);
	add_canonical(r, v, &canonical);
	digest_sha256(canonical.p, canonical.len, hash);
	str_fini(&canonical);
	str_addz(out, ALGORITHM "\n");
	str_addz(out, r->amz_date);
	str_addc(out, '\n');
	add_scope(r, region, out);
	str_addc(out, '\n');
	str_add_hex(out, hash, sizeof(hash));
}

void
sigv4_string_to_sign(const struct sigv4_request *r, const char *region, struct str *out)
{
	struct pair *v = canonical_headers(r);

	add_string_to_sign(r, region, v, out);
	pairs_free(v, r->nheaders);
}

static void
derive_key(const struct sigv4_request *r, const struct sigv4_creds *c, uint8_t k[DIGEST_SHA256_LEN])
{
	struct str secret = STR_INIT;

	str_printf(&secret, "AWS4%s", c->secret);
	digest_hmac_sha256(secret.p, secret.len, r->amz_date, DATE_LEN, k);
	mem_wipe_free(str_take(&secret), strlen(c->secret) + 4);
	digest_hmac_sha256(k, DIGEST_SHA256_LEN, c->region, strlen(c->region), k);
	digest_hmac_sha256(k, DIGEST_SHA256_LEN, "s3", 2, k);
	digest_hmac_sha256(k, DIGEST_SHA256_LEN, "aws4_request", 12, k);
}

/* All requests of a day have the same key: each thread keeps its last one, under a digest of what it was made from. */
static void
signing_key(const struct sigv4_request *r, const struct sigv4_creds *c, uint8_t k[DIGEST_SHA256_LEN])
{
	static _Thread_local struct {
		bool is_set;
		uint8_t of[DIGEST_SHA256_LEN], key[DIGEST_SHA256_LEN];
	} last;
	size_t secret = strlen(c->secret), region = strlen(c->region);
	struct str text = STR_INIT;
	uint8_t of[DIGEST_SHA256_LEN];

	/* With their NULs: nothing moves from one to the other. */
	(void)str_reserve(&text, secret + region + 2 + DATE_LEN);
	str_add(&text, c->secret, secret + 1);
	str_add(&text, c->region, region + 1);
	str_add(&text, r->amz_date, DATE_LEN);
	digest_sha256(text.p, text.len, of);
	mem_wipe_free(str_take(&text), secret + region + 2 + DATE_LEN);
	if (!last.is_set || memcmp(last.of, of, sizeof(of)) != 0) {
		derive_key(r, c, last.key);
		memcpy(last.of, of, sizeof(of));
		last.is_set = true;
	}
	memcpy(k, last.key, DIGEST_SHA256_LEN);
}

static void
sign(const struct sigv4_request *r, const struct sigv4_creds *c, const struct pair *v, char out[65])
{
	struct str text = STR_INIT;
	uint8_t k[DIGEST_SHA256_LEN];

	signing_key(r, c, k);
	(void)str_reserve(&text, CANONICAL_MOST);
	add_string_to_sign(r, c->region, v, &text);
	digest_hmac_sha256(k, sizeof(k), text.p, text.len, k);
	str_clear(&text);
	str_add_hex(&text, k, sizeof(k));
	ASSERT(text.len == 64);
	memcpy(out, text.p, 65);
	str_fini(&text);
}

void
sigv4_signature(const struct sigv4_request *r, const struct sigv4_creds *c, char out[65])
{
	struct pair *v = canonical_headers(r);

	sign(r, c, v, out);
	pairs_free(v, r->nheaders);
}

void
sigv4_authorization(const struct sigv4_request *r, const struct sigv4_creds *c, struct str *out)
{
	struct pair *v = canonical_headers(r);
	char sig[65];

	(void)str_reserve(out, CANONICAL_MOST);
	str_addz(out, ALGORITHM " Credential=");
	str_addz(out, c->key_id);
	str_addc(out, '/');
	add_scope(r, c->region, out);
	str_addz(out, ", SignedHeaders=");
	add_signed_names(v, r->nheaders, out);
	sign(r, c, v, sig);
	str_addz(out, ", Signature=");
	str_addz(out, sig);
	pairs_free(v, r->nheaders);
}

void
sigv4_presign(const struct sigv4_request *r, const struct sigv4_creds *c, unsigned expires_s, struct str *out)
{
	struct sigv4_request q = *r;
	struct str query = STR_INIT, piece = STR_INIT;
	char sig[65];

	if (r->query != NULL && *r->query != '\0')
		str_printf(&query, "%s&", r->query);
	str_addz(&query, "X-Amz-Algorithm=" ALGORITHM "&X-Amz-Credential=");
	str_printf(&piece, "%s/", c->key_id);
	add_scope(r, c->region, &piece);
	str_add_uri(&query, piece.p, piece.len, false);
	str_printf(&query, "&X-Amz-Date=%s&X-Amz-Expires=%u&X-Amz-SignedHeaders=", r->amz_date, expires_s);
	str_clear(&piece);
	sigv4_signed_headers(r, &piece);
	str_add_uri(&query, piece.p, piece.len, false);
	q.query = str_z(&query);
	q.payload = "UNSIGNED-PAYLOAD";
	sigv4_signature(&q, c, sig);
	str_printf(out, "%s&X-Amz-Signature=%s", q.query, sig);
	str_fini(&piece);
	str_fini(&query);
}
