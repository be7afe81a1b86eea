/*
 * xml: writes R2's answer documents, and reads the two request documents that carry a list (Delete,
 * CompleteMultipartUpload). Both are held in memory: the caller bounds them. Pure.
 */
#ifndef SANDBOX_XML_H
#define SANDBOX_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct str;

/* The declaration; then elements. */
void xml_begin(struct str *out);
/* The declaration and a root element with S3's namespace. */
void xml_root(struct str *out, const char *name);
void xml_open(struct str *out, const char *name);
void xml_close(struct str *out, const char *name);
void xml_raw(struct str *out, const char *text);
void xml_text(struct str *out, const char *name, const char *value);
void xml_text_n(struct str *out, const char *name, const char *value, size_t n);
void xml_u64(struct str *out, const char *name, uint64_t value);
void xml_escape(struct str *out, const char *p, size_t n);

/*
 * Reads a document of the form <root>(<item>(<field>text</field>)*</item> | <field>text</field>)*</root>, whatever the
 * namespace. For each field of an item, and each direct field of the root (item then NULL), field is called with its
 * whole text; item_end after an item. A callback that returns false stops with failure.
 * false: not well-formed, deeper, another root, or stopped.
 */
struct xml_reader {
	const char *root;
	bool (*field)(void *arg, const char *item, const char *name, const char *text, size_t n);
	bool (*item_end)(void *arg, const char *item);
	void *arg;
};
bool xml_read(const struct xml_reader *r, const char *p, size_t n);

#endif
