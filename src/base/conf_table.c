#include "base/conf_int.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"

const struct conf_opt conf_opts[] = {
#define ROW(field, path, k, fl, txt)                                                                                   \
	.name = path, .text = txt, .kind = k, .flags = fl, .offset = offsetof(struct conf, field)
#define OPT_STR(field, path, dflt, fl, txt) {ROW(field, path, CONF_KIND_STR, fl, txt), .def = dflt},
#define OPT_ENUM(field, path, vals, dflt, fl, txt)                                                                     \
	{ROW(field, path, CONF_KIND_ENUM, fl, txt), .values = vals, .num_def = dflt},
#define OPT_BOOL(field, path, dflt, fl, txt) {ROW(field, path, CONF_KIND_BOOL, fl, txt), .num_def = dflt},
#define OPT_INT(field, path, dflt, lo, hi, fl, txt)                                                                    \
	{ROW(field, path, CONF_KIND_INT, fl, txt), .num_def = dflt, .num_min = lo, .num_max = hi},
#define OPT_SIZE(field, path, dflt, lo, hi, fl, txt)                                                                   \
	{ROW(field, path, CONF_KIND_SIZE, fl, txt), .def = dflt, .min = lo, .max = hi},
#define OPT_TIME(field, path, dflt, lo, hi, fl, txt)                                                                   \
	{ROW(field, path, CONF_KIND_TIME, fl, txt), .def = dflt, .min = lo, .max = hi},
#define OPT_LIST(field, path, fl, txt) {ROW(field, path, CONF_KIND_LIST, fl, txt)},
#include "options.def"
#undef ROW
};
const size_t conf_nopts = sizeof(conf_opts) / sizeof(conf_opts[0]);

#define ROW(field, path, k, fl, txt)                                                                                   \
	.name = path, .text = txt, .kind = k, .flags = (fl) | OPTF_LIVE, .offset = offsetof(struct conf_prefix, field)
const struct conf_opt conf_prefix_opts[] = {
    {ROW(url, "url", CONF_KIND_STR, OPTF_REQUIRED,
	"URL path, begins with media.url and ends with /; the longest one decides")},
    {ROW(class, "class", CONF_KIND_ENUM, 0,
	 "who may read: public (served by us from dual-write on), authorized (the app is asked each time), upstream "
	 "(always passed on), deny; phases above backfill need one"),
	.values = "upstream|public|authorized|deny", .num_def = CONF_CLASS_UPSTREAM},
    {ROW(writes, "writes", CONF_KIND_ENUM, 0,
	 "who carries out PUT and DELETE: none (passed on untouched), upstream, or disk (we do; needs token-file or auth)"),
	.values = "none|upstream|disk", .num_def = CONF_WRITES_NONE},
    {ROW(methods, "methods", CONF_KIND_LIST, 0,
	"methods that may change something here, like \"PUT\"; others get 405; all if not given")},
    {ROW(networks, "networks", CONF_KIND_LIST, 0,
	"networks from which something may be changed here: \"10.0.0.0/8\", \"unix:\"; others get 403; all if not given")},
    {ROW(token, "token-file", CONF_KIND_STR, OPTF_FILE | OPTF_SECRET,
	"file with the bearer token of writers (mode 0600)")},
    {ROW(auth, "auth", CONF_KIND_STR, 0,
	"URL path at which the application is asked whether a write is allowed (GET; 2xx: yes; 401, 403: no)")},
    {ROW(read_auth, "read-auth", CONF_KIND_STR, 0,
	"class authorized: URL path at which the application is asked whether a file may be read (GET; 2xx: yes, and we serve it; 401, 403: no)")},
    {ROW(delivery, "delivery", CONF_KIND_ENUM, 0,
	 "how a reader gets what the phase reads from R2: stream (through us), redirect-signed (302 to a URL that R2 "
	 "takes for media.redirect-lifetime), redirect-public (302 to media.public-url)"),
	.values = "stream|redirect-signed|redirect-public", .num_def = CONF_DELIVERY_STREAM},
    {ROW(precompressed, "precompressed", CONF_KIND_LIST, 0,
	"codings in which files may have siblings, best first: \"br\" (x.br), \"gzip\" (x.gz); given to clients that take them")},
    {ROW(cache_control, "cache-control", CONF_KIND_STR, 0, "Cache-Control sent with the files, from both sides")},
};
const size_t conf_nprefix_opts = sizeof(conf_prefix_opts) / sizeof(conf_prefix_opts[0]);
#undef ROW

#define ROW(field, path, k, fl, txt)                                                                                   \
	.name = path, .text = txt, .kind = k, .flags = (fl) | OPTF_LIVE, .offset = offsetof(struct conf_internal, field)
const struct conf_opt conf_internal_opts[] = {
    {ROW(url, "url", CONF_KIND_STR, 0,
	"URL path below which X-Accel-Redirect names files (nginx: location URL { internal; }); asked from outside it is 404")},
    {ROW(alias, "alias", CONF_KIND_STR, 0,
	"the folder behind it, media.root or below; X-Sendfile names files below it; media.root if not given")},
};
const size_t conf_ninternal_opts = sizeof(conf_internal_opts) / sizeof(conf_internal_opts[0]);
#undef ROW

#define ROW(field, path, fl, txt)                                                                                      \
	{.name = path, .text = txt, .kind = CONF_KIND_STR, .flags = OPTF_REQUIRED | OPTF_FILE | OPTF_LIVE | (fl),      \
	    .offset = offsetof(struct conf_certificate, field)}
const struct conf_opt conf_certificate_opts[] = {
    ROW(file, "certificate", 0, "PEM file: the server's own certificate, then those between it and the authority"),
    ROW(key_file, "key", OPTF_SECRET, "PEM file with its private key, without a passphrase (mode 0600)"),
};
const size_t conf_ncertificate_opts = sizeof(conf_certificate_opts) / sizeof(conf_certificate_opts[0]);

const char *
conf_enum_value(const char *values, unsigned n, size_t *len)
{
	for (; n; n--) {
		values = strchr(values, '|');
		if (!values)
			return NULL;
		values++;
	}
	*len = strcspn(values, "|");
	return values;
}

static void
add_default(struct str *out, const struct conf_opt *o)
{
	const char *v;
	size_t len = 0;

	switch (o->kind) {
	case CONF_KIND_STR:
	case CONF_KIND_SIZE:
	case CONF_KIND_TIME:
		str_addz(out, o->def ? o->def : "-");
		break;
	case CONF_KIND_ENUM:
		v = conf_enum_value(o->values, (unsigned)o->num_def, &len);
		str_add(out, v, len);
		break;
	case CONF_KIND_BOOL:
		str_addz(out, o->num_def ? "true" : "false");
		break;
	case CONF_KIND_INT:
		str_printf(out, "%lld", (long long)o->num_def);
		break;
	case CONF_KIND_LIST:
		str_addc(out, '-');
		break;
	}
}

static void
add_range(struct str *out, const struct conf_opt *o)
{
	if (o->kind == CONF_KIND_ENUM)
		str_addz(out, o->values);
	else if (o->kind == CONF_KIND_INT)
		str_printf(out, "%lld..%lld", (long long)o->num_min, (long long)o->num_max);
	else if (o->min)
		str_printf(out, "%s..%s", o->min, o->max);
	else
		str_addc(out, '-');
}

static void
list_one(struct str *out, const char *group, const struct conf_opt *o, bool json)
{
	static const char *const kinds[] = {
	    "string", "choice", "boolean", "integer", "size", "time", "list of strings"};
	struct str name = STR_INIT, def = STR_INIT, range = STR_INIT;
	const char *reload = o->flags & OPTF_RESTART ? "restart" : "live";

	str_printf(&name, "%s%s", group, o->name);
	if (o->flags & OPTF_REQUIRED)
		str_addz(&def, "(required)");
	else
		add_default(&def, o);
	add_range(&range, o);
	if (json) {
		str_printf(out,
		    "%s{\"name\":\"%s\",\"type\":\"%s\",\"range\":\"%s\",\"default\":\"%s\",\"required\":%s,"
		    "\"change\":\"%s\",\"text\":",
		    out->p[out->len - 1] == '[' ? "" : ",\n", name.p, kinds[o->kind], range.p, def.p,
		    o->flags & OPTF_REQUIRED ? "true" : "false", reload);
		str_add_json(out, o->text, strlen(o->text));
		str_addc(out, '}');
	} else {
		str_printf(out, "%-32s  %-15s  %-20s  %-12s  %-7s  %s\n", name.p, kinds[o->kind], range.p, def.p,
		    reload, o->text);
	}
	str_fini(&name);
	str_fini(&def);
	str_fini(&range);
}

void
conf_list_options(struct str *out, bool json)
{
	if (json)
		str_addc(out, '[');
	for (size_t i = 0; i < conf_nopts; i++)
		list_one(out, "", &conf_opts[i], json);
	for (size_t i = 0; i < CONF_NLISTS; i++) {
		char *group = mem_printf("%s.", conf_lists[i].name);

		for (size_t j = 0; j < *conf_lists[i].nopts; j++)
			list_one(out, group, &conf_lists[i].opts[j], json);
		mem_free(group);
	}
	if (json)
		str_addz(out, "]\n");
}
