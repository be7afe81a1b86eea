#include "sync/breaker.h"

#include "base/err.h"

void
breaker_init(struct breaker *b, unsigned failures, uint64_t open_ms)
{
	ASSERT(failures > 0);
	*b = (struct breaker){ .state = BREAKER_CLOSED, .failures = failures, .open_ms = open_ms };
}

bool
breaker_allow(struct breaker *b, uint64_t now_ms)
{
	switch (b->state) {
	case BREAKER_CLOSED:
		return true;
	case BREAKER_OPEN:
		if (now_ms < b->until)
			return false;
		b->state = BREAKER_HALF_OPEN;
		return true;
	case BREAKER_HALF_OPEN:
		break;
	}
	return false;
}

void
breaker_ok(struct breaker *b)
{
	b->state = BREAKER_CLOSED;
	b->failed = 0;
}

void
breaker_fail(struct breaker *b, uint64_t now_ms)
{
	/* A request sent before it opened may fail late: that is no news. */
	if (b->state == BREAKER_OPEN)
		return;
	if (b->state == BREAKER_CLOSED && ++b->failed < b->failures)
		return;
	b->state = BREAKER_OPEN;
	b->until = now_ms + b->open_ms;
}
