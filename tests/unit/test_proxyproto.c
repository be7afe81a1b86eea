#include "io/proxyproto.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>

#include "unit.h"

#define SIG "\r\n\r\n\0\r\nQUIT\n"
/* A header of version 2: command, family, length, the rest. The literal's terminator is not part of it. */
#define V2(rest) SIG rest, sizeof(SIG rest) - 1
#define FROM4 "\x01\x02\x03\x04\x0a\x00\x00\x01\x12\x34\x01\xbb"
#define FROM6 "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\7" "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1" "\x12\x34\x01\xbb"

/* Whole, byte by byte, and with a request behind: always the same. */
static enum proxyproto_step
parse(struct proxyproto *x, const char *p, size_t n)
{
	static const char next[] = "GET / HTTP/1.1\r\n";
	struct proxyproto bytes;
	char both[5000];
	enum proxyproto_step whole, piece = PROXYPROTO_MORE;
	size_t used, i;

	assert_true(n + sizeof next <= sizeof both);
	memcpy(both, p, n);
	memcpy(both + n, next, sizeof next);
	proxyproto_init(&bytes);
	for (i = 0; i < n && piece == PROXYPROTO_MORE; i++) {
		piece = proxyproto_feed(&bytes, p + i, 1, &used);
		assert_int_equal(used, 1);
	}
	proxyproto_init(x);
	whole = proxyproto_feed(x, p, n, &used);
	assert_int_equal(whole, piece);
	assert_int_equal(used, i);
	if (whole == PROXYPROTO_DONE) {
		assert_int_equal(used, n);
		proxyproto_init(x);
		assert_int_equal(proxyproto_feed(x, both, n + sizeof next, &used), PROXYPROTO_DONE);
		assert_int_equal(used, n);
		assert_memory_equal(x->addr, bytes.addr, sizeof x->addr);
	}
	return whole;
}

static void
good(const char *p, size_t n, const char *addr, unsigned port)
{
	struct proxyproto x;
	char text[INET6_ADDRSTRLEN] = "";

	assert_int_equal(parse(&x, p, n), PROXYPROTO_DONE);
	if (x.family != AF_UNSPEC)
		assert_non_null(inet_ntop(x.family, x.addr, text, sizeof text));
	assert_string_equal(text, addr);
	assert_int_equal(x.port, port);
}

static void
bad(const char *p, size_t n)
{
	struct proxyproto x;

	assert_int_equal(parse(&x, p, n), PROXYPROTO_BAD);
}

static void
line(const char *z, const char *addr, unsigned port)
{
	good(z, strlen(z), addr, port);
}

static void
bad_line(const char *z)
{
	bad(z, strlen(z));
}

static void
test_line(void **state)
{
	char longest[PROXYPROTO_V1_MAX + 3];

	(void)state;
	line("PROXY TCP4 1.2.3.4 10.0.0.1 4660 443\r\n", "1.2.3.4", 4660);
	line("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255", 65535);
	line("PROXY TCP4 1.2.3.4 10.0.0.1 0 443\r\n", "1.2.3.4", 0);
	line("PROXY TCP6 fd00::7 fd00::1 4660 443\r\n", "fd00::7", 4660);
	line("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
	    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535);
	line("PROXY UNKNOWN\r\n", "", 0);
	line("PROXY UNKNOWN what ever\r\n", "", 0);
	memset(longest, 'x', sizeof longest);
	memcpy(longest, "PROXY UNKNOWN ", 14);
	memcpy(longest + PROXYPROTO_V1_MAX - 2, "\r\n", 2);
	good(longest, PROXYPROTO_V1_MAX, "", 0);
	memset(longest, 'x', sizeof longest);
	memcpy(longest, "PROXY UNKNOWN ", 14);
	memcpy(longest + PROXYPROTO_V1_MAX - 1, "\r\n", 2);
	bad(longest, PROXYPROTO_V1_MAX + 1);
}

static void
test_bad_line(void **state)
{
	static const char nul[] = "PROXY TCP4 1.2.3.4\0 10.0.0.1 1 2\r\n";

	(void)state;
	bad_line("GET / HTTP/1.1\r\n");
	bad_line("proxy TCP4 1.2.3.4 10.0.0.1 1 2\r\n");
	bad_line("PROXY\r\n");
	bad_line("PROXY TCP4\r\n");
	bad_line("PROXY UNKNOWNS\r\n");
	bad_line("PROXY UDP4 1.2.3.4 10.0.0.1 1 2\r\n");
	bad_line("PROXY TCP4  1.2.3.4 10.0.0.1 1 2\r\n");
	bad_line("PROXY TCP4 1.2.3.4\t10.0.0.1 1 2\r\n");
	bad_line("PROXY TCP4 1.2.3.4 10.0.0.1 1 2 \r\n");
	bad_line("PROXY TCP4 1.2.3.4 10.0.0.1 1 2 3\r\n");
	bad_line("PROXY TCP4 1.2.3.4 10.0.0.1 1\r\n");
	bad_line("PROXY TCP4 1.2.3 10.0.0.1 1 2\r\n");
	bad_line("PROXY TCP4 1.2.3.04 10.0.0.1 1 2\r\n");
	bad_line("PROXY TCP4 1.2.3.256 10.0.0.1 1 2\r\n");
	bad_line("PROXY TCP4 fd00::7 fd00::1 1 2\r\n");
	bad_line("PROXY TCP6 1.2.3.4 10.0.0.1 1 2\r\n");
	bad_line("PROXY TCP4 1.2.3.4 10.0.0.1 01 2\r\n");
	bad_line("PROXY TCP4 1.2.3.4 10.0.0.1 +1 2\r\n");
	bad_line("PROXY TCP4 1.2.3.4 10.0.0.1 65536 2\r\n");
	bad_line("PROXY TCP4 1.2.3.4 10.0.0.1 1 100000\r\n");
	bad_line("PROXY TCP4 1.2.3.4 10.0.0.1 1 2\n");
	bad_line("PROXY TCP4 1.2.3.4 10.0.0.1 1 2\rX\n");
	bad(nul, sizeof nul - 1);
}

static void
test_binary(void **state)
{
	char large[16 + PROXYPROTO_V2_MAX] = SIG "\x21\x00\x10\x00";

	(void)state;
	good(V2("\x21\x11\0\x0c" FROM4), "1.2.3.4", 4660);
	good(V2("\x21\x21\0\x24" FROM6), "fd00::7", 4660);
	/* Extensions: two, one of them empty. */
	good(V2("\x21\x11\0\x14" FROM4 "\x04\0\x02xy\x20\0\0"), "1.2.3.4", 4660);
	/* LOCAL, unspecified, a Unix socket: the connection's own address stands. */
	good(V2("\x20\x00\0\0"), "", 0);
	good(V2("\x20\x11\0\x0c" FROM4), "", 0);
	good(V2("\x20\x00\0\x02??"), "", 0);
	good(V2("\x21\x00\0\0"), "", 0);
	memset(large + 16, 0, PROXYPROTO_V2_MAX);
	large[16] = 4;		/* one extension */
	large[17] = (PROXYPROTO_V2_MAX - 3) >> 8;
	large[18] = (char)((PROXYPROTO_V2_MAX - 3) & 0xff);
	good(large, sizeof large, "", 0);
	memset(large + 16, 0, 216);
	large[13] = 0x31;
	large[14] = 0;
	large[15] = (char)216;
	good(large, 16 + 216, "", 0);
}

static void
test_bad_binary(void **state)
{
	static const char nearly[] = "\r\n\r\n\0\r\nQUIX";
	struct proxyproto x;

	(void)state;
	bad(nearly, sizeof nearly - 1);
	bad(V2("\x11\x11\0\x0c"));		/* another version */
	bad(V2("\x22\x11\0\x0c"));		/* unknown command */
	bad(V2("\x21\x12\0\x0c"));		/* datagrams */
	bad(V2("\x21\x41\0\x0c"));		/* unknown family */
	bad(V2("\x21\x11\0\x0b"));		/* no room for the addresses */
	bad(V2("\x21\x21\0\x0c"));
	bad(V2("\x21\x11\x10\x01"));		/* larger than any */
	bad(V2("\x21\x11\0\x0e" FROM4 "\x04\0"));	/* an extension's head is cut */
	bad(V2("\x21\x11\0\x10" FROM4 "\x04\0\x02x"));	/* and its value */
	bad(V2("\x21\x11\0\x10" FROM4 "\x04\xff\xff"));
	/* Not a byte is made up. */
	assert_int_equal(parse(&x, V2("\x21\x11\0\x0c\x01\x02\x03\x04\x0a\x00\x00\x01\x12\x34\x01")), PROXYPROTO_MORE);
	assert_int_equal(x.family, AF_UNSPEC);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line),
		cmocka_unit_test(test_bad_line),
		cmocka_unit_test(test_binary),
		cmocka_unit_test(test_bad_binary),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
