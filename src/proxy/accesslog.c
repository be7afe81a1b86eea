#include "proxy/accesslog.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "coord/phase.h"
#include "proxy/request.h"
#include "proxy/server.h"

enum { FLUSH_SIZE = 64 * 1024 };

struct accesslog {
	char *path;
	int fd;
	struct str buf;
	struct loop_call flush;
	int64_t stamp_s, utc_s;		/* of stamp, of utc */
	char stamp[40], utc[24];
	bool failing;
};

static void
flush(void *arg)
{
	struct accesslog *l = arg;
	size_t off = 0;

	while (off < l->buf.len) {
		ssize_t n = write(l->fd, l->buf.p + off, l->buf.len - off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (!l->failing)
				log_error("proxy", "%s: %s: access log lines are lost", l->path, strerror(errno));
			l->failing = true;
			break;
		}
		l->failing = false;
		off += (size_t)n;
	}
	str_clear(&l->buf);
}

static int
open_file(const char *path)
{
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

enum err
accesslog_open(struct accesslog **lp, struct loop *loop, const char *path, struct errbuf *eb)
{
	struct accesslog *l;
	int fd = open_file(path);

	if (fd < 0)
		return err_set(eb, err_from_errno(errno), "proxy.access-log: %s: %s", path, strerror(errno));
	l = mem_zalloc(sizeof *l);
	l->path = mem_strdup(path);
	l->fd = fd;
	loop_call_init(&l->flush, loop, flush, l);
	*lp = l;
	return ERR_OK;
}

void
accesslog_reopen(struct accesslog *l)
{
	int fd = open_file(l->path);

	flush(l);
	if (fd < 0) {
		log_error("proxy", "%s: %s: the old access log stays open", l->path, strerror(errno));
		return;
	}
	close(l->fd);
	l->fd = fd;
}

void
accesslog_close(struct accesslog **lp)
{
	struct accesslog *l = *lp;

	if (l == NULL)
		return;
	*lp = NULL;
	loop_call_cancel(&l->flush);
	flush(l);
	close(l->fd);
	str_fini(&l->buf);
	mem_free(l->path);
	mem_free(l);
}

/* As nginx: what could end the line or the quotes becomes \xHH. */
static void
add_escaped(struct str *out, const char *p, size_t n)
{
	size_t i, from = 0;

	for (i = 0; i < n; i++) {
		unsigned char c = (unsigned char)p[i];

		if (c >= 32 && c < 127 && c != '"' && c != '\\')
			continue;
		str_add(out, p + from, i - from);
		str_printf(out, "\\x%02X", c);
		from = i + 1;
	}
	str_add(out, p + from, n - from);
}

/* Where the query of a request line begins, if it bears a signature: it would be as good as a key. Else NULL. */
static const char *
secret_query(const struct str *line)
{
	const char *query = memchr(str_z(line), '?', line->len);

	return query != NULL && strchr(query, ' ') != NULL && strcasestr(query, "signature") != NULL ? query : NULL;
}

static void
add_line(struct str *out, const struct str *line)
{
	const char *query = secret_query(line);

	if (query == NULL) {
		add_escaped(out, str_z(line), line->len);
		return;
	}
	add_escaped(out, line->p, (size_t)(query - line->p));
	str_addz(out, "?-");
	str_addz(out, strrchr(query, ' '));
}

static void
add_quoted(struct str *out, const struct str *s)
{
	str_addz(out, " \"");
	if (s->len == 0)
		str_addc(out, '-');
	else
		add_escaped(out, s->p, s->len);
	str_addc(out, '"');
}

static const char *
stamp(struct accesslog *l, uint64_t us)
{
	time_t t = (time_t)(us / 1000000);
	struct tm tm;

	if (l->stamp_s != t) {
		l->stamp_s = t;
		localtime_r(&t, &tm);
		strftime(l->stamp, sizeof l->stamp, "%d/%b/%Y:%H:%M:%S %z", &tm);
	}
	return l->stamp;
}

/* "0.000123" */
static void
add_seconds(struct str *out, uint64_t us)
{
	char text[7];
	uint64_t left = us % 1000000;
	int i;

	for (i = 6; i > 0; i--, left /= 10)
		text[i] = (char)('0' + left % 10);
	text[0] = '.';
	str_add_u64(out, us / 1000000);
	str_add(out, text, sizeof text);
}

static void
written(struct accesslog *l)
{
	if (l->buf.len >= FLUSH_SIZE)
		flush(l);
	else
		loop_call_soon(&l->flush);
}

/* 499, as nginx: the client went away before there was an answer. */
static uint64_t
logged_status(const struct request *r)
{
	return r->status == 0 ? 499 : (uint64_t)r->status;
}

static void
add_combined(struct accesslog *l, const struct request *r, bool ok, uint64_t us)
{
	struct str *b = &l->buf;

	str_addz(b, r->peer);
	str_addz(b, " - - [");
	str_addz(b, stamp(l, r->began_us));
	str_addz(b, "] \"");
	add_line(b, &r->line);
	str_addz(b, "\" ");
	str_add_u64(b, logged_status(r));
	str_addc(b, ' ');
	str_add_u64(b, r->sent);
	add_quoted(b, &r->referer);
	add_quoted(b, &r->agent);
	str_addc(b, ' ');
	str_addz(b, phase_row(r->snap->phase)->name);
	str_addc(b, ' ');
	str_addz(b, request_source_name(r->source));
	str_addz(b, ok ? " " : "-cut ");
	add_seconds(b, us);
	str_addc(b, '\n');
}

/* "2026-11-27T00:42:25.123Z" */
static void
add_utc(struct accesslog *l, uint64_t us)
{
	time_t t = (time_t)(us / 1000000);
	struct tm tm;

	if (l->utc_s != t) {
		l->utc_s = t;
		gmtime_r(&t, &tm);
		strftime(l->utc, sizeof l->utc, "%Y-%m-%dT%H:%M:%S", &tm);
	}
	str_printf(&l->buf, "%s.%03uZ", l->utc, (unsigned)(us / 1000 % 1000));
}

/* ,"name":"value" */
static void
add_field(struct str *out, const char *name, const char *p, size_t n)
{
	str_addz(out, ",\"");
	str_addz(out, name);
	str_addz(out, "\":");
	str_add_json(out, p, n);
}

static void
add_number(struct str *out, const char *name, uint64_t v)
{
	str_addz(out, ",\"");
	str_addz(out, name);
	str_addz(out, "\":");
	str_add_u64(out, v);
}

/* The request line in its three parts: it has two spaces, the parser saw to it. */
static void
add_json_line(struct str *out, const struct str *line)
{
	const char *target = strchr(str_z(line), ' ') + 1, *version = strrchr(target, ' ') + 1;
	const char *query = secret_query(line);
	struct str shown = STR_INIT;

	str_add(&shown, target, (size_t)((query == NULL ? version - 1 : query) - target));
	if (query != NULL)
		str_addz(&shown, "?-");
	add_field(out, "method", line->p, (size_t)(target - 1 - line->p));
	add_field(out, "target", str_z(&shown), shown.len);
	add_field(out, "protocol", version, strlen(version));
	str_fini(&shown);
}

static void
begin_json(struct accesslog *l, uint64_t us, const char *peer)
{
	str_addz(&l->buf, "{\"time\":\"");
	add_utc(l, us);
	str_addc(&l->buf, '"');
	add_field(&l->buf, "client", peer, strlen(peer));
}

static void
end_json(struct str *b, enum phase phase, const char *route, const char *source, bool ok, uint64_t us)
{
	add_field(b, "phase", phase_row(phase)->name, strlen(phase_row(phase)->name));
	add_field(b, "route", route, strlen(route));
	add_field(b, "source", source, strlen(source));
	str_addz(b, ok ? ",\"complete\":true,\"seconds\":" : ",\"complete\":false,\"seconds\":");
	add_seconds(b, us);
	str_addz(b, "}\n");
}

static void
add_json(struct accesslog *l, const struct request *r, bool ok, uint64_t us)
{
	struct str *b = &l->buf;

	begin_json(l, r->began_us, r->peer);
	add_json_line(b, &r->line);
	add_number(b, "status", logged_status(r));
	add_number(b, "bytes", r->sent);
	if (r->referer.len > 0)
		add_field(b, "referer", r->referer.p, r->referer.len);
	if (r->agent.len > 0)
		add_field(b, "agent", r->agent.p, r->agent.len);
	end_json(b, r->snap->phase, route_name(r->route.what), request_source_name(r->source), ok, us);
}

void
accesslog_add(struct accesslog *l, const struct request *r, bool ok, uint64_t us)
{
	if (r->snap->conf->access_log_format == CONF_ACCESS_LOG_JSON)
		add_json(l, r, ok, us);
	else
		add_combined(l, r, ok, us);
	written(l);
}

void
accesslog_add_bad(struct accesslog *l, const struct snapshot *snap, const char *peer, int status)
{
	uint64_t now = clock_real_us();

	if (snap->conf->access_log_format == CONF_ACCESS_LOG_JSON) {
		begin_json(l, now, peer);
		add_number(&l->buf, "status", (uint64_t)status);
		add_number(&l->buf, "bytes", 0);
		end_json(&l->buf, snap->phase, "malformed", request_source_name(REQUEST_SELF), true, 0);
	} else {
		str_printf(&l->buf, "%s - - [%s] \"-\" %d 0 \"-\" \"-\" %s self 0.000000\n", peer, stamp(l, now), status,
		    phase_row(snap->phase)->name);
	}
	written(l);
}
