#include "proxy/upstream.h"

static struct http_peer_opts
options(const struct conf *c)
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
	};
}

enum err
upstream_new(struct http_peer **peer, struct loop *l, const struct conf *c, struct errbuf *eb)
{
	struct http_peer_opts o = options(c);

	return http_peer_new(peer, l, &o, eb);
}

void
upstream_set_conf(struct http_peer *peer, const struct conf *c)
{
	struct http_peer_opts o = options(c);

	http_peer_set_opts(peer, &o);
}
