#include "sandbox/s3.h"

#include <string.h>

enum screen {
	SCREEN_READ,
	SCREEN_WRITE,
	SCREEN_COPY,
	SCREEN_PART,
	SCREEN_PART_COPY,
	SCREEN_DELETE,
	SCREEN_BUCKET,
	SCREEN_ANY
};

static const enum screen screens[S3_OP_COUNT] = {
#define S3_OP(id, name, word, body, screen) SCREEN_##screen,
#include "sandbox/ops.def"
#undef S3_OP
};

#define IN(s)  (1u << SCREEN_##s)
#define WRITES (IN(WRITE) | IN(COPY))

/* Headers that R2 knows and refuses, in which kinds of operations. */
static const struct {
	const char *name;
	unsigned where;
} refused[] = {
    {"x-amz-expected-bucket-owner", ~IN(ANY)},
    {"x-amz-tagging", WRITES},
    {"x-amz-grant-full-control", WRITES},
    {"x-amz-grant-read", WRITES},
    {"x-amz-grant-read-acp", WRITES},
    {"x-amz-grant-write", WRITES},
    {"x-amz-grant-write-acp", WRITES},
    {"x-amz-website-redirect-location", WRITES},
    {"x-amz-object-lock-mode", WRITES},
    {"x-amz-object-lock-retain-until-date", WRITES},
    {"x-amz-object-lock-legal-hold", WRITES},
    {"x-amz-server-side-encryption-aws-kms-key-id", WRITES},
    {"x-amz-server-side-encryption-context", WRITES},
    {"x-amz-server-side-encryption-bucket-key-enabled", WRITES},
    {"x-amz-source-expected-bucket-owner", IN(COPY) | IN(PART_COPY)},
    {"x-amz-tagging-directive", IN(COPY)},
    {"x-amz-checksum-algorithm", IN(COPY)},
    {"x-amz-server-side-encryption", IN(PART)},
    {"x-amz-copy-source-if-match", IN(PART_COPY)},
    {"x-amz-copy-source-if-none-match", IN(PART_COPY)},
    {"x-amz-copy-source-if-modified-since", IN(PART_COPY)},
    {"x-amz-copy-source-if-unmodified-since", IN(PART_COPY)},
    {"x-amz-mfa", IN(DELETE)},
    {"x-amz-bypass-governance-retention", IN(DELETE)},
};

static bool
refuse(struct s3_req *r, const char *name, const char *value)
{
	s3_reply_errorf(r, S3_NOT_IMPLEMENTED, "Header '%s' with value '%s' not implemented", name, value);
	return false;
}

/* Canned lists are taken and mean nothing: R2 has no object ACLs. */
static bool
canned_acl(const char *v)
{
	static const char *const canned[] = {"private", "public-read", "public-read-write", "authenticated-read",
	    "aws-exec-read", "bucket-owner-read", "bucket-owner-full-control"};

	for (size_t i = 0; i < sizeof(canned) / sizeof(canned[0]); i++)
		if (strcmp(v, canned[i]) == 0)
			return true;
	return false;
}

/* Customer keys: R2 has them, the sandbox does not: refused rather than stored in the clear. */
static bool
screen_customer_key(struct s3_req *r, bool read)
{
	static const char algorithm[] = "x-amz-server-side-encryption-customer-algorithm";
	const char *a = s3_header(r, algorithm), *k = s3_header(r, "x-amz-server-side-encryption-customer-key");
	const char *m = s3_header(r, "x-amz-server-side-encryption-customer-key-md5");

	if (a == NULL && k == NULL && m == NULL)
		return true;
	if (k == NULL)
		s3_reply_errorf(r, S3_INVALID_ARGUMENT,
		    "Requests specifying Server Side Encryption with Customer provided keys "
		    "must provide an appropriate secret key.");
	else if (m == NULL)
		s3_reply_errorf(r, S3_INVALID_ARGUMENT,
		    "Requests specifying Server Side Encryption with Customer provided keys "
		    "must provide the client calculated MD5 of the secret key.");
	else if (a == NULL)
		s3_reply_errorf(r, S3_INVALID_ARGUMENT,
		    "Requests specifying Server Side Encryption with Customer provided keys "
		    "must provide a valid encryption algorithm.");
	else if (strcmp(a, "AES256") != 0)
		s3_reply_error(r, S3_ENCRYPTION);
	else if (read)
		s3_reply_errorf(r, S3_INVALID_REQUEST, "The encryption parameters are not applicable to this object.");
	else
		refuse(r, algorithm, a);
	return false;
}

bool
s3_screen(struct s3_req *r)
{
	enum screen s = screens[r->op];
	const char *v;

	if (s3_header(r, "x-amz-security-token") != NULL) {
		s3_reply_errorf(r, S3_INVALID_ARGUMENT, "X-Amz-Security-Token");
		return false;
	}
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if ((refused[i].where & (1u << s)) != 0 && (v = s3_header(r, refused[i].name)) != NULL)
			return refuse(r, refused[i].name, v);
	if ((WRITES & (1u << s)) != 0) {
		v = s3_header(r, "x-amz-server-side-encryption");
		if (v != NULL && strcmp(v, "AES256") != 0)
			return refuse(r, "x-amz-server-side-encryption", v);
		v = s3_header(r, "x-amz-acl");
		if (v != NULL && !canned_acl(v))
			return refuse(r, "x-amz-acl", v);
	}
	if (((WRITES | IN(PART) | IN(PART_COPY) | IN(READ)) & (1u << s)) != 0)
		return screen_customer_key(r, s == SCREEN_READ);
	return true;
}

bool
s3_storage_class(struct s3_req *r)
{
	const char *v = s3_header(r, "x-amz-storage-class");

	r->infrequent = v != NULL && strcmp(v, "STANDARD_IA") == 0;
	if (v == NULL || r->infrequent || strcmp(v, "STANDARD") == 0)
		return true;
	s3_reply_error(r, S3_STORAGE_CLASS);
	return false;
}

bool
s3_content_md5(struct s3_req *r)
{
	const char *v = s3_header(r, "content-md5");
	size_t n;

	if (v == NULL)
		return true;
	if (str_unbase64(v, strlen(v), r->want_md5, sizeof(r->want_md5), &n) && n == sizeof(r->want_md5)) {
		r->has_md5 = true;
		return true;
	}
	s3_reply_error(r, S3_INVALID_DIGEST);
	return false;
}

/* A value that is not ASCII comes back as an RFC 2047 word, as R2 sends it. */
static void
add_value(struct str *out, const char *v)
{
	size_t n = strlen(v);
	bool ascii = true;

	for (size_t i = 0; i < n; i++)
		ascii = ascii && (unsigned char)v[i] < 0x80;
	if (ascii)
		str_add(out, v, n);
	else {
		str_addz(out, "=?UTF-8?B?");
		str_add_base64(out, v, n);
		str_addz(out, "?=");
	}
}

bool
s3_collect_stored(struct s3_req *r)
{
	static const char *const kept[] = {
	    "Content-Type", "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Expires"};
	size_t custom = 0;

	if (s3_header(r, "content-type") == NULL)
		str_addz(&r->stored, "Content-Type: application/octet-stream\r\n");
	for (size_t i = 0; i < r->headers.n; i++) {
		const char *name = r->headers.v[i].name, *value = r->headers.v[i].value, *shown = NULL;

		if (strncmp(name, "x-amz-meta-", 11) == 0 && name[11] != '\0') {
			custom += strlen(name) - 11 + strlen(value);
			shown = name;
		}
		for (size_t k = 0; k < sizeof(kept) / sizeof(kept[0]); k++)
			if (str_slice_ieq(name, strlen(name), kept[k]))
				shown = kept[k];
		if (shown == NULL)
			continue;
		str_printf(&r->stored, "%s: ", shown);
		add_value(&r->stored, value);
		str_addz(&r->stored, "\r\n");
	}
	if (custom <= S3_METADATA_MAX)
		return true;
	s3_reply_error(r, S3_METADATA_TOO_LARGE);
	return false;
}
