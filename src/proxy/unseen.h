/*
 * unseen: what this proxy may not have seen of the disk. A census is due when it has not watched (it begins, it comes from passthrough, it
 * has lost events): Redis is told, and a migrator makes one. After lost events deletes may be among what it has not seen: it is blind to
 * them until a census that began later is done. Loop thread only.
 */
#ifndef PROXY_UNSEEN_H
#define PROXY_UNSEEN_H

#include <stdbool.h>
#include <stdint.h>

#include "coord/cluster.h"

struct unseen {
	struct cluster *cluster;		/* NULL: alone, nobody is told */
	uint64_t census_ms, noting_ms;		/* a census that Redis has not been told of, 0: none; and what it is being told */
	bool left_passthrough, noting_left;
	uint64_t blind_ms;			/* events were lost then; 0: none are missing */
	bool asking, told;			/* is Redis being asked for the census; has one told what was missed */
};

/* The calls to Redis end with the cluster: it is freed before u's memory is used for something else. */
void unseen_init(struct unseen *u, struct cluster *c);
void unseen_census(struct unseen *u, const char *why);
/* The next census note says so, too. */
void unseen_left_passthrough(struct unseen *u);
/* Events were lost: a census, and blindness. */
void unseen_events(struct unseen *u, const char *why);
/* Redis is back. */
void unseen_up(struct unseen *u);
/* Now and then (seconds): tells what was not told yet, and asks whether a census has made up for it. */
void unseen_turn(struct unseen *u);
bool unseen_blind(const struct unseen *u);
/* Is there a census that Redis does not know of? */
bool unseen_due(const struct unseen *u);

#endif
