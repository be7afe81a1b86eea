#include "base/clock.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"

#define LAST_SECOND INT64_C(253402300799) /* of the year 9999: all text forms have four digits */

static const char days[7][10] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static struct timespec
now(clockid_t id)
{
	struct timespec ts;

	ASSERT(clock_gettime(id, &ts) == 0);
	return ts;
}

uint64_t
clock_mono_ns(void)
{
	struct timespec ts = now(CLOCK_MONOTONIC);

	return (uint64_t)clock_timespec_ns(&ts);
}

uint64_t
clock_mono_ms(void)
{
	return clock_mono_ns() / 1000000;
}

uint64_t
clock_real_us(void)
{
	struct timespec ts = now(CLOCK_REALTIME);

	return (uint64_t)clock_timespec_ns(&ts) / 1000;
}

uint64_t
clock_real_ms(void)
{
	return clock_real_us() / 1000;
}

int64_t
clock_timespec_ns(const struct timespec *ts)
{
	return (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
}

static struct tm
civil(int64_t unix_s)
{
	time_t t = unix_s < 0 ? 0 : unix_s > LAST_SECOND ? LAST_SECOND : (time_t)unix_s;
	struct tm tm;

	ASSERT(gmtime_r(&t, &tm));
	return tm;
}

/* The fields of a date to seconds; false if they name no moment (30 February, 24:00). */
static bool
from_civil(int year, int mon, int day, int hour, int min, int sec, int64_t *unix_s)
{
	struct tm tm = {.tm_year = year - 1900,
	    .tm_mon = mon,
	    .tm_mday = day,
	    .tm_hour = hour,
	    .tm_min = min,
	    .tm_sec = sec == 60 ? 59 : sec};
	struct tm back;
	time_t t;

	if (mon < 0 || mon > 11 || hour > 23 || min > 59 || sec > 60)
		return false;
	t = timegm(&tm);
	if (!gmtime_r(&t, &back) || back.tm_mday != day || back.tm_mon != mon)
		return false;
	*unix_s = (int64_t)t;
	return true;
}

/* A cursor over text that must match exactly; every take_* fails for good once one has failed. */
struct cursor {
	const char *p, *end;
	bool ok;
};

static int
take_number(struct cursor *c, size_t digits)
{
	uint64_t v = 0;

	if (!c->ok || (size_t)(c->end - c->p) < digits || !str_to_u64(c->p, digits, &v))
		c->ok = false;
	else
		c->p += digits;
	return (int)v;
}

static void
take_text(struct cursor *c, const char *z)
{
	size_t n = strlen(z);

	if (!c->ok || (size_t)(c->end - c->p) < n || memcmp(c->p, z, n) != 0)
		c->ok = false;
	else
		c->p += n;
}

static int
take_month(struct cursor *c)
{
	for (int i = 0; c->ok && i < 12; i++)
		if (c->end - c->p >= 3 && memcmp(c->p, months[i], 3) == 0) {
			c->p += 3;
			return i;
		}
	c->ok = false;
	return -1;
}

/* Each answer and each signature has a date: no printf. */
static char *
put_two(char *p, int v)
{
	p[0] = (char)('0' + v / 10 % 10);
	p[1] = (char)('0' + v % 10);
	return p + 2;
}

static char *
put_year(char *p, const struct tm *tm)
{
	int year = (tm->tm_year + 1900) % 10000;

	return put_two(put_two(p, year / 100), year % 100);
}

static char *
put_text(char *p, const char *text, size_t n)
{
	memcpy(p, text, n);
	return p + n;
}

void
clock_http_date(int64_t unix_s, char out[30])
{
	struct tm tm = civil(unix_s);
	char *p = put_text(out, days[tm.tm_wday], 3);

	p = put_two(put_text(p, ", ", 2), tm.tm_mday);
	p = put_text(put_text(put_text(p, " ", 1), months[tm.tm_mon], 3), " ", 1);
	p = put_two(put_text(put_year(p, &tm), " ", 1), tm.tm_hour);
	p = put_two(put_text(p, ":", 1), tm.tm_min);
	p = put_two(put_text(p, ":", 1), tm.tm_sec);
	(void)put_text(p, " GMT", 5);
}

/* The day's name ends at the first space or comma; which day it is says nothing that the date does not. */
static bool
take_day(struct cursor *c, bool *whole)
{
	size_t n = 0;

	while (c->p + n < c->end && c->p[n] != ' ' && c->p[n] != ',')
		n++;
	for (int i = 0; i < 7; i++) {
		*whole = str_slice_eq(c->p, n, days[i]);
		if (*whole || (n == 3 && memcmp(c->p, days[i], 3) == 0)) {
			c->p += n;
			return true;
		}
	}
	return false;
}

bool
clock_parse_http_date(const char *p, size_t n, int64_t *unix_s)
{
	struct cursor c = {p, p + n, true};
	int year = 0, mon, day, hour, min, sec;
	bool whole, asctime_form;

	if (!take_day(&c, &whole))
		return false;
	asctime_form = !whole && c.p < c.end && *c.p == ' ';
	if (asctime_form) { /* Sun Nov  6 08:49:37 1994 */
		take_text(&c, " ");
		mon = take_month(&c);
		take_text(&c, " ");
		if (c.p < c.end && *c.p == ' ') {
			c.p++;
			day = take_number(&c, 1);
		} else {
			day = take_number(&c, 2);
		}
	} else { /* Sun, 06 Nov 1994 08:49:37 GMT; Sunday, 06-Nov-94 08:49:37 GMT */
		take_text(&c, ", ");
		day = take_number(&c, 2);
		take_text(&c, whole ? "-" : " ");
		mon = take_month(&c);
		take_text(&c, whole ? "-" : " ");
		year = take_number(&c, whole ? 2 : 4);
		if (whole) {
			/* RFC 9110 5.6.7: more than 50 years ahead means the century before. */
			int this_year = civil((int64_t)(clock_real_ms() / 1000)).tm_year + 1900;

			year += this_year - this_year % 100;
			if (year > this_year + 50)
				year -= 100;
		}
	}
	take_text(&c, " ");
	hour = take_number(&c, 2);
	take_text(&c, ":");
	min = take_number(&c, 2);
	take_text(&c, ":");
	sec = take_number(&c, 2);
	take_text(&c, asctime_form ? " " : " GMT");
	if (asctime_form)
		year = take_number(&c, 4);
	return c.ok && c.p == c.end && from_civil(year, mon, day, hour, min, sec, unix_s);
}

void
clock_amz_date(int64_t unix_s, char out[17])
{
	struct tm tm = civil(unix_s);

	char *p = put_two(put_two(put_year(out, &tm), tm.tm_mon + 1), tm.tm_mday);

	p = put_two(put_two(put_two(put_text(p, "T", 1), tm.tm_hour), tm.tm_min), tm.tm_sec);
	(void)put_text(p, "Z", 2);
}

bool
clock_parse_amz_date(const char *p, size_t n, int64_t *unix_s)
{
	struct cursor c = {p, p + n, true};
	int year = take_number(&c, 4), mon = take_number(&c, 2), day = take_number(&c, 2), hour, min, sec;

	take_text(&c, "T");
	hour = take_number(&c, 2);
	min = take_number(&c, 2);
	sec = take_number(&c, 2);
	take_text(&c, "Z");
	return c.ok && c.p == c.end && from_civil(year, mon - 1, day, hour, min, sec, unix_s);
}

void
clock_iso(uint64_t unix_ms, char out[25])
{
	struct tm tm = civil((int64_t)(unix_ms / 1000));

	(void)snprintf(out, 25, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", (unsigned)(tm.tm_year + 1900) % 10000u,
	    (unsigned)(tm.tm_mon + 1) % 100u, (unsigned)tm.tm_mday % 100u, (unsigned)tm.tm_hour % 100u,
	    (unsigned)tm.tm_min % 100u, (unsigned)tm.tm_sec % 100u, (unsigned)(unix_ms % 1000));
}

bool
clock_parse_iso(const char *p, size_t n, uint64_t *unix_ms)
{
	struct cursor c = {p, p + n, true};
	int year = take_number(&c, 4), mon, day, hour, min, sec, ms = 0;
	int64_t s;

	take_text(&c, "-");
	mon = take_number(&c, 2);
	take_text(&c, "-");
	day = take_number(&c, 2);
	take_text(&c, "T");
	hour = take_number(&c, 2);
	take_text(&c, ":");
	min = take_number(&c, 2);
	take_text(&c, ":");
	sec = take_number(&c, 2);
	if (c.ok && c.p < c.end && *c.p == '.') {
		c.p++;
		ms = take_number(&c, 3);
	}
	take_text(&c, "Z");
	if (!c.ok || c.p != c.end || !from_civil(year, mon - 1, day, hour, min, sec, &s) || s < 0)
		return false;
	*unix_ms = (uint64_t)s * 1000 + (uint64_t)ms;
	return true;
}
