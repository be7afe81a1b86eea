/* r2_put: a PUT in one request; r2_multipart.c takes the large files. See r2_req.h. */
#include <string.h>

#include "base/mem.h"
#include "store/r2_meta.h"
#include "store/r2_req.h"
#include "store/s3xml.h"

struct put_op {
	struct r2_op op;
	struct r2_req *q;
	uint8_t md5[16];
	store_done *done;
	void *arg;
};

static void
put_cancel(struct r2_op *op)
{
	struct put_op *p = (struct put_op *)op;

	r2_req_free(&p->q);
	list_del(&p->op.node);
	mem_free(p);
}

static void
put_done(void *arg, enum err e)
{
	struct put_op *p = arg;
	store_done *done = p->done;
	void *darg = p->arg;
	struct str md5 = STR_INIT;
	char etag[80] = "";

	if (e == ERR_OK) {
		const char *z = r2_req_answer(p->q, "etag");

		if (z != NULL)
			s3xml_etag(etag, z, strlen(z));
		str_add_hex(&md5, p->md5, sizeof(p->md5));
		if (strcmp(etag, str_z(&md5)) != 0)
			e = ERR_BADDIGEST;
		str_fini(&md5);
	}
	put_cancel(&p->op);
	done(darg, e, e == ERR_OK ? etag : NULL);
}

struct store_op *
r2_put(struct store *s, const struct store_put *opt, store_done *done, void *arg)
{
	struct r2 *r2 = (struct r2 *)s;
	struct put_op *p;

	if (opt->fd >= 0 && opt->size >= r2->conf->r2_multipart_threshold)
		return r2_put_multipart(r2, opt, done, arg);
	p = mem_zalloc(sizeof(*p));
	r2_op_init(&p->op, r2, put_cancel);
	p->done = done;
	p->arg = arg;
	memcpy(p->md5, opt->md5, sizeof(p->md5));
	p->q = r2_req_new(r2, "put", "PUT", opt->key, opt->klen);
	r2_req_body(p->q, opt->body, opt->fd, 0, opt->size, opt->md5, opt->sha256);
	r2_meta_send(p->q, opt->key, opt->klen, opt->meta);
	if (opt->fence.if_absent) {
		r2_req_header(p->q, "if-none-match", "*");
	} else if (opt->fence.if_etag != NULL) {
		struct str quoted = STR_INIT;

		str_printf(&quoted, "\"%s\"", opt->fence.if_etag);
		r2_req_header(p->q, "if-match", str_z(&quoted));
		str_fini(&quoted);
	}
	r2_req_start(p->q, opt->limit_ms, put_done, p);
	return (struct store_op *)p;
}
