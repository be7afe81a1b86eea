#include "sandbox/sandbox.h"

#include <string.h>

#include "base/mem.h"
#include "io/addr.h"
#include "io/http_server.h"
#include "sandbox/disk.h"
#include "sandbox/keyrate.h"
#include "sandbox/s3.h"

static const struct http_server_opts server_opts = {
    .limits = {.head_max = 64 * 1024, .target_max = 32 * 1024, .headers_max = HTTP1_HEADERS},
    .header_timeout = 30000,
    .idle_timeout = 60000,
    .body_timeout = 60000,
    .write_timeout = 60000,
    .conns_max = 4096,
    .out_high = 1024 * 1024,
};

static enum err
make_buckets(struct sandbox *sb, const struct sandbox_opts *o, struct errbuf *eb)
{
	for (size_t i = 0; i < o->nbuckets; i++) {
		enum err e = disk_create_bucket(sb->disk, o->buckets[i], eb);

		if (e != ERR_OK && e != ERR_EXISTS)
			return e;
	}
	return ERR_OK;
}

static enum err
set_up(struct sandbox *sb, const struct sandbox_opts *o, struct errbuf *eb)
{
	struct addr a;
	bool reset;
	enum err e = addr_parse(&a, o->listen, eb);

	if (e == ERR_OK)
		e = disk_open(&sb->disk, o->dir, o->discard, eb);
	if (e == ERR_OK)
		e = make_buckets(sb, o, eb);
	if (e == ERR_OK && o->faults != NULL)
		e = faults_apply(sb->faults, o->faults, &reset, eb);
	if (e == ERR_OK) {
		sb->server = http_server_new(sb->loop, &server_opts, &s3_callbacks, sb);
		e = http_server_listen(sb->server, &a, 0600, eb);
	}
	return e;
}

enum err
sandbox_new(struct sandbox **out, struct loop *l, const struct sandbox_opts *o, struct errbuf *eb)
{
	struct sandbox *sb = mem_zalloc(sizeof(*sb));
	enum err e;

	sb->loop = l;
	sb->key_id = mem_strdup(o->key_id);
	sb->secret = mem_strdup(o->secret);
	sb->faults = faults_new();
	sb->rate = o->key_rate ? keyrate_new() : NULL;
	list_init(&sb->requests);
	e = set_up(sb, o, eb);
	*out = sb;
	if (e != ERR_OK)
		sandbox_free(out);
	return e;
}

void
sandbox_free(struct sandbox **sb)
{
	if (*sb == NULL)
		return;
	http_server_free(&(*sb)->server);
	disk_close(&(*sb)->disk);
	faults_free(&(*sb)->faults);
	keyrate_free(&(*sb)->rate);
	mem_free((*sb)->key_id);
	mem_wipe_free((*sb)->secret, strlen((*sb)->secret));
	mem_free(*sb);
	*sb = NULL;
}

unsigned
sandbox_port(const struct sandbox *sb)
{
	return http_server_port(sb->server);
}
