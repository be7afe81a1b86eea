#include "proxy/listen.h"

#include <string.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "io/addr.h"
#include "io/inherit.h"
#include "proxy/client.h"

enum err
listen_tls(const struct conf *c, struct tls_server **tls, struct errbuf *eb)
{
	struct tls_pair *pairs;
	enum err e;

	*tls = NULL;
	if (c->tls_listen.n == 0)
		return ERR_OK;
	pairs = mem_calloc(c->ncertificates, sizeof *pairs);
	for (size_t i = 0; i < c->ncertificates; i++)
		pairs[i] = (struct tls_pair){ c->certificates[i].file, c->certificates[i].chain, c->certificates[i].key };
	e = tls_server_new(tls, pairs, c->ncertificates, c->tls_min == CONF_TLS_1_3, eb);
	mem_free(pairs);
	return e;
}

void
listen_use(struct http_server *http, const struct conf *c, struct tls_server **tls)
{
	struct http_server_opts opts;
	int64_t end = 0;

	client_opts(c, &opts);
	http_server_set_opts(http, &opts);
	if (*tls == NULL)
		return;
	http_server_set_tls(http, *tls);
	tls_server_free(tls);
	for (size_t i = 0; i < c->ncertificates; i++)
		if (i == 0 || c->certificates[i].not_after < end)
			end = c->certificates[i].not_after;
	metrics_set(METRIC_TLS_CERTS_END, NULL, end);
}

static enum err
start_one(struct http_server *http, struct inherit *in, const char *where, bool tls, struct str *ready, struct errbuf *eb)
{
	struct addr a;
	char text[128];
	enum err e = addr_parse(&a, where, eb);
	int fd;

	if (e != ERR_OK)
		return ERR_INVAL;
	fd = inherit_take(in, &a);
	if (fd >= 0)
		http_server_adopt(http, fd, tls);
	else if ((e = (tls ? http_server_listen_tls : http_server_listen)(http, &a, 0666, eb)) != ERR_OK)
		return e;
	addr_text(&a, text);
	str_printf(ready, "%s%s", ready->len == 0 ? "" : ", ", text);
	if (ready->len > 2 && strcmp(ready->p + ready->len - 2, ":0") == 0) {
		/* The kernel chose. */
		ready->len--;
		str_printf(ready, "%u", tls ? http_server_tls_port(http) : http_server_port(http));
	}
	if (tls)
		str_addz(ready, " (TLS)");
	return ERR_OK;
}

enum err
listen_start(struct http_server *http, const struct conf *c, bool *inherited, struct str *ready, struct errbuf *eb)
{
	struct inherit in;
	char left[128];
	enum err e = inherit_open(&in, eb);
	size_t i;

	for (i = 0; e == ERR_OK && i < c->listen.n; i++)
		e = start_one(http, &in, c->listen.v[i], false, ready, eb);
	for (i = 0; e == ERR_OK && i < c->tls_listen.n; i++)
		e = start_one(http, &in, c->tls_listen.v[i], true, ready, eb);
	/* Who connects to it would wait for an answer in vain. */
	if (e == ERR_OK && inherit_left(&in, left))
		e = err_set(eb, ERR_INVAL, "a socket on %s was passed to us, and neither proxy.listen nor proxy.tls-listen names it", left);
	*inherited = in.n > 0;
	return e;
}
