/*
 * allow: who may change something below a media prefix through us: which methods, from where, and with what proof. Pure: the
 * prefix's rules and the request's head go in, a verdict comes out; whoever has to be asked is asked by auth.c.
 *
 * The rules hold for every method that may change something, whatever is done with the request then (passed on, bracketed,
 * carried out by us). What we carry out ourselves no application has looked at: without a rule that asks for proof it is refused.
 */
#ifndef PROXY_ALLOW_H
#define PROXY_ALLOW_H

#include <stdbool.h>

#include "base/conf.h"
#include "base/str.h"
#include "io/http1.h"

enum allow_verdict {
	ALLOW_FREE,		/* nothing is asked */
	ALLOW_TOKEN,		/* the bearer token is right */
	ALLOW_ASK,		/* the application has to say: prefix.auth */
	ALLOW_NOT_METHOD,	/* 405 */
	ALLOW_NOT_HERE,		/* 403: not from this network */
	ALLOW_NO_TOKEN,		/* 401 */
	ALLOW_NO_RULE		/* 403: ours to carry out, and nothing says who may */
};

/* Is the client in one of the prefix's networks, or does it have none? */
bool allow_network(const struct conf_prefix *p, const char *client);
/* Does the request bear the prefix's token? */
bool allow_token(const struct conf_prefix *p, const struct http1_head *h);
/* Does the prefix have rules of its own for those who change something? */
bool allow_ruled(const struct conf_prefix *p);
/* client: the address that networks are compared with. ours: we carry it out, no application does. */
enum allow_verdict allow_judge(const struct conf_prefix *p, const struct http1_head *h, const char *client, bool ours);
/* Appends what an Allow header says of the prefix. */
void allow_methods(struct str *out, const struct conf_prefix *p);

#endif
