/*
 * fault: a store that wraps another and fails, delays or lies at the n-th operation; for tests.
 * Rules come as text, one a line: "put 3 UNAVAIL", "head 1-5 TIMEOUT", "put 2 lost" (applied, answer lost: CLOSED),
 * "get 1 delay 500ms", "* 7 kill" (raise SIGKILL).
 */
#ifndef STORE_FAULT_H
#define STORE_FAULT_H

#include "io/loop.h"
#include "store/store.h"

/* Takes inner over. NULL and eb filled if the rules are malformed (inner is then still the caller's). */
struct store *fault_new(struct loop *l, struct store **inner, const char *rules, struct errbuf *eb);

#endif
