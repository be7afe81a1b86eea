/*
 * query: the parameters of a query string, decoded as R2's front end decodes them ('+' is a space, a bad percent sign
 * stands for itself), in their order. Pure.
 */
#ifndef SANDBOX_QUERY_H
#define SANDBOX_QUERY_H

#include <stdbool.h>
#include <stddef.h>

struct str;

enum { QUERY_MAX = 64 };

struct query_param {
	char *name, *value;
};

struct query {
	struct query_param v[QUERY_MAX];
	size_t n;
};

/* false: too many parameters, or one that holds a NUL; nothing is then kept. query_fini in any case. */
bool query_parse(struct query *q, const char *text);
void query_fini(struct query *q);
/* The first value of that name, or NULL. */
const char *query_get(const struct query *q, const char *name);
bool query_has(const struct query *q, const char *name);
/* R2 ignores these wherever it refuses unknown parameters: the presigning ones, and the SDKs' x-id. */
bool query_ignored(const char *name);
/* Canonical form (SigV4): each name and value encoded, sorted, joined; without X-Amz-Signature if so asked. */
void query_canonical(const struct query *q, bool presigned, struct str *out);
/* Percent-decodes a path's piece; false: a bad percent sign or a NUL. */
bool query_decode_path(struct str *out, const char *p, size_t n);

#endif
