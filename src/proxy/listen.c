#include "proxy/listen.h"

#include <string.h>

#include "io/addr.h"
#include "io/inherit.h"

static enum err
start_one(struct http_server *http, struct inherit *in, const char *where, struct str *ready, struct errbuf *eb)
{
	struct addr a;
	char text[128];
	enum err e = addr_parse(&a, where, eb);
	int fd;

	if (e != ERR_OK)
		return ERR_INVAL;
	fd = inherit_take(in, &a);
	if (fd >= 0)
		http_server_adopt(http, fd);
	else if ((e = http_server_listen(http, &a, 0666, eb)) != ERR_OK)
		return e;
	addr_text(&a, text);
	str_printf(ready, "%s%s", ready->len == 0 ? "" : ", ", text);
	if (ready->len > 2 && strcmp(ready->p + ready->len - 2, ":0") == 0) {
		/* The kernel chose. */
		ready->len--;
		str_printf(ready, "%u", http_server_port(http));
	}
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
		e = start_one(http, &in, c->listen.v[i], ready, eb);
	/* Who connects to it would wait for an answer in vain. */
	if (e == ERR_OK && inherit_left(&in, left))
		e = err_set(eb, ERR_INVAL, "a socket on %s was passed to us, and proxy.listen does not name it", left);
	*inherited = in.n > 0;
	return e;
}
