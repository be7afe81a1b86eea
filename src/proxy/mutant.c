#include "proxy/mutant.h"

#include "base/mem.h"
#include "proxy/request.h"
#include "proxy/server.h"

struct late {
	struct writer *w;
	struct writer_op *op;
};

static void
begun(void *arg, enum err e)
{
	struct late *l = arg;

	writer_finish(l->w, &l->op, e == ERR_OK ? WRITER_ANSWERED : WRITER_NOT_SENT, NULL, NULL);
	mem_free(l);
}

void
mutant_late_intent(const struct request *r)
{
	struct late *l;

	if (!r->write.sent || !TRIP_MUTANT("late-intent"))
		return;
	l = mem_zalloc(sizeof *l);
	l->w = r->sv->writer;
	l->op = writer_begin(l->w, r->route.key, r->route.klen, r->route.what == ROUTE_REMOVE ? MARK_DELETE : r->route.op, begun, l);
}
