/*
 * How many connections each client has at once: an IPv4 address, or an IPv6 network of 64 bits, which is what one customer gets.
 * There are entries for clients with connections only, so conns_max bounds the memory, too. Unix sockets and the networks that
 * speak for many are not counted; nor is what was open before a reload set the limit.
 */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/http_conn.h"

enum { V4_BYTES = 4, V6_BYTES = 8 };	/* two lengths: no key of one family is one of the other */

struct address {
	unsigned n;
	bool told;	/* the log has it */
};

static size_t
key_len(const struct http_conn *c)
{
	return c->is_v6 ? V6_BYTES : V4_BYTES;
}

static bool
is_exempt(const struct http_conn *c)
{
	const struct http_server_opts *o = &c->server->o;

	return c->is_unix || network_holds(o->proxies, o->nproxies, c->is_v6 ? AF_INET6 : AF_INET, &c->from);
}

bool
http_address_enter(struct http_conn *c)
{
	struct http_server *s = c->server;
	struct address *a;

	if (s->o.conns_per_address == 0 || is_exempt(c))
		return true;
	if (s->addresses == NULL)
		s->addresses = map_new();
	a = map_get(s->addresses, &c->from, key_len(c));
	if (a == NULL) {
		a = mem_zalloc(sizeof *a);
		map_set(s->addresses, &c->from, key_len(c), a);
	}
	if (a->n >= s->o.conns_per_address) {
		if (!a->told)
			log_warn("http", "%s: more than %u connections at once: they are closed", http_conn_peer(c), s->o.conns_per_address);
		a->told = true;
		return false;
	}
	a->n++;
	return c->counted = true;
}

void
http_address_leave(struct http_conn *c)
{
	struct map *m = c->server->addresses;
	struct address *a;

	if (!c->counted)
		return;
	c->counted = false;
	a = map_get(m, &c->from, key_len(c));
	if (--a->n == 0)
		mem_free(map_del(m, &c->from, key_len(c)));
}
