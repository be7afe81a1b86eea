/*
 * out: what commands print: a progress line in a terminal (plain lines in a pipe), the words for sizes and times.
 */
#ifndef CLI_OUT_H
#define CLI_OUT_H

#include <stdbool.h>
#include <stdint.h>

struct str;

/* A progress line on stderr: redrawn in place on a terminal, one line every few seconds in a pipe. Embedded. */
struct out_progress {
	const char *what;
	bool tty, drawn;
	uint32_t text;		/* of the last text */
	uint64_t began_ms, last_ms;
};
void out_progress_begin(struct out_progress *p, const char *what);
/* total 0: not known, no bar. bytes 0: not shown. */
void out_progress(struct out_progress *p, uint64_t done, uint64_t total, uint64_t bytes);
/* What is waited for, in words: drawn in place, or a line when it has changed, and every few seconds. */
void out_progress_text(struct out_progress *p, const char *text);
void out_progress_end(struct out_progress *p);

/* "12,345" "1.4 GiB" "3 m 20 s" in a buffer of the caller's, at least 40 bytes. */
const char *out_count(char buf[40], uint64_t n);
const char *out_size(char buf[40], uint64_t bytes);
const char *out_duration(char buf[40], uint64_t ms);

#endif
