#include "base/keypath.h"

#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "base/utf8.h"

#define KEY_MAX 1024 /* developers.cloudflare.com/r2/platform/limits: object key length */

static int
hex_digit(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Appends the path with empty and dot segments removed; ".." stops at the root. True if that changed nothing. */
static bool
add_normal(struct str *out, const char *p, size_t n)
{
	size_t start = out->len, seg;
	bool same = true;
	const char *end = p + n, *slash;

	for (; p < end; p = slash) {
		p++; /* the slash before the segment */
		slash = memchr(p, '/', (size_t)(end - p));
		if (!slash)
			slash = end;
		seg = (size_t)(slash - p);
		if (seg == 0 && slash < end) {
			same = false;
		} else if (seg == 1 && p[0] == '.') {
			same = false;
			if (slash == end)
				str_addc(out, '/');
		} else if (seg == 2 && p[0] == '.' && p[1] == '.') {
			same = false;
			while (out->len > start && out->p[--out->len] != '/')
				;
			if (slash == end)
				str_addc(out, '/');
		} else {
			str_addc(out, '/');
			str_add(out, p, seg);
		}
	}
	return same;
}

enum keypath_class
keypath_from_target(const char *target, size_t len, struct str *out)
{
	const char *end = memchr(target, '?', len);
	struct str raw = STR_INIT;
	bool odd = false, plain;

	str_clear(out);
	for (size_t i = 0; i < len; i++) /* in the query 8-bit bytes are common, and nothing to us */
		if ((unsigned char)target[i] <= ' ' || target[i] == 0x7f)
			return KEYPATH_BAD;
	if (end)
		len = (size_t)(end - target);
	if (len == 0 || target[0] != '/')
		return KEYPATH_BAD;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)target[i];
		int hi, lo;

		if (c >= 0x80)
			goto bad;
		if (c == '#') { /* no part of a target, but some servers cut there */
			odd = true;
			break;
		}
		if (c == '%') {
			hi = i + 1 < len ? hex_digit((unsigned char)target[i + 1]) : -1;
			lo = i + 2 < len ? hex_digit((unsigned char)target[i + 2]) : -1;
			if (hi < 0 || lo < 0 || hi + lo == 0)
				goto bad;
			c = (unsigned char)(hi * 16 + lo);
			if (c == '/')
				odd = true;
			i += 2;
		}
		str_addc(&raw, (char)c);
	}
	plain = add_normal(out, raw.p, raw.len);
	str_fini(&raw);
	return plain && !odd ? KEYPATH_PLAIN : KEYPATH_ODD;
bad:
	str_fini(&raw);
	return KEYPATH_BAD;
}

enum keypath_fault
keypath_check(const char *key, size_t len)
{
	const size_t ours = sizeof(KEYPATH_OURS_PREFIX) - 1;
	struct str nfc = STR_INIT;
	const char *p, *end = key + len, *slash;
	bool folder = false, is_ours = false, valid;
	size_t seg, n;

	if (len == 0)
		return KEYPATH_EMPTY;
	if (memchr(key, '\0', len))
		return KEYPATH_SEGMENT;
	for (p = key; p <= end; p = slash + 1) {
		slash = memchr(p, '/', (size_t)(end - p));
		if (!slash)
			slash = end;
		seg = (size_t)(slash - p);
		if (seg == 0 && slash == end && p != key)
			folder = true;
		else if (seg == 0 || (seg == 1 && p[0] == '.') || (seg == 2 && p[0] == '.' && p[1] == '.'))
			return KEYPATH_SEGMENT;
		if (seg >= ours && memcmp(p, KEYPATH_OURS_PREFIX, ours) == 0)
			is_ours = true;
	}
	if (is_ours)
		return KEYPATH_OURS;
	if (folder)
		return KEYPATH_EMPTY;
	valid = utf8_add_nfc(&nfc, key, len);
	n = nfc.len;
	str_fini(&nfc);
	if (!valid)
		return KEYPATH_NOT_UTF8;
	return n > KEY_MAX ? KEYPATH_TOO_LONG : KEYPATH_OK;
}

const char *
keypath_fault_text(enum keypath_fault f)
{
	switch (f) {
	case KEYPATH_OK:
		return "a valid key";
	case KEYPATH_EMPTY:
		return "no file name";
	case KEYPATH_SEGMENT:
		return "an empty, \".\" or \"..\" segment";
	case KEYPATH_OURS:
		return "a name of r2shim's own";
	case KEYPATH_TOO_LONG:
		return "longer than the 1024 bytes that R2 can hold";
	case KEYPATH_NOT_UTF8:
		return "not UTF-8, which R2 refuses";
	}
	ASSERT(!"a fault of the enum");
	return "";
}

bool
keypath_servable(enum keypath_fault f)
{
	return f == KEYPATH_OK || f == KEYPATH_TOO_LONG || f == KEYPATH_NOT_UTF8;
}
