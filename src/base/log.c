#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"

#define KEY_SHOWN 1024 /* bytes of a key that a line shows */

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static atomic_int least = LOG_LVL_INFO;
static atomic_bool as_json;
static char program[32];

bool
log_on(enum log_level lvl)
{
	return (int)lvl >= atomic_load_explicit(&least, memory_order_relaxed);
}

void
log_setup(enum log_level lvl, bool json)
{
	atomic_store(&least, (int)lvl);
	atomic_store(&as_json, json);
}

void
log_program(const char *name)
{
	(void)snprintf(program, sizeof(program), "%s", name);
}

/* Control bytes would let a text forge a line or drive a terminal. */
static void
add_one_line(struct str *line, const struct str *text)
{
	for (size_t i = 0; i < text->len; i++) {
		unsigned char c = (unsigned char)text->p[i];

		if (c < 0x20 || c == 0x7f)
			str_printf(line, "\\x%02x", c);
		else
			str_addc(line, (char)c);
	}
}

static void
add_field(struct str *line, const char *name, const char *value)
{
	str_printf(line, "\"%s\":", name);
	str_add_json(line, value, strlen(value));
	str_addc(line, ',');
}

/* One write a line, so that lines of several threads or processes do not mix. */
static void
put(const struct str *line)
{
	const char *p = line->p;
	size_t left = line->len;

	while (left) {
		ssize_t n = write(STDERR_FILENO, p, left);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* nobody reads the log: there is no one to tell */
		p += n;
		left -= (size_t)n;
	}
}

void
log_at(enum log_level lvl, const char *area, const char *fmt, ...)
{
	struct str text = STR_INIT, line = STR_INIT;
	int saved = errno;
	char when[25];
	va_list ap;

	if (!log_on(lvl))
		return;
	va_start(ap, fmt);
	str_vprintf(&text, fmt, ap);
	va_end(ap);
	clock_iso(clock_real_ms(), when);
	if (atomic_load(&as_json)) {
		str_addc(&line, '{');
		add_field(&line, "time", when);
		add_field(&line, "level", level_names[lvl]);
		if (program[0])
			add_field(&line, "program", program);
		add_field(&line, "area", area);
		str_addz(&line, "\"text\":");
		str_add_json(&line, str_z(&text), text.len);
		str_addz(&line, "}\n");
	} else {
		str_printf(&line, "%s %s %s%s%s: ", when, level_names[lvl], program, program[0] ? " " : "", area);
		add_one_line(&line, &text);
		str_addc(&line, '\n');
	}
	put(&line);
	str_fini(&text);
	str_fini(&line);
	errno = saved;
}

const char *
log_key(const char *key, unsigned long len)
{
	static _Thread_local char bufs[4][KEY_SHOWN * 3 + sizeof("...")];
	static _Thread_local unsigned next;
	struct str s = STR_INIT;
	char *buf = bufs[next++ % 4];

	str_add_safe(&s, key, len > KEY_SHOWN ? KEY_SHOWN : len);
	if (len > KEY_SHOWN)
		str_addz(&s, "...");
	memcpy(buf, str_z(&s), s.len + 1);
	str_fini(&s);
	return buf;
}
