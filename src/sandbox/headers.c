#include "sandbox/headers.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

void
headers_add(struct headers *h, const char *name, size_t nlen, const char *value, size_t vlen)
{
	char *low = mem_strndup(name, nlen);
	struct sigv4_header *old = NULL;

	for (char *p = low; *p != '\0'; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p + ('a' - 'A'));
	for (size_t i = 0; i < h->n && old == NULL; i++)
		if (strcmp(h->v[i].name, low) == 0)
			old = &h->v[i];
	if (old != NULL) {
		char *joined = mem_printf("%s,%.*s", old->value, (int)vlen, value);

		mem_free(low);
		mem_free((void *)(uintptr_t)old->value);
		old->value = joined;
		return;
	}
	ASSERT(h->n < HTTP1_HEADERS);
	h->v[h->n].name = low;
	h->v[h->n++].value = mem_strndup(value, vlen);
}

void
headers_copy(struct headers *h, const struct http1_head *head)
{
	h->n = 0;
	for (unsigned i = 0; i < head->nh; i++)
		headers_add(h, head->h[i].name.p, head->h[i].name.n, head->h[i].value.p, head->h[i].value.n);
}

void
headers_fini(struct headers *h)
{
	for (size_t i = 0; i < h->n; i++) {
		mem_free((void *)(uintptr_t)h->v[i].name);
		mem_free((void *)(uintptr_t)h->v[i].value);
	}
	h->n = 0;
}

const char *
headers_get(const struct headers *h, const char *name)
{
	for (size_t i = 0; i < h->n; i++)
		if (strcmp(h->v[i].name, name) == 0)
			return h->v[i].value;
	return NULL;
}
