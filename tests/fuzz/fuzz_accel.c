/*
 * Input: a byte for the header, and the value that an application gives it. A key that comes of it is a file's below an entry of
 * media.internal, in the entry that the longest path names, and is found again when it is encoded anew.
 */
#include "fuzz.h"

#include <string.h>

#include "base/err.h"
#include "base/keypath.h"
#include "proxy/accel.h"

#define Z(text) ((char *)(uintptr_t)(text))
#define ENTRY(u, a, k) {.url = Z(u), .url_len = sizeof(u) - 1, .alias = Z(a), .alias_len = sizeof(a) - 1, .key = k}
static struct conf_internal internal[] = {
	ENTRY("/in/", "/m/in/", "in/"),
	ENTRY("/in/deep/", "/m/other/", "other/"),
};
static struct conf conf = {.internal = internal, .ninternal = 2};
static const struct http1_limits limits = {.head_max = 16384, .target_max = 8192, .headers_max = 8};
static const char *const headers[] = {"X-Accel-Redirect", "X-Sendfile"};

/* What the answer names; false: no answer. */
static bool
take(struct accel *a, unsigned which, const char *value, size_t n)
{
	static struct http1_head h;
	struct str text = STR_INIT;
	size_t scan = 0, used;
	enum http1_bad bad;
	bool ok;

	str_printf(&text, "HTTP/1.1 200 OK\r\n%s: ", headers[which]);
	str_add(&text, value, n);
	str_addz(&text, "\r\n\r\n");
	ok = http1_parse_response(&h, text.p, text.len, &limits, false, &scan, &used, &bad) == HTTP1_DONE && h.nh == 1;
	if (ok)
		accel_take(a, &h, &conf);
	str_fini(&text);
	return ok;
}

static unsigned
slashes(const char *p, size_t n)
{
	unsigned count = 0;

	for (size_t i = 0; i < n; i++)
		count += p[i] == '/';
	return count;
}

/* Nothing was merged, removed, or a slash only when it was decoded: the value has as many as what it names. */
static void
check_segments(const struct accel *a, unsigned which)
{
	const struct conf_internal *in = &internal[strncmp(a->key.p, "other/", 6) == 0];
	const char *at = which == 0 ? in->url : in->alias, *query = which == 0 ? memchr(a->named.p, '?', a->named.len) : NULL;
	size_t n = query ? (size_t)(query - a->named.p) : a->named.len, skip = strlen(in->key);

	ASSERT(slashes(a->named.p, n) == slashes(at, strlen(at)) + slashes(a->key.p + skip, a->key.len - skip));
}

/* Each byte of the key in percent form means the same. */
static void
check_encoded(const struct accel *a, unsigned which)
{
	bool other = strncmp(a->key.p, "other/", 6) == 0;
	const struct conf_internal *in = &internal[other];
	struct accel again = {.what = ACCEL_NONE};
	struct str value = STR_INIT;

	str_addz(&value, which == 0 ? in->url : in->alias);
	for (size_t i = strlen(in->key); i < a->key.len; i++)
		str_printf(&value, a->key.p[i] == '/' ? "/" : "%%%02X", (unsigned char)a->key.p[i]);
	if (value.len < 8192) {
		/* By its URL /in/deep/... is the other entry's. */
		bool hidden = which == 0 && !other && a->key.len > 8 && memcmp(a->key.p, "in/deep/", 8) == 0;

		ASSERT(take(&again, which, value.p, value.len) && again.what == ACCEL_FILE);
		ASSERT(!hidden && again.key.len == a->key.len && memcmp(again.key.p, a->key.p, a->key.len) == 0);
	}
	accel_fini(&again);
	str_fini(&value);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct accel a = {.what = ACCEL_NONE};

	if (n > 1 && take(&a, p[0] % 2, (const char *)p + 1, n - 1)) {
		ASSERT(a.what != ACCEL_NONE);
		if (a.what == ACCEL_FILE) {
			ASSERT(keypath_servable(keypath_check(a.key.p, a.key.len)));
			ASSERT((a.key.len > 3 && memcmp(a.key.p, "in/", 3) == 0) || (a.key.len > 6 && memcmp(a.key.p, "other/", 6) == 0));
			check_segments(&a, p[0] % 2);
			check_encoded(&a, p[0] % 2);
		}
	}
	accel_fini(&a);
	return 0;
}
