#include "io/http_peer_i.h"

#include <string.h>

#include "base/mem.h"

static void
on_bury(void *arg)
{
	struct http_peer *peer = arg;

	while (!list_empty(&peer->dead)) {
		struct peer_conn *c = LIST_FIRST(&peer->dead, struct peer_conn, node);

		list_del(&c->node);
		str_fini(&c->in);
		str_fini(&c->out);
		mem_free(c);
	}
}

/* A connection has become free, or may be made. */
static void
on_serve(void *arg)
{
	struct http_peer *peer = arg;

	while (!list_empty(&peer->waiting) && peer->nbusy < peer->o.connections) {
		struct http_peer_req *r = LIST_FIRST(&peer->waiting, struct http_peer_req, node);

		list_del(&r->node);
		if (peer_req_begin(r) != ERR_OK)
			peer_req_end(r, ERR_CONNECT, r->why.text);
	}
}

static void
close_list(struct list *head)
{
	while (!list_empty(head)) {
		struct peer_conn *c = LIST_FIRST(head, struct peer_conn, node);
		struct http_peer_req *r = c->req;

		peer_conn_close(c);
		if (r != NULL)
			peer_req_free(r);
	}
}

void
http_peer_set_opts(struct http_peer *peer, const struct http_peer_opts *o)
{
	struct tls_client *old = peer->o.tls;

	/* Who was believed then may not be now. */
	if (old != o->tls)
		close_list(&peer->idle);
	peer->o = *o;
	peer->o.address = NULL;
	if (o->tls != NULL)
		tls_client_ref(o->tls);
	tls_client_free(&old);
}

enum err
http_peer_new(struct http_peer **peerp, struct loop *l, const struct http_peer_opts *o, struct errbuf *eb)
{
	struct http_peer *peer = mem_zalloc(sizeof *peer);
	enum err e = o->address != NULL ? addr_resolve(peer->addrs, HTTP_PEER_ADDRS, &peer->naddrs, o->address, eb) : ERR_OK;

	if (e != ERR_OK) {
		mem_free(peer);
		return e;
	}
	peer->loop = l;
	list_init(&peer->idle);
	list_init(&peer->busy);
	list_init(&peer->dead);
	list_init(&peer->waiting);
	loop_call_init(&peer->bury, l, on_bury, peer);
	loop_call_init(&peer->serve, l, on_serve, peer);
	http_peer_set_opts(peer, o);
	*peerp = peer;
	return ERR_OK;
}

void
http_peer_set_addrs(struct http_peer *peer, const struct addr *v, unsigned n)
{
	ASSERT(n > 0 && n <= HTTP_PEER_ADDRS);
	memcpy(peer->addrs, v, n * sizeof *v);
	peer->naddrs = n;
	peer->at = 0;
}

unsigned
http_peer_idle(const struct http_peer *peer)
{
	return peer->nidle;
}

unsigned
http_peer_busy(const struct http_peer *peer)
{
	return peer->nbusy;
}

void
http_peer_free(struct http_peer **peerp)
{
	struct http_peer *peer = *peerp;

	if (peer == NULL)
		return;
	*peerp = NULL;
	close_list(&peer->idle);
	close_list(&peer->busy);
	while (!list_empty(&peer->waiting))
		peer_req_free(LIST_FIRST(&peer->waiting, struct http_peer_req, node));
	loop_call_cancel(&peer->serve);
	loop_call_cancel(&peer->bury);
	on_bury(peer);
	tls_client_free(&peer->o.tls);
	mem_free(peer);
}
