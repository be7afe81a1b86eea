#include "store/r2_peer.h"

#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "io/http_peer.h"
#include "io/tls.h"
#include "store/r2_req.h"

enum {
	FRESH_MS = 60 * 1000,	/* how long the name's addresses are believed */
	AGAIN_MS = 1000,	/* ... and at least, if nothing answers there, or the resolver fails */
	IDLE_MS = 30 * 1000	/* the server may close earlier: a GET is then sent once more */
};

/* The name, asked for on a pool thread. It outlives its owner. */
struct lookup {
	struct pool_job job;
	struct r2_peer *owner;
	char *where;
	struct addr addrs[HTTP_PEER_ADDRS];
	unsigned n;
	enum err e;
	struct errbuf why;
};

struct r2_peer {
	struct r2 *r2;
	struct http_peer *http;
	char *where;		/* "host:port" */
	struct errbuf bad;	/* why there is no TLS to be had; "" if nothing is wrong */
	bool known;		/* the engine has an address */
	uint64_t fresh_until;	/* monotonic ms; UINT64_MAX: a number needs no asking */
	struct lookup *lookup;	/* in work */
	struct list waiting;	/* requests until there is an address */
};

/* The engine's callbacks. */

static void
got_head(void *arg, const struct http1_head *h)
{
	struct r2_req *q = arg;
	size_t bytes = 0;
	char *p;

	for (unsigned i = 0; i < h->nh; i++)
		bytes += h->h[i].name.n + h->h[i].value.n + 2;
	mem_free(q->answers);
	q->answers = p = mem_alloc(bytes > 0 ? bytes : 1);
	for (unsigned i = 0; i < h->nh; i++) {
		const struct http1_slice v[2] = { h->h[i].name, h->h[i].value };

		for (unsigned k = 0; k < 2; k++) {
			memcpy(p, v[k].p, v[k].n);
			p += v[k].n;
			*p++ = '\0';
		}
	}
	q->nanswers = h->nh;
	r2_req_got_head(q, h->status);
}

static void
got_data(void *arg, const void *p, size_t n)
{
	r2_req_got_data(arg, p, n);
}

static void
got_done(void *arg, enum err e, bool sent, const char *why)
{
	struct r2_req *q = arg;
	struct r2_peer *p = q->r2->peer;
	uint64_t soon = clock_mono_ms() + AGAIN_MS;

	(void)sent;
	q->get = NULL;
	loop_timer_cancel(&q->limit);
	/* Nobody answers at any of the addresses: they may have changed. */
	if (e == ERR_CONNECT && p->fresh_until != UINT64_MAX && p->fresh_until > soon)
		p->fresh_until = soon;
	r2_req_got_done(q, e, why);
}

static const struct http_peer_cb engine_cb = { .on_head = got_head, .on_data = got_data, .done = got_done };

static void
start(struct r2_peer *p, struct r2_req *q)
{
	struct http_peer_req_opts o = { .head = &q->head, .framing = HTTP1_NO_BODY, .repeatable = true,
		.timeout_ms = q->stall_ms > 0 ? q->stall_ms : q->limit_ms };

	q->get = http_peer_start(p->http, &o, &engine_cb, q);
	if (q->paused)
		http_peer_pause(q->get);
}

/* The name. */

static void
lookup_work(void *arg)
{
	struct lookup *l = arg;

	l->e = addr_resolve(l->addrs, HTTP_PEER_ADDRS, &l->n, l->where, &l->why);
}

static void
lookup_free(void *arg)
{
	struct lookup *l = arg;

	mem_free(l->where);
	mem_free(l);
}

static void
lookup_done(void *arg)
{
	struct lookup *l = arg;
	struct r2_peer *p = l->owner;

	p->lookup = NULL;
	if (l->e == ERR_OK) {
		http_peer_set_addrs(p->http, l->addrs, l->n);
		p->known = true;
	}
	p->fresh_until = clock_mono_ms() + (l->e == ERR_OK ? FRESH_MS : p->known ? AGAIN_MS : 0);
	/* What is known goes on being used while the resolver fails. None of these calls back. */
	while (!list_empty(&p->waiting)) {
		struct r2_req *q = LIST_FIRST(&p->waiting, struct r2_req, node);

		list_del(&q->node);
		if (p->known) {
			start(p, q);
		} else {
			loop_timer_cancel(&q->limit);
			r2_req_refuse(q, ERR_CONNECT, l->why.text);
		}
	}
	lookup_free(l);
}

static void
look_up(struct r2_peer *p)
{
	struct lookup *l;

	if (p->lookup != NULL || p->fresh_until > clock_mono_ms())
		return;
	p->lookup = l = mem_zalloc(sizeof *l);
	l->owner = p;
	l->where = mem_strdup(p->where);
	pool_submit(p->r2->pool, &l->job, lookup_work, lookup_done, l);
}

/* The rest of r2_peer.h. */

static void
on_limit(void *arg)
{
	struct r2_req *q = arg;

	r2_peer_cancel(q);
	metrics_add(METRIC_R2_ERRORS, err_name(ERR_TIMEOUT), 1);
	r2_req_got_done(q, ERR_TIMEOUT, "no end in time");
}

void
r2_peer_send(struct r2_req *q, struct str *head)
{
	struct r2_peer *p = q->r2->peer;

	str_fini(&q->head);
	q->head = *head;
	str_init(head);
	if (q->limit.loop == NULL)
		loop_timer_init(&q->limit, q->r2->loop, on_limit, q);
	if (p->bad.text[0] != '\0') {
		r2_req_refuse(q, ERR_CONNECT, p->bad.text);
		return;
	}
	if (q->limit_ms > 0)
		loop_timer_set(&q->limit, q->limit_ms);
	look_up(p);
	if (p->known)
		start(p, q);
	else
		list_add_tail(&p->waiting, &q->node);
}

void
r2_peer_cancel(struct r2_req *q)
{
	list_del(&q->node);
	http_peer_cancel(&q->get);
	loop_timer_fini(&q->limit);
}

void
r2_peer_pause(struct r2_req *q)
{
	if (q->get != NULL)
		http_peer_pause(q->get);
}

void
r2_peer_resume(struct r2_req *q)
{
	if (q->get != NULL)
		http_peer_resume(q->get);
}

const char *
r2_peer_answer(const struct r2_req *q, const char *name)
{
	const char *p = q->answers;

	for (unsigned i = 0; i < q->nanswers; i++) {
		const char *value = p + strlen(p) + 1;

		if (strcasecmp(p, name) == 0)
			return value;
		p = value + strlen(value) + 1;
	}
	return NULL;
}

/* "host:port" of an endpoint's authority; host: without the port, and without brackets. */
static void
split(const char *origin, char **where, char **host)
{
	const char *authority = strstr(origin, "://") + 3, *end = authority[0] == '[' ? strchr(authority, ']') : strchr(authority, ':');
	struct str s = STR_INIT;
	bool https = strncmp(origin, "https:", 6) == 0;

	str_addz(&s, authority);
	if (end == NULL || strchr(end, ':') == NULL)
		str_addz(&s, https ? ":443" : ":80");
	*where = str_take(&s);
	if (authority[0] == '[' && end != NULL)
		*host = mem_strndup(authority + 1, (size_t)(end - authority) - 1);
	else
		*host = mem_strndup(authority, end != NULL ? (size_t)(end - authority) : strlen(authority));
}

struct r2_peer *
r2_peer_new(struct r2 *r2)
{
	const struct conf *c = r2->conf;
	struct r2_peer *p = mem_zalloc(sizeof *p);
	struct http_peer_opts o = { .name = "r2", .idle_metric = METRIC_R2_IDLE, .errors_metric = METRIC_R2_ERRORS,
		.connect_timeout_ms = c->r2_connect_timeout, .timeout_ms = c->r2_request_limit, .idle_timeout_ms = IDLE_MS,
		.keepalive = (unsigned)c->r2_connections, .connections = (unsigned)c->r2_connections };
	struct errbuf eb;
	char *host;

	p->r2 = r2;
	list_init(&p->waiting);
	split(r2->origin, &p->where, &host);
	if (strncmp(r2->origin, "https:", 6) == 0 && tls_client_new(&o.tls, host, c->r2_ca_file, &eb) != ERR_OK)
		p->bad = eb;
	mem_free(host);
	if (!addr_is_name(p->where)) {
		p->fresh_until = UINT64_MAX;
		p->known = true;
		o.address = p->where;
	}
	if (http_peer_new(&p->http, r2->loop, &o, &eb) != ERR_OK)
		p->bad = eb;
	tls_client_free(&o.tls);
	return p;
}

void
r2_peer_free(struct r2_peer **pp)
{
	struct r2_peer *p = *pp;

	if (p == NULL)
		return;
	*pp = NULL;
	if (p->lookup != NULL)
		pool_cancel(&p->lookup->job, lookup_free);
	http_peer_free(&p->http);
	mem_free(p->where);
	mem_free(p);
}
