#include "sandbox/s3_error.h"

#include <stddef.h>

#include "base/err.h"
#include "sandbox/xml.h"

static const struct {
	int status;
	const char *code, *message;
} table[S3_ERROR_COUNT] = {
    {200, "", ""},
#define S3_ERROR(id, status, code, message) {status, code, message},
#include "sandbox/s3_error.def"
#undef S3_ERROR
};

int
s3_error_status(enum s3_error e)
{
	ASSERT(e > S3_OK && e < S3_ERROR_COUNT);
	return table[e].status;
}

const char *
s3_error_code(enum s3_error e)
{
	ASSERT(e > S3_OK && e < S3_ERROR_COUNT);
	return table[e].code;
}

void
s3_error_xml(struct str *out, enum s3_error e, const char *message, const char *extra)
{
	xml_begin(out);
	xml_open(out, "Error");
	xml_text(out, "Code", s3_error_code(e));
	xml_text(out, "Message", message == NULL ? table[e].message : message);
	if (extra != NULL)
		xml_raw(out, extra);
	xml_close(out, "Error");
}
