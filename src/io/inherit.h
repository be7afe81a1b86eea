/*
 * inherit: listening sockets that the process was started with, by systemd's protocol (sd_listen_fds(3)): LISTEN_PID is our process,
 * LISTEN_FDS the number of descriptors, from 3 on. Whoever passes them keeps them open, so that the next process can be given the
 * same ones: a client who connects between two processes, or while there are two, waits in the kernel's queue and is refused by
 * none. At the start only.
 */
#ifndef IO_INHERIT_H
#define IO_INHERIT_H

#include <stdbool.h>

#include "base/err.h"
#include "io/addr.h"

enum { INHERIT_MAX = 64 };
struct inherit {
	unsigned n;
	bool taken[INHERIT_MAX];
};

/* Looks into the environment, and takes the variables out of it. None there, or meant for another process: n is 0. INVAL: they say
 * something else than listening stream sockets. */
enum err inherit_open(struct inherit *in, struct errbuf *eb) ERR_MUST_CHECK;
/* The socket that is bound to a, non-blocking and close-on-exec, the caller's from now on; -1: none, or already taken. */
int inherit_take(struct inherit *in, const struct addr *a);
/* Is one left that nobody took? text: its address. */
bool inherit_left(const struct inherit *in, char text[128]);

#endif
