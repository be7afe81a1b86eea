/*
 * pipes: pipes through which splice(2) moves bytes from one socket to another without copying them. A pool: making one costs more than
 * a use of it. At most PIPES_MOST are out at a time, so that they take few descriptors from the connections.
 * Loop thread only.
 */
#ifndef IO_PIPES_H
#define IO_PIPES_H

#include <stdbool.h>

enum {
	PIPES_MOST = 256,
	PIPES_KEPT = 32,		/* not in use */
	PIPES_ROOM = 256 * 1024		/* bytes that one is asked to hold; an unprivileged user may get fewer */
};

struct pipes_pipe {
	struct pipes_pipe *next;
	struct pipes *pool;
	int in, out;	/* both ends do not block */
};

struct pipes {
	struct pipes_pipe *kept;
	unsigned nkept, used;
};

/* An empty one; NULL: none is to be had. p is all zeros at first. */
struct pipes_pipe *pipes_take(struct pipes *p);
/* Back, if it is empty again; else it is closed, with what is in it. */
void pipes_give(struct pipes_pipe *pipe, bool empty);
/* Closes those that are not in use; all must be back. */
void pipes_fini(struct pipes *p);

#endif
