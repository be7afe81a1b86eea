/*
 * r2_multipart: a large file in equal parts. create -> (hash a part on the pool -> send it, a few at once) -> look at
 * the fence -> complete; any failure, and a cancel too, aborts the upload. See r2_req.h.
 *
 * Each part is hashed before it is sent, and R2 checks both digests; the parts in turn also feed one MD5 of the whole,
 * which must be what the caller hashed before: bytes that changed between the two passes are CHANGED, never stored.
 * Completion takes no condition at R2, so the fence is a HEAD right before it: the lease is what truly excludes others.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/mem.h"
#include "store/r2_meta.h"
#include "store/r2_req.h"
#include "store/s3xml.h"

#define FLIGHTS    3      /* parts on the wire at once */
#define PARTS_MAX  10000u /* R2's */
#define READ_CHUNK (256u << 10)
#define MIB        (1u << 20)

struct mp;

struct flight {
	struct mp *mp;
	struct r2_req *q; /* NULL: free */
	unsigned part;    /* from 0 */
};

struct mp {
	struct r2_op op;
	int fd; /* our own: the caller may close his when it cancels */
	char *key, *fence_etag;
	size_t klen;
	bool fence_absent;
	uint64_t size, part_size, limit_ms;
	unsigned nparts, next, stored; /* next: to be hashed; stored: how many R2 has */
	uint8_t want_md5[16];
	uint8_t (*md5)[16];    /* of each part */
	char **tags;           /* what R2 calls each part: usually its MD5, but it need not be */
	char *upload_id;       /* NULL: none yet, or aborted */
	struct r2_req *ctl;    /* create, complete or abort */
	struct store_op *head; /* the fence */
	struct flight flight[FLIGHTS];
	struct str xml;
	char etag[80];
	/* the pool's while hashing */
	struct pool_job job;
	bool hashing;
	struct digest *whole;
	uint8_t sha256[32];
	enum err hash_err;

	bool ending;         /* a result is set; what runs is the abort */
	bool orphan, killed; /* nobody waits for the result; r2 itself is gone */
	enum err result;
	store_done *done;
	void *arg;
};

static void mp_pump(struct mp *m);
static void mp_fail(struct mp *m, enum err e);

static void
mp_free(void *arg)
{
	struct mp *m = arg;

	ASSERT(!m->hashing);
	list_del(&m->op.node);
	if (m->fd >= 0)
		(void)close(m->fd);
	digest_free(&m->whole);
	mem_free(m->key);
	mem_free(m->fence_etag);
	mem_free(m->upload_id);
	mem_free(m->md5);
	for (unsigned i = 0; i < m->nparts; i++)
		mem_free(m->tags[i]);
	mem_free(m->tags);
	str_fini(&m->xml);
	mem_free(m);
}

static void mp_end_if_idle(struct mp *m);

static void
hash_dropped(void *arg)
{
	struct mp *m = arg;

	m->hashing = false;
	if (m->killed)
		mp_free(m);
	else
		mp_end_if_idle(m);
}

/* Ends all that runs but the hashing, which is only told to. */
static void
mp_stop(struct mp *m)
{
	for (unsigned i = 0; i < FLIGHTS; i++)
		r2_req_free(&m->flight[i].q);
	r2_req_free(&m->ctl);
	if (m->head != NULL)
		((struct r2_op *)m->head)->cancel((struct r2_op *)m->head);
	m->head = NULL;
	if (m->hashing && !pool_job_cancelled(&m->job))
		pool_cancel(&m->job, hash_dropped);
}

/* The end of all: when the abort's answer is there and the pool has let go. */
static void
mp_end_if_idle(struct mp *m)
{
	store_done *done = m->done;
	void *arg = m->arg;
	enum err e = m->result;
	bool orphan = m->orphan;
	char etag[80];

	if (m->hashing || m->ctl != NULL)
		return;
	memcpy(etag, m->etag, sizeof(etag));
	mp_free(m);
	if (!orphan)
		done(arg, e, e == ERR_OK ? etag : NULL);
}

static void
on_aborted(void *arg, enum err e)
{
	struct mp *m = arg;

	/* an abort that fails leaves parts behind, which abort_uploads or R2's own rule removes: the result stays the
	 * first error */
	(void)e;
	r2_req_free(&m->ctl);
	mp_end_if_idle(m);
}

static void
mp_fail(struct mp *m, enum err e)
{
	m->ending = true;
	m->result = e;
	mp_stop(m);
	if (m->upload_id != NULL) {
		/* also after a completion whose answer was lost: then it either came first or finds nothing to complete
		 */
		m->ctl = r2_req_new(m->op.r2, "multipart", "DELETE", m->key, m->klen);
		r2_req_query(m->ctl, "uploadId", m->upload_id, strlen(m->upload_id));
		r2_req_start(m->ctl, m->limit_ms, on_aborted, m);
	}
	mp_end_if_idle(m);
}

static void
mp_cancel(struct r2_op *op)
{
	struct mp *m = (struct mp *)op;

	m->orphan = true;
	if (!m->ending)
		mp_fail(m, ERR_CANCELLED);
}

static void
mp_kill(struct r2_op *op)
{
	struct mp *m = (struct mp *)op;

	m->killed = true;
	list_del(&m->op.node);
	mp_stop(m);
	if (!m->hashing)
		mp_free(m);
}

/* ---- completion ---- */

static void
on_completed(void *arg, enum err e)
{
	struct mp *m = arg;
	char want[80], code[64];
	struct str hex = STR_INIT;
	uint8_t md5[16];

	/* a 200 whose body is an <Error> is a failure: R2 answers before it has finished */
	if (e == ERR_OK && s3xml_error(m->ctl->answer.p, m->ctl->answer.len, code, NULL))
		e = r2_req_classify(500, code);
	else if (e == ERR_OK)
		e = s3xml_completed(m->ctl->answer.p, m->ctl->answer.len, m->etag);
	if (e == ERR_OK) {
		digest_md5(m->md5, (size_t)m->nparts * sizeof(m->md5[0]), md5);
		str_add_hex(&hex, md5, sizeof(md5));
		str_printf(&hex, "-%u", m->nparts);
		s3xml_etag(want, hex.p, hex.len);
		str_fini(&hex);
		if (strcmp(want, m->etag) != 0)
			e = ERR_BADDIGEST;
	}
	if (e != ERR_OK) {
		mp_fail(m, e);
		return;
	}
	r2_req_free(&m->ctl);
	m->ending = true;
	m->result = ERR_OK;
	mp_end_if_idle(m);
}

static void
mp_complete(struct mp *m)
{
	uint8_t md5[16], sha256[32];

	str_addz(&m->xml, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	for (unsigned i = 0; i < m->nparts; i++) {
		str_printf(&m->xml, "<Part><PartNumber>%u</PartNumber><ETag>", i + 1);
		s3xml_escape(&m->xml, m->tags[i], strlen(m->tags[i]));
		str_addz(&m->xml, "</ETag></Part>");
	}
	str_addz(&m->xml, "</CompleteMultipartUpload>");
	digest_md5(m->xml.p, m->xml.len, md5);
	digest_sha256(m->xml.p, m->xml.len, sha256);
	m->ctl = r2_req_new(m->op.r2, "multipart", "POST", m->key, m->klen);
	r2_req_query(m->ctl, "uploadId", m->upload_id, strlen(m->upload_id));
	r2_req_header(m->ctl, "content-type", "application/xml");
	r2_req_body(m->ctl, m->xml.p, -1, 0, m->xml.len, md5, sha256);
	r2_req_start(m->ctl, m->limit_ms, on_completed, m);
}

static void
on_fence(void *arg, enum err e, const struct store_meta *meta)
{
	struct mp *m = arg;
	bool holds = m->fence_absent ? e == ERR_NOTFOUND : e == ERR_OK && strcmp(meta->etag, m->fence_etag) == 0;

	m->head = NULL;
	if (holds)
		mp_complete(m);
	else
		mp_fail(m, e == ERR_OK || e == ERR_NOTFOUND ? ERR_PRECOND : e);
}

/* ---- parts ---- */

/* Keeps what R2 calls the part. It has checked the digests that came with it; a name that is an MD5 must be the right
 * one. */
static enum err
keep_tag(struct mp *m, unsigned part, const char *tag)
{
	uint8_t md5[16];
	char etag[80];
	size_t n;

	if (tag == NULL || *tag == '\0')
		return ERR_PROTO;
	s3xml_etag(etag, tag, strlen(tag));
	if (strlen(etag) == 32 && str_unhex(etag, 32, md5, sizeof(md5), &n) &&
	    memcmp(md5, m->md5[part], sizeof(md5)) != 0)
		return ERR_BADDIGEST;
	m->tags[part] = mem_strdup(tag);
	return ERR_OK;
}

static void
on_part(void *arg, enum err e)
{
	struct flight *f = arg;
	struct mp *m = f->mp;

	if (e == ERR_OK)
		e = keep_tag(m, f->part, r2_req_answer(f->q, "etag"));
	if (e != ERR_OK) {
		mp_fail(m, e);
		return;
	}
	r2_req_free(&f->q);
	m->stored++;
	mp_pump(m);
}

static uint64_t
part_len(const struct mp *m, unsigned part)
{
	uint64_t off = (uint64_t)part * m->part_size;

	return m->size - off < m->part_size ? m->size - off : m->part_size;
}

/* On the pool. */
static void
hash_work(void *arg)
{
	struct mp *m = arg;
	struct digest *md5 = digest_new(DIGEST_MD5), *sha = digest_new(DIGEST_SHA256);
	uint64_t off = (uint64_t)m->next * m->part_size, left = part_len(m, m->next);
	char *buf = mem_alloc(READ_CHUNK);

	m->hash_err = ERR_OK;
	while (left > 0 && m->hash_err == ERR_OK && !pool_job_cancelled(&m->job)) {
		ssize_t n = pread(m->fd, buf, left < READ_CHUNK ? (size_t)left : READ_CHUNK, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			m->hash_err = n == 0 ? ERR_CHANGED : err_from_errno(errno);
			break;
		}
		digest_update(md5, buf, (size_t)n);
		digest_update(sha, buf, (size_t)n);
		digest_update(m->whole, buf, (size_t)n);
		off += (uint64_t)n;
		left -= (uint64_t)n;
	}
	digest_final(md5, m->md5[m->next]);
	digest_final(sha, m->sha256);
	digest_free(&md5);
	digest_free(&sha);
	mem_free(buf);
}

static struct flight *
free_flight(struct mp *m)
{
	for (unsigned i = 0; i < FLIGHTS; i++)
		if (m->flight[i].q == NULL)
			return &m->flight[i];
	return NULL;
}

static void
hash_done(void *arg)
{
	struct mp *m = arg;
	struct flight *f = free_flight(m);
	unsigned part = m->next;
	uint8_t md5[16];
	struct str n = STR_INIT;

	m->hashing = false;
	if (m->hash_err == ERR_OK && ++m->next == m->nparts) {
		digest_final(m->whole, md5);
		if (memcmp(md5, m->want_md5, sizeof(md5)) != 0)
			m->hash_err = ERR_CHANGED;
	}
	if (m->hash_err != ERR_OK) {
		mp_fail(m, m->hash_err);
		return;
	}
	ASSERT(f != NULL);
	str_printf(&n, "%u", part + 1);
	f->part = part;
	f->q = r2_req_new(m->op.r2, "multipart", "PUT", m->key, m->klen);
	r2_req_query(f->q, "partNumber", n.p, n.len);
	r2_req_query(f->q, "uploadId", m->upload_id, strlen(m->upload_id));
	r2_req_body(f->q, NULL, m->fd, (uint64_t)part * m->part_size, part_len(m, part), m->md5[part], m->sha256);
	r2_req_start(f->q, m->limit_ms, on_part, f);
	str_fini(&n);
	mp_pump(m);
}

static void
mp_pump(struct mp *m)
{
	if (m->stored == m->nparts) {
		if (m->fence_absent || m->fence_etag != NULL)
			m->head = r2_head_any(m->op.r2, m->key, m->klen, m->limit_ms, on_fence, m);
		else
			mp_complete(m);
	} else if (!m->hashing && m->next < m->nparts && free_flight(m) != NULL) {
		m->hashing = true;
		pool_submit(m->op.r2->pool, &m->job, hash_work, hash_done, m);
	}
}

/* ---- the beginning ---- */

static void
on_created(void *arg, enum err e)
{
	struct mp *m = arg;

	if (e == ERR_OK)
		e = s3xml_created(m->ctl->answer.p, m->ctl->answer.len, &m->upload_id);
	r2_req_free(&m->ctl);
	if (e == ERR_OK && m->fd < 0)
		e = ERR_IO;
	if (e == ERR_OK)
		mp_pump(m);
	else
		mp_fail(m, e);
}

static void
send_create(struct mp *m, const struct store_put *p)
{
	struct str sum = STR_INIT;

	m->ctl = r2_req_new(m->op.r2, "multipart", "POST", p->key, p->klen);
	r2_req_query(m->ctl, "uploads", NULL, 0);
	m->ctl->has_body = true;
	r2_meta_send(m->ctl, p->key, p->klen, p->meta);
	/* the ETag of parts says nothing of the whole: rclone's header does */
	str_add_base64(&sum, p->md5, sizeof(p->md5));
	r2_req_header(m->ctl, "x-amz-meta-md5chksum", str_z(&sum));
	str_fini(&sum);
	r2_req_start(m->ctl, p->limit_ms, on_created, m);
}

struct store_op *
r2_put_multipart(struct r2 *r2, const struct store_put *p, store_done *done, void *arg)
{
	struct mp *m = mem_zalloc(sizeof(*m));
	uint64_t least = (p->size + PARTS_MAX - 1) / PARTS_MAX;

	ASSERT(r2->pool != NULL && p->size > 0);
	r2_op_init(&m->op, r2, mp_cancel);
	m->op.kill = mp_kill;
	m->fd = fcntl(p->fd, F_DUPFD_CLOEXEC, 0);
	m->key = mem_strndup(p->key, p->klen);
	m->klen = p->klen;
	m->fence_absent = p->fence.if_absent;
	m->fence_etag = mem_strdup(p->fence.if_etag);
	m->size = p->size;
	m->limit_ms = p->limit_ms;
	m->part_size = r2->conf->r2_part_size;
	if (m->part_size < least)
		m->part_size = (least + MIB - 1) / MIB * MIB;
	m->nparts = (unsigned)((p->size + m->part_size - 1) / m->part_size);
	m->md5 = mem_calloc(m->nparts, sizeof(m->md5[0]));
	m->tags = mem_calloc(m->nparts, sizeof(m->tags[0]));
	m->whole = digest_new(DIGEST_MD5);
	memcpy(m->want_md5, p->md5, sizeof(m->want_md5));
	for (unsigned i = 0; i < FLIGHTS; i++)
		m->flight[i].mp = m;
	m->done = done;
	m->arg = arg;
	send_create(m, p);
	return (struct store_op *)m;
}
