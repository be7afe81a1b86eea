#include "base/conf_int.h"

#include <stdarg.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

#define NAME_MAX_LEN 64

struct conf_mistake {
	char *file, *text;
	unsigned line;
	size_t order;
};

void
conf_mistake(struct conf_loading *ld, struct conf_pos pos, const char *fmt, ...)
{
	struct str text = STR_INIT;
	struct conf_mistake *m;
	va_list ap;

	va_start(ap, fmt);
	str_vprintf(&text, fmt, ap);
	va_end(ap);
	ld->mistakes = mem_realloc(ld->mistakes, (ld->nmistakes + 1) * sizeof(*ld->mistakes));
	m = &ld->mistakes[ld->nmistakes];
	m->file = mem_strdup(pos.file);
	m->text = str_take(&text);
	m->line = pos.line;
	m->order = ld->nmistakes++;
}

bool
conf_mistake_at(const struct conf_loading *ld, struct conf_pos pos)
{
	for (size_t i = 0; i < ld->nmistakes; i++)
		if (ld->mistakes[i].line == pos.line && strcmp(ld->mistakes[i].file, pos.file) == 0)
			return true;
	return false;
}

/* Main file first, then by name; by line; as they were found. */
static bool
stands_before(const struct conf_loading *ld, const struct conf_mistake *a, const struct conf_mistake *b)
{
	bool a_main = strcmp(a->file, ld->main_file) == 0, b_main = strcmp(b->file, ld->main_file) == 0;
	int order = strcmp(a->file, b->file);

	if (a_main != b_main)
		return a_main;
	if (order != 0)
		return order < 0;
	return a->line != b->line ? a->line < b->line : a->order < b->order;
}

void
conf_mistake_tell(struct conf_loading *ld, struct str *errors)
{
	for (size_t i = 1; i < ld->nmistakes; i++) {
		struct conf_mistake m = ld->mistakes[i];
		size_t at = i;

		for (; at && stands_before(ld, &m, &ld->mistakes[at - 1]); at--)
			ld->mistakes[at] = ld->mistakes[at - 1];
		ld->mistakes[at] = m;
	}
	for (size_t i = 0; i < ld->nmistakes; i++) {
		struct conf_mistake *m = &ld->mistakes[i];

		str_printf(errors, "%s%s:", strcmp(m->file, ld->main_file) == 0 ? "" : ld->shown_dir, m->file);
		if (m->line > 0)
			str_printf(errors, "%u:", m->line);
		str_printf(errors, " %s\n", m->text);
		mem_free(m->file);
		mem_free(m->text);
	}
	mem_free(ld->mistakes);
}

/* Levenshtein's distance; far for names longer than any of ours. */
unsigned
conf_near_distance(const char *a, const char *b)
{
	unsigned row[NAME_MAX_LEN + 1];
	size_t n = strlen(b);

	if (n > NAME_MAX_LEN || strlen(a) > NAME_MAX_LEN)
		return NAME_MAX_LEN;
	for (unsigned j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1]; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			unsigned best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[n];
}

void
conf_near(const char *name, const char *candidate, const char **best, unsigned *best_d)
{
	const char *leaf = strrchr(candidate, '.'), *given = strrchr(name, '.');
	unsigned d = conf_near_distance(name, candidate);

	if (leaf && strcmp(leaf + 1, given ? given + 1 : name) == 0 && d > 1)
		d = 1; /* the right name in the wrong group */
	if (d < *best_d) {
		*best_d = d;
		*best = candidate;
	}
}
