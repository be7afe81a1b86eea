#include "io/http_server.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/http_conn.h"

#define BACKLOG 4096
#define ACCEPTS 64		/* at once, then the connections have their turn */
#define RETRY_MS 100		/* after accept found no descriptor left */
#define SWEEP_MAX_MS 1000

struct listener {
	struct list node;
	struct http_server *server;
	struct loop_fd fd;
	bool tls;
};

const char *
http_close_name(enum http_close r)
{
	static const char *const names[HTTP_CLOSE_COUNT] = {
#define HTTP_CLOSE(name, text) [HTTP_CLOSE_##name] = #name,
#include "io/http_close.def"
#undef HTTP_CLOSE
	};
	ASSERT(r < HTTP_CLOSE_COUNT);
	return names[r];
}

void
http_server_enter(struct http_server *s)
{
	s->busy++;
}

void
http_server_leave(struct http_server *s)
{
	if (--s->busy > 0 || !s->freed)
		return;
	for (struct http_work *w; (w = s->store);) {
		s->store = w->next;
		mem_free(w);
	}
	pipes_fini(&s->pipes);
	str_fini(&s->reply);
	map_free(&s->addresses);
	tls_server_free(&s->tls);
	mem_free(s);
}

static void
watch_listeners(struct http_server *s)
{
	bool on = !s->starved && (s->o.conns_max == 0 || s->nconns < s->o.conns_max);
	struct list *it, *nxt;
	LIST_FOREACH (it, nxt, &s->listeners)
		loop_fd_want(&LIST_ENTRY(it, struct listener, node)->fd, on ? LOOP_READ : 0);
}

static void
on_retry(void *arg)
{
	struct http_server *s = arg;
	s->starved = false;
	watch_listeners(s);
}

void
http_server_conn_gone(struct http_server *s)
{
	s->nconns--;
	watch_listeners(s);
}

/* A deadline is late by an eighth of the shortest time at most; one timer for all costs no call per request. */
static uint64_t
sweep_ms(const struct http_server *s)
{
	const uint64_t times[] = {s->o.header_timeout, s->o.idle_timeout, s->o.body_timeout, s->o.write_timeout,
	    s->o.min_rate > 0 ? s->o.min_rate_after : 0};
	uint64_t ms = SWEEP_MAX_MS * 8;
	for (size_t i = 0; i < sizeof times / sizeof *times; i++)
		if (times[i] > 0 && times[i] < ms)
			ms = times[i];
	return ms < 16 ? 2 : ms / 8;
}

static void
on_sweep(void *arg)
{
	struct http_server *s = arg;
	uint64_t now = clock_mono_ms();
	struct list *it, *nxt;
	LIST_FOREACH (it, nxt, &s->conns) {
		struct http_conn *c = LIST_ENTRY(it, struct http_conn, node);
		if ((c->read_by > 0 && c->read_by <= now) || (c->w && c->w->write_by > 0 && c->w->write_by <= now)) {
			c->expired = true;
			http_conn_kick(c);
			continue;
		}
		enum http_close slow = http_rate_check(c, now);
		if (slow != HTTP_CLOSE_NONE) {
			c->w->slow = slow;
			http_conn_kick(c);
		}
	}
	if (s->nconns > 0)
		loop_timer_set(&s->sweep, sweep_ms(s));
}

static void
accepted(struct http_server *s, int fd, const struct sockaddr *sa, bool tls)
{
	struct http_conn *c = http_conn_new(s, fd, sa, tls ? s->tls : NULL);
	s->nconns++;
	if (!loop_timer_pending(&s->sweep))
		loop_timer_set(&s->sweep, sweep_ms(s));
	if (s->cb.on_open)
		s->cb.on_open(c);
	/* Of a balancer's it is not known yet whose it is. */
	if (c->state != CONN_PREFACE && !http_address_enter(c))
		http_conn_close(c, HTTP_CLOSE_ADDRESS_LIMIT);
}

static void
on_accept(void *arg, int what)
{
	struct listener *ls = arg;
	struct http_server *s = ls->server;
	int sock = ls->fd.fd;
	(void)what;
	http_server_enter(s);
	for (int i = 0; i < ACCEPTS && !s->freed && !s->draining; i++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof ss;
		if (s->o.conns_max > 0 && s->nconns >= s->o.conns_max)
			break;
		ss.ss_family = AF_UNSPEC;
		int fd = accept4(sock, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			accepted(s, fd, (struct sockaddr *)&ss, ls->tls);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			log_warn("http", "accept: %s; trying again every %d ms", strerror(errno), RETRY_MS);
			s->starved = true;
			loop_timer_set(&s->retry, RETRY_MS);
			break;
		} else if (errno != ECONNABORTED && errno != EINTR) {
			break;
		}
	}
	if (!s->freed)
		watch_listeners(s);
	http_server_leave(s);
}

struct http_server *
http_server_new(struct loop *l, const struct http_server_opts *o, const struct http_server_cb *cb, void *arg)
{
	struct http_server *s = mem_alloc(sizeof *s);
	memset(s, 0, offsetof(struct http_server, head));
	ASSERT(cb->on_request && cb->on_done);
	s->loop = l;
	s->o = *o;
	s->cb = *cb;
	s->arg = arg;
	list_init(&s->listeners);
	list_init(&s->conns);
	loop_timer_init(&s->retry, l, on_retry, s);
	loop_timer_init(&s->sweep, l, on_sweep, s);
	return s;
}

void
http_server_set_opts(struct http_server *s, const struct http_server_opts *o)
{
	s->o = *o;
	watch_listeners(s);
	if (s->nconns > 0)
		loop_timer_set(&s->sweep, sweep_ms(s));
}

void
http_server_adopt(struct http_server *s, int fd, bool tls)
{
	unsigned *port = tls ? &s->tls_port : &s->port;
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	int one = 1;
	ASSERT(!tls || s->tls != NULL);
	if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0 && ss.ss_family != AF_UNIX) {
		/* Accepted sockets inherit it: an answer is one write, nothing is to be waited for. */
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		if (*port == 0)
			*port = ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port
							       : ((struct sockaddr_in *)&ss)->sin_port);
	}
	struct listener *ls = mem_zalloc(sizeof *ls);
	ls->server = s;
	ls->tls = tls;
	loop_fd_init(&ls->fd, s->loop, fd, on_accept, ls);
	list_add_tail(&s->listeners, &ls->node);
	watch_listeners(s);
}

static enum err
listen_on(struct http_server *s, const struct addr *a, unsigned mode, bool tls, struct errbuf *eb)
{
	int fd;
	enum err e = addr_listen(a, BACKLOG, mode, &fd, eb);
	if (e == ERR_OK)
		http_server_adopt(s, fd, tls);
	return e;
}

enum err
http_server_listen(struct http_server *s, const struct addr *a, unsigned mode, struct errbuf *eb)
{
	return listen_on(s, a, mode, false, eb);
}

enum err
http_server_listen_tls(struct http_server *s, const struct addr *a, unsigned mode, struct errbuf *eb)
{
	return listen_on(s, a, mode, true, eb);
}

void
http_server_set_tls(struct http_server *s, struct tls_server *tls)
{
	struct tls_server *old = s->tls;
	s->tls = tls_server_ref(tls);
	tls_server_free(&old);
}

unsigned
http_server_tls_port(const struct http_server *s)
{
	return s->tls_port;
}

unsigned
http_server_port(const struct http_server *s)
{
	return s->port;
}

static void
close_listeners(struct http_server *s)
{
	struct listener *ls;
	while ((ls = LIST_FIRST(&s->listeners, struct listener, node))) {
		int fd = ls->fd.fd;
		list_del(&ls->node);
		loop_fd_fini(&ls->fd);
		close(fd);
		mem_free(ls);
	}
}

void
http_server_drain(struct http_server *s, uint64_t idle_ms)
{
	struct list *it, *nxt;
	s->draining = true;
	s->idle_until = clock_mono_ms() + idle_ms;
	close_listeners(s);
	LIST_FOREACH (it, nxt, &s->conns)
		http_conn_kick(LIST_ENTRY(it, struct http_conn, node));
}

unsigned
http_server_conns(const struct http_server *s)
{
	return s->nconns;
}

void
http_server_free(struct http_server **sp)
{
	struct http_server *s = *sp;
	if (!s)
		return;
	*sp = NULL;
	http_server_enter(s);
	close_listeners(s);
	while (!list_empty(&s->conns))
		http_conn_close(LIST_FIRST(&s->conns, struct http_conn, node), HTTP_CLOSE_SHUTDOWN);
	loop_timer_fini(&s->retry);
	loop_timer_fini(&s->sweep);
	s->freed = true;
	http_server_leave(s);
}

void *
http_server_arg(const struct http_server *s)
{
	return s->arg;
}

const char *
http_server_date(struct http_server *s)
{
	int64_t now = (int64_t)(clock_real_ms() / 1000);
	if (now != s->date_s) {
		memcpy(s->date, "Date: ", 6);
		clock_http_date(now, s->date + 6);
		memcpy(s->date + 35, "\r\n", 3);
		s->date_s = now;
	}
	return s->date;
}
