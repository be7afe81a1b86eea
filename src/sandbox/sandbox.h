/*
 * sandbox: a strict local stand-in for R2's S3 interface: one listener, a folder of buckets, one pair of keys. It answers
 * as R2 does (status, code, text), checks every signature, payload hash and Content-MD5, and can be told to fail
 * (faults.h). One loop, one thread; nothing a client sends is held in memory whole but documents below SANDBOX_DOCUMENT_MAX.
 */
#ifndef SANDBOX_SANDBOX_H
#define SANDBOX_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct loop;
struct sandbox;

enum { SANDBOX_DOCUMENT_MAX = 8 * 1024 * 1024 };

struct sandbox_opts {
	const char *listen, *dir;
	const char *const *buckets;	/* made if missing */
	size_t nbuckets;
	const char *key_id, *secret;	/* copied, the secret wiped at the end */
	bool discard;			/* keep no content: a sink for benchmarks */
	bool key_rate;			/* one write a second and key, as R2 has it */
	const char *faults;		/* rules to begin with; NULL: none */
};

enum err sandbox_new(struct sandbox **out, struct loop *l, const struct sandbox_opts *o, struct errbuf *eb) ERR_MUST_CHECK;
/* Open requests are cut. Takes NULL, clears the pointer. */
void sandbox_free(struct sandbox **sb);
unsigned sandbox_port(const struct sandbox *sb);

#endif
