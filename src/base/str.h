/*
 * str: a growable byte buffer that is always terminated. Embedded: str_init / str_fini. `struct str s = STR_INIT;`
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct str {
	char *p;	/* NULL or terminated */
	size_t len, cap;
};
#define STR_INIT {NULL, 0, 0}

void str_init(struct str *s);
void str_fini(struct str *s);
void str_clear(struct str *s);
/* Room for n more bytes behind len; returns where they go. */
char *str_reserve(struct str *s, size_t n);
void str_add(struct str *s, const void *p, size_t n);
void str_addz(struct str *s, const char *z);
void str_addc(struct str *s, char c);
/* In decimal; a tenth of what str_printf takes. */
void str_add_u64(struct str *s, uint64_t v);
void str_printf(struct str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void str_vprintf(struct str *s, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Removes n bytes at the front. */
void str_drop(struct str *s, size_t n);
/* The terminated contents, "" when empty; valid until the next change. */
const char *str_z(const struct str *s);
/* Gives the contents away (mem_free) and leaves an empty buffer. */
char *str_take(struct str *s);

/* Case-insensitive ASCII comparison of n bytes, and of a slice with a terminated string. */
bool str_ieq(const char *a, const char *b, size_t n);
bool str_slice_ieq(const char *p, size_t n, const char *z);
bool str_slice_eq(const char *p, size_t n, const char *z);

/* Percent-encode all but unreserved characters (RFC 3986 2.3); '/' too unless keep_slash. SigV4's UriEncode. */
void str_add_uri(struct str *s, const void *p, size_t n, bool keep_slash);
/* A key for a log line, a terminal, a report: printable UTF-8 as it is, all else and '%' and '"' percent-encoded. */
void str_add_safe(struct str *s, const void *p, size_t n);
/* A JSON string with its quotes; malformed UTF-8 becomes U+FFFD. */
void str_add_json(struct str *s, const void *p, size_t n);
void str_add_hex(struct str *s, const void *p, size_t n);
void str_add_base64(struct str *s, const void *p, size_t n);
/* Decodes hex / base64; false if malformed. out has room for outcap bytes. */
bool str_unhex(const char *p, size_t n, uint8_t *out, size_t outcap, size_t *outlen);
bool str_unbase64(const char *p, size_t n, uint8_t *out, size_t outcap, size_t *outlen);
/* Digits only, no sign, no space; false on overflow of 2^63-1 or anything else. */
bool str_to_u64(const char *p, size_t n, uint64_t *out);
/* "64KiB" "1MB" "10B" "10" -> bytes; "250ms" "30s" "5m" "24h" "7d" -> milliseconds, where 0 alone needs no unit. */
bool str_to_size(const char *z, uint64_t *bytes);
bool str_to_duration(const char *z, uint64_t *ms);
/* For a person: "1.4 GiB", "3 m 20 s", "12,345". */
void str_add_size(struct str *s, uint64_t bytes);
void str_add_duration(struct str *s, uint64_t ms);
void str_add_count(struct str *s, uint64_t n);

#endif
