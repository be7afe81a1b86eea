/* STORE and REMOVE: writes = disk, where the proxy itself carries out PUT and DELETE on a media URL. */
#include "base/log.h"
#include "proxy/request.h"
#include "proxy/server.h"

/* Nothing is left to be marked, in passthrough there never was. */
static void
end_bracket(struct request *r, enum writer_outcome o)
{
	if (r->write.op != NULL)
		writer_finish(r->sv->writer, &r->write.op, o, NULL, NULL);
}

/*
 * Is there such a file, as readers see it? A mark that names R2 says so for the disk, which is behind. A doubt is no: the rename decides
 * at the end; this look only spares a client its body.
 */
bool
put_exists(struct request *r)
{
	struct local_stat st;
	struct mark m;

	if (dirty_get(writer_dirty(r->sv->writer), r->route.key, r->route.klen, &m) && m.side == MARK_R2 && m.op == MARK_PUT)
		return true;
	return local_look(r->sv->local, r->route.key, r->route.klen, &st) == ERR_OK && st.exists;
}

/* The file's fate is known. Whether the client is still there or not, the mark follows. */
static enum request_step
stored(struct request *r, enum err e, int status)
{
	r->write.busy = false;
	r->write.status = status;
	if (r->conn == NULL) {
		end_bracket(r, e == ERR_OK ? WRITER_ANSWERED : WRITER_UNKNOWN);
		return STEP_DONE;
	}
	if (e == ERR_PRECOND) {
		end_bracket(r, WRITER_NOT_SENT);
		return request_answer(r, 412, NULL, PUT_EXISTS);
	}
	if (e == ERR_OK || e == ERR_NOTFOUND)
		return STEP_MARK;
	log_error("proxy", "%s: cannot be written: %s", log_key(r->route.key, r->route.klen), err_text(e));
	end_bracket(r, WRITER_UNKNOWN);
	return request_answer(r, e == ERR_NOSPACE ? 507 : err_http(e), NULL, err_text(e));
}

static void
on_committed(void *arg, enum err e, bool created)
{
	struct request *r = arg;

	request_go(r, stored(r, e, created ? 201 : 204));
}

static void
on_unlinked(void *arg, enum err e, bool created)
{
	struct request *r = arg;

	(void)created;
	request_go(r, stored(r, e, e == ERR_NOTFOUND ? 404 : 204));
}

static void
on_drained(void *arg)
{
	struct request *r = arg;

	http_conn_resume(r->conn);
}

enum request_step
step_store(struct request *r)
{
	r->write.file = writer_file_open(r->sv->writer, r->route.key, r->route.klen, r->write.exclusive);
	if (request_has_body(r)) {
		r->reading_body = true;
		http_conn_read_body(r->conn);
	} else {
		put_body_end(r);
	}
	return STEP_WAIT;
}

enum request_step
step_remove(struct request *r)
{
	r->write.sent = true;
	r->write.busy = true;
	writer_unlink(r->sv->writer, r->route.key, r->route.klen, on_unlinked, r);
	return STEP_WAIT;
}

void
put_body(struct request *r, const void *p, size_t n)
{
	if (!writer_file_write(r->write.file, p, n, on_drained, r))
		http_conn_pause(r->conn);
}

static void
commit(struct request *r)
{
	r->write.sent = true;
	r->write.busy = true;
	writer_file_commit(&r->write.file, on_committed, r);
}

void
put_body_end(struct request *r)
{
	r->body_ended = true;
	if (!r->write.busy)	/* else the intent is not on disk yet: put_durable */
		commit(r);
}

void
put_durable(struct request *r)
{
	if (r->body_ended)
		commit(r);
}
