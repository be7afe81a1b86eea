/*
 * listing: a page of a folder's names as the disk gives it (store/local.h), corrected by what is known to be newer in R2: a file that
 * the disk is owed is added, one that the disk still has and should not is taken away. Pure; list.c calls it, on the pool.
 */
#ifndef PROXY_LISTING_H
#define PROXY_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/local.h"

/* The size of a file of which only the name is known. */
#define LISTING_UNKNOWN UINT64_MAX

struct listing_fix {
	char *name;
	bool is_folder, gone;
};

/* Zeroed: none. */
struct listing_fixes {
	struct listing_fix *v;
	size_t n, cap;
};

/* A dirty key that R2 is right about: gone, or there. Other folders' keys do not matter; of one below a subfolder it is the subfolder
 * that is there, and what a delete leaves of folders is the disk's business. folder: "" or ending in '/'. */
void listing_fix(struct listing_fixes *f, const char *folder, size_t flen, const char *key, size_t klen, bool gone);
/* Is there something in the folder that the disk may not have? */
bool listing_adds(const struct listing_fixes *f);
/* Corrects the page behind `after` (NULL: the first) of at most max names. */
void listing_correct(struct local_names *names, const char *after, size_t max, struct listing_fixes *f);
void listing_fixes_fini(struct listing_fixes *f);

#endif
