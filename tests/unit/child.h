/* child: a server that a test needs beside itself. It ends when the test's program does, however that ends. */
#ifndef UNIT_CHILD_H
#define UNIT_CHILD_H

#include <sys/types.h>

/* folder: where it runs, NULL: here. out: its standard output, -1: nowhere; what else it says is not kept. From the main thread. */
pid_t child_start(const char *const argv[], const char *folder, int out);
/* Kills it, and waits for its end. */
void child_kill(pid_t pid);

#endif
