/*
 * clock: monotonic time for deadlines, real time for people and protocols, and their text forms. Thread safe.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

uint64_t clock_mono_ms(void);
uint64_t clock_mono_ns(void);
uint64_t clock_real_us(void);
uint64_t clock_real_ms(void);
int64_t clock_timespec_ns(const struct timespec *ts);

/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 5.6.7), 29 characters and a NUL. */
void clock_http_date(int64_t unix_s, char out[30]);
/* All three forms of RFC 9110 5.6.7 that a recipient must accept. */
bool clock_parse_http_date(const char *p, size_t n, int64_t *unix_s);
/* "20130524T000000Z", 16 characters and a NUL. */
void clock_amz_date(int64_t unix_s, char out[17]);
bool clock_parse_amz_date(const char *p, size_t n, int64_t *unix_s);
/* "2026-11-23T01:02:03.456Z", 24 characters and a NUL. */
void clock_iso(uint64_t unix_ms, char out[25]);
bool clock_parse_iso(const char *p, size_t n, uint64_t *unix_ms);

#endif
