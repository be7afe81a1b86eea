#include "proxy/forwarded.h"

#include <string.h>

/* RFC 7239 4: token or quoted-string. A Host may hold neither quotes nor backslashes, an address even less. */
static void
add_value(struct str *out, const char *p, size_t n)
{
	bool plain = http1_is_token(p, n);

	if (!plain)
		str_addc(out, '"');
	str_add(out, p, n);
	if (!plain)
		str_addc(out, '"');
}

static bool
is_quotable(struct http1_slice s)
{
	return s.p != NULL && s.n > 0 && memchr(s.p, '"', s.n) == NULL && memchr(s.p, '\\', s.n) == NULL;
}

void
forwarded_add(struct str *out, const char *peer, struct http1_slice host, const char *proto)
{
	str_addz(out, "for=");
	if (strncmp(peer, "unix:", 5) == 0)
		str_addz(out, "unknown");
	else if (strchr(peer, ':') != NULL)
		str_printf(out, "\"[%s]\"", peer);
	else
		str_addz(out, peer);
	if (is_quotable(host)) {
		str_addz(out, ";host=");
		add_value(out, host.p, host.n);
	}
	str_addz(out, ";proto=");
	str_addz(out, proto);
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t';
}

static void
skip_spaces(struct http1_slice *s)
{
	while (s->n > 0 && is_space(*s->p)) {
		s->p++;
		s->n--;
	}
}

static bool
take_char(struct http1_slice *s, char c)
{
	if (s->n == 0 || *s->p != c)
		return false;
	s->p++;
	s->n--;
	return true;
}

static bool
take_token(struct http1_slice *s, struct http1_slice *token)
{
	size_t n = 0;

	while (n < s->n && http1_is_token(s->p + n, 1))
		n++;
	*token = (struct http1_slice){ s->p, n };
	s->p += n;
	s->n -= n;
	return n > 0;
}

/* What stands between quotes. No value of use has anything to escape: with a backslash it is malformed. */
static bool
take_quoted(struct http1_slice *s, struct http1_slice *text)
{
	const char *end;

	if (!take_char(s, '"'))
		return false;
	end = memchr(s->p, '"', s->n);
	if (end == NULL)
		return false;
	*text = (struct http1_slice){ s->p, (size_t)(end - s->p) };
	s->n -= text->n + 1;
	s->p = end + 1;
	return memchr(text->p, '\\', text->n) == NULL;
}

/* RFC 7239 6: the port behind an address; it may be obfuscated. */
static bool
is_port(const char *p, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (p[i] == ':' || !http1_is_token(p + i, 1))
			return false;
	return n > 0;
}

/* The address of a node, without brackets and port. */
static struct http1_slice
node_addr(struct http1_slice node)
{
	const char *end;
	size_t n;

	if (node.n > 0 && node.p[0] == '[') {
		end = memchr(node.p, ']', node.n);
		if (end == NULL)
			return (struct http1_slice){ NULL, 0 };
		n = (size_t)(end - node.p);
		if (node.n > n + 1 && (end[1] != ':' || !is_port(end + 2, node.n - n - 2)))
			return (struct http1_slice){ NULL, 0 };
		return (struct http1_slice){ node.p + 1, n - 1 };
	}
	end = memchr(node.p, ':', node.n);
	n = end == NULL ? node.n : (size_t)(end - node.p);
	if (end != NULL && !is_port(end + 1, node.n - n - 1))
		return (struct http1_slice){ NULL, 0 };
	return (struct http1_slice){ node.p, n };
}

/* name=value. */
static bool
take_pair(struct http1_slice *s, struct http1_slice *addr, bool *has_for)
{
	struct http1_slice name, value;
	bool is_for;

	if (!take_token(s, &name) || !take_char(s, '='))
		return false;
	if (!take_token(s, &value) && !take_quoted(s, &value))
		return false;
	is_for = str_slice_ieq(name.p, name.n, "for");
	if (is_for && *has_for)
		return false;
	if (is_for) {
		*has_for = true;
		*addr = node_addr(value);
	}
	return true;
}

static bool
take_element(struct http1_slice *s, struct http1_slice *addr)
{
	bool has_for = false;

	skip_spaces(s);
	do
		if (!take_pair(s, addr, &has_for))
			return false;
	while (take_char(s, ';'));
	skip_spaces(s);
	return s->n == 0 || (take_char(s, ',') && s->n > 0);
}

bool
forwarded_next(struct http1_slice *rest, struct http1_slice *addr)
{
	*addr = (struct http1_slice){ NULL, 0 };
	if (rest->n == 0)
		return false;
	if (!take_element(rest, addr)) {
		*addr = (struct http1_slice){ NULL, 0 };
		rest->n = 0;
	}
	return true;
}
