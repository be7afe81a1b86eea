#include "sync/retry.h"

#include "base/digest.h"

uint64_t
retry_delay_ms(unsigned attempt, uint64_t base_ms, uint64_t cap_ms)
{
	uint64_t top = base_ms, r;

	for (unsigned i = 0; i < attempt && top < cap_ms; i++)
		top = top > UINT64_MAX / 2 ? UINT64_MAX : top * 2;
	if (top > cap_ms)
		top = cap_ms;
	if (top <= base_ms)
		return top;
	/* The remainder's bias is of no account here. */
	digest_random(&r, sizeof r);
	return base_ms + r % (top - base_ms + 1);
}
