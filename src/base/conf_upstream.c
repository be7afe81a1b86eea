#include "base/conf_int.h"

#include <string.h>

static size_t
count_servers(const struct conf *c)
{
	return 1 + c->upstream_more.n;
}

static const char *
server(const struct conf *c, size_t i)
{
	return i == 0 ? c->upstream : c->upstream_more.v[i - 1];
}

static const char *
option(size_t i)
{
	return i == 0 ? "upstream.address" : "upstream.more";
}

/* No server may be one of our own listeners. */
static void
check_own(struct conf_loading *ld, size_t i, const struct conf_list *listeners, const char *name)
{
	for (size_t j = 0; j < listeners->n; j++)
		if (strcmp(listeners->v[j], server(ld->c, i)) == 0)
			conf_mistake(ld, conf_pos_of(ld, option(i)), "%s = \"%s\" is our own %s; name the server behind us",
			    option(i), server(ld->c, i), name);
}

static void
check_servers(struct conf_loading *ld)
{
	const struct conf *c = ld->c;

	for (size_t i = 0; i < count_servers(c); i++) {
		if (!server(c, i))
			continue;
		check_own(ld, i, &c->listen, "proxy.listen");
		check_own(ld, i, &c->tls_listen, "proxy.tls-listen");
		for (size_t j = 0; j < i; j++)
			if (server(c, j) && strcmp(server(c, j), server(c, i)) == 0)
				conf_mistake(ld, conf_pos_of(ld, "upstream.more"), "upstream.more: \"%s\" is there twice; keep one",
				    server(c, i));
	}
	if (count_servers(c) > CONF_SERVERS_MAX)
		conf_mistake(ld, conf_pos_of(ld, "upstream.more"), "upstream.more has %zu addresses; %d is the most", c->upstream_more.n,
		    CONF_SERVERS_MAX - 1);
}

/* TLS towards the upstream: who is it? */
static void
check_tls(struct conf_loading *ld)
{
	const struct conf *c = ld->c;
	const char *name = c->upstream_ca_file ? "upstream.ca-file" : "upstream.server-name";
	bool is_unix = false;

	if (!c->upstream_tls && (c->upstream_ca_file || c->upstream_server_name))
		conf_mistake(ld, conf_pos_of(ld, name), "%s without upstream.tls = true; add it, or leave the other out", name);
	for (size_t i = 0; i < count_servers(c); i++)
		is_unix = is_unix || (server(c, i) && strncmp(server(c, i), "unix:", 5) == 0);
	if (c->upstream_tls && !c->upstream_server_name && is_unix)
		conf_mistake(ld, conf_pos_of(ld, "upstream.tls"),
		    "upstream.tls over a Unix socket needs upstream.server-name: the name that the certificate must bear");
}

static bool
is_visible(const char *z)
{
	while ((unsigned char)*z > ' ' && (unsigned char)*z < 0x7f)
		z++;
	return *z == '\0';
}

static void
check_health(struct conf_loading *ld)
{
	const char *path = ld->c->upstream_health_path, *host = ld->c->upstream_health_host;

	if (path && (!conf_is_url_path(path) || !is_visible(path)))
		conf_mistake(ld, conf_pos_of(ld, "upstream.health-path"),
		    "upstream.health-path = \"%s\" is no URL path; begin it with /, without query, not percent-encoded", path);
	if (host && (host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]")] || !*host))
		conf_mistake(ld, conf_pos_of(ld, "upstream.health-host"),
		    "upstream.health-host = \"%s\" is no host; write it as a URL has it, like \"www.example.org\"", host);
}

void
conf_check_upstream(struct conf_loading *ld)
{
	check_servers(ld);
	check_tls(ld);
	check_health(ld);
}
