/* main: finds the command in the table, answers --help and --version, and hands over. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/cmd.h"

const struct cmd cmd_table[] = {
#define CMD(fn, name, args, summary) {name, args, summary, cmd_##fn, cmd_##fn##_help},
#include "cli/cmd.def"
#undef CMD
};
const unsigned cmd_count = sizeof(cmd_table) / sizeof(cmd_table[0]);

static const struct cmd *
find(const char *name)
{
	for (unsigned i = 0; i < cmd_count; i++)
		if (strcmp(cmd_table[i].name, name) == 0)
			return &cmd_table[i];
	return NULL;
}

static bool
is_help(const char *arg)
{
	return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0;
}

static void
print_help(FILE *f)
{
	fprintf(f, "usage: r2shim COMMAND [arguments]\n"
		   "       r2shim COMMAND --help | --help | --version\n"
		   "\n"
		   "Moves a running site's media from disk to Cloudflare R2.\n"
		   "\n"
		   "commands:\n");
	for (unsigned i = 0; i < cmd_count; i++)
		fprintf(f, "  %-10s %s\n", cmd_table[i].name, cmd_table[i].summary);
	fprintf(f, "\n"
		   "exit codes: 0 done and clean, 1 something is wrong, 2 wrong command line,\n"
		   "3 wrong configuration, 4 refused by a gate or a state, 5 Redis, R2 or the\n"
		   "proxy cannot be reached\n");
}

static void
print_command_help(const struct cmd *c)
{
	printf("usage: r2shim %s %s\n\n%c%s.\n", c->name, c->args, c->summary[0] & ~0x20, c->summary + 1);
	if (c->help[0] != NULL)
		printf("\n");
	for (const char *const *line = c->help; *line != NULL; line++)
		printf("%s\n", *line);
}

static int
finish(enum cmd_exit r)
{
	/* An answer that could not be written, on a full disk, is no success. */
	if (fflush(stdout) != 0 && r == CMD_OK) {
		fprintf(stderr, "r2shim: cannot write the output\n");
		return CMD_FAILED;
	}
	return (int)r;
}

int
main(int argc, char **argv)
{
	const struct cmd *c;

	signal(SIGPIPE, SIG_IGN);
	if (argc < 2) {
		print_help(stderr);
		return CMD_USAGE;
	}
	if (is_help(argv[1]) || strcmp(argv[1], "help") == 0) {
		print_help(stdout);
		return finish(CMD_OK);
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		printf("r2shim %s\n", PACKAGE_VERSION);
		return finish(CMD_OK);
	}
	c = find(argv[1]);
	if (c == NULL) {
		fprintf(stderr, "r2shim: there is no command '%s'; r2shim --help lists them\n", argv[1]);
		return CMD_USAGE;
	}
	for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (is_help(argv[i])) {
			print_command_help(c);
			return finish(CMD_OK);
		}
	log_program(c->name);
	return finish(c->exec(argc - 1, argv + 1));
}
