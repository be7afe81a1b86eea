/*
 * LIST: the names in a folder, for a program that bears the prefix's token (the Django storage class). GET on the folder's URL,
 * with after=NAME and limit=N in the query; the answer is JSON, a page at a time, in the order of the names' bytes:
 *
 *   {"entries": [{"name": "a%20b.txt", "type": "file", "size": 3, "mtime": "1795392000.000000000"}, {"name": "c", "type": "folder"}],
 *    "next": "c"}                                    next: null at the end, else what after has to be for the next page
 *
 * Names are percent-encoded, because they are bytes. The disk is listed, and corrected by what is known to be newer in R2: a clean
 * key is alike on both sides, and a dirty one is where its mark says. So it holds in every phase that keeps the disk.
 */
#include <inttypes.h>
#include <string.h>

#include "base/keypath.h"
#include "base/log.h"
#include "base/mem.h"
#include "proxy/listing.h"
#include "proxy/request.h"
#include "proxy/server.h"

enum { PAGE_MAX = 1000 };

struct list_job {
	struct request *r;
	struct local *local;
	struct pool_job job;
	char *folder, *after;
	size_t flen, max;
	const char *bad;		/* the query is malformed: why */
	struct listing_fixes fixes;
	struct local_names names;
	enum err e;
};

static void
release(void *arg)
{
	struct list_job *j = arg;

	listing_fixes_fini(&j->fixes);
	local_names_fini(&j->names);
	mem_free(j->folder);
	mem_free(j->after);
	mem_free(j);
}

/* One name=value of the query; through the same door as a target: names are percent-encoded as there. */
static void
take_parameter(struct list_job *j, const char *p, size_t n)
{
	struct str target = STR_INIT, path = STR_INIT;
	uint64_t limit;

	if (n > 6 && memcmp(p, "limit=", 6) == 0) {
		if (str_to_u64(p + 6, n - 6, &limit) && limit > 0 && limit <= PAGE_MAX)
			j->max = (size_t)limit;
		else
			j->bad = "limit is 1 to 1000";
	} else if (n > 6 && memcmp(p, "after=", 6) == 0) {
		str_addc(&target, '/');
		str_add(&target, p + 6, n - 6);
		if (keypath_from_target(target.p, target.len, &path) != KEYPATH_PLAIN || memchr(path.p + 1, '/', path.len - 1) != NULL)
			j->bad = "after is no name, percent-encoded as in a URL";
		mem_free(j->after);
		j->after = mem_strndup(path.p + 1, path.len - 1);
	}
	str_fini(&target);
	str_fini(&path);
}

void
list_take(struct request *r, const struct http1_head *h)
{
	struct list_job *j = mem_zalloc(sizeof *j);
	const char *p = h->query.p, *end = h->query.p + h->query.n, *amp;

	j->r = r;
	j->local = r->sv->local;
	j->folder = mem_strndup(r->route.key, r->route.klen);
	j->flen = r->route.klen;
	j->max = PAGE_MAX;
	for (; p != NULL && p < end; p = amp + 1) {
		amp = memchr(p, '&', (size_t)(end - p));
		if (amp == NULL)
			amp = end;
		take_parameter(j, p, (size_t)(amp - p));
	}
	r->list = j;
}

static void
note_owed(void *arg, const char *key, size_t klen, const struct mark *m)
{
	struct list_job *j = arg;

	listing_fix(&j->fixes, j->folder, j->flen, key, klen, m->op == MARK_DELETE);
}

static void
work(void *arg)
{
	struct list_job *j = arg;

	j->e = local_list(j->local, j->folder, j->flen, j->after, j->max, &j->names);
	if (j->e == ERR_NOTFOUND && listing_adds(&j->fixes))
		j->e = ERR_OK;		/* the disk is owed the folder itself */
	if (j->e == ERR_OK)
		listing_correct(&j->names, j->after, j->max, &j->fixes);
}

static void
add_name(struct str *out, const char *label, const char *name)
{
	str_printf(out, "\"%s\":\"", label);
	str_add_uri(out, name, strlen(name), false);
	str_addc(out, '"');
}

static void
add_entry(struct str *out, const struct local_name *x)
{
	int64_t s = answer_seconds(x->mtime_ns);

	str_addc(out, '{');
	add_name(out, "name", x->name);
	str_printf(out, ",\"type\":\"%s\"", x->is_folder ? "folder" : "file");
	/* Of a file that is in R2 only, its name alone is known here. */
	if (!x->is_folder && x->size != LISTING_UNKNOWN)
		str_printf(out, ",\"size\":%" PRIu64 ",\"mtime\":\"%" PRId64 ".%09" PRId64 "\"", x->size, s, x->mtime_ns - s * 1000000000);
	str_addc(out, '}');
}

static enum request_step
answer(struct request *r, const struct local_names *names)
{
	struct str body = STR_INIT;
	size_t i;

	str_addz(&body, "{\"entries\":[");
	for (i = 0; i < names->n; i++) {
		str_addz(&body, i == 0 ? "" : ",\n");
		add_entry(&body, &names->v[i]);
	}
	str_addz(&body, "],\n");
	if (names->last != NULL)
		add_name(&body, "next", names->last);
	else
		str_addz(&body, "\"next\":null");
	str_addz(&body, "}\n");
	r->status = 200;
	r->source = REQUEST_DISK;
	r->sent = body.len;
	http_conn_reply(r->conn, 200, "application/json", "Cache-Control: no-store\r\n", str_z(&body), body.len);
	str_fini(&body);
	return STEP_REPLY;
}

static void
listed(void *arg)
{
	struct list_job *j = arg;
	struct request *r = j->r;
	enum request_step next;

	r->list = NULL;
	if (j->e == ERR_OK) {
		next = answer(r, &j->names);
	} else if (j->e == ERR_NOTFOUND) {
		next = request_answer(r, 404, NULL, "no such folder");
	} else {
		log_warn("proxy", "%s cannot be listed: %s", log_key(j->folder, j->flen), err_text(j->e));
		next = request_answer(r, 503, "Retry-After: 1\r\n", "the folder cannot be listed now");
	}
	release(j);
	request_go(r, next);
}

enum request_step
step_list(struct request *r)
{
	struct list_job *j = r->list;
	struct dirty *d = writer_dirty(r->sv->writer);

	if (j->bad != NULL)
		return request_answer(r, 400, NULL, j->bad);
	if (r->snap->phase == PHASE_R2_ONLY)
		return request_answer(r, 501, NULL, "in r2-only there is no disk to list");
	if (r->snap->phase == PHASE_R2_PRIMARY && dirty_uncertain(d))
		return request_answer(r, 503, "Retry-After: 1\r\n", "what the disk is owed is not known now");
	dirty_each_owed(d, note_owed, j);
	pool_submit(r->sv->pool, &j->job, work, listed, j);
	return STEP_WAIT;
}

void
list_fini(struct request *r)
{
	struct list_job *j = r->list;

	r->list = NULL;
	if (j == NULL)
		return;
	if (j->job.busy)
		pool_cancel(&j->job, release);
	else
		release(j);
}
