/*
 * trip: named points at which a test makes this process die, fail or wait, at the n-th time that it comes there. Only in a build
 * made with configure --enable-faults; in every other one the macros are constants, and nothing of this is in the program.
 *
 * Who tests owns a file, a table of struct trip_slot, and names it in the environment variable R2SHIM_TRIP; the process maps it.
 * It takes a slot for each point that it comes to and counts there; the tester arms a slot (at, until, arg, and act last), also
 * while the process runs, and reads the counts, also when the process is dead. Points are hit on any thread.
 *
 * R2SHIM_MUTANT names a rule of docs/protocol.md that this process shall break, to prove that the tests would see it.
 */
#ifndef BASE_TRIP_H
#define BASE_TRIP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum trip_act {
	TRIP_NONE,
	TRIP_KILL,		/* SIGKILL to ourselves */
	TRIP_FAIL,		/* the operation fails with arg, an errno; a point that cannot fail goes on */
	TRIP_DELAY,		/* arg ms */
	TRIP_HOLD		/* until act is something else */
};

enum { TRIP_SLOTS = 256 };

struct trip_slot {
	char name[40];		/* "kind.what"; "": free */
	uint32_t hits;		/* how often we came here */
	uint32_t at, until;	/* the hits, counted from 1, at which act is done */
	uint32_t fired;		/* how often that was */
	int32_t act, arg;
};

#ifdef R2SHIM_FAULTS
/* True: the operation shall fail, and errno says with what. */
bool trip(const char *kind, const char *what, const char *when);
/* The same as an error. */
enum err trip_err(const char *kind, const char *what, const char *when);
bool trip_mutant(const char *name);
#define TRIP(kind, what) trip(kind, what, "")
#define TRIP_ERR(kind, what, when) trip_err(kind, what, when)
#define TRIP_STEP(kind, what) ((void)trip(kind, what, ""))
#define TRIP_MUTANT(name) trip_mutant(name)
#else
#define TRIP(kind, what) false
#define TRIP_ERR(kind, what, when) ERR_OK
#define TRIP_STEP(kind, what) ((void)0)
#define TRIP_MUTANT(name) false
#endif

#endif
