#include "migrate/census.h"

#include <string.h>

#include "base/clock.h"
#include "base/keypath.h"
#include "base/mem.h"

/* Between the two looks: longer than a file takes from rename to watcher to mark. */
#define PAUSE_MS 2000
/* A mark that says put, on a key without a file, whose write is over: as good as none. */
#define PUT_MARK_OLD_MS 10000
#define MARKS_AT_ONCE 250
/* So many more than may be deleted are remembered: the second look drops those that only seem to lack a file, as files whose names are
 * not in normal form do. */
#define SPARE_MAX 100000

struct candidate {
	char *key;
	size_t klen;
	enum mark_side side;		/* whose its object is */
};

struct census {
	const struct reconcile_env *env;
	struct candidate *v;
	size_t n, cap, at, kept, marked;
	bool calling, freed;		/* a call to Redis is out: it cannot be taken back */
	bool unsure;			/* a candidate was written too short a time ago to be judged */
	uint64_t found;			/* candidates of the first look, those not remembered too */
	census_done *done;
	void *arg;
	struct loop_timer timer;
	struct store_op *op;
	struct pool_job job;
	struct local_stat st;
	enum err look_err;
};

static void look_next(struct census *c);

struct census *
census_new(const struct reconcile_env *env)
{
	struct census *c = mem_zalloc(sizeof(*c));

	c->env = env;
	return c;
}

void
census_candidate(struct census *c, const char *key, size_t klen)
{
	if (!keypath_servable(keypath_check(key, klen)))
		return;		/* not a path that a file could have: not of this site's making */
	c->found++;
	if (c->n >= (uint64_t)c->env->conf->max_delete + SPARE_MAX)
		return;		/* too many already: the number is all that is needed */
	if (c->n == c->cap) {
		c->cap = c->cap != 0 ? c->cap * 2 : 64;
		c->v = mem_realloc(c->v, c->cap * sizeof(*c->v));
	}
	c->v[c->n].key = mem_strndup(key, klen);
	c->v[c->n].klen = klen;
	c->n++;
}

static void
finished(struct census *c, enum err e, uint64_t found, uint64_t marked, const char *why)
{
	c->done(c->arg, e, found, marked, why);
}

static void
release(void *arg)
{
	struct census *c = arg;

	for (size_t i = 0; i < c->n; i++)
		mem_free(c->v[i].key);
	mem_free(c->v);
	mem_free(c);
}

/* A call to Redis came back: false if the census was freed meanwhile. */
static bool
called(struct census *c)
{
	c->calling = false;
	if (!c->freed)
		return true;
	release(c);
	return false;
}

static void mark_more(struct census *c);

static void
marked_cb(void *arg, enum err e, uint64_t busy)
{
	struct census *c = arg;

	if (!called(c))
		return;
	c->unsure = c->unsure || busy > 0;
	if (e != ERR_OK)
		finished(c, e, c->kept, 0, err_text(e));
	else
		mark_more(c);
}

static void
mark_more(struct census *c)
{
	struct marks_key keys[MARKS_AT_ONCE];
	size_t n = 0;

	if (c->marked == c->kept) {
		finished(c, ERR_OK, c->kept, c->kept, c->unsure ? "some were written a moment ago" : "");
		return;
	}
	for (; n < MARKS_AT_ONCE && c->marked < c->kept; c->marked++)
		keys[n++] = (struct marks_key){c->v[c->marked].key, c->v[c->marked].klen, c->v[c->marked].side};
	c->calling = true;
	marks_census(c->env->cluster, keys, n, marked_cb, c);
}

/* The second look is over: v[0..kept) have no file. */
static void
mark_all(struct census *c)
{
	if (c->kept > (uint64_t)c->env->conf->max_delete)
		finished(c, ERR_OK, c->kept + (c->found - c->n), 0, "");
	else if (c->found > c->n)
		finished(c, ERR_OK, c->found, 0, "");	/* not all were looked at: no ground for any */
	else
		mark_more(c);
}

static void
keep(struct census *c)
{
	struct candidate swap = c->v[c->kept];

	c->v[c->kept] = c->v[c->at];
	c->v[c->at] = swap;
	c->kept++;
	c->at++;
	look_next(c);
}

static void
pass_over(struct census *c)
{
	c->at++;
	look_next(c);
}

static void
fail(struct census *c, enum err e, const char *why)
{
	finished(c, e, c->found, 0, why);
}

static void
head_cb(void *arg, enum err e, const struct store_meta *m)
{
	struct census *c = arg;

	c->op = NULL;
	if (e == ERR_OK) {
		c->v[c->at].side = m->base != NULL ? MARK_R2 : MARK_LOCAL;
		keep(c);
	} else if (e == ERR_NOTFOUND) {
		pass_over(c);
	} else {
		fail(c, e, "R2 did not answer the census's second look");
	}
}

static void
mark_cb(void *arg, enum err e, const struct mark *m)
{
	struct census *c = arg;

	if (!called(c))
		return;
	if (e != ERR_OK) {
		fail(c, e, "Redis did not answer the census's second look");
	} else if (m->gen != 0 && (m->op == MARK_DELETE || clock_real_ms() - m->since_ms < PUT_MARK_OLD_MS)) {
		c->unsure = c->unsure || m->op == MARK_PUT;
		pass_over(c);
	} else {
		c->op = store_head(c->env->r2, c->v[c->at].key, c->v[c->at].klen, c->env->conf->r2_request_limit, head_cb, c);
	}
}

static void
ask_mark(struct census *c)
{
	c->calling = true;
	marks_get(c->env->cluster, c->v[c->at].key, c->v[c->at].klen, mark_cb, c);
}

static void
look_work(void *arg)
{
	struct census *c = arg;

	c->look_err = local_sentinel(c->env->local, NULL);
	if (c->look_err == ERR_OK)
		c->look_err = local_look(c->env->local, c->v[c->at].key, c->v[c->at].klen, &c->st);
}

static void
looked_cb(void *arg)
{
	struct census *c = arg;

	if (c->look_err == ERR_SENTINEL)
		fail(c, c->look_err, "the media root does not show its sentinel: nothing is known to be deleted");
	else if (c->look_err != ERR_OK || c->st.exists)
		pass_over(c);	/* not proven absent */
	else
		ask_mark(c);
}

static void
look_next(struct census *c)
{
	if (c->at == c->n)
		mark_all(c);
	else
		pool_submit(c->env->pool, &c->job, look_work, looked_cb, c);
}

static void
timer_cb(void *arg)
{
	look_next(arg);
}

void
census_finish(struct census *c, census_done *done, void *arg)
{
	c->done = done;
	c->arg = arg;
	loop_timer_init(&c->timer, c->env->loop, timer_cb, c);
	loop_timer_set(&c->timer, c->n > 0 ? PAUSE_MS : 0);
}

void
census_free(struct census **cp)
{
	struct census *c = *cp;

	if (c == NULL)
		return;
	*cp = NULL;
	if (c->done != NULL)
		loop_timer_fini(&c->timer);
	store_cancel(c->env->r2, &c->op);
	if (c->calling)
		c->freed = true;
	else if (c->job.busy)
		pool_cancel(&c->job, release);
	else
		release(c);
}
