#include "proxy/client.h"

#include "base/log.h"
#include "base/metrics.h"
#include "proxy/accesslog.h"
#include "proxy/count.h"
#include "proxy/request.h"
#include "proxy/server.h"

static void
on_request(struct http_conn *c, const struct http1_head *head)
{
	request_begin(http_server_arg(http_conn_server(c)), c, head);
}

static void
on_body(struct http_conn *c, const void *p, size_t n)
{
	request_body(http_conn_get(c), p, n);
}

static void
on_body_end(struct http_conn *c)
{
	request_body_end(http_conn_get(c));
}

static void
on_drain(struct http_conn *c)
{
	request_drain(http_conn_get(c));
}

static void
on_done(struct http_conn *c, bool ok, enum http_close why)
{
	struct request *r = http_conn_get(c);

	http_conn_set(c, NULL);
	request_over(r, ok, why);
}

static void
on_open(struct http_conn *c)
{
	(void)c;
	metrics_add(METRIC_CONNS, NULL, 1);
	metrics_add(METRIC_CONNS_OPEN, NULL, 1);
}

static void
on_close(struct http_conn *c, enum http_close why)
{
	metrics_add(METRIC_CONNS_OPEN, NULL, -1);
	metrics_add(METRIC_CLOSES, http_close_name(why), 1);
	server_conn_closed(http_server_arg(http_conn_server(c)));
}

static void
on_bad(struct http_conn *c, enum http1_bad bad)
{
	struct server *sv = http_server_arg(http_conn_server(c));
	int status = http1_bad_status(bad);

	count_malformed(status);
	if (sv->accesslog != NULL)
		accesslog_add_bad(sv->accesslog, sv->snap, http_conn_peer(c), status);
	if (log_on(LOG_LVL_DEBUG))
		log_debug("proxy", "%s: malformed request: %s", http_conn_peer(c), http1_bad_text(bad));
}

const struct http_server_cb client_callbacks = {
	.on_request = on_request,
	.on_body = on_body,
	.on_body_end = on_body_end,
	.on_drain = on_drain,
	.on_done = on_done,
	.on_open = on_open,
	.on_close = on_close,
	.on_bad = on_bad,
};

void
client_opts(const struct conf *c, struct http_server_opts *o)
{
	*o = (struct http_server_opts){
		.limits = { .head_max = c->header_max, .target_max = c->target_max, .headers_max = 100 },
		.header_timeout = c->header_timeout,
		.idle_timeout = c->idle_timeout,
		.body_timeout = c->body_timeout,
		.write_timeout = c->body_timeout,
		.min_rate = c->min_rate,
		.min_rate_after = c->min_rate_after,
		.requests_max = 1000,
		.conns_max = (unsigned)c->conns_max,
		.conns_per_address = (unsigned)c->conns_per_address,
		.out_high = 64 * 1024,
		.balancers = c->balancers,
		.nbalancers = c->proxy_protocol.n,
		.proxies = c->proxies,
		.nproxies = c->trusted_proxies.n,
	};
}
