#include "proxy/route.h"

#include <string.h>

#include "base/keypath.h"
#include "proxy/allow.h"

/* What a client is told that asks for what only the application may name (media.internal). */
#define INTERNAL "no such file"

const char *
route_name(enum route_what w)
{
	switch (w) {
	case ROUTE_REFUSE:
		return "refuse";
	case ROUTE_PASS:
		return "pass";
	case ROUTE_READ:
		return "read";
	case ROUTE_WRITE:
		return "write";
	case ROUTE_STORE:
		return "store";
	case ROUTE_REMOVE:
		return "remove";
	case ROUTE_LIST:
		return "list";
	case ROUTE_FIRST:
		return "r2-first";
	}
	return "?";
}

void
route_init(struct route *r)
{
	memset(r, 0, sizeof *r);
}

void
route_fini(struct route *r)
{
	str_fini(&r->path);
}

static bool
is(const struct http1_head *h, const char *method)
{
	return str_slice_eq(h->method.p, h->method.n, method);
}

/* RFC 9110 9.2.1, RFC 4918, RFC 5323: methods that store nothing. All others, unknown ones too, may. */
static bool
is_safe(const struct http1_head *h)
{
	static const char *const safe[] = { "GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH" };
	size_t i;

	for (i = 0; i < sizeof safe / sizeof safe[0]; i++)
		if (is(h, safe[i]))
			return true;
	return false;
}

static void
refuse(struct route *r, int status, const char *why)
{
	r->what = ROUTE_REFUSE;
	r->status = status;
	r->why = why;
}

/* A write whose keys the app chooses, if it is on an upload path. */
static void
pass_or_upload(struct route *r, bool upload)
{
	r->what = r->changes && upload ? ROUTE_WRITE : ROUTE_PASS;
}

/* Does the application decide who reads there, asked by us? */
static bool
is_asked(const struct conf_prefix *p)
{
	return p != NULL && p->class == CONF_CLASS_AUTHORIZED && p->read_auth != NULL;
}

/* Must nobody change this path but by our rules, or at all? path: as an upstream would clean it. but: rules that were kept already. */
static bool
is_guarded(const struct conf *c, const struct str *path, const struct conf_prefix *but)
{
	const struct conf_prefix *p = conf_prefix_for(c, path->p, path->len);
	size_t klen = 0;
	const char *key = conf_key_of(c, path->p, path->len, &klen);

	if (key != NULL && keypath_check(key, klen) == KEYPATH_OURS)
		return true;
	return p != NULL && p != but && (p->class == CONF_CLASS_DENY || is_asked(p) || p->writes == CONF_WRITES_DISK || allow_ruled(p));
}

/* A name that is not a key of ours: odd targets keep their bytes and go to who understands them. */
static void
decide_odd(struct route *r, const struct conf *c, enum phase phase)
{
	const struct conf_prefix *p = conf_prefix_for(c, r->path.p, r->path.len);
	bool denied = p != NULL && (p->class == CONF_CLASS_DENY || is_asked(p));

	if (conf_is_internal(c, r->path.p, r->path.len)) {
		refuse(r, 404, INTERNAL);
		return;
	}
	/* Whoever cleans it must not be led around our rules. */
	if (c->odd_targets == CONF_ODD_REFUSE || (phase != PHASE_PASSTHROUGH && (denied || (r->changes && is_guarded(c, &r->path, NULL))))) {
		refuse(r, 400, "odd request target");
		return;
	}
	/* Where it ends up is the app's business, so any upload path may be meant. */
	pass_or_upload(r, phase != PHASE_PASSTHROUGH && c->uploads.n > 0);
}

static void
set_key(struct route *r, const char *key, size_t klen)
{
	r->key = key;
	r->klen = klen;
}

/* PUT and DELETE on a media URL, by who carries them out. False: none of ours. */
static bool
decide_write(struct route *r, const struct http1_head *h, enum phase phase, const char *key, size_t klen)
{
	bool put = is(h, "PUT"), del = is(h, "DELETE");

	if (r->prefix->writes != CONF_WRITES_NONE && (put || del) && phase_row(phase)->r2_first && keypath_check(key, klen) == KEYPATH_OK) {
		r->what = ROUTE_FIRST;
		r->op = del ? MARK_DELETE : MARK_PUT;
		set_key(r, key, klen);
		return true;
	}
	if (r->prefix->writes == CONF_WRITES_UPSTREAM) {
		if (!r->changes)
			return false;
		r->what = ROUTE_WRITE;
		/* MOVE, COPY and the like touch a second name: the watcher hears of both. */
		if (put || del || is(h, "PATCH"))
			set_key(r, key, klen);
		r->op = del ? MARK_DELETE : MARK_PUT;
		return true;
	}
	if (r->prefix->writes == CONF_WRITES_DISK && (put || del)) {
		r->what = put ? ROUTE_STORE : ROUTE_REMOVE;
		set_key(r, key, klen);
		return true;
	}
	return false;
}

/* Is it a request for what we are the server of in every phase? */
static bool
is_own(const struct route *r, const struct http1_head *h)
{
	if (r->prefix == NULL || r->prefix->writes != CONF_WRITES_DISK)
		return false;
	if (is(h, "PUT") || is(h, "DELETE"))
		return true;
	return (is(h, "GET") || is(h, "HEAD")) && allow_token(r->prefix, h);
}

static bool
is_read(const struct route *r, const struct http1_head *h, const struct conf *c, bool own)
{
	if (!is(h, "GET") && !is(h, "HEAD"))
		return false;
	return own || ((r->prefix->class == CONF_CLASS_PUBLIC || is_asked(r->prefix)) && c->source == CONF_SOURCE_DISK);
}

static void
decide_media(struct route *r, const struct http1_head *h, const struct conf *c, enum phase phase, const char *key, size_t klen)
{
	bool upload = phase != PHASE_PASSTHROUGH && conf_is_upload(c, r->path.p, r->path.len), own;
	enum keypath_fault fault = keypath_check(key, klen);

	r->prefix = conf_prefix_for(c, r->path.p, r->path.len);
	own = is_own(r, h);
	if (!own && conf_is_internal(c, r->path.p, r->path.len)) {
		refuse(r, 404, INTERNAL);
		return;
	}
	if (phase == PHASE_PASSTHROUGH && !own) {
		r->prefix = NULL;
		return;
	}
	if (fault == KEYPATH_OURS) {
		refuse(r, 404, "no such file");
		return;
	}
	if (r->prefix != NULL && r->prefix->class == CONF_CLASS_DENY) {
		refuse(r, 403, "forbidden");
		return;
	}
	if (own && fault == KEYPATH_EMPTY && is(h, "GET")) {
		r->what = ROUTE_LIST;
		set_key(r, key, klen);
		return;
	}
	/* A folder is nothing that we could serve. */
	if (r->prefix == NULL || !keypath_servable(fault)) {
		pass_or_upload(r, upload);
		return;
	}
	if (decide_write(r, h, phase, key, klen))
		return;
	if (is_read(r, h, c, own)) {
		r->what = ROUTE_READ;
		set_key(r, key, klen);
		return;
	}
	pass_or_upload(r, upload);
}

/* The path of a Destination (RFC 4918 10.3): a URI, or a path. NULL: neither. */
static const char *
destination_path(struct http1_slice v, size_t *n)
{
	const char *end = v.p + v.n, *p = v.p;

	if (v.n > 0 && v.p[0] != '/') {
		p = memmem(v.p, v.n, "://", 3);
		p = p == NULL ? NULL : memchr(p + 3, '/', (size_t)(end - p - 3));
	}
	*n = p == NULL ? 0 : (size_t)(end - p);
	return p;
}

/* MOVE and COPY write a second name, which the upstream alone looks at: it must not lie where our rules, or we ourselves, decide. */
static void
check_destination(struct route *r, const struct http1_head *h, const struct conf *c)
{
	struct str path = STR_INIT;
	const char *p;
	size_t n;
	unsigned i;

	for (i = 0; i < h->nh && r->what != ROUTE_REFUSE; i++) {
		if (!str_slice_ieq(h->h[i].name.p, h->h[i].name.n, "Destination"))
			continue;
		p = destination_path(h->h[i].value, &n);
		if (p == NULL || keypath_from_target(p, n, &path) == KEYPATH_BAD)
			refuse(r, 400, "malformed Destination");
		else if (is_guarded(c, &path, r->prefix))
			refuse(r, 403, "nothing may be moved or copied there");
	}
	str_fini(&path);
}

static void
decide(struct route *r, const struct http1_head *h, const struct conf *c, enum phase phase)
{
	enum keypath_class kind;
	const char *key;
	size_t klen = 0;

	r->what = ROUTE_PASS;
	r->changes = !is_safe(h);
	if (is(h, "CONNECT")) {
		refuse(r, 405, "CONNECT is not for a reverse proxy");
		return;
	}
	if (h->path.n == 0 || h->path.p[0] != '/')
		return;		/* OPTIONS * */
	kind = keypath_from_target(h->path.p, h->path.n, &r->path);
	if (kind == KEYPATH_BAD) {
		refuse(r, 400, "malformed request target");
		return;
	}
	if (kind == KEYPATH_ODD) {
		decide_odd(r, c, phase);
		return;
	}
	key = conf_key_of(c, r->path.p, r->path.len, &klen);
	if (key != NULL)
		decide_media(r, h, c, phase, key, klen);
	else if (conf_is_internal(c, r->path.p, r->path.len))
		refuse(r, 404, INTERNAL);
	else if (phase != PHASE_PASSTHROUGH)
		pass_or_upload(r, conf_is_upload(c, r->path.p, r->path.len));
}

void
route_decide(struct route *r, const struct http1_head *h, const struct conf *c, enum phase phase)
{
	decide(r, h, c, phase);
	if (r->changes && phase != PHASE_PASSTHROUGH)
		check_destination(r, h, c);
}

void
route_read_plan(struct route_plan *p, const struct conf *c, enum phase phase, const char *key, size_t klen, const struct route_marks *m)
{
	const struct phase_row *row = phase_row(phase);
	bool r2 = row->read == PHASE_FROM_R2;

	*p = (struct route_plan){ .order = ROUTE_DISK };
	if (keypath_check(key, klen) != KEYPATH_OK)
		return;
	if (m->mark != NULL) {
		/* The side whose write was confirmed last, and never the other. */
		p->order = m->mark->side == MARK_R2 ? ROUTE_R2 : ROUTE_DISK;
		return;
	}
	if (row->read == PHASE_FROM_CANARY)
		r2 = phase_canary(key, klen, (unsigned)c->canary);
	else if (row->read != PHASE_FROM_R2)
		return;
	p->violation = row->miss == PHASE_MISS_VIOLATION;
	/* Where R2 may be the newer side, and nobody can say of which keys, the disk proves nothing. */
	if (row->miss == PHASE_MISS_NONE || (r2 && m->uncertain && m->armed))
		p->order = r2 ? ROUTE_R2 : ROUTE_DISK;
	else if (row->miss == PHASE_MISS_ERRORS)
		p->order = ROUTE_R2_ERRORS;
	else if (m->uncertain)
		p->order = ROUTE_DISK_CAUTIOUS;
	else
		p->order = r2 ? ROUTE_R2_DISK : ROUTE_DISK_R2;
	p->ask = m->armed || row->miss == PHASE_MISS_ERRORS;
}
