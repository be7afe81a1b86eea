#include "io/http1.h"

#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "io/http1_class.h"

#define T (C_TOKEN | C_TARGET | C_VALUE)
#define H (C_TOKEN | C_TARGET | C_VALUE | C_HOST)
#define G (C_TARGET | C_VALUE | C_HOST)
#define V (C_TARGET | C_VALUE)
#define S C_VALUE
/* clang-format off */
const unsigned char http1_classes[256] = {
	0, 0, 0, 0, 0, 0, 0, 0, 0, S, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	/* SP ! " # $ % & ' ( ) * + , - . / */
	S, H, V, T & ~C_TARGET, H, H, H, H, G, G, H, H, G, H, H, V,
	/* 0-9 : ; < = > ? */
	H, H, H, H, H, H, H, H, H, H, G, G, V, G, V, V,
	/* @ A-O */
	V, H, H, H, H, H, H, H, H, H, H, H, H, H, H, H,
	/* P-Z [ \ ] ^ _ */
	H, H, H, H, H, H, H, H, H, H, H, V, V, V, T, H,
	/* ` a-o */
	T, H, H, H, H, H, H, H, H, H, H, H, H, H, H, H,
	/* p-z { | } ~ DEL */
	H, H, H, H, H, H, H, H, H, H, H, V, T, V, H, 0,
	S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S,
	S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S,
	S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S,
	S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S,
};
/* clang-format on */
#undef T
#undef H
#undef G
#undef V
#undef S

bool
http1_is_token(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!http1_is(p[i], C_TOKEN))
			return false;
	return n > 0;
}

bool
http1_is_value(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!http1_is(p[i], C_VALUE))
			return false;
	return true;
}

static const struct {
	const char *name, *text;
	int status;
} bads[HTTP1_BAD_COUNT] = {
	[HTTP1_GOOD] = {"GOOD", "well-formed", 200},
#define HTTP1_BAD(n, st, tx) [HTTP1_BAD_##n] = {#n, tx, st},
#include "io/http1.def"
#undef HTTP1_BAD
};

const char *
http1_bad_name(enum http1_bad b)
{
	ASSERT(b < HTTP1_BAD_COUNT);
	return bads[b].name;
}

const char *
http1_bad_text(enum http1_bad b)
{
	ASSERT(b < HTTP1_BAD_COUNT);
	return bads[b].text;
}

int
http1_bad_status(enum http1_bad b)
{
	ASSERT(b < HTTP1_BAD_COUNT);
	return bads[b].status;
}

/* RFC 9110 15, and what a proxy needs besides. */
const char *
http1_reason(int status)
{
	switch (status) {
	case 100: return "Continue";
	case 101: return "Switching Protocols";
	case 103: return "Early Hints";
	case 200: return "OK";
	case 201: return "Created";
	case 202: return "Accepted";
	case 203: return "Non-Authoritative Information";
	case 204: return "No Content";
	case 205: return "Reset Content";
	case 206: return "Partial Content";
	case 300: return "Multiple Choices";
	case 301: return "Moved Permanently";
	case 302: return "Found";
	case 303: return "See Other";
	case 304: return "Not Modified";
	case 307: return "Temporary Redirect";
	case 308: return "Permanent Redirect";
	case 400: return "Bad Request";
	case 401: return "Unauthorized";
	case 402: return "Payment Required";
	case 403: return "Forbidden";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 406: return "Not Acceptable";
	case 408: return "Request Timeout";
	case 409: return "Conflict";
	case 410: return "Gone";
	case 411: return "Length Required";
	case 412: return "Precondition Failed";
	case 413: return "Content Too Large";
	case 414: return "URI Too Long";
	case 415: return "Unsupported Media Type";
	case 416: return "Range Not Satisfiable";
	case 417: return "Expectation Failed";
	case 421: return "Misdirected Request";
	case 422: return "Unprocessable Content";
	case 423: return "Locked";
	case 424: return "Failed Dependency";
	case 425: return "Too Early";
	case 426: return "Upgrade Required";
	case 428: return "Precondition Required";
	case 429: return "Too Many Requests";
	case 431: return "Request Header Fields Too Large";
	case 451: return "Unavailable For Legal Reasons";
	case 499: return "Client Closed Request";
	case 500: return "Internal Server Error";
	case 501: return "Not Implemented";
	case 502: return "Bad Gateway";
	case 503: return "Service Unavailable";
	case 504: return "Gateway Timeout";
	case 505: return "HTTP Version Not Supported";
	case 507: return "Insufficient Storage";
	case 511: return "Network Authentication Required";
	default: return "Unknown";
	}
}

/* The last defence against a split message (RFC 9110 5.5): checked where the bytes are written. */
static void
add_clean(struct str *s, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		ASSERT(p[i] != '\r' && p[i] != '\n' && p[i] != '\0');
	str_add(s, p, n);
}

void
http1_add_request_line(struct str *s, struct http1_slice method, struct http1_slice target)
{
	ASSERT(!memchr(method.p, ' ', method.n) && !memchr(target.p, ' ', target.n));
	add_clean(s, method.p, method.n);
	str_addc(s, ' ');
	add_clean(s, target.p, target.n);
	str_add(s, " HTTP/1.1\r\n", 11);
}

void
http1_add_status_line(struct str *s, int status, const char *reason)
{
	ASSERT(status >= 100 && status <= 999);
	char line[13] = "HTTP/1.1 000 ";
	line[9] = (char)('0' + status / 100);
	line[10] = (char)('0' + status / 10 % 10);
	line[11] = (char)('0' + status % 10);
	if (!reason)
		reason = http1_reason(status);
	str_add(s, line, sizeof line);
	add_clean(s, reason, strlen(reason));
	str_add(s, "\r\n", 2);
}

void
http1_add_header_slices(struct str *s, struct http1_slice name, struct http1_slice value)
{
	str_reserve(s, name.n + value.n + 4);
	add_clean(s, name.p, name.n);
	str_add(s, ": ", 2);
	add_clean(s, value.p, value.n);
	str_add(s, "\r\n", 2);
}

void
http1_add_header(struct str *s, const char *name, const char *value)
{
	http1_add_header_slices(s, (struct http1_slice) {name, strlen(name)}, (struct http1_slice) {value, strlen(value)});
}

void
http1_add_header_u64(struct str *s, const char *name, uint64_t v)
{
	char text[20], *p = text + sizeof text;
	do
		*--p = (char)('0' + v % 10);
	while ((v /= 10) > 0);
	http1_add_header_slices(
	    s, (struct http1_slice) {name, strlen(name)}, (struct http1_slice) {p, (size_t)(text + sizeof text - p)});
}

void
http1_end_head(struct str *s)
{
	str_add(s, "\r\n", 2);
}

size_t
http1_chunk_head(char out[20], size_t n)
{
	char text[16], *p = text + sizeof text;
	do
		*--p = "0123456789abcdef"[n & 15];
	while ((n >>= 4) > 0);
	size_t len = (size_t)(text + sizeof text - p);
	memcpy(out, p, len);
	memcpy(out + len, "\r\n", 2);
	return len + 2;
}
