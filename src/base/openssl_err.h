/* openssl_err: OpenSSL's error queue beside our own errors: its header has a type by the name of one of them. Before other OpenSSL headers. */
#ifndef BASE_OPENSSL_ERR_H
#define BASE_OPENSSL_ERR_H

#define ERR_STATE OPENSSL_ERR_STATE
#include <openssl/err.h>
#undef ERR_STATE

#endif
