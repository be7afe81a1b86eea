#include "base/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/conf_int.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/utf8.h"

struct conf *
conf_ref(const struct conf *c)
{
	struct conf *counted = (struct conf *)(uintptr_t)c; /* the count is all that ever changes */

	(void)__atomic_add_fetch(&counted->refs, 1, __ATOMIC_RELAXED);
	return counted;
}

static void
wipe(char *secret)
{
	if (secret)
		mem_wipe_free(secret, strlen(secret));
}

static void
free_list(struct conf_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		mem_free(l->v[i]);
	mem_free(l->v);
}

void
conf_unref(struct conf **cp)
{
	struct conf *c = *cp;

	*cp = NULL;
	if (!c || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	for (size_t i = 0; i < conf_nopts; i++) {
		void *field = (char *)c + conf_opts[i].offset;

		if (conf_opts[i].kind == CONF_KIND_STR) {
			mem_free(*(char **)field);
		} else if (conf_opts[i].kind == CONF_KIND_LIST) {
			free_list(field);
		}
	}
	for (size_t i = 0; i < c->nprefixes; i++) {
		free_list(&c->prefixes[i].methods);
		free_list(&c->prefixes[i].networks);
		free_list(&c->prefixes[i].precompressed);
		mem_free(c->prefixes[i].nets);
		mem_free(c->prefixes[i].auth);
		mem_free(c->prefixes[i].url);
		mem_free(c->prefixes[i].url_nfc);
		mem_free(c->prefixes[i].read_auth);
		mem_free(c->prefixes[i].cache_control);
		wipe(c->prefixes[i].token);
	}
	mem_free(c->proxies);
	mem_free(c->balancers);
	mem_free(c->prefixes);
	for (size_t i = 0; i < c->ncertificates; i++) {
		mem_free(c->certificates[i].file);
		mem_free(c->certificates[i].key_file);
		mem_free(c->certificates[i].chain);
		wipe(c->certificates[i].key);
	}
	mem_free(c->certificates);
	for (size_t i = 0; i < c->ninternal; i++) {
		mem_free(c->internal[i].url);
		mem_free(c->internal[i].alias);
	}
	mem_free(c->internal);
	wipe(c->r2_secret);
	wipe(c->r2_access_key);
	wipe(c->redis_password);
	wipe(c->admin_token);
	mem_free(c->path);
	mem_free(c->phase_file);
	mem_free(c);
}

static bool
begins_with(const char *p, size_t len, const char *prefix, size_t n)
{
	return len >= n && memcmp(p, prefix, n) == 0;
}

static const struct conf_prefix *
prefix_of(const struct conf *c, const char *path, size_t len, bool nfc)
{
	for (size_t i = 0; i < c->nprefixes; i++) {
		const struct conf_prefix *p = &c->prefixes[i];
		const char *url = nfc && p->url_nfc ? p->url_nfc : p->url;

		if (begins_with(path, len, url, strlen(url)))
			return p;
	}
	return NULL;
}

static bool
is_ascii(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)p[i] >= 0x80)
			return false;
	return true;
}

const struct conf_prefix *
conf_prefix_for(const struct conf *c, const char *path, size_t len)
{
	const struct conf_prefix *p;
	struct str nfc = STR_INIT;

	if (is_ascii(path, len) || !utf8_add_nfc(&nfc, path, len))
		return prefix_of(c, path, len, false);
	p = prefix_of(c, nfc.p, nfc.len, true);
	str_fini(&nfc);
	return p;
}

bool
conf_is_internal(const struct conf *c, const char *path, size_t len)
{
	for (size_t i = 0; i < c->ninternal; i++)
		if (c->internal[i].url && begins_with(path, len, c->internal[i].url, c->internal[i].url_len))
			return true;
	return false;
}

const char *
conf_key_of(const struct conf *c, const char *path, size_t len, size_t *klen)
{
	size_t n = strlen(c->media_url);

	if (!begins_with(path, len, c->media_url, n))
		return NULL;
	*klen = len - n;
	return path + n;
}

bool
conf_is_upload(const struct conf *c, const char *path, size_t len)
{
	for (size_t i = 0; i < c->uploads.n; i++) {
		const char *u = c->uploads.v[i];
		size_t n = strlen(u);

		if (begins_with(path, len, u, n) && (u[n - 1] == '/' || len == n || path[n] == '/'))
			return true;
	}
	return false;
}

static bool
same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool
same_value(const struct conf_opt *o, const struct conf *a, const struct conf *b)
{
	const void *x = (const char *)a + o->offset, *y = (const char *)b + o->offset;
	const struct conf_list *l = x, *m = y;

	switch (o->kind) {
	case CONF_KIND_STR:
		return same_text(*(char *const *)x, *(char *const *)y);
	case CONF_KIND_ENUM:
		return *(const int *)x == *(const int *)y;
	case CONF_KIND_BOOL:
		return *(const bool *)x == *(const bool *)y;
	case CONF_KIND_INT:
		return *(const int64_t *)x == *(const int64_t *)y;
	case CONF_KIND_SIZE:
	case CONF_KIND_TIME:
		return *(const uint64_t *)x == *(const uint64_t *)y;
	case CONF_KIND_LIST:
		for (size_t i = 0; l->n == m->n && i < l->n; i++)
			if (strcmp(l->v[i], m->v[i]) != 0)
				return false;
		return l->n == m->n;
	}
	return false;
}

const char *
conf_needs_restart(const struct conf *old, const struct conf *new)
{
	for (size_t i = 0; i < conf_nopts; i++)
		if (conf_opts[i].flags & OPTF_RESTART && !same_value(&conf_opts[i], old, new))
			return conf_opts[i].name;
	if (!same_text(old->redis_password, new->redis_password))
		return "redis.password-file";
	if (!same_text(old->admin_token, new->admin_token))
		return "admin.token-file";
	return NULL;
}

static bool
is_phase(const char *name)
{
	size_t len;

	for (size_t i = 0; i < conf_nopts; i++) {
		const char *v;

		if (strcmp(conf_opts[i].name, "phase") != 0)
			continue;
		for (unsigned n = 0; (v = conf_enum_value(conf_opts[i].values, n, &len)); n++)
			if (str_slice_eq(v, len, name))
				return true;
	}
	return false;
}

static bool
write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t put = write(fd, p, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return false;
		p += put;
		n -= (size_t)put;
	}
	return true;
}

/* The new file beside the old one, with its owner and mode, on the disk. */
static bool
write_beside(const char *tmp, const char *phase_name, const struct stat *old)
{
	char *text = mem_printf("# The migration phase. Written by r2shim phase set; nothing else belongs here.\n"
				"phase = \"%s\";\n",
	    phase_name);
	int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600), saved;
	bool ok = fd >= 0 && write_all(fd, text, strlen(text)) &&
		  (geteuid() != 0 || fchown(fd, old->st_uid, old->st_gid) == 0) &&
		  fchmod(fd, old->st_mode & 07777) == 0 && fsync(fd) == 0;

	saved = errno;
	if (fd >= 0 && close(fd) != 0 && ok) {
		saved = errno;
		ok = false;
	}
	if (!ok && fd >= 0)
		(void)unlink(tmp);
	mem_free(text);
	errno = saved;
	return ok;
}

static bool
sync_folder(const char *file)
{
	char *dir = mem_strndup(file, (size_t)(strrchr(file, '/') - file) + 1);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), saved;
	bool ok = fd >= 0 && fsync(fd) == 0;

	saved = errno;
	if (fd >= 0)
		(void)close(fd);
	mem_free(dir);
	errno = saved;
	return ok;
}

enum err
conf_write_phase(const struct conf *c, const char *phase_name, struct errbuf *eb)
{
	enum err e = ERR_OK;
	struct stat old;
	uint64_t unique;
	char *file, *tmp;

	if (!is_phase(phase_name))
		return err_set(eb, ERR_INVAL, "there is no phase \"%s\"", phase_name);
	if (c->phase_shared)
		return err_set(eb, ERR_STATE,
		    "%s:%u: the phase stands among other settings; move that line to a file of its "
		    "own and put @include \"phase.conf\" in its place",
		    c->phase_file, c->phase_line);
	file = realpath(c->phase_file, NULL); /* the file behind a symlink is replaced, not the link */
	if (!file || stat(file, &old) != 0) {
		e = err_from_errno(errno);
		free(file);
		return err_set(eb, e, "%s: %s", c->phase_file, strerror(errno));
	}
	digest_random(&unique, sizeof(unique));
	tmp = mem_printf("%s.%016llx.tmp", file, (unsigned long long)unique);
	if (!write_beside(tmp, phase_name, &old)) {
		e = err_set(eb, err_from_errno(errno), "%s: %s", tmp, strerror(errno));
	} else if (rename(tmp, file) != 0) {
		e = err_set(eb, err_from_errno(errno), "%s: %s", file, strerror(errno));
		(void)unlink(tmp);
	} else if (!sync_folder(file)) {
		e = err_set(eb, err_from_errno(errno), "the folder of %s: %s", file, strerror(errno));
	}
	mem_free(tmp);
	free(file);
	return e;
}

/* The largest unit that leaves nothing over, so that the text reads back as the same value. */
static void
add_exact(struct str *out, uint64_t v, bool size)
{
	static const struct unit {
		uint64_t factor;
		const char *name;
	} sizes[] = {{UINT64_C(1) << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}, {1, ""}},
	  times[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
	const struct unit *u = size ? sizes : times;

	while (v % u->factor || v < u->factor) {
		if (u->factor == 1)
			break;
		u++;
	}
	str_printf(out, "\"%llu%s\"", (unsigned long long)(v / u->factor), u->name);
}

static void
add_value(struct str *out, const struct conf_opt *o, const void *base)
{
	const void *field = (const char *)base + o->offset;
	const struct conf_list *l = field;
	const char *v;
	size_t len;

	switch (o->kind) {
	case CONF_KIND_STR:
		v = *(char *const *)field;
		str_add_json(out, v, strlen(v));
		break;
	case CONF_KIND_ENUM:
		v = conf_enum_value(o->values, (unsigned)*(const int *)field, &len);
		str_printf(out, "\"%.*s\"", (int)len, v);
		break;
	case CONF_KIND_BOOL:
		str_addz(out, *(const bool *)field ? "true" : "false");
		break;
	case CONF_KIND_INT:
		str_printf(out, "%lld", (long long)*(const int64_t *)field);
		break;
	case CONF_KIND_SIZE:
	case CONF_KIND_TIME:
		add_exact(out, *(const uint64_t *)field, o->kind == CONF_KIND_SIZE);
		break;
	case CONF_KIND_LIST:
		str_addz(out, "[");
		for (size_t i = 0; i < l->n; i++) {
			str_addz(out, i ? ", " : " ");
			str_add_json(out, l->v[i], strlen(l->v[i]));
		}
		str_addz(out, " ]");
		break;
	}
}

static void
dump_table(struct str *out, const char *group, const struct conf_opt *opts, size_t n, const void *base)
{
	for (size_t i = 0; i < n; i++) {
		const void *field = (const char *)base + opts[i].offset;
		bool in_place = opts[i].flags & OPTF_SECRET && opts == conf_prefix_opts;

		if (opts[i].kind == CONF_KIND_STR && !*(char *const *)field)
			continue;
		if (opts[i].kind == CONF_KIND_LIST && group[0] && !((const struct conf_list *)field)->v)
			continue; /* an empty one says something else */
		str_printf(out, "%s%s = ", group, opts[i].name);
		if (in_place) /* a prefix keeps the token, not the file's name */
			str_addz(out, "***");
		else
			add_value(out, &opts[i], base);
		str_addc(out, '\n');
	}
}

void
conf_dump(const struct conf *c, struct str *out)
{
	dump_table(out, "", conf_opts, conf_nopts, c);
	for (size_t i = 0; i < CONF_NLISTS; i++) {
		const struct conf_list_of *l = &conf_lists[i];
		const char *entries = *(char *const *)(const void *)((const char *)c + l->offset);
		size_t n = *(const size_t *)(const void *)((const char *)c + l->count_offset);

		for (size_t j = 0; j < n; j++) {
			char group[64];

			(void)snprintf(group, sizeof(group), "%s[%zu].", l->name, j);
			dump_table(out, group, l->opts, *l->nopts, entries + j * l->size);
		}
	}
	str_addz(out, "r2.secret-access-key = ***\n");
	if (c->redis_password)
		str_addz(out, "redis.password = ***\n");
	if (c->admin_token)
		str_addz(out, "admin.token = ***\n");
}
