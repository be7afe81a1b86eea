#include "coord/roster.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "coord/lua.h"

struct roster {
	char *dir, *path;
	char **id;
	size_t n, cap;
	uint64_t epoch, committed;
	bool self;
	bool unsaved;			/* the last write of the file failed */
	struct cluster_call *call;	/* registering others again */
	bool again;			/* that has not come through: what Redis lists is not all */
};

static void
add(struct roster *r, const char *id)
{
	if (r->n == r->cap) {
		r->cap = r->cap > 0 ? 2 * r->cap : 8;
		r->id = mem_realloc(r->id, r->cap * sizeof *r->id);
	}
	r->id[r->n++] = mem_strdup(id);
}

static void
clear(struct roster *r)
{
	while (r->n > 0)
		mem_free(r->id[--r->n]);
}

static void
read_line(struct roster *r, char *line)
{
	line[strcspn(line, "\n")] = '\0';
	if (strncmp(line, "member ", 7) == 0)
		add(r, line + 7);
	else if (strncmp(line, "epoch ", 6) == 0)
		(void)str_to_u64(line + 6, strlen(line + 6), &r->epoch);
	else if (strncmp(line, "committed ", 10) == 0)
		(void)str_to_u64(line + 10, strlen(line + 10), &r->committed);
	else if (strcmp(line, "self") == 0)
		r->self = true;
}

enum err
roster_open(struct roster **rp, const char *state_dir, struct errbuf *eb)
{
	struct roster *r = mem_zalloc(sizeof *r);
	char *line = NULL;
	size_t cap = 0;
	enum err e;
	FILE *f;

	r->dir = mem_strdup(state_dir);
	r->path = mem_printf("%s/members", state_dir);
	*rp = r;
	f = fopen(r->path, "re");
	if (f == NULL && errno == ENOENT)
		return ERR_OK;
	if (f == NULL) {
		e = err_set(eb, err_from_errno(errno), "%s: %s", r->path, strerror(errno));
		roster_free(rp);
		return e;
	}
	while (getline(&line, &cap, f) >= 0)
		read_line(r, line);
	free(line);
	(void)fclose(f);
	return ERR_OK;
}

void
roster_free(struct roster **rp)
{
	struct roster *r = *rp;

	if (r == NULL)
		return;
	*rp = NULL;
	cluster_cancel(&r->call);
	clear(r);
	mem_free(r->id);
	mem_free(r->dir);
	mem_free(r->path);
	mem_free(r);
}

/* Writes text to a new file beside it, renames, and syncs both. */
static bool
replace(const struct roster *r, const struct str *text)
{
	char *tmp = mem_printf("%s.tmp", r->path);
	int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), dir;
	bool ok = fd >= 0 && write(fd, text->p, text->len) == (ssize_t)text->len && fsync(fd) == 0;

	if (fd >= 0)
		ok = close(fd) == 0 && ok;
	ok = ok && rename(tmp, r->path) == 0;
	dir = ok ? open(r->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	ok = dir >= 0 && fsync(dir) == 0;
	if (dir >= 0)
		(void)close(dir);
	mem_free(tmp);
	return ok;
}

static void
save(struct roster *r)
{
	struct str text = STR_INIT;
	bool ok;

	str_printf(&text, "epoch %llu\n", (unsigned long long)r->epoch);
	if (r->self)
		str_addz(&text, "self\n");
	if (r->committed != 0)
		str_printf(&text, "committed %llu\n", (unsigned long long)r->committed);
	for (size_t i = 0; i < r->n; i++)
		str_printf(&text, "member %s\n", r->id[i]);
	ok = replace(r, &text);
	if (!ok && !r->unsaved)
		log_error("roster", "%s: %s; it is tried again", r->path, strerror(errno));
	r->unsaved = !ok;
	str_fini(&text);
}

static void
on_again(void *arg, enum err e)
{
	struct roster *r = arg;

	r->call = NULL;
	r->again = e != ERR_OK;
}

static void
register_again(struct roster *r, struct cluster *c)
{
	struct rds_arg *args = mem_calloc(r->n + 1, sizeof *args);
	struct str wait = STR_INIT;

	str_printf(&wait, "%llu", (unsigned long long)(cluster_lease_ms(c) + cluster_limit_ms(c)));
	args[0] = RDS_B(wait.p, wait.len);
	for (size_t i = 0; i < r->n; i++)
		args[i + 1] = RDS_Z(r->id[i]);
	cluster_cancel(&r->call);
	r->call = cluster_do(c, &lua_member_again, args, r->n + 1, on_again, r);
	mem_free(args);
	str_fini(&wait);
}

void
roster_up(struct roster *r, struct cluster *c)
{
	r->again = r->n > 0 && r->epoch != cluster_epoch(c);
	if (r->again)
		register_again(r, c);
}

void
roster_down(struct roster *r)
{
	cluster_cancel(&r->call);
}

static bool
same_list(const struct roster *r, const struct members *m)
{
	bool same = r->n == m->n;

	for (size_t i = 0; same && i < r->n; i++)
		same = members_find(m, r->id[i]) != NULL;
	return same;
}

void
roster_heard(struct roster *r, struct cluster *c, bool self)
{
	const struct members *m = cluster_members(c);
	uint64_t epoch = cluster_epoch(c), committed = cluster_committed(c);

	if (r->again) {
		if (r->call == NULL)
			register_again(r, c);
		return;
	}
	if (r->committed != 0)
		committed = r->committed;
	if (!r->unsaved && epoch == r->epoch && self == r->self && committed == r->committed && same_list(r, m))
		return;
	r->epoch = epoch;
	r->self = self;
	r->committed = committed;
	clear(r);
	for (size_t i = 0; i < m->n; i++)
		add(r, m->v[i].id);
	save(r);
}

void
roster_leave(struct roster *r)
{
	r->self = false;
	save(r);
}

bool
roster_registered(const struct roster *r)
{
	return r->self;
}

uint64_t
roster_committed(const struct roster *r)
{
	return r->committed;
}
