#include "sandbox/xml.h"

#include <expat.h>
#include <limits.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "store/s3xml.h"

void
xml_begin(struct str *out)
{
	str_addz(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
}

void
xml_root(struct str *out, const char *name)
{
	xml_begin(out);
	str_printf(out, "<%s xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">", name);
}

void
xml_open(struct str *out, const char *name)
{
	str_printf(out, "<%s>", name);
}

void
xml_close(struct str *out, const char *name)
{
	str_printf(out, "</%s>", name);
}

void
xml_raw(struct str *out, const char *text)
{
	str_addz(out, text);
}

void
xml_escape(struct str *out, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		/* A reader would turn a raw CR into LF, and other control characters are no XML 1.0 at all. */
		if ((unsigned char)p[i] < 0x20 && p[i] != '\n' && p[i] != '\t')
			str_printf(out, "&#x%X;", (unsigned)p[i]);
		else
			s3xml_escape(out, p + i, 1);
	}
}

void
xml_text_n(struct str *out, const char *name, const char *value, size_t n)
{
	xml_open(out, name);
	xml_escape(out, value, n);
	xml_close(out, name);
}

void
xml_text(struct str *out, const char *name, const char *value)
{
	xml_text_n(out, name, value, strlen(value));
}

void
xml_u64(struct str *out, const char *name, uint64_t value)
{
	str_printf(out, "<%s>%llu</%s>", name, (unsigned long long)value, name);
}

enum { DEPTH_MAX = 8, NAME_LEN = 64 };

struct reading {
	const struct xml_reader *r;
	XML_Parser parser;
	unsigned depth;
	char names[DEPTH_MAX][NAME_LEN];
	bool nested[DEPTH_MAX]; /* an element was seen within this one */
	struct str text;
	bool failed;
};

static void
fail(struct reading *x)
{
	x->failed = true;
	XML_StopParser(x->parser, XML_FALSE);
}

static void XMLCALL
on_start(void *arg, const XML_Char *name, const XML_Char **attrs)
{
	struct reading *x = arg;
	const char *colon = strrchr(name, ':');
	const char *local = colon == NULL ? name : colon + 1;

	(void)attrs;
	if (x->failed)
		return;
	if (x->depth == DEPTH_MAX || strlen(local) >= NAME_LEN || (x->depth == 0 && strcmp(local, x->r->root) != 0)) {
		fail(x);
		return;
	}
	if (x->depth > 0)
		x->nested[x->depth - 1] = true;
	memcpy(x->names[x->depth], local, strlen(local) + 1);
	x->nested[x->depth] = false;
	x->depth++;
	str_clear(&x->text);
}

static void XMLCALL
on_text(void *arg, const XML_Char *p, int n)
{
	struct reading *x = arg;

	if (!x->failed)
		str_add(&x->text, p, (size_t)n);
}

static void XMLCALL
on_end(void *arg, const XML_Char *name)
{
	struct reading *x = arg;
	unsigned d = --x->depth;
	bool ok = true;

	(void)name;
	if (x->failed)
		return;
	if (!x->nested[d] && d == 2)
		ok = x->r->field(x->r->arg, x->names[1], x->names[2], str_z(&x->text), x->text.len);
	else if (d == 1 && x->nested[1])
		ok = x->r->item_end(x->r->arg, x->names[1]);
	else if (d == 1)
		ok = x->r->field(x->r->arg, NULL, x->names[1], str_z(&x->text), x->text.len);
	str_clear(&x->text);
	if (!ok)
		fail(x);
}

/* No entity but the predefined ones: a document type is refused. */
static void XMLCALL
on_doctype(void *arg, const XML_Char *name, const XML_Char *sysid, const XML_Char *pubid, int has_subset)
{
	(void)name;
	(void)sysid;
	(void)pubid;
	(void)has_subset;
	fail(arg);
}

bool
xml_read(const struct xml_reader *r, const char *p, size_t n)
{
	struct reading *x = mem_zalloc(sizeof(*x));
	bool ok;

	x->r = r;
	x->parser = XML_ParserCreate("UTF-8");
	XML_SetUserData(x->parser, x);
	XML_SetElementHandler(x->parser, on_start, on_end);
	XML_SetCharacterDataHandler(x->parser, on_text);
	XML_SetStartDoctypeDeclHandler(x->parser, on_doctype);
	ok = n <= INT_MAX && XML_Parse(x->parser, p, (int)n, 1) == XML_STATUS_OK && !x->failed;
	XML_ParserFree(x->parser);
	str_fini(&x->text);
	mem_free(x);
	return ok;
}
