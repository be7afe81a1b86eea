#include "io/proxyproto.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

enum {
	V1_START = 6,		/* "PROXY " */
	V2_START = 12,
	V2_FIXED = 16,
	V2_INET = 12,		/* bytes of both addresses and ports */
	V2_INET6 = 36,
	V2_UNIX = 216,
	TLV_HEAD = 3
};

static const unsigned char v1_start[V1_START] = "PROXY ";
static const unsigned char v2_start[V2_START] = { '\r', '\n', '\r', '\n', '\0', '\r', '\n', 'Q', 'U', 'I', 'T', '\n' };

void
proxyproto_init(struct proxyproto *x)
{
	memset(x, 0, sizeof(*x));
	x->family = AF_UNSPEC;
}

/* One field, up to the space or the end; it is not empty. */
static bool
take_field(const char **p, char *out, size_t cap)
{
	size_t n = strcspn(*p, " ");

	if (n == 0 || n >= cap)
		return false;
	memcpy(out, *p, n);
	out[n] = '\0';
	*p += n;
	return true;
}

static bool
take_space(const char **p)
{
	if (**p != ' ')
		return false;
	(*p)++;
	return true;
}

/* inet_pton takes no leading zeros and no sign, for IPv4 either. */
static bool
take_addr(const char **p, int family, uint8_t addr[16])
{
	char text[INET6_ADDRSTRLEN];

	return take_field(p, text, sizeof text) && inet_pton(family, text, addr) == 1;
}

static bool
take_port(const char **p, uint16_t *port)
{
	char text[6];
	unsigned long v = 0;
	size_t i;

	if (!take_field(p, text, sizeof text) || (text[0] == '0' && text[1] != '\0'))
		return false;
	for (i = 0; text[i] != '\0'; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		v = v * 10 + (unsigned long)(text[i] - '0');
	}
	*port = (uint16_t)v;
	return v <= 65535;
}

/* The line without its CRLF, terminated. */
static enum proxyproto_step
parse_line(struct proxyproto *x, const char *line)
{
	const char *p = line + V1_START;
	uint8_t to[16];
	uint16_t to_port;
	int family;

	if (strncmp(p, "UNKNOWN", 7) == 0 && (p[7] == '\0' || p[7] == ' '))
		return PROXYPROTO_DONE;		/* whatever follows is to be ignored */
	if (strncmp(p, "TCP4", 4) == 0)
		family = AF_INET;
	else if (strncmp(p, "TCP6", 4) == 0)
		family = AF_INET6;
	else
		return PROXYPROTO_BAD;
	p += 4;
	if (!take_space(&p) || !take_addr(&p, family, x->addr) || !take_space(&p) || !take_addr(&p, family, to) || !take_space(&p) ||
	    !take_port(&p, &x->port) || !take_space(&p) || !take_port(&p, &to_port) || *p != '\0')
		return PROXYPROTO_BAD;
	x->family = family;
	return PROXYPROTO_DONE;
}

static enum proxyproto_step
feed_line(struct proxyproto *x, unsigned char c)
{
	char line[PROXYPROTO_V1_MAX + 1];

	if (x->n == sizeof(x->buf) || c == '\0' || (c == '\n') != (x->buf[x->n - 1] == '\r'))
		return PROXYPROTO_BAD;
	x->buf[x->n++] = c;
	if (c != '\n')
		return PROXYPROTO_MORE;
	memcpy(line, x->buf, x->n - 2);
	line[x->n - 2] = '\0';
	return parse_line(x, line);
}

/* Version, command, family, length. */
static enum proxyproto_step
parse_fixed(struct proxyproto *x)
{
	unsigned command = x->buf[12], family = x->buf[13], len = (unsigned)x->buf[14] << 8 | x->buf[15];

	if (command != 0x20 && command != 0x21)
		return PROXYPROTO_BAD;
	if (family == 0x11)
		x->addrs = V2_INET;
	else if (family == 0x21)
		x->addrs = V2_INET6;
	else if (family == 0x31)
		x->addrs = V2_UNIX;
	else if (family != 0x00)
		return PROXYPROTO_BAD;		/* datagrams, or nothing that is known */
	if (command == 0x20)
		x->addrs = 0;			/* LOCAL: what follows is to be ignored */
	if (len > PROXYPROTO_V2_MAX || len < x->addrs)
		return PROXYPROTO_BAD;
	x->total = V2_FIXED + len;
	return x->n == x->total ? PROXYPROTO_DONE : PROXYPROTO_MORE;
}

static void
take_addresses(struct proxyproto *x)
{
	const unsigned char *p = x->buf + V2_FIXED;
	size_t n = x->addrs == V2_INET ? 4 : 16;

	if (x->addrs != V2_INET && x->addrs != V2_INET6)
		return;
	x->family = x->addrs == V2_INET ? AF_INET : AF_INET6;
	memcpy(x->addr, p, n);
	x->port = (uint16_t)(p[2 * n] << 8 | p[2 * n + 1]);
}

/* A byte behind the addresses: each extension has a type, a length of two bytes and a value. */
static enum proxyproto_step
feed_tlv(struct proxyproto *x, unsigned char c)
{
	if (x->tlv_n == TLV_HEAD)
		x->tlv_left--;
	else if (x->tlv_n++ > 0)
		x->tlv_left = x->tlv_left << 8 | c;
	if (x->tlv_n == TLV_HEAD && x->tlv_left > x->total - x->n)
		return PROXYPROTO_BAD;
	if (x->tlv_n == TLV_HEAD && x->tlv_left == 0)
		x->tlv_n = 0;
	return PROXYPROTO_MORE;
}

static enum proxyproto_step
feed_binary(struct proxyproto *x, unsigned char c)
{
	bool local;

	if (x->n < sizeof(x->buf))
		x->buf[x->n] = c;
	x->n++;
	if (x->n < V2_FIXED)
		return PROXYPROTO_MORE;
	if (x->n == V2_FIXED)
		return parse_fixed(x);
	local = x->buf[12] == 0x20;
	if (x->n == V2_FIXED + x->addrs)
		take_addresses(x);
	else if (x->n > V2_FIXED + x->addrs && !local && feed_tlv(x, c) == PROXYPROTO_BAD)
		return PROXYPROTO_BAD;
	if (x->n < x->total)
		return PROXYPROTO_MORE;
	return x->tlv_n == 0 ? PROXYPROTO_DONE : PROXYPROTO_BAD;
}

static enum proxyproto_step
feed_start(struct proxyproto *x, unsigned char c)
{
	x->buf[x->n++] = c;
	if (x->n <= V1_START && memcmp(x->buf, v1_start, x->n) == 0) {
		if (x->n == V1_START)
			x->version = 1;
		return PROXYPROTO_MORE;
	}
	if (x->n <= V2_START && memcmp(x->buf, v2_start, x->n) == 0) {
		if (x->n == V2_START)
			x->version = 2;
		return PROXYPROTO_MORE;
	}
	return PROXYPROTO_BAD;
}

enum proxyproto_step
proxyproto_feed(struct proxyproto *x, const void *bytes, size_t n, size_t *used)
{
	const unsigned char *p = bytes;
	enum proxyproto_step step = PROXYPROTO_MORE;
	size_t i;

	for (i = 0; i < n && step == PROXYPROTO_MORE; i++)
		step = x->version == 0 ? feed_start(x, p[i]) : x->version == 1 ? feed_line(x, p[i]) : feed_binary(x, p[i]);
	*used = i;
	return step;
}
