#include "proxy/away.h"

#include "base/keypath.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "sync/retry.h"

#define PAGE 1000
#define RETRY_BASE_MS 500
#define RETRY_CAP_MS 30000

struct prefix {
	struct list node;
	char *name, *next;	/* next: where the listing goes on; NULL: at its start */
	uint64_t seq;
	unsigned failures;
};

struct away {
	const struct reconcile_env *env;
	const struct away_cb *cb;
	void *arg;
	struct list prefixes;	/* the first is being listed */
	struct store_op *op;
	struct loop_timer again;
};

static void
prefix_free(struct prefix *p)
{
	list_del(&p->node);
	mem_free(p->name);
	mem_free(p->next);
	mem_free(p);
}

static void
listed_cb(void *arg, enum err e, const struct store_list_entry *v, size_t n, const char *next)
{
	struct away *a = arg;
	struct prefix *p = LIST_FIRST(&a->prefixes, struct prefix, node);
	size_t i;

	a->op = NULL;
	if (e != ERR_OK) {
		if (p->failures++ == 0)
			log_warn("watch", "%s was moved away, R2 cannot be asked for its keys: %s; trying again", p->name, err_text(e));
		loop_timer_set(&a->again, retry_delay_ms(p->failures, RETRY_BASE_MS, RETRY_CAP_MS));
		a->cb->progress(a->arg);
		return;
	}
	for (i = 0; i < n; i++)
		if (keypath_servable(keypath_check(v[i].key, v[i].klen)))
			a->cb->noticed(a->arg, v[i].key, v[i].klen);
	mem_free(p->next);
	p->next = mem_strdup(next);
	if (next == NULL)
		prefix_free(p);
	away_resume(a);
	a->cb->progress(a->arg);
}

void
away_resume(struct away *a)
{
	struct prefix *p = LIST_FIRST(&a->prefixes, struct prefix, node);

	if (p == NULL || a->op != NULL || loop_timer_pending(&a->again) || !a->cb->room(a->arg))
		return;
	a->op = store_list(a->env->r2, p->name, NULL, p->next, PAGE, listed_cb, a);
}

static void
again_cb(void *arg)
{
	away_resume(arg);
}

void
away_add(struct away *a, const char *prefix, size_t len, uint64_t seq)
{
	struct prefix *p = mem_zalloc(sizeof(*p));

	p->name = mem_strndup(prefix, len);
	p->seq = seq;
	list_add_tail(&a->prefixes, &p->node);
	away_resume(a);
}

bool
away_waits(const struct away *a, uint64_t seq)
{
	struct list *i;

	for (i = a->prefixes.next; i != &a->prefixes; i = i->next) {
		const struct prefix *p = LIST_ENTRY(i, struct prefix, node);

		if (p->failures > 0)
			return false;	/* R2 is away: the marks of these keys come when it is back */
		if (p->seq > seq)
			return true;
	}
	return false;
}

struct away *
away_new(const struct reconcile_env *env, const struct away_cb *cb, void *arg)
{
	struct away *a = mem_zalloc(sizeof(*a));

	a->env = env;
	a->cb = cb;
	a->arg = arg;
	list_init(&a->prefixes);
	loop_timer_init(&a->again, env->loop, again_cb, a);
	return a;
}

void
away_set_env(struct away *a, const struct reconcile_env *env)
{
	/* The store may be another one from now on: the listing begins anew. */
	store_cancel(a->env->r2, &a->op);
	a->env = env;
	away_resume(a);
}

void
away_free(struct away **ap)
{
	struct away *a = *ap;
	struct list *p, *n;

	if (a == NULL)
		return;
	*ap = NULL;
	store_cancel(a->env->r2, &a->op);
	loop_timer_fini(&a->again);
	LIST_FOREACH(p, n, &a->prefixes)
		prefix_free(LIST_ENTRY(p, struct prefix, node));
	mem_free(a);
}
