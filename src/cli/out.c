#include "cli/out.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"

#define REDRAW_MS 100
#define PLAIN_MS 5000
#define BAR_WIDTH 24

static const char *
take(struct str *s, char buf[40])
{
	snprintf(buf, 40, "%s", str_z(s));
	str_fini(s);
	return buf;
}

const char *
out_count(char buf[40], uint64_t n)
{
	struct str s = STR_INIT;

	str_add_count(&s, n);
	return take(&s, buf);
}

const char *
out_size(char buf[40], uint64_t bytes)
{
	struct str s = STR_INIT;

	str_add_size(&s, bytes);
	return take(&s, buf);
}

const char *
out_duration(char buf[40], uint64_t ms)
{
	struct str s = STR_INIT;

	str_add_duration(&s, ms);
	return take(&s, buf);
}

void
out_progress_begin(struct out_progress *p, const char *what)
{
	memset(p, 0, sizeof(*p));
	p->what = what;
	p->tty = isatty(STDERR_FILENO) == 1;
	p->began_ms = p->last_ms = clock_mono_ms();
}

static void
add_bar(struct str *s, uint64_t done, uint64_t total)
{
	unsigned full = (unsigned)(done >= total ? BAR_WIDTH : done * BAR_WIDTH / total);

	str_addc(s, '[');
	for (unsigned i = 0; i < BAR_WIDTH; i++)
		str_addc(s, i < full ? '#' : '.');
	str_printf(s, "] %3u%% ", (unsigned)(done >= total ? 100 : done * 100 / total));
}

void
out_progress(struct out_progress *p, uint64_t done, uint64_t total, uint64_t bytes)
{
	uint64_t now = clock_mono_ms(), ms = now - p->began_ms;
	struct str s = STR_INIT;

	if (now - p->last_ms < (p->tty ? REDRAW_MS : PLAIN_MS))
		return;
	p->last_ms = now;
	p->drawn = true;
	str_printf(&s, "%s: ", p->what);
	if (total != 0)
		add_bar(&s, done, total);
	str_add_count(&s, done);
	if (total != 0) {
		str_addz(&s, " of ");
		str_add_count(&s, total);
	}
	if (bytes != 0) {
		str_addz(&s, ", ");
		str_add_size(&s, bytes);
	}
	if (ms > 0) {
		str_addz(&s, ", ");
		str_add_count(&s, done * 1000 / ms);
		str_addz(&s, "/s");
	}
	if (total > done && done > 0) {
		str_addz(&s, ", ");
		str_add_duration(&s, ms * (total - done) / done);
		str_addz(&s, " left");
	}
	if (p->tty)
		fprintf(stderr, "\r\033[K%.79s", str_z(&s));
	else
		fprintf(stderr, "%s\n", str_z(&s));
	str_fini(&s);
}

void
out_progress_text(struct out_progress *p, const char *text)
{
	uint64_t now = clock_mono_ms();
	uint32_t h = 2166136261u;

	for (const char *z = text; *z != '\0'; z++)
		h = (h ^ (unsigned char)*z) * 16777619u;
	if (h == p->text && now - p->last_ms < (p->tty ? REDRAW_MS : PLAIN_MS))
		return;
	p->text = h;
	p->last_ms = now;
	p->drawn = true;
	if (p->tty)
		fprintf(stderr, "\r\033[K%s: %.*s", p->what, 77 - (int)strlen(p->what), text);
	else
		fprintf(stderr, "%s: %s\n", p->what, text);
}

void
out_progress_end(struct out_progress *p)
{
	if (p->tty && p->drawn)
		fprintf(stderr, "\r\033[K");
}
