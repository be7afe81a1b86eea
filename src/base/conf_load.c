#include "base/conf_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libconfig.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

char *
conf_file_path(const struct conf_loading *ld, const char *file)
{
	const char *slash;

	if (strcmp(file, ld->main_file) != 0)
		return mem_printf("%s/%s", ld->dir, file);
	slash = strrchr(file, '/');
	return mem_printf("%s/%s", ld->dir, slash ? slash + 1 : file);
}

struct conf_pos
conf_pos_of_setting(const config_setting_t *s)
{
	return (struct conf_pos){config_setting_source_file(s), config_setting_source_line(s)};
}

struct conf_pos
conf_pos_of(const struct conf_loading *ld, const char *name)
{
	const char *dot = strchr(name, '.');
	struct conf_pos pos = {ld->main_file, 1};
	config_setting_t *group;
	char *group_name;

	for (size_t i = 0; i < conf_nopts; i++)
		if (ld->pos[i].file && strcmp(conf_opts[i].name, name) == 0)
			return ld->pos[i];
	if (!dot || !ld->cfg)
		return pos;
	group_name = mem_strndup(name, (size_t)(dot - name));
	group = config_lookup(ld->cfg, group_name);
	mem_free(group_name);
	return group ? conf_pos_of_setting(group) : pos;
}

static void
unknown(struct conf_loading *ld, const config_setting_t *s, const char *name)
{
	const char *best = NULL;
	unsigned best_d = (unsigned)(strlen(name) / 3 < 2 ? 2 : strlen(name) / 3) + 1;
	char group[64];

	for (size_t i = 0; i < conf_nopts; i++) {
		const char *dot = strchr(conf_opts[i].name, '.');

		conf_near(name, conf_opts[i].name, &best, &best_d);
		if (!dot || !config_setting_is_group(s))
			continue;
		memcpy(group, conf_opts[i].name, (size_t)(dot - conf_opts[i].name));
		group[dot - conf_opts[i].name] = '\0';
		if (conf_near_distance(name, group) < best_d) {
			best_d = conf_near_distance(name, group);
			best = conf_opts[i].name;
		}
	}
	for (size_t i = 0; i < CONF_NLISTS; i++)
		conf_near(name, conf_lists[i].name, &best, &best_d);
	if (best && config_setting_is_group(s))
		conf_mistake(
		    ld, conf_pos_of_setting(s), "unknown group %s; did you mean %.*s?", name, (int)strcspn(best, "."), best);
	else if (best)
		conf_mistake(ld, conf_pos_of_setting(s), "unknown option %s; did you mean %s?", name, best);
	else
		conf_mistake(ld, conf_pos_of_setting(s), "unknown option %s; r2shim check --list-options lists all", name);
}

/* A copy of a setting's string, or NULL with a mistake. */
static char *
text_of(struct conf_loading *ld, const char *name, const config_setting_t *s)
{
	const char *z = config_setting_get_string(s);

	if (!z) {
		conf_mistake(ld, conf_pos_of_setting(s), "%s must be text in quotes, like %s = \"...\"", name, name);
		return NULL;
	}
	if (!*z) {
		conf_mistake(ld, conf_pos_of_setting(s), "%s is empty; leave it out or give it a value", name);
		return NULL;
	}
	for (const char *p = z; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f) {
			conf_mistake(ld, conf_pos_of_setting(s), "%s holds a control character", name);
			return NULL;
		}
	return mem_strdup(z);
}

static void
read_enum(struct conf_loading *ld, const struct conf_opt *o, const config_setting_t *s, int *field)
{
	char *z = text_of(ld, o->name, s);
	const char *v;
	size_t len;

	if (!z)
		return;
	for (unsigned i = 0; (v = conf_enum_value(o->values, i, &len)); i++)
		if (str_slice_eq(v, len, z)) {
			*field = (int)i;
			mem_free(z);
			return;
		}
	conf_mistake(ld, conf_pos_of_setting(s), "%s = \"%s\" is unknown; it is one of %s", o->name, z, o->values);
	mem_free(z);
}

static void
read_int(struct conf_loading *ld, const struct conf_opt *o, const config_setting_t *s, int64_t *field)
{
	int64_t v;

	if (config_setting_type(s) == CONFIG_TYPE_INT) {
		v = config_setting_get_int(s);
	} else if (config_setting_type(s) == CONFIG_TYPE_INT64) {
		v = config_setting_get_int64(s);
	} else {
		conf_mistake(ld, conf_pos_of_setting(s), "%s must be a whole number without quotes", o->name);
		return;
	}
	if (v >= o->num_min && v <= o->num_max)
		*field = v;
	else if (!conf_mistake_at(ld, conf_pos_of_setting(s))) /* not if the scan has seen that it wrapped */
		conf_mistake(ld, conf_pos_of_setting(s), "%s = %lld is out of range; it is %lld to %lld", o->name, (long long)v,
		    (long long)o->num_min, (long long)o->num_max);
}

/* SIZE and TIME: text with a unit; a bare 0 is clear without. */
static void
read_quantity(struct conf_loading *ld, const struct conf_opt *o, const config_setting_t *s, uint64_t *field)
{
	bool size = o->kind == CONF_KIND_SIZE;
	bool (*parse)(const char *, uint64_t *) = size ? str_to_size : str_to_duration;
	const char *z = config_setting_get_string(s), *units = size ? "B KiB MiB GiB TiB KB MB GB TB" : "ms s m h d";
	uint64_t v = 0, min, max;

	if (config_setting_type(s) == CONFIG_TYPE_INT && config_setting_get_int(s) == 0)
		z = "0";
	if (!z) {
		conf_mistake(
		    ld, conf_pos_of_setting(s), "%s must be text with a unit, like \"%s\"; units: %s", o->name, o->def, units);
		return;
	}
	if (!parse(z, &v)) {
		conf_mistake(ld, conf_pos_of_setting(s), "%s = \"%s\" is no %s; write a whole number and one of %s", o->name, z,
		    size ? "size" : "time", units);
		return;
	}
	ASSERT(parse(o->min, &min) && parse(o->max, &max));
	if (v < min || v > max)
		conf_mistake(ld, conf_pos_of_setting(s), "%s = \"%s\" is out of range; it is %s to %s", o->name, z, o->min, o->max);
	else
		*field = v;
}

static void
read_list(struct conf_loading *ld, const struct conf_opt *o, const config_setting_t *s, struct conf_list *field)
{
	int n = config_setting_length(s);

	if (!config_setting_is_array(s) && !config_setting_is_list(s)) {
		conf_mistake(ld, conf_pos_of_setting(s), "%s must be a list, like %s = [ \"...\" ]", o->name, o->name);
		return;
	}
	if (n == 0 && o->flags & OPTF_REQUIRED)
		conf_mistake(ld, conf_pos_of_setting(s), "%s is empty; it needs at least one", o->name);
	field->v = mem_calloc((size_t)n, sizeof(*field->v));
	for (int i = 0; i < n; i++) {
		char *z = text_of(ld, o->name, config_setting_get_elem(s, (unsigned)i));

		if (z)
			field->v[field->n++] = z;
	}
}

void
conf_read_option(struct conf_loading *ld, const struct conf_opt *o, const config_setting_t *s, void *base)
{
	void *field = (char *)base + o->offset;

	switch (o->kind) {
	case CONF_KIND_STR:
		mem_free(*(char **)field);
		*(char **)field = text_of(ld, o->name, s);
		break;
	case CONF_KIND_ENUM:
		read_enum(ld, o, s, field);
		break;
	case CONF_KIND_BOOL:
		if (config_setting_type(s) == CONFIG_TYPE_BOOL)
			*(bool *)field = config_setting_get_bool(s);
		else
			conf_mistake(ld, conf_pos_of_setting(s), "%s must be true or false, without quotes", o->name);
		break;
	case CONF_KIND_INT:
		read_int(ld, o, s, field);
		break;
	case CONF_KIND_SIZE:
	case CONF_KIND_TIME:
		read_quantity(ld, o, s, field);
		break;
	case CONF_KIND_LIST:
		read_list(ld, o, s, field);
		break;
	}
}

static void
set_defaults(struct conf *c)
{
	for (size_t i = 0; i < conf_nopts; i++) {
		const struct conf_opt *o = &conf_opts[i];
		void *field = (char *)c + o->offset;

		switch (o->kind) {
		case CONF_KIND_STR:
			*(char **)field = mem_strdup(o->def);
			break;
		case CONF_KIND_ENUM:
			*(int *)field = (int)o->num_def;
			break;
		case CONF_KIND_BOOL:
			*(bool *)field = o->num_def != 0;
			break;
		case CONF_KIND_INT:
			*(int64_t *)field = o->num_def;
			break;
		case CONF_KIND_SIZE:
			ASSERT(str_to_size(o->def, field));
			break;
		case CONF_KIND_TIME:
			ASSERT(str_to_duration(o->def, field));
			break;
		case CONF_KIND_LIST:
			break;
		}
	}
}

static bool
is_group_name(const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < conf_nopts; i++)
		if (strncmp(conf_opts[i].name, name, n) == 0 && conf_opts[i].name[n] == '.')
			return true;
	return false;
}

static void
read_setting(struct conf_loading *ld, const config_setting_t *s, const char *name)
{
	for (size_t i = 0; i < conf_nopts; i++)
		if (strcmp(conf_opts[i].name, name) == 0) {
			ld->pos[i] = conf_pos_of_setting(s);
			conf_read_option(ld, &conf_opts[i], s, ld->c);
			return;
		}
	unknown(ld, s, name);
}

static void
read_group(struct conf_loading *ld, const config_setting_t *group, const char *group_name)
{
	int n = config_setting_length(group);

	for (int i = 0; i < n; i++) {
		const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
		char *name = mem_printf("%s.%s", group_name, config_setting_name(s));

		if (!conf_list_named(name))
			read_setting(ld, s, name);
		mem_free(name);
	}
}

static void
read_root(struct conf_loading *ld, config_t *cfg)
{
	const config_setting_t *root = config_root_setting(cfg);
	int n = config_setting_length(root);

	for (int i = 0; i < n; i++) {
		const config_setting_t *s = config_setting_get_elem(root, (unsigned)i);
		const char *name = config_setting_name(s);

		if (!is_group_name(name))
			read_setting(ld, s, name);
		else if (config_setting_is_group(s))
			read_group(ld, s, name);
		else
			conf_mistake(ld, conf_pos_of_setting(s), "%s must be a group, like %s: { ... };", name, name);
	}
	for (size_t i = 0; i < CONF_NLISTS; i++)
		conf_read_list(ld, &conf_lists[i], config_lookup(cfg, conf_lists[i].name));
	for (size_t i = 0; i < conf_nopts; i++)
		if (conf_opts[i].flags & OPTF_REQUIRED && !ld->pos[i].file)
			conf_mistake(ld, conf_pos_of(ld, conf_opts[i].name), "%s is missing: %s", conf_opts[i].name,
			    conf_opts[i].text);
}

/* Where the phase stands, and whether it stands there alone. */
static bool
holds_others(const config_setting_t *group, const char *file)
{
	int n = config_setting_length(group);

	for (int i = 0; i < n; i++) {
		const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
		const char *name = config_setting_name(s), *source = config_setting_source_file(s);

		if (source && strcmp(source, file) == 0 && !(name && strcmp(name, "phase") == 0))
			return true;
		if (config_setting_is_aggregate(s) && holds_others(s, file))
			return true;
	}
	return false;
}

static void
note_phase_file(struct conf_loading *ld, const config_t *cfg)
{
	struct conf_pos pos = conf_pos_of(ld, "phase");

	ld->c->phase_file = conf_file_path(ld, pos.file);
	ld->c->phase_line = pos.line;
	ld->c->phase_shared = strcmp(pos.file, ld->main_file) == 0 || holds_others(config_root_setting(cfg), pos.file);
}

static void
parse(struct conf_loading *ld, config_t *cfg)
{
	const char *file, *text;

	config_set_include_dir(cfg, ld->dir);
	if (!config_read_file(cfg, ld->main_file)) {
		file = config_error_file(cfg);
		text = config_error_text(cfg);
		conf_mistake(ld, (struct conf_pos){file ? file : ld->main_file, (unsigned)config_error_line(cfg)},
		    "%s; %s", text,
		    strstr(text, "duplicate") ? "it is given twice, keep one"
					      : "look for a missing ; quote or bracket on this line or above");
		return;
	}
	ld->cfg = cfg;
	read_root(ld, cfg);
	note_phase_file(ld, cfg);
	conf_check(ld);
}

static char *
folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir, *cwd;

	if (slash == path)
		return mem_strdup("");
	if (path[0] == '/')
		return mem_strndup(path, (size_t)(slash - path));
	cwd = getcwd(NULL, 0);
	if (!cwd)
		return NULL;
	dir = slash ? mem_printf("%s/%.*s", cwd, (int)(slash - path), path) : mem_strdup(cwd);
	free(cwd);
	return dir;
}

static struct conf *
load(const char *path, bool init, struct str *errors)
{
	const char *slash = strrchr(path, '/');
	struct conf_loading ld = {.main_file = path, .init = init};
	config_t cfg;

	ld.dir = folder_of(path);
	if (!ld.dir) {
		str_printf(errors, "%s: the current folder is gone: %s\n", path, strerror(errno));
		return NULL;
	}
	ld.shown_dir = slash ? mem_strndup(path, (size_t)(slash - path) + 1) : mem_strdup("");
	ld.c = mem_zalloc(sizeof(*ld.c));
	ld.c->refs = 1;
	ld.c->path = conf_file_path(&ld, path);
	ld.pos = mem_calloc(conf_nopts, sizeof(*ld.pos));
	set_defaults(ld.c);
	config_init(&cfg);
	if (conf_scan(&ld))
		parse(&ld, &cfg);
	config_destroy(&cfg);
	if (ld.nmistakes)
		conf_unref(&ld.c);
	conf_mistake_tell(&ld, errors);
	mem_free(ld.pos);
	for (size_t i = 0; i < CONF_NLISTS; i++)
		mem_free(ld.list_pos[i]);
	mem_free(ld.shown_dir);
	mem_free(ld.dir);
	return ld.c;
}

struct conf *
conf_load(const char *path, struct str *errors)
{
	return load(path, false, errors);
}

struct conf *
conf_load_init(const char *path, struct str *errors)
{
	return load(path, true, errors);
}
