#include "sandbox/query.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

static int
hexval(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that "%xx" at p stands for, or -1. */
static int
percent(const char *p, size_t n)
{
	int hi, lo;

	if (n < 3 || (hi = hexval(p[1])) < 0 || (lo = hexval(p[2])) < 0)
		return -1;
	return hi * 16 + lo;
}

static char *
decode_param(const char *p, size_t n)
{
	struct str s = STR_INIT;

	for (size_t i = 0; i < n; i++) {
		int c = p[i] == '%' ? percent(p + i, n - i) : -1;

		if (c == 0) {
			str_fini(&s);
			return NULL;
		}
		if (c > 0) {
			str_addc(&s, (char)c);
			i += 2;
		} else
			str_addc(&s, p[i] == '+' ? ' ' : p[i]);
	}
	return s.p == NULL ? mem_strdup("") : str_take(&s);
}

bool
query_parse(struct query *q, const char *text)
{
	q->n = 0;
	while (text != NULL && *text != '\0') {
		size_t n = strcspn(text, "&"), nn;
		struct query_param *p;

		if (n > 0) {
			if (q->n == QUERY_MAX)
				return false;
			nn = strcspn(text, "=&");
			p = &q->v[q->n++];
			p->name = decode_param(text, nn);
			p->value = nn < n ? decode_param(text + nn + 1, n - nn - 1) : mem_strdup("");
			if (p->name == NULL || p->value == NULL)
				return false;
		}
		text += n + (text[n] == '&');
	}
	return true;
}

void
query_fini(struct query *q)
{
	for (size_t i = 0; i < q->n; i++) {
		mem_free(q->v[i].name);
		mem_free(q->v[i].value);
	}
	q->n = 0;
}

const char *
query_get(const struct query *q, const char *name)
{
	for (size_t i = 0; i < q->n; i++)
		if (strcmp(q->v[i].name, name) == 0)
			return q->v[i].value;
	return NULL;
}

bool
query_has(const struct query *q, const char *name)
{
	return query_get(q, name) != NULL;
}

bool
query_ignored(const char *name)
{
	return strncmp(name, "X-Amz-", 6) == 0 || strcmp(name, "x-id") == 0;
}

struct pair {
	struct str name, value;
};

static int
pair_cmp(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;
	int r = strcmp(str_z(&x->name), str_z(&y->name));

	return r != 0 ? r : strcmp(str_z(&x->value), str_z(&y->value));
}

void
query_canonical(const struct query *q, bool presigned, struct str *out)
{
	struct pair v[QUERY_MAX];
	size_t n = 0;

	for (size_t i = 0; i < q->n; i++) {
		if (presigned && strcmp(q->v[i].name, "X-Amz-Signature") == 0)
			continue;
		str_init(&v[n].name);
		str_init(&v[n].value);
		str_add_uri(&v[n].name, q->v[i].name, strlen(q->v[i].name), false);
		str_add_uri(&v[n].value, q->v[i].value, strlen(q->v[i].value), false);
		n++;
	}
	/* cppcheck-suppress uninitvar */
	qsort(v, n, sizeof(v[0]), pair_cmp);
	for (size_t i = 0; i < n; i++) {
		str_printf(out, "%s%s=%s", i == 0 ? "" : "&", str_z(&v[i].name), str_z(&v[i].value));
		str_fini(&v[i].name);
		str_fini(&v[i].value);
	}
}

bool
query_decode_path(struct str *out, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int c = (unsigned char)p[i];

		if (p[i] == '%') {
			c = percent(p + i, n - i);
			i += 2;
		}
		if (c <= 0)
			return false;
		str_addc(out, (char)c);
	}
	return true;
}
