#include "io/http_out.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

#define CHUNK_MIN 2000	/* room of the smallest chunk: a head and a small body */
#define PIECES 16	/* chunks in one system call */
#define TURN (4 << 20)	/* bytes of one connection before the others have their turn */

struct http_chunk {
	struct http_chunk *next;
	uint64_t off, n;	/* what is left, in data or in the file */
	size_t cap;
	int fd;			/* -1: memory */
	struct pipes_pipe *pipe;	/* NULL: memory or a file; else n bytes are in it, and fd is its end */
	char data[];
};

static void
append(struct http_out *o, struct http_chunk *c)
{
	c->next = NULL;
	if (o->last)
		o->last->next = c;
	else
		o->first = c;
	o->last = c;
}

static void
drop_first(struct http_out *o)
{
	struct http_chunk *c = o->first;
	o->first = c->next;
	if (!o->first)
		o->last = NULL;
	if (c->pipe) {
		pipes_give(c->pipe, c->n == 0);
		o->files--;
	} else if (c->fd >= 0) {
		close(c->fd);
		o->files--;
	} else {
		o->bytes -= (size_t)c->n;
	}
	mem_free(c);
}

void
http_out_fini(struct http_out *o)
{
	while (o->first)
		drop_first(o);
	ASSERT(o->bytes == 0 && o->files == 0);
}

void
http_out_add(struct http_out *o, const void *p, size_t n)
{
	struct http_chunk *c = o->last;
	if (n == 0)
		return;
	if (!c || c->fd >= 0 || c->cap - (size_t)(c->off + c->n) < n) {
		size_t cap = n > CHUNK_MIN ? n : CHUNK_MIN;
		c = mem_alloc(sizeof *c + cap);
		c->off = c->n = 0;
		c->cap = cap;
		c->fd = -1;
		c->pipe = NULL;
		append(o, c);
	}
	memcpy(c->data + c->off + c->n, p, n);
	c->n += n;
	o->bytes += n;
}

void
http_out_add_file(struct http_out *o, int fd, uint64_t off, uint64_t n)
{
	struct http_chunk *c = mem_alloc(sizeof *c);
	ASSERT(fd >= 0 && n > 0);
	c->off = off;
	c->n = n;
	c->cap = 0;
	c->fd = fd;
	c->pipe = NULL;
	append(o, c);
	o->files++;
}

void
http_out_add_pipe(struct http_out *o, struct pipes_pipe *pipe, uint64_t n)
{
	struct http_chunk *c = mem_alloc(sizeof *c);
	ASSERT(n > 0);
	*c = (struct http_chunk) {.n = n, .fd = pipe->out, .pipe = pipe};
	append(o, c);
	o->files++;
}

/* Takes n sent bytes off the front. */
static void
take(struct http_out *o, size_t n)
{
	while (n > 0) {
		struct http_chunk *c = o->first;
		if (n < c->n) {
			c->off += n;
			c->n -= n;
			if (c->fd < 0)
				o->bytes -= n;
			return;
		}
		n -= (size_t)c->n;
		drop_first(o);
	}
}

static ssize_t
send_pieces(int sock, struct iovec *iov, size_t count, bool more)
{
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = count};
	ssize_t n;
	do
		n = sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0));
	while (n < 0 && errno == EINTR);
	return n;
}

static enum http_out_end
refused(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK ? HTTP_OUT_FULL : HTTP_OUT_ERROR;
}

/* The memory at the front, as far as one call carries; EMPTY: sent. */
static enum http_out_end
flush_memory(struct http_out *o, int sock, uint64_t *sent)
{
	struct iovec iov[PIECES];
	struct http_chunk *c = o->first;
	size_t count = 0, total = 0;
	for (; c && c->fd < 0 && count < PIECES; c = c->next) {
		iov[count++] = (struct iovec) {c->data + c->off, (size_t)c->n};
		total += (size_t)c->n;
	}
	/* A head shares its packet with the start of the file behind it. */
	ssize_t n = send_pieces(sock, iov, count, c != NULL);
	if (n < 0)
		return refused();
	*sent += (uint64_t)n;
	take(o, (size_t)n);
	return (size_t)n < total ? HTTP_OUT_FULL : HTTP_OUT_EMPTY;
}

static enum http_out_end
flush_file(struct http_out *o, int sock, uint64_t *sent)
{
	struct http_chunk *c = o->first;
	off_t off = (off_t)c->off;
	ssize_t n;
	do
		n = c->pipe ? splice(c->fd, NULL, sock, NULL, (size_t)c->n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
		    : sendfile(sock, c->fd, &off, c->n < TURN ? (size_t)c->n : TURN);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return refused();
	if (n == 0)
		return HTTP_OUT_CUT;
	*sent += (uint64_t)n;
	c->off += (uint64_t)n;
	c->n -= (uint64_t)n;
	if (c->n == 0)
		drop_first(o);
	return HTTP_OUT_EMPTY;
}

/* One record's worth of what is at the front, in *p: a head with the start of the file behind it, many small pieces. buf: TLS_RECORD
 * bytes, for what does not lie in one piece. 0: the file at the front ends here; < 0: errno. */
static ssize_t
gather(const struct http_out *o, char *buf, const char **p)
{
	size_t n = 0;
	*p = buf;
	for (struct http_chunk *c = o->first; c && n < TLS_RECORD; c = c->next) {
		size_t room = TLS_RECORD - n, part = c->n < room ? (size_t)c->n : room;
		if (c->fd < 0 && n == 0 && (part == room || !c->next)) {
			*p = c->data + c->off;
			return (ssize_t)part;
		}
		ssize_t got = (ssize_t)part;
		if (c->fd < 0)
			memcpy(buf + n, c->data + c->off, part);
		else
			got = pread(c->fd, buf + n, part, (off_t)c->off);
		if (got < 0 && n == 0)
			return got;
		n += got > 0 ? (size_t)got : 0;
		if (got < (ssize_t)part)
			break;
	}
	return (ssize_t)n;
}

static enum http_out_end
flush_tls(struct http_out *o, struct tls *tls, uint64_t *sent)
{
	char buf[TLS_RECORD];
	const char *p;
	ssize_t n = gather(o, buf, &p);
	size_t put = 0;
	if (n <= 0)
		return n < 0 ? HTTP_OUT_ERROR : HTTP_OUT_CUT;
	switch (tls_write(tls, p, (size_t)n, &put)) {
	case TLS_OK:
		*sent += put;
		take(o, put);
		return HTTP_OUT_EMPTY;
	case TLS_WANT_WRITE:
		return HTTP_OUT_FULL;
	case TLS_WANT_READ:	/* never: output follows input, which follows the handshake */
	case TLS_EOF:
	case TLS_CUT:
	case TLS_FAILED:
	default:
		return HTTP_OUT_ERROR;
	}
}

enum http_out_end
http_out_flush(struct http_out *o, int sock, struct tls *tls, uint64_t *sent)
{
	*sent = 0;
	while (o->first) {
		if (*sent >= TURN)
			return HTTP_OUT_TURN;
		enum http_out_end e = tls ? flush_tls(o, tls, sent)
		    : o->first->fd < 0 ? flush_memory(o, sock, sent) : flush_file(o, sock, sent);
		if (e != HTTP_OUT_EMPTY)
			return e;
	}
	return HTTP_OUT_EMPTY;
}

enum http_out_end
http_out_send(struct http_out *o, int sock, struct tls *tls, const void *p, size_t n, uint64_t *sent)
{
	struct iovec iov[PIECES];
	size_t count = 0;
	ASSERT(o->files == 0);
	*sent = 0;
	for (struct http_chunk *c = o->first; c && count < PIECES; c = c->next)
		iov[count++] = (struct iovec) {c->data + c->off, (size_t)c->n};
	size_t queued = o->bytes;
	if (tls || count == PIECES) {	/* records are filled from the queue; or many small ones, that go first */
		http_out_add(o, p, n);
		return http_out_flush(o, sock, tls, sent);
	}
	struct iovec *own = &iov[count++];
	memcpy(&own->iov_base, &p, sizeof p);
	own->iov_len = n;
	ssize_t got = send_pieces(sock, iov, count, false);
	if (got < 0) {
		enum http_out_end e = refused();
		if (e == HTTP_OUT_FULL)
			http_out_add(o, p, n);
		return e;
	}
	*sent = (uint64_t)got;
	size_t of_queue = (size_t)got < queued ? (size_t)got : queued, of_p = (size_t)got - of_queue;
	take(o, of_queue);
	http_out_add(o, (const char *)p + of_p, n - of_p);
	return o->first ? HTTP_OUT_FULL : HTTP_OUT_EMPTY;
}
