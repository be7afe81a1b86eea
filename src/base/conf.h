/*
 * conf: the configuration. One table (options.def) drives everything.
 *
 * conf_load parses the file (libconfig), collects every mistake with its file:line, and returns an immutable snapshot
 * or NULL. A snapshot is shared by reference: a reload builds a new one, whoever started with the old one keeps it.
 * References are counted atomically; the snapshot itself never changes, so any thread may read it.
 * Secrets are read once, into the snapshot, and are wiped with it; they are printed as ***.
 */
#ifndef BASE_CONF_H
#define BASE_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/network.h"

struct str;

/* An option's flags in options.def. */
enum {
	OPTF_REQUIRED = 1,
	OPTF_LIVE = 2,		/* a reload applies it */
	OPTF_RESTART = 4,	/* a reload with another value is refused */
	OPTF_SECRET = 8,	/* with OPTF_FILE: the file holds a secret, and nobody but its owner may read it */
	OPTF_FILE = 16,		/* must exist; absolute in the snapshot, like the next two */
	OPTF_DIR = 32,		/* must exist */
	OPTF_PATH = 64,		/* a file that need not exist, in a folder that must */
	OPTF_ADDR = 128		/* "host:port", "[v6]:port" or "unix:/path" */
};

enum { CONF_SERVERS_MAX = 16 };	/* upstream.address and those of upstream.more */
/* What a media prefix may be used for; none given is upstream. */
enum conf_class { CONF_CLASS_UPSTREAM, CONF_CLASS_PUBLIC, CONF_CLASS_AUTHORIZED, CONF_CLASS_DENY };
/* Who carries out PUT and DELETE on a media URL. NONE: passed through untouched. */
enum conf_writes { CONF_WRITES_NONE, CONF_WRITES_UPSTREAM, CONF_WRITES_DISK };
enum { CONF_SOURCE_DISK, CONF_SOURCE_ORIGIN };
/* How bytes that R2 has reach a reader. */
enum conf_delivery { CONF_DELIVERY_STREAM, CONF_DELIVERY_SIGNED, CONF_DELIVERY_PUBLIC };
enum { CONF_MIRROR_SYNC, CONF_MIRROR_ASYNC };
enum { CONF_ACCESS_LOG_COMBINED, CONF_ACCESS_LOG_JSON };
enum { CONF_ODD_UPSTREAM, CONF_ODD_REFUSE };
enum { CONF_TLS_1_2, CONF_TLS_1_3 };

struct conf_list {
	char **v;		/* NULL: not given */
	size_t n;
};

/* media.prefixes: ( { url = "/media/"; class = "public"; writes = "disk"; token-file = "..."; cache-control = "..."; } ) */
struct conf_prefix {
	char *url;		/* begins with media.url */
	char *url_nfc;		/* its NFC form, if that is another; else NULL */
	size_t url_len;
	enum conf_class class;
	bool class_given;	/* phases above backfill need it */
	enum conf_writes writes;
	struct conf_list methods;	/* that may change something; not given: all */
	struct conf_list networks;	/* from which something may be changed; not given: all */
	struct network *nets;		/* the same, parsed; networks.n of them */
	char *token;		/* bearer token of writers; secret, NULL if none */
	char *auth;		/* URL path at which the application is asked who may write; NULL: it is not */
	char *read_auth;	/* URL path at which the application is asked who may read; NULL: it is not */
	enum conf_delivery delivery;
	struct conf_list precompressed;	/* codings of siblings, best first: "br", "gzip" */
	char *cache_control;	/* sent with the file, from both sides; NULL: none */
};

/* proxy.certificates: ( { certificate = "site.pem"; key = "site.key"; } ) */
struct conf_certificate {
	char *file, *key_file;	/* absolute */
	char *chain;		/* PEM: the server's own certificate, then those between it and the authority */
	char *key;		/* PEM; secret */
	int64_t not_after;	/* Unix time at which the first of the chain ends */
};

/* media.internal: ( { url = "/protected/"; alias = "/srv/mysite/media/private/"; } ): what the application may name in an answer */
struct conf_internal {
	char *url;		/* what an X-Accel-Redirect begins with; NULL: none */
	size_t url_len;
	char *alias;		/* the folder, absolute, ends in a slash */
	size_t alias_len;
	const char *key;	/* the alias's rest below media.root, "" for the root: what the keys begin with. Points into alias */
};

struct conf {
	char *path;		/* the main file, absolute */
	char *phase_file;	/* the file in which "phase" stands, absolute */
	unsigned phase_line;
	bool phase_shared;	/* other settings stand in phase_file: it is not rewritten */
	char *r2_secret;	/* from file or environment; secret */
	char *r2_access_key;	/* the id, wherever it came from */
	char *redis_password;	/* NULL: none; secret */
	char *admin_token;	/* NULL: none; secret */
	struct network *proxies; /* proxy.trusted-proxies, parsed; trusted_proxies.n of them */
	struct network *balancers; /* proxy.proxy-protocol, parsed; proxy_protocol.n of them */
	struct conf_prefix *prefixes; /* longest url first */
	size_t nprefixes;
	struct conf_certificate *certificates; /* in the file's order; the first is the default */
	size_t ncertificates;
	struct conf_internal *internal;
	size_t ninternal;

#define OPT_STR(field, ...) char *field;
#define OPT_ENUM(field, ...) int field;
#define OPT_BOOL(field, ...) bool field;
#define OPT_INT(field, ...) int64_t field;
#define OPT_SIZE(field, ...) uint64_t field;
#define OPT_TIME(field, ...) uint64_t field;
#define OPT_LIST(field, ...) struct conf_list field;
#include "options.def"
#undef OPT_STR
#undef OPT_ENUM
#undef OPT_BOOL
#undef OPT_INT
#undef OPT_SIZE
#undef OPT_TIME
#undef OPT_LIST

	unsigned refs;		/* conf_ref, conf_unref only */
};

/* Loads path. Every mistake becomes a line "file:line: text\n" in errors; NULL if there is one. The caller owns one
 * reference. Looks at files that it names (OPTF_FILE, OPTF_DIR), opens no connection. */
struct conf *conf_load(const char *path, struct str *errors);
/* The same for `r2shim init`, which makes what is missing: no state-dir is no mistake. */
struct conf *conf_load_init(const char *path, struct str *errors);
struct conf *conf_ref(const struct conf *c);
/* What is no mistake yet, one "file: text" a line: certificates that have ended or will soon. */
void conf_warnings(const struct conf *c, struct str *out);
/* Drops a reference and clears the pointer; takes NULL. */
void conf_unref(struct conf **c);

/* The prefix that a decoded URL path falls under (longest match), or NULL. As R2 compares keys, so are paths and prefixes compared:
 * in Unicode's NFC. */
const struct conf_prefix *conf_prefix_for(const struct conf *c, const char *path, size_t len);
/* The key of a decoded URL path below media.url: a pointer into path, *klen; NULL if it is not below media.url. */
const char *conf_key_of(const struct conf *c, const char *path, size_t len, size_t *klen);
/* Does the path fall under a url of media.internal? */
bool conf_is_internal(const struct conf *c, const char *path, size_t len);
/* Does the path fall under media.uploads? */
bool conf_is_upload(const struct conf *c, const char *path, size_t len);

/* May new replace old by a reload? Else the name of the first OPTF_RESTART option that differs, for the log. */
const char *conf_needs_restart(const struct conf *old, const struct conf *new);

/* Rewrites the phase file: atomically (temporary file, fsync, rename, fsync of the folder). INVAL: no such phase. STATE:
 * the phase stands among other settings, which a rewrite would lose. */
enum err conf_write_phase(const struct conf *c, const char *phase_name, struct errbuf *eb) ERR_MUST_CHECK;

/* One line an option: name, type, range, default, text. JSON too: an array of objects. */
void conf_list_options(struct str *out, bool json);
/* The snapshot's values, secrets as ***, one "name = value" a line. */
void conf_dump(const struct conf *c, struct str *out);

#endif
