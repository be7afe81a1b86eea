#include "io/pipes.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

struct pipes_pipe *
pipes_take(struct pipes *p)
{
	struct pipes_pipe *pipe = p->kept;
	int fd[2];

	if (p->used >= PIPES_MOST)
		return NULL;
	if (pipe != NULL) {
		p->kept = pipe->next;
		p->nkept--;
		p->used++;
		return pipe;
	}
	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) < 0)
		return NULL;
	(void)fcntl(fd[1], F_SETPIPE_SZ, PIPES_ROOM);
	pipe = mem_alloc(sizeof *pipe);
	*pipe = (struct pipes_pipe){ .pool = p, .out = fd[0], .in = fd[1] };
	p->used++;
	return pipe;
}

static void
destroy(struct pipes_pipe *pipe)
{
	close(pipe->in);
	close(pipe->out);
	mem_free(pipe);
}

void
pipes_give(struct pipes_pipe *pipe, bool empty)
{
	struct pipes *p = pipe->pool;

	ASSERT(p->used > 0);
	p->used--;
	if (!empty || p->nkept >= PIPES_KEPT) {
		destroy(pipe);
		return;
	}
	pipe->next = p->kept;
	p->kept = pipe;
	p->nkept++;
}

void
pipes_fini(struct pipes *p)
{
	struct pipes_pipe *pipe;

	ASSERT(p->used == 0);
	while ((pipe = p->kept) != NULL) {
		p->kept = pipe->next;
		destroy(pipe);
	}
	p->nkept = 0;
}
