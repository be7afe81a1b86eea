#include "io/tls_int.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include <openssl/x509v3.h>

#include "base/mem.h"

struct tls_client {
	unsigned refs;
	SSL_CTX *ctx;
	SSL_SESSION *session;	/* the newest; NULL: none yet */
	char *host, *ca_file;	/* ca_file: NULL: the system's */
	bool is_addr;
};

void
tls_client_free(struct tls_client **cp)
{
	struct tls_client *c = *cp;

	*cp = NULL;
	if (c == NULL || --c->refs > 0)
		return;
	SSL_SESSION_free(c->session);
	SSL_CTX_free(c->ctx);
	mem_free(c->host);
	mem_free(c->ca_file);
	mem_free(c);
}

struct tls_client *
tls_client_ref(struct tls_client *c)
{
	c->refs++;
	return c;
}

/* 1: the session is ours. */
static int
on_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls_client *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	SSL_SESSION_free(c->session);
	c->session = session;
	return 1;
}

static void
explain(const struct tls_client *c, int verdict, const X509 *x, char *out, size_t size)
{
	const char *ca = c->ca_file != NULL ? c->ca_file : "the system's authorities", *text = X509_verify_cert_error_string(verdict);
	char subject[80] = "?", issuer[80] = "?";

	if (x != NULL) {
		(void)X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, subject, sizeof subject);
		(void)X509_NAME_get_text_by_NID(X509_get_issuer_name(x), NID_commonName, issuer, sizeof issuer);
	}
	switch (verdict) {
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		snprintf(out, size, "the certificate of \"%s\" is not for %s", subject, c->host);
		break;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
		snprintf(out, size, "the certificate of \"%s\", signed by \"%s\", leads to none of %s (%s)", subject, issuer, ca, text);
		break;
	default:
		snprintf(out, size, "the certificate of \"%s\": %s", subject, text);
		break;
	}
}

/* Only looks on: the verdict stays OpenSSL's. */
static int
on_verdict(int ok, X509_STORE_CTX *store)
{
	const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls *t = SSL_get_app_data(ssl);

	if (!ok && t->why[0] == '\0')
		explain(t->client, X509_STORE_CTX_get_error(store), X509_STORE_CTX_get_current_cert(store), t->why, sizeof t->why);
	return ok;
}

static bool
set_identity(struct tls_client *c)
{
	X509_VERIFY_PARAM *param = SSL_CTX_get0_param(c->ctx);
	unsigned char addr[16];

	c->is_addr = inet_pton(AF_INET, c->host, addr) == 1 || inet_pton(AF_INET6, c->host, addr) == 1;
	if (c->is_addr)
		return X509_VERIFY_PARAM_set1_ip_asc(param, c->host) == 1;
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	return X509_VERIFY_PARAM_set1_host(param, c->host, 0) == 1;
}

enum err
tls_client_new(struct tls_client **cp, const char *host, const char *ca_file, struct errbuf *eb)
{
	static const unsigned char alpn[] = "\x08http/1.1";
	struct tls_client *c = mem_zalloc(sizeof *c);
	enum err e = ERR_OK;

	*cp = c;
	c->refs = 1;
	c->host = mem_strdup(host);
	c->ca_file = mem_strdup(ca_file);
	c->ctx = tls_context(TLS_client_method(), false);
	SSL_CTX_set_app_data(c->ctx, c);
	SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER, on_verdict);
	ASSERT(SSL_CTX_set_alpn_protos(c->ctx, alpn, sizeof alpn - 1) == 0);
	SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(c->ctx, on_session);
	ERR_clear_error();
	if (!set_identity(c))
		e = err_set(eb, ERR_INVAL, "\"%s\" is no name of a server: %s", host, tls_openssl_text());
	else if (ca_file != NULL && SSL_CTX_load_verify_file(c->ctx, ca_file) != 1)
		e = err_set(eb, ERR_INVAL, "%s: %s; it must hold certificates in PEM form", ca_file, tls_openssl_text());
	else if (ca_file == NULL && SSL_CTX_set_default_verify_paths(c->ctx) != 1)
		e = err_set(eb, ERR_INVAL, "the system's certificates: %s; install ca-certificates", tls_openssl_text());
	if (e != ERR_OK)
		tls_client_free(cp);
	return e;
}

SSL *
tls_client_ssl(struct tls_client *c)
{
	SSL *ssl = SSL_new(c->ctx);

	ASSERT(ssl != NULL);
	if (!c->is_addr)	/* RFC 6066 3: a name, not an address */
		ASSERT(SSL_set_tlsext_host_name(ssl, c->host) == 1);
	if (c->session != NULL && SSL_SESSION_is_resumable(c->session))
		(void)SSL_set_session(ssl, c->session);
	return ssl;
}
