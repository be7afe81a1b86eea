#include "sandbox/auth.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/mem.h"
#include "sandbox/headers.h"
#include "sandbox/query.h"
#include "sandbox/xml.h"

#define ALGORITHM "AWS4-HMAC-SHA256"
#define UNSIGNED  "UNSIGNED-PAYLOAD"
enum { SKEW_S = 15 * 60, EXPIRES_MAX_S = 604800 };

/* What both kinds of signature come down to. */
struct claim {
	const char *date; /* YYYYMMDDTHHMMSSZ */
	char *credential, *signed_headers, *signature;
	char *key_id, *scope_date, *region, *service, *terminator; /* within credential */
	const char *payload;
	bool presigned;
};

static void
claim_fini(struct claim *c)
{
	mem_free(c->credential);
	mem_free(c->signed_headers);
	mem_free(c->signature);
}

static bool refuse(struct auth_verdict *v, enum s3_error e, const char *fmt, ...) PRINTF_LIKE(3, 4);

static bool
refuse(struct auth_verdict *v, enum s3_error e, const char *fmt, ...)
{
	va_list ap, again;
	int n;

	v->error = e;
	if (fmt == NULL)
		return false;
	str_clear(&v->message);
	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	if (n > 0) {
		vsnprintf(str_reserve(&v->message, (size_t)n + 1), (size_t)n + 1, fmt, again);
		v->message.len += (size_t)n;
	}
	va_end(again);
	va_end(ap);
	return false;
}

/* "key/date/region/service/aws4_request"; the key id may itself hold slashes. */
static bool
split_credential(struct claim *c, struct auth_verdict *v)
{
	char *slash[4] = {NULL}, *p;
	unsigned parts = 1;

	for (p = c->credential; *p != '\0'; p++)
		if (*p == '/')
			parts++;
	if (parts < 5)
		return refuse(v, S3_INVALID_ARGUMENT,
		    "Credential sigv4 header should have at least 5 slash-separated parts, not %u", parts);
	for (int i = 3; i >= 0; i--) {
		slash[i] = strrchr(c->credential, '/');
		*slash[i] = '\0';
	}
	c->key_id = c->credential;
	c->scope_date = slash[0] + 1;
	c->region = slash[1] + 1;
	c->service = slash[2] + 1;
	c->terminator = slash[3] + 1;
	if (strcmp(c->service, "s3") != 0)
		return refuse(v, S3_INVALID_ARGUMENT, "Credential service should be s3, not %s", c->service);
	if (strcmp(c->terminator, "aws4_request") != 0)
		return refuse(v, S3_INVALID_ARGUMENT, "Credential termination string should be aws4_request, not %s",
		    c->terminator);
	return true;
}

static bool
check_scope(struct claim *c, const struct auth_keys *k, struct auth_verdict *v)
{
	if (!split_credential(c, v))
		return false;
	if (strncmp(c->date, c->scope_date, strlen(c->scope_date)) != 0)
		return refuse(v, S3_INVALID_ARGUMENT,
		    "Credential signed date %s does not match %.8s from 'x-amz-date' header", c->scope_date, c->date);
	if (strcmp(c->key_id, k->key_id) != 0)
		return refuse(v, S3_UNAUTHORIZED, NULL);
	return true;
}

/* The headers that SignedHeaders names, with an empty value for one that was not sent. */
static size_t
signed_headers(char *names, const struct headers *h, struct sigv4_header *out, size_t max, bool *host)
{
	size_t n = 0;

	*host = false;
	while (names != NULL && n < max) {
		char *name = strsep(&names, ";");
		const char *value;

		for (char *p = name; *p != '\0'; p++)
			if (*p >= 'A' && *p <= 'Z')
				*p = (char)(*p + ('a' - 'A'));
		value = headers_get(h, name);
		out[n].name = name;
		out[n++].value = value == NULL ? "" : value;
		*host = *host || strcmp(name, "host") == 0;
	}
	return n;
}

static void
add_bytes(struct str *out, const char *name, const struct str *text)
{
	xml_open(out, name);
	for (size_t i = 0; i < text->len; i++)
		str_printf(out, "%s%02x", i == 0 ? "" : " ", (unsigned char)text->p[i]);
	xml_close(out, name);
}

static bool
mismatch(struct auth_verdict *v, const struct sigv4_request *r, const struct claim *c)
{
	struct str canonical = STR_INIT, to_sign = STR_INIT;

	sigv4_canonical(r, &canonical);
	sigv4_string_to_sign(r, c->region, &to_sign);
	xml_text(&v->extra, "StringToSign", str_z(&to_sign));
	add_bytes(&v->extra, "StringToSignBytes", &to_sign);
	xml_text(&v->extra, "CanonicalRequest", str_z(&canonical));
	add_bytes(&v->extra, "CanonicalRequestBytes", &canonical);
	xml_text(&v->extra, "SignatureProvided", c->signature);
	str_fini(&canonical);
	str_fini(&to_sign);
	return refuse(v, S3_SIGNATURE, NULL);
}

static bool
check_signature(const struct auth_request *a, struct claim *c, const struct auth_keys *k, struct auth_verdict *v)
{
	struct sigv4_header hs[HTTP1_HEADERS];
	struct sigv4_creds creds = {k->key_id, k->secret, c->region};
	struct sigv4_request r = {.method = a->method, .path = a->path, .headers = hs, .payload = c->payload};
	struct str query = STR_INIT;
	char want[65];
	bool host, ok = true;

	r.nheaders = signed_headers(c->signed_headers, a->headers, hs, HTTP1_HEADERS, &host);
	if (!host)
		return refuse(v, S3_UNAUTHORIZED, NULL);
	r.amz_date = c->date;
	query_canonical(a->query, c->presigned, &query);
	r.query = str_z(&query);
	sigv4_signature(&r, &creds, want);
	if (strlen(c->signature) != 64 || !digest_equal(want, c->signature, 64))
		ok = mismatch(v, &r, c);
	str_fini(&query);
	return ok;
}

static char *
trimmed(const char *p, size_t n)
{
	while (n > 0 && (*p == ' ' || *p == '\t'))
		p++, n--;
	while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t'))
		n--;
	return mem_strndup(p, n);
}

/* "AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=..." */
static void
parse_authorization(const char *p, struct claim *c)
{
	if (strncmp(p, ALGORITHM " ", sizeof(ALGORITHM)) != 0)
		return;
	p += sizeof(ALGORITHM);
	while (*p != '\0') {
		size_t n = strcspn(p, ","), eq = strcspn(p, "=");
		char **field = NULL, *name;

		if (eq < n) {
			name = trimmed(p, eq);
			if (strcmp(name, "Credential") == 0)
				field = &c->credential;
			else if (strcmp(name, "SignedHeaders") == 0)
				field = &c->signed_headers;
			else if (strcmp(name, "Signature") == 0)
				field = &c->signature;
			mem_free(name);
		}
		if (field != NULL) {
			mem_free(*field);
			*field = trimmed(p + eq + 1, n - eq - 1);
		}
		p += n + (p[n] == ',');
	}
}

/* x-amz-content-sha256: 64 hex digits or UNSIGNED-PAYLOAD; nothing that is streamed in signed chunks. */
static bool
check_payload(const char *payload, struct auth_verdict *v)
{
	size_t n;

	if (strcmp(payload, UNSIGNED) == 0)
		return true;
	if (strncmp(payload, "STREAMING-", 10) == 0)
		return refuse(v, S3_NOT_IMPLEMENTED, "%s not implemented", payload);
	if (strlen(payload) == 64 && strspn(payload, "0123456789abcdef") == 64 &&
	    str_unhex(payload, 64, v->sha256, sizeof(v->sha256), &n)) {
		v->literal_hash = true;
		return true;
	}
	return refuse(
	    v, S3_INVALID_ARGUMENT, "x-amz-content-sha256 must be UNSIGNED-PAYLOAD or the SHA-256 of the payload");
}

static bool
check_header(const struct auth_request *a, const struct auth_keys *k, struct claim *c, struct auth_verdict *v)
{
	const char *source = "'x-amz-date' header";
	int64_t at;

	c->payload = headers_get(a->headers, "x-amz-content-sha256");
	if (c->payload == NULL)
		return refuse(v, S3_INVALID_REQUEST, "Missing x-amz-content-sha256");
	c->date = headers_get(a->headers, "x-amz-date");
	if (c->date == NULL) {
		c->date = headers_get(a->headers, "date");
		source = "'date' header";
	}
	if (c->date == NULL)
		return refuse(v, S3_INVALID_ARGUMENT, "No date provided in x-amz-date nor date header");
	if (!clock_parse_amz_date(c->date, strlen(c->date), &at))
		return refuse(
		    v, S3_INVALID_ARGUMENT, "Date provided in %s (%s) didn't parse successfully", source, c->date);
	if (at - a->now_s > SKEW_S || a->now_s - at > SKEW_S)
		return refuse(v, S3_TIME_SKEWED, NULL);
	parse_authorization(headers_get(a->headers, "authorization"), c);
	if (c->credential == NULL || c->signed_headers == NULL || c->signature == NULL)
		return refuse(v, S3_INVALID_REQUEST, "Please use " ALGORITHM);
	return check_scope(c, k, v) && check_signature(a, c, k, v) && check_payload(c->payload, v);
}

static bool
missing_params(const struct query *q, struct auth_verdict *v)
{
	static const char *const need[] = {
	    "X-Amz-Algorithm", "X-Amz-Signature", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Expires"};
	struct str names = STR_INIT;
	unsigned n = 0;

	for (size_t i = 0; i < sizeof(need) / sizeof(need[0]); i++)
		if (!query_has(q, need[i]))
			str_printf(&names, "%s%s", n++ == 0 ? "" : ",  ", need[i]);
	if (n > 0)
		refuse(
		    v, S3_INVALID_ARGUMENT, "Required search parameter%s %s missing", n == 1 ? "" : "s", str_z(&names));
	str_fini(&names);
	return n > 0;
}

static bool
check_expires(const char *text, int64_t at, int64_t now, struct auth_verdict *v)
{
	char *end;
	double expires = strtod(text, &end);

	if (*text == '\0' || *end != '\0' || expires != expires)
		return refuse(v, S3_INVALID_ARGUMENT, "X-Amz-Expires should be a number");
	if (expires > EXPIRES_MAX_S)
		return refuse(v, S3_INVALID_ARGUMENT,
		    "X-Amz-Expires must be less than a week (in seconds); that is, the given "
		    "X-Amz-Expires must be less than %d seconds",
		    EXPIRES_MAX_S);
	if (expires < 1 || (double)now > (double)at + expires)
		return refuse(v, S3_EXPIRED, NULL);
	return true;
}

static bool
check_presigned(const struct auth_request *a, const struct auth_keys *k, struct claim *c, struct auth_verdict *v)
{
	const struct query *q = a->query;
	int64_t at;

	if (missing_params(q, v))
		return false;
	if (strcmp(query_get(q, "X-Amz-Algorithm"), ALGORITHM) != 0)
		return refuse(v, S3_INVALID_REQUEST, "Please use " ALGORITHM);
	c->presigned = true;
	c->payload = UNSIGNED;
	c->date = query_get(q, "X-Amz-Date");
	if (!clock_parse_amz_date(c->date, strlen(c->date), &at))
		return refuse(
		    v, S3_INVALID_ARGUMENT, "Date provided in X-Amz-Date (%s) didn't parse successfully", c->date);
	c->credential = mem_strdup(query_get(q, "X-Amz-Credential"));
	c->signed_headers = mem_strdup(query_get(q, "X-Amz-SignedHeaders"));
	c->signature = mem_strdup(query_get(q, "X-Amz-Signature"));
	return check_scope(c, k, v) && check_expires(query_get(q, "X-Amz-Expires"), at, a->now_s, v) &&
	       check_signature(a, c, k, v);
}

bool
auth_present(const struct auth_request *r)
{
	return headers_get(r->headers, "authorization") != NULL || query_has(r->query, "X-Amz-Credential");
}

void
auth_check(const struct auth_request *r, const struct auth_keys *k, struct auth_verdict *v)
{
	struct claim c = {0};

	memset(v, 0, sizeof(*v));
	if (headers_get(r->headers, "authorization") != NULL)
		check_header(r, k, &c, v);
	else if (query_has(r->query, "X-Amz-Credential"))
		check_presigned(r, k, &c, v);
	else
		refuse(v, S3_INVALID_ARGUMENT, "Authorization");
	claim_fini(&c);
}

void
auth_verdict_fini(struct auth_verdict *v)
{
	str_fini(&v->message);
	str_fini(&v->extra);
}
