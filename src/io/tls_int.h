/* tls_int: what tls*.c share and nobody else includes. */
#ifndef IO_TLS_INT_H
#define IO_TLS_INT_H

#include "base/openssl_err.h"
#include "io/tls.h"

#include <openssl/ssl.h>

/* A context with what both sides have in common. */
SSL_CTX *tls_context(const SSL_METHOD *method, bool only_1_3);
/* Why OpenSSL refused just now; clears its queue. */
const char *tls_openssl_text(void);

struct tls {
	SSL *ssl;		/* its app data is this */
	struct tls_server *server;
	struct tls_client *client;
	bool established, failed, left;
	char why[256];		/* of a certificate that is refused: filled by tls_client.c as it happens */
};

SSL *tls_server_ssl(struct tls_server *s);
SSL *tls_client_ssl(struct tls_client *c);

#endif
