#include "base/conf_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

#define SECRET_MAX     4096
#define PHASE_BACKFILL 2 /* the last phase in which a prefix may do without a class of its own */
#define PHASE_R2_PRIMARY 5 /* from here on we carry out all PUT and DELETE ourselves */

/* Makes a path of the configuration absolute: relative ones start at the main file's folder. */
static void
make_absolute(const struct conf_loading *ld, char **path)
{
	char *abs;

	if ((*path)[0] == '/')
		return;
	abs = mem_printf("%s/%s", ld->dir, *path);
	mem_free(*path);
	*path = abs;
}

static void
check_dir(struct conf_loading *ld, struct conf_pos pos, const char *name, const char *path)
{
	bool is_state = strcmp(name, "state-dir") == 0;
	struct stat st;

	if (stat(path, &st) == 0) {
		if (!S_ISDIR(st.st_mode))
			conf_mistake(ld, pos, "%s: %s is no folder", name, path);
		else if (access(path, R_OK | X_OK) != 0)
			conf_mistake(ld, pos, "%s: %s: %s; give this user access to it", name, path, strerror(errno));
	} else if (errno != ENOENT) {
		conf_mistake(ld, pos, "%s: %s: %s", name, path, strerror(errno));
	} else if (!is_state) {
		conf_mistake(ld, pos, "%s: %s does not exist; mend the path or mount the disk", name, path);
	} else if (!ld->init) {
		conf_mistake(ld, pos, "%s: %s does not exist; run \"r2shim init\", which makes it", name, path);
	}
}

void
conf_check_file(struct conf_loading *ld, struct conf_pos pos, const struct conf_opt *o, char **p)
{
	const char *path;
	struct stat st;

	make_absolute(ld, p);
	path = *p;
	if (stat(path, &st) != 0)
		conf_mistake(ld, pos, "%s: %s: %s", o->name, path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		conf_mistake(ld, pos, "%s: %s is no regular file", o->name, path);
	else if (access(path, R_OK) != 0)
		conf_mistake(ld, pos, "%s: %s: %s; make it readable for this user", o->name, path, strerror(errno));
	else if (o->flags & OPTF_SECRET && st.st_mode & 077)
		conf_mistake(ld, pos, "%s: %s may be read by others (mode %04o); run chmod 600 %s", o->name, path,
		    (unsigned)st.st_mode & 07777u, path);
	else if (o->flags & OPTF_SECRET && geteuid() != 0 && st.st_uid != geteuid())
		conf_mistake(ld, pos, "%s: %s belongs to another user; run chown on it", o->name, path);
}

/* The folder of a file that we make. */
static void
check_parent(struct conf_loading *ld, struct conf_pos pos, const char *name, const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = mem_strndup(path, slash == path ? 1 : (size_t)(slash - path));
	struct stat st;

	if (stat(dir, &st) != 0)
		conf_mistake(ld, pos, "%s: %s: %s", name, dir, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		conf_mistake(ld, pos, "%s: %s is no folder", name, dir);
	mem_free(dir);
}

/* "host:port" or "[v6]:port": the host's slice, or NULL. */
static const char *
split_address(const char *text, size_t *hostlen, uint64_t *port)
{
	const char *colon = strrchr(text, ':'), *host = text;

	if (!colon || colon == text || !str_to_u64(colon + 1, strlen(colon + 1), port) || *port > 65535)
		return NULL;
	*hostlen = (size_t)(colon - text);
	if (text[0] == '[') {
		if (colon[-1] != ']' || *hostlen < 4)
			return NULL;
		host++;
		*hostlen -= 2;
	} else if (memchr(text, ':', *hostlen)) {
		return NULL;
	}
	for (size_t i = 0; i < *hostlen; i++)
		if (host[i] == ' ' || host[i] == '/' || host[i] == '@' || host[i] == '[' || host[i] == ']')
			return NULL;
	return host;
}

static bool
is_loopback(const char *host, size_t len)
{
	struct in_addr v4;
	struct in6_addr v6;
	char z[64];

	if (str_slice_ieq(host, len, "localhost"))
		return true;
	if (len >= sizeof(z))
		return false;
	memcpy(z, host, len);
	z[len] = '\0';
	if (inet_pton(AF_INET, z, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	return inet_pton(AF_INET6, z, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* Port 0, any free one, makes sense to listen on only. */
static void
check_address(struct conf_loading *ld, struct conf_pos pos, const char *name, char **text, bool listens)
{
	uint64_t port = 0;
	size_t hostlen;

	if (strncmp(*text, "unix:", 5) == 0) {
		if (strcmp(name, "admin.listen") == 0 && (*text)[5] != '/' && (*text)[5]) {
			char *abs;

			if (!ld->c->state_dir)
				return; /* a mistake already */
			abs = mem_printf("unix:%s/%s", ld->c->state_dir, *text + 5);
			mem_free(*text);
			*text = abs;
		}
		if ((*text)[5] != '/')
			conf_mistake(ld, pos, "%s = \"%s\": write a Unix socket as \"unix:/path\"", name, *text);
		else if (strlen(*text + 5) >= sizeof(((struct sockaddr_un *)0)->sun_path))
			conf_mistake(ld, pos, "%s = \"%s\": the path of a socket may have %zu bytes", name, *text,
			    sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
		return;
	}
	if (!split_address(*text, &hostlen, &port) || (port == 0 && !listens))
		conf_mistake(ld, pos, "%s = \"%s\" is no address; write \"host:port\", \"[v6]:port\" or \"unix:/path\"",
		    name, *text);
}

/* What each option's flags ask for. state-dir comes before admin.listen in the table, which needs it. */
static void
check_flags(struct conf_loading *ld)
{
	for (size_t i = 0; i < conf_nopts; i++) {
		const struct conf_opt *o = &conf_opts[i];
		void *field = (char *)ld->c + o->offset;
		struct conf_pos pos = conf_pos_of(ld, o->name);
		bool listens = strstr(o->name, "listen") != NULL;

		if (o->kind == CONF_KIND_LIST && o->flags & OPTF_ADDR) {
			struct conf_list *l = field;

			for (size_t j = 0; j < l->n; j++)
				check_address(ld, pos, o->name, &l->v[j], listens);
		}
		if (o->kind != CONF_KIND_STR || !*(char **)field)
			continue;
		if (o->flags & (OPTF_DIR | OPTF_PATH))
			make_absolute(ld, field);
		if (o->flags & OPTF_FILE)
			conf_check_file(ld, pos, o, field);
		else if (o->flags & OPTF_DIR)
			check_dir(ld, pos, o->name, *(char **)field);
		else if (o->flags & OPTF_PATH)
			check_parent(ld, pos, o->name, *(char **)field);
		else if (o->flags & OPTF_ADDR)
			check_address(ld, pos, o->name, field, listens);
	}
}

/* The one line of a secret file. NULL if it cannot be had; unless the file was refused already, with a mistake. */
static char *
read_secret(struct conf_loading *ld, struct conf_pos pos, const char *name, const char *path)
{
	char buf[SECRET_MAX + 1], *secret = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf));

	if (fd >= 0)
		(void)close(fd);
	while (n > 0 && n <= SECRET_MAX && (buf[n - 1] == '\n' || buf[n - 1] == '\r'))
		n--;
	if (n > 0 && n <= SECRET_MAX) {
		secret = mem_zalloc((size_t)n + 1);
		memcpy(secret, buf, (size_t)n);
		for (ssize_t i = 0; secret && i < n; i++)
			if ((unsigned char)buf[i] <= ' ' || buf[i] == 0x7f) {
				mem_wipe_free(secret, (size_t)n);
				secret = NULL;
			}
	}
	explicit_bzero(buf, sizeof(buf));
	if (!secret && !conf_mistake_at(ld, pos))
		conf_mistake(
		    ld, pos, "%s: %s must hold one line without spaces, of at most %d bytes", name, path, SECRET_MAX);
	return secret;
}

static char *
from_environment(struct conf_loading *ld, const char *name, const char *variable)
{
	const char *v = getenv(variable);

	if (v && *v)
		return mem_strdup(v);
	conf_mistake(ld, conf_pos_of(ld, name), "%s: the environment has no variable %s", name, variable);
	return NULL;
}

static void
check_secrets(struct conf_loading *ld)
{
	struct conf *c = ld->c;
	int ids = !!c->r2_key_id + !!c->r2_key_id_file + !!c->r2_key_id_env;

	if (ids == 0)
		conf_mistake(ld, conf_pos_of(ld, "r2.access-key-id"),
		    "no access key: give r2.access-key-id, r2.access-key-id-file or r2.access-key-id-env");
	else if (ids > 1)
		conf_mistake(ld, conf_pos_of(ld, !c->r2_key_id_env ? "r2.access-key-id-file" : "r2.access-key-id-env"),
		    "the access key is given more than once; keep one of r2.access-key-id, -file and -env");
	else if (c->r2_key_id)
		c->r2_access_key = mem_strdup(c->r2_key_id);
	else if (c->r2_key_id_file)
		c->r2_access_key = read_secret(
		    ld, conf_pos_of(ld, "r2.access-key-id-file"), "r2.access-key-id-file", c->r2_key_id_file);
	else
		c->r2_access_key = from_environment(ld, "r2.access-key-id-env", c->r2_key_id_env);

	if (c->r2_secret_file && c->r2_secret_env)
		conf_mistake(ld, conf_pos_of(ld, "r2.secret-access-key-env"),
		    "the secret key is given twice; keep r2.secret-access-key-file or r2.secret-access-key-env");
	else if (c->r2_secret_file)
		c->r2_secret = read_secret(
		    ld, conf_pos_of(ld, "r2.secret-access-key-file"), "r2.secret-access-key-file", c->r2_secret_file);
	else if (c->r2_secret_env)
		c->r2_secret = from_environment(ld, "r2.secret-access-key-env", c->r2_secret_env);
	else
		conf_mistake(ld, conf_pos_of(ld, "r2.secret-access-key-file"),
		    "no secret key: give r2.secret-access-key-file or r2.secret-access-key-env");
	if (c->redis_password_file)
		c->redis_password = read_secret(
		    ld, conf_pos_of(ld, "redis.password-file"), "redis.password-file", c->redis_password_file);
	if (c->admin_token_file)
		c->admin_token =
		    read_secret(ld, conf_pos_of(ld, "admin.token-file"), "admin.token-file", c->admin_token_file);
}

static void
check_site(struct conf_loading *ld)
{
	const char *site = ld->c->site;

	if (site && (strlen(site) > 32 || site[strspn(site, "abcdefghijklmnopqrstuvwxyz0123456789-")]))
		conf_mistake(ld, conf_pos_of(ld, "site"), "site = \"%s\": use 1 to 32 of a-z 0-9 -", site);
}

static void
check_r2(struct conf_loading *ld)
{
	const struct conf *c = ld->c;
	struct conf_pos pos = conf_pos_of(ld, "r2.endpoint");
	const char *url = c->r2_endpoint, *host, *colon, *b = c->r2_bucket;
	struct str authority = STR_INIT;
	bool plain;
	uint64_t port;
	size_t len;

	if (b && (strlen(b) < 3 || strlen(b) > 63 || b[strspn(b, "abcdefghijklmnopqrstuvwxyz0123456789-")] ||
		     b[0] == '-' || b[strlen(b) - 1] == '-'))
		conf_mistake(ld, conf_pos_of(ld, "r2.bucket"),
		    "r2.bucket = \"%s\": a bucket's name has 3 to 63 of a-z 0-9 -, and begins and ends with a letter "
		    "or digit",
		    b);
	if (!url)
		return;
	plain = strncmp(url, "http://", 7) == 0;
	if (!plain && strncmp(url, "https://", 8) != 0) {
		conf_mistake(ld, pos, "r2.endpoint = \"%s\": write https://ACCOUNT.r2.cloudflarestorage.com", url);
		return;
	}
	host = url + (plain ? 7 : 8);
	len = strcspn(host, "/");
	str_add(&authority, host, strcspn(host, "/"));
	colon = strrchr(str_z(&authority), ':');
	if (!colon || strchr(colon, ']'))
		str_addz(&authority, plain ? ":80" : ":443");
	host = split_address(str_z(&authority), &len, &port);
	if (!host || port == 0 || url[strcspn(url, "?#@ ")])
		conf_mistake(ld, pos, "r2.endpoint is no URL of a server; give it no user, query or fragment");
	else if (plain && !c->r2_allow_http)
		conf_mistake(ld, pos,
		    "r2.endpoint = \"%s\" is not encrypted; use https, or r2.allow-http = true on loopback", url);
	else if (plain && !is_loopback(host, len))
		conf_mistake(ld, pos, "r2.endpoint = \"%s\": http is allowed on loopback only; use https", url);
	str_fini(&authority);
}

/* A decoded URL path as we match it: no empty or dot segment, nothing that a URL would encode differently. */
bool
conf_is_url_path(const char *p)
{
	if (p[0] != '/' || strstr(p, "//") || strstr(p, "/./") || strstr(p, "/../") || p[strcspn(p, "?#%")])
		return false;
	p = strrchr(p, '/') + 1;
	return strcmp(p, ".") != 0 && strcmp(p, "..") != 0;
}

bool
conf_is_url_folder(const char *p)
{
	return conf_is_url_path(p) && p[strlen(p) - 1] == '/';
}

static int
longer_first(const void *a, const void *b)
{
	const struct conf_prefix *x = a, *y = b;

	return x->url_len == y->url_len ? 0 : x->url_len > y->url_len ? -1 : 1;
}

/* A name as requests bear it, and one that changes something: the others are never refused. */
static bool
is_writing_method(const char *z)
{
	static const char *const safe[] = {"GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "CONNECT"};

	for (size_t i = 0; i < sizeof(safe) / sizeof(safe[0]); i++)
		if (strcmp(z, safe[i]) == 0)
			return false;
	return z[strspn(z, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-")] == '\0';
}

/* The rules for those who change something below a prefix. */
static void
check_writers(struct conf_loading *ld, struct conf_pos pos, struct conf_prefix *p)
{
	for (size_t i = 0; i < p->methods.n; i++)
		if (!is_writing_method(p->methods.v[i]))
			conf_mistake(ld, pos, "methods: \"%s\" is none that changes something; write them like \"PUT\", \"DELETE\"",
			    p->methods.v[i]);
	p->nets = mem_calloc(p->networks.n, sizeof(*p->nets));
	for (size_t i = 0; i < p->networks.n; i++)
		if (!network_parse(p->networks.v[i], &p->nets[i]))
			conf_mistake(ld, pos, "networks: \"%s\" is no network; write \"10.0.0.0/8\", \"::1\" or \"unix:\"",
			    p->networks.v[i]);
	if (p->auth && !conf_is_url_path(p->auth))
		conf_mistake(ld, pos, "auth = \"%s\" is no URL path; begin it with /, without query, not percent-encoded", p->auth);
}

static void
check_prefix(struct conf_loading *ld, size_t i)
{
	struct conf *c = ld->c;
	struct conf_prefix *p = &c->prefixes[i];
	struct conf_pos pos = ld->list_pos[CONF_LIST_PREFIXES][i];
	const char *url = p->url ? p->url : "?";
	char *path = p->token;

	if (p->url) {
		p->url_len = strlen(p->url);
		if (!conf_is_url_folder(p->url))
			conf_mistake(ld, pos,
			    "prefix \"%s\": begin and end it with /, without //, . or .., not percent-encoded", url);
		else if (c->media_url && strncmp(p->url, c->media_url, strlen(c->media_url)) != 0)
			conf_mistake(ld, pos, "prefix \"%s\" is not below media.url \"%s\"", url, c->media_url);
		for (size_t j = 0; j < i; j++)
			if (c->prefixes[j].url && strcmp(c->prefixes[j].url, p->url) == 0)
				conf_mistake(ld, pos, "prefix \"%s\" is there twice; keep one", url);
	}
	check_writers(ld, pos, p);
	p->token = NULL;
	if (path) { /* the reader left the file's name there */
		for (size_t j = 0; j < conf_nprefix_opts; j++)
			if (conf_prefix_opts[j].flags & OPTF_FILE)
				conf_check_file(ld, pos, &conf_prefix_opts[j], &path);
		p->token = read_secret(ld, pos, "token-file", path);
		mem_free(path);
	} else if (p->writes == CONF_WRITES_DISK && !p->auth) {
		conf_mistake(ld, pos,
		    "prefix \"%s\": writes = \"disk\" needs a token-file or auth, or anybody could write", url);
	} else if (p->writes != CONF_WRITES_NONE && c->phase >= PHASE_R2_PRIMARY && !p->auth) {
		conf_mistake(ld, pos,
		    "prefix \"%s\": from r2-primary on no upstream sees its PUT and DELETE: it needs a token-file or auth, or "
		    "anybody could write",
		    url);
	}
	if (c->phase > PHASE_BACKFILL && !p->class_given)
		conf_mistake(ld, pos,
		    "prefix \"%s\" needs a class of its own in phases above backfill: R2 knows no access rules", url);
}

static void
check_media(struct conf_loading *ld)
{
	struct conf *c = ld->c;
	bool covered = false;

	if (c->media_url && !conf_is_url_folder(c->media_url))
		conf_mistake(ld, conf_pos_of(ld, "media.url"),
		    "media.url = \"%s\": begin and end it with /, without //, . or .., not percent-encoded",
		    c->media_url);
	for (size_t i = 0; i < c->nprefixes; i++) {
		check_prefix(ld, i);
		if (c->media_url && c->prefixes[i].url && strcmp(c->prefixes[i].url, c->media_url) == 0)
			covered = true;
	}
	if (c->phase > PHASE_BACKFILL && c->media_url && !covered)
		conf_mistake(ld, conf_pos_of(ld, "media.url"),
		    "phases above backfill need a prefix with a class for \"%s\" itself in media.prefixes",
		    c->media_url);
	if (c->phase > PHASE_BACKFILL && c->source == CONF_SOURCE_ORIGIN)
		conf_mistake(ld, conf_pos_of(ld, "media.source"),
		    "media.source = \"origin\" reads from the upstream in every phase: phases above backfill need \"disk\"");
	for (size_t i = 0; i < c->uploads.n; i++)
		if (!conf_is_url_path(c->uploads.v[i]))
			conf_mistake(ld, conf_pos_of(ld, "media.uploads"),
			    "media.uploads: \"%s\" is no URL path; begin it with /, not percent-encoded",
			    c->uploads.v[i]);
	conf_check_private(ld);
	if (c->nprefixes)
		qsort(c->prefixes, c->nprefixes, sizeof(*c->prefixes), longer_first);
}

/* The journal and the audit trail must never be served or migrated. */
static void
check_state_dir(struct conf_loading *ld)
{
	const char *r, *s;
	char *root, *state;
	size_t n;

	if (!ld->c->media_root || !ld->c->state_dir)
		return;
	root = realpath(ld->c->media_root, NULL);
	state = realpath(ld->c->state_dir, NULL);
	r = root && state ? root : ld->c->media_root; /* not made yet: compare as written */
	s = root && state ? state : ld->c->state_dir;
	n = strlen(r);
	while (n > 1 && r[n - 1] == '/')
		n--;
	if (strncmp(s, r, n) == 0 && (s[n] == '/' || s[n] == '\0'))
		conf_mistake(ld, conf_pos_of(ld, "state-dir"),
		    "state-dir lies below media.root, where it would be migrated; move it");
	free(root);
	free(state);
}

static void
check_listeners(struct conf_loading *ld)
{
	const struct conf *c = ld->c;
	struct conf_pos pos = conf_pos_of(ld, "admin.listen");
	const char *host;
	uint64_t port;
	size_t len;

	if (!c->admin_listen || strncmp(c->admin_listen, "unix:", 5) == 0)
		return;
	host = split_address(c->admin_listen, &len, &port);
	if (host && !is_loopback(host, len))
		conf_mistake(ld, pos,
		    "admin.listen = \"%s\": TCP is allowed on loopback only; use 127.0.0.1 or a Unix socket",
		    c->admin_listen);
	if (!c->admin_token_file)
		conf_mistake(ld, pos, "admin.listen = \"%s\": TCP needs admin.token-file, or use a Unix socket",
		    c->admin_listen);
}

void
conf_check(struct conf_loading *ld)
{
	check_flags(ld);
	check_site(ld);
	check_state_dir(ld);
	check_listeners(ld);
	conf_check_upstream(ld);
	conf_check_certificates(ld);
	conf_check_front(ld);
	check_r2(ld);
	check_secrets(ld);
	conf_check_delivery(ld);
	check_media(ld);
	conf_check_internal(ld);
}
