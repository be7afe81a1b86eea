#include "proxy/private.h"

#include <string.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/str.h"
#include "proxy/server.h"

/* An answer's body beyond this is not waited for: its connection is closed instead. */
enum { BODY_MAX = 64 * 1024 };

bool
private_named(struct request *r, const struct http1_head *h)
{
	accel_take(&r->accel, h, r->snap->conf);
	/* A trusted proxy before us has places of its own. */
	if (r->accel.what == ACCEL_ELSEWHERE && r->pass.trusted)
		r->accel.what = ACCEL_NONE;
	return r->accel.what != ACCEL_NONE;
}

static enum request_step
serve(struct request *r)
{
	struct accel *a = &r->accel;
	const char *named = log_key(str_z(&a->named), a->named.len);

	request_stop_body(r);		/* an early answer */
	switch (a->what) {
	case ACCEL_FILE:
		metrics_add(METRIC_ACCEL, "file", 1);
		r->route.what = ROUTE_READ;
		r->route.key = a->key.p;
		r->route.klen = a->key.len;
		return STEP_READ;
	case ACCEL_ELSEWHERE:
		metrics_add(METRIC_ACCEL, "elsewhere", 1);
		log_error("proxy", "the application's answer says %s: %s, which lies below nothing in media.internal; add { url = \"...\"; alias = \"...\"; } "
		    "with the location's path, or the folder, that it means", a->header, named);
		break;
	case ACCEL_BAD:
	case ACCEL_NONE:
		metrics_add(METRIC_ACCEL, "malformed", 1);
		log_error("proxy", "the application's answer says %s: %s, which names no file: one such header, percent-encoded, without //, . and ..",
		    a->header, named);
		break;
	}
	return request_answer(r, 502, NULL, "the application named a file that cannot be served");
}

enum request_step
step_accel(struct request *r)
{
	/* To its end, so that the connection can be used again. */
	http_peer_resume(r->pass.up);
	return STEP_WAIT;
}

void
private_data(struct request *r, size_t n)
{
	r->pass.ignored += n;
	if (r->pass.ignored <= BODY_MAX)
		return;
	http_peer_cancel(&r->pass.up);
	request_go(r, serve(r));
}

void
private_done(struct request *r)
{
	/* Its head was whole, and is the application's word. */
	request_go(r, serve(r));
}

static bool
is_named(const struct request *r)
{
	return r->accel.what == ACCEL_FILE;
}

const char *
private_type(const struct request *r)
{
	return is_named(r) && r->accel.type.len > 0 ? r->accel.type.p : NULL;
}

const char *
private_cache_control(const struct request *r)
{
	const struct conf_prefix *p = r->route.prefix;

	if (is_named(r) && r->accel.cached)
		return NULL;		/* it is among the lines */
	/* What only a program with the token may read is for no cache. */
	if (!is_named(r) && r->auth.token && p->class != CONF_CLASS_PUBLIC)
		return "private, no-store";
	/* No cache that others read may keep what one was allowed. */
	if (is_named(r) ? p == NULL || p->class == CONF_CLASS_PUBLIC || p->cache_control == NULL : r->auth.reading && p->cache_control == NULL)
		return "private";
	return p == NULL ? NULL : p->cache_control;
}

const char *
private_lines(const struct request *r)
{
	const char *cache = private_cache_control(r);

	if (is_named(r))
		return str_z(&r->accel.lines);
	/* A session's cookie must not come out of a cache. */
	if (r->auth.cookies.len > 0 && cache != NULL && (strstr(cache, "private") != NULL || strstr(cache, "no-store") != NULL))
		return str_z(&r->auth.cookies);
	return NULL;
}

void
private_fini(struct request *r)
{
	accel_fini(&r->accel);
}
