/*
 * reconcile_fetch: R2's object into a file beside its target, as it comes: the loop takes the bytes, the pool writes and digests
 * them, one piece at a time; if the disk is the slower one R2 is made to wait.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/trip.h"
#include "sync/reconcile_int.h"

#define HIGH_WATER (1 << 20)	/* bytes that wait for the disk before R2 is paused */

static void
ended(struct reconcile *r, enum err e, bool r2)
{
	store_cancel(r->env.r2, &r->op);
	r->fetch.done(r, e, r2);
}

/* The last byte is written: is it all, and is it the object? */
static void
finish(struct reconcile *r)
{
	struct reconcile_fetch *f = &r->fetch;

	if (f->e == ERR_PRECOND || f->e == ERR_NOTFOUND) {
		ended(r, ERR_CHANGED, true);
	} else if (f->e != ERR_OK) {
		ended(r, f->e, true);
	} else if (f->written != r->meta.size) {
		ended(r, ERR_CLOSED, true);
	} else {
		digest_final(f->md5, f->sum);
		/* An object of several parts that another tool made has no digest that we could compare: then its size must do. */
		if (r->meta.has_md5 && memcmp(f->sum, r->meta.md5, sizeof f->sum) != 0)
			ended(r, ERR_BADDIGEST, true);
		else
			ended(r, ERR_OK, false);
	}
}

static void
write_work(void *arg)
{
	struct reconcile *r = arg;
	struct reconcile_fetch *f = &r->fetch;
	size_t off = 0;

	while (off < f->writing.len) {
		ssize_t n = TRIP("disk", "write") ? -1 : pwrite(f->fd, f->writing.p + off, f->writing.len - off, (off_t)(f->written + off));

		if (n > 0) {
			off += (size_t)n;
		} else if (errno != EINTR) {
			f->work_e = err_from_errno(errno);
			return;
		}
	}
	digest_update(f->md5, f->writing.p, f->writing.len);
	f->written += f->writing.len;
}

static void on_written(void *arg);

static void
write_next(struct reconcile *r)
{
	struct reconcile_fetch *f = &r->fetch;
	struct str empty = f->writing;

	str_clear(&empty);
	f->writing = f->waiting;
	f->waiting = empty;
	pool_submit(r->env.pool, &r->job, write_work, on_written, r);
}

static void
on_written(void *arg)
{
	struct reconcile *r = arg;
	struct reconcile_fetch *f = &r->fetch;

	if (reconcile_job_ended(r))
		return;
	if (f->work_e != ERR_OK) {
		ended(r, f->work_e, false);
		return;
	}
	if (f->waiting.len > 0)
		write_next(r);
	if (f->paused && r->op != NULL) {
		f->paused = false;
		store_resume(r->env.r2, r->op);
	}
	if (f->ended && !r->job.busy)
		finish(r);
}

static void
on_meta(void *arg, const struct store_meta *m, bool partial, uint64_t first, uint64_t n, uint64_t total)
{
	struct reconcile *r = arg;

	(void)m;
	(void)first;
	(void)n;
	/* If-Match has made sure of the rest. */
	if (partial || total != r->meta.size)
		ended(r, ERR_PROTO, true);
}

static void
on_data(void *arg, const void *p, size_t n)
{
	struct reconcile *r = arg;
	struct reconcile_fetch *f = &r->fetch;

	str_add(&f->waiting, p, n);
	r->report.bytes += n;
	if (!r->job.busy) {
		write_next(r);
	} else if (f->waiting.len > HIGH_WATER && !f->paused) {
		f->paused = true;
		store_pause(r->env.r2, r->op);
	}
}

static void
on_got(void *arg, enum err e)
{
	struct reconcile *r = arg;

	r->op = NULL;
	r->fetch.ended = true;
	r->fetch.e = e;
	if (!r->job.busy)
		finish(r);
}

static void
on_created(void *arg)
{
	static const struct store_get_cb cb = { on_meta, on_data, on_got };
	struct reconcile *r = arg;
	struct store_get g = { .key = r->key, .klen = r->klen, .if_etag = r->meta.etag };

	if (reconcile_job_ended(r))
		return;
	if (r->fetch.work_e != ERR_OK) {
		ended(r, r->fetch.work_e, false);
		return;
	}
	g.first_byte_ms = g.stall_ms = cluster_limit_ms(r->env.cluster);
	r->fetch.md5 = digest_new(DIGEST_MD5);
	r->op = store_get(r->env.r2, &g, &cb, r);
}

static void
create_work(void *arg)
{
	struct reconcile *r = arg;
	uint64_t space;

	r->fetch.work_e = local_free_space(r->env.local, &space);
	if (r->fetch.work_e == ERR_OK && (space < r->conf->min_free || space - r->conf->min_free < r->meta.size))
		r->fetch.work_e = ERR_NOSPACE;
	if (r->fetch.work_e == ERR_OK)
		r->fetch.work_e = local_swap_create(r->swap, &r->fetch.fd);
}

void
reconcile_fetch_start(struct reconcile *r, void (*done)(struct reconcile *r, enum err e, bool r2))
{
	reconcile_fetch_free(r);
	r->fetch.done = done;
	pool_submit(r->env.pool, &r->job, create_work, on_created, r);
}

void
reconcile_fetch_free(struct reconcile *r)
{
	struct reconcile_fetch *f = &r->fetch;

	digest_free(&f->md5);
	str_fini(&f->waiting);
	str_fini(&f->writing);
	*f = (struct reconcile_fetch){ .fd = -1 };
}
