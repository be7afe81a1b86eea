#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/utf8.h"

void
str_init(struct str *s)
{
	s->p = NULL;
	s->len = s->cap = 0;
}

void
str_fini(struct str *s)
{
	mem_free(s->p);
	str_init(s);
}

void
str_clear(struct str *s)
{
	s->len = 0;
	if (s->p)
		s->p[0] = '\0';
}

char *
str_reserve(struct str *s, size_t n)
{
	size_t need;

	ASSERT(n < SIZE_MAX / 2 - s->len - 1);
	need = s->len + n + 1;
	if (need > s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 32;

		if (cap < need)
			cap = need;
		s->p = mem_realloc(s->p, cap);
		s->cap = cap;
		s->p[s->len] = '\0';
	}
	return s->p + s->len;
}

void
str_add(struct str *s, const void *p, size_t n)
{
	char *to = str_reserve(s, n);

	if (n)
		memcpy(to, p, n);
	to[n] = '\0';
	s->len += n;
}

void
str_addz(struct str *s, const char *z)
{
	str_add(s, z, strlen(z));
}

void
str_addc(struct str *s, char c)
{
	char *to = str_reserve(s, 1);

	to[0] = c;
	to[1] = '\0';
	s->len++;
}

void
str_add_u64(struct str *s, uint64_t v)
{
	char text[20], *p = text + sizeof(text);

	do
		*--p = (char)('0' + v % 10);
	while ((v /= 10) > 0);
	str_add(s, p, (size_t)(text + sizeof(text) - p));
}

void
str_vprintf(struct str *s, const char *fmt, va_list ap)
{
	va_list again;
	size_t room;
	int n;

	(void)str_reserve(s, 63);
	room = s->cap - s->len;
	va_copy(again, ap);
	n = vsnprintf(s->p + s->len, room, fmt, again);
	va_end(again);
	ASSERT(n >= 0);
	if ((size_t)n >= room)
		(void)vsnprintf(str_reserve(s, (size_t)n), (size_t)n + 1, fmt, ap);
	s->len += (size_t)n;
}

void
str_printf(struct str *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	str_vprintf(s, fmt, ap);
	va_end(ap);
}

void
str_drop(struct str *s, size_t n)
{
	ASSERT(n <= s->len);
	if (n == 0)
		return;
	memmove(s->p, s->p + n, s->len - n + 1);
	s->len -= n;
}

const char *
str_z(const struct str *s)
{
	return s->p ? s->p : "";
}

char *
str_take(struct str *s)
{
	char *p = s->p ? s->p : mem_strdup("");

	str_init(s);
	return p;
}

static unsigned char
lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

bool
str_ieq(const char *a, const char *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (lower(a[i]) != lower(b[i]))
			return false;
	return true;
}

bool
str_slice_ieq(const char *p, size_t n, const char *z)
{
	return n == strlen(z) && str_ieq(p, z, n);
}

bool
str_slice_eq(const char *p, size_t n, const char *z)
{
	return n == strlen(z) && (n == 0 || memcmp(p, z, n) == 0);
}

static void
add_percent(struct str *s, unsigned char c)
{
	static const char digits[] = "0123456789ABCDEF";
	char enc[3] = {'%', digits[c >> 4], digits[c & 15]};

	str_add(s, enc, sizeof(enc));
}

void
str_add_uri(struct str *s, const void *p, size_t n, bool keep_slash)
{
	const unsigned char *b = p;

	(void)str_reserve(s, n);
	for (size_t i = 0; i < n; i++) {
		unsigned char c = b[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
		    c == '.' || c == '_' || c == '~' || (c == '/' && keep_slash))
			str_addc(s, (char)c);
		else
			add_percent(s, c);
	}
}

void
str_add_safe(struct str *s, const void *p, size_t n)
{
	const char *b = p;
	size_t used;

	for (; n; b += used, n -= used) {
		used = utf8_printable(b, n);
		if (used == 0 || *b == '%' || *b == '"') {
			used = 1;
			add_percent(s, (unsigned char)*b);
		} else {
			str_add(s, b, used);
		}
	}
}

void
str_add_json(struct str *s, const void *p, size_t n)
{
	static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* pairs: the byte, its escape */
	const char *b = p, *e;
	size_t used;

	str_addc(s, '"');
	for (; n; b += used, n -= used) {
		used = 1;
		for (e = shorts; *e && *e != *b; e += 2)
			;
		if (*e && *b) {
			str_addc(s, '\\');
			str_addc(s, e[1]);
		} else if ((unsigned char)*b < 0x20 || *b == 0x7f) {
			str_printf(s, "\\u%04x", (unsigned)*b);
		} else {
			used = utf8_char(b, n);
			if (used)
				str_add(s, b, used);
			else
				str_addz(s, "\\ufffd");
			used = used ? used : 1;
		}
	}
	str_addc(s, '"');
}

void
str_add_hex(struct str *s, const void *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *b = p;
	char *to = str_reserve(s, n * 2);

	for (size_t i = 0; i < n; i++) {
		*to++ = digits[b[i] >> 4];
		*to++ = digits[b[i] & 15];
	}
	*to = '\0';
	s->len += n * 2;
}

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void
str_add_base64(struct str *s, const void *p, size_t n)
{
	const unsigned char *b = p;

	for (; n; b += 3, n -= n < 3 ? n : 3) {
		uint32_t v = (uint32_t)b[0] << 16 | (n > 1 ? (uint32_t)b[1] << 8 : 0) | (n > 2 ? b[2] : 0);
		char four[4] = {base64_digits[v >> 18], base64_digits[v >> 12 & 63],
		    n > 1 ? base64_digits[v >> 6 & 63] : '=', n > 2 ? base64_digits[v & 63] : '='};

		str_add(s, four, sizeof(four));
		if (n <= 3)
			break;
	}
}

static int
hex_value(char c)
{
	unsigned char l = lower(c);

	if (c >= '0' && c <= '9')
		return c - '0';
	return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

bool
str_unhex(const char *p, size_t n, uint8_t *out, size_t outcap, size_t *outlen)
{
	if (n % 2 || n / 2 > outcap)
		return false;
	for (size_t i = 0; i < n; i += 2) {
		int hi = hex_value(p[i]), lo = hex_value(p[i + 1]);

		if (hi < 0 || lo < 0)
			return false;
		out[i / 2] = (uint8_t)(hi << 4 | lo);
	}
	*outlen = n / 2;
	return true;
}

bool
str_unbase64(const char *p, size_t n, uint8_t *out, size_t outcap, size_t *outlen)
{
	size_t pad = 0, len;
	uint32_t v = 0;

	if (n % 4)
		return false;
	while (pad < 2 && pad < n && p[n - 1 - pad] == '=')
		pad++;
	len = n / 4 * 3 - pad;
	if (len > outcap)
		return false;
	for (size_t i = 0, o = 0; i < n; i++) {
		const char *d = i < n - pad ? (p[i] ? strchr(base64_digits, p[i]) : NULL) : base64_digits;

		if (!d)
			return false;
		v = v << 6 | (uint32_t)(d - base64_digits);
		if (i % 4 != 3)
			continue;
		for (int shift = 16; shift >= 0 && o < len; shift -= 8)
			out[o++] = (uint8_t)(v >> shift);
		if (i == n - 1 && pad && (v & (pad == 2 ? 0xffffu : 0xffu)))
			return false; /* bits behind the last byte: not the canonical form */
		v = 0;
	}
	*outlen = len;
	return true;
}

bool
str_to_u64(const char *p, size_t n, uint64_t *out)
{
	uint64_t v = 0;

	if (n == 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		unsigned d = (unsigned)((unsigned char)p[i] - '0');

		if (d > 9 || v > ((uint64_t)INT64_MAX - d) / 10)
			return false;
		v = v * 10 + d;
	}
	*out = v;
	return true;
}

struct unit {
	const char *name;
	uint64_t factor;
};

static bool
to_units(const char *z, const struct unit *units, uint64_t *out)
{
	size_t digits = strspn(z, "0123456789");
	uint64_t v;

	if (!str_to_u64(z, digits, &v))
		return false;
	if (v == 0 && z[digits] == '\0') {
		*out = 0;
		return true;
	}
	for (; units->name; units++) {
		if (strcmp(units->name, z + digits) != 0)
			continue;
		if (v > INT64_MAX / units->factor)
			return false;
		*out = v * units->factor;
		return true;
	}
	return false;
}

#define KI UINT64_C(1024)
#define KB UINT64_C(1000)

bool
str_to_size(const char *z, uint64_t *bytes)
{
	static const struct unit units[] = {{"", 1}, {"B", 1}, {"KiB", KI}, {"MiB", KI * KI}, {"GiB", KI * KI * KI},
	    {"TiB", KI * KI * KI * KI}, {"KB", KB}, {"MB", KB * KB}, {"GB", KB * KB * KB}, {"TB", KB * KB * KB * KB},
	    {NULL, 0}};

	return to_units(z, units, bytes);
}

bool
str_to_duration(const char *z, uint64_t *ms)
{
	static const struct unit units[] = {
	    {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 24 * 3600 * 1000}, {NULL, 0}};

	return to_units(z, units, ms);
}

void
str_add_size(struct str *s, uint64_t bytes)
{
	static const char *const names[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double v = (double)bytes / 1024;
	size_t u = 0;

	if (bytes < 1024) {
		str_printf(s, "%u B", (unsigned)bytes);
		return;
	}
	for (; v >= 1023.95 && u < 5; u++)
		v /= 1024;
	str_printf(s, "%.1f %s", v, names[u]);
}

void
str_add_duration(struct str *s, uint64_t ms)
{
	static const struct {
		uint64_t s;
		const char *name;
	} units[] = {{86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}};
	uint64_t sec = ms / 1000;

	if (ms < 1000) {
		str_printf(s, "%u ms", (unsigned)ms);
		return;
	}
	if (sec < 60) {
		str_printf(s, "%u", (unsigned)sec);
		if (ms % 1000 >= 100)
			str_printf(s, ".%u", (unsigned)(ms % 1000 / 100));
		str_addz(s, " s");
		return;
	}
	for (size_t i = 0; i < 3; i++) {
		uint64_t big = sec / units[i].s, small = sec % units[i].s / units[i + 1].s;

		if (big == 0)
			continue;
		str_printf(s, "%llu %s", (unsigned long long)big, units[i].name);
		if (small)
			str_printf(s, " %llu %s", (unsigned long long)small, units[i + 1].name);
		return;
	}
}

void
str_add_count(struct str *s, uint64_t n)
{
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);

	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			str_addc(s, ',');
		str_addc(s, digits[i]);
	}
}
