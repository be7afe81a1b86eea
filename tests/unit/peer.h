/*
 * peer: a scripted HTTP server on a thread of its own, for tests of what speaks to R2. It answers each request by the
 * first rule whose text stands in "METHOD target", keeps what it saw, and checks every SigV4 signature.
 */
#ifndef UNIT_PEER_H
#define UNIT_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct peer_rule {
	const char *match; /* part of "PUT /bucket/key?query" */
	int status;
	const char *headers; /* "Name: value\r\n"..., NULL: none */
	const char *body;    /* NULL: none */
	unsigned times;      /* used up after so many; 0: never */
	bool etag;           /* answer with the ETag of the request's body */
	bool cut;            /* close in the middle of the answer's body */
	bool silent;         /* never answer */
	bool gone;           /* close without an answer */
};

struct peer_seen {
	char *line; /* "PUT /bucket/key?query" */
	char *head; /* all header lines, names as sent */
	char *body;
	size_t body_len;
};

struct peer;
struct peer *peer_new(const char *key_id, const char *secret, const char *region);
void peer_free(struct peer *p);
unsigned peer_port(const struct peer *p);
/* The rules from now on (they must stay); forgets what was seen. */
void peer_script(struct peer *p, const struct peer_rule *rules, size_t n);
/* How many requests had the text in their line; the last of them in *last (may be NULL; valid until the next script).
 */
unsigned peer_count(struct peer *p, const char *match, struct peer_seen *last);
/* A header's value within a head, or NULL; a rotating buffer. */
const char *peer_header(const char *head, const char *name);
/* How many connections were accepted. */
unsigned peer_connections(struct peer *p);
/* How many requests had a missing or wrong signature. */
unsigned peer_bad_signatures(struct peer *p);

#endif
