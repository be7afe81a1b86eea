/*
 * cert: a server's certificate and its key, as PEM text, looked at while the configuration is loaded: what TLS would refuse later is
 * said there, with file and line. Thread safe.
 */
#ifndef BASE_CERT_H
#define BASE_CERT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* chain: the server's own certificate first, then those between it and the authority. Can both be read, are they strong enough, and
 * is the key that of the first? INVAL says which of them is wrong and what to do; *key_wrong: it is the key that cannot be used by
 * itself. *not_after: Unix time at which the first of the chain's certificates ends. */
enum err cert_check(const char *chain, const char *key, bool *key_wrong, int64_t *not_after, struct errbuf *eb) ERR_MUST_CHECK;

#endif
