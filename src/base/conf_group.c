/* The lists of groups: media.prefixes, media.internal and proxy.certificates. */
#include "base/conf_int.h"

#include <string.h>

#include <libconfig.h>

#include "base/mem.h"
#include "base/str.h"

const struct conf_list_of conf_lists[CONF_NLISTS] = {
    [CONF_LIST_PREFIXES] = {"media.prefixes", "a prefix", "{ url = \"/media/\"; class = \"public\"; }", conf_prefix_opts,
	&conf_nprefix_opts, sizeof(struct conf_prefix), offsetof(struct conf, prefixes), offsetof(struct conf, nprefixes)},
    [CONF_LIST_INTERNAL] = {"media.internal", "an entry of media.internal",
	"{ url = \"/protected/\"; alias = \"/srv/mysite/media/private/\"; }", conf_internal_opts, &conf_ninternal_opts,
	sizeof(struct conf_internal), offsetof(struct conf, internal), offsetof(struct conf, ninternal)},
    [CONF_LIST_CERTIFICATES] = {"proxy.certificates", "an entry of proxy.certificates", "{ certificate = \"site.pem\"; key = \"site.key\"; }",
	conf_certificate_opts, &conf_ncertificate_opts, sizeof(struct conf_certificate), offsetof(struct conf, certificates),
	offsetof(struct conf, ncertificates)},
};

bool
conf_list_named(const char *name)
{
	for (size_t i = 0; i < CONF_NLISTS; i++)
		if (strcmp(conf_lists[i].name, name) == 0)
			return true;
	return false;
}

static void
unknown(struct conf_loading *ld, const struct conf_list_of *l, const config_setting_t *s)
{
	const char *name = config_setting_name(s), *best = NULL;
	struct str all = STR_INIT;
	unsigned best_d = 3;

	for (size_t i = 0; i < *l->nopts; i++) {
		conf_near(name, l->opts[i].name, &best, &best_d);
		str_printf(&all, "%s%s", i ? i + 1 < *l->nopts ? ", " : " and " : "", l->opts[i].name);
	}
	if (best)
		conf_mistake(ld, conf_pos_of_setting(s), "unknown option %s in %s; did you mean %s?", name, l->name, best);
	else
		conf_mistake(ld, conf_pos_of_setting(s), "unknown option %s in %s; there are %s", name, l->name, str_z(&all));
	str_fini(&all);
}

/* What each entry must have. */
static void
check_required(struct conf_loading *ld, const struct conf_list_of *l, const config_setting_t *s)
{
	for (size_t i = 0; i < *l->nopts; i++) {
		const char *name = l->opts[i].name;
		bool url = strcmp(name, "url") == 0;

		if (l->opts[i].flags & OPTF_REQUIRED && !config_setting_get_member(s, name))
			conf_mistake(ld, conf_pos_of_setting(s), "%s without %s; add %s = \"%s...\"", l->entry, name, name,
			    !url ? "" : ld->c->media_url ? ld->c->media_url : "/");
	}
}

static bool
read_entry(struct conf_loading *ld, const struct conf_list_of *l, const config_setting_t *s, void *base)
{
	int n = config_setting_length(s);

	if (!config_setting_is_group(s)) {
		conf_mistake(ld, conf_pos_of_setting(s), "%s holds groups, like %s", l->name, l->example);
		return false;
	}
	for (int k = 0; k < n; k++) {
		const config_setting_t *elem = config_setting_get_elem(s, (unsigned)k);
		const struct conf_opt *o = NULL;

		for (size_t j = 0; j < *l->nopts && !o; j++)
			if (strcmp(l->opts[j].name, config_setting_name(elem)) == 0)
				o = &l->opts[j];
		if (!o) {
			unknown(ld, l, elem);
			continue;
		}
		if (strcmp(o->name, "class") == 0)
			((struct conf_prefix *)base)->class_given = true;
		conf_read_option(ld, o, elem, base);
	}
	check_required(ld, l, s);
	return true;
}

void
conf_read_list(struct conf_loading *ld, const struct conf_list_of *l, const config_setting_t *s)
{
	char **entries = (char **)(void *)((char *)ld->c + l->offset);
	size_t *count = (size_t *)(void *)((char *)ld->c + l->count_offset);
	struct conf_pos **pos = &ld->list_pos[l - conf_lists];
	int n = s ? config_setting_length(s) : 0;

	if (!s)
		return;
	if (!config_setting_is_list(s)) {
		conf_mistake(ld, conf_pos_of_setting(s), "%s must be a list of groups in round brackets: ( { %s = ...; }, ... )", l->name,
		    l->opts[0].name);
		return;
	}
	*entries = mem_calloc((size_t)n, l->size);
	*pos = mem_calloc((size_t)n, sizeof(**pos));
	for (int i = 0; i < n; i++) {
		const config_setting_t *entry = config_setting_get_elem(s, (unsigned)i);

		if (!read_entry(ld, l, entry, *entries + *count * l->size))
			continue;
		(*pos)[(*count)++] = conf_pos_of_setting(entry);
	}
}
