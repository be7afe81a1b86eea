/*
 * retry: how long to wait before the n-th attempt: exponential with full jitter. Pure.
 */
#ifndef SYNC_RETRY_H
#define SYNC_RETRY_H

#include <stdint.h>

/* attempt from 1; between base and min(cap, base * 2^attempt), random. */
uint64_t retry_delay_ms(unsigned attempt, uint64_t base_ms, uint64_t cap_ms);

#endif
