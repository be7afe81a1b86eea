#include "proxy/redirect.h"

#include "base/log.h"
#include "base/metrics.h"
#include "base/utf8.h"
#include "proxy/server.h"

bool
redirect_wanted(const struct request *r, const struct route_marks *m)
{
	const struct conf_prefix *p = r->route.prefix;
	enum route_order order = r->read.plan.order;

	if (p == NULL || p->delivery == CONF_DELIVERY_STREAM || p->class != CONF_CLASS_PUBLIC)
		return false;
	/* A program with the token reads through us alone. What the application named it allowed once, and with headers of its own. */
	if (r->auth.token || r->accel.what == ACCEL_FILE)
		return false;
	return m->mark == NULL && !m->uncertain && (order == ROUTE_R2 || order == ROUTE_R2_DISK || order == ROUTE_R2_ERRORS);
}

static enum err
signed_url(struct request *r, struct str *url)
{
	unsigned s = (unsigned)(r->snap->conf->redirect_lifetime / 1000);

	/* The signature holds for one method. */
	return store_presign(r->snap->r2, r->is_head ? "HEAD" : "GET", r->route.key, r->route.klen, s, url);
}

static enum err
public_url(struct request *r, struct str *url)
{
	struct str nfc = STR_INIT;
	bool ok = utf8_add_nfc(&nfc, r->route.key, r->route.klen);

	str_addz(url, r->snap->conf->public_url);
	if (url->p[url->len - 1] != '/')
		str_addc(url, '/');
	str_add_uri(url, str_z(&nfc), nfc.len, true);
	str_fini(&nfc);
	return ok ? ERR_OK : ERR_INVAL;
}

enum request_step
redirect_answer(struct request *r)
{
	bool public = r->route.prefix->delivery == CONF_DELIVERY_PUBLIC;
	struct str lines = STR_INIT;
	enum request_step next;
	enum err e;

	str_addz(&lines, "Location: ");
	e = public ? public_url(r, &lines) : signed_url(r, &lines);
	if (e != ERR_OK) {
		/* R2 has just found it by that name. */
		log_error("proxy", "%s: no URL can be made: %s", log_key(r->route.key, r->route.klen), err_text(e));
		str_fini(&lines);
		return request_answer(r, 503, NULL, "no redirect can be made");
	}
	/* Where the next read is sent depends on what is written until then. */
	str_addz(&lines, "\r\nCache-Control: no-store\r\n");
	metrics_add(METRIC_REDIRECTS, public ? "public" : "signed", 1);
	next = request_answer(r, 302, str_z(&lines), NULL);
	str_fini(&lines);
	return next;
}
