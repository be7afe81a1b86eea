#include "proxy/accept.h"

#include <stdbool.h>
#include <string.h>

#include "base/str.h"

static const struct {
	const char *name, *suffix;
} rows[ACCEPT_CODINGS] = {
	[ACCEPT_BR] = { "br", ".br" },
	[ACCEPT_GZIP] = { "gzip", ".gz" },
};

/* Thousandths, as far as the client has said; else -1. */
struct said {
	int coding[ACCEPT_CODINGS], identity, any;
};

const char *
accept_coding_name(enum accept_coding c)
{
	return rows[c].name;
}

const char *
accept_coding_suffix(enum accept_coding c)
{
	return rows[c].suffix;
}

static const char *
skip_blanks(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	return p;
}

/* RFC 9110 12.4.2: "0.123", "1.000"; what is none is taken for a refusal. */
static int
quality(const char *p, const char *end)
{
	int v, unit = 100;

	if (p == end || (*p != '0' && *p != '1'))
		return 0;
	v = (*p++ - '0') * 1000;
	if (p < end && *p++ != '.')
		return 0;
	for (; p < end && unit > 0 && *p >= '0' && *p <= '9'; p++, unit /= 10)
		v += (*p - '0') * unit;
	return skip_blanks(p, end) == end && v <= 1000 ? v : 0;
}

/* The weight behind a coding's name: nothing is 1. */
static int
weight(const char *p, const char *end)
{
	p = skip_blanks(p, end);
	if (p == end)
		return 1000;
	if (*p != ';')
		return 0;
	p = skip_blanks(p + 1, end);
	return end - p > 2 && (p[0] == 'q' || p[0] == 'Q') && p[1] == '=' ? quality(p + 2, end) : 0;
}

static void
hear(struct said *s, const char *p, const char *end)
{
	size_t n;
	int q;

	p = skip_blanks(p, end);
	for (n = 0; p + n < end && p[n] != ';' && p[n] != ' ' && p[n] != '\t'; n++)
		;
	q = weight(p + n, end);
	if (str_slice_ieq(p, n, "br"))
		s->coding[ACCEPT_BR] = q;
	else if (str_slice_ieq(p, n, "gzip") || str_slice_ieq(p, n, "x-gzip"))
		s->coding[ACCEPT_GZIP] = q;
	else if (str_slice_ieq(p, n, "identity"))
		s->identity = q;
	else if (str_slice_eq(p, n, "*"))
		s->any = q;
}

unsigned
accept_choose(const char *accept, size_t len, const enum accept_coding *offered, unsigned n, enum accept_coding chosen[ACCEPT_CODINGS])
{
	struct said s = { { -1, -1 }, -1, -1 };
	const char *p = accept, *end = accept + len, *comma;
	int q[ACCEPT_CODINGS];
	unsigned i, at, found = 0;

	for (; p < end; p = comma + 1) {
		comma = memchr(p, ',', (size_t)(end - p));
		if (comma == NULL)
			comma = end;
		hear(&s, p, comma);
	}
	for (i = 0; i < n; i++) {
		int v = s.coding[offered[i]] >= 0 ? s.coding[offered[i]] : s.any;

		if (v <= 0 || v < s.identity)
			continue;
		for (at = found++; at > 0 && q[at - 1] < v; at--) {
			q[at] = q[at - 1];
			chosen[at] = chosen[at - 1];
		}
		q[at] = v;
		chosen[at] = offered[i];
	}
	return found;
}
