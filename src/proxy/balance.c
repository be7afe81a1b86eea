#include "proxy/balance.h"

#include "base/err.h"

void
balance_init(struct balance *b, unsigned n)
{
	ASSERT(n > 0 && n <= BALANCE_MAX);
	*b = (struct balance){ .n = n, .fail_max = 1 };
}

void
balance_limits(struct balance *b, unsigned fail_max, uint64_t fail_time_ms)
{
	ASSERT(fail_max > 0);
	b->fail_max = fail_max;
	b->fail_time_ms = fail_time_ms;
}

bool
balance_up(const struct balance *b, unsigned i)
{
	return !b->v[i].out && !b->v[i].sick;
}

/* One that was out long enough. What would be lost should it still hang tries it only if nothing else has. */
static int
pick_trial(struct balance *b, bool safe, uint64_t now_ms)
{
	unsigned i;

	for (i = 0; i < b->n; i++) {
		struct balance_server *s = &b->v[i];

		if (s->out && !s->sick && now_ms >= s->until + (safe ? 0 : b->fail_time_ms)) {
			s->until = now_ms + b->fail_time_ms;
			return (int)i;
		}
	}
	return BALANCE_NONE;
}

static int
pick_least(struct balance *b, const unsigned *busy, uint32_t tried, bool any)
{
	int best = BALANCE_NONE;
	unsigned k;

	for (k = 0; k < b->n; k++) {
		unsigned i = (b->next + k) % b->n;

		if ((tried & 1u << i) != 0 || (!any && !balance_up(b, i)))
			continue;
		if (best == BALANCE_NONE || busy[i] < busy[best])
			best = (int)i;
	}
	if (best != BALANCE_NONE)
		b->next = ((unsigned)best + 1) % b->n;
	return best;
}

int
balance_pick(struct balance *b, const unsigned *busy, uint32_t tried, bool safe, uint64_t now_ms)
{
	/* Who has failed once already gets a server that is known to be well. */
	int i = tried == 0 ? pick_trial(b, safe, now_ms) : BALANCE_NONE;

	if (i == BALANCE_NONE)
		i = pick_least(b, busy, tried, false);
	return i != BALANCE_NONE ? i : pick_least(b, busy, tried, true);
}

bool
balance_ok(struct balance *b, unsigned i)
{
	struct balance_server *s = &b->v[i];
	bool was = balance_up(b, i);

	s->failed = 0;
	s->out = false;
	return balance_up(b, i) != was;
}

bool
balance_failed(struct balance *b, unsigned i, uint64_t now_ms)
{
	struct balance_server *s = &b->v[i];
	bool was = balance_up(b, i);

	if (s->failed < b->fail_max)
		s->failed++;
	if (s->failed >= b->fail_max) {
		s->out = true;
		s->until = now_ms + b->fail_time_ms;
	}
	return balance_up(b, i) != was;
}

bool
balance_checked(struct balance *b, unsigned i, bool well)
{
	struct balance_server *s = &b->v[i];
	bool was = balance_up(b, i);

	if (well)
		s->checks_failed = 0;
	else if (s->checks_failed < b->fail_max)
		s->checks_failed++;
	s->sick = s->checks_failed >= b->fail_max;
	return balance_up(b, i) != was;
}
