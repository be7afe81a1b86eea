/*
 * cond: If-Match, If-None-Match, If-Modified-Since and If-Unmodified-Since as R2 evaluates them: second granularity;
 * If-None-Match that passes overrides If-Modified-Since, If-Match that passes overrides If-Unmodified-Since; on a key that
 * does not exist If-Match and If-Modified-Since fail. Pure.
 */
#ifndef SANDBOX_COND_H
#define SANDBOX_COND_H

#include <stdbool.h>
#include <stdint.h>

/* Header values, NULL if absent. */
struct cond {
	const char *match, *none_match, *modified_since, *unmodified_since;
};

enum cond_result {
	COND_HOLDS,
	COND_FAILED,		/* 412 */
	COND_NOT_MODIFIED	/* a read's 304; a write's 412 */
};

bool cond_any(const struct cond *c);
/* etag without quotes; NULL: there is no such object. A date that cannot be parsed counts as not given. */
enum cond_result cond_test(const struct cond *c, const char *etag, uint64_t modified_ms);

#endif
