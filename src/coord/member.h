/*
 * member: the site's proxies as Redis knows them (the script function members() in lua/common.lua). A proxy is a member from its start
 * until it has ended cleanly or a person has forgotten it; one that is silent is not dead.
 */
#ifndef COORD_MEMBER_H
#define COORD_MEMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct redisReply;

/* The id of the proxy with this state-dir on this machine: stays the same over restarts. */
#define MEMBER_ID_MAX 96
void member_id(const char *state_dir, char out[MEMBER_ID_MAX]);

struct member {
	char *id;
	int phase;		/* by its last heartbeat; -1: not heard since Redis was emptied */
	uint64_t armed_ms;	/* it has acknowledged that the site was armed then; 0: it has not */
	uint64_t heard_ms;	/* its last heartbeat, by Redis's clock; 0: none */
	bool announced;		/* in this epoch it has announced all marks and intents that it knows of */
	uint64_t until_ms;	/* if it has not: until then no lease is given for its sake, longer if the site is armed */
};

struct members {
	struct member *v;
	size_t n;
};
/* Replaces what is there. false: the reply is not understood, and there are none. */
bool members_read(struct members *m, const struct redisReply *r);
void members_fini(struct members *m);
/* NULL: no such member. */
const struct member *members_find(const struct members *m, const char *id);
/* The lowest and highest phase; -1 if nobody is registered, and the lowest also if somebody's is not known. */
int members_low(const struct members *m);
int members_high(const struct members *m);

#endif
