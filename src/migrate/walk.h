/*
 * walk: the media root's files in the order in which R2 lists keys (bytes of the whole path). Holds one sorted directory a
 * level, nothing else. Blocks: for the pool. Symlinks, special files, names of ours and names that R2 cannot hold are
 * counted, none silently.
 */
#ifndef MIGRATE_WALK_H
#define MIGRATE_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/keypath.h"
#include "store/local.h"

struct walk;

struct walk_entry {
	char *key;		/* valid until the next walk_next */
	size_t klen;
	enum keypath_fault fault;	/* KEYPATH_OK, TOO_LONG or NOT_UTF8: the latter two stay on the disk */
	uint64_t size;
	int64_t mtime_ns, ctime_ns;
};

struct walk_counts {
	uint64_t files, bytes, unholdable, symlinks, specials, dirs, errors;
};

/* start_after: begin behind this key (NULL: at the start). */
struct walk *walk_new(struct local *l, const char *start_after, size_t len);
/* OK; NOTFOUND at the end; SENTINEL if the root stopped showing its sentinel: what was not listed proves nothing. A directory that
 * cannot be read is counted as an error and its name kept (walk_first_error). */
enum err walk_next(struct walk *w, struct walk_entry *e) ERR_MUST_CHECK;
const struct walk_counts *walk_counts(const struct walk *w);
/* "" if there was none. */
const char *walk_first_error(const struct walk *w);
void walk_free(struct walk **w);

#endif
