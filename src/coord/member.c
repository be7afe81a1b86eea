#include "coord/member.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"

void
member_id(const char *state_dir, char out[MEMBER_ID_MAX])
{
	char host[65] = "host";
	uint8_t sum[DIGEST_SHA256_LEN];

	if (gethostname(host, sizeof host - 1) != 0)
		log_warn("member", "gethostname: %s", strerror(errno));
	host[sizeof host - 1] = '\0';
	digest_sha256(state_dir, strlen(state_dir), sum);
	snprintf(out, MEMBER_ID_MAX, "%s-%02x%02x%02x%02x", host, sum[0], sum[1], sum[2], sum[3]);
}

void
members_fini(struct members *m)
{
	for (size_t i = 0; i < m->n; i++)
		mem_free(m->v[i].id);
	mem_free(m->v);
	*m = (struct members){ NULL, 0 };
}

static bool
read_one(struct member *m, const struct redisReply *id, const struct redisReply *text)
{
	unsigned long long armed, heard, until;
	int announced;

	if (id->type != REDIS_REPLY_STRING || text->type != REDIS_REPLY_STRING ||
	    sscanf(text->str, "%d %llu %llu %d %llu", &m->phase, &armed, &heard, &announced, &until) != 5)
		return false;
	m->id = mem_strndup(id->str, id->len);
	m->armed_ms = armed;
	m->heard_ms = heard;
	m->announced = announced == 1;
	m->until_ms = until;
	return true;
}

bool
members_read(struct members *m, const struct redisReply *r)
{
	members_fini(m);
	if (r->type != REDIS_REPLY_ARRAY || r->elements % 2 != 0)
		return false;
	m->v = mem_calloc(r->elements / 2 + 1, sizeof *m->v);
	for (size_t i = 0; i < r->elements; i += 2) {
		if (!read_one(&m->v[m->n], r->element[i], r->element[i + 1])) {
			members_fini(m);
			return false;
		}
		m->n++;
	}
	return true;
}

const struct member *
members_find(const struct members *m, const char *id)
{
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(m->v[i].id, id) == 0)
			return &m->v[i];
	return NULL;
}

int
members_low(const struct members *m)
{
	int low = -1;

	for (size_t i = 0; i < m->n; i++) {
		if (m->v[i].phase < 0)
			return -1;
		if (low < 0 || m->v[i].phase < low)
			low = m->v[i].phase;
	}
	return low;
}

int
members_high(const struct members *m)
{
	int high = -1;

	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].phase > high)
			high = m->v[i].phase;
	return high;
}
