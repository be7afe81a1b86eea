/*
 * READ: media, by the plan of route_read_plan: one side, and where the plan allows it the other if that fails before the
 * first byte of the body. The source is fixed with that byte: a failure after it cuts the connection, two sources are never
 * spliced into one answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/trip.h"
#include "proxy/fallback.h"
#include "proxy/hedge.h"
#include "proxy/private.h"
#include "proxy/redirect.h"
#include "proxy/request.h"
#include "proxy/server.h"
#include "store/mime.h"

enum {
	RETRIES_MAX = 2,	/* the object changed between the look and the read */
	UNNOTICED_MARGIN_MS = 1000,	/* kernels stamp in ticks, clocks are set */
	HEAD_MOST = 400		/* bytes of most heads: room that saves growing, no limit */
};

static enum request_step ask_disk(struct request *r);
static enum request_step ask_r2(struct request *r);

static void
make_head(struct request *r)
{
	const char *type = private_type(r), *lines = private_lines(r);
	size_t klen;
	const char *name = coding_name(r, &klen);

	str_clear(&r->read.head);
	(void)str_reserve(&r->read.head, HEAD_MOST);
	answer_head(&r->read.answer, type != NULL ? type : mime_type(name, klen), private_cache_control(r), http_server_date(r->sv->http),
	    &r->read.head);
	if (lines != NULL)
		str_addz(&r->read.head, lines);
	coding_lines(r, r->read.answer.status, &r->read.head);
	r->read.is_ready = true;
}

static void
start(struct request *r, enum request_source source)
{
	const struct answer *a = &r->read.answer;
	uint64_t length = a->status == 304 ? HTTP_CONN_BODYLESS : answer_has_body(a) ? a->n : 0;

	if (r->is_head && a->status == 200)
		length = a->size;
	request_start(r, a->status, &r->read.head, length, source);
}

/* An answer without the file's bytes. */
static enum request_step
answer_bare(struct request *r, enum request_source source)
{
	make_head(r);
	start(r, source);
	request_end(r);
	return STEP_REPLY;
}

static enum request_step
nobody_has_it(struct request *r)
{
	if (coding_next(r))
		return STEP_READ;
	if (r->read.disk_err == ERR_NOTFOUND || ((!r->read.asked_disk || r->read.plan.order == ROUTE_R2_ERRORS) && r->read.r2_err == ERR_NOTFOUND))
		return request_answer(r, 404, NULL, "no such file");
	return request_answer(r, 503, "Retry-After: 1\r\n", "neither side can serve this file now");
}

/* What the disk failed with decides, by the plan, whether R2 is asked. */
static enum request_step
disk_failed(struct request *r, enum err e)
{
	/* A root that does not show its sentinel proves nothing absent: an unmounted disk looks like an empty one. */
	if (e == ERR_NOTFOUND && local_sentinel(r->sv->local, NULL) != ERR_OK)
		e = ERR_SENTINEL;
	r->read.disk_err = e;
	if (e != ERR_NOTFOUND)
		log_warn("proxy", "%s: the disk cannot serve it: %s", log_key(r->route.key, r->route.klen), err_text(e));
	if (r->read.asked_r2)
		return nobody_has_it(r);
	if (r->read.plan.order == ROUTE_DISK_R2 || (r->read.plan.order == ROUTE_DISK_CAUTIOUS && e != ERR_NOTFOUND)) {
		fallback_count(r, e);
		return ask_r2(r);
	}
	return nobody_has_it(r);
}

static bool
send_small(struct request *r, int fd)
{
	const struct answer *a = &r->read.answer;
	char *buf = r->sv->small;
	uint64_t got = 0;

	while (got < a->n) {
		ssize_t n = pread(fd, buf + got, a->n - got, (off_t)(a->first + got));

		if (n <= 0)
			return false;
		got += (uint64_t)n;
	}
	start(r, REQUEST_DISK);
	request_send(r, buf, a->n);
	return true;
}

/* A larger one: the connection needs a descriptor of its own. */
static enum request_step
send_large(struct request *r, int fd)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (own < 0)
		return disk_failed(r, err_from_errno(errno));
	make_head(r);
	start(r, REQUEST_DISK);
	http_conn_sendfile(r->conn, own, r->read.answer.first, r->read.answer.n);
	r->sent += r->read.answer.n;
	request_end(r);
	return STEP_REPLY;
}

static enum request_step
send_file(struct request *r, int fd, const struct local_stat *st)
{
	struct request_read *rd = &r->read;

	answer_decide(&rd->answer, &rd->conds, r->is_get, st->size, answer_seconds(st->mtime_ns));
	if (rd->fell_back && rd->plan.order == ROUTE_R2_DISK) {
		fallback_served(r, st);
		if (rd->r2_err == ERR_NOTFOUND)
			writer_promote(r->sv->writer, r->route.key, r->route.klen);
	}
	if (r->is_head || !answer_has_body(&rd->answer) || rd->answer.n == 0)
		return answer_bare(r, REQUEST_DISK);
	if (rd->answer.n > SERVER_SMALL)
		return send_large(r, fd);
	make_head(r);
	if (!send_small(r, fd))
		return disk_failed(r, ERR_IO);
	request_end(r);
	return STEP_REPLY;
}

/* Is the file from after the point up to which everything on the disk is known, or is marked? */
static bool
is_unnoticed(struct request *r, const struct local_stat *st)
{
	int64_t newest = st->mtime_ns > st->ctime_ns ? st->mtime_ns : st->ctime_ns;

	return newest / 1000000 + UNNOTICED_MARGIN_MS >= (int64_t)dirty_clean(writer_dirty(r->sv->writer));
}

static enum request_step
ask_disk(struct request *r)
{
	struct local_stat st;
	enum err e;
	int fd;

	r->read.asked_disk = true;
	e = openfiles_get(r->sv->openfiles, r->route.key, r->route.klen, &fd, &st);
	if (e != ERR_OK)
		return disk_failed(r, e);
	/* Where R2's word is final only a file that nobody could have carried there yet is an exception. */
	if (r->read.plan.order == ROUTE_R2_ERRORS && r->read.r2_err == ERR_NOTFOUND) {
		if (!is_unnoticed(r, &st))
			return nobody_has_it(r);
		writer_noticed(r->sv->writer, r->route.key, r->route.klen);
	}
	return send_file(r, fd, &st);
}

static void
on_asked(void *arg, enum err e, const struct mark *m)
{
	struct request *r = arg;

	r->read.ask = NULL;
	if (e != ERR_OK)
		request_go(r, request_answer(r, 503, "Retry-After: 1\r\n", "R2 has no such file, and nobody can say whether the disk's was deleted"));
	else if (m->gen > 0 && m->side == MARK_R2)
		request_go(r, nobody_has_it(r));
	else
		request_go(r, ask_disk(r));
}

/* R2 has nothing: the disk's file may be one that was deleted in R2 first, by somebody of whom we have not heard yet. */
static enum request_step
ask_redis(struct request *r)
{
	r->read.ask = marks_get(r->sv->cluster, r->route.key, r->route.klen, on_asked, r);
	return STEP_WAIT;
}

static enum request_step
r2_failed(struct request *r, enum err e)
{
	r->read.r2_err = e;
	r->read.is_ready = false;
	if ((r->read.plan.order != ROUTE_R2_DISK && r->read.plan.order != ROUTE_R2_ERRORS) || r->read.asked_disk)
		return nobody_has_it(r);
	if (r->read.plan.order == ROUTE_R2_DISK || e != ERR_NOTFOUND)
		fallback_count(r, e);
	return e == ERR_NOTFOUND && r->read.plan.ask ? ask_redis(r) : ask_disk(r);
}

/* Tells the breaker: what is an answer, and what an outage. */
static void
note_r2(struct request *r, enum err e)
{
	if (e == ERR_OK || e == ERR_NOTFOUND || e == ERR_RANGE || e == ERR_PRECOND)
		breaker_ok(&r->sv->r2_breaker);
	else
		breaker_fail(&r->sv->r2_breaker, clock_mono_ms());
}

static void
decide(struct request *r, uint64_t size, const struct store_meta *m)
{
	answer_decide(&r->read.answer, &r->read.conds, r->is_get, size, m->has_mtime ? answer_seconds(m->mtime_ns) : m->last_modified_s);
}

/*
 * Events were lost, and perhaps one of them was of this file's end. An object that was made from a file speaks for the disk: no file, no
 * answer. Of what was written to R2 first a missing file proves nothing.
 */
static bool
deleted_unseen(const struct request *r, const struct store_meta *m)
{
	struct local_stat st;

	return writer_blind(r->sv->writer) && m->base == NULL &&
	    local_look(r->sv->local, r->route.key, r->route.klen, &st) == ERR_OK && !st.exists;
}

static void
on_r2_meta(void *arg, const struct store_meta *m, bool partial, uint64_t first, uint64_t n, uint64_t total)
{
	struct request *r = arg;
	struct request_read *rd = &r->read;

	if (deleted_unseen(r, m)) {
		store_cancel(r->snap->r2, &rd->op);
		note_r2(r, ERR_OK);
		request_go(r, r2_failed(r, ERR_NOTFOUND));
		return;
	}
	if (!rd->decided)
		decide(r, total, m);
	/* R2 may answer a range with the whole; it may not answer with anything that we did not decide on. */
	if (!partial && rd->answer.status == 206 && n == total) {
		rd->answer.status = 200;
		rd->answer.first = 0;
		rd->answer.n = total;
	}
	if (rd->answer.first != first || rd->answer.n != n || rd->answer.size != total || !answer_has_body(&rd->answer)) {
		store_cancel(r->snap->r2, &rd->op);
		note_r2(r, ERR_PROTO);
		request_go(r, r2_failed(r, ERR_PROTO));
		return;
	}
	make_head(r);
}

static void
on_r2_data(void *arg, const void *p, size_t n)
{
	struct request *r = arg;
	struct request_read *rd = &r->read;

	if (n == 0)
		return;
	if (!http_conn_started(r->conn)) {
		start(r, REQUEST_R2);
		r->step = STEP_REPLY;
	}
	if (n > rd->answer.n - rd->sent) {
		store_cancel(r->snap->r2, &rd->op);
		http_conn_abort(r->conn, HTTP_CLOSE_CUT);
		return;
	}
	rd->sent += n;
	if (!request_send(r, p, n))
		store_pause(r->snap->r2, rd->op);
}

static enum request_step
look_again(struct request *r, enum err e)
{
	if (++r->read.retries > RETRIES_MAX)
		return r2_failed(r, e);
	r->read.look = true;
	r->read.decided = r->read.is_ready = false;
	return ask_r2(r);
}

static void
on_r2_done(void *arg, enum err e)
{
	struct request *r = arg;
	struct request_read *rd = &r->read;

	rd->op = NULL;
	note_r2(r, e);
	if (http_conn_started(r->conn)) {
		if (e == ERR_OK && rd->sent == rd->answer.n) {
			request_end(r);
			return;
		}
		log_warn("proxy", "%s: R2 failed within the body: %s", log_key(r->route.key, r->route.klen), err_text(e));
		http_conn_abort(r->conn, HTTP_CLOSE_CUT);
		return;
	}
	if (e == ERR_OK && rd->is_ready && rd->answer.n == 0)
		request_go(r, answer_bare(r, REQUEST_R2));
	else if (e == ERR_PRECOND || e == ERR_RANGE)
		request_go(r, look_again(r, e));
	else
		request_go(r, r2_failed(r, e == ERR_OK ? ERR_PROTO : e));
}

static enum request_step
get_r2(struct request *r)
{
	static const struct store_get_cb cb = { on_r2_meta, on_r2_data, on_r2_done };
	struct request_read *rd = &r->read;
	struct store_get g = {
		.key = r->route.key,
		.klen = r->route.klen,
		.first_byte_ms = r->snap->conf->r2_read_timeout,
		.stall_ms = r->snap->conf->r2_read_timeout,
	};
	struct answer_span span;

	if (rd->decided) {
		g.if_etag = rd->etag;
		g.ranged = rd->answer.status == 206;
		g.first = rd->answer.first;
		g.last = rd->answer.first + rd->answer.n - 1;
	} else if (answer_parse_range(&rd->conds, &span) == ANSWER_PART) {
		g.ranged = true;
		g.first = span.first;
		g.last = span.last;
		g.suffix = span.suffix;
	}
	rd->op = store_get(r->snap->r2, &g, &cb, r);
	return STEP_WAIT;
}

static void
on_r2_head(void *arg, enum err e, const struct store_meta *m)
{
	struct request *r = arg;
	struct request_read *rd = &r->read;

	rd->op = NULL;
	note_r2(r, e);
	if (e == ERR_OK && deleted_unseen(r, m))
		e = ERR_NOTFOUND;
	if (e != ERR_OK) {
		request_go(r, r2_failed(r, e));
		return;
	}
	if (rd->redirect) {
		request_go(r, redirect_answer(r));
		return;
	}
	decide(r, m->size, m);
	rd->decided = true;
	memcpy(rd->etag, m->etag, sizeof rd->etag);
	if (r->is_head || !answer_has_body(&rd->answer) || rd->answer.n == 0)
		request_go(r, answer_bare(r, REQUEST_R2));
	else
		request_go(r, get_r2(r));
}

static enum request_step
ask_r2(struct request *r)
{
	struct request_read *rd = &r->read;
	struct answer_span span;

	rd->asked_r2 = true;
	if (r->snap->r2 == NULL || !breaker_allow(&r->sv->r2_breaker, clock_mono_ms()))
		return r2_failed(r, ERR_UNAVAIL);
	if (!rd->look && !rd->redirect && !r->is_head && !answer_conds_need_meta(&rd->conds) &&
	    answer_parse_range(&rd->conds, &span) != ANSWER_UNSATISFIABLE)
		return get_r2(r);
	rd->op = store_head(r->snap->r2, r->route.key, r->route.klen, r->snap->conf->r2_read_timeout, on_r2_head, r);
	return STEP_WAIT;
}

enum request_step
step_read(struct request *r)
{
	struct dirty *d = writer_dirty(r->sv->writer);
	struct route_marks m = { NULL, false, false };
	struct mark mark;

	coding_use(r);
	/* Where the disk is read, only what it is owed makes a difference. */
	if (phase_row(r->snap->phase)->read != PHASE_FROM_LOCAL || dirty_owed(d) > 0) {
		m.mark = dirty_get(d, r->route.key, r->route.klen, &mark) ? &mark : NULL;
		if (TRIP_MUTANT("ignore-tombstone") && m.mark != NULL && mark.op == MARK_DELETE)
			m.mark = NULL;
		m.uncertain = writer_uncertain(r->sv->writer);
		m.armed = dirty_armed(d);
	}
	route_read_plan(&r->read.plan, r->snap->conf, r->snap->phase, r->route.key, r->route.klen, &m);
	r->read.redirect = redirect_wanted(r, &m);
	if (r->read.plan.order != ROUTE_R2 && r->read.plan.order != ROUTE_R2_DISK && r->read.plan.order != ROUTE_R2_ERRORS)
		return ask_disk(r);
	hedge_start(r);
	return ask_r2(r);
}

static void
give_up_r2(struct request *r)
{
	store_cancel(r->snap->r2, &r->read.op);
	/* A probe that is given up proves nothing; another one must be let through. */
	if (r->sv->r2_breaker.state == BREAKER_HALF_OPEN)
		breaker_fail(&r->sv->r2_breaker, clock_mono_ms());
}

bool
read_from_disk(struct request *r)
{
	struct local_stat st;
	int fd;

	if (openfiles_get(r->sv->openfiles, r->route.key, r->route.klen, &fd, &st) != ERR_OK)
		return false;
	give_up_r2(r);
	request_go(r, send_file(r, fd, &st));
	return true;
}

void
read_drain(struct request *r)
{
	store_resume(r->snap->r2, r->read.op);
}

void
read_fini(struct request *r)
{
	hedge_stop(r);
	if (r->read.op != NULL)
		give_up_r2(r);
	cluster_cancel(&r->read.ask);
	answer_conds_fini(&r->read.conds);
	str_fini(&r->read.head);
	str_fini(&r->read.coding.sibling);
}
