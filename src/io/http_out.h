/*
 * http_out: what waits to be sent on a connection: memory, files' ranges and what is in pipes, in order. For http_server and http_conn only.
 */
#ifndef IO_HTTP_OUT_H
#define IO_HTTP_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/pipes.h"
#include "io/tls.h"

struct http_chunk;

struct http_out {
	struct http_chunk *first, *last;
	size_t bytes;		/* in memory */
	unsigned files;		/* and pipes */
};

enum http_out_end {
	HTTP_OUT_EMPTY,		/* all is with the kernel */
	HTTP_OUT_FULL,		/* the socket takes no more now */
	HTTP_OUT_TURN,		/* enough for now, let others have their turn */
	HTTP_OUT_CUT,		/* a file is shorter than it was */
	HTTP_OUT_ERROR		/* errno */
};

void http_out_fini(struct http_out *o);
void http_out_add(struct http_out *o, const void *p, size_t n);
/* Owns the descriptor from now on. */
void http_out_add_file(struct http_out *o, int fd, uint64_t off, uint64_t n);
/* The n bytes that are in a pipe, which goes back when they are sent. Not with TLS. */
void http_out_add_pipe(struct http_out *o, struct pipes_pipe *pipe, uint64_t n);
/* *sent: bytes that the kernel took, before encryption. tls: NULL for a plain connection; on one with TLS files are read and written,
 * a record at a time. */
enum http_out_end http_out_flush(struct http_out *o, int sock, struct tls *tls, uint64_t *sent);
/* The queue and p behind it in one system call, without copying (with TLS: copied); what is not taken is queued. Only if no file
 * waits. */
enum http_out_end http_out_send(struct http_out *o, int sock, struct tls *tls, const void *p, size_t n, uint64_t *sent);

#endif
