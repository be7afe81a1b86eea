#include "base/conf_int.h"

#include "base/mem.h"

/* The list's networks, in v. */
static void
check_networks(struct conf_loading *ld, const char *name, const struct conf_list *list, struct network *v)
{
	for (size_t i = 0; i < list->n; i++)
		if (!network_parse(list->v[i], &v[i]))
			conf_mistake(ld, conf_pos_of(ld, name),
			    "%s: \"%s\" is no network; write \"10.0.0.0/8\", \"::1\" or \"unix:\"", name, list->v[i]);
}

void
conf_check_front(struct conf_loading *ld)
{
	struct conf *c = ld->c;

	c->proxies = mem_calloc(c->trusted_proxies.n, sizeof(*c->proxies));
	check_networks(ld, "proxy.trusted-proxies", &c->trusted_proxies, c->proxies);
	c->balancers = mem_calloc(c->proxy_protocol.n, sizeof(*c->balancers));
	check_networks(ld, "proxy.proxy-protocol", &c->proxy_protocol, c->balancers);
}
