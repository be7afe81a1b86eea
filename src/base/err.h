/*
 * err: the one error type, from the table errors.def.
 *
 * A function that can fail returns enum err and is marked ERR_MUST_CHECK. Text for a person goes into an
 * errbuf, and only where a person will read it. Bugs are no errors: they trip an ASSERT, which is always
 * compiled in. Thread safe: nothing here has state.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>

#define ERR_MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

enum err {
#define ERR(name, retryable, http, text) ERR_##name,
#include "errors.def"
#undef ERR
	ERR_COUNT
};

/* Text for a person about one failure: what failed, on what, what to do. Always terminated. */
struct errbuf {
	char text[512];
};

/* The stable short name, e.g. "NOTFOUND"; a metric label. */
const char *err_name(enum err e);
/* The table's text for a person. */
const char *err_text(enum err e);
/* May the same thing work if it is tried again later? */
bool err_retryable(enum err e);
/* The HTTP status that tells a client of this error. */
int err_http(enum err e);
/* The error that errno (a positive errno value) stands for: ENOENT -> NOTFOUND, ENOSPC -> NOSPACE, ... */
enum err err_from_errno(int errnum);
/* Fill eb (may be NULL) and return e: `return err_set(eb, ERR_IO, "%s: %s", path, strerror(errno));` */
enum err err_set(struct errbuf *eb, enum err e, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* A broken invariant: says where, and aborts. Compiled in always. */
#define ASSERT(cond) ((cond) ? (void)0 : err_assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void err_assert_failed(const char *cond, const char *file, int line);

#endif
