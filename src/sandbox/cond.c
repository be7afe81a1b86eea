#include "sandbox/cond.h"

#include <stddef.h>
#include <string.h>

#include "base/clock.h"

bool
cond_any(const struct cond *c)
{
	return c->match != NULL || c->none_match != NULL || c->modified_since != NULL || c->unmodified_since != NULL;
}

/* Is the tag in a list of entity tags? Quotes may be missing, as some tools send them so. */
static bool
list_has(const char *list, const char *etag, bool strong)
{
	size_t elen = strlen(etag);

	while (*list != '\0') {
		bool weak = false;
		size_t n;

		list += strspn(list, " \t,");
		if (*list == '*')
			return true;
		if (strncmp(list, "W/", 2) == 0) {
			weak = true;
			list += 2;
		}
		if (*list == '"') {
			list++;
			n = strcspn(list, "\"");
		} else
			n = strcspn(list, " \t,");
		if (n == elen && memcmp(list, etag, n) == 0 && !(weak && strong))
			return true;
		list += n;
		list += *list == '"';
	}
	return false;
}

static bool
date(const char *value, int64_t *s)
{
	return value != NULL && clock_parse_http_date(value, strlen(value), s);
}

enum cond_result
cond_test(const struct cond *c, const char *etag, uint64_t modified_ms)
{
	int64_t modified = (int64_t)(modified_ms / 1000), since;
	bool none;

	if (etag == NULL)
		return c->match != NULL || date(c->modified_since, &since) ? COND_FAILED : COND_HOLDS;
	if (c->match != NULL) {
		if (!list_has(c->match, etag, true))
			return COND_FAILED;
	} else if (date(c->unmodified_since, &since) && modified > since)
		return COND_FAILED;
	none = c->none_match != NULL && !list_has(c->none_match, etag, false);
	if (c->none_match != NULL && !none)
		return COND_NOT_MODIFIED;
	if (!none && date(c->modified_since, &since) && modified <= since)
		return COND_NOT_MODIFIED;
	return COND_HOLDS;
}
