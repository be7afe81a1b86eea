#include <string.h>

#include <hiredis/hiredis.h>

#include "base/mem.h"
#include "coord/cluster_int.h"

/* What Redis says of itself. */
struct inspect {
	struct list node;
	struct cluster *c;
	char run_id[48], policy[32];
	void (*hello)(struct cluster *c, enum err e, const char *why, const char *run_id);	/* one of the two */
	void (*preflight)(void *arg, enum err e, const char *text);
	void *arg;
};

static void
info_field(const struct redisReply *r, const char *name, char *out, size_t cap)
{
	size_t n = strlen(name), len;
	const char *p = r->str;

	out[0] = '\0';
	while ((p = strstr(p, name)) != NULL) {
		if ((p == r->str || p[-1] == '\n') && p[n] == ':') {
			p += n + 1;
			len = strcspn(p, "\r\n");
			if (len >= cap)
				len = cap - 1;
			memcpy(out, p, len);
			out[len] = '\0';
			return;
		}
		p += n;
	}
}

static void
inspect_end(struct inspect *i, enum err e, const char *why)
{
	list_del(&i->node);
	if (i->hello != NULL)
		i->hello(i->c, e, why, i->run_id);
	else
		i->preflight(i->arg, e, why);
	mem_free(i);
}

static void
inspect_judge(struct inspect *i, bool persists)
{
	struct errbuf why;

	if (strcmp(i->policy, "noeviction") != 0)
		inspect_end(i, err_set(&why, ERR_STATE, "Redis: maxmemory-policy is %s: set it to noeviction", i->policy), why.text);
	else if (!persists)
		inspect_end(i, err_set(&why, ERR_STATE, "Redis does not persist: set appendonly yes (or save)"), why.text);
	else
		inspect_end(i, ERR_OK, "");
}

static void
on_save(void *arg, enum err e, const struct redisReply *r)
{
	struct inspect *i = arg;

	if (e == ERR_PROTO && r != NULL)	/* forbidden: what cannot be seen is not there */
		inspect_judge(i, false);
	else if (e != ERR_OK)
		inspect_end(i, e, err_text(e));
	else
		inspect_judge(i, r->type == REDIS_REPLY_ARRAY && r->elements == 2 && r->element[1]->len > 0);
}

static void
on_info(void *arg, enum err e, const struct redisReply *r)
{
	struct inspect *i = arg;
	char aof[8];

	if (e != ERR_OK || r->type != REDIS_REPLY_STRING) {
		inspect_end(i, e != ERR_OK ? e : ERR_PROTO, r != NULL && r->str != NULL ? r->str : err_text(e));
		return;
	}
	info_field(r, "run_id", i->run_id, sizeof i->run_id);
	info_field(r, "maxmemory_policy", i->policy, sizeof i->policy);
	info_field(r, "aof_enabled", aof, sizeof aof);
	if (i->run_id[0] == '\0')
		inspect_end(i, ERR_PROTO, "Redis does not tell its run_id");
	else if (strcmp(aof, "1") == 0)
		inspect_judge(i, true);
	else
		(void)rds_command(i->c->rds, 0, on_save, i, (struct rds_arg[]){ RDS_Z("CONFIG"), RDS_Z("GET"), RDS_Z("save") }, 3);
}

static struct inspect *
inspect_new(struct cluster *c)
{
	struct inspect *i = mem_zalloc(sizeof *i);

	i->c = c;
	list_add_tail(&c->inspects, &i->node);
	(void)rds_command(c->rds, 0, on_info, i, (struct rds_arg[]){ RDS_Z("INFO") }, 1);
	return i;
}

void
cluster_inspect(struct cluster *c, void (*done)(struct cluster *c, enum err e, const char *why, const char *run_id))
{
	inspect_new(c)->hello = done;
}

void
cluster_preflight(struct cluster *c, void (*done)(void *arg, enum err e, const char *text), void *arg)
{
	struct inspect *i = inspect_new(c);

	i->preflight = done;
	i->arg = arg;
}

void
cluster_inspect_fini(struct cluster *c)
{
	struct list *it, *nxt;

	LIST_FOREACH(it, nxt, &c->inspects)
		mem_free(LIST_ENTRY(it, struct inspect, node));
}
