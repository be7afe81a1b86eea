#include "coord/phase.h"

#include <stdint.h>
#include <string.h>

#include "base/err.h"

static const struct phase_row rows[] = {
#define PHASE(id, name, read, miss, mirror, backfill, r2_first, text) \
	{ name, PHASE_FROM_##read, PHASE_MISS_##miss, mirror, backfill, r2_first, text },
#include "phases.def"
#undef PHASE
};

const struct phase_row *
phase_row(enum phase p)
{
	ASSERT((unsigned)p < PHASE_COUNT);
	return &rows[p];
}

int
phase_by_name(const char *name)
{
	for (int i = 0; i < PHASE_COUNT; i++)
		if (strcmp(rows[i].name, name) == 0)
			return i;
	return -1;
}

bool
phase_canary(const char *key, size_t klen, unsigned percent)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	/* FNV-1a, then a finalizer: FNV's low bits alone are poor for keys that differ in their last byte. The function may
	 * never change: keys would change sides in the middle of a canary. */
	for (size_t i = 0; i < klen; i++)
		h = (h ^ (unsigned char)key[i]) * UINT64_C(0x100000001b3);
	h ^= h >> 33;
	h *= UINT64_C(0xff51afd7ed558ccd);
	h ^= h >> 33;
	h *= UINT64_C(0xc4ceb9fe1a85ec53);
	h ^= h >> 33;
	return h % 100 < percent;
}
