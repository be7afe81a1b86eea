/*
 * balance: which of several alike servers a request goes to, and which of them are up. Pure: time is told, nothing is sent.
 *
 * A server is up until fail_max attempts in a row fail; then it is out for fail_time, after which one request tries it, and another one
 * each fail_time until one succeeds. Besides, fail_max checks in a row that fail make it sick until one succeeds. Up is who is
 * neither. Of those that are up the one with the fewest requests in work is picked, in turn among equals; if none is up, of all.
 */
#ifndef PROXY_BALANCE_H
#define PROXY_BALANCE_H

#include <stdbool.h>
#include <stdint.h>

enum { BALANCE_MAX = 16, BALANCE_NONE = -1 };

struct balance_server {
	unsigned failed, checks_failed;	/* in a row */
	bool out, sick;
	uint64_t until;		/* out: when it is tried again */
};

struct balance {
	struct balance_server v[BALANCE_MAX];
	unsigned n, next;
	unsigned fail_max;
	uint64_t fail_time_ms;
};

/* 1 to BALANCE_MAX servers, all up. */
void balance_init(struct balance *b, unsigned n);
void balance_limits(struct balance *b, unsigned fail_max, uint64_t fail_time_ms);
/* busy: requests in work, by server. tried: bits of those where this one was already; they are not picked. safe: it can be sent to another
 * one should this one hang, and is what a server that is out is tried with first. NONE: all were tried. */
int balance_pick(struct balance *b, const unsigned *busy, uint32_t tried, bool safe, uint64_t now_ms);
bool balance_up(const struct balance *b, unsigned i);
/* How an attempt at i went, and a check of i. True: it has gone down, or come back (balance_up tells which). */
bool balance_ok(struct balance *b, unsigned i);
bool balance_failed(struct balance *b, unsigned i, uint64_t now_ms);
bool balance_checked(struct balance *b, unsigned i, bool well);

#endif
