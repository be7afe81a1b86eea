/*
 * http1: every rule of the parser as a message and its verdict, by RFC section. Each message is parsed whole, byte by byte and in
 * two pieces at every split: how it arrives must not change what is thought of it.
 */
#include "unit.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "io/http1.h"

enum kind { REQUEST, RESPONSE, HEAD_RESPONSE, CHUNKED };

struct row {
	const char *section;	/* of RFC 9112 unless it says 9110 or 3986 */
	enum kind kind;
	enum http1_bad verdict;
	const char *p;
	size_t n;
	int framing;		/* of a good head; what a good body decodes to is in text */
	const char *text;
};

static const struct http1_limits limits = {.head_max = 2048, .target_max = 100, .headers_max = 10};

#define H11 "Host: a\r\n"
#define BYTES(z) z, sizeof(z) - 1
#define REQ(sec, bad, z) {sec, REQUEST, HTTP1_BAD_##bad, BYTES(z), 0, NULL}
#define REQ_OK(sec, fr, z) {sec, REQUEST, HTTP1_GOOD, BYTES(z), HTTP1_##fr, NULL}
#define RES(sec, bad, z) {sec, RESPONSE, HTTP1_BAD_##bad, BYTES(z), 0, NULL}
#define RES_OK(sec, fr, z) {sec, RESPONSE, HTTP1_GOOD, BYTES(z), HTTP1_##fr, NULL}
#define HRES_OK(sec, fr, z) {sec, HEAD_RESPONSE, HTTP1_GOOD, BYTES(z), HTTP1_##fr, NULL}
#define HDR(sec, bad, z) REQ(sec, bad, "GET / HTTP/1.1\r\n" H11 z "\r\n\r\n")
#define HDR_OK(sec, fr, z) REQ_OK(sec, fr, "POST / HTTP/1.1\r\n" H11 z "\r\n\r\n")
#define BODY(sec, bad, z) {sec, CHUNKED, HTTP1_BAD_##bad, BYTES(z), 0, NULL}
#define BODY_OK(sec, z, tx) {sec, CHUNKED, HTTP1_GOOD, BYTES(z), 0, tx}
#define X10 "xxxxxxxxxx"
#define X100 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10
#define X1000 X100 X100 X100 X100 X100 X100 X100 X100 X100 X100
#define FIVE(z) z z z z z

static const struct row rows[] = {
	/* the request line */
	REQ_OK("3", NO_BODY, "GET / HTTP/1.1\r\n" H11 "\r\n"),
	REQ_OK("3", NO_BODY, "DELETE /a/b HTTP/1.1\r\n" H11 "\r\n"),
	REQ_OK("3.1", NO_BODY, "PROPFIND /dav/ HTTP/1.1\r\n" H11 "\r\n"),
	REQ_OK("3.1", NO_BODY, "M-SEARCH / HTTP/1.1\r\n" H11 "\r\n"),
	REQ("9110 9.1", METHOD, "get / HTTP/1.1\r\n" H11 "\r\n"),
	REQ("9110 9.1", METHOD, "GEt / HTTP/1.1\r\n" H11 "\r\n"),
	REQ("2.2", START_LINE, "\r\nGET / HTTP/1.1\r\n" H11 "\r\n"),
	REQ("2.2", START_LINE, "\nGET / HTTP/1.1\r\n" H11 "\r\n"),
	REQ("2.2", START_LINE, " GET / HTTP/1.1\r\n" H11 "\r\n"),
	REQ("2.2", START_LINE, "\tGET / HTTP/1.1\r\n" H11 "\r\n"),
	REQ("2.2", LINE_END, "GET / HTTP/1.1\n" H11 "\r\n"),
	REQ("2.2", LINE_END, "GET / HTTP/1.1\n\n"),
	REQ("2.2", LINE_END, "GET / HTTP/1.1\rHost: a\r\n\r\n"),
	REQ("2.2", LINE_END, "GET / HTTP/1.1\r\r\n" H11 "\r\n"),
	REQ("3", START_LINE, "GET  / HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3", START_LINE, "GET /  HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3", START_LINE, "GET / HTTP/1.1 \r\n" H11 "\r\n"),
	REQ("3", START_LINE, "GET /a b HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3", METHOD, "GET\t/ HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3", TARGET, "GET /\tHTTP/1.1\r\n" H11 "\r\n"),
	REQ("3", START_LINE, "GET\r\n" H11 "\r\n"),
	REQ("3", START_LINE, "GET /\r\n" H11 "\r\n"),
	REQ("A", START_LINE, "GET /\r\n"),
	REQ("3.1", METHOD, "G(T / HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.1", METHOD, "G\0T / HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.1", METHOD, "G\xc3\x84T / HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.1", METHOD, "\x16\x03\x01\x02\x00\x01\x00"),
	REQ("3.1", METHOD, "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.1", METHOD, ": / HTTP/1.1\r\n" H11 "\r\n"),
	REQ("2.3", VERSION, "GET / HTTP/2.0\r\n" H11 "\r\n"),
	REQ("2.3", VERSION, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
	REQ("2.3", VERSION, "GET / HTTP/1.2\r\n" H11 "\r\n"),
	REQ("2.3", VERSION, "GET / HTTP/0.9\r\n" H11 "\r\n"),
	REQ("2.3", START_LINE, "GET / HTTP/1.10\r\n" H11 "\r\n"),
	REQ("2.3", START_LINE, "GET / HTTP/11\r\n" H11 "\r\n"),
	REQ("2.3", START_LINE, "GET / http/1.1\r\n" H11 "\r\n"),
	REQ("2.3", START_LINE, "GET / HTTPS/1.1\r\n" H11 "\r\n"),
	REQ("2.3", START_LINE, "GET / ICY/1.1\r\n" H11 "\r\n"),
	/* the target */
	REQ_OK("3.2.1", NO_BODY, "GET /a%20b?c=d&e=%zz HTTP/1.1\r\n" H11 "\r\n"),
	REQ_OK("3.2.1", NO_BODY, "GET //a//b HTTP/1.1\r\n" H11 "\r\n"),
	REQ_OK("3.2.1", NO_BODY, "GET /a|b?x[]=\"{}\"^`\\ HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.2", TARGET, "GET /a#b HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.2", TARGET, "GET /\xc3\xa4 HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.2", TARGET, "GET /\x01 HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.2", TARGET, "GET /\0 HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.2", TARGET, "GET /\x7f HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.2", TARGET, "GET a HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.2", TARGET, "GET ?a HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.2.3", TARGET, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
	REQ("3.2.3", TARGET, "CONNECT / HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.2.3", TARGET, "GET a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
	REQ_OK("3.2.4", NO_BODY, "OPTIONS * HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.2.4", TARGET, "GET * HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.2.4", TARGET, "OPTIONS *a HTTP/1.1\r\n" H11 "\r\n"),
	REQ_OK("3.2.2", NO_BODY, "GET http://a/b HTTP/1.1\r\n" H11 "\r\n"),
	REQ_OK("3.2.2", NO_BODY, "GET HTTPS://A/b HTTP/1.1\r\n" H11 "\r\n"),
	REQ_OK("3.2.2", NO_BODY, "GET http://a HTTP/1.1\r\n" H11 "\r\n"),
	REQ_OK("3.2.2", NO_BODY, "GET http://a/ HTTP/1.0\r\n\r\n"),
	REQ("3.2.2", HOST, "GET http://b/ HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.2.2", HOST, "GET http://a:80/ HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.2.2", TARGET, "GET http://u@a/ HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.2.2", TARGET, "GET http:/// HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.2.2", TARGET, "GET ftp://a/ HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3.2.2", HOST, "GET http://a/ HTTP/1.1\r\n\r\n"),
	REQ_OK("3", NO_BODY, "GET /" X10 X10 X10 X10 X10 X10 X10 X10 X10 "xxxxxxxxx HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3", TARGET_LONG, "GET /" X100 " HTTP/1.1\r\n" H11 "\r\n"),
	REQ("3", TARGET_LONG, "GET /" X1000),
	/* Host */
	REQ_OK("3.2", NO_BODY, "GET / HTTP/1.0\r\n\r\n"),
	REQ_OK("3.2", NO_BODY, "GET / HTTP/1.1\r\nHOST:\ta.example:8080 \t\r\n\r\n"),
	REQ_OK("3.2", NO_BODY, "GET / HTTP/1.1\r\nhost:[::1]:80\r\n\r\n"),
	REQ_OK("3986 3.2.2", NO_BODY, "GET / HTTP/1.1\r\nHost: a%2db_c\r\n\r\n"),
	REQ("3.2", HOST, "GET / HTTP/1.1\r\n\r\n"),
	REQ("3.2", HOST, "GET / HTTP/1.1\r\n" H11 H11 "\r\n"),
	REQ("3.2", HOST, "GET / HTTP/1.1\r\n" H11 "hOST: b\r\n\r\n"),
	REQ("3.2", HOST, "GET / HTTP/1.0\r\n" H11 H11 "\r\n"),
	REQ("3.2", HOST, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
	REQ("3.2", HOST, "GET / HTTP/1.0\r\nHost: a b\r\n\r\n"),
	REQ("3.2", HOST, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
	REQ("3.2", HOST, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
	REQ("3.2", HOST, "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
	REQ("3.2", HOST, "GET / HTTP/1.1\r\nHost: a:123456\r\n\r\n"),
	REQ("3.2", HOST, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
	REQ("3.2", HOST, "GET / HTTP/1.1\r\nHost: [::x]\r\n\r\n"),
	REQ("3.2", HOST, "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n"),
	REQ("3986 2.1", HOST, "GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n"),
	REQ("3.2", HOST, "GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n"),
	REQ("3.2", HOST, "GET / HTTP/1.1\r\nHost: :80\r\n\r\n"),
	/* header lines */
	HDR_OK("5", NO_BODY, "X: a\tb \xc3\xa4\xff"),
	HDR_OK("5", NO_BODY, "X:"),
	HDR_OK("5", NO_BODY, "X: \t "),
	HDR_OK("5", NO_BODY, "X:a:b"),
	HDR_OK("9110 5.6.2", NO_BODY, "!#$%&'*+-.^_`|~09azAZ: a"),
	HDR("5.1", HEADER_NAME, "X : a"),
	HDR("5.1", HEADER_NAME, "X\t: a"),
	HDR("5.1", HEADER_NAME, "Content-Length : 5"),
	HDR("5", HEADER_NAME, ": a"),
	HDR("5", HEADER_NAME, "X"),
	HDR("5", HEADER_NAME, "X a: b"),
	HDR("9110 5.6.2", HEADER_NAME, "X(a): b"),
	HDR("9110 5.6.2", HEADER_NAME, "X\0: b"),
	HDR("9110 5.6.2", HEADER_NAME, "X\xc3\xa4: b"),
	HDR("9110 5.6.2", HEADER_NAME, "X\x7f: b"),
	HDR("5.2", HEADER_FOLD, "X: a\r\n b"),
	HDR("5.2", HEADER_FOLD, "X: a\r\n\tb"),
	HDR("5.2", HEADER_FOLD, "X: a\r\n "),
	REQ("2.2", HEADER_FOLD, "GET / HTTP/1.1\r\n " H11 "\r\n"),
	HDR("9110 5.5", HEADER_VALUE, "X: a\0b"),
	HDR("9110 5.5", HEADER_VALUE, "X: a\x01"),
	HDR("9110 5.5", HEADER_VALUE, "X: a\x1b[1m"),
	HDR("9110 5.5", HEADER_VALUE, "X: \x7f"),
	HDR("2.2", LINE_END, "X: a\nY: b"),
	HDR("2.2", LINE_END, "X: a\rY: b"),
	HDR("2.2", LINE_END, "X: a\r\r\nY: b"),
	REQ("2.2", LINE_END, "GET / HTTP/1.1\r\n" H11 "\n"),
	REQ("2.2", LINE_END, "GET / HTTP/1.1\r\n" H11 "\r\r\n"),
	REQ("2.2", LINE_END, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
	HDR("9110 5.4", HEADERS_MANY, FIVE("X: a\r\n") FIVE("X: a\r\n") "X: a"),
	HDR("9110 5.4", HEADERS_LARGE, "X: " X1000 "\r\nY: " X1000 X100),
	REQ("9110 5.4", HEADERS_LARGE, "GET / HTTP/1.1\r\nX: " X1000 X1000 X100),
	/* framing of requests */
	HDR_OK("6.3", LENGTH, "Content-Length: 0"),
	HDR_OK("6.3", LENGTH, "Content-Length: 5"),
	HDR_OK("6.3", LENGTH, "content-length:007"),
	HDR_OK("6.3", LENGTH, "Content-Length: 9223372036854775807"),
	HDR_OK("6.1", CHUNKED, "Transfer-Encoding: chunked"),
	HDR_OK("6.1", CHUNKED, "transfer-encoding:CHUNKED"),
	HDR("9110 8.6", LENGTH, "Content-Length: 9223372036854775808"),
	HDR("9110 8.6", LENGTH, "Content-Length: 18446744073709551617"),
	HDR("9110 8.6", LENGTH, "Content-Length: 99999999999999999999999"),
	HDR("9110 8.6", LENGTH, "Content-Length:"),
	HDR("9110 8.6", LENGTH, "Content-Length: -1"),
	HDR("9110 8.6", LENGTH, "Content-Length: +5"),
	HDR("9110 8.6", LENGTH, "Content-Length: 0x5"),
	HDR("9110 8.6", LENGTH, "Content-Length: 5 5"),
	HDR("9110 8.6", LENGTH, "Content-Length: 5.0"),
	HDR("6.3", LENGTH, "Content-Length: 5, 5"),
	HDR("6.3", LENGTH, "Content-Length: 5\r\nContent-Length: 5"),
	HDR("6.3", LENGTH, "Content-Length: 5\r\ncontent-length: 6"),
	HDR("6.3", LENGTH_CODING, "Content-Length: 5\r\nTransfer-Encoding: chunked"),
	HDR("6.3", LENGTH_CODING, "Transfer-Encoding: chunked\r\nContent-Length: 5"),
	HDR("6.3", LENGTH_CODING, "Content-Length: 0\r\nTransfer-Encoding: gzip, chunked"),
	HDR("6.1", CODING, "Transfer-Encoding: gzip, chunked"),
	HDR("6.1", CODING, "Transfer-Encoding: gzip"),
	HDR("6.1", CODING, "Transfer-Encoding: identity"),
	HDR("6.1", CODING, "Transfer-Encoding:"),
	HDR("6.1", CODING, "Transfer-Encoding: chunked, chunked"),
	HDR("6.1", CODING, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
	HDR("6.1", CODING, "Transfer-Encoding: chunked;a=b"),
	HDR("6.1", CODING, "Transfer-Encoding: \"chunked\""),
	HDR("6.1", CODING, "Transfer-Encoding: xchunked"),
	HDR("6.1", CODING, "Transfer-Encoding: chunked\x80"),
	HDR("6.1", HEADER_VALUE, "Transfer-Encoding: \x0b" "chunked"),
	HDR("5.1", HEADER_NAME, "Transfer-Encoding : chunked"),
	REQ("6.1", CODING_10, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
	REQ("6.3", LENGTH_CODING, "POST / HTTP/1.0\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
	/* Connection, Expect */
	HDR_OK("9.3", NO_BODY, "Connection: close"),
	HDR_OK("9110 7.6.1", NO_BODY, "Connection: , TE ,, X-Own"),
	HDR_OK("9110 7.6.1", NO_BODY, "Connection:"),
	HDR("9110 7.6.1", CONNECTION, "Connection: close, Host"),
	HDR("9110 7.6.1", CONNECTION, "Connection: content-length"),
	HDR("9110 7.6.1", CONNECTION, "Connection: Transfer-Encoding"),
	HDR("9110 7.6.1", CONNECTION, "Connection: x\r\nConnection: AUTHORIZATION"),
	HDR("9110 7.6.1", CONNECTION, "Connection: Cookie"),
	HDR("9110 7.6.1", CONNECTION, "Connection: X-Forwarded-For"),
	HDR("9110 7.6.1", CONNECTION, "Connection: keep-alive,x-forwarded-host"),
	HDR("9110 7.6.1", CONNECTION, "Connection: clo se"),
	HDR("9110 7.6.1", CONNECTION, "Connection: close;q=1"),
	HDR_OK("9110 10.1.1", LENGTH, "Expect: 100-Continue\r\nContent-Length: 1"),
	HDR("9110 10.1.1", EXPECT, "Expect: 200-ok"),
	HDR("9110 10.1.1", EXPECT, "Expect:"),
	HDR("9110 10.1.1", EXPECT, "Expect: 100-continue\r\nExpect: 100-continue"),
	REQ_OK("9110 10.1.1", NO_BODY, "GET / HTTP/1.0\r\nExpect: fun\r\n\r\n"),
	/* responses */
	RES_OK("4", LENGTH, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
	RES_OK("4", UNTIL_CLOSE, "HTTP/1.1 200 \r\n\r\n"),
	RES_OK("4", UNTIL_CLOSE, "HTTP/1.1 200\r\n\r\n"),
	RES_OK("4", UNTIL_CLOSE, "HTTP/1.0 404 Nicht da \xc3\xa4\r\n\r\n"),
	RES_OK("6.3", CHUNKED, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
	RES_OK("6.3", NO_BODY, "HTTP/1.1 204 No Content\r\n\r\n"),
	RES_OK("6.3", NO_BODY, "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n"),
	RES_OK("6.3", NO_BODY, "HTTP/1.1 100 Continue\r\n\r\n"),
	RES_OK("6.3", NO_BODY, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
	RES_OK("6.3", NO_BODY, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
	HRES_OK("6.3", NO_BODY, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"),
	HRES_OK("6.3", NO_BODY, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
	HRES_OK("6.3", NO_BODY, "HTTP/1.1 200 OK\r\n\r\n"),
	RES("4", STATUS, "HTTP/1.1 20 OK\r\n\r\n"),
	RES("4", STATUS, "HTTP/1.1 2000 OK\r\n\r\n"),
	RES("4", STATUS, "HTTP/1.1 099 OK\r\n\r\n"),
	RES("4", STATUS, "HTTP/1.1 2x0 OK\r\n\r\n"),
	RES("4", STATUS, "HTTP/1.1  200 OK\r\n\r\n"),
	RES("4", STATUS, "HTTP/1.1\r\n\r\n"),
	RES("4", STATUS, "HTTP/1.1 200 O\0K\r\n\r\n"),
	RES("4", STATUS, "ICY 200 OK\r\n\r\n"),
	RES("4", STATUS, "<html>\r\n"),
	RES("2.3", VERSION, "HTTP/2.0 200 OK\r\n\r\n"),
	RES("2.2", LINE_END, "HTTP/1.1 200 OK\n\n"),
	RES("2.2", LINE_END, "HTTP/1.1 200 OK\r\nX: a\n\r\n"),
	RES("5.2", HEADER_FOLD, "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n"),
	RES("6.3", LENGTH, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n"),
	RES("6.3", LENGTH, "HTTP/1.1 304 Not Modified\r\nContent-Length: x\r\n\r\n"),
	RES("6.3", LENGTH_CODING, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
	RES("6.1", CODING, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
	RES("6.1", CODING_10, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
	RES("9110 7.6.1", CONNECTION, "HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 3\r\n\r\n"),
	/* chunked bodies */
	BODY_OK("7.1", "0\r\n\r\n", ""),
	BODY_OK("7.1", "5\r\nhello\r\n0\r\n\r\n", "hello"),
	BODY_OK("7.1", "5\r\nhello\r\nA\r\n, wide wor\r\n2\r\nld\r\n000\r\n\r\n", "hello, wide world"),
	BODY_OK("7.1", "0000000000000002\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
	BODY_OK("7.1.1", "1;a;b=c;d=\"e;\\\" \"\r\na\r\n0;x\r\n\r\n", "a"),
	BODY_OK("7.1.2", "1\r\na\r\n0\r\nX-Sum: 12\r\nY:\r\n\r\n", "a"),
	BODY("7.1", CHUNK, "\r\n"),
	BODY("7.1", CHUNK, "g\r\n"),
	BODY("7.1", CHUNK, "-1\r\n"),
	BODY("7.1", CHUNK, "+1\r\na\r\n"),
	BODY("7.1", CHUNK, "0x1\r\na\r\n"),
	BODY("7.1", CHUNK, " 1\r\na\r\n"),
	BODY("7.1", CHUNK, "1 \r\na\r\n"),
	BODY("7.1", CHUNK, "1\na\r\n"),
	BODY("7.1", CHUNK, "1\ra\r\n"),
	BODY("7.1", CHUNK, "1\r\nab\r\n"),
	BODY("7.1", CHUNK, "1\r\na\n"),
	BODY("7.1", CHUNK, "1\r\na\rb"),
	BODY("7.1", CHUNK, "1\r\na0\r\n\r\n"),
	BODY("7.1", CHUNK, "8000000000000000\r\n"),
	BODY("7.1", CHUNK, "00000000000000001\r\na\r\n"),
	BODY("7.1", CHUNK, "fffffffffffffffff\r\n"),
	BODY("7.1.1", CHUNK, "1;\r\na\r\n"),
	BODY("7.1.1", CHUNK, "1; a\r\na\r\n"),
	BODY("7.1.1", CHUNK, "1;a=\r\na\r\n"),
	BODY("7.1.1", CHUNK, "1;a=\"\n\"\r\na\r\n"),
	BODY("7.1.1", CHUNK, "1;a\n0\r\n\r\n"),
	BODY("7.1.1", CHUNK_EXT, "1;" X100 X100 X100 "\r\na\r\n"),
	BODY("7.1.2", TRAILER, "0\r\n X: a\r\n\r\n"),
	BODY("7.1.2", TRAILER, "0\r\nX : a\r\n\r\n"),
	BODY("7.1.2", TRAILER, "0\r\nX\r\n\r\n"),
	BODY("7.1.2", TRAILER, "0\r\n: a\r\n\r\n"),
	BODY("7.1.2", TRAILER, "0\r\nX: a\n\r\n"),
	BODY("7.1.2", TRAILER, "0\r\nX: a\0\r\n\r\n"),
	BODY("7.1.2", TRAILER, "0\r\n\rX"),
	BODY("7.1.2", TRAILER, "0\r\nX: " X1000 X1000 X1000 X1000 X100 "\r\n\r\n"),
};

struct result {
	enum http1_step step;
	enum http1_bad bad;
	size_t used;
	struct http1_head h;
};

static void
show(const struct row *r, const char *how, size_t at)
{
	struct str s = STR_INIT;
	str_add_safe(&s, r->p, r->n < 200 ? r->n : 200);
	print_error("RFC %s, %s at %zu: %s\n", r->section, how, at, str_z(&s));
	str_fini(&s);
}

static void
parse(const struct row *r, size_t n, size_t *scan, struct result *out)
{
	/* A copy of exactly n bytes, so that the sanitizers see a read beyond them. */
	char *copy = mem_dup(r->p, n);
	out->bad = HTTP1_GOOD;
	out->used = 0;
	out->step = r->kind == REQUEST
	    ? http1_parse_request(&out->h, copy, n, &limits, scan, &out->used, &out->bad)
	    : http1_parse_response(&out->h, copy, n, &limits, r->kind == HEAD_RESPONSE, scan, &out->used, &out->bad);
	mem_free(copy);
}

static bool
as_told(const struct row *r, const struct result *x)
{
	if (r->verdict != HTTP1_GOOD)
		return x->step == HTTP1_ERROR && x->bad == r->verdict;
	return x->step == HTTP1_DONE && x->used == r->n && (int)x->h.framing == r->framing;
}

static bool
whole(const struct row *r)
{
	struct result x;
	size_t scan = 0;
	parse(r, r->n, &scan, &x);
	if (as_told(r, &x))
		return true;
	show(r, http1_bad_name(x.bad), x.used);
	return false;
}

static bool
bytewise(const struct row *r)
{
	struct result x = {.step = HTTP1_MORE};
	size_t scan = 0, n = 0;
	while (x.step == HTTP1_MORE && n < r->n)
		parse(r, ++n, &scan, &x);
	if (as_told(r, &x))
		return true;
	show(r, http1_bad_name(x.bad), n);
	return false;
}

static bool
split(const struct row *r)
{
	for (size_t k = 0; k < r->n; k++) {
		struct result x;
		size_t scan = 0;
		parse(r, k, &scan, &x);
		if (x.step == HTTP1_MORE)
			parse(r, r->n, &scan, &x);
		if (!as_told(r, &x)) {
			show(r, http1_bad_name(x.bad), k);
			return false;
		}
	}
	return true;
}

/* Feeds p in the given pieces; what is decoded goes to out. */
static enum http1_step
feed(struct http1_body *b, const char *p, size_t n, size_t piece, struct str *out, size_t *taken, enum http1_bad *bad)
{
	size_t at = 0;
	for (;;) {
		size_t used, dn, now = n - at < piece ? n - at : piece;
		const char *data;
		char *copy = mem_dup(p + at, now ? now : 1);
		enum http1_step st = http1_body_feed(b, copy, now, &used, &data, &dn, bad);
		if (st != HTTP1_ERROR) {
			assert_true(used <= now && dn <= used);
			str_add(out, data, dn);
		}
		mem_free(copy);
		at += used;
		*taken = at;
		if (st != HTTP1_MORE || at == n)
			return st;
	}
}

static bool
body(const struct row *r, size_t piece)
{
	struct http1_body b;
	struct str out = STR_INIT;
	enum http1_bad bad = HTTP1_GOOD;
	size_t taken;
	http1_body_init(&b, HTTP1_CHUNKED, 0);
	enum http1_step st = feed(&b, r->p, r->n, piece, &out, &taken, &bad);
	bool ok = r->verdict != HTTP1_GOOD
	    ? st == HTTP1_ERROR && bad == r->verdict
	    : st == HTTP1_DONE && taken == r->n && http1_body_eof_ok(&b) && b.total == strlen(r->text) &&
		strcmp(str_z(&out), r->text) == 0;
	str_fini(&out);
	if (!ok)
		show(r, http1_bad_name(bad), piece);
	return ok;
}

static void
test_table(void **state)
{
	unsigned bad = 0, count[HTTP1_BAD_COUNT] = {0};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct row *r = &rows[i];
		count[r->verdict]++;
		if (r->kind != CHUNKED)
			bad += !whole(r) || !bytewise(r) || !split(r);
		else
			for (size_t piece = r->n; piece > 0; piece = piece > 70 ? piece / 2 : piece - 1)
				bad += !body(r, piece);
	}
	assert_int_equal(bad, 0);
	/* Every reason has its message. */
	for (unsigned b = 0; b < HTTP1_BAD_COUNT; b++)
		if (count[b] == 0)
			fail_msg("no message for %s", http1_bad_name((enum http1_bad)b));
}

static void
must(struct http1_head *h, const char *z)
{
	enum http1_bad bad;
	size_t scan = 0, used;
	assert_int_equal(http1_parse_request(h, z, strlen(z), &limits, &scan, &used, &bad), HTTP1_DONE);
}

static void
must_response(struct http1_head *h, const char *z)
{
	enum http1_bad bad;
	size_t scan = 0, used;
	assert_int_equal(http1_parse_response(h, z, strlen(z), &limits, false, &scan, &used, &bad), HTTP1_DONE);
}

#define IS(slice, z) assert_true(str_slice_eq((slice).p, (slice).n, z))

static void
test_target(void **state)
{
	struct http1_head h;
	(void)state;
	must(&h, "GET /a/b?c=d?e HTTP/1.1\r\nHost: x:80\r\n\r\n");
	IS(h.method, "GET");
	IS(h.target, "/a/b?c=d?e");
	IS(h.path, "/a/b");
	IS(h.query, "c=d?e");
	IS(h.host, "x:80");
	must(&h, "GET /a? HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_true(h.query.p && h.query.n == 0);
	must(&h, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_null(h.query.p);
	must(&h, "GET http://X/a/b?c HTTP/1.1\r\nHost: x\r\n\r\n");
	IS(h.path, "/a/b");
	IS(h.query, "c");
	IS(h.host, "X");
	must(&h, "GET http://x?c HTTP/1.0\r\n\r\n");
	IS(h.path, "/");
	IS(h.query, "c");
	IS(h.host, "x");
	must(&h, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
	IS(h.path, "*");
	must(&h, "GET / HTTP/1.0\r\n\r\n");
	assert_int_equal(h.host.n, 0);
}

static void
test_connection(void **state)
{
	static const struct {
		const char *head;
		bool keep;
	} cases[] = {
	    {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", true},
	    {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false},
	    {"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nConnection: a,CLOSE\r\n\r\n", false},
	    {"GET / HTTP/1.0\r\n\r\n", false},
	    {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
	    {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false},
	};
	struct http1_head h;
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		must(&h, cases[i].head);
		assert_int_equal(h.keep_alive, cases[i].keep);
	}
	must_response(&h, "HTTP/1.1 200 OK\r\n\r\n");
	assert_false(h.keep_alive);
	must_response(&h, "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n");
	assert_true(h.keep_alive && h.has_length && h.content_length == 7);
	IS(h.reason, "Not Modified");

	must(&h, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
	assert_true(h.upgrade);
	must(&h, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n");
	assert_false(h.upgrade);
	must(&h, "GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
	assert_false(h.upgrade);
	must(&h, "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
	assert_true(h.expect_continue);
	must(&h, "PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
	assert_false(h.expect_continue);
}

static void
test_headers(void **state)
{
	struct http1_head h;
	(void)state;
	must(&h, "GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nb:2\r\na: 3\r\nConnection: B, close\r\nTE: trailers\r\n\r\n");
	assert_int_equal(h.nh, 6);
	IS(http1_find(&h, "A")->value, "1");
	assert_null(http1_find(&h, "C"));
	assert_null(http1_only(&h, "a"));
	IS(http1_only(&h, "B")->value, "2");
	assert_null(http1_only(&h, "C"));
	static const bool hop[] = {false, false, true, false, true, true};
	for (unsigned i = 0; i < h.nh; i++)
		assert_int_equal(http1_hop_by_hop(&h, &h.h[i]), hop[i]);
	struct http1_slice list = {" gzip ,, br", 11};
	assert_true(http1_list_has(list, "GZIP"));
	assert_true(http1_list_has(list, "br"));
	assert_false(http1_list_has(list, "b"));
	assert_false(http1_list_has(list, ""));
	assert_int_equal(http1_bad_status(HTTP1_BAD_TARGET_LONG), 414);
	assert_string_equal(http1_bad_name(HTTP1_BAD_HOST), "HOST");
}

/* What follows the head is left alone, and the limits are the largest sizes that pass. */
static void
test_limits(void **state)
{
	struct http1_head h;
	enum http1_bad bad;
	struct str s = STR_INIT;
	size_t scan = 0, used;
	(void)state;
	static const char two[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\nGARBAGE\n";
	assert_int_equal(http1_parse_request(&h, two, sizeof two - 1, &limits, &scan, &used, &bad), HTTP1_DONE);
	assert_int_equal(used, sizeof two - 9);

	for (size_t n = limits.head_max - 1; n < limits.head_max + 2; n++) {
		str_clear(&s);
		str_addz(&s, "GET / HTTP/1.1\r\nHost: x\r\nX: ");
		while (s.len < n - 4)
			str_addc(&s, 'x');
		str_addz(&s, "\r\n\r\n");
		scan = 0;
		assert_int_equal(http1_parse_request(&h, s.p, s.len, &limits, &scan, &used, &bad),
		    n > limits.head_max ? HTTP1_ERROR : HTTP1_DONE);
	}
	assert_int_equal(bad, HTTP1_BAD_HEADERS_LARGE);
	str_fini(&s);
}

static void
test_bodies(void **state)
{
	struct http1_body b;
	struct str out = STR_INIT;
	enum http1_bad bad;
	size_t taken;
	(void)state;
	http1_body_init(&b, HTTP1_LENGTH, 5);
	assert_false(http1_body_eof_ok(&b));
	assert_int_equal(feed(&b, "hello, world", 12, 3, &out, &taken, &bad), HTTP1_DONE);
	assert_int_equal(taken, 5);
	assert_string_equal(str_z(&out), "hello");
	assert_true(http1_body_eof_ok(&b));
	http1_body_init(&b, HTTP1_LENGTH, 0);
	assert_int_equal(feed(&b, "x", 1, 1, &out, &taken, &bad), HTTP1_DONE);
	assert_int_equal(taken, 0);
	http1_body_init(&b, HTTP1_NO_BODY, 0);
	assert_int_equal(feed(&b, "x", 1, 1, &out, &taken, &bad), HTTP1_DONE);
	http1_body_init(&b, HTTP1_UNTIL_CLOSE, 0);
	assert_int_equal(feed(&b, "abc", 3, 2, &out, &taken, &bad), HTTP1_MORE);
	assert_true(http1_body_eof_ok(&b) && b.total == 3);
	http1_body_init(&b, HTTP1_CHUNKED, 0);
	assert_int_equal(feed(&b, "3\r\nabc\r\n0\r\n\r", 12, 12, &out, &taken, &bad), HTTP1_MORE);
	assert_false(http1_body_eof_ok(&b));
	assert_int_equal(feed(&b, "\nGET", 4, 4, &out, &taken, &bad), HTTP1_DONE);
	assert_int_equal(taken, 1);
	str_fini(&out);
}

static void
test_writers(void **state)
{
	struct str s = STR_INIT;
	char chunk[20];
	(void)state;
	http1_add_request_line(&s, (struct http1_slice) {"GET", 3}, (struct http1_slice) {"/a", 2});
	http1_add_header(&s, "Host", "x");
	http1_add_header_u64(&s, "Content-Length", UINT64_MAX);
	http1_add_header_u64(&s, "X", 0);
	http1_end_head(&s);
	assert_string_equal(s.p, "GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\nX: 0\r\n\r\n");
	str_clear(&s);
	http1_add_status_line(&s, 404, NULL);
	http1_add_status_line(&s, 299, "");
	assert_string_equal(s.p, "HTTP/1.1 404 Not Found\r\nHTTP/1.1 299 \r\n");
	str_fini(&s);
	assert_int_equal(http1_chunk_head(chunk, 0x1a2), 5);
	assert_memory_equal(chunk, "1a2\r\n", 5);
	assert_int_equal(http1_chunk_head(chunk, 0), 3);
	assert_int_equal(http1_chunk_head(chunk, SIZE_MAX), 18);
	assert_true(http1_is_value("a\xff\t", 3) && !http1_is_value("a\n", 2));
	assert_true(http1_is_token("a-b", 3) && !http1_is_token("", 0) && !http1_is_token("a b", 3));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_table),
	    cmocka_unit_test(test_target),
	    cmocka_unit_test(test_connection),
	    cmocka_unit_test(test_headers),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_bodies),
	    cmocka_unit_test(test_writers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
