#include "base/map.h"

#include <pthread.h>
#include <string.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/mem.h"

/*
 * Entries stand in an array in the order of their setting; a removed one stays as a gap (value NULL) until the next
 * rebuild, which is what lets a walk delete. An open-addressed index of twice the size points into the array.
 */
struct entry {
	uint64_t hash;
	void *key, *value;
	size_t len;
};

struct map {
	struct entry *entries;
	uint32_t *index; /* entry number + 1; 0: free */
	size_t count, used, cap, mask;
};

static pthread_once_t seed_once = PTHREAD_ONCE_INIT;
static uint64_t seed[2];

static void
seed_init(void)
{
	digest_random(seed, sizeof(seed));
}

static uint64_t
rotl(uint64_t x, int b)
{
	return (x << b) | (x >> (64 - b));
}

static void
sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

/* SipHash-1-3 (Aumasson, Bernstein); byte order does not matter here, as no hash leaves the process. */
static uint64_t
hash_bytes(const void *key, size_t len)
{
	uint64_t v[4] = {seed[0] ^ 0x736f6d6570736575u, seed[1] ^ 0x646f72616e646f6du, seed[0] ^ 0x6c7967656e657261u,
	    seed[1] ^ 0x7465646279746573u};
	const unsigned char *p = key;
	uint64_t m;
	size_t left = len;

	for (; left >= 8; p += 8, left -= 8) {
		memcpy(&m, p, 8);
		v[3] ^= m;
		sip_round(v);
		v[0] ^= m;
	}
	m = 0;
	if (left)
		memcpy(&m, p, left);
	m ^= (uint64_t)len << 56;
	v[3] ^= m;
	sip_round(v);
	v[0] ^= m;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct map *
map_new(void)
{
	(void)pthread_once(&seed_once, seed_init);
	return mem_zalloc(sizeof(struct map));
}

void
map_free(struct map **mp)
{
	struct map *m = *mp;

	if (!m)
		return;
	for (size_t i = 0; i < m->used; i++)
		mem_free(m->entries[i].key);
	mem_free(m->entries);
	mem_free(m->index);
	mem_free(m);
	*mp = NULL;
}

size_t
map_count(const struct map *m)
{
	return m->count;
}

static void
index_add(struct map *m, size_t entry)
{
	size_t at = m->entries[entry].hash & m->mask;

	while (m->index[at])
		at = (at + 1) & m->mask;
	m->index[at] = (uint32_t)(entry + 1);
}

/* Makes room for one more: closes the gaps, and grows while more than half is in use. */
static void
rebuild(struct map *m)
{
	size_t cap = 8, n = 0;

	while (cap < m->count * 2)
		cap *= 2;
	ASSERT(cap < UINT32_MAX / 2);
	for (size_t i = 0; i < m->used; i++)
		if (m->entries[i].value)
			m->entries[n++] = m->entries[i];
	ASSERT(n == m->count);
	m->used = n;
	m->entries = mem_realloc(m->entries, cap * sizeof(*m->entries));
	mem_free(m->index);
	m->index = mem_calloc(cap * 2, sizeof(*m->index));
	m->cap = cap;
	m->mask = cap * 2 - 1;
	for (size_t i = 0; i < n; i++)
		index_add(m, i);
}

static struct entry *
find(const struct map *m, const void *key, size_t len, uint64_t hash)
{
	struct entry *e;

	if (m->cap == 0)
		return NULL;
	for (size_t at = hash & m->mask; m->index[at]; at = (at + 1) & m->mask) {
		e = &m->entries[m->index[at] - 1];
		if (e->value && e->hash == hash && e->len == len && (len == 0 || memcmp(e->key, key, len) == 0))
			return e;
	}
	return NULL;
}

void *
map_get(const struct map *m, const void *key, size_t len)
{
	struct entry *e = find(m, key, len, hash_bytes(key, len));

	return e ? e->value : NULL;
}

void *
map_set(struct map *m, const void *key, size_t len, void *value)
{
	uint64_t hash = hash_bytes(key, len);
	struct entry *e = find(m, key, len, hash);
	void *old = NULL;

	ASSERT(value);
	if (e) {
		old = e->value;
		e->value = value;
		return old;
	}
	if (m->used == m->cap)
		rebuild(m);
	e = &m->entries[m->used];
	e->hash = hash;
	e->key = mem_dup(key, len);
	e->len = len;
	e->value = value;
	index_add(m, m->used++);
	m->count++;
	return NULL;
}

void *
map_del(struct map *m, const void *key, size_t len)
{
	struct entry *e = find(m, key, len, hash_bytes(key, len));
	void *old;

	if (!e)
		return NULL;
	old = e->value;
	mem_free(e->key);
	e->key = NULL;
	e->value = NULL;
	m->count--;
	return old;
}

bool
map_next(const struct map *m, size_t *pos, const void **key, size_t *len, void **value)
{
	const struct entry *e;

	while (*pos < m->used) {
		e = &m->entries[(*pos)++];
		if (!e->value)
			continue;
		if (key)
			*key = e->key;
		if (len)
			*len = e->len;
		if (value)
			*value = e->value;
		return true;
	}
	return false;
}
