#include "sandbox/keyidx.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

enum { CHUNK = 512 };

struct chunk {
	size_t n;
	struct keyidx_node *v[CHUNK];
};

struct keyidx {
	struct chunk **chunks; /* none of them empty */
	size_t n, cap, count;
};

int
keyidx_cmp(const char *a, size_t an, const char *b, size_t bn)
{
	int r = memcmp(a, b, an < bn ? an : bn);

	return r != 0 ? r : (an > bn) - (an < bn);
}

struct keyidx *
keyidx_new(void)
{
	return mem_zalloc(sizeof(struct keyidx));
}

void
keyidx_free(struct keyidx **ix)
{
	if (*ix == NULL)
		return;
	for (size_t i = 0; i < (*ix)->n; i++)
		mem_free((*ix)->chunks[i]);
	mem_free((*ix)->chunks);
	mem_free(*ix);
	*ix = NULL;
}

size_t
keyidx_count(const struct keyidx *ix)
{
	return ix->count;
}

static int
node_cmp(const struct keyidx_node *n, const char *key, size_t klen)
{
	return keyidx_cmp(n->key, n->klen, key, klen);
}

/* The chunk in which the key is, or belongs: the last one that does not begin behind it. */
static size_t
find_chunk(const struct keyidx *ix, const char *key, size_t klen)
{
	size_t lo = 0, hi = ix->n;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (node_cmp(ix->chunks[mid]->v[0], key, klen) <= 0)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

/* The first place in a chunk whose key is not before (after: is behind) the given one. */
static size_t
find_at(const struct chunk *c, const char *key, size_t klen, bool after)
{
	size_t lo = 0, hi = c->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int r = node_cmp(c->v[mid], key, klen);

		if (r < 0 || (after && r == 0))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct keyidx_node *
keyidx_get(const struct keyidx *ix, const char *key, size_t klen)
{
	const struct chunk *c;
	size_t at;

	if (ix->n == 0)
		return NULL;
	c = ix->chunks[find_chunk(ix, key, klen)];
	at = find_at(c, key, klen, false);
	return at < c->n && node_cmp(c->v[at], key, klen) == 0 ? c->v[at] : NULL;
}

static void
insert_chunk(struct keyidx *ix, size_t at, struct chunk *c)
{
	if (ix->n == ix->cap) {
		ix->cap = ix->cap == 0 ? 16 : ix->cap * 2;
		ix->chunks = mem_realloc(ix->chunks, ix->cap * sizeof(ix->chunks[0]));
	}
	memmove(ix->chunks + at + 1, ix->chunks + at, (ix->n - at) * sizeof(ix->chunks[0]));
	ix->chunks[at] = c;
	ix->n++;
}

/* Keys often come in order: a full last chunk is left full, any other is halved. */
static void
split_chunk(struct keyidx *ix, size_t at, bool append)
{
	struct chunk *c = ix->chunks[at], *d = mem_zalloc(sizeof(*d));
	size_t keep = append ? CHUNK - 1 : CHUNK / 2;

	d->n = c->n - keep;
	memcpy(d->v, c->v + keep, d->n * sizeof(d->v[0]));
	c->n = keep;
	insert_chunk(ix, at + 1, d);
}

void
keyidx_add(struct keyidx *ix, struct keyidx_node *n)
{
	struct chunk *c;
	size_t ci, at;

	if (ix->n == 0)
		insert_chunk(ix, 0, mem_zalloc(sizeof(struct chunk)));
	ci = find_chunk(ix, n->key, n->klen);
	c = ix->chunks[ci];
	if (c->n == CHUNK) {
		split_chunk(ix, ci, ci == ix->n - 1 && node_cmp(c->v[CHUNK - 1], n->key, n->klen) < 0);
		ci = find_chunk(ix, n->key, n->klen);
		c = ix->chunks[ci];
	}
	at = find_at(c, n->key, n->klen, false);
	ASSERT(at == c->n || node_cmp(c->v[at], n->key, n->klen) != 0);
	memmove(c->v + at + 1, c->v + at, (c->n - at) * sizeof(c->v[0]));
	c->v[at] = n;
	c->n++;
	ix->count++;
}

struct keyidx_node *
keyidx_del(struct keyidx *ix, const char *key, size_t klen)
{
	struct keyidx_node *found;
	struct chunk *c;
	size_t ci, at;

	if (ix->n == 0)
		return NULL;
	ci = find_chunk(ix, key, klen);
	c = ix->chunks[ci];
	at = find_at(c, key, klen, false);
	if (at == c->n || node_cmp(c->v[at], key, klen) != 0)
		return NULL;
	found = c->v[at];
	c->n--;
	memmove(c->v + at, c->v + at + 1, (c->n - at) * sizeof(c->v[0]));
	ix->count--;
	if (c->n == 0) {
		mem_free(c);
		ix->n--;
		memmove(ix->chunks + ci, ix->chunks + ci + 1, (ix->n - ci) * sizeof(ix->chunks[0]));
	}
	return found;
}

struct keyidx_pos
keyidx_seek(const struct keyidx *ix, const char *key, size_t klen, bool after)
{
	struct keyidx_pos p = {0, 0};

	if (ix->n == 0)
		return p;
	p.chunk = find_chunk(ix, key, klen);
	p.at = find_at(ix->chunks[p.chunk], key, klen, after);
	return p;
}

struct keyidx_node *
keyidx_next(const struct keyidx *ix, struct keyidx_pos *pos)
{
	while (pos->chunk < ix->n && pos->at >= ix->chunks[pos->chunk]->n) {
		pos->chunk++;
		pos->at = 0;
	}
	return pos->chunk < ix->n ? ix->chunks[pos->chunk]->v[pos->at++] : NULL;
}
