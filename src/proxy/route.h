/*
 * route: what is to be done with a request. Pure: method, target, the configuration's snapshot and the phase go in, a plan
 * comes out. It reads no clock, opens no file and asks no one; whether a key is dirty is told to route_read_plan.
 */
#ifndef PROXY_ROUTE_H
#define PROXY_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/conf.h"
#include "base/str.h"
#include "coord/marks.h"
#include "coord/phase.h"
#include "io/http1.h"

enum route_what {
	ROUTE_REFUSE,	/* answered by us at once with `status` */
	ROUTE_PASS,	/* to the upstream, as it came */
	ROUTE_READ,	/* media that we serve, from the disk or R2: public, or with the application's leave */
	ROUTE_WRITE,	/* to the upstream between an intent and the finish of the write */
	ROUTE_STORE,	/* writes = disk: the body becomes the file */
	ROUTE_REMOVE,	/* writes = disk: the file is unlinked */
	ROUTE_LIST,	/* writes = disk, with its token: a folder's names */
	ROUTE_FIRST	/* from r2-primary on: PUT and DELETE go to R2 first, whoever carried them out before */
};
#define ROUTE_LAST ROUTE_FIRST
/* A word for the access log and the metrics. */
const char *route_name(enum route_what w);

/*
 * What lies below a url of media.internal is never asked for from outside: 404 in every phase, however it is spelled; only the
 * application names it, in an answer (accel.h). Below an authorized prefix with read-auth all is asked first (auth.h).
 *
 * Below a prefix with writes = disk we are the server of PUT and DELETE in every phase, passthrough too: a program that stores
 * through us must not have to know the phase. Whoever bears the prefix's token reads and lists there as well, whatever the class:
 * a program inside the application must not have to ask the application, which may be waiting for it.
 */
struct route {
	enum route_what what;
	bool changes;			/* the method may change something */
	int status;			/* ROUTE_REFUSE */
	const char *why;		/* ROUTE_REFUSE: a line for the client; static */
	const struct conf_prefix *prefix;	/* of the snapshot; NULL: none */
	struct str path;		/* the decoded path, owner of key */
	const char *key;		/* READ, STORE, REMOVE, FIRST, and WRITE where the URL names it; LIST: the folder, "" or ending in /; else NULL */
	size_t klen;
	enum mark_op op;		/* FIRST, WRITE with a key */
};
void route_init(struct route *r);
void route_fini(struct route *r);

void route_decide(struct route *r, const struct http1_head *h, const struct conf *c, enum phase phase);

/* In which order a public key's sides are asked. */
enum route_order {
	ROUTE_DISK,		/* the disk, finally */
	ROUTE_DISK_CAUTIOUS,	/* the disk; R2 only if the disk cannot say: absence there is final */
	ROUTE_DISK_R2,		/* the disk, then R2 */
	ROUTE_R2_DISK,		/* R2, then the disk */
	ROUTE_R2_ERRORS,	/* R2; the disk if R2 fails, or has a file that nobody has noticed yet. Absence in R2 is final */
	ROUTE_R2		/* R2, finally */
};
struct route_plan {
	enum route_order order;
	bool violation;		/* a fallback counts against the phase */
	bool ask;		/* what R2 has not, the disk may give only if Redis says that no write to R2 took it away */
};
/* What is known of a key's marks. */
struct route_marks {
	const struct mark *mark;	/* NULL: clean */
	bool uncertain;			/* we may be behind */
	bool armed;			/* some member may write R2 first */
};
void route_read_plan(struct route_plan *p, const struct conf *c, enum phase phase, const char *key, size_t klen, const struct route_marks *m);

#endif
