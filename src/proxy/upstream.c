#include "proxy/upstream.h"

#include <string.h>

#include "base/mem.h"

static struct http_peer_opts
options(const struct conf *c, struct tls_client *tls)
{
	return (struct http_peer_opts){
		.name = "upstream",
		.address = c->upstream,
		.idle_metric = METRIC_UPSTREAM_IDLE,
		.errors_metric = METRIC_UPSTREAM_ERRORS,
		.connect_timeout_ms = c->upstream_connect_timeout,
		.timeout_ms = c->upstream_timeout,
		.idle_timeout_ms = c->upstream_idle_timeout,
		.keepalive = (unsigned)c->upstream_keepalive,
		.tls = tls,
	};
}

/* "host:port" or "[v6]:port" without the port. */
static char *
host_of(const char *address)
{
	const char *from = address[0] == '[' ? address + 1 : address, *to = strrchr(address, address[0] == '[' ? ']' : ':');

	return mem_strndup(from, to != NULL ? (size_t)(to - from) : strlen(from));
}

enum err
upstream_tls(struct tls_client **tls, const struct conf *c, struct errbuf *eb)
{
	char *host;
	enum err e;

	*tls = NULL;
	if (!c->upstream_tls)
		return ERR_OK;
	host = c->upstream_server_name != NULL ? mem_strdup(c->upstream_server_name) : host_of(c->upstream);
	e = tls_client_new(tls, host, c->upstream_ca_file, eb);
	mem_free(host);
	return e;
}

enum err
upstream_new(struct http_peer **peer, struct loop *l, const struct conf *c, struct errbuf *eb)
{
	struct tls_client *tls;
	struct http_peer_opts o;
	enum err e = upstream_tls(&tls, c, eb);

	if (e != ERR_OK)
		return e;
	o = options(c, tls);
	e = http_peer_new(peer, l, &o, eb);
	tls_client_free(&tls);
	return e;
}

void
upstream_set_conf(struct http_peer *peer, const struct conf *c, struct tls_client **tls)
{
	struct http_peer_opts o = options(c, *tls);

	http_peer_set_opts(peer, &o);
	tls_client_free(tls);
}
