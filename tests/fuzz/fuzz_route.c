/*
 * Input: a byte for the phase, a byte for the method, a target. A key that comes of it stays below the media root, belongs to the
 * prefix whose rules were looked at, and is found again when it is encoded anew; what is malformed, or only for the application to
 * name, is refused.
 */
#include "fuzz.h"

#include <string.h>

#include "base/err.h"
#include "base/keypath.h"
#include "proxy/route.h"

#define Z(text) ((char *)(uintptr_t)(text))
static char *uploads[] = {Z("/upload/")};
static struct conf_prefix prefixes[] = {
	{.url = Z("/media/disk/"), .url_len = 12, .class = CONF_CLASS_PUBLIC, .writes = CONF_WRITES_DISK},
	{.url = Z("/media/deny/"), .url_len = 12, .class = CONF_CLASS_DENY},
	{.url = Z("/media/auth/"), .url_len = 12, .class = CONF_CLASS_AUTHORIZED},
	{.url = Z("/media/ask/"), .url_len = 11, .class = CONF_CLASS_AUTHORIZED, .read_auth = Z("/may/")},
	{.url = Z("/media/dav/"), .url_len = 11, .class = CONF_CLASS_PUBLIC, .writes = CONF_WRITES_UPSTREAM},
	{.url = Z("/media/"), .url_len = 7, .class = CONF_CLASS_PUBLIC},
};
static struct conf_internal internal[] = {{.url = Z("/in/"), .url_len = 4}, {.url = Z("/media/in/"), .url_len = 10}};
static struct conf conf = {
	.internal = internal,
	.ninternal = 2,
	.media_url = Z("/media/"),
	.uploads = {uploads, 1},
	.prefixes = prefixes,
	.nprefixes = sizeof prefixes / sizeof prefixes[0],
	.canary = 100,
};
static const char *const methods[] = {"GET", "HEAD", "PUT", "DELETE", "POST", "MOVE", "OPTIONS", "FOO"};
static const struct http1_limits limits = {.head_max = 16384, .target_max = 8192, .headers_max = 8};

/* The request's route; false: no request. The route's slices are its own. */
static bool
decide(struct route *r, const char *method, const char *target, size_t n, enum phase phase, bool *bad_target)
{
	static struct http1_head h;
	struct str text = STR_INIT, path = STR_INIT;
	size_t scan = 0, used;
	enum http1_bad bad;
	bool ok;

	str_addz(&text, method);
	str_addz(&text, " ");
	str_add(&text, target, n);
	str_addz(&text, " HTTP/1.1\r\nHost: a\r\n\r\n");
	ok = http1_parse_request(&h, text.p, text.len, &limits, &scan, &used, &bad) == HTTP1_DONE && h.nh == 1;
	if (ok) {
		*bad_target = h.path.p[0] == '/' && keypath_from_target(h.path.p, h.path.n, &path) == KEYPATH_BAD;
		route_decide(r, &h, &conf, phase);
	}
	str_fini(&path);
	str_fini(&text);
	return ok;
}

static void
check_key(const struct route *r)
{
	const char *at = r->key, *end = r->key + r->klen, *slash;

	ASSERT(r->klen == 0 || r->key[0] != '/');
	ASSERT(memchr(r->key, '\0', r->klen) == NULL);
	for (; at < end; at = slash + 1) {
		slash = memchr(at, '/', (size_t)(end - at));
		if (!slash)
			slash = end;
		ASSERT(!str_slice_eq(at, (size_t)(slash - at), "") && !str_slice_eq(at, (size_t)(slash - at), ".") &&
		    !str_slice_eq(at, (size_t)(slash - at), ".."));
		ASSERT(slash - at < 7 || memcmp(at, KEYPATH_OURS_PREFIX, 7) != 0);
	}
	/* The rules were those of the longest prefix of this very name. */
	ASSERT(r->prefix == conf_prefix_for(&conf, r->path.p, r->path.len) && r->prefix->class != CONF_CLASS_DENY);
	ASSERT(r->what != ROUTE_READ || r->prefix->class == CONF_CLASS_PUBLIC || r->prefix->read_auth);
}

/* Each byte of the key in percent form means the same. */
static void
check_encoded(const struct route *r, const char *method, enum phase phase)
{
	struct str target = STR_INIT;
	struct route again;
	bool bad;

	str_addz(&target, "/media/");
	for (size_t i = 0; i < r->klen; i++)
		if (r->key[i] == '/')
			str_addc(&target, '/');
		else
			str_printf(&target, "%%%02X", (unsigned char)r->key[i]);
	if (target.len <= limits.target_max) {
		route_init(&again);
		ASSERT(decide(&again, method, target.p, target.len, phase, &bad) && !bad);
		ASSERT(again.what == r->what && again.klen == r->klen && memcmp(again.key, r->key, r->klen) == 0);
		route_fini(&again);
	}
	str_fini(&target);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	const char *method;
	enum phase phase;
	struct route r;
	bool bad;

	if (n < 3)
		return 0;
	phase = (enum phase)(p[0] % 7);
	method = methods[p[1] % 8];
	route_init(&r);
	if (decide(&r, method, (const char *)p + 2, n - 2, phase, &bad)) {
		const struct conf_prefix *rules = conf_prefix_for(&conf, r.path.p, r.path.len);

		ASSERT(!bad || (r.what == ROUTE_REFUSE && r.status == 400));
		ASSERT(!conf_is_internal(&conf, r.path.p, r.path.len) || r.what == ROUTE_REFUSE);
		/* Below a prefix that is asked about, nobody is led past the question: its rules are known, or it is refused. */
		ASSERT(!rules || !rules->read_auth || r.prefix == rules || r.what == ROUTE_REFUSE || phase == PHASE_PASSTHROUGH);
		ASSERT(!rules || rules->class != CONF_CLASS_DENY || r.what == ROUTE_REFUSE || phase == PHASE_PASSTHROUGH);
		if (r.key && r.what != ROUTE_LIST) {
			check_key(&r);
			check_encoded(&r, method, phase);
		}
	}
	route_fini(&r);
	return 0;
}
