/* explain: one key: where it lives, its mark, its digests, and which side a read gets. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/keypath.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/session.h"
#include "coord/marks.h"
#include "coord/phase.h"

const char *const cmd_explain_help[] = {
	"  KEY       the path below media.root, or the URL path below media.url",
	"  --json    as JSON",
	"",
	"Shows the file, the object, the mark that stands on the key, and which side a",
	"read is served from now, and why.",
	NULL,
};

struct explaining {
	struct session s;
	const char *key;
	size_t klen;
	struct local_stat st;
	enum err file_err;
	uint8_t md5[DIGEST_MD5_LEN];
	bool done;
	enum err r2_err, mark_err;
	struct store_meta meta;
	struct mark mark;
};

static void
head_cb(void *arg, enum err e, const struct store_meta *m)
{
	struct explaining *x = arg;

	x->done = true;
	x->r2_err = e;
	if (e != ERR_OK)
		return;
	x->meta.size = m->size;
	x->meta.has_md5 = m->has_md5;
	memcpy(x->meta.md5, m->md5, sizeof(m->md5));
	x->meta.has_mtime = m->has_mtime;
	x->meta.mtime_ns = m->mtime_ns;
	x->meta.content_type = mem_strdup(m->content_type);
}

static void
mark_cb(void *arg, enum err e, const struct mark *m)
{
	struct explaining *x = arg;

	x->done = true;
	x->mark_err = e;
	if (e == ERR_OK)
		x->mark = *m;
}

static void
look_at_file(struct explaining *x)
{
	uint8_t sha[DIGEST_SHA256_LEN];
	int fd;

	x->file_err = local_open_key(x->s.env.local, x->key, x->klen, &fd, &x->st);
	if (x->file_err != ERR_OK)
		return;
	x->file_err = local_digest(fd, x->st.size, x->md5, sha, NULL);
	close(fd);
}

/* The rule in words; it is route.c's and read.c's rule, said for one key. */
static void
verdict(const struct explaining *x, struct str *out)
{
	const struct conf *c = x->s.conf;
	const struct phase_row *row = phase_row((enum phase)c->phase);
	char *path = mem_printf("%s%.*s", c->media_url, (int)x->klen, x->key);
	const struct conf_prefix *p = conf_prefix_for(c, path, strlen(path));

	mem_free(path);
	if (p != NULL && p->read_auth != NULL && row->read != PHASE_FROM_UPSTREAM)
		str_addz(out, "with the application's leave (read-auth): ");
	if (row->read == PHASE_FROM_UPSTREAM)
		str_printf(out, "the upstream: in %s everything is passed through", row->name);
	else if (p == NULL || p->class == CONF_CLASS_UPSTREAM)
		str_addz(out, "the upstream: its prefix has the class upstream");
	else if (p->class == CONF_CLASS_AUTHORIZED && p->read_auth == NULL)
		str_addz(out, "the upstream: its prefix has the class authorized, the app decides");
	else if (p->class == CONF_CLASS_DENY)
		str_addz(out, "nowhere: its prefix has the class deny");
	else if (keypath_check(x->key, x->klen) != KEYPATH_OK)
		str_printf(out, "the disk: R2 cannot hold it (%s)", keypath_fault_text(keypath_check(x->key, x->klen)));
	else if (x->mark_err != ERR_OK)
		str_addz(out, "the disk: without Redis nobody knows what is dirty");
	else if (x->mark.gen != 0)
		str_addz(out, "the disk: the key is dirty, its last confirmed write was there");
	else if (row->read == PHASE_FROM_LOCAL)
		str_printf(out, "the disk: %s reads from there", row->name);
	else if (row->read == PHASE_FROM_CANARY && !phase_canary(x->key, x->klen, (unsigned)c->canary))
		str_printf(out, "the disk: the key is not among the canary's %lld %%", (long long)c->canary);
	else if (x->r2_err == ERR_NOTFOUND && x->file_err == ERR_NOTFOUND)
		str_addz(out, "nowhere: neither side has it");
	else if (x->r2_err != ERR_OK)
		str_printf(out, "the disk, as a fallback: R2 says: %s", err_text(x->r2_err));
	else
		str_printf(out, "R2: %s reads from there, and the key is clean", row->name);
}

static void
add_side(struct str *out, bool exists, uint64_t size, const uint8_t *md5, int64_t mtime_ns)
{
	char when[25];

	if (!exists)
		return;
	str_printf(out, "%llu bytes", (unsigned long long)size);
	if (md5 != NULL) {
		str_addz(out, ", md5 ");
		str_add_hex(out, md5, DIGEST_MD5_LEN);
	}
	if (mtime_ns != 0) {
		clock_iso((uint64_t)mtime_ns / 1000000, when);
		str_printf(out, ", modified %s", when);
	}
}

static void
print(struct explaining *x, bool json)
{
	struct str key = STR_INIT, disk = STR_INIT, r2 = STR_INIT, mark = STR_INIT, from = STR_INIT;

	str_add_safe(&key, x->key, x->klen);
	add_side(&disk, x->file_err == ERR_OK, x->st.size, x->md5, x->st.mtime_ns);
	if (x->file_err != ERR_OK)
		str_addz(&disk, err_text(x->file_err));
	add_side(&r2, x->r2_err == ERR_OK, x->meta.size, x->meta.has_md5 ? x->meta.md5 : NULL, x->meta.has_mtime ? x->meta.mtime_ns : 0);
	if (x->r2_err != ERR_OK)
		str_addz(&r2, err_text(x->r2_err));
	else if (x->meta.content_type != NULL)
		str_printf(&r2, ", %s", x->meta.content_type);
	if (x->mark_err != ERR_OK)
		str_printf(&mark, "not known: Redis: %s", err_text(x->mark_err));
	else if (x->mark.gen == 0)
		str_addz(&mark, "none: the sides are equal as far as anybody knows");
	else
		str_printf(&mark, "%s on %s, gen %llu, %.1f s old", x->mark.op == MARK_PUT ? "put" : "delete",
		    x->mark.side == MARK_LOCAL ? "the disk" : "R2", (unsigned long long)x->mark.gen,
		    (double)(clock_real_ms() - x->mark.since_ms) / 1000);
	verdict(x, &from);
	if (json) {
		json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s}", "key", str_z(&key), "disk", str_z(&disk), "r2", str_z(&r2), "mark", str_z(&mark),
		    "served_from", str_z(&from));

		json_dumpf(j, stdout, JSON_INDENT(2));
		printf("\n");
		json_decref(j);
	} else {
		printf("key          %s\ndisk         %s\nR2           %s\nmark         %s\nserved from  %s\n", str_z(&key), str_z(&disk), str_z(&r2), str_z(&mark),
		    str_z(&from));
	}
	str_fini(&key);
	str_fini(&disk);
	str_fini(&r2);
	str_fini(&mark);
	str_fini(&from);
}

enum cmd_exit
cmd_explain(int argc, char **argv)
{
	const char *path, *words[1];
	bool json = false;
	const struct session_opt opts[] = {{"--json", NULL, &json}};
	struct explaining x = {.mark_err = ERR_CONNECT};
	struct str url = STR_INIT;
	enum cmd_exit code;
	unsigned n;

	if (!session_args(argc, argv, &path, opts, 1, words, 1, &n))
		return CMD_USAGE;
	if (n != 1) {
		fprintf(stderr, "r2shim explain: which key? See r2shim explain --help\n");
		return CMD_USAGE;
	}
	code = session_open(&x.s, path, SESSION_ROOT | SESSION_R2 | SESSION_REDIS_MAYBE, "command");
	if (code != CMD_OK)
		return code;
	x.key = words[0];
	x.klen = strlen(x.key);
	if (*x.key == '/') {
		if (keypath_from_target(x.key, x.klen, &url) == KEYPATH_PLAIN)
			x.key = conf_key_of(x.s.conf, url.p, url.len, &x.klen);
		else
			x.key = NULL;
	}
	if (x.key == NULL || !keypath_servable(keypath_check(x.key, x.klen))) {
		fprintf(stderr, "r2shim explain: %s is no key of this site\n", words[0]);
		code = CMD_USAGE;
	} else {
		store_meta_init(&x.meta);
		look_at_file(&x);
		(void)store_head(x.s.env.r2, x.key, x.klen, x.s.conf->r2_request_limit, head_cb, &x);
		if (!session_wait(&x.s, &x.done, x.s.conf->r2_request_limit * 2))
			x.r2_err = ERR_TIMEOUT;
		x.done = false;
		if (cluster_up(x.s.env.cluster)) {
			marks_get(x.s.env.cluster, x.key, x.klen, mark_cb, &x);
			(void)session_wait(&x.s, &x.done, x.s.conf->redis_timeout * 2);
		}
		print(&x, json);
		store_meta_fini(&x.meta);
	}
	str_fini(&url);
	session_close(&x.s);
	return code;
}
