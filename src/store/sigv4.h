/*
 * sigv4: AWS Signature Version 4 as R2 checks it: single-encoded path, never normalised. Pure; thread safe.
 * Source: docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html. The sandbox checks with the same
 * canonical form, tests compare with boto's signer.
 */
#ifndef STORE_SIGV4_H
#define STORE_SIGV4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct str;

struct sigv4_header {
	const char *name, *value;	/* any case; signed lowercased and trimmed */
};

struct sigv4_request {
	const char *method;
	const char *path;		/* as on the wire, encoded, beginning with '/' */
	const char *query;		/* as on the wire, without '?'; NULL or "": none */
	const struct sigv4_header *headers;	/* those to be signed, host among them */
	size_t nheaders;
	const char *payload;		/* x-amz-content-sha256's value: hex, or UNSIGNED-PAYLOAD */
	const char *amz_date;		/* YYYYMMDDTHHMMSSZ */
};

struct sigv4_creds {
	const char *key_id, *secret, *region;	/* service is s3 */
};

/* The canonical request and string to sign, for signing and for checking. */
void sigv4_canonical(const struct sigv4_request *r, struct str *out);
void sigv4_string_to_sign(const struct sigv4_request *r, const char *region, struct str *out);
/* 64 hex digits and a NUL. */
void sigv4_signature(const struct sigv4_request *r, const struct sigv4_creds *c, char out[65]);
/* The Authorization header's value. */
void sigv4_authorization(const struct sigv4_request *r, const struct sigv4_creds *c, struct str *out);
/* "a;b;c" of the signed headers, sorted. */
void sigv4_signed_headers(const struct sigv4_request *r, struct str *out);
/* A presigned query string (without '?') for r (its query included, payload UNSIGNED-PAYLOAD), valid for expires_s. */
void sigv4_presign(const struct sigv4_request *r, const struct sigv4_creds *c, unsigned expires_s, struct str *out);

#endif
