/*
 * http_client_i: what http_client.c (libcurl's multi handle on the loop) and http_call.c (one call) know of each other.
 * libcurl may not be called from within its own callbacks: while in_curl is set, calls are only marked, and what the
 * marks ask for is done by http_client.c when libcurl has returned.
 */
#ifndef IO_HTTP_CLIENT_I_H
#define IO_HTTP_CLIENT_I_H

#include <curl/curl.h>

#include "base/list.h"
#include "base/str.h"
#include "io/http_client.h"

#define HTTP_CLIENT_SPARE 64	/* as many as r2.connections is by default: a new one costs more than all of a small GET */

enum call_state {
	CALL_QUEUED,		/* not yet given to libcurl */
	CALL_CONNECTING,	/* waits for a connection, or makes one */
	CALL_SENDING,		/* the body is not yet all taken */
	CALL_WAITING,		/* for the response head */
	CALL_RECEIVING,
	CALL_FINISHING		/* done runs */
};

/* A header of the response: offsets into http_call.head. */
struct field {
	size_t name, value;
};

struct http_call {
	struct list node;		/* in http_client.calls or .cancelled */
	struct list work;		/* in http_client.work: to be begun, or to be resumed */
	struct http_client *client;
	struct http_call_opts o;	/* method, url and headers are gone from it */
	char *method, *url;
	struct curl_slist *headers;
	CURL *easy;
	enum call_state state;
	bool cancelled;			/* no callback, and no touch of the body any more */
	bool paused, stuck;		/* as the caller wishes; as libcurl is */
	enum err e;			/* why we broke the transfer off, OK if we did not */
	char why[CURL_ERROR_SIZE];
	uint64_t sent;			/* of the body */

	int status;
	struct str head;
	struct field *fields;
	size_t nfields;
	bool head_done;
	struct str body;

	struct loop_timer limit, idle;
	uint64_t touched;		/* ms: the last progress */
};

struct http_client {
	struct loop *loop;
	CURLM *multi;
	char *ca_file;
	long connect_ms;
	struct list calls, cancelled, work, socks;
	struct loop_call soon;
	struct loop_timer timer;
	CURL *spare[HTTP_CLIENT_SPARE];
	unsigned nspare;
	bool in_curl;			/* libcurl is on the stack: it must not be called but for reading */
	unsigned inside;		/* our own frames that still need this object */
	bool freed;
};

/* http_client.c: a fresh or used handle; taking it away from libcurl (never in its callbacks). whole: its transfer ended well,
 * so that the handle can be used again as it is. */
CURL *http_client_easy(struct http_client *c);
void http_client_detach(struct http_call *call, bool whole);
/* Frames that call a caller's callback stand between these: the client is destroyed by the last to leave. */
void http_client_enter(struct http_client *c);
void http_client_leave(struct http_client *c);
/* The call wants to be begun, or resumed, in the loop's next turn. */
void http_client_soon(struct http_call *call);

/* http_call.c: the steps of a call that http_client.c drives, within enter and leave. */
/* What is the same for all calls of a client. */
void http_call_options(struct http_client *c, CURL *h);
void http_call_begin(struct http_call *call);
void http_call_unpause(struct http_call *call);
/* libcurl says that the transfer ended. */
void http_call_ended(struct http_call *call, CURLcode rc);
void http_call_free(struct http_call *call);

#endif
