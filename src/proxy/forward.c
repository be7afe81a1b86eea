#include "proxy/forward.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/mem.h"

enum { HEAD_MOST = 500 };	/* bytes of most heads: room that saves growing, no limit */

struct network {
	int family;		/* AF_UNIX: every Unix socket */
	uint8_t addr[16];
	unsigned bits;
};

struct forward_trust {
	size_t n;
	struct network v[];
};

static bool
parse_addr(const char *text, int *family, uint8_t addr[16])
{
	*family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET;
	return inet_pton(*family, text, addr) == 1;
}

static bool
parse_network(const char *text, struct network *n)
{
	const char *slash = strchr(text, '/');
	char host[INET6_ADDRSTRLEN];
	size_t len = slash == NULL ? strlen(text) : (size_t)(slash - text);
	uint64_t bits;

	if (strcmp(text, "unix:") == 0) {
		n->family = AF_UNIX;
		return true;
	}
	if (len >= sizeof host)
		return false;
	memcpy(host, text, len);
	host[len] = '\0';
	if (!parse_addr(host, &n->family, n->addr))
		return false;
	n->bits = n->family == AF_INET ? 32 : 128;
	if (slash == NULL)
		return true;
	if (!str_to_u64(slash + 1, strlen(slash + 1), &bits) || bits > n->bits)
		return false;
	n->bits = (unsigned)bits;
	return true;
}

enum err
forward_trust_new(struct forward_trust **tp, const struct conf *c, struct errbuf *eb)
{
	struct forward_trust *t = mem_zalloc(sizeof *t + c->trusted_proxies.n * sizeof t->v[0]);
	enum err e = ERR_OK;
	size_t i;

	for (i = 0; i < c->trusted_proxies.n; i++) {
		if (parse_network(c->trusted_proxies.v[i], &t->v[t->n]))
			t->n++;
		else
			e = err_set(eb, ERR_SYNTAX, "proxy.trusted-proxies: \"%s\" is no network", c->trusted_proxies.v[i]);
	}
	*tp = t;
	return e;
}

void
forward_trust_free(struct forward_trust **t)
{
	mem_free(*t);
	*t = NULL;
}

static bool
within(const struct network *n, int family, const uint8_t addr[16])
{
	unsigned whole = n->bits / 8, rest = n->bits % 8;

	if (n->family != family || memcmp(n->addr, addr, whole) != 0)
		return false;
	return rest == 0 || (n->addr[whole] >> (8 - rest)) == (addr[whole] >> (8 - rest));
}

bool
forward_trusted(const struct forward_trust *t, const char *peer)
{
	bool is_unix = strncmp(peer, "unix:", 5) == 0;
	uint8_t addr[16];
	int family = AF_UNIX;
	size_t i;

	if (t->n == 0 || (!is_unix && !parse_addr(peer, &family, addr)))
		return false;
	for (i = 0; i < t->n; i++)
		if (is_unix ? t->v[i].family == AF_UNIX : within(&t->v[i], family, addr))
			return true;
	return false;
}

static bool
begins(struct http1_slice s, const char *prefix)
{
	size_t n = strlen(prefix);

	return s.n >= n && str_slice_ieq(s.p, n, prefix);
}

/* Headers that command an nginx, or us. */
static bool
is_command(struct http1_slice name)
{
	return begins(name, "x-accel-") || begins(name, "x-sendfile");
}

static bool
is_any(struct http1_slice name, const char *const *v, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (str_slice_ieq(name.p, name.n, v[i]))
			return true;
	return false;
}

static bool
drop_from_client(const struct http1_head *h, const struct http1_header *x, bool trusted)
{
	static const char *const ours[] = { "Content-Length", "Transfer-Encoding", "Expect", "X-Forwarded-For" };
	static const char *const claims[] = { "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-IP", "Forwarded" };

	if (memchr(x->name.p, '_', x->name.n) != NULL || is_command(x->name) || begins(x->name, "x-shim-"))
		return true;
	if (is_any(x->name, ours, sizeof ours / sizeof ours[0]))
		return true;
	if (!trusted && is_any(x->name, claims, sizeof claims / sizeof claims[0]))
		return true;
	return http1_hop_by_hop(h, x);
}

static void
add_forwarded_for(struct str *out, const struct http1_head *h, const char *peer)
{
	unsigned i;

	str_addz(out, "X-Forwarded-For: ");
	for (i = 0; i < h->nh; i++)
		if (str_slice_ieq(h->h[i].name.p, h->h[i].name.n, "X-Forwarded-For") && h->h[i].value.n > 0) {
			str_add(out, h->h[i].value.p, h->h[i].value.n);
			str_addz(out, ", ");
		}
	str_addz(out, peer);
	str_addz(out, "\r\n");
}

static void
add_claims(struct str *out, const struct http1_head *h, const char *peer, bool trusted)
{
	add_forwarded_for(out, h, peer);
	if (!trusted || http1_find(h, "X-Forwarded-Proto") == NULL)
		http1_add_header(out, "X-Forwarded-Proto", "http");
	if ((!trusted || http1_find(h, "X-Forwarded-Host") == NULL) && h->host.p != NULL)
		http1_add_header_slices(out, (struct http1_slice){ "X-Forwarded-Host", 16 }, h->host);
	if (!trusted || http1_find(h, "X-Real-IP") == NULL)
		http1_add_header(out, "X-Real-IP", peer);
}

void
forward_request(struct str *out, const struct http1_head *h, const char *peer, bool trusted)
{
	struct str target = STR_INIT;
	unsigned i;

	(void)str_reserve(out, HEAD_MOST);
	/* The bytes as they came; of an absolute-form target only what stands behind the authority. */
	str_add(&target, h->path.p, h->path.n);
	if (h->query.p != NULL) {
		str_addc(&target, '?');
		str_add(&target, h->query.p, h->query.n);
	}
	http1_add_request_line(out, h->method, (struct http1_slice){ target.p, target.len });
	str_fini(&target);
	if (http1_find(h, "Host") == NULL && h->host.p != NULL)
		http1_add_header_slices(out, (struct http1_slice){ "Host", 4 }, h->host);
	for (i = 0; i < h->nh; i++)
		if (!drop_from_client(h, &h->h[i], trusted))
			http1_add_header_slices(out, h->h[i].name, h->h[i].value);
	add_claims(out, h, peer, trusted);
	if (h->framing == HTTP1_CHUNKED)
		http1_add_header(out, "Transfer-Encoding", "chunked");
	else if (h->has_length)
		http1_add_header_u64(out, "Content-Length", h->content_length);
	http1_end_head(out);
}

void
forward_response(struct str *out, const struct http1_head *h, bool trusted)
{
	char *reason = mem_strndup(h->reason.p, h->reason.n);
	unsigned i;

	(void)str_reserve(out, HEAD_MOST);
	http1_add_status_line(out, h->status, reason);
	mem_free(reason);
	for (i = 0; i < h->nh; i++) {
		const struct http1_header *x = &h->h[i];

		if (str_slice_ieq(x->name.p, x->name.n, "Content-Length") || http1_hop_by_hop(h, x))
			continue;
		if (begins(x->name, "x-shim-") || (is_command(x->name) && !trusted))
			continue;
		http1_add_header_slices(out, x->name, x->value);
	}
}
