#include "base/conf_int.h"

#include <string.h>

/* "https://host[:port][/path]": what a key can be appended to. */
static bool
is_base_url(const char *z)
{
	const char *rest = strncmp(z, "https://", 8) == 0 ? z + 8 : strncmp(z, "http://", 7) == 0 ? z + 7 : "";

	if (*rest == '\0' || *rest == '/')
		return false;
	for (; *rest; rest++)
		if ((unsigned char)*rest <= ' ' || (unsigned char)*rest >= 0x7f || strchr("?#@\"<>\\^`{|}", *rest))
			return false;
	return true;
}

/* "ext type/subtype", parameters may follow: what can stand in a header line, and what a name's extension is looked up by. */
static bool
is_type(const char *z)
{
	size_t n = strspn(z, "abcdefghijklmnopqrstuvwxyz0123456789_+-"), t;

	if (n == 0 || n > 16 || (z[n] != ' ' && z[n] != '\t'))
		return false;
	z += n + strspn(z + n, " \t");
	t = strcspn(z, "/; \t");
	if (t == 0 || z[t] != '/' || strchr("/; \t", z[t + 1]))
		return false;
	for (; *z; z++)
		if ((unsigned char)*z < ' ' || (unsigned char)*z >= 0x7f)
			return false;
	return true;
}

/* Is there anything that not everybody may read? */
static bool
is_any_private(const struct conf *c)
{
	for (size_t i = 0; i < c->nprefixes; i++)
		if (c->prefixes[i].class == CONF_CLASS_AUTHORIZED || c->prefixes[i].class == CONF_CLASS_DENY)
			return true;
	return c->ninternal > 0;
}

static void
check_precompressed(struct conf_loading *ld, struct conf_pos pos, const struct conf_prefix *p)
{
	for (size_t i = 0; i < p->precompressed.n; i++) {
		const char *z = p->precompressed.v[i];
		size_t k = 0;

		while (k < i && strcmp(z, p->precompressed.v[k]) != 0)
			k++;
		if (strcmp(z, "br") != 0 && strcmp(z, "gzip") != 0)
			conf_mistake(ld, pos, "precompressed: \"%s\" is unknown; it is one of br, gzip", z);
		else if (k < i)
			conf_mistake(ld, pos, "precompressed: \"%s\" is there twice; keep one", z);
	}
	if (p->precompressed.n > 0 && p->delivery != CONF_DELIVERY_STREAM)
		conf_mistake(ld, pos,
		    "prefix \"%s\": R2 itself chooses no sibling: precompressed needs delivery = \"stream\"", p->url ? p->url : "?");
}

void
conf_check_delivery(struct conf_loading *ld)
{
	const struct conf *c = ld->c;
	struct conf_pos pos = conf_pos_of(ld, "media.public-url");

	if (c->public_url && !is_base_url(c->public_url))
		conf_mistake(ld, pos,
		    "media.public-url = \"%s\": write the bucket's public address, like \"https://media.example.com\"", c->public_url);
	for (size_t i = 0; i < c->types.n; i++)
		if (!is_type(c->types.v[i]))
			conf_mistake(ld, conf_pos_of(ld, "media.types"),
			    "media.types: \"%s\": write an extension in small letters and its type, like \"avif image/avif\"",
			    c->types.v[i]);
	for (size_t i = 0; i < c->nprefixes; i++) {
		const struct conf_prefix *p = &c->prefixes[i];
		const char *url = p->url ? p->url : "?";

		check_precompressed(ld, ld->list_pos[CONF_LIST_PREFIXES][i], p);
		if (p->delivery != CONF_DELIVERY_STREAM && p->class != CONF_CLASS_PUBLIC)
			conf_mistake(ld, ld->list_pos[CONF_LIST_PREFIXES][i],
			    "prefix \"%s\": only class = \"public\" may be delivered by redirect", url);
		if (p->delivery == CONF_DELIVERY_PUBLIC && p->class == CONF_CLASS_PUBLIC && is_any_private(c))
			conf_mistake(ld, ld->list_pos[CONF_LIST_PREFIXES][i],
			    "prefix \"%s\": delivery = \"redirect-public\" shows the whole bucket to anybody, and not all of it is public; use "
			    "redirect-signed", url);
		if (p->delivery == CONF_DELIVERY_PUBLIC && !c->public_url)
			conf_mistake(ld, ld->list_pos[CONF_LIST_PREFIXES][i],
			    "prefix \"%s\": delivery = \"redirect-public\" needs media.public-url", url);
	}
}
