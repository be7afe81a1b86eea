#include "base/conf_int.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

#define FILE_MAX  (1024 * 1024)
#define DEPTH_MAX 10 /* libconfig's own limit */

/* A walk over one file's text. */
struct scan {
	struct conf_loading *ld;
	struct conf_pos pos;
	const char *p; /* terminated */
	bool line_start;
	bool ok;
	unsigned depth;
};

static bool scan_file(struct conf_loading *ld, struct conf_pos from, const char *file, unsigned depth);

static bool
slurp(struct conf_loading *ld, struct conf_pos from, const char *path, struct str *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	bool ok = false;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0) {
		conf_mistake(ld, from, "cannot open %s: %s", path, strerror(errno));
	} else if (!S_ISREG(st.st_mode)) {
		conf_mistake(ld, from, "%s is no regular file", path);
	} else if (st.st_size > FILE_MAX) {
		conf_mistake(ld, from, "%s is larger than 1 MiB: no configuration", path);
	} else if (st.st_mode & S_IWOTH) {
		conf_mistake(ld, from, "%s may be written by everybody: run chmod o-w %s", path, path);
	} else {
		while ((n = read(fd, str_reserve(out, 4096), 4096)) > 0 && out->len < FILE_MAX)
			out->len += (size_t)n;
		if (n < 0)
			conf_mistake(ld, from, "cannot read %s: %s", path, strerror(errno));
		else if (out->len && memchr(out->p, '\0', out->len))
			conf_mistake(ld, from, "%s holds a NUL byte: no text file", path);
		else
			ok = true;
		str_addc(out, '\0');
	}
	if (fd >= 0)
		(void)close(fd);
	return ok;
}

static void
skip_string(struct scan *s)
{
	for (s->p++; *s->p && *s->p != '"'; s->p++) {
		if (*s->p == '\\' && s->p[1])
			s->p++;
		if (*s->p == '\n')
			s->pos.line++;
	}
	if (*s->p)
		s->p++;
}

static void
skip_comment(struct scan *s)
{
	if (s->p[0] == '/' && s->p[1] == '*') {
		for (s->p += 2; *s->p && !(s->p[0] == '*' && s->p[1] == '/'); s->p++)
			if (*s->p == '\n')
				s->pos.line++;
		s->p += *s->p ? 2 : 0;
	} else {
		s->p += strcspn(s->p, "\n");
	}
}

/* libconfig 1.5 reads an integer without L by atoi: what does not fit wraps without a word. */
static void
check_number(struct scan *s)
{
	const char *begin = s->p;
	char *end;
	bool hex = begin[0] == '0' && (begin[1] == 'x' || begin[1] == 'X');
	unsigned long long v;

	errno = 0;
	v = strtoull(begin, &end, hex ? 16 : 10);
	s->p = end > begin ? end : begin + 1;
	while (isalnum((unsigned char)*s->p) || *s->p == '.')
		s->p++;
	if (*end == '.' || (!hex && (*end == 'e' || *end == 'E')))
		return;
	if (errno == ERANGE || v > INT64_MAX)
		conf_mistake(s->ld, s->pos, "%.*s is too large", (int)(s->p - begin), begin);
	else if (*end != 'L' && v > INT32_MAX)
		conf_mistake(s->ld, s->pos, "%.*s needs an L behind it to be read as a large integer: %.*sL",
		    (int)(end - begin), begin, (int)(end - begin), begin);
}

static void
follow_include(struct scan *s)
{
	const char *name = s->p + strspn(s->p, " \t"), *end;
	char *file;

	if (*name != '"' || !(end = strpbrk(name + 1, "\"\\\n")) || *end != '"') {
		conf_mistake(s->ld, s->pos, "@include needs a file's name in quotes behind it, without backslashes");
		s->ok = false;
		return;
	}
	if (!s->ok)
		return; /* a file that includes itself is told of once */
	file = mem_strndup(name + 1, (size_t)(end - name - 1));
	s->p = end + 1;
	if (file[0] == '/') {
		conf_mistake(s->ld, s->pos, "@include \"%s\": name it relative to the folder of the main file", file);
		s->ok = false;
	} else if (!scan_file(s->ld, s->pos, file, s->depth + 1)) {
		s->ok = false;
	}
	mem_free(file);
}

static void
step(struct scan *s)
{
	bool at_start = s->line_start;
	unsigned char c = (unsigned char)*s->p;

	if (c != ' ' && c != '\t')
		s->line_start = c == '\n';
	if (c == '\n') {
		s->pos.line++;
		s->p++;
	} else if (c == '"') {
		skip_string(s);
	} else if (c == '#' || (c == '/' && (s->p[1] == '/' || s->p[1] == '*'))) {
		skip_comment(s);
	} else if (at_start && strncmp(s->p, "@include", 8) == 0) {
		s->p += 8;
		follow_include(s);
	} else if (isdigit(c)) {
		check_number(s);
	} else if (isalpha(c) || c == '*') {
		s->p += strspn(s->p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_*");
	} else {
		s->p++;
	}
}

static bool
scan_file(struct conf_loading *ld, struct conf_pos from, const char *file, unsigned depth)
{
	struct scan s = {.ld = ld, .pos = {file, 1}, .line_start = true, .ok = true, .depth = depth};
	struct str text = STR_INIT;
	char *path;

	if (depth > DEPTH_MAX) {
		conf_mistake(ld, from, "@include \"%s\": included more than %d deep", file, DEPTH_MAX);
		return false;
	}
	path = conf_file_path(ld, file);
	if (slurp(ld, from, path, &text)) {
		s.p = text.p;
		while (*s.p)
			step(&s);
	} else {
		s.ok = false;
	}
	str_fini(&text);
	mem_free(path);
	return s.ok;
}

bool
conf_scan(struct conf_loading *ld)
{
	return scan_file(ld, (struct conf_pos){ld->main_file, 0}, ld->main_file, 0);
}
