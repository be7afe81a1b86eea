/*
 * roster: which members of the site this proxy knows of, in state-dir/members, so that none is forgotten when Redis is emptied: after
 * a new epoch each is registered again, as one that has not announced its marks. And two things that must outlive Redis: whether
 * this proxy itself is registered, and that the site has gone to r2-only for good.
 *
 * The file has a line each: "epoch N" (of the list), "self" (this proxy has not ended cleanly since), "committed MS", "member ID".
 * It is small and changes rarely; it is written on the loop, with fsync.
 */
#ifndef COORD_ROSTER_H
#define COORD_ROSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "coord/cluster.h"

struct roster;

/* Reads the file; missing: an empty roster. */
enum err roster_open(struct roster **r, const char *state_dir, struct errbuf *eb) ERR_MUST_CHECK;
void roster_free(struct roster **r);
/* Redis is there: if it may have been emptied, who is known is registered again. Before any heartbeat of ours. */
void roster_up(struct roster *r, struct cluster *c);
void roster_down(struct roster *r);
/* A heartbeat was taken: the list that came back (cluster_members) is the site's, and is kept. self: this proxy counts as registered
 * from now on, also without Redis. */
void roster_heard(struct roster *r, struct cluster *c, bool self);
/* This proxy ends cleanly. */
void roster_leave(struct roster *r);
bool roster_registered(const struct roster *r);
/* When the last proxy had come to r2-only; 0: not yet. */
uint64_t roster_committed(const struct roster *r);

#endif
