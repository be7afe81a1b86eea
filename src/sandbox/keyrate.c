#include "sandbox/keyrate.h"

#include <string.h>

#include "base/digest.h"
#include "base/mem.h"

enum { SLOTS = 16384, PER_WRITE_MS = 1000 };

struct slot {
	uint64_t id, since_ms;
	uint64_t credit_ms; /* a write costs PER_WRITE_MS of it */
};

struct keyrate {
	struct slot slots[SLOTS];
};

struct keyrate *
keyrate_new(void)
{
	return mem_zalloc(sizeof(struct keyrate));
}

void
keyrate_free(struct keyrate **k)
{
	mem_free(*k);
	*k = NULL;
}

static uint64_t
key_id(const char *bucket, const char *key, size_t klen)
{
	struct digest *d = digest_new(DIGEST_SHA256);
	uint8_t h[DIGEST_SHA256_LEN];
	uint64_t id;

	digest_update(d, bucket, strlen(bucket) + 1);
	digest_update(d, key, klen);
	digest_final(d, h);
	digest_free(&d);
	memcpy(&id, h, sizeof(id));
	return id;
}

bool
keyrate_take(struct keyrate *k, const char *bucket, const char *key, size_t klen, uint64_t now_ms)
{
	uint64_t id = key_id(bucket, key, klen), full = KEYRATE_BURST * PER_WRITE_MS;
	struct slot *s = &k->slots[id % SLOTS];

	if (s->id != id || s->since_ms > now_ms) {
		s->id = id;
		s->credit_ms = full;
	} else {
		s->credit_ms += now_ms - s->since_ms;
		if (s->credit_ms > full)
			s->credit_ms = full;
	}
	s->since_ms = now_ms;
	if (s->credit_ms < PER_WRITE_MS)
		return false;
	s->credit_ms -= PER_WRITE_MS;
	return true;
}
