/*
 * auth: is a request signed as R2 wants it? Checks the Authorization header or the presigned query in R2's order and with
 * R2's texts. The payload's hash is checked by the caller, once the body has been read. Pure: the time is an argument.
 */
#ifndef SANDBOX_AUTH_H
#define SANDBOX_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "sandbox/s3_error.h"

struct headers;
struct query;

struct auth_keys {
	const char *key_id, *secret;
};

struct auth_request {
	const char *method, *path;	/* path as on the wire */
	const struct query *query;
	const struct headers *headers;
	int64_t now_s;
};

struct auth_verdict {
	enum s3_error error;		/* S3_OK: signed by the right key */
	struct str message, extra;	/* of the error; message empty: the table's */
	bool literal_hash;		/* sha256 is to be compared with the body's */
	uint8_t sha256[32];
};

/* Does it carry either kind of signature? */
bool auth_present(const struct auth_request *r);
void auth_check(const struct auth_request *r, const struct auth_keys *k, struct auth_verdict *v);
void auth_verdict_fini(struct auth_verdict *v);

#endif
