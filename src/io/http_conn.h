/*
 * http_conn: the insides of a server's connections. For http_server.c, http_conn.c, http_in.c (what comes) and http_answer.c (what goes)
 * only; http_server.h is what others see.
 */
#ifndef IO_HTTP_CONN_H
#define IO_HTTP_CONN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "base/str.h"
#include "io/http1.h"
#include "io/http_out.h"
#include "io/http_server.h"
#include "io/loop.h"
#include "io/proxyproto.h"
#include "io/tls.h"

#define HTTP_SCRATCH 65536
#define HTTP_STORE_MAX 256	/* of struct http_work */
#define HTTP_DISCARD_MAX 65536	/* of a body that nobody wanted */

struct http_server {
	struct loop *loop;
	struct http_server_opts o;
	struct http_server_cb cb;
	void *arg;
	struct list listeners, conns;
	unsigned nconns;
	struct map *addresses;	/* clients with connections that are counted; see http_address.c */
	unsigned port, tls_port;
	struct tls_server *tls;	/* for connections to come; NULL: no listener needs it */
	unsigned busy;		/* calls of ours on the stack: the memory must stay */
	struct http_work *store;	/* not in use */
	unsigned stored;
	bool draining, freed;
	uint64_t idle_until;	/* draining: idle connections are closed then, monotonic ms */
	bool starved;		/* no descriptors: accepting pauses until retry fires */
	struct loop_timer retry;
	struct loop_timer sweep;	/* looks for connections past their deadlines */
	struct pipes pipes;	/* for http_conn_splice */
	struct str reply;	/* the head that is being written */
	int64_t date_s;
	char date[40];
	struct http1_head head;	/* the one that is being handed over */
	char scratch[HTTP_SCRATCH];	/* input is read here first, so that no connection holds a buffer while idle */
};

enum http_conn_state {
	CONN_PREFACE,	/* before all else: a balancer's PROXY header is awaited */
	CONN_IDLE,	/* between requests, or in a head */
	CONN_REQUEST,	/* from on_request to on_done */
	CONN_DISCARD,	/* answered; the rest of a body that nobody wanted is read */
	CONN_FLUSH,	/* the last answer, the server's own, is being sent */
	CONN_LINGER,	/* all is sent; the client's bytes are read so that a reset does not eat our answer */
	CONN_CLOSED	/* waits for the stack to unwind */
};

/* What the bytes given to http_conn_write become. */
enum http_conn_framing { SEND_RAW, SEND_LENGTH, SEND_CHUNKED, SEND_NOTHING };

/* What moved since when (http_rate.c). */
struct http_rate {
	uint64_t since;			/* monotonic ms; 0: the client is not waited for */
	uint64_t bytes;			/* of the connection, as the kernel counts them */
};

/* What a connection needs while something is going on. Taken from the server's store and given back when it idles, so that a
 * connection that waits costs little. */
struct http_work {
	struct http_work *next;		/* in the store */
	struct loop_call call;
	void *req;
	uint64_t write_by;		/* a deadline like read_by */

	/* Input: in_n bytes at in + in_off, on the heap or in the server's scratch (never between two turns of the loop). */
	char *in;
	unsigned in_off, in_n, in_cap;
	unsigned scan;			/* see http1_parse_request */
	struct http1_body body;
	unsigned discarded;
	struct http_rate body_rate, out_rate;
	enum http_close slow;		/* found by the sweep: BODY_RATE or WRITE_RATE */

	struct http_out out;
	uint64_t left;			/* bytes that the answer still owes */
	char peer[INET6_ADDRSTRLEN];	/* of from, once somebody asked */
	struct proxyproto preface;	/* in CONN_PREFACE */
};

struct http_conn {
	struct list node;
	struct http_server *server;
	struct http_work *w;		/* NULL while idle; see http_conn_work */
	struct loop_fd fd;
	struct tls *tls;		/* NULL: a plain connection */
	uint64_t read_by;		/* deadline, monotonic ms; 0: none */
	union {
		struct in_addr v4;
		struct in6_addr v6;
	} from;
	unsigned nreq;
	unsigned char state, framing, why, minor, reads;
	bool is_unix : 1, is_v6 : 1;
	bool running : 1;		/* in run(): what is asked is done when the callback has returned */
	bool readable : 1, fresh : 1, in_head : 1;
	bool blocked : 1, yields : 1, want_drain : 1;
	bool aborting : 1, expired : 1, keep : 1, is_head : 1;
	bool asked : 1, paused : 1, body_done : 1, end_told : 1, expect : 1;
	bool started : 1, ended : 1, tunnel : 1;
	bool crossed : 1;		/* TLS has to write before it can read on */
	bool shaken : 1;		/* the handshake's end is counted */
	bool bye : 1;			/* the client knows that nothing more comes */
	bool counted : 1;		/* see http_address.c */
};

/* tls: NULL for a plain connection. */
struct http_conn *http_conn_new(struct http_server *s, int fd, const struct sockaddr *sa, struct tls_server *tls);
/* Makes sure that there is c->w. */
void http_conn_work(struct http_conn *c);
/* Looks at what there is to do, in the next turn. */
void http_conn_kick(struct http_conn *c);
/* The socket takes no more for now. */
void http_conn_blocked(struct http_conn *c);
/* Closes at once and tells; the memory goes when it is not in use. */
void http_conn_close(struct http_conn *c, enum http_close why);
/* Who it is from. */
void http_conn_set_from(struct http_conn *c, const struct sockaddr *sa);
/* The address is known: requests may come. */
void http_conn_begin(struct http_conn *c);

/* http_preface.c: does a header come first; one thing that can be done about it now, as in http_conn.c. */
bool http_conn_has_preface(const struct http_server *s, struct http_conn *c);
bool http_conn_step_preface(struct http_conn *c);

/* http_in.c: the input. One read behind what is there, of max bytes at most. */
enum filled { FILLED, FILL_EOF, FILL_LATER, FILL_ERROR };
enum filled http_in_fill(struct http_conn *c, unsigned max);
void http_in_consume(struct http_conn *c, size_t n);
void http_in_release(struct http_conn *c);
/* The stack unwinds: the scratch will be another's. */
void http_in_settle(struct http_conn *c);
/* What is counted of a handshake, once: its end, whichever. */
void http_in_note_handshake(struct http_conn *c, const char *result);

/* http_address.c: counts the connection for its client's address, unless nobody limits that. False: it is one too many, and must be
 * closed. The address must not change until it has left. */
bool http_address_enter(struct http_conn *c);
void http_address_leave(struct http_conn *c);

/* http_rate.c: is its request's body awaited; what is slower than min_rate, or HTTP_CLOSE_NONE. Called by each sweep. */
bool http_conn_awaits_body(const struct http_conn *c);
enum http_close http_rate_check(struct http_conn *c, uint64_t now);

/* Of http_server.c. */
void http_server_conn_gone(struct http_server *s);
void http_server_enter(struct http_server *s);
void http_server_leave(struct http_server *s);

#endif
