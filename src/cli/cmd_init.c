/* init: a first configuration with comments, or the site's sentinel and journal folder. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/keypath.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/session.h"
#include "store/local.h"

const char *const cmd_init_help[] = {
	"r2shim init DIR         writes DIR/r2shim.conf and DIR/phase.conf, with",
	"                        comments, to be edited",
	"r2shim init -c FILE     makes what the configuration names: the state-dir, and",
	"                        the sentinel .r2shim-root in media.root, which tells",
	"                        the site's disk from an empty or unmounted folder",
	"",
	"Neither overwrites anything; both can be run again.",
	NULL,
};

static const char first_conf[] =
    "# r2shim: the configuration of one proxy and its migrators. All options: r2shim check --list-options\n"
    "# Check it with `r2shim check -c FILE`, then `r2shim init -c FILE`, then `r2shim proxy -c FILE`.\n"
    "\n"
    "site = \"mysite\";               # a name for the site; all its proxies and migrators say the same\n"
    "state-dir = \"state\";           # journal and audit trail of this proxy; on a local disk\n"
    "@include \"phase.conf\"          # the migration phase; `r2shim phase set` rewrites that file\n"
    "\n"
    "proxy: {\n"
    "  listen = [ \"127.0.0.1:8080\" ];   # where clients, or the balancer, connect\n"
    "};\n"
    "upstream: {\n"
    "  address = \"127.0.0.1:8000\";      # nginx or gunicorn, as it runs today; \"unix:/path\" works too\n"
    "};\n"
    "media: {\n"
    "  root = \"/srv/mysite/media\";      # Django's MEDIA_ROOT\n"
    "  url = \"/media/\";                 # Django's MEDIA_URL\n"
    "  uploads = [ \"/\" ];               # where requests may store or delete media; narrower is faster\n"
    "  # R2 knows no access rules. Only what anybody may read is \"public\"; what the app guards is \"authorized\".\n"
    "  prefixes = ( { url = \"/media/\"; class = \"public\"; } );\n"
    "};\n"
    "mirror: {\n"
    "  policy = \"sync\";                 # an upload's answer waits for R2, up to the deadline; or \"async\"\n"
    "  deadline = \"5s\";\n"
    "};\n"
    "r2: {\n"
    "  endpoint = \"https://ACCOUNT_ID.r2.cloudflarestorage.com\";\n"
    "  bucket = \"mysite-media\";\n"
    "  access-key-id-env = \"R2_ACCESS_KEY_ID\";\n"
    "  secret-access-key-env = \"R2_SECRET_ACCESS_KEY\";   # or secret-access-key-file, mode 0600\n"
    "};\n"
    "redis: {\n"
    "  address = \"127.0.0.1:6379\";      # appendonly yes, maxmemory-policy noeviction\n"
    "};\n";

static const char first_phase[] = "# Rewritten by `r2shim phase set`.\nphase = \"passthrough\";\n";

/* Writes a file that must not exist yet. */
static bool
write_new(const char *dir, const char *name, const char *text)
{
	char *path = mem_printf("%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && fsync(fd) == 0;

	if (ok)
		printf("wrote %s\n", path);
	else
		fprintf(stderr, "r2shim init: %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	mem_free(path);
	return ok;
}

static enum cmd_exit
init_dir(const char *dir)
{
	if (mkdir(dir, 0755) != 0 && errno != EEXIST) {
		fprintf(stderr, "r2shim init: %s: %s\n", dir, strerror(errno));
		return CMD_FAILED;
	}
	if (!write_new(dir, "r2shim.conf", first_conf) || !write_new(dir, "phase.conf", first_phase))
		return CMD_FAILED;
	printf("Edit %s/r2shim.conf, then: r2shim init -c %s/r2shim.conf\n", dir, dir);
	return CMD_OK;
}

static enum cmd_exit
init_site(const char *path)
{
	struct str errors = STR_INIT;
	struct conf *c = conf_load_init(path, &errors);
	enum cmd_exit x = CMD_OK;
	struct errbuf eb;

	if (c == NULL) {
		fprintf(stderr, "%s", str_z(&errors));
		x = CMD_CONFIG;
	} else if (mkdir(c->state_dir, 0700) != 0 && errno != EEXIST) {
		fprintf(stderr, "r2shim init: state-dir %s: %s\n", c->state_dir, strerror(errno));
		x = CMD_FAILED;
	} else if (local_sentinel_write(c->media_root, c->site, &eb) != ERR_OK) {
		fprintf(stderr, "r2shim init: %s\n", eb.text);
		x = CMD_FAILED;
	} else {
		printf("site %s: state-dir %s, sentinel %s/%s\n", c->site, c->state_dir, c->media_root, KEYPATH_SENTINEL);
	}
	conf_unref(&c);
	str_fini(&errors);
	return x;
}

enum cmd_exit
cmd_init(int argc, char **argv)
{
	const char *conf = NULL, *words[1];
	unsigned n;

	if (!session_args(argc, argv, &conf, NULL, 0, words, 1, &n))
		return CMD_USAGE;
	return n == 1 ? init_dir(words[0]) : init_site(conf);
}
