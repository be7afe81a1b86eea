/*
 * conf_int: what conf*.c share and nobody else includes: the option table as an array, and the state of one load.
 *
 * A load runs in four steps: conf_scan reads the text for what libconfig would hide or die of, libconfig parses,
 * conf_load.c fills the snapshot from the table, conf_check looks at what the values mean together. Each adds its mistakes
 * and goes on, so that one run shows them all.
 */
#ifndef BASE_CONF_INT_H
#define BASE_CONF_INT_H

#include "base/conf.h"

enum conf_kind { CONF_KIND_STR, CONF_KIND_ENUM, CONF_KIND_BOOL, CONF_KIND_INT, CONF_KIND_SIZE, CONF_KIND_TIME, CONF_KIND_LIST };

struct conf_opt {
	const char *name, *text;
	enum conf_kind kind;
	unsigned flags;
	size_t offset;			/* of the field in struct conf, or in its list's entry */
	const char *values;		/* ENUM: "a|b|c" */
	const char *def, *min, *max;	/* as written; def of STR, SIZE, TIME */
	int64_t num_def, num_min, num_max; /* of ENUM, BOOL, INT */
};

extern const struct conf_opt conf_opts[];
extern const size_t conf_nopts;
/* The entries of media.prefixes, named by the key within an entry. */
extern const struct conf_opt conf_prefix_opts[];
extern const size_t conf_nprefix_opts;
/* The same for media.internal. */
extern const struct conf_opt conf_internal_opts[];
extern const size_t conf_ninternal_opts;

/* The entries of proxy.certificates. */
extern const struct conf_opt conf_certificate_opts[];
extern const size_t conf_ncertificate_opts;

/* A list of groups (conf_group.c): its full name, what an entry is called and looks like, its options, and where it is kept. */
struct conf_list_of {
	const char *name, *entry, *example;
	const struct conf_opt *opts;
	const size_t *nopts;
	size_t size;			/* of an entry */
	size_t offset, count_offset;	/* of the pointer to the entries, and of their number, in struct conf */
};
enum { CONF_LIST_PREFIXES, CONF_LIST_INTERNAL, CONF_LIST_CERTIFICATES, CONF_NLISTS };
extern const struct conf_list_of conf_lists[CONF_NLISTS];

/* The n-th value of "a|b|c", its length in *len; NULL beyond the last. */
const char *conf_enum_value(const char *values, unsigned n, size_t *len);

/* Where a setting stands. file: the main file as it was named, or an included file's name as the @include gives it. */
struct conf_pos {
	const char *file;
	unsigned line;			/* 0: none, the file cannot be read */
};

struct conf_mistake;

struct conf_loading {
	struct conf *c;
	const char *main_file;
	char *dir;			/* the main file's folder, absolute */
	char *shown_dir;		/* the same as the user named it, with a slash; "" for the current one */
	bool init;			/* state-dir may be missing */
	struct conf_pos *pos;		/* one an option of conf_opts; file NULL: not given */
	struct conf_pos *list_pos[CONF_NLISTS];	/* one an entry, in the file's order */
	void *cfg;			/* libconfig's tree */
	struct conf_mistake *mistakes;
	size_t nmistakes;
};

/* "file:line: text", or "file: text"; text says what is wrong and what to do. */
void conf_mistake(struct conf_loading *ld, struct conf_pos pos, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Is there a mistake on that line already? */
bool conf_mistake_at(const struct conf_loading *ld, struct conf_pos pos);
/* Appends them to errors, in the order of the files, and frees them. */
void conf_mistake_tell(struct conf_loading *ld, struct str *errors);
/* How many letters differ (Levenshtein); far for names longer than any of ours. */
unsigned conf_near_distance(const char *a, const char *b);
/* Makes candidate the best guess for an unknown name, if it is nearer than *best_d. */
void conf_near(const char *name, const char *candidate, const char **best, unsigned *best_d);

/* The option's place; if it is not given, its group's, or the top of the main file. */
struct conf_pos conf_pos_of(const struct conf_loading *ld, const char *name);
/* The place of an included file, or of the main one, on the disk. */
char *conf_file_path(const struct conf_loading *ld, const char *file);

struct config_setting_t;
struct conf_pos conf_pos_of_setting(const struct config_setting_t *s);
/* Fills the option's field of base from s. */
void conf_read_option(struct conf_loading *ld, const struct conf_opt *o, const struct config_setting_t *s, void *base);
bool conf_list_named(const char *name);
/* s: NULL if it is not given. */
void conf_read_list(struct conf_loading *ld, const struct conf_list_of *l, const struct config_setting_t *s);

/* Reads the main file and what it includes: unreadable or world-writable files, integers that libconfig would wrap.
 * False if libconfig must not see it (it exits on a folder). */
bool conf_scan(struct conf_loading *ld);
/* conf_upstream.c: the application's servers. */
void conf_check_upstream(struct conf_loading *ld);
/* conf_front.c: what concerns clients and the proxies in front. */
void conf_check_front(struct conf_loading *ld);
/* Resolves paths, reads secrets, and checks what a value means. */
void conf_check(struct conf_loading *ld);
/* Of conf_check.c: makes a path absolute (relative ones start at the main file's folder), and looks at the file. */
void conf_check_file(struct conf_loading *ld, struct conf_pos pos, const struct conf_opt *o, char **path);
/* Of conf_cert.c: reads proxy.certificates, and looks at what else belongs to TLS. */
void conf_check_certificates(struct conf_loading *ld);
/* The parts of it that concern private files: prefixes with read-auth, before they are put in order; media.internal, after that. */
void conf_check_private(struct conf_loading *ld);
void conf_check_internal(struct conf_loading *ld);
/* A decoded URL path as we match it; and one that ends in a slash. */
bool conf_is_url_path(const char *p);
bool conf_is_url_folder(const char *p);
/* Of conf_delivery.c: delivery by redirect, and Content-Types. */
void conf_check_delivery(struct conf_loading *ld);

#endif
