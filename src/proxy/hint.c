#include "proxy/hint.h"

#include <string.h>

#include "base/keypath.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/str.h"

static const struct {
	const char *name;
	enum mark_op op;
} headers[] = {
	{ "X-Media-Stored", MARK_PUT },
	{ "X-Media-Deleted", MARK_DELETE },
};

/* Its place in the table; -1: no hint. */
static int
header_index(struct http1_slice name)
{
	int i;

	for (i = 0; i < (int)(sizeof headers / sizeof headers[0]); i++)
		if (str_slice_ieq(name.p, name.n, headers[i].name))
			return i;
	return -1;
}

bool
hint_is_header(struct http1_slice name)
{
	return header_index(name) >= 0;
}

/* The key that the value names, a pointer into path; NULL: none that a URL could name. */
static const char *
key_of(const struct conf *c, struct http1_slice value, struct str *path, size_t *klen)
{
	struct str target = STR_INIT;
	bool is_path = value.n > 0 && value.p[0] == '/';
	enum keypath_class kind;
	const char *key;

	if (!is_path)
		str_addc(&target, '/');
	str_add(&target, value.p, value.n);
	kind = keypath_from_target(target.p, target.len, path);
	str_fini(&target);
	if (kind != KEYPATH_PLAIN)
		return NULL;
	if (is_path) {
		key = conf_key_of(c, path->p, path->len, klen);
	} else {
		key = path->p + 1;
		*klen = path->len - 1;
	}
	return key != NULL && keypath_servable(keypath_check(key, *klen)) ? key : NULL;
}

static void
add(struct hints *hs, const char *key, size_t klen, enum mark_op op)
{
	hs->v = mem_realloc(hs->v, (hs->n + 1) * sizeof *hs->v);
	hs->v[hs->n++] = (struct hint){ .key = mem_strndup(key, klen), .klen = klen, .op = op };
}

void
hints_take(struct hints *hs, const struct http1_head *h, const struct conf *c)
{
	struct str path = STR_INIT;
	const char *key;
	size_t klen;
	unsigned i;

	for (i = 0; i < h->nh; i++) {
		int which = header_index(h->h[i].name);

		if (which < 0)
			continue;
		if (!c->trust_hints) {
			metrics_add(METRIC_HINTS, "ignored", 1);
			continue;
		}
		key = key_of(c, h->h[i].value, &path, &klen);
		if (key == NULL) {
			metrics_add(METRIC_HINTS, "malformed", 1);
			log_warn("upstream", "%s: %s names no file below media.url", headers[which].name, log_key(h->h[i].value.p, h->h[i].value.n));
			continue;
		}
		add(hs, key, klen, headers[which].op);
	}
	str_fini(&path);
}

void
hints_look(struct hints *hs, struct local *l)
{
	struct local_stat st;
	size_t i;

	for (i = 0; i < hs->n; i++) {
		hs->v[i].e = local_look(l, hs->v[i].key, hs->v[i].klen, &st);
		hs->v[i].exists = hs->v[i].e == ERR_OK && st.exists;
	}
}

bool
hint_counts(const struct hint *h)
{
	const char *key = log_key(h->key, h->klen);

	if (h->e == ERR_UNSUPPORTED) {
		metrics_add(METRIC_HINTS, "absent", 1);
		log_warn("upstream", "%s: %s lies behind a symbolic link: not ours to copy", headers[h->op == MARK_DELETE].name, key);
		return false;
	}
	/* Any other doubt is for whoever looks next: it tries again, and nothing is acknowledged meanwhile. */
	if (h->e == ERR_OK && !h->exists && h->op == MARK_PUT) {
		metrics_add(METRIC_HINTS, "absent", 1);
		log_warn("upstream", "X-Media-Stored: %s is not on the disk: the hint is dropped", key);
		return false;
	}
	metrics_add(METRIC_HINTS, "taken", 1);
	return true;
}

void
hints_fini(struct hints *hs)
{
	size_t i;

	for (i = 0; i < hs->n; i++)
		mem_free(hs->v[i].key);
	mem_free(hs->v);
	*hs = (struct hints){ NULL, 0 };
}
