/*
 * faults: what the sandbox is told to do wrong, by rules of one line each:
 *
 *	OP ACTION [N%] [next N] [key=PREFIX*|key=NAME]
 *
 * OP: a fault word of ops.def, "read", "write" or "*". ACTION:
 *	429, 500, 503 ...	answer with that status at once, nothing is done
 *	down			the same as 503
 *	delay TIME		wait before anything is done; delay-commit: when the body is there, before it is applied;
 *				delay-answer: when it is applied, before the answer
 *	hold TAG		wait until "release TAG"; hold-commit, hold-answer as above
 *	cut N			close after N bytes of the answer's body
 *	drop N			close after N bytes of the request's body
 *	lost			do it, then close without an answer
 * "next N": the rule ends after N hits. Other lines: "release TAG", "clear", "seed N" (of the percentages; they repeat from
 * run to run), "reset" (the counters). An empty
 * text sent to /.sandbox/faults is "clear". A tag once released lets everything pass until a new rule names it.
 */
#ifndef SANDBOX_FAULTS_H
#define SANDBOX_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct faults;
struct str;

enum s3_op {
#define S3_OP(id, name, word, body, screen) S3_OP_##id,
#include "sandbox/ops.def"
#undef S3_OP
	S3_OP_COUNT
};

/* The moments of a request at which it can be made to wait. */
enum fault_stage { FAULT_START, FAULT_COMMIT, FAULT_ANSWER, FAULT_STAGES };

/* What shall happen to one request: the sum of all rules that hit it. */
struct fault_plan {
	int status;				/* 0: none */
	uint64_t delay_ms[FAULT_STAGES];
	char *hold[FAULT_STAGES];		/* tag or NULL */
	bool lost, cut, drop;
	uint64_t cut_after, drop_after;
};

struct faults *faults_new(void);
void faults_free(struct faults **f);
/* Applies a text of rules and commands. A bad line: nothing of the text is applied. *reset: counters were asked to be reset. */
enum err faults_apply(struct faults *f, const char *text, bool *reset, struct errbuf *eb) ERR_MUST_CHECK;
/* Draws a request's lot. key: NULL if the operation has none. */
void faults_plan(struct faults *f, enum s3_op op, const char *key, struct fault_plan *p);
void fault_plan_fini(struct fault_plan *p);
/* Is the tag still closed? */
bool faults_held(const struct faults *f, const char *tag);
/* The rules in force, one a line, with their hits. */
void faults_print(const struct faults *f, struct str *out);

#endif
