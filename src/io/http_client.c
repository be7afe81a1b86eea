#include "io/http_client.h"

#include <pthread.h>

#include "base/mem.h"
#include "io/http_client_i.h"

#define CA_FILE "/etc/ssl/certs/ca-certificates.crt"

/* A descriptor of libcurl's. */
struct sock {
	struct list node;
	struct http_client *client;
	struct loop_fd fd;
};

CURL *
http_client_easy(struct http_client *c)
{
	CURL *easy;

	if (c->nspare > 0)
		return c->spare[--c->nspare];
	easy = curl_easy_init();
	ASSERT(easy != NULL);
	http_call_options(c, easy);
	return easy;
}

void
http_client_detach(struct http_call *call, bool whole)
{
	struct http_client *c = call->client;

	ASSERT(!c->in_curl);
	if (call->easy == NULL)
		return;
	curl_multi_remove_handle(c->multi, call->easy);
	/* After a whole transfer nothing of it is left in the handle but what the next call sets anew. */
	if (!whole) {
		curl_easy_reset(call->easy);
		http_call_options(c, call->easy);
	}
	curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, NULL);
	curl_easy_setopt(call->easy, CURLOPT_ERRORBUFFER, NULL);
	if (c->nspare < HTTP_CLIENT_SPARE)
		c->spare[c->nspare++] = call->easy;
	else
		curl_easy_cleanup(call->easy);
	call->easy = NULL;
}

static void
reap_cancelled(struct http_client *c)
{
	struct http_call *call;

	while ((call = LIST_FIRST(&c->cancelled, struct http_call, node)) != NULL) {
		http_client_detach(call, false);
		http_call_free(call);
	}
}

static void
destroy(struct http_client *c)
{
	struct list *it, *nxt;
	struct http_call *call;

	reap_cancelled(c);
	while ((call = LIST_FIRST(&c->calls, struct http_call, node)) != NULL) {
		http_client_detach(call, false);
		http_call_free(call);
	}
	/* Off the loop before libcurl closes them. */
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, NULL);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, NULL);
	LIST_FOREACH(it, nxt, &c->socks)
	{
		struct sock *s = LIST_ENTRY(it, struct sock, node);

		loop_fd_fini(&s->fd);
		list_del(it);
		mem_free(s);
	}
	while (c->nspare > 0)
		curl_easy_cleanup(c->spare[--c->nspare]);
	curl_multi_cleanup(c->multi);
	loop_timer_fini(&c->timer);
	loop_call_cancel(&c->soon);
	mem_free(c->ca_file);
	mem_free(c);
}

void
http_client_enter(struct http_client *c)
{
	c->inside++;
}

void
http_client_leave(struct http_client *c)
{
	if (--c->inside == 0 && c->freed)
		destroy(c);
}

/* After each call of libcurl: what ended there ends here. */
static void
settle(struct http_client *c)
{
	CURLMsg *msg;
	int left;

	reap_cancelled(c);
	while (!c->freed && (msg = curl_multi_info_read(c->multi, &left)) != NULL) {
		CURLcode rc = msg->data.result;
		struct http_call *call = NULL;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &call);
		http_call_ended(call, rc);
	}
}

static void
pump(struct http_client *c, curl_socket_t fd, int bits)
{
	int running;

	http_client_enter(c);
	c->in_curl = true;
	ASSERT(curl_multi_socket_action(c->multi, fd, bits, &running) == CURLM_OK);
	c->in_curl = false;
	settle(c);
	http_client_leave(c);
}

static void
on_sock(void *arg, int what)
{
	struct sock *s = arg;

	pump(s->client, s->fd.fd, what == LOOP_READ ? CURL_CSELECT_IN : CURL_CSELECT_OUT);
}

static int
sock_cb(CURL *easy, curl_socket_t fd, int what, void *arg, void *sockp)
{
	struct http_client *c = arg;
	struct sock *s = sockp;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (s != NULL) {
			loop_fd_fini(&s->fd);
			list_del(&s->node);
			mem_free(s);
			curl_multi_assign(c->multi, fd, NULL);
		}
		return 0;
	}
	if (s == NULL) {
		s = mem_zalloc(sizeof *s);
		s->client = c;
		list_add_tail(&c->socks, &s->node);
		loop_fd_init(&s->fd, c->loop, fd, on_sock, s);
		curl_multi_assign(c->multi, fd, s);
	}
	loop_fd_want(&s->fd, (what & CURL_POLL_IN ? LOOP_READ : 0) | (what & CURL_POLL_OUT ? LOOP_WRITE : 0));
	return 0;
}

static int
timer_cb(CURLM *multi, long ms, void *arg)
{
	struct http_client *c = arg;

	(void)multi;
	if (ms < 0)
		loop_timer_cancel(&c->timer);
	else
		loop_timer_set(&c->timer, (uint64_t)ms);
	return 0;
}

static void
on_timer(void *arg)
{
	pump(arg, CURL_SOCKET_TIMEOUT, 0);
}

void
http_client_soon(struct http_call *call)
{
	if (!list_empty(&call->work))
		return;
	list_add_tail(&call->client->work, &call->work);
	loop_call_soon(&call->client->soon);
}

static void
on_soon(void *arg)
{
	struct http_client *c = arg;
	struct http_call *call;
	struct list batch;

	/* What is added meanwhile waits for the next turn. */
	list_init(&batch);
	while ((call = LIST_FIRST(&c->work, struct http_call, work)) != NULL) {
		list_del(&call->work);
		list_add_tail(&batch, &call->work);
	}
	http_client_enter(c);
	while (!c->freed && (call = LIST_FIRST(&batch, struct http_call, work)) != NULL) {
		list_del(&call->work);
		if (call->state == CALL_QUEUED)
			http_call_begin(call);
		else
			http_call_unpause(call);
		reap_cancelled(c);
	}
	/* Freed on the way: the calls go with the client, but batch is this frame's. */
	while ((call = LIST_FIRST(&batch, struct http_call, work)) != NULL)
		list_del(&call->work);
	if (!c->freed)
		pump(c, CURL_SOCKET_TIMEOUT, 0);
	http_client_leave(c);
}

static void
global_init(void)
{
	ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

struct http_client *
http_client_new(struct loop *l, const struct http_client_opts *o)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct http_client *c = mem_zalloc(sizeof *c);

	ASSERT(o->connections > 0);
	(void)pthread_once(&once, global_init);
	c->loop = l;
	c->ca_file = mem_strdup(o->ca_file != NULL ? o->ca_file : CA_FILE);
	c->connect_ms = (long)o->connect_timeout_ms;
	list_init(&c->calls);
	list_init(&c->cancelled);
	list_init(&c->work);
	list_init(&c->socks);
	loop_call_init(&c->soon, l, on_soon, c);
	loop_timer_init(&c->timer, l, on_timer, c);
	c->multi = curl_multi_init();
	ASSERT(c->multi != NULL);
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, sock_cb);
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, timer_cb);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
	curl_multi_setopt(c->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	curl_multi_setopt(c->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)o->connections);
	curl_multi_setopt(c->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)o->connections);
	curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)o->connections);
	return c;
}

void
http_client_free(struct http_client **cp)
{
	struct http_client *c = *cp;
	struct list *it, *nxt;

	if (c == NULL)
		return;
	*cp = NULL;
	c->freed = true;
	LIST_FOREACH(it, nxt, &c->calls)
	LIST_ENTRY(it, struct http_call, node)->cancelled = true;
	if (c->inside == 0)
		destroy(c);
}
