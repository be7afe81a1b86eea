/*
 * utf8: validity and NFC (utf8proc). R2 folds NFC and NFD spellings of a key into one object
 * (developers.cloudflare.com/r2/reference/unicode-interoperability), so a key's identity is its NFC form.
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

struct str;

bool utf8_valid(const void *p, size_t n);
/* Appends the NFC form; false (nothing appended) if the bytes are not UTF-8. */
bool utf8_add_nfc(struct str *out, const void *p, size_t n);
bool utf8_is_nfc(const void *p, size_t n);
/* Length of the character at p, 0 if malformed; and the same, but 0 too for what a terminal must not show: controls,
 * bidi marks, unassigned. */
size_t utf8_char(const void *p, size_t n);
size_t utf8_printable(const void *p, size_t n);

#endif
