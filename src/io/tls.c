#include "io/tls_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* The innermost of OpenSSL's reasons, which it queues from the inside outwards. */
const char *
tls_openssl_text(void)
{
	unsigned long e = ERR_get_error();
	const char *text = e != 0 ? ERR_reason_error_string(e) : NULL;

	ERR_clear_error();
	return text != NULL ? text : "unknown error";
}

SSL_CTX *
tls_context(const SSL_METHOD *method, bool only_1_3)
{
	SSL_CTX *ctx = SSL_CTX_new(method);
	char groups[] = "X25519:P-256:P-384";

	ASSERT(ctx != NULL);
	ASSERT(SSL_CTX_set_min_proto_version(ctx, only_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION) == 1);
	ASSERT(SSL_CTX_set_max_proto_version(ctx, 0) == 1);	/* whatever openssl.cnf says */
	SSL_CTX_set_security_level(ctx, 2);
	ASSERT(SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!PSK") == 1);
	ASSERT(SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") == 1);
	ASSERT(SSL_CTX_set1_groups_list(ctx, groups) == 1);
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	/* One read for a record's head and body, and for what follows it. */
	SSL_CTX_set_read_ahead(ctx, 1);
	return ctx;
}

struct tls *
tls_accept(struct tls_server *s, int fd)
{
	struct tls *t = mem_zalloc(sizeof *t);

	t->server = tls_server_ref(s);
	t->ssl = tls_server_ssl(s);
	ASSERT(SSL_set_fd(t->ssl, fd) == 1);
	SSL_set_accept_state(t->ssl);
	return t;
}

struct tls *
tls_connect(struct tls_client *c, int fd)
{
	struct tls *t = mem_zalloc(sizeof *t);

	t->client = tls_client_ref(c);
	t->ssl = tls_client_ssl(c);
	ASSERT(SSL_set_fd(t->ssl, fd) == 1);
	ASSERT(SSL_set_app_data(t->ssl, t) == 1);
	SSL_set_connect_state(t->ssl);
	return t;
}

void
tls_free(struct tls **tp)
{
	struct tls *t = *tp;

	if (t == NULL)
		return;
	*tp = NULL;
	/* A session whose connection ended in any way but by an alert may be taken up again. */
	if (!t->failed)
		SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(t->ssl);
	ERR_clear_error();
	tls_server_free(&t->server);
	tls_client_free(&t->client);
	mem_free(t);
}

static enum tls_result
fail(struct tls *t, int saved)
{
	unsigned long e = ERR_peek_error();

	if (ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
		/* Within the handshake there is nothing yet that could have been cut. */
		t->left = !t->established;
		snprintf(t->why, sizeof t->why, "%s", t->left ? "the peer closed within the handshake"
							      : "the connection was cut: it ended without close_notify");
	} else if (e == 0) {
		t->left = !t->established && (saved == ECONNRESET || saved == EPIPE);
		snprintf(t->why, sizeof t->why, "%s", saved != 0 ? strerror(saved) : "closed");
	} else if (ERR_GET_REASON(e) != SSL_R_CERTIFICATE_VERIFY_FAILED) {
		snprintf(t->why, sizeof t->why, "%s", ERR_reason_error_string(e) != NULL ? ERR_reason_error_string(e) : "unknown error");
	}
	ERR_clear_error();
	t->failed = true;
	errno = e == 0 && saved != 0 ? saved : EPROTO;
	return ERR_GET_REASON(e) == SSL_R_UNEXPECTED_EOF_WHILE_READING && !t->left ? TLS_CUT : TLS_FAILED;
}

static enum tls_result
result(struct tls *t, int rc)
{
	int saved = errno;

	/* To be asked now: a failure puts OpenSSL's state back into the handshake. */
	if (!t->established && SSL_is_init_finished(t->ssl) == 1)
		t->established = true;
	switch (SSL_get_error(t->ssl, rc)) {
	case SSL_ERROR_NONE:
		return TLS_OK;
	case SSL_ERROR_WANT_READ:
		return TLS_WANT_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_WANT_WRITE;
	case SSL_ERROR_ZERO_RETURN:
		return TLS_EOF;
	default:
		return fail(t, saved);
	}
}

enum tls_result
tls_handshake(struct tls *t)
{
	if (t->failed)
		return TLS_FAILED;
	ERR_clear_error();
	errno = 0;
	return result(t, SSL_do_handshake(t->ssl));
}

bool
tls_established(const struct tls *t)
{
	return t->established;
}

enum tls_result
tls_read(struct tls *t, void *p, size_t max, size_t *n)
{
	if (t->failed)
		return TLS_FAILED;
	ERR_clear_error();
	errno = 0;
	return result(t, SSL_read_ex(t->ssl, p, max, n));
}

bool
tls_pending(const struct tls *t)
{
	return SSL_has_pending(t->ssl) == 1;
}

enum tls_result
tls_write(struct tls *t, const void *p, size_t len, size_t *n)
{
	if (t->failed)
		return TLS_FAILED;
	ERR_clear_error();
	errno = 0;
	return result(t, SSL_write_ex(t->ssl, p, len, n));
}

enum tls_result
tls_bye(struct tls *t)
{
	int rc;

	if (t->failed || !t->established)
		return TLS_FAILED;
	ERR_clear_error();
	errno = 0;
	rc = SSL_shutdown(t->ssl);
	return rc >= 0 ? TLS_OK : result(t, rc);	/* 0: ours is sent, the peer's has not come, and need not */
}

const char *
tls_why(const struct tls *t)
{
	return t->why;
}

bool
tls_peer_left(const struct tls *t)
{
	return t->left;
}

const char *
tls_version(const struct tls *t)
{
	return SSL_get_version(t->ssl);
}

bool
tls_resumed(const struct tls *t)
{
	return SSL_session_reused(t->ssl) == 1;
}
