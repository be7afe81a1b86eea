#include "io/http1.h"

#include "base/err.h"
#include "io/http1_class.h"

/* RFC 9112 7.1.1: extensions are ignored, so nobody needs long ones; 7.1.2: trailers are dropped. */
#define EXT_MAX 256
#define TRAILERS_MAX 4096

/* The chunk machine (RFC 9112 7.1). What the RFC calls "bad white space" is not taken. */
enum state {
	SIZE_FIRST,	/* at least one digit */
	SIZE,
	EXT_NAME_FIRST,	/* after ';' */
	EXT_NAME,
	EXT_VALUE_FIRST,	/* after '=' */
	EXT_VALUE,
	EXT_QUOTED,
	EXT_ESCAPED,
	EXT_QUOTED_END,	/* after the closing quote */
	SIZE_LF,
	DATA,
	DATA_CR,
	DATA_LF,
	TRAILER_FIRST,	/* at a line's start, after the last chunk */
	TRAILER_NAME,
	TRAILER_VALUE,
	TRAILER_LF,
	END_LF,
	END
};

void
http1_body_init(struct http1_body *b, enum http1_framing framing, uint64_t length)
{
	*b = (struct http1_body) {.framing = framing, .left = framing == HTTP1_LENGTH ? length : 0, .state = SIZE_FIRST};
}

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What may follow a chunk size or a whole extension. */
static enum http1_bad
after_size(struct http1_body *b, char c)
{
	if (c == '\r')
		b->state = SIZE_LF;
	else if (c == ';')
		b->state = EXT_NAME_FIRST;
	else
		return HTTP1_BAD_CHUNK;
	return HTTP1_GOOD;
}

static enum http1_bad
step_size(struct http1_body *b, char c)
{
	int d = hex(c);
	if (d < 0) {
		if (b->state == SIZE_FIRST)
			return HTTP1_BAD_CHUNK;
		b->count = 0;
		return after_size(b, c);
	}
	if (b->state == SIZE_FIRST) {
		b->state = SIZE;
		b->count = 0;
		b->left = 0;
	}
	if (++b->count > 16 || b->left >> 59)	/* neither long rows of zeros nor 2^63 */
		return HTTP1_BAD_CHUNK;
	b->left = b->left << 4 | (uint64_t)d;
	return HTTP1_GOOD;
}

static enum http1_bad
step_ext(struct http1_body *b, char c)
{
	bool token = http1_is(c, C_TOKEN);
	if (++b->count > EXT_MAX)
		return HTTP1_BAD_CHUNK_EXT;
	switch (b->state) {
	case EXT_NAME_FIRST:
	case EXT_VALUE_FIRST:
		if (token)
			b->state++;
		else if (c == '"' && b->state == EXT_VALUE_FIRST)
			b->state = EXT_QUOTED;
		else
			return HTTP1_BAD_CHUNK;
		return HTTP1_GOOD;
	case EXT_NAME:
		if (c == '=') {
			b->state = EXT_VALUE_FIRST;
			return HTTP1_GOOD;
		}
		return token ? HTTP1_GOOD : after_size(b, c);
	case EXT_VALUE:
		return token ? HTTP1_GOOD : after_size(b, c);
	case EXT_QUOTED:
		if (!http1_is(c, C_VALUE))
			return HTTP1_BAD_CHUNK;
		b->state = c == '"' ? EXT_QUOTED_END : c == '\\' ? EXT_ESCAPED : EXT_QUOTED;
		return HTTP1_GOOD;
	case EXT_ESCAPED:
		b->state = EXT_QUOTED;
		return http1_is(c, C_VALUE) ? HTTP1_GOOD : HTTP1_BAD_CHUNK;
	default:
		return after_size(b, c);
	}
}

static enum http1_bad
step_trailer(struct http1_body *b, char c)
{
	if (++b->count > TRAILERS_MAX)
		return HTTP1_BAD_TRAILER;
	switch (b->state) {
	case TRAILER_FIRST:
		if (c == '\r') {
			b->state = END_LF;
			return HTTP1_GOOD;
		}
		b->state = TRAILER_NAME;
		return http1_is(c, C_TOKEN) ? HTTP1_GOOD : HTTP1_BAD_TRAILER;
	case TRAILER_NAME:
		if (c == ':')
			b->state = TRAILER_VALUE;
		return c == ':' || http1_is(c, C_TOKEN) ? HTTP1_GOOD : HTTP1_BAD_TRAILER;
	case TRAILER_VALUE:
		if (c == '\r')
			b->state = TRAILER_LF;
		return c == '\r' || http1_is(c, C_VALUE) ? HTTP1_GOOD : HTTP1_BAD_TRAILER;
	case TRAILER_LF:
		b->state = TRAILER_FIRST;
		return c == '\n' ? HTTP1_GOOD : HTTP1_BAD_TRAILER;
	default:
		b->state = END;
		return c == '\n' ? HTTP1_GOOD : HTTP1_BAD_TRAILER;
	}
}

/* One byte that is not data. */
static enum http1_bad
step(struct http1_body *b, char c)
{
	switch ((enum state)b->state) {
	case SIZE_FIRST:
	case SIZE:
		return step_size(b, c);
	case EXT_NAME_FIRST:
	case EXT_NAME:
	case EXT_VALUE_FIRST:
	case EXT_VALUE:
	case EXT_QUOTED:
	case EXT_ESCAPED:
	case EXT_QUOTED_END:
		return step_ext(b, c);
	case SIZE_LF:
		b->count = 0;
		b->state = b->left > 0 ? DATA : TRAILER_FIRST;
		return c == '\n' ? HTTP1_GOOD : HTTP1_BAD_CHUNK;
	case DATA_CR:
		b->state = DATA_LF;
		return c == '\r' ? HTTP1_GOOD : HTTP1_BAD_CHUNK;
	case DATA_LF:
		b->state = SIZE_FIRST;
		return c == '\n' ? HTTP1_GOOD : HTTP1_BAD_CHUNK;
	case TRAILER_FIRST:
	case TRAILER_NAME:
	case TRAILER_VALUE:
	case TRAILER_LF:
	case END_LF:
		return step_trailer(b, c);
	case DATA:
	case END:
	default:
		ASSERT(!"a byte the caller deals with");
		return HTTP1_BAD_CHUNK;
	}
}

static enum http1_step
feed_chunked(struct http1_body *b, const char *p, size_t n, size_t *used, const char **data, size_t *dn, enum http1_bad *bad)
{
	size_t i = 0;
	while (b->state != END && i < n) {
		if (b->state == DATA) {
			if (*dn > 0)	/* one piece a call */
				break;
			*dn = b->left < n - i ? (size_t)b->left : n - i;
			*data = p + i;
			i += *dn;
			b->total += *dn;
			if ((b->left -= *dn) == 0)
				b->state = DATA_CR;
		} else if ((*bad = step(b, p[i++])) != HTTP1_GOOD) {
			return HTTP1_ERROR;
		}
	}
	*used = i;
	return b->state == END ? HTTP1_DONE : HTTP1_MORE;
}

enum http1_step
http1_body_feed(struct http1_body *b, const char *p, size_t n, size_t *used, const char **data, size_t *dn,
    enum http1_bad *bad)
{
	*used = *dn = 0;
	*data = p;
	switch (b->framing) {
	case HTTP1_NO_BODY:
		return HTTP1_DONE;
	case HTTP1_CHUNKED:
		return feed_chunked(b, p, n, used, data, dn, bad);
	case HTTP1_LENGTH:
		*used = *dn = b->left < n ? (size_t)b->left : n;
		b->left -= *dn;
		b->total += *dn;
		return b->left == 0 ? HTTP1_DONE : HTTP1_MORE;
	case HTTP1_UNTIL_CLOSE:
	default:
		*used = *dn = n;
		b->total += n;
		return HTTP1_MORE;
	}
}

bool
http1_body_eof_ok(const struct http1_body *b)
{
	switch (b->framing) {
	case HTTP1_CHUNKED:
		return b->state == END;
	case HTTP1_LENGTH:
		return b->left == 0;
	case HTTP1_NO_BODY:
	case HTTP1_UNTIL_CLOSE:
	default:
		return true;
	}
}
