/* Input: a byte that says which document is awaited (e, l, u, c, m), and an answer of R2. Also: what is escaped comes back as it was. */
#include "fuzz.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "store/s3xml.h"
#include "store/store.h"

static void
fuzz_list(const char *p, size_t n)
{
	struct s3xml_list l = {0};

	if (s3xml_list(p, n, &l) == ERR_OK) {
		ASSERT(!l.truncated || l.next);
		for (size_t i = 0; i < l.n; i++)
			ASSERT(l.v[i].key != NULL);
	}
	s3xml_list_fini(&l);
}

static void
fuzz_uploads(const char *p, size_t n)
{
	struct s3xml_uploads u = {0};

	if (s3xml_uploads(p, n, &u) == ERR_OK)
		for (size_t i = 0; i < u.n; i++)
			ASSERT(u.v[i].key && u.v[i].id);
	s3xml_uploads_fini(&u);
}

static void
fuzz_error(const char *p, size_t n)
{
	struct str message = STR_INIT;
	char code[64];

	if (s3xml_error(p, n, code, &message))
		ASSERT(memchr(code, '\0', sizeof code) != NULL);
	str_fini(&message);
}

static void
fuzz_escape(const char *p, size_t n)
{
	struct str doc = STR_INIT, message = STR_INIT;
	char code[64];

	/* Whatever it is made of: nothing of it becomes an element. */
	str_addz(&doc, "<Error><Code>A</Code><Message>");
	s3xml_escape(&doc, p, n);
	str_addz(&doc, "</Message></Error>");
	if (s3xml_error(doc.p, doc.len, code, &message))
		ASSERT(strcmp(code, "A") == 0);
	str_fini(&doc);
	str_fini(&message);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	char etag[80], *id = NULL;
	const char *doc = (const char *)p + 1;

	if (n < 1)
		return 0;
	switch (p[0]) {
	case 'e':
		fuzz_error(doc, n - 1);
		break;
	case 'l':
		fuzz_list(doc, n - 1);
		break;
	case 'u':
		fuzz_uploads(doc, n - 1);
		break;
	case 'c':
		if (s3xml_created(doc, n - 1, &id) == ERR_OK)
			ASSERT(id != NULL);
		mem_free(id);
		break;
	case 'm':
		if (s3xml_completed(doc, n - 1, etag) == ERR_OK)
			ASSERT(memchr(etag, '\0', sizeof etag) != NULL);
		break;
	default:
		fuzz_escape(doc, n - 1);
		break;
	}
	return 0;
}
