#include "proxy/answer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "io/http1.h"

static const char *const cond_names[ANSWER_CONDS] = {
	[ANSWER_RANGE] = "Range",
	[ANSWER_IF_RANGE] = "If-Range",
	[ANSWER_IF_MATCH] = "If-Match",
	[ANSWER_IF_NONE_MATCH] = "If-None-Match",
	[ANSWER_IF_MODIFIED_SINCE] = "If-Modified-Since",
	[ANSWER_IF_UNMODIFIED_SINCE] = "If-Unmodified-Since",
};

void
answer_conds_init(struct answer_conds *c)
{
	memset(c, 0, sizeof *c);
}

void
answer_conds_fini(struct answer_conds *c)
{
	str_fini(&c->text);
}

static void
take_one(struct answer_conds *c, const struct http1_head *h, enum answer_cond which)
{
	bool list = which == ANSWER_IF_MATCH || which == ANSWER_IF_NONE_MATCH;
	size_t start = c->text.len;
	unsigned i, seen = 0;

	for (i = 0; i < h->nh; i++) {
		if (!str_slice_ieq(h->h[i].name.p, h->h[i].name.n, cond_names[which]))
			continue;
		if (seen++ > 0)
			str_addc(&c->text, ',');
		str_add(&c->text, h->h[i].value.p, h->h[i].value.n);
	}
	if (seen == 0 || (seen > 1 && !list))
		return;
	c->any = c->set[which] = true;
	c->off[which] = start;
	c->len[which] = c->text.len - start;
}

void
answer_conds_take(struct answer_conds *c, const struct http1_head *h)
{
	unsigned i;

	for (i = 0; i < ANSWER_CONDS; i++)
		take_one(c, h, (enum answer_cond)i);
}

bool
answer_conds_need_meta(const struct answer_conds *c)
{
	unsigned i;

	for (i = 0; i < ANSWER_CONDS; i++)
		if (i != ANSWER_RANGE && c->set[i])
			return true;
	return false;
}

static struct http1_slice
cond(const struct answer_conds *c, enum answer_cond which)
{
	return (struct http1_slice){ str_z(&c->text) + c->off[which], c->len[which] };
}

static struct http1_slice
trim(struct http1_slice s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

enum answer_range
answer_parse_range(const struct answer_conds *c, struct answer_span *span)
{
	struct http1_slice s;
	const char *dash;
	size_t before, after;

	*span = (struct answer_span){ .last = UINT64_MAX };
	if (!c->set[ANSWER_RANGE])
		return ANSWER_WHOLE;
	s = trim(cond(c, ANSWER_RANGE));
	if (s.n < 6 || !str_slice_ieq(s.p, 6, "bytes="))
		return ANSWER_WHOLE;
	if (memchr(s.p, ',', s.n) != NULL)
		return ANSWER_WHOLE;
	s = trim((struct http1_slice){ s.p + 6, s.n - 6 });
	dash = s.n == 0 ? NULL : memchr(s.p, '-', s.n);
	if (dash == NULL)
		return ANSWER_UNSATISFIABLE;
	before = (size_t)(dash - s.p);
	after = s.n - before - 1;
	if (before == 0) {
		if (!str_to_u64(dash + 1, after, &span->suffix) || span->suffix == 0)
			return ANSWER_UNSATISFIABLE;
		return ANSWER_PART;
	}
	if (!str_to_u64(s.p, before, &span->first))
		return ANSWER_UNSATISFIABLE;
	if (after > 0 && (!str_to_u64(dash + 1, after, &span->last) || span->last < span->first))
		return ANSWER_UNSATISFIABLE;
	return ANSWER_PART;
}

/* RFC 9110 8.8.3.2: is the tag in the list? weak: W/ does not matter. A "*" matches whatever exists, a malformed list nothing. */
static bool
tag_in_list(struct http1_slice list, const char *etag, bool weak)
{
	size_t n = strlen(etag);
	const char *p, *end;
	bool found = false;

	list = trim(list);
	p = list.p;
	end = p + list.n;
	if (list.n == 1 && list.p[0] == '*')
		return true;
	while (p < end) {
		bool is_weak = false;
		const char *close;

		while (p < end && (*p == ' ' || *p == '\t' || *p == ','))
			p++;
		if (p == end)
			break;
		if (end - p >= 2 && p[0] == 'W' && p[1] == '/') {
			is_weak = true;
			p += 2;
		}
		if (p >= end || *p != '"')
			return false;
		close = memchr(p + 1, '"', (size_t)(end - p - 1));
		if (close == NULL)
			return false;
		found |= (size_t)(close - p) + 1 == n && memcmp(p, etag, n) == 0 && (weak || !is_weak);
		for (p = close + 1; p < end && (*p == ' ' || *p == '\t'); p++)
			;
		if (p < end && *p != ',')
			return false;
	}
	return found;
}

static bool
date_of(struct http1_slice s, int64_t *t)
{
	s = trim(s);
	return clock_parse_http_date(s.p, s.n, t);
}

/* RFC 9110 13.2.2, steps 1 to 4. 0: go on. */
static int
precondition(const struct answer_conds *c, const struct answer *a)
{
	int64_t t;

	if (c->set[ANSWER_IF_MATCH]) {
		if (!tag_in_list(cond(c, ANSWER_IF_MATCH), a->etag, false))
			return 412;
	} else if (c->set[ANSWER_IF_UNMODIFIED_SINCE] && date_of(cond(c, ANSWER_IF_UNMODIFIED_SINCE), &t) &&
	    a->mtime_s > t) {
		return 412;
	}
	if (c->set[ANSWER_IF_NONE_MATCH])
		return tag_in_list(cond(c, ANSWER_IF_NONE_MATCH), a->etag, true) ? 304 : 0;
	/* Only the exact time, as nginx: a file that was replaced by an older one must not look unchanged. */
	if (c->set[ANSWER_IF_MODIFIED_SINCE] && date_of(cond(c, ANSWER_IF_MODIFIED_SINCE), &t) && t == a->mtime_s)
		return 304;
	return 0;
}

/* RFC 9110 13.1.5: a tag (strong) or the exact date. */
static bool
if_range_holds(const struct answer_conds *c, const struct answer *a)
{
	struct http1_slice s;
	int64_t t;

	if (!c->set[ANSWER_IF_RANGE])
		return true;
	s = trim(cond(c, ANSWER_IF_RANGE));
	if (s.n > 0 && s.p[0] == '"')
		return str_slice_eq(s.p, s.n, a->etag);
	return date_of(s, &t) && t == a->mtime_s;
}

static void
decide_range(struct answer *a, const struct answer_conds *c)
{
	struct answer_span s;

	switch (answer_parse_range(c, &s)) {
	case ANSWER_WHOLE:
		return;
	case ANSWER_PART:
		if (s.suffix > 0) {
			s.first = s.suffix >= a->size ? 0 : a->size - s.suffix;
			s.last = UINT64_MAX;
		}
		if (s.first < a->size) {
			a->status = 206;
			a->first = s.first;
			a->n = (s.last < a->size ? s.last + 1 : a->size) - s.first;
			return;
		}
		break;
	case ANSWER_UNSATISFIABLE:
		break;
	}
	a->status = 416;
	a->n = 0;
}

static char *
put_hex(char *p, uint64_t v)
{
	int shift = 60;

	while (shift > 0 && v >> shift == 0)
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		*p++ = "0123456789abcdef"[v >> shift & 15];
	return p;
}

/* nginx's form: "mtime-size", in hex. */
static void
make_etag(char out[ANSWER_ETAG], int64_t mtime_s, uint64_t size)
{
	char *p = out;

	*p++ = '"';
	p = put_hex(p, (uint64_t)mtime_s);
	*p++ = '-';
	p = put_hex(p, size);
	*p++ = '"';
	*p = '\0';
}

void
answer_decide(struct answer *a, const struct answer_conds *c, bool is_get, uint64_t size, int64_t mtime_s)
{
	int status;

	*a = (struct answer){ .status = 200, .n = size, .size = size, .mtime_s = mtime_s };
	make_etag(a->etag, mtime_s, size);
	if (!c->any)
		return;
	status = precondition(c, a);
	if (status != 0) {
		a->status = status;
		a->n = 0;
		return;
	}
	if (is_get && c->set[ANSWER_RANGE] && if_range_holds(c, a))
		decide_range(a, c);
}

int64_t
answer_seconds(int64_t ns)
{
	return ns / 1000000000 - (ns % 1000000000 < 0);
}

bool
answer_has_body(const struct answer *a)
{
	return a->status == 200 || a->status == 206;
}

void
answer_head(const struct answer *a, const char *content_type, const char *cache_control, const char *date, struct str *out)
{
	char modified[30];

	http1_add_status_line(out, a->status, NULL);
	str_addz(out, date);
	if (answer_has_body(a))
		http1_add_header(out, "Content-Type", content_type);
	else if (a->status != 304)
		http1_add_header(out, "Content-Type", "text/plain");
	if (a->status != 412 && a->status != 416) {
		clock_http_date(a->mtime_s, modified);
		http1_add_header(out, "Last-Modified", modified);
		http1_add_header(out, "ETag", a->etag);
		if (cache_control != NULL)
			http1_add_header(out, "Cache-Control", cache_control);
	}
	if (a->status == 200)
		http1_add_header(out, "Accept-Ranges", "bytes");
	if (a->status == 206)
		str_printf(out, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n", a->first, a->first + a->n - 1, a->size);
	if (a->status == 416)
		str_printf(out, "Content-Range: bytes */%" PRIu64 "\r\n", a->size);
}
