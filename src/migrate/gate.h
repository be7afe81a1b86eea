/*
 * gate: may the site move forward to a phase? Runs every gate of gate.def for it, one after the other, and tells each result.
 */
#ifndef MIGRATE_GATE_H
#define MIGRATE_GATE_H

#include <stdbool.h>
#include <stddef.h>

#include "coord/phase.h"
#include "sync/reconcile.h"

struct gate_result {
	const char *name, *asks;
	bool ok;
	char text[256];		/* what was found, and what to do */
};

typedef void gate_done(void *arg, const struct gate_result *v, size_t n, bool all_ok);
/* Results live until done returns. */
void gate_check(const struct reconcile_env *env, enum phase to, gate_done *done, void *arg);

#endif
