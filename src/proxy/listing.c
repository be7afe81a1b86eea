#include "proxy/listing.h"

#include <string.h>

#include "base/mem.h"

void
listing_fix(struct listing_fixes *f, const char *folder, size_t flen, const char *key, size_t klen, bool gone)
{
	const char *name = key + flen, *slash;
	size_t n;

	if (klen <= flen || memcmp(key, folder, flen) != 0)
		return;
	n = klen - flen;
	slash = memchr(name, '/', n);
	if (slash != NULL && gone)
		return;
	if (f->n == f->cap) {
		f->cap = f->cap == 0 ? 16 : f->cap * 2;
		f->v = mem_realloc(f->v, f->cap * sizeof *f->v);
	}
	f->v[f->n++] = (struct listing_fix){
		.name = mem_strndup(name, slash == NULL ? n : (size_t)(slash - name)),
		.is_folder = slash != NULL,
		.gone = gone,
	};
}

bool
listing_adds(const struct listing_fixes *f)
{
	size_t i;

	for (i = 0; i < f->n; i++)
		if (!f->v[i].gone)
			return true;
	return false;
}

void
listing_fixes_fini(struct listing_fixes *f)
{
	size_t i;

	for (i = 0; i < f->n; i++)
		mem_free(f->v[i].name);
	mem_free(f->v);
	*f = (struct listing_fixes){ NULL, 0, 0 };
}

static bool
on_page(const struct local_names *names, const char *after, const char *name)
{
	return (after == NULL || strcmp(name, after) > 0) && (names->last == NULL || strcmp(name, names->last) <= 0);
}

/* The place of a name on the page, or where it would be. */
static size_t
place_of(const struct local_names *names, const char *name, bool *there)
{
	size_t lo = 0, hi = names->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(names->v[mid].name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*there = lo < names->n && strcmp(names->v[lo].name, name) == 0;
	return lo;
}

static void
drop(struct local_names *names, size_t at)
{
	mem_free(names->v[at].name);
	memmove(names->v + at, names->v + at + 1, (--names->n - at) * sizeof *names->v);
}

/* Takes the name over. The page has room for one more than max (local.h). */
static void
insert(struct local_names *names, size_t at, size_t max, struct listing_fix *c)
{
	memmove(names->v + at + 1, names->v + at, (names->n++ - at) * sizeof *names->v);
	names->v[at] = (struct local_name){ .name = c->name, .len = strlen(c->name), .is_folder = c->is_folder, .size = LISTING_UNKNOWN };
	c->name = NULL;
	if (names->n <= max)
		return;
	drop(names, max);
	mem_free(names->last);
	names->last = mem_strdup(names->v[max - 1].name);
}

void
listing_correct(struct local_names *names, const char *after, size_t max, struct listing_fixes *f)
{
	bool there;
	size_t i, at;

	for (i = 0; i < f->n; i++) {
		struct listing_fix *c = &f->v[i];

		if (!on_page(names, after, c->name))
			continue;
		at = place_of(names, c->name, &there);
		if (there && c->gone && !names->v[at].is_folder)
			drop(names, at);
		else if (!there && !c->gone)
			insert(names, at, max, c);
	}
}
