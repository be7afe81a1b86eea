/*
 * keyrate: R2's limit of one write a second and key, with a small burst. A fixed table: keys that share a place forget each
 * other, so memory is bounded and no key is ever limited for another's sake.
 */
#ifndef SANDBOX_KEYRATE_H
#define SANDBOX_KEYRATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KEYRATE_BURST = 5 };

struct keyrate;

struct keyrate *keyrate_new(void);
void keyrate_free(struct keyrate **k);
/* Counts a write to a key of a bucket; false: too many. */
bool keyrate_take(struct keyrate *k, const char *bucket, const char *key, size_t klen, uint64_t now_ms);

#endif
