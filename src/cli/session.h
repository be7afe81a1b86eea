/*
 * session: what a command works with: configuration, loop, and as asked the media root, R2 and Redis. Blocks: a command waits
 * for one thing at a time, with a deadline.
 */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/conf.h"
#include "cli/cmd.h"
#include "sync/reconcile.h"

enum { SESSION_ROOT = 1, SESSION_R2 = 2, SESSION_REDIS = 4, SESSION_REDIS_MAYBE = 8 };

struct session {
	struct conf *conf;
	struct reconcile_env env;
	bool redis_changed;	/* up, or down with a reason */
	bool redis_up;
};

/* Opens what is asked for (REDIS_MAYBE: redis_up tells), or says on stderr what is wrong and returns the exit code. role: of the cluster's connection. */
enum cmd_exit session_open(struct session *s, const char *conf_path, int what, const char *role);
/* Runs the loop until *flag; false after ms. */
bool session_wait(struct session *s, const bool *flag, uint64_t ms);
/* How many keys the disk is owed, in Redis's words. TIMEOUT: it does not answer. */
enum err session_owed(struct session *s, uint64_t *owed) ERR_MUST_CHECK;
void session_close(struct session *s);

/* The command line: takes "-c FILE" and the given switches out of argv. A parsed option: name, whether it has a value, where it goes. */
struct session_opt {
	const char *name;	/* "--full" */
	const char **value;	/* NULL: a switch */
	bool *given;
};
/* Parses; the rest (at most max) goes to words. false: usage was printed. */
bool session_args(int argc, char **argv, const char **conf_path, const struct session_opt *opts, unsigned nopts, const char **words,
    unsigned max, unsigned *nwords);

#endif
