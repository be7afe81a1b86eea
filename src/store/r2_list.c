/* r2_list: what asks about the bucket as a whole: listings, the probe, and unfinished multipart uploads. See r2_req.h.
 */
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "store/r2_req.h"
#include "store/s3xml.h"

/* ---- list ---- */

struct list_op {
	struct r2_op op;
	struct r2_req *q;
	store_list_done *done;
	void *arg;
};

static void
list_cancel(struct r2_op *op)
{
	struct list_op *l = (struct list_op *)op;

	r2_req_free(&l->q);
	list_del(&l->op.node);
	mem_free(l);
}

/* A merge with the disk stands on the order: a page out of order would look like missing objects. */
static bool
ascending(const struct s3xml_list *l)
{
	for (size_t i = 1; i < l->n; i++) {
		const struct store_list_entry *a = &l->v[i - 1], *b = &l->v[i];
		int c = memcmp(a->key, b->key, a->klen < b->klen ? a->klen : b->klen);

		if (c > 0 || (c == 0 && a->klen >= b->klen))
			return false;
	}
	return true;
}

static void
list_done(void *arg, enum err e)
{
	struct list_op *l = arg;
	store_list_done *done = l->done;
	void *darg = l->arg;
	struct s3xml_list page = {0};

	if (e == ERR_OK)
		e = s3xml_list(l->q->answer.p, l->q->answer.len, &page);
	if (e == ERR_OK && !ascending(&page))
		e = ERR_PROTO;
	list_cancel(&l->op);
	if (e == ERR_OK)
		done(darg, e, page.v, page.n, page.truncated ? page.next : NULL);
	else
		done(darg, e, NULL, 0, NULL);
	s3xml_list_fini(&page);
}

/* A name as the bucket knows it: NFC. */
static void
query_nfc(struct r2_req *q, const char *name, const char *value)
{
	struct str nfc = STR_INIT;

	if (!utf8_add_nfc(&nfc, value, strlen(value)))
		q->refused = ERR_INVAL;
	r2_req_query(q, name, nfc.p, nfc.len);
	str_fini(&nfc);
}

struct store_op *
r2_list(struct store *s, const char *prefix, const char *start_after, const char *after, unsigned max,
    store_list_done *done, void *arg)
{
	struct r2 *r2 = (struct r2 *)s;
	struct list_op *l = mem_zalloc(sizeof(*l));
	struct str n = STR_INIT;

	r2_op_init(&l->op, r2, list_cancel);
	l->done = done;
	l->arg = arg;
	l->q = r2_req_new(r2, "list", "GET", NULL, 0);
	l->q->answer_max = R2_LIST_MAX;
	if (after != NULL)
		r2_req_query(l->q, "continuation-token", after, strlen(after));
	r2_req_query(l->q, "encoding-type", "url", 3);
	r2_req_query(l->q, "list-type", "2", 1);
	str_printf(&n, "%u", max > 0 && max < 1000 ? max : 1000);
	r2_req_query(l->q, "max-keys", n.p, n.len);
	str_fini(&n);
	if (prefix != NULL && *prefix != '\0')
		query_nfc(l->q, "prefix", prefix);
	if (start_after != NULL && after == NULL)
		query_nfc(l->q, "start-after", start_after);
	r2_req_start(l->q, r2->conf->r2_request_limit, list_done, l);
	return (struct store_op *)l;
}

/* ---- probe ---- */

struct probe_op {
	struct r2_op op;
	struct r2_req *q;
	store_text_done *done;
	void *arg;
};

static void
probe_cancel(struct r2_op *op)
{
	struct probe_op *p = (struct probe_op *)op;

	r2_req_free(&p->q);
	list_del(&p->op.node);
	mem_free(p);
}

static void
explain(const struct r2_req *q, enum err e, struct str *why)
{
	const struct conf *c = q->r2->conf;
	const char *said = str_z(&q->message);

	if (e == ERR_NOBUCKET)
		str_printf(why, "%s has no bucket \"%s\" (a bucket of a jurisdiction is seen at its own endpoint only)",
		    q->r2->origin, c->r2_bucket);
	else if (e == ERR_UNAUTH && strcmp(q->code, "SignatureDoesNotMatch") == 0)
		str_printf(why, "the secret access key does not belong to the access key id \"%s\"", c->r2_access_key);
	else if (e == ERR_UNAUTH)
		str_printf(why, "the access key id \"%s\" is not known to %s", c->r2_access_key, q->r2->origin);
	else if (e == ERR_DENIED)
		str_printf(why,
		    "the access key \"%s\" may not list the bucket \"%s\": it needs Object Read & Write on it",
		    c->r2_access_key, c->r2_bucket);
	else if (e == ERR_CLOCK)
		str_addz(why, "this machine's clock is wrong by more than 15 minutes and R2 refuses its signatures: "
			      "set the clock");
	else if (e == ERR_CONNECT || e == ERR_TIMEOUT || e == ERR_CLOSED)
		str_printf(why, "cannot reach %s: %s", q->r2->origin, *said != '\0' ? said : err_text(e));
	else if (e == ERR_PROTO)
		str_printf(
		    why, "%s does not answer like R2 (status %d): is it the S3 endpoint?", q->r2->origin, q->status);
	else
		str_printf(why, "%s answered %d %s: %s", q->r2->origin, q->status, q->code,
		    *said != '\0' ? said : err_text(e));
	/* R2's own word for it: what a search finds. */
	if (q->code[0] != '\0' && (e == ERR_NOBUCKET || e == ERR_UNAUTH || e == ERR_DENIED || e == ERR_CLOCK))
		str_printf(why, " (%s)", q->code);
}

static void
probe_done(void *arg, enum err e)
{
	struct probe_op *p = arg;
	store_text_done *done = p->done;
	void *darg = p->arg;
	struct s3xml_list page = {0};
	struct str why = STR_INIT;

	if (e == ERR_OK)
		e = s3xml_list(p->q->answer.p, p->q->answer.len, &page);
	s3xml_list_fini(&page);
	if (e != ERR_OK)
		explain(p->q, e, &why);
	probe_cancel(&p->op);
	done(darg, e, str_z(&why));
	str_fini(&why);
}

struct store_op *
r2_probe(struct store *s, store_text_done *done, void *arg)
{
	struct r2 *r2 = (struct r2 *)s;
	struct probe_op *p = mem_zalloc(sizeof(*p));

	/* a list, not a HEAD: its refusals have bodies that say which of key, secret, bucket or clock is wrong */
	r2_op_init(&p->op, r2, probe_cancel);
	p->done = done;
	p->arg = arg;
	p->q = r2_req_new(r2, "list", "GET", NULL, 0);
	r2_req_query(p->q, "list-type", "2", 1);
	r2_req_query(p->q, "max-keys", "1", 1);
	r2_req_start(p->q, r2->conf->r2_request_limit, probe_done, p);
	return (struct store_op *)p;
}

/* ---- abort of a key's unfinished uploads ---- */

struct uploads_op {
	struct r2_op op;
	struct r2_req *q;
	struct str key; /* NFC */
	struct s3xml_uploads page;
	size_t next; /* in the page: what is to be looked at next */
	char *key_marker, *id_marker;
	store_done *done;
	void *arg;
};

static void uploads_step(struct uploads_op *u);

static void
uploads_cancel(struct r2_op *op)
{
	struct uploads_op *u = (struct uploads_op *)op;

	r2_req_free(&u->q);
	list_del(&u->op.node);
	s3xml_uploads_fini(&u->page);
	str_fini(&u->key);
	mem_free(u->key_marker);
	mem_free(u->id_marker);
	mem_free(u);
}

static void
uploads_answer(struct uploads_op *u, enum err e)
{
	store_done *done = u->done;
	void *arg = u->arg;

	uploads_cancel(&u->op);
	done(arg, e, NULL);
}

static void
uploads_listed(void *arg, enum err e)
{
	struct uploads_op *u = arg;

	s3xml_uploads_fini(&u->page);
	u->next = 0;
	if (e == ERR_OK)
		e = s3xml_uploads(u->q->answer.p, u->q->answer.len, &u->page);
	if (e != ERR_OK)
		uploads_answer(u, e);
	else
		uploads_step(u);
}

static void
uploads_aborted(void *arg, enum err e)
{
	struct uploads_op *u = arg;

	/* one that has ended by itself meanwhile is as good */
	if (e != ERR_OK && strcmp(u->q->code, "NoSuchUpload") != 0)
		uploads_answer(u, e);
	else
		uploads_step(u);
}

static void
uploads_list(struct uploads_op *u)
{
	r2_req_free(&u->q);
	u->q = r2_req_new(u->op.r2, "multipart", "GET", NULL, 0);
	u->q->answer_max = R2_LIST_MAX;
	r2_req_query(u->q, "encoding-type", "url", 3);
	if (u->key_marker != NULL)
		r2_req_query(u->q, "key-marker", u->key_marker, strlen(u->key_marker));
	r2_req_query(u->q, "prefix", u->key.p, u->key.len);
	if (u->id_marker != NULL)
		r2_req_query(u->q, "upload-id-marker", u->id_marker, strlen(u->id_marker));
	r2_req_query(u->q, "uploads", NULL, 0);
	r2_req_start(u->q, u->op.r2->conf->r2_request_limit, uploads_listed, u);
}

/* The key's own spelling in the upload may be any: compared in NFC. */
static bool
is_upload_of(const struct uploads_op *u, const char *key)
{
	struct str nfc = STR_INIT;
	bool same = utf8_add_nfc(&nfc, key, strlen(key)) && strcmp(str_z(&nfc), str_z(&u->key)) == 0;

	str_fini(&nfc);
	return same;
}

/* Aborts the page's next upload of the key; at its end, the next page. */
static void
uploads_step(struct uploads_op *u)
{
	while (u->next < u->page.n) {
		const struct s3xml_upload *up = &u->page.v[u->next++];

		if (!is_upload_of(u, up->key))
			continue;
		r2_req_free(&u->q);
		u->q = r2_req_new(u->op.r2, "multipart", "DELETE", up->key, strlen(up->key));
		r2_req_query(u->q, "uploadId", up->id, strlen(up->id));
		r2_req_start(u->q, u->op.r2->conf->r2_request_limit, uploads_aborted, u);
		return;
	}
	if (!u->page.truncated) {
		uploads_answer(u, ERR_OK);
		return;
	}
	mem_free(u->key_marker);
	mem_free(u->id_marker);
	u->key_marker = mem_strdup(u->page.next_key);
	u->id_marker = mem_strdup(u->page.next_id);
	uploads_list(u);
}

struct store_op *
r2_abort_uploads(struct store *s, const char *key, size_t klen, store_done *done, void *arg)
{
	struct uploads_op *u = mem_zalloc(sizeof(*u));

	r2_op_init(&u->op, (struct r2 *)s, uploads_cancel);
	u->done = done;
	u->arg = arg;
	if (!utf8_add_nfc(&u->key, key, klen)) {
		/* the request refuses it as well, later */
		u->q = r2_req_new(u->op.r2, "multipart", "GET", key, klen);
		r2_req_start(u->q, 0, uploads_listed, u);
	} else {
		uploads_list(u);
	}
	return (struct store_op *)u;
}
