/* fuzz: what libFuzzer calls, or replay.c where there is none; and what targets of HTTP heads share (head.c). */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "io/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* Parses a request's head (kind 'q'), a response's ('r') or one to HEAD ('h'), whole, and once more cut at `cut`: how it arrives
 * must not change what is thought of it. */
enum http1_step fuzz_head(int kind, struct http1_head *h, const char *p, size_t n, size_t cut, size_t *used);
/* Parses what was written anew from *h, with wider limits: it must be sound, all of it one head, and framed alike. */
void fuzz_again(int kind, const struct http1_head *h, const struct str *text);

#endif
