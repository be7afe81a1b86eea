#include "proxy/coding.h"

#include <string.h>

#include "base/keypath.h"
#include "proxy/hedge.h"
#include "proxy/request.h"

static bool
ends_with(const char *key, size_t klen, const char *end)
{
	size_t n = strlen(end);

	return klen >= n && memcmp(key + klen - n, end, n) == 0;
}

static unsigned
offered(const struct conf_prefix *p, enum accept_coding codings[ACCEPT_CODINGS])
{
	unsigned n = 0;

	/* The configuration's check has seen to it that each is one of ours, once. */
	for (size_t i = 0; i < p->precompressed.n; i++)
		codings[n++] = strcmp(p->precompressed.v[i], accept_coding_name(ACCEPT_BR)) == 0 ? ACCEPT_BR : ACCEPT_GZIP;
	return n;
}

void
coding_take(struct request *r, const struct http1_head *h)
{
	struct coding *c = &r->read.coding;
	const struct conf_prefix *p = r->route.prefix;
	enum accept_coding codings[ACCEPT_CODINGS];
	struct str accept = STR_INIT;

	/* A program with the token wants the file that it has stored. */
	if (p == NULL || p->precompressed.n == 0 || r->auth.token)
		return;
	c->on = true;
	c->key = r->route.key;
	c->klen = r->route.klen;
	if (ends_with(c->key, c->klen, accept_coding_suffix(ACCEPT_BR)) || ends_with(c->key, c->klen, accept_coding_suffix(ACCEPT_GZIP)))
		return;
	for (unsigned i = 0; i < h->nh; i++)
		if (str_slice_ieq(h->h[i].name.p, h->h[i].name.n, "Accept-Encoding")) {
			if (accept.len > 0)
				str_addc(&accept, ',');
			str_add(&accept, h->h[i].value.p, h->h[i].value.n);
		}
	c->n = accept_choose(str_z(&accept), accept.len, codings, offered(p, codings), c->wanted);
	str_fini(&accept);
}

void
coding_use(struct request *r)
{
	struct coding *c = &r->read.coding;

	if (!c->on)
		return;
	for (; c->at < c->n; c->at++) {
		str_clear(&c->sibling);
		str_add(&c->sibling, c->key, c->klen);
		str_addz(&c->sibling, accept_coding_suffix(c->wanted[c->at]));
		/* It may be too long a name. */
		if (keypath_servable(keypath_check(c->sibling.p, c->sibling.len)))
			break;
	}
	r->route.key = coding_is_sibling(r) ? c->sibling.p : c->key;
	r->route.klen = coding_is_sibling(r) ? c->sibling.len : c->klen;
}

bool
coding_next(struct request *r)
{
	struct request_read *rd = &r->read;

	if (!coding_is_sibling(r))
		return false;
	rd->coding.at++;
	hedge_stop(r);
	rd->decided = rd->look = rd->is_ready = false;
	rd->asked_disk = rd->asked_r2 = rd->fell_back = false;
	rd->disk_err = rd->r2_err = ERR_OK;
	rd->retries = 0;
	return true;
}

bool
coding_is_sibling(const struct request *r)
{
	return r->read.coding.at < r->read.coding.n;
}

const char *
coding_name(const struct request *r, size_t *klen)
{
	const struct coding *c = &r->read.coding;

	*klen = c->on ? c->klen : r->route.klen;
	return c->on ? c->key : r->route.key;
}

void
coding_lines(const struct request *r, int status, struct str *out)
{
	if (!r->read.coding.on || status == 412 || status == 416)
		return;
	if (coding_is_sibling(r) && status != 304)
		http1_add_header(out, "Content-Encoding", accept_coding_name(r->read.coding.wanted[r->read.coding.at]));
	http1_add_header(out, "Vary", "Accept-Encoding");
}
