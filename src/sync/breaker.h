/*
 * breaker: stops asking a side that keeps failing, so that reads fall back at once. Closed -> open after `failures` in a row;
 * open -> half open after `open_ms`: one probe is let through; its success closes. Embedded, loop thread.
 */
#ifndef SYNC_BREAKER_H
#define SYNC_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

enum breaker_state {
	BREAKER_CLOSED,		/* everything is let through */
	BREAKER_OPEN,		/* nothing is, until `until` */
	BREAKER_HALF_OPEN	/* one probe is out */
};
struct breaker {
	enum breaker_state state;
	unsigned failed, failures;
	uint64_t open_ms, until;
};
void breaker_init(struct breaker *b, unsigned failures, uint64_t open_ms);
/* May a request be sent now (monotonic ms)? Each true is followed by ok or fail. */
bool breaker_allow(struct breaker *b, uint64_t now_ms);
void breaker_ok(struct breaker *b);
void breaker_fail(struct breaker *b, uint64_t now_ms);

#endif
