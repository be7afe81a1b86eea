/*
 * cmd: the command table. One file a command, one row each in cmd.def: CMD(function suffix,
 * "name", "arguments", "summary"); the row declares cmd_NAME and cmd_NAME_help.
 * A command gets its own argv (argv[0] is its name) and returns an exit code. --help is answered by main from the row and
 * the command's help text.
 */
#ifndef CLI_CMD_H
#define CLI_CMD_H

#include "base/conf.h"

/* Exit codes, the same for every command; documented in r2shim(8). */
enum cmd_exit {
	CMD_OK = 0,		/* done, and clean */
	CMD_FAILED = 1,		/* it ran, and found or met something wrong */
	CMD_USAGE = 2,		/* the command line is wrong */
	CMD_CONFIG = 3,		/* the configuration is wrong: nothing was done */
	CMD_REFUSED = 4,	/* a gate or a state forbids it: nothing was done */
	CMD_UNREACHABLE = 5	/* Redis, R2 or the proxy could not be reached */
};

struct cmd {
	const char *name, *args, *summary;
	enum cmd_exit (*exec)(int argc, char **argv);
	const char *const *help;	/* further lines for --help, ended by NULL: options, what it does, examples */
};
extern const struct cmd cmd_table[];
extern const unsigned cmd_count;

#define CMD(fn, name, args, summary) \
	enum cmd_exit cmd_##fn(int argc, char **argv); \
	extern const char *const cmd_##fn##_help[];
#include "cli/cmd.def"
#undef CMD

#define CMD_DEFAULT_CONF SYSCONFDIR "/r2shim/r2shim.conf"

/* Loads the configuration that -c names, or prints every mistake to stderr and returns NULL. */
struct conf *cmd_conf(const char *path);

#endif
