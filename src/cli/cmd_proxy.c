/* proxy: the reverse proxy, until SIGTERM or SIGINT. */
#include "cli/session.h"
#include "proxy/server.h"

const char *const cmd_proxy_help[] = {
	"  -c FILE    the configuration (default " CMD_DEFAULT_CONF ")",
	"",
	"SIGHUP reloads the configuration (a bad one is refused and changes nothing)",
	"and reopens the access log; SIGTERM stops accepting, finishes what runs",
	"(proxy.drain-timeout) and ends.",
	NULL,
};

enum cmd_exit
cmd_proxy(int argc, char **argv)
{
	static const enum cmd_exit exits[] = {
		[SERVER_OK] = CMD_OK,
		[SERVER_FAILED] = CMD_FAILED,
		[SERVER_CONFIG] = CMD_CONFIG,
		[SERVER_UNREACHABLE] = CMD_UNREACHABLE,
		[SERVER_REFUSED] = CMD_REFUSED,
	};
	const char *path;
	struct conf *c;
	unsigned n;

	if (!session_args(argc, argv, &path, NULL, 0, NULL, 0, &n))
		return CMD_USAGE;
	c = cmd_conf(path);
	return c != NULL ? exits[server_run(c)] : CMD_CONFIG;
}
