#include "proxy/admin.h"

#include <string.h>

#include "base/digest.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "io/http_server.h"

/* A request to the admin listener has no body worth reading and little time. */
#define ADMIN_TIMEOUT_MS 10000

struct admin {
	struct http_server *http;
	const struct admin_cb *cb;
	void *arg;
	char *token;	/* NULL: a Unix socket, its mode is the lock */
};

static bool
allowed(const struct admin *a, const struct http1_head *head)
{
	static const char scheme[] = "Bearer ";
	const struct http1_header *h;
	size_t skip = sizeof(scheme) - 1, n;

	if (a->token == NULL)
		return true;
	h = http1_only(head, "authorization");
	n = strlen(a->token);
	return h != NULL && h->value.n == skip + n && memcmp(h->value.p, scheme, skip) == 0 && digest_equal(h->value.p + skip, a->token, n);
}

static void
reply_text(struct http_conn *c, int status, const struct str *s)
{
	http_conn_reply(c, status, "text/plain; charset=utf-8", NULL, str_z(s), s->len);
}

static void
get_ready(struct admin *a, struct http_conn *c)
{
	struct str s = STR_INIT;
	bool ok = a->cb->ready(a->arg, &s);

	if (ok)
		str_addz(&s, "ready\n");
	reply_text(c, ok ? 200 : 503, &s);
	str_fini(&s);
}

static void
get_metrics(struct http_conn *c)
{
	struct str s = STR_INIT;

	metrics_print(&s);
	http_conn_reply(c, 200, "text/plain; version=0.0.4; charset=utf-8", NULL, str_z(&s), s.len);
	str_fini(&s);
}

static void
get_status(struct admin *a, struct http_conn *c)
{
	struct str s = STR_INIT;

	a->cb->status(a->arg, &s);
	http_conn_reply(c, 200, "application/json", NULL, str_z(&s), s.len);
	str_fini(&s);
}

static void
post_reload(struct admin *a, struct http_conn *c)
{
	struct str s = STR_INIT;
	bool ok = a->cb->reload(a->arg, &s);

	if (ok)
		str_addz(&s, "reloaded\n");
	reply_text(c, ok ? 200 : 422, &s);
	str_fini(&s);
}

static void
request_cb(struct http_conn *c, const struct http1_head *head)
{
	static const char not_found[] = "not found: /health /ready /metrics /status, POST /reload\n";
	struct admin *a = http_server_arg(http_conn_server(c));
	bool get = str_slice_eq(head->method.p, head->method.n, "GET");
	bool post = str_slice_eq(head->method.p, head->method.n, "POST");
	struct http1_slice path = head->path;

	if (!allowed(a, head))
		http_conn_reply(c, 403, "text/plain", NULL, "wrong or missing token\n", 23);
	else if (get && str_slice_eq(path.p, path.n, "/health"))
		http_conn_reply(c, 200, "text/plain", NULL, "ok\n", 3);
	else if (get && str_slice_eq(path.p, path.n, "/ready"))
		get_ready(a, c);
	else if (get && str_slice_eq(path.p, path.n, "/metrics"))
		get_metrics(c);
	else if (get && str_slice_eq(path.p, path.n, "/status"))
		get_status(a, c);
	else if (post && str_slice_eq(path.p, path.n, "/reload"))
		post_reload(a, c);
	else
		http_conn_reply(c, 404, "text/plain", NULL, not_found, sizeof(not_found) - 1);
}

static void
body_cb(struct http_conn *c, const void *p, size_t n)
{
	(void)c;
	(void)p;
	(void)n;
}

static void
nothing_cb(struct http_conn *c)
{
	(void)c;
}

static void
done_cb(struct http_conn *c, bool ok, enum http_close why)
{
	(void)c;
	(void)ok;
	(void)why;
}

static const struct http_server_cb server_cbs = {
	.on_request = request_cb,
	.on_body = body_cb,
	.on_body_end = nothing_cb,
	.on_drain = nothing_cb,
	.on_done = done_cb,
};

enum err
admin_new(struct admin **ap, struct loop *l, const struct conf *c, const struct admin_cb *cb, void *arg, struct errbuf *eb)
{
	const struct http_server_opts opts = {
		.limits = {8192, 1024, 32},
		.header_timeout = ADMIN_TIMEOUT_MS,
		.idle_timeout = ADMIN_TIMEOUT_MS,
		.body_timeout = ADMIN_TIMEOUT_MS,
		.write_timeout = ADMIN_TIMEOUT_MS,
		.conns_max = 64,
		.out_high = 1 << 20,
	};
	struct admin *a;
	struct addr addr;
	enum err e;

	e = addr_parse(&addr, c->admin_listen, eb);
	if (e != ERR_OK)
		return e;
	a = mem_zalloc(sizeof(*a));
	a->cb = cb;
	a->arg = arg;
	if (addr.sa.sa_family != AF_UNIX)
		a->token = mem_strdup(c->admin_token);
	a->http = http_server_new(l, &opts, &server_cbs, a);
	*ap = a;
	e = http_server_listen(a->http, &addr, 0600, eb);
	if (e != ERR_OK)
		admin_free(ap);
	return e;
}

void
admin_free(struct admin **ap)
{
	struct admin *a = *ap;

	if (a == NULL)
		return;
	*ap = NULL;
	http_server_free(&a->http);
	if (a->token != NULL)
		mem_wipe_free(a->token, strlen(a->token));
	mem_free(a);
}
