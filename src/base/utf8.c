#include "base/utf8.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "base/err.h"
#include "base/str.h"

static size_t
ascii_prefix(const unsigned char *p, size_t n)
{
	size_t i = 0;

	while (i < n && p[i] < 0x80)
		i++;
	return i;
}

bool
utf8_valid(const void *p, size_t n)
{
	const unsigned char *s = p;
	utf8proc_int32_t cp;
	utf8proc_ssize_t used;

	for (;;) {
		size_t skip = ascii_prefix(s, n);

		s += skip;
		n -= skip;
		if (n == 0)
			return true;
		used = utf8proc_iterate(s, (utf8proc_ssize_t)n, &cp);
		if (used <= 0)
			return false;
		s += used;
		n -= (size_t)used;
	}
}

bool
utf8_add_nfc(struct str *out, const void *p, size_t n)
{
	utf8proc_uint8_t *nfc = NULL;
	utf8proc_ssize_t len;

	if (ascii_prefix(p, n) == n) {
		str_add(out, p, n);
		return true;
	}
	if (!utf8_valid(p, n))
		return false;
	len = utf8proc_map(p, (utf8proc_ssize_t)n, &nfc, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	ASSERT(len >= 0 && nfc);
	str_add(out, nfc, (size_t)len);
	free(nfc);
	return true;
}

bool
utf8_is_nfc(const void *p, size_t n)
{
	struct str s = STR_INIT;
	bool same;

	if (ascii_prefix(p, n) == n)
		return true;
	same = utf8_add_nfc(&s, p, n) && s.len == n && memcmp(s.p, p, n) == 0;
	str_fini(&s);
	return same;
}

size_t
utf8_char(const void *p, size_t n)
{
	utf8proc_int32_t cp;
	utf8proc_ssize_t used = n ? utf8proc_iterate(p, (utf8proc_ssize_t)n, &cp) : 0;

	return used > 0 ? (size_t)used : 0;
}

size_t
utf8_printable(const void *p, size_t n)
{
	utf8proc_int32_t cp;
	utf8proc_ssize_t used = n ? utf8proc_iterate(p, (utf8proc_ssize_t)n, &cp) : 0;
	utf8proc_category_t cat;

	if (used <= 0)
		return 0;
	cat = utf8proc_category(cp);
	if (cat == UTF8PROC_CATEGORY_CC || cat == UTF8PROC_CATEGORY_CF || cat == UTF8PROC_CATEGORY_CS ||
	    cat == UTF8PROC_CATEGORY_CO || cat == UTF8PROC_CATEGORY_CN || cat == UTF8PROC_CATEGORY_ZL ||
	    cat == UTF8PROC_CATEGORY_ZP)
		return 0;
	return (size_t)used;
}
