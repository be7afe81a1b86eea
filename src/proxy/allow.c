#include "proxy/allow.h"

#include <string.h>

#include "base/digest.h"

bool
allow_ruled(const struct conf_prefix *p)
{
	return p->methods.v != NULL || p->networks.v != NULL || p->token != NULL || p->auth != NULL;
}

/* How long the token is may be learnt from the time this takes; nothing else. */
bool
allow_token(const struct conf_prefix *p, const struct http1_head *h)
{
	static const char scheme[] = "Bearer ";
	const struct http1_header *x = http1_only(h, "Authorization");
	size_t skip = sizeof(scheme) - 1, n;

	if (p->token == NULL || x == NULL)
		return false;
	n = strlen(p->token);
	return x->value.n == skip + n && str_slice_ieq(x->value.p, skip, scheme) && digest_equal(x->value.p + skip, p->token, n);
}

bool
allow_network(const struct conf_prefix *p, const char *client)
{
	return p->networks.v == NULL || network_has(p->nets, p->networks.n, client);
}

static bool
method_listed(const struct conf_prefix *p, const struct http1_head *h)
{
	size_t i;

	for (i = 0; i < p->methods.n; i++)
		if (str_slice_eq(h->method.p, h->method.n, p->methods.v[i]))
			return true;
	return p->methods.v == NULL;
}

enum allow_verdict
allow_judge(const struct conf_prefix *p, const struct http1_head *h, const char *client, bool ours)
{
	if (!method_listed(p, h))
		return ALLOW_NOT_METHOD;
	if (!allow_network(p, client))
		return ALLOW_NOT_HERE;
	if (allow_token(p, h))
		return ALLOW_TOKEN;
	if (p->auth != NULL)
		return ALLOW_ASK;
	if (p->token != NULL)
		return ALLOW_NO_TOKEN;
	return ours ? ALLOW_NO_RULE : ALLOW_FREE;
}

void
allow_methods(struct str *out, const struct conf_prefix *p)
{
	size_t i;

	str_addz(out, "GET, HEAD, OPTIONS");
	for (i = 0; i < p->methods.n; i++) {
		str_addz(out, ", ");
		str_addz(out, p->methods.v[i]);
	}
}
