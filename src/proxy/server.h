/*
 * server: the proxy process. It owns everything: the snapshot, the cluster's tie, the thread pool, R2, the disk, the writer, the
 * upstream servers, the client's listeners and the admin listener; starts them in the order in which they need each other, and ends
 * them in reverse.
 *
 * A snapshot (configuration, phase, R2 store) is made whole or not at all. A reload replaces the current one; requests and
 * reconciles that began under an older one go on under it, so old ones are kept until the process ends (a few KB a reload).
 * Loop thread only.
 */
#ifndef PROXY_SERVER_H
#define PROXY_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/list.h"
#include "coord/cluster.h"
#include "coord/phase.h"
#include "io/http_peer.h"
#include "io/http_server.h"
#include "io/loop.h"
#include "io/pool.h"
#include "proxy/admin.h"
#include "proxy/arming.h"
#include "proxy/forward.h"
#include "proxy/upstream.h"
#include "proxy/writer.h"
#include "store/local.h"
#include "store/openfiles.h"
#include "store/store.h"
#include "sync/breaker.h"
#include "sync/reconcile.h"

struct accesslog;

/* Up to here a file is read and written at once; above, sendfile: measured, they are alike at 11 KB, and at 20 KB sendfile takes
 * two thirds of the time. */
#define SERVER_SMALL (10 * 1024)

struct snapshot {
	struct list node;
	struct conf *conf;
	enum phase phase;
	struct forward_trust *trust;
	struct store *r2;
	bool owns_r2;		/* else it is an older snapshot's, which lives as long */
	struct reconcile_env env;
};

struct server {
	struct loop *loop;
	struct pool *pool;
	struct list snapshots;	/* all, the current one last */
	struct snapshot *snap;	/* the current one */
	struct local *local;
	struct openfiles *openfiles;	/* of local, for what clients read */
	struct cluster *cluster;
	struct writer *writer;
	struct arming arming;
	struct upstream *upstream;
	struct http_server *http;
	struct admin *admin;
	struct accesslog *accesslog;	/* NULL: none */
	struct breaker r2_breaker;
	char *small;		/* a small file's bytes, between read and write */

	/* What is known of R2's health. */
	struct store_op *probe;
	struct store *probed;
	enum err r2_err;
	char r2_why[256];
	unsigned ticks;
	struct loop_timer tick;

	/* Redis at the start: has it answered, and may it lose what it is told? */
	bool redis_settled, redis_unsafe;
	uint64_t started_ms;
	bool inherited;		/* the listening sockets; see listen.h */
	bool draining, leaving;
	struct loop_timer drain_timer;
	struct loop_call drained;
	uint64_t drain_until;
};

enum server_exit { SERVER_OK, SERVER_FAILED, SERVER_CONFIG, SERVER_UNREACHABLE, SERVER_REFUSED };
/* Runs until SIGTERM or SIGINT. Takes the snapshot over. Says on stderr what prevents a start, in one line. */
enum server_exit server_run(struct conf *c);

/* Loads the configuration again; false: errors appended, the old one stays. */
bool server_reload(struct server *sv, struct str *errors);
/* client.c: a connection is gone; the drain may be over. */
void server_conn_closed(struct server *sv);

#endif
