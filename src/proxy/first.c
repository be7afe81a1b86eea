/* SPOOL and FIRST: from r2-primary on PUT and DELETE on media URLs go to R2 first (primary.h). */
#include <string.h>

#include "base/log.h"
#include "proxy/primary.h"
#include "proxy/request.h"
#include "proxy/server.h"

static const char *
reason_not_sent(enum err e)
{
	switch ((int)e) {
	case ERR_BUSY:
	case ERR_UNAVAIL:
		return "the key's lease could not be had; nothing was written";
	case ERR_NOSPACE:
		return "no space left; nothing was written";
	default:
		return "the disk cannot be used now; nothing was written";
	}
}

/* One code may come from before R2 was asked, from R2, and from behind it: what became of the write is its fate's to say. */
static const char *
reason(enum err e, enum primary_fate fate)
{
	if (e == ERR_PRECOND)
		return "there is one already";
	switch (fate) {
	case PRIMARY_NOT_SENT:
		return reason_not_sent(e);
	case PRIMARY_REFUSED:
		return "R2 did not take it; nothing was written";
	case PRIMARY_UNKNOWN:
		return "R2 has not confirmed it: it may have been written";
	case PRIMARY_TAKEN:
		break;
	}
	return "R2 has it, but that could not be recorded here";
}

static int
status_of(enum err e, bool created)
{
	switch ((int)e) {
	case ERR_OK:
		return created ? 201 : 204;
	case ERR_NOTFOUND:
		return 404;
	case ERR_PRECOND:
		return 412;
	case ERR_NOSPACE:
		return 507;
	case ERR_TIMEOUT:
		return 504;
	default:
		return 503;
	}
}

static void
on_done(void *arg, enum err e, enum primary_fate fate, bool created)
{
	struct request *r = arg;
	int status = status_of(e, created);

	r->write.first = NULL;
	if (e == ERR_OK)
		request_go(r, request_answer(r, status, NULL, NULL));
	else if (e == ERR_NOTFOUND)
		request_go(r, request_answer(r, status, NULL, "no such file"));
	else
		request_go(r, request_answer(r, status, status == 503 ? "Retry-After: 5\r\n" : NULL, reason(e, fate)));
}

static void
on_spooled(void *arg, enum err e, struct spool *s)
{
	struct request *r = arg;

	r->write.busy = false;
	if (r->conn == NULL) {
		request_go(r, STEP_DONE);
		return;
	}
	if (e != ERR_OK) {
		log_error("proxy", "%s: its body cannot be kept below state-dir: %s", log_key(r->route.key, r->route.klen), err_text(e));
		request_go(r, request_answer(r, e == ERR_NOSPACE ? 507 : 503, "Retry-After: 5\r\n", "the body could not be kept; nothing was written"));
		return;
	}
	r->write.first = primary_put(writer_primary(r->sv->writer), r->route.key, r->route.klen, s, r->write.exclusive, on_done, r);
}

void
first_body_end(struct request *r)
{
	r->body_ended = true;
	r->write.busy = true;
	writer_spool_commit(&r->write.file, on_spooled, r);
}

enum request_step
step_spool(struct request *r)
{
	enum err e = writer_ready(r->sv->writer);

	if (e != ERR_OK)
		return request_refuse_write(r, e);
	r->write.file = writer_spool_open(r->sv->writer);
	if (request_has_body(r)) {
		r->reading_body = true;
		http_conn_read_body(r->conn);
	} else {
		first_body_end(r);
	}
	return STEP_WAIT;
}

enum request_step
step_first(struct request *r)
{
	enum err e = writer_ready(r->sv->writer);

	if (e != ERR_OK)
		return request_refuse_write(r, e);
	r->write.first = primary_delete(writer_primary(r->sv->writer), r->route.key, r->route.klen, on_done, r);
	return STEP_WAIT;
}
