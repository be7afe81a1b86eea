#include "proxy/upstream.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "proxy/health.h"

_Static_assert((int)BALANCE_MAX == (int)CONF_SERVERS_MAX, "as many servers as can be configured");

struct one {
	struct upstream *up;
	struct http_peer *peer;
	struct health health;
	struct metric_cell *requests, *failures;
	char *address;
	char why[128];		/* of its last failure */
};

struct upstream {
	struct balance balance;
	struct one v[BALANCE_MAX];
};

static unsigned
count_of(const struct conf *c)
{
	ASSERT(c->upstream_more.n < BALANCE_MAX);
	return 1 + (unsigned)c->upstream_more.n;
}

static const char *
address_of(const struct conf *c, unsigned i)
{
	return i == 0 ? c->upstream : c->upstream_more.v[i - 1];
}

static unsigned
index_of(const struct one *s)
{
	return (unsigned)(s - s->up->v);
}

/* "host:port" or "[v6]:port" without the port. */
static char *
host_of(const char *address)
{
	const char *from = address[0] == '[' ? address + 1 : address, *to = strrchr(address, address[0] == '[' ? ']' : ':');

	return mem_strndup(from, to != NULL ? (size_t)(to - from) : strlen(from));
}

void
upstream_tls_free(struct upstream_tls *t)
{
	unsigned i;

	for (i = 0; i < BALANCE_MAX; i++)
		tls_client_free(&t->v[i]);
}

enum err
upstream_tls_new(struct upstream_tls *t, const struct conf *c, struct errbuf *eb)
{
	enum err e = ERR_OK;
	unsigned i;

	*t = (struct upstream_tls){ { NULL } };
	for (i = 0; c->upstream_tls && i < count_of(c) && e == ERR_OK; i++) {
		char *host = c->upstream_server_name != NULL ? mem_strdup(c->upstream_server_name) : host_of(address_of(c, i));

		e = tls_client_new(&t->v[i], host, c->upstream_ca_file, eb);
		mem_free(host);
	}
	if (e != ERR_OK)
		upstream_tls_free(t);
	return e;
}

/* It has gone down, or come back. */
static void
tell(const struct one *s)
{
	bool up = balance_up(&s->up->balance, index_of(s));

	metrics_set(METRIC_UPSTREAM_UP, s->address, up);
	/* One alone gets every request, up or down. */
	if (s->up->balance.n == 1)
		return;
	if (up)
		log_info("upstream", "%s is up again", s->address);
	else
		log_warn("upstream", "%s is down, others get its requests: %s", s->address, s->why);
}

static struct one *
pick(struct upstream *up, uint32_t tried, bool safe)
{
	unsigned busy[BALANCE_MAX], i;
	int picked;

	for (i = 0; i < up->balance.n; i++)
		busy[i] = http_peer_busy(up->v[i].peer);
	picked = balance_pick(&up->balance, busy, tried, safe, clock_mono_ms());
	if (picked == BALANCE_NONE)
		return NULL;
	metrics_cell_add(up->v[picked].requests, 1);
	return &up->v[picked];
}

static struct http_peer *
on_attempt(void *arg, enum err e, const char *why, bool may, uint32_t *tried)
{
	struct one *s = arg, *next;

	if (e == ERR_OK) {
		if (balance_ok(&s->up->balance, index_of(s)))
			tell(s);
		return NULL;
	}
	metrics_cell_add(s->failures, 1);
	snprintf(s->why, sizeof s->why, "%s", why);
	if (balance_failed(&s->up->balance, index_of(s), clock_mono_ms()))
		tell(s);
	*tried |= 1u << index_of(s);
	next = may ? pick(s->up, *tried, true) : NULL;
	return next != NULL ? next->peer : NULL;
}

static void
on_checked(void *arg, bool well, const char *why)
{
	struct one *s = arg;

	if (!well)
		snprintf(s->why, sizeof s->why, "%s", why);
	if (balance_checked(&s->up->balance, index_of(s), well))
		tell(s);
}

static struct http_peer_opts
options(const struct conf *c, struct one *s, struct tls_client *tls)
{
	return (struct http_peer_opts){
		.name = "upstream",
		.address = s->address,
		.idle_metric = METRIC_UPSTREAM_IDLE,
		.errors_metric = METRIC_UPSTREAM_ERRORS,
		.connect_timeout_ms = c->upstream_connect_timeout,
		.timeout_ms = c->upstream_timeout,
		.idle_timeout_ms = c->upstream_idle_timeout,
		.keepalive = (unsigned)c->upstream_keepalive,
		.tls = tls,
		.on_attempt = on_attempt,
		.attempt_arg = s,
	};
}

static void
set_balance(struct upstream *up, const struct conf *c)
{
	unsigned i;

	balance_limits(&up->balance, (unsigned)c->upstream_fail_max, c->upstream_fail_time);
	for (i = 0; i < up->balance.n; i++) {
		/* Nobody would find out that it is well again. */
		if (c->upstream_health_path == NULL)
			on_checked(&up->v[i], true, "");
		health_set(&up->v[i].health, c->upstream_health_path, c->upstream_health_host, c->upstream_health_interval);
	}
}

static enum err
open_one(struct upstream *up, unsigned i, struct loop *l, const struct conf *c, struct tls_client *tls, struct errbuf *eb)
{
	struct one *s = &up->v[i];
	struct http_peer_opts o;
	enum err e;

	s->up = up;
	s->address = mem_strdup(address_of(c, i));
	o = options(c, s, tls);
	e = http_peer_new(&s->peer, l, &o, eb);
	if (e != ERR_OK)
		return e;
	health_init(&s->health, l, s->peer, on_checked, s);
	s->requests = metrics_cell(METRIC_UPSTREAM_REQUESTS, (const char *const[]){ s->address }, 1);
	s->failures = metrics_cell(METRIC_UPSTREAM_FAILURES, (const char *const[]){ s->address }, 1);
	metrics_set(METRIC_UPSTREAM_UP, s->address, 1);
	return ERR_OK;
}

enum err
upstream_new(struct upstream **out, struct loop *l, const struct conf *c, struct errbuf *eb)
{
	struct upstream *up;
	struct upstream_tls tls;
	enum err e = upstream_tls_new(&tls, c, eb);
	unsigned i;

	if (e != ERR_OK)
		return e;
	up = mem_zalloc(sizeof *up);
	balance_init(&up->balance, count_of(c));
	for (i = 0; i < up->balance.n && e == ERR_OK; i++)
		e = open_one(up, i, l, c, tls.v[i], eb);
	upstream_tls_free(&tls);
	if (e != ERR_OK) {
		upstream_free(&up);
		return e;
	}
	set_balance(up, c);
	*out = up;
	return ERR_OK;
}

void
upstream_set_conf(struct upstream *up, const struct conf *c, struct upstream_tls *tls)
{
	unsigned i;

	for (i = 0; i < up->balance.n; i++) {
		struct http_peer_opts o = options(c, &up->v[i], tls->v[i]);

		http_peer_set_opts(up->v[i].peer, &o);
	}
	upstream_tls_free(tls);
	set_balance(up, c);
}

void
upstream_free(struct upstream **upp)
{
	struct upstream *up = *upp;
	unsigned i;

	if (up == NULL)
		return;
	*upp = NULL;
	for (i = 0; i < up->balance.n; i++) {
		struct one *s = &up->v[i];

		if (s->peer != NULL)
			health_fini(&s->health);
		http_peer_free(&s->peer);
		mem_free(s->address);
	}
	mem_free(up);
}

struct http_peer_req *
upstream_start(struct upstream *up, const struct http_peer_req_opts *o, const struct http_peer_cb *cb, void *arg)
{
	struct one *s = pick(up, 0, o->safe);

	ASSERT(s != NULL);
	return http_peer_start(s->peer, o, cb, arg);
}

unsigned
upstream_count(const struct upstream *up)
{
	return up->balance.n;
}

void
upstream_state(const struct upstream *up, unsigned i, struct upstream_state *out)
{
	const struct one *s = &up->v[i];
	bool is_up = balance_up(&up->balance, i);

	*out = (struct upstream_state){ s->address, is_up ? "" : s->why, is_up, http_peer_busy(s->peer), http_peer_idle(s->peer) };
}
