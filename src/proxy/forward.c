#include "proxy/forward.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "proxy/forwarded.h"
#include "proxy/hint.h"

enum { HEAD_MOST = 500 };	/* bytes of most heads: room that saves growing, no limit */

struct forward_trust {
	size_t n;
	struct network v[];
};

enum err
forward_trust_new(struct forward_trust **tp, const struct conf *c, struct errbuf *eb)
{
	struct forward_trust *t = mem_zalloc(sizeof *t + c->trusted_proxies.n * sizeof t->v[0]);
	enum err e = ERR_OK;
	size_t i;

	for (i = 0; i < c->trusted_proxies.n; i++) {
		if (network_parse(c->trusted_proxies.v[i], &t->v[t->n]))
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

bool
forward_trusted(const struct forward_trust *t, const char *peer)
{
	return network_has(t->v, t->n, peer);
}

/* The last entry of a list that ends at *end, without the spaces around it; *end moves before it. */
static struct http1_slice
last_entry(const char *p, size_t *end)
{
	size_t to = *end, from;

	while (to > 0 && (p[to - 1] == ' ' || p[to - 1] == '\t'))
		to--;
	for (from = to; from > 0 && p[from - 1] != ','; from--)
		;
	*end = from > 0 ? from - 1 : 0;
	while (from < to && (p[from] == ' ' || p[from] == '\t'))
		from++;
	return (struct http1_slice){ p + from, to - from };
}

/* An address and nothing else, in out. */
static bool
take_addr(struct http1_slice s, char out[FORWARD_CLIENT_MAX])
{
	uint8_t addr[16];

	if (s.n >= FORWARD_CLIENT_MAX)
		return false;
	memcpy(out, s.p, s.n);
	out[s.n] = '\0';
	return inet_pton(AF_INET, out, addr) == 1 || inet_pton(AF_INET6, out, addr) == 1;
}

/* The same of Forwarded, whose elements can only be told apart from the front: the last that is no trusted proxy's, or the first. */
static void
client_of_forwarded(const struct forward_trust *t, const struct http1_head *h, char out[FORWARD_CLIENT_MAX])
{
	char addr[FORWARD_CLIENT_MAX];
	bool found = false, any = false;
	unsigned i;

	for (i = 0; i < h->nh; i++) {
		struct http1_slice rest = h->h[i].value, node;

		if (!str_slice_ieq(h->h[i].name.p, h->h[i].name.n, "Forwarded"))
			continue;
		while (forwarded_next(&rest, &node)) {
			bool known = node.p != NULL && take_addr(node, addr);

			if (known && forward_trusted(t, addr) && (any || found))
				continue;
			any = true;
			found = found || !known || !forward_trusted(t, addr);
			snprintf(out, FORWARD_CLIENT_MAX, "%s", known ? addr : "");
		}
	}
}

void
forward_client(const struct forward_trust *t, const struct http1_head *h, const char *peer, char out[FORWARD_CLIENT_MAX])
{
	unsigned i;

	snprintf(out, FORWARD_CLIENT_MAX, "%s", peer);
	if (!forward_trusted(t, peer))
		return;
	if (http1_find(h, "X-Forwarded-For") == NULL) {
		client_of_forwarded(t, h, out);
		return;
	}
	for (i = h->nh; i-- > 0;) {
		const struct http1_header *x = &h->h[i];
		size_t end = x->value.n;

		if (!str_slice_ieq(x->name.p, x->name.n, "X-Forwarded-For"))
			continue;
		while (end > 0 && forward_trusted(t, out))
			if (!take_addr(last_entry(x->value.p, &end), out)) {
				out[0] = '\0';
				return;
			}
	}
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
	return begins(name, "x-accel-") || begins(name, "x-sendfile") || begins(name, "x-lighttpd-");
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
	static const char *const ours[] = { "Content-Length", "Transfer-Encoding", "Expect", "X-Forwarded-For", "Forwarded" };
	static const char *const claims[] = { "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-IP" };

	if (memchr(x->name.p, '_', x->name.n) != NULL || is_command(x->name) || begins(x->name, "x-shim-"))
		return true;
	if (is_any(x->name, ours, sizeof ours / sizeof ours[0]))
		return true;
	if (!trusted && is_any(x->name, claims, sizeof claims / sizeof claims[0]))
		return true;
	return http1_hop_by_hop(h, x);
}

/* The entries that a list header has already, on one line of which the end is to come. */
static void
begin_list(struct str *out, const struct http1_head *h, const char *name, bool keep)
{
	unsigned i;

	str_addz(out, name);
	str_addz(out, ": ");
	for (i = 0; i < h->nh; i++)
		if (keep && str_slice_ieq(h->h[i].name.p, h->h[i].name.n, name) && h->h[i].value.n > 0) {
			str_add(out, h->h[i].value.p, h->h[i].value.n);
			str_addz(out, ", ");
		}
}

static void
add_claims(struct str *out, const struct http1_head *h, const struct forward_peer *from)
{
	const char *peer = from->addr, *proto = from->tls ? "https" : "http";
	bool trusted = from->trusted;

	begin_list(out, h, "X-Forwarded-For", true);
	str_addz(out, peer);
	str_addz(out, "\r\n");
	begin_list(out, h, "Forwarded", trusted);
	forwarded_add(out, peer, h->host, proto);
	str_addz(out, "\r\n");
	if (!trusted || http1_find(h, "X-Forwarded-Proto") == NULL)
		http1_add_header(out, "X-Forwarded-Proto", proto);
	if ((!trusted || http1_find(h, "X-Forwarded-Host") == NULL) && h->host.p != NULL)
		http1_add_header_slices(out, (struct http1_slice){ "X-Forwarded-Host", 16 }, h->host);
	if (!trusted || http1_find(h, "X-Real-IP") == NULL)
		http1_add_header(out, "X-Real-IP", peer);
}

/* The bytes as they came; of an absolute-form target only what stands behind the authority. */
static void
add_target(struct str *out, const struct http1_head *h)
{
	str_add(out, h->path.p, h->path.n);
	if (h->query.p != NULL) {
		str_addc(out, '?');
		str_add(out, h->query.p, h->query.n);
	}
}

/* RFC 9112 3.2: what is HTTP/1.1 now needs one. HTTP/1.0 knew none, and health checks of balancers come so. */
static void
add_host(struct str *out, const struct http1_head *h)
{
	static const struct http1_slice none = { "localhost", 9 };

	http1_add_header_slices(out, (struct http1_slice){ "Host", 4 }, h->host.p != NULL ? h->host : none);
}

void
forward_request(struct str *out, const struct http1_head *h, const struct forward_peer *from, const char *without)
{
	struct str target = STR_INIT;
	unsigned i;

	(void)str_reserve(out, HEAD_MOST);
	add_target(&target, h);
	http1_add_request_line(out, h->method, (struct http1_slice){ target.p, target.len });
	str_fini(&target);
	if (http1_find(h, "Host") == NULL)
		add_host(out, h);
	for (i = 0; i < h->nh; i++)
		if (!drop_from_client(h, &h->h[i], from->trusted) && (without == NULL || !str_slice_ieq(h->h[i].name.p, h->h[i].name.n, without)))
			http1_add_header_slices(out, h->h[i].name, h->h[i].value);
	add_claims(out, h, from);
	if (h->framing == HTTP1_CHUNKED)
		http1_add_header(out, "Transfer-Encoding", "chunked");
	else if (h->has_length)
		http1_add_header_u64(out, "Content-Length", h->content_length);
	http1_end_head(out);
}

void
forward_question(struct str *out, const struct http1_head *h, const char *path, const struct forward_peer *from)
{
	static const char *const told[] = { "Cookie", "Authorization", "Origin", "User-Agent" };
	struct str target = STR_INIT;
	unsigned i;

	http1_add_request_line(out, (struct http1_slice){ "GET", 3 }, (struct http1_slice){ path, strlen(path) });
	add_host(out, h);
	for (i = 0; i < h->nh; i++)
		if (is_any(h->h[i].name, told, sizeof told / sizeof told[0]) && !http1_hop_by_hop(h, &h->h[i]))
			http1_add_header_slices(out, h->h[i].name, h->h[i].value);
	http1_add_header_slices(out, (struct http1_slice){ "X-Original-Method", 17 }, h->method);
	add_target(&target, h);
	http1_add_header_slices(out, (struct http1_slice){ "X-Original-URI", 14 }, (struct http1_slice){ target.p, target.len });
	str_fini(&target);
	add_claims(out, h, from);
	http1_end_head(out);
}

void
forward_kept(struct str *out, const struct http1_head *h)
{
	static const char *const dropped[] = { "Content-Type", "Content-Length", "Content-Range", "Content-Encoding", "Content-MD5",
		"Content-Digest", "Repr-Digest", "Digest", "ETag", "Last-Modified", "Accept-Ranges", "Date", "Server", "Age", "Location",
		"Refresh", "WWW-Authenticate" };
	unsigned i;

	for (i = 0; i < h->nh; i++) {
		const struct http1_header *x = &h->h[i];

		if (is_any(x->name, dropped, sizeof dropped / sizeof dropped[0]) || http1_hop_by_hop(h, x))
			continue;
		if (begins(x->name, "x-shim-") || hint_is_header(x->name) || is_command(x->name))
			continue;
		http1_add_header_slices(out, x->name, x->value);
	}
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
		if (begins(x->name, "x-shim-") || hint_is_header(x->name) || (is_command(x->name) && !trusted))
			continue;
		http1_add_header_slices(out, x->name, x->value);
	}
}
