/*
 * arming: this proxy as a member of its site. It takes up arms when Redis says so and acknowledges it in its heartbeat, says so itself
 * after Redis was emptied, and asks to disarm when it has stepped below validate. It knows who else is a member (the roster), and from
 * that whether a phase may be entered. Loop thread only.
 *
 * r2-primary is entered only when each member has acknowledged: from then on nobody's write runs without its key's lease.
 */
#ifndef PROXY_ARMING_H
#define PROXY_ARMING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "coord/cluster.h"
#include "coord/phase.h"
#include "coord/roster.h"
#include "proxy/writer.h"

struct arming {
	struct cluster *cluster;
	struct writer *writer;		/* NULL while the server starts */
	struct roster *roster;
	enum phase phase;
	uint64_t acked_ms;		/* the armed time that the heartbeat acknowledges; 0: none */
	bool heard;			/* a heartbeat was taken since the last connect */
};

enum err arming_open(struct arming *a, struct cluster *c, const char *state_dir, struct errbuf *eb) ERR_MUST_CHECK;
void arming_close(struct arming *a);
/* cluster's callbacks. heard: true if the heartbeat has something new to acknowledge. */
void arming_up(struct arming *a);
void arming_down(struct arming *a);
bool arming_heard(struct arming *a);
/* After a reload, too. */
void arming_set_phase(struct arming *a, enum phase p);
/* May a proxy that runs in `now` go to `next`? false: why not is appended, a line. Neighbours only. */
bool arming_allows(const struct arming *a, enum phase now, enum phase next, struct str *why);
/* May it start in this phase, with what the roster says? Before there is a writer. false: why not is in eb. */
bool arming_may_start(const struct arming *a, enum phase p, struct errbuf *eb);
/* Ends cleanly: may its membership be given back? Not while the site is armed and marks of ours are in our journal. */
bool arming_may_leave(const struct arming *a);
/* For whom no lease is given, "a, b"; false: for nobody. */
bool arming_waits_for(const struct arming *a, struct str *ids);

#endif
