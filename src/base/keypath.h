/*
 * keypath: from a request target to a key, and what a key may be.
 *
 * A key is the path of a file below the media root, bytes as on disk, without a leading slash, with no empty, "." or
 * ".." segment. A target whose decoding, slash merging or dot removal changes its segments is never ours to serve:
 * it is passed on as it came (KEYPATH_ODD); a malformed one gets 400 (KEYPATH_BAD). Pure, thread safe.
 * Names ".r2shim*" in any segment are ours and never served, listed or migrated.
 */
#ifndef BASE_KEYPATH_H
#define BASE_KEYPATH_H

#include <stdbool.h>
#include <stddef.h>

struct str;

enum keypath_class {
	KEYPATH_BAD,	/* malformed: NUL, bad percent, raw control or 8-bit bytes: answer 400 */
	KEYPATH_ODD,	/* encoded slash, dot segment, merged slashes (decoded, so "%2e%2e" too): upstream, never ours */
	KEYPATH_PLAIN	/* path holds the decoded bytes, beginning with '/' */
};

/* Split at '?', decode the path once. out gets the decoded path for PLAIN (and best effort for ODD).
 * Only origin-form ("/...") targets; absolute-form is resolved by the caller first. RFC 9112 3.2.1. */
enum keypath_class keypath_from_target(const char *target, size_t len, struct str *out);

/* Why R2 cannot hold a key, from the name alone. KEYPATH_OK: it can. */
enum keypath_fault {
	KEYPATH_OK,
	KEYPATH_EMPTY,		/* no name at all, or a trailing slash: a directory */
	KEYPATH_SEGMENT,	/* an empty, "." or ".." segment: not a key of ours */
	KEYPATH_OURS,		/* a ".r2shim*" segment */
	KEYPATH_TOO_LONG,	/* more than 1024 bytes in NFC */
	KEYPATH_NOT_UTF8	/* R2 refuses it */
};
enum keypath_fault keypath_check(const char *key, size_t len);
const char *keypath_fault_text(enum keypath_fault f);
/* Is it a path that may be opened below the root at all (EMPTY, SEGMENT and OURS are not; TOO_LONG, NOT_UTF8 are)? */
bool keypath_servable(enum keypath_fault f);

/* The name of our marker file at the media root, and the prefix of every name of ours. */
#define KEYPATH_SENTINEL ".r2shim-root"
#define KEYPATH_OURS_PREFIX ".r2shim"

#endif
