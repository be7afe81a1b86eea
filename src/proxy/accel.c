#include "proxy/accel.h"

#include <string.h>

#include "base/keypath.h"
#include "proxy/forward.h"

#define REDIRECT "X-Accel-Redirect"
#define SENDFILE "X-Sendfile"

/* As a target: what may not stand in one is encoded. A path has no query, so its '?' is encoded, too. */
static void
add_target(struct str *out, struct http1_slice v, bool is_path)
{
	size_t i;

	for (i = 0; i < v.n; i++) {
		unsigned char c = (unsigned char)v.p[i];

		if (c <= ' ' || c >= 0x7f || c == '#' || (c == '?' && is_path))
			str_printf(out, "%%%02X", c);
		else
			str_addc(out, (char)c);
	}
}

/* The entry that the decoded path falls under, the longest; NULL: none. */
static const struct conf_internal *
entry_for(const struct conf *c, const struct str *path, bool is_path, size_t *skip)
{
	const struct conf_internal *best = NULL;
	size_t i;

	*skip = 0;
	for (i = 0; i < c->ninternal; i++) {
		const struct conf_internal *in = &c->internal[i];
		const char *at = is_path ? in->alias : in->url;
		size_t n = is_path ? in->alias_len : in->url_len;

		if (at == NULL || n <= *skip || path->len < n || memcmp(path->p, at, n) != 0)
			continue;
		best = in;
		*skip = n;
	}
	return best;
}

static enum accel_what
find_key(struct accel *a, const struct conf *c, bool is_path)
{
	struct http1_slice v = { a->named.p, a->named.len };
	struct str target = STR_INIT, path = STR_INIT;
	enum accel_what what = ACCEL_ELSEWHERE;
	const struct conf_internal *in;
	enum keypath_class kind;
	size_t skip;

	if (v.n == 0 || v.p[0] != '/')
		return v.n == 0 ? ACCEL_BAD : ACCEL_ELSEWHERE;
	add_target(&target, v, is_path);
	kind = keypath_from_target(target.p, target.len, &path);
	in = kind == KEYPATH_BAD ? NULL : entry_for(c, &path, is_path, &skip);
	if (kind == KEYPATH_BAD) {
		what = ACCEL_BAD;
	} else if (in != NULL) {
		what = ACCEL_BAD;
		str_addz(&a->key, in->key);
		str_add(&a->key, path.p + skip, path.len - skip);
		if (kind == KEYPATH_PLAIN && keypath_servable(keypath_check(a->key.p, a->key.len)))
			what = ACCEL_FILE;
	}
	str_fini(&target);
	str_fini(&path);
	return what;
}

static void
take_lines(struct accel *a, const struct http1_head *h)
{
	const struct http1_header *type = http1_find(h, "Content-Type");

	if (type != NULL)
		str_add(&a->type, type->value.p, type->value.n);
	a->cached = http1_find(h, "Cache-Control") != NULL;
	forward_kept(&a->lines, h);
}

void
accel_take(struct accel *a, const struct http1_head *h, const struct conf *c)
{
	const struct http1_header *redirect = http1_find(h, REDIRECT), *sendfile = http1_find(h, SENDFILE);
	const struct http1_header *x = redirect != NULL ? redirect : sendfile;

	if (x == NULL || h->status / 100 != 2)
		return;
	a->header = redirect != NULL ? REDIRECT : SENDFILE;
	str_add(&a->named, x->value.p, x->value.n);
	if (c->ninternal == 0)
		a->what = ACCEL_ELSEWHERE;
	else if ((redirect != NULL && sendfile != NULL) || http1_only(h, a->header) == NULL)
		a->what = ACCEL_BAD;
	else
		a->what = find_key(a, c, redirect == NULL);
	if (a->what == ACCEL_FILE)
		take_lines(a, h);
}

void
accel_fini(struct accel *a)
{
	str_fini(&a->named);
	str_fini(&a->key);
	str_fini(&a->type);
	str_fini(&a->lines);
}
