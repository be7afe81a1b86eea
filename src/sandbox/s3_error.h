/*
 * s3_error: R2's errors from the table s3_error.def, and their XML form: no xmlns, no RequestId, as R2 sends them. Pure.
 */
#ifndef SANDBOX_S3_ERROR_H
#define SANDBOX_S3_ERROR_H

struct str;

enum s3_error {
	S3_OK,
#define S3_ERROR(id, status, code, message) S3_##id,
#include "sandbox/s3_error.def"
#undef S3_ERROR
	S3_ERROR_COUNT
};

int s3_error_status(enum s3_error e);
const char *s3_error_code(enum s3_error e);
/* The whole document. message NULL: the table's; extra: ready elements behind it, NULL: none. */
void s3_error_xml(struct str *out, enum s3_error e, const char *message, const char *extra);

#endif
