#include "io/http1.h"

#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "io/http1_class.h"

/* A method longer than this is nobody's (RFC 9110 9: extensions are registered, the longest has 17 letters). */
#define METHOD_MAX 32
/* A request line's bytes that are not its target: method, two spaces, version, CRLF. */
#define LINE_REST (METHOD_MAX + 2 + 8 + 2)

/* What one pass over a head has met; the verdicts that need the whole head fall at its end. */
struct pass {
	struct http1_head *h;
	const char *p, *end;	/* what is left */
	const struct http1_limits *lim;
	struct http1_slice host, coding;
	unsigned nhost, ncoding;
	bool close, persist, names_upgrade, has_upgrade, bad_expect;
	enum http1_bad bad;
};

static enum http1_step
fail(struct pass *s, enum http1_bad bad)
{
	s->bad = bad;
	return HTTP1_ERROR;
}

static struct http1_slice
slice(const char *from, const char *to)
{
	return (struct http1_slice) {from, (size_t)(to - from)};
}

/* s->p stands where CRLF must be (RFC 9112 2.2: a bare CR or LF is an error here). */
static enum http1_step
line_end(struct pass *s, enum http1_bad otherwise)
{
	if (s->p == s->end)
		return HTTP1_MORE;
	if (*s->p == '\n')
		return fail(s, HTTP1_BAD_LINE_END);
	if (*s->p != '\r')
		return fail(s, otherwise);
	if (s->p + 1 == s->end)
		return HTTP1_MORE;
	if (s->p[1] != '\n')
		return fail(s, HTTP1_BAD_LINE_END);
	s->p += 2;
	return HTTP1_DONE;
}

/* RFC 9112 2.3. */
static enum http1_step
parse_version(struct pass *s, enum http1_bad malformed)
{
	static const char want[] = "HTTP/d.d";
	for (size_t i = 0; i < 8; i++) {
		if (s->p + i == s->end)
			return HTTP1_MORE;
		char c = s->p[i];
		if (want[i] == 'd' ? c < '0' || c > '9' : c != want[i])
			return fail(s, malformed);
	}
	if (s->p[5] != '1' || s->p[7] > '1')
		return fail(s, HTTP1_BAD_VERSION);
	s->h->minor = s->p[7] - '0';
	s->p += 8;
	return HTTP1_DONE;
}

/* RFC 9112 3. Methods are case-sensitive (RFC 9110 9.1), but to some servers, gunicorn for one, "get" is GET: refused. */
static enum http1_step
parse_request_line(struct pass *s)
{
	const char *from = s->p, *p = from;
	while (p < s->end && http1_is(*p, C_TOKEN) && (*p < 'a' || *p > 'z'))
		if (++p - from > METHOD_MAX)
			return fail(s, HTTP1_BAD_METHOD);
	if (p == s->end)
		return HTTP1_MORE;
	if (p == from)	/* RFC 9112 2.2: neither an empty line nor white space may precede it */
		return fail(s, *p == '\r' || *p == '\n' || *p == ' ' || *p == '\t' ? HTTP1_BAD_START_LINE : HTTP1_BAD_METHOD);
	if (*p != ' ')
		return fail(s, *p == '\r' || *p == '\n' ? HTTP1_BAD_START_LINE : HTTP1_BAD_METHOD);
	s->h->method = slice(from, p);

	from = ++p;
	const char *longest = (size_t)(s->end - from) > s->lim->target_max ? from + s->lim->target_max : s->end;
	while (p < longest && http1_is(*p, C_TARGET))
		p++;
	if (p == s->end)
		return HTTP1_MORE;
	if (http1_is(*p, C_TARGET))
		return fail(s, HTTP1_BAD_TARGET_LONG);
	if (*p != ' ')	/* HTTP/0.9 ends here (RFC 9112 A: not spoken) */
		return fail(s, *p == '\r' || *p == '\n' ? HTTP1_BAD_START_LINE : HTTP1_BAD_TARGET);
	if (p == from)
		return fail(s, HTTP1_BAD_START_LINE);
	s->h->target = slice(from, p);

	s->p = p + 1;
	enum http1_step st = parse_version(s, HTTP1_BAD_START_LINE);
	return st == HTTP1_DONE ? line_end(s, HTTP1_BAD_START_LINE) : st;
}

/* RFC 9112 4. The space before an empty reason is not insisted on: servers exist that leave it out. */
static enum http1_step
parse_status_line(struct pass *s)
{
	enum http1_step st = parse_version(s, HTTP1_BAD_STATUS);
	if (st != HTTP1_DONE)
		return st;
	int status = 0;
	for (int i = 0; i < 4; i++, s->p++) {
		if (s->p == s->end)
			return HTTP1_MORE;
		if (i == 0 ? *s->p != ' ' : *s->p < '0' || *s->p > '9')
			return fail(s, HTTP1_BAD_STATUS);
		if (i > 0)
			status = status * 10 + (*s->p - '0');
	}
	if (status < 100)
		return fail(s, HTTP1_BAD_STATUS);
	s->h->status = status;
	if (s->p < s->end && *s->p == ' ') {
		const char *from = ++s->p;
		while (s->p < s->end && http1_is(*s->p, C_VALUE))
			s->p++;
		s->h->reason = slice(from, s->p);
	} else {
		s->h->reason = slice(s->p, s->p);
	}
	return line_end(s, HTTP1_BAD_STATUS);
}

/* Takes the next element of a comma-separated list off *rest; false at the end. Empty elements are skipped (RFC 9110 5.6.1). */
static bool
list_next(struct http1_slice *rest, struct http1_slice *el)
{
	const char *p = rest->p, *end = p + rest->n;
	while (p < end && (*p == ',' || *p == ' ' || *p == '\t'))
		p++;
	if (p == end)
		return false;
	const char *from = p;
	while (p < end && *p != ',')
		p++;
	*rest = slice(p, end);
	while (p > from && (p[-1] == ' ' || p[-1] == '\t'))
		p--;
	*el = slice(from, p);
	return true;
}

/* A proxy drops what Connection names (RFC 9110 7.6.1): these are the names whose loss changes what a message means. */
static bool
must_stay(struct http1_slice name)
{
	static const char *const names[] = {"host", "content-length", "transfer-encoding", "content-range", "content-type",
	    "authorization", "cookie", "range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (str_slice_ieq(name.p, name.n, names[i]))
			return true;
	return name.n >= 12 && str_ieq(name.p, "x-forwarded-", 12);
}

/* RFC 9110 7.6.1, RFC 9112 9.3. */
static bool
take_connection(struct pass *s, struct http1_slice list)
{
	struct http1_slice el;
	while (list_next(&list, &el)) {
		if (!http1_is_token(el.p, el.n) || must_stay(el))
			return false;
		if (str_slice_ieq(el.p, el.n, "close"))
			s->close = true;
		else if (str_slice_ieq(el.p, el.n, "keep-alive"))
			s->persist = true;
		else if (str_slice_ieq(el.p, el.n, "upgrade"))
			s->names_upgrade = true;
		else
			s->h->names_headers = true;
	}
	return true;
}

/* The headers that decide about the message itself. */
static enum http1_bad
take_header(struct pass *s, struct http1_slice name, struct http1_slice v)
{
	switch (name.n) {
	case 4:
		if (str_ieq(name.p, "host", 4) && s->nhost++ == 0)
			s->host = v;
		break;
	case 6:	/* RFC 9110 10.1.1 */
		if (!s->h->response && str_ieq(name.p, "expect", 6)) {
			if (s->h->expect_continue || !str_slice_ieq(v.p, v.n, "100-continue"))
				s->bad_expect = true;
			s->h->expect_continue = true;
		}
		break;
	case 7:
		if (str_ieq(name.p, "upgrade", 7))
			s->has_upgrade = true;
		break;
	case 10:
		if (str_ieq(name.p, "connection", 10) && !take_connection(s, v))
			return HTTP1_BAD_CONNECTION;
		break;
	case 14:	/* RFC 9112 6.3 item 5, RFC 9110 8.6: even equal ones are refused */
		if (str_ieq(name.p, "content-length", 14)) {
			if (s->h->has_length || !str_to_u64(v.p, v.n, &s->h->content_length))
				return HTTP1_BAD_LENGTH;
			s->h->has_length = true;
		}
		break;
	case 17:
		if (str_ieq(name.p, "transfer-encoding", 17) && s->ncoding++ == 0)
			s->coding = v;
		break;
	default:
		break;
	}
	return HTTP1_GOOD;
}

/* RFC 9112 5. */
static enum http1_step
parse_header(struct pass *s)
{
	struct http1_header *x = &s->h->h[s->h->nh];
	const char *from = s->p, *p = from;
	while (p < s->end && http1_is(*p, C_TOKEN))
		p++;
	if (p == s->end)
		return HTTP1_MORE;
	if (p == from && (*p == ' ' || *p == '\t'))	/* RFC 9112 5.2, and 2.2 for the first */
		return fail(s, HTTP1_BAD_HEADER_FOLD);
	if (p == from || *p != ':')	/* RFC 9112 5.1: no space before the colon */
		return fail(s, p == from && *p == '\n' ? HTTP1_BAD_LINE_END : HTTP1_BAD_HEADER_NAME);
	if (s->h->nh >= s->lim->headers_max || s->h->nh >= HTTP1_HEADERS)
		return fail(s, HTTP1_BAD_HEADERS_MANY);
	x->name = slice(from, p);
	p++;
	while (p < s->end && (*p == ' ' || *p == '\t'))
		p++;
	from = p;
	while (p < s->end && http1_is(*p, C_VALUE))
		p++;
	s->p = p;
	enum http1_step st = line_end(s, HTTP1_BAD_HEADER_VALUE);
	if (st != HTTP1_DONE)
		return st;
	while (p > from && (p[-1] == ' ' || p[-1] == '\t'))
		p--;
	x->value = slice(from, p);
	s->h->nh++;
	enum http1_bad bad = take_header(s, x->name, x->value);
	return bad == HTTP1_GOOD ? HTTP1_DONE : fail(s, bad);
}

/* uri-host [ ":" port ] (RFC 9110 7.2, RFC 3986 3.2), never empty, no user. */
static bool
host_ok(struct http1_slice v)
{
	const char *p = v.p, *end = v.p + v.n;
	if (p < end && *p == '[') {
		for (p++; p < end && *p != ']'; p++)
			if (!(*p == ':' || *p == '.' || (*p >= '0' && *p <= '9') || ((*p | 32) >= 'a' && (*p | 32) <= 'f')))
				return false;
		if (p == end || p - v.p < 3)
			return false;
		p++;
	} else {
		for (; p < end && *p != ':'; p++) {
			uint8_t byte;
			size_t one;
			if (!http1_is(*p, C_HOST))
				return false;
			if (*p == '%' && (end - p < 3 || !str_unhex(p + 1, 2, &byte, 1, &one)))
				return false;
		}
		if (p == v.p)
			return false;
	}
	if (p == end)
		return true;
	if (*p++ != ':' || end - p > 5)
		return false;
	for (; p < end; p++)
		if (*p < '0' || *p > '9')
			return false;
	return true;
}

/* Splits the target (RFC 9112 3.2) and finds whose it is. */
static enum http1_bad
take_target(struct pass *s)
{
	struct http1_head *h = s->h;
	const char *p = h->target.p, *end = p + h->target.n;
	struct http1_slice authority = {NULL, 0};

	/* RFC 9112 3.2: one Host in HTTP/1.1; HTTP/1.0 knew none, but one that is there must be sound. */
	if (s->nhost > 1 || (s->nhost == 0 && h->minor > 0) || (s->nhost == 1 && !host_ok(s->host)))
		return HTTP1_BAD_HOST;
	h->host = s->host;
	h->query = (struct http1_slice) {NULL, 0};
	if (str_slice_eq(h->method.p, h->method.n, "CONNECT"))	/* we are no tunnel */
		return HTTP1_BAD_TARGET;
	if (*p != '/') {
		if (h->target.n == 1 && *p == '*' && str_slice_eq(h->method.p, h->method.n, "OPTIONS")) {
			h->path = h->target;
			return HTTP1_GOOD;
		}
		if (h->target.n > 7 && str_ieq(p, "http://", 7))
			p += 7;
		else if (h->target.n > 8 && str_ieq(p, "https://", 8))
			p += 8;
		else
			return HTTP1_BAD_TARGET;
		authority.p = p;
		while (p < end && *p != '/' && *p != '?')
			p++;
		authority.n = (size_t)(p - authority.p);
		if (!host_ok(authority))
			return HTTP1_BAD_TARGET;
		/* RFC 9112 3.2.2 lets the target win; a Host that says otherwise is an attack on somebody behind us. */
		if (s->nhost == 1 && (authority.n != s->host.n || !str_ieq(authority.p, s->host.p, authority.n)))
			return HTTP1_BAD_HOST;
		h->host = authority;
	}
	const char *q = memchr(p, '?', (size_t)(end - p));
	h->path = slice(p, q ? q : end);
	if (h->path.n == 0)
		h->path = (struct http1_slice) {"/", 1};
	if (q)
		h->query = slice(q + 1, end);
	return HTTP1_GOOD;
}

/* RFC 9112 6.3. */
static enum http1_bad
take_framing(struct pass *s, bool to_head)
{
	struct http1_head *h = s->h;
	if (s->ncoding > 0) {
		if (h->has_length)
			return HTTP1_BAD_LENGTH_CODING;
		if (h->minor == 0)
			return HTTP1_BAD_CODING_10;
		if (s->ncoding > 1 || !str_slice_ieq(s->coding.p, s->coding.n, "chunked"))
			return HTTP1_BAD_CODING;
	}
	if (h->response && (to_head || h->status < 200 || h->status == 204 || h->status == 304))
		h->framing = HTTP1_NO_BODY;
	else if (s->ncoding > 0)
		h->framing = HTTP1_CHUNKED;
	else if (h->has_length)
		h->framing = HTTP1_LENGTH;
	else
		h->framing = h->response ? HTTP1_UNTIL_CLOSE : HTTP1_NO_BODY;

	h->keep_alive = !s->close && (h->minor > 0 || s->persist) && h->framing != HTTP1_UNTIL_CLOSE;
	h->upgrade = s->names_upgrade && s->has_upgrade && h->minor > 0;
	if (s->bad_expect && h->minor > 0)
		return HTTP1_BAD_EXPECT;
	/* RFC 9110 10.1.1: HTTP/1.0 cannot mean it; without a body there is nothing to wait for. */
	if (h->minor == 0 || h->framing == HTTP1_NO_BODY || (h->framing == HTTP1_LENGTH && h->content_length == 0))
		h->expect_continue = false;
	return HTTP1_GOOD;
}

static enum http1_step
parse_head(struct pass *s, bool to_head)
{
	enum http1_step st = s->h->response ? parse_status_line(s) : parse_request_line(s);
	while (st == HTTP1_DONE) {
		if (s->p < s->end && *s->p == '\r') {
			if ((st = line_end(s, HTTP1_BAD_LINE_END)) != HTTP1_DONE)
				return st;
			enum http1_bad bad = s->h->response ? HTTP1_GOOD : take_target(s);
			if (bad == HTTP1_GOOD)
				bad = take_framing(s, to_head);
			return bad == HTTP1_GOOD ? HTTP1_DONE : fail(s, bad);
		}
		st = parse_header(s);
	}
	return st;
}

/*
 * A head that comes in pieces is parsed again from its start, but only when a line may have ended in the new bytes, or
 * a limit was passed. All checks go in the order of the bytes, so the verdict does not depend on how they arrived.
 */
static enum http1_step
parse(struct http1_head *h, bool response, const char *p, size_t n, const struct http1_limits *lim, bool to_head,
    size_t *scan, size_t *used, enum http1_bad *bad)
{
	size_t seen = *scan, line_max = lim->target_max + LINE_REST;
	bool over = n >= lim->head_max;
	if (n == 0)
		return HTTP1_MORE;
	*scan = p[n - 1] == '\r' ? n - 1 : n;
	if (!over && !(seen <= line_max && n > line_max) && http1_is(*p, C_TOKEN) &&
	    !memchr(p + seen, '\r', n - seen) && !memchr(p + seen, '\n', n - seen))
		return HTTP1_MORE;

	h->response = response;
	h->status = h->minor = 0;
	h->nh = 0;
	h->content_length = 0;
	h->method = h->target = h->path = h->query = h->reason = h->host = (struct http1_slice) {NULL, 0};
	h->has_length = h->expect_continue = h->names_headers = false;
	struct pass s = {.h = h, .p = p, .end = p + (over ? lim->head_max : n), .lim = lim};
	enum http1_step st = parse_head(&s, to_head);
	if (st == HTTP1_MORE && over)
		st = fail(&s, HTTP1_BAD_HEADERS_LARGE);
	if (st == HTTP1_DONE)
		*used = (size_t)(s.p - p);
	if (st == HTTP1_ERROR)
		*bad = s.bad;
	return st;
}

enum http1_step
http1_parse_request(struct http1_head *h, const char *p, size_t n, const struct http1_limits *lim, size_t *scan,
    size_t *used, enum http1_bad *bad)
{
	return parse(h, false, p, n, lim, false, scan, used, bad);
}

enum http1_step
http1_parse_response(struct http1_head *h, const char *p, size_t n, const struct http1_limits *lim, bool to_head,
    size_t *scan, size_t *used, enum http1_bad *bad)
{
	return parse(h, true, p, n, lim, to_head, scan, used, bad);
}

const struct http1_header *
http1_find(const struct http1_head *h, const char *name)
{
	size_t n = strlen(name);
	for (unsigned i = 0; i < h->nh; i++)
		if (h->h[i].name.n == n && str_ieq(h->h[i].name.p, name, n))
			return &h->h[i];
	return NULL;
}

const struct http1_header *
http1_only(const struct http1_head *h, const char *name)
{
	const struct http1_header *x = http1_find(h, name);
	for (const struct http1_header *y = x ? x + 1 : NULL; y && y < h->h + h->nh; y++)
		if (y->name.n == x->name.n && str_ieq(y->name.p, x->name.p, x->name.n))
			return NULL;
	return x;
}

bool
http1_list_has(struct http1_slice list, const char *token)
{
	struct http1_slice el;
	while (list_next(&list, &el))
		if (str_slice_ieq(el.p, el.n, token))
			return true;
	return false;
}

static bool
named_in_connection(const struct http1_head *h, struct http1_slice name)
{
	struct http1_slice el;
	for (unsigned i = 0; i < h->nh; i++) {
		struct http1_slice list = h->h[i].value;
		if (!str_slice_ieq(h->h[i].name.p, h->h[i].name.n, "connection"))
			continue;
		while (list_next(&list, &el))
			if (el.n == name.n && str_ieq(el.p, name.p, el.n))
				return true;
	}
	return false;
}

bool
http1_hop_by_hop(const struct http1_head *h, const struct http1_header *x)
{
	static const char *const names[] = {"connection", "keep-alive", "proxy-connection", "te", "trailer",
	    "transfer-encoding", "upgrade", "proxy-authenticate", "proxy-authorization"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (str_slice_ieq(x->name.p, x->name.n, names[i]))
			return true;
	return h->names_headers && named_in_connection(h, x->name);
}
