#include "sandbox/s3.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "sandbox/disk.h"
#include "sandbox/objects.h"
#include "sandbox/xml.h"

enum { PAGE = 1000 };

/* What a list request asks for, and the page as it grows. */
struct listing {
	const char *prefix, *delimiter, *after, *token; /* as given, and echoed; token: V2's continuation */
	struct str from, behind;                        /* prefix and after as keys are: in NFC */
	bool v2, encode;
	double max_keys; /* as asked for; echoed */
	size_t limit, count, groups;
	struct str contents, prefixes;
	struct str last; /* the last key or group shown */
	bool last_is_group, truncated;
};

/* R2 takes any number that is not negative, cuts it to a whole one, and shows at most 1000. false: answered. */
static bool
parse_max_keys(struct s3_req *r, struct listing *l)
{
	const char *v = s3_param(r, "max-keys");
	char *end = NULL;

	l->max_keys = PAGE;
	if (v != NULL) {
		l->max_keys = strtod(v, &end);
		while (isspace((unsigned char)*end))
			end++;
		if (end == v || *end != '\0' || v[strspn(v, " \t\r\n")] == '\0' || !isfinite(l->max_keys) ||
		    l->max_keys < 0) {
			s3_reply_error(r, S3_MAX_KEYS);
			return false;
		}
		if (l->max_keys < 1e15)
			l->max_keys = (double)(uint64_t)l->max_keys;
	}
	l->limit = l->max_keys < PAGE ? (size_t)l->max_keys : PAGE;
	return true;
}

/* What is no UTF-8 is compared as it is: it can be before or behind a key, never one. */
static void
add_nfc(struct str *out, const char *text)
{
	if (!utf8_add_nfc(out, text, strlen(text)))
		str_addz(out, text);
}

static bool
parse_listing(struct s3_req *r, struct listing *l)
{
	const char *enc = s3_param(r, "encoding-type");

	memset(l, 0, sizeof(*l));
	if (enc != NULL && strcmp(enc, "url") != 0) {
		s3_reply_errorf(r, S3_NOT_IMPLEMENTED, "Unrecognized encoding-type \"%s\" not implemented", enc);
		return false;
	}
	l->encode = enc != NULL;
	l->v2 = r->op == S3_OP_LIST_OBJECTS_V2;
	l->prefix = s3_param(r, "prefix") == NULL ? "" : s3_param(r, "prefix");
	l->delimiter = s3_param(r, "delimiter");
	l->after = s3_param(r, l->v2 ? "start-after" : "marker");
	l->token = l->v2 ? s3_param(r, "continuation-token") : NULL;
	if (!parse_max_keys(r, l))
		return false;
	add_nfc(&l->from, l->prefix);
	add_nfc(&l->behind, l->after == NULL ? "" : l->after);
	return true;
}

static void
add_encoded(struct str *out, const struct listing *l, const char *name, const char *p, size_t n)
{
	if (l->encode) {
		xml_open(out, name);
		str_add_uri(out, p, n, false);
		xml_close(out, name);
	} else
		xml_text_n(out, name, p, n);
}

static void
add_object(struct listing *l, const struct object *o)
{
	char iso[25];

	clock_iso(o->modified_ms, iso);
	xml_open(&l->contents, "Contents");
	add_encoded(&l->contents, l, "Key", o->name, o->nlen);
	str_printf(&l->contents,
	    "<Size>%llu</Size><LastModified>%s</LastModified><ETag>&quot;%s&quot;</ETag>"
	    "<StorageClass>%s</StorageClass></Contents>",
	    (unsigned long long)o->size, iso, o->etag, o->infrequent ? "STANDARD_IA" : "STANDARD");
	l->count++;
	str_clear(&l->last);
	str_add(&l->last, o->node.key, o->node.klen);
	l->last_is_group = false;
}

/* The key's group: up to and with the first delimiter behind the prefix. 0: none. */
static size_t
group_len(const struct listing *l, const struct keyidx_node *n)
{
	size_t plen = l->from.len, dlen = l->delimiter == NULL ? 0 : strlen(l->delimiter);
	const char *at = dlen == 0 ? NULL : memmem(n->key + plen, n->klen - plen, l->delimiter, dlen);

	return at == NULL ? 0 : (size_t)(at - n->key) + dlen;
}

/* The first key behind all that begin with p; false: there can be none. */
static bool
seek_behind(const struct keyidx *ix, const char *p, size_t n, struct keyidx_pos *pos)
{
	struct str s = STR_INIT;

	str_add(&s, p, n);
	while (s.len > 0 && (unsigned char)s.p[s.len - 1] == 0xff)
		s.p[--s.len] = '\0';
	if (s.len > 0) {
		s.p[s.len - 1] = (char)(s.p[s.len - 1] + 1);
		*pos = keyidx_seek(ix, s.p, s.len, false);
	}
	n = s.len;
	str_fini(&s);
	return n > 0;
}

/* A token is base64 of 'k' (behind this key) or 'g' (behind this group), then the name. */
static bool
decode_token(const char *token, struct str *out)
{
	size_t n = strlen(token), got;

	if (n == 0 || n > 2 * S3_KEY_MAX || !str_unbase64(token, n, (uint8_t *)str_reserve(out, n + 1), n, &got) ||
	    got < 1)
		return false;
	out->len = got;
	out->p[got] = '\0';
	return out->p[0] == 'k' || out->p[0] == 'g';
}

/* Where the page begins. false: at the end already; *bad: the token makes no sense. */
static bool
find_start(const struct listing *l, const struct keyidx *ix, struct keyidx_pos *pos, bool *bad)
{
	size_t plen = l->from.len;
	struct str token = STR_INIT;
	bool more = true;

	*bad = false;
	*pos = keyidx_seek(ix, str_z(&l->from), plen, false);
	if (l->token != NULL) {
		if (!decode_token(l->token, &token))
			*bad = true;
		else if (token.p[0] == 'g')
			more = seek_behind(ix, token.p + 1, token.len - 1, pos);
		else
			*pos = keyidx_seek(ix, token.p + 1, token.len - 1, true);
	} else if (l->after != NULL && strcmp(str_z(&l->behind), str_z(&l->from)) >= 0) {
		const char *after = str_z(&l->behind);
		size_t alen = l->behind.len, dlen = l->delimiter == NULL ? 0 : strlen(l->delimiter);

		/* A marker that is a group, as V1's NextMarker can be, stands for all of the group. */
		if (dlen > 0 && alen > plen && alen >= dlen && strcmp(after + alen - dlen, l->delimiter) == 0 &&
		    strncmp(after, str_z(&l->from), plen) == 0)
			more = seek_behind(ix, after, alen, pos);
		else
			*pos = keyidx_seek(ix, after, alen, true);
	}
	str_fini(&token);
	return more;
}

static void
collect(struct listing *l, const struct keyidx *ix, struct keyidx_pos pos)
{
	size_t plen = l->from.len, g;
	struct keyidx_node *n;

	while ((n = keyidx_next(ix, &pos)) != NULL) {
		if (n->klen < plen || memcmp(n->key, str_z(&l->from), plen) != 0)
			return;
		if (l->count + l->groups == l->limit) {
			l->truncated = true;
			return;
		}
		g = group_len(l, n);
		if (g == 0) {
			add_object(l, (const struct object *)(const void *)n);
			continue;
		}
		xml_open(&l->prefixes, "CommonPrefixes");
		add_encoded(&l->prefixes, l, "Prefix", n->key, g);
		xml_close(&l->prefixes, "CommonPrefixes");
		l->groups++;
		str_clear(&l->last);
		str_add(&l->last, n->key, g);
		l->last_is_group = true;
		if (!seek_behind(ix, l->last.p, g, &pos))
			return;
	}
}

static void
add_position(struct str *out, const struct listing *l)
{
	struct str token = STR_INIT;

	if (!l->v2) {
		add_encoded(
		    out, l, "Marker", l->after == NULL ? "" : l->after, l->after == NULL ? 0 : strlen(l->after));
		if (l->truncated && l->last.len > 0)
			add_encoded(out, l, "NextMarker", l->last.p, l->last.len);
		return;
	}
	if (l->after != NULL)
		add_encoded(out, l, "StartAfter", l->after, strlen(l->after));
	if (l->token != NULL)
		xml_text(out, "ContinuationToken", l->token);
	if (l->truncated && l->last.len > 0) {
		str_addc(&token, l->last_is_group ? 'g' : 'k');
		str_add(&token, l->last.p, l->last.len);
		xml_open(out, "NextContinuationToken");
		str_add_base64(out, token.p, token.len);
		xml_close(out, "NextContinuationToken");
	}
	str_fini(&token);
}

static void
add_document(struct str *out, const struct bucket *b, const struct listing *l)
{
	xml_root(out, "ListBucketResult");
	xml_text(out, "Name", b->name);
	str_add(out, str_z(&l->contents), l->contents.len);
	xml_text(out, "IsTruncated", l->truncated ? "true" : "false");
	str_add(out, str_z(&l->prefixes), l->prefixes.len);
	add_encoded(out, l, "Prefix", l->prefix, strlen(l->prefix));
	if (l->delimiter != NULL)
		add_encoded(out, l, "Delimiter", l->delimiter, strlen(l->delimiter));
	add_position(out, l);
	str_printf(out, "<MaxKeys>%.0f</MaxKeys>", l->max_keys);
	if (l->v2)
		xml_u64(out, "KeyCount", l->count + l->groups);
	if (l->encode)
		xml_text(out, "EncodingType", "url");
	xml_close(out, "ListBucketResult");
}

void
s3_list_commit(struct s3_req *r)
{
	struct bucket *b = s3_bucket(r);
	struct keyidx_pos pos;
	struct listing l;
	bool bad, more;

	if (b == NULL || !parse_listing(r, &l))
		return;
	more = find_start(&l, b->keys, &pos, &bad);
	if (!bad) {
		if (more)
			collect(&l, b->keys, pos);
		add_document(&r->body, b, &l);
	}
	str_fini(&l.from);
	str_fini(&l.behind);
	str_fini(&l.contents);
	str_fini(&l.prefixes);
	str_fini(&l.last);
	if (bad)
		s3_reply_errorf(r, S3_INVALID_ARGUMENT, "The continuation token provided is incorrect");
	else
		s3_reply_xml(r);
}
