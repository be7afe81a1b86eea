#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
	const char *name, *text;
	bool retryable;
	int http;
} errors[ERR_COUNT] = {
#define ERR(name, retryable, http, text) [ERR_##name] = {#name, text, retryable, http},
#include "errors.def"
#undef ERR
};

const char *
err_name(enum err e)
{
	ASSERT((unsigned)e < ERR_COUNT);
	return errors[e].name;
}

const char *
err_text(enum err e)
{
	ASSERT((unsigned)e < ERR_COUNT);
	return errors[e].text;
}

bool
err_retryable(enum err e)
{
	ASSERT((unsigned)e < ERR_COUNT);
	return errors[e].retryable;
}

int
err_http(enum err e)
{
	ASSERT((unsigned)e < ERR_COUNT);
	return errors[e].http;
}

enum err
err_from_errno(int errnum)
{
	switch (errnum) {
	case 0:
		return ERR_OK;
	case ENOENT:
	case ENOTDIR:
		return ERR_NOTFOUND;
	case EEXIST:
	case ENOTEMPTY:
		return ERR_EXISTS;
	case EACCES:
	case EPERM:
	case EROFS:
	case ELOOP:
	case EXDEV: /* openat2 with RESOLVE_BENEATH: the path left the root */
		return ERR_DENIED;
	case ENOSPC:
	case EDQUOT:
		return ERR_NOSPACE;
	case EINVAL:
	case ENAMETOOLONG:
	case EISDIR:
	case EBADF:
		return ERR_INVAL;
	case EFBIG:
	case EOVERFLOW:
	case E2BIG:
		return ERR_TOOBIG;
	case ETIMEDOUT:
		return ERR_TIMEOUT;
	case EPIPE:
	case ECONNRESET:
	case ECONNABORTED:
	case ENOTCONN:
		return ERR_CLOSED;
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case ENETDOWN:
	case EADDRNOTAVAIL:
		return ERR_CONNECT;
	case ECANCELED:
		return ERR_CANCELLED;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case ENOBUFS:
	case EAGAIN:
	case EINTR:
		return ERR_UNAVAIL;
	case EBUSY:
	case ETXTBSY:
		return ERR_BUSY;
	case ENOSYS:
	case EOPNOTSUPP:
	case ENOTTY:
		return ERR_UNSUPPORTED;
	default:
		return ERR_IO;
	}
}

enum err
err_set(struct errbuf *eb, enum err e, const char *fmt, ...)
{
	va_list ap;

	if (eb) {
		va_start(ap, fmt);
		(void)vsnprintf(eb->text, sizeof(eb->text), fmt, ap);
		va_end(ap);
	}
	return e;
}

_Noreturn void
err_assert_failed(const char *cond, const char *file, int line)
{
	(void)fprintf(stderr, "r2shim: bug: %s:%d: %s does not hold\n", file, line, cond);
	abort();
}
