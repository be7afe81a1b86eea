#include "io/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"

struct pool {
	struct loop *loop;
	pthread_t *threads;
	unsigned nthreads;

	pthread_mutex_t mutex; /* all below, and the jobs' nodes */
	pthread_cond_t cond;
	struct list queue; /* waiting for a thread */
	struct list taken; /* at work, or done and not yet told to the loop */
	bool closing;
};

static void *
thread_main(void *arg)
{
	struct pool *p = arg;

	pthread_mutex_lock(&p->mutex);
	for (;;) {
		struct pool_job *j;

		while (!p->closing && list_empty(&p->queue))
			pthread_cond_wait(&p->cond, &p->mutex);
		if (p->closing)
			break;
		j = LIST_FIRST(&p->queue, struct pool_job, node);
		list_del(&j->node);
		list_add_tail(&p->taken, &j->node);
		pthread_mutex_unlock(&p->mutex);
		if (!pool_job_cancelled(j))
			j->work(j->arg);
		loop_post(&j->call);
		pthread_mutex_lock(&p->mutex);
	}
	pthread_mutex_unlock(&p->mutex);
	return NULL;
}

struct pool *
pool_new(struct loop *l, unsigned nthreads)
{
	struct pool *p = mem_zalloc(sizeof *p);
	sigset_t all, old;

	ASSERT(nthreads > 0);
	p->loop = l;
	p->nthreads = nthreads;
	p->threads = mem_calloc(nthreads, sizeof *p->threads);
	list_init(&p->queue);
	list_init(&p->taken);
	ASSERT(pthread_mutex_init(&p->mutex, NULL) == 0 && pthread_cond_init(&p->cond, NULL) == 0);
	/* Signals are the loop's. */
	sigfillset(&all);
	ASSERT(pthread_sigmask(SIG_SETMASK, &all, &old) == 0);
	for (unsigned i = 0; i < nthreads; i++) {
		char name[16];

		ASSERT(pthread_create(&p->threads[i], NULL, thread_main, p) == 0);
		snprintf(name, sizeof name, "pool-%u", i);
		pthread_setname_np(p->threads[i], name);
	}
	ASSERT(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
	return p;
}

static void
give_up(struct list *jobs)
{
	struct pool_job *j;

	/* Not LIST_FOREACH: drop may free the job. */
	while ((j = LIST_FIRST(jobs, struct pool_job, node)) != NULL) {
		list_del(&j->node);
		loop_call_cancel(&j->call);
		j->busy = false;
		if (pool_job_cancelled(j) && j->drop != NULL)
			j->drop(j->arg);
	}
}

void
pool_free(struct pool **pp)
{
	struct pool *p = *pp;

	if (p == NULL)
		return;
	*pp = NULL;
	pthread_mutex_lock(&p->mutex);
	p->closing = true;
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->mutex);
	for (unsigned i = 0; i < p->nthreads; i++)
		ASSERT(pthread_join(p->threads[i], NULL) == 0);
	give_up(&p->taken);
	give_up(&p->queue);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->mutex);
	mem_free(p->threads);
	mem_free(p);
}

static void
on_finished(void *arg)
{
	struct pool_job *j = arg;
	struct pool *p = j->pool;

	pthread_mutex_lock(&p->mutex);
	list_del(&j->node);
	pthread_mutex_unlock(&p->mutex);
	j->busy = false;
	if (!pool_job_cancelled(j))
		j->done(j->arg);
	else if (j->drop != NULL)
		j->drop(j->arg);
}

void
pool_submit(struct pool *p, struct pool_job *j, void (*work)(void *), void (*done)(void *), void *arg)
{
	*j = (struct pool_job){.pool = p, .work = work, .done = done, .arg = arg, .busy = true};
	list_init(&j->node);
	loop_call_init(&j->call, p->loop, on_finished, j);
	pthread_mutex_lock(&p->mutex);
	list_add_tail(&p->queue, &j->node);
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->mutex);
}

void
pool_cancel(struct pool_job *j, void (*drop)(void *))
{
	ASSERT(j->busy && !pool_job_cancelled(j));
	j->drop = drop;
	/* One that waits in the queue stays there: a thread hands it on without running it. */
	__atomic_store_n(&j->cancelled, true, __ATOMIC_RELAXED);
}

bool
pool_job_cancelled(const struct pool_job *j)
{
	return __atomic_load_n(&j->cancelled, __ATOMIC_RELAXED);
}
