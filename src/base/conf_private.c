/* What the configuration says of files that the application guards: media.internal, and prefixes with read-auth. */
#include "base/conf_int.h"

#include <string.h>

#include "base/keypath.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/utf8.h"

/* Is every file below the URL path public? Nothing of another class lies on the way to it, nor below it. */
static bool
all_public(const struct conf *c, const char *path)
{
	const struct conf_prefix *p = conf_prefix_for(c, path, strlen(path));

	if (!p || p->class != CONF_CLASS_PUBLIC)
		return false;
	for (size_t i = 0; i < c->nprefixes; i++)
		if (strncmp(c->prefixes[i].url, path, strlen(path)) == 0 && c->prefixes[i].class != CONF_CLASS_PUBLIC)
			return false;
	return true;
}

/* The folder behind an entry, made absolute; its rest below media.root is the keys' beginning. */
static void
check_alias(struct conf_loading *ld, struct conf_pos pos, struct conf_internal *in)
{
	const struct conf *c = ld->c;
	size_t n = strlen(c->media_root);
	char *path;

	while (n > 0 && c->media_root[n - 1] == '/')
		n--;
	path = !in->alias ? mem_printf("%.*s/", (int)n, c->media_root) :
	    mem_printf("%s%s%s%s", in->alias[0] == '/' ? "" : ld->dir, in->alias[0] == '/' ? "" : "/", in->alias,
		in->alias[strlen(in->alias) - 1] == '/' ? "" : "/");
	mem_free(in->alias);
	in->alias = path;
	in->alias_len = strlen(path);
	if (strncmp(path, c->media_root, n) != 0 || path[n] != '/') {
		conf_mistake(ld, pos, "alias = \"%s\" lies outside media.root \"%s\", which alone is copied to R2; move the files below it, or media.root up",
		    path, c->media_root);
		return;
	}
	in->key = path + n + 1;
	if (in->key[0] && keypath_check(in->key, strlen(in->key)) != KEYPATH_EMPTY)
		conf_mistake(ld, pos, "alias = \"%s\": write it without //, . or .., and name no folder of ours", path);
}

/* sound: the prefixes are right, and tell what is public. */
static void
check_internal(struct conf_loading *ld, size_t i, bool sound)
{
	struct conf *c = ld->c;
	struct conf_internal *in = &c->internal[i];
	struct conf_pos pos = ld->list_pos[CONF_LIST_INTERNAL][i];
	char *seen;

	if (!in->url && !in->alias) {
		conf_mistake(ld, pos, "media.internal: give an entry a url (for X-Accel-Redirect), an alias (for X-Sendfile), or both");
		return;
	}
	if (in->url) {
		if (!conf_is_url_folder(in->url) || in->url_len == 1)
			conf_mistake(ld, pos, "media.internal: url = \"%s\": begin and end it with /, without //, . or .., not percent-encoded", in->url);
		for (size_t j = 0; j < i; j++)
			if (c->internal[j].url && strcmp(c->internal[j].url, in->url) == 0)
				conf_mistake(ld, pos, "media.internal: url = \"%s\" is there twice; keep one", in->url);
	}
	if (!c->media_root || !c->media_url)
		return;
	check_alias(ld, pos, in);
	if (!sound || conf_mistake_at(ld, pos))
		return;
	seen = mem_printf("%s%s", c->media_url, in->key);
	/* The URL itself may be one below media.url: then it is internal, whatever the prefix says. */
	if (!conf_is_internal(c, seen, strlen(seen)) && all_public(c, seen))
		conf_mistake(ld, pos, "the files below \"%s\" are public as \"%s\"; give what the application guards a prefix of class \"authorized\" or \"deny\"",
		    in->alias, seen);
	mem_free(seen);
}

/* R2 takes two spellings of a name for one: no spelling of a URL may lead around a prefix. */
static void
set_nfc(struct conf_prefix *p)
{
	struct str nfc = STR_INIT;

	if (p->url && !utf8_is_nfc(p->url, strlen(p->url)) && utf8_add_nfc(&nfc, p->url, strlen(p->url)))
		p->url_nfc = mem_strndup(nfc.p, nfc.len);
	str_fini(&nfc);
}

static void
check_read_auth(struct conf_loading *ld, size_t i)
{
	const struct conf_prefix *p = &ld->c->prefixes[i];
	struct conf_pos pos = ld->list_pos[CONF_LIST_PREFIXES][i];

	if (!p->read_auth)
		return;
	if (!conf_is_url_path(p->read_auth))
		conf_mistake(ld, pos, "read-auth = \"%s\" is no URL path; begin it with /, without query, not percent-encoded", p->read_auth);
	if (p->class != CONF_CLASS_AUTHORIZED)
		conf_mistake(ld, pos, "read-auth is for class = \"authorized\": of any other the application is not asked who may read");
	if (ld->c->source == CONF_SOURCE_ORIGIN)
		conf_mistake(ld, pos, "read-auth needs media.source = \"disk\": what the upstream gives, the upstream guards");
}

void
conf_check_private(struct conf_loading *ld)
{
	/* Before the prefixes are put in order: the places are in the file's. */
	for (size_t i = 0; i < ld->c->nprefixes; i++) {
		set_nfc(&ld->c->prefixes[i]);
		check_read_auth(ld, i);
	}
}

void
conf_check_internal(struct conf_loading *ld)
{
	bool sound = ld->nmistakes == 0;

	for (size_t i = 0; i < ld->c->ninternal; i++) {
		struct conf_internal *in = &ld->c->internal[i];

		in->url_len = in->url ? strlen(in->url) : 0;
	}
	for (size_t i = 0; i < ld->c->ninternal; i++)
		check_internal(ld, i, sound);
}
