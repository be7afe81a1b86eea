#include "proxy/health.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* An answer's body beyond this is not waited for: its connection is closed instead. */
enum { BODY_MAX = 64 * 1024 };

static void
on_head(void *arg, const struct http1_head *head)
{
	struct health *h = arg;
	char why[64];

	h->status = head->status;
	snprintf(why, sizeof why, "upstream.health-path answered %d", head->status);
	h->on_checked(h->arg, head->status >= 200 && head->status < 400, why);
}

static void
on_data(void *arg, const void *p, size_t n)
{
	struct health *h = arg;

	(void)p;
	h->got += n;
	if (h->got > BODY_MAX)
		http_peer_cancel(&h->req);
}

static void
on_drain(void *arg)
{
	(void)arg;	/* the question has no body */
}

static void
on_done(void *arg, enum err e, bool sent, const char *why)
{
	struct health *h = arg;

	(void)sent;
	h->req = NULL;
	if (e != ERR_OK && h->status == 0)
		h->on_checked(h->arg, false, why);
}

static const struct http_peer_cb callbacks = { .on_head = on_head, .on_data = on_data, .on_drain = on_drain, .done = on_done };

static void
ask(struct health *h)
{
	struct str head = STR_INIT;
	struct http_peer_req_opts o = { .head = &head, .framing = HTTP1_NO_BODY, .timeout_ms = h->interval_ms, .repeatable = true, .alone = true };

	http1_add_request_line(&head, (struct http1_slice){ "GET", 3 }, (struct http1_slice){ h->path, strlen(h->path) });
	http1_add_header(&head, "Host", h->host);
	http1_add_header(&head, "User-Agent", "r2shim");
	http1_end_head(&head);
	h->status = 0;
	h->got = 0;
	h->req = http_peer_start(h->peer, &o, &callbacks, h);
}

static void
on_timer(void *arg)
{
	struct health *h = arg;

	if (h->req != NULL) {
		http_peer_cancel(&h->req);
		if (h->status == 0)
			h->on_checked(h->arg, false, "no answer to upstream.health-path in time");
	}
	loop_timer_set(&h->timer, h->interval_ms);
	ask(h);
}

void
health_init(struct health *h, struct loop *l, struct http_peer *peer, void (*on_checked)(void *arg, bool well, const char *why), void *arg)
{
	*h = (struct health){ .peer = peer, .on_checked = on_checked, .arg = arg };
	loop_timer_init(&h->timer, l, on_timer, h);
}

static void
forget(struct health *h)
{
	mem_free(h->path);
	mem_free(h->host);
	h->path = h->host = NULL;
}

void
health_set(struct health *h, const char *path, const char *host, uint64_t interval_ms)
{
	/* Its answer would be one to another question. */
	http_peer_cancel(&h->req);
	forget(h);
	h->interval_ms = interval_ms;
	if (path == NULL) {
		loop_timer_cancel(&h->timer);
		return;
	}
	h->path = mem_strdup(path);
	h->host = mem_strdup(host);
	loop_timer_set(&h->timer, 0);
}

void
health_fini(struct health *h)
{
	http_peer_cancel(&h->req);
	loop_timer_fini(&h->timer);
	forget(h);
}
