#include "io/tls_int.h"

#include <string.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/mem.h"
#include "base/str.h"

#define TICKET_LIFE_S 7200

struct pair {
	X509 *cert;
	EVP_PKEY *key;
	STACK_OF(X509) *chain;	/* without cert */
	GENERAL_NAMES *names;	/* of its subjectAltName; NULL: none */
};

struct tls_server {
	unsigned refs;
	SSL_CTX *ctx;
	size_t n;
	struct pair v[];
};

static void
pair_fini(struct pair *p)
{
	X509_free(p->cert);
	EVP_PKEY_free(p->key);
	sk_X509_pop_free(p->chain, X509_free);
	GENERAL_NAMES_free(p->names);
}

void
tls_server_free(struct tls_server **sp)
{
	struct tls_server *s = *sp;

	*sp = NULL;
	if (s == NULL || --s->refs > 0)
		return;
	for (size_t i = 0; i < s->n; i++)
		pair_fini(&s->v[i]);
	SSL_CTX_free(s->ctx);
	mem_free(s);
}

struct tls_server *
tls_server_ref(struct tls_server *s)
{
	s->refs++;
	return s;
}

static bool
read_pair(struct pair *p, const struct tls_pair *from)
{
	BIO *chain = BIO_new_mem_buf(from->chain, -1), *key = BIO_new_mem_buf(from->key, -1);
	char none[] = "";	/* no passphrase is asked for */
	X509 *x;

	ASSERT(chain != NULL && key != NULL);
	p->chain = sk_X509_new_null();
	p->cert = PEM_read_bio_X509(chain, NULL, NULL, NULL);
	while (p->cert != NULL && (x = PEM_read_bio_X509(chain, NULL, NULL, NULL)) != NULL)
		ASSERT(sk_X509_push(p->chain, x) > 0);
	if (p->cert != NULL) {
		p->names = X509_get_ext_d2i(p->cert, NID_subject_alt_name, NULL, NULL);
		ERR_clear_error();	/* of the text's end */
	}
	p->key = PEM_read_bio_PrivateKey(key, NULL, NULL, none);
	BIO_free(chain);
	BIO_free(key);
	return p->cert != NULL && p->key != NULL;
}

/* Does the certificate bear the name in this way: as it is, or by a wildcard in the place of its first label? */
static bool
bears(const struct pair *p, const char *name, bool wildcard)
{
	const char *rest = strchr(name, '.');
	bool found = false;

	for (int i = 0; i < sk_GENERAL_NAME_num(p->names) && !found; i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(p->names, i);
		const char *text;
		size_t n;

		if (g->type != GEN_DNS)
			continue;
		text = (const char *)ASN1_STRING_get0_data(g->d.dNSName);
		n = (size_t)ASN1_STRING_length(g->d.dNSName);
		if (!wildcard)
			found = str_slice_ieq(text, n, name);
		else if (rest != NULL && rest > name && n > 2 && text[0] == '*')
			found = str_slice_ieq(text + 1, n - 1, rest);
	}
	return found;
}

/* Puts all pairs that bear the name on the connection, one of each kind of key. False: there is none. */
static bool
use_matching(const struct tls_server *s, SSL *ssl, const char *name, bool wildcard)
{
	int kinds[2], nkinds = 0;

	for (size_t i = 0; i < s->n && nkinds < 2; i++) {
		const struct pair *p = &s->v[i];
		int kind = EVP_PKEY_get_base_id(p->key);

		if ((nkinds == 1 && kinds[0] == kind) || !bears(p, name, wildcard))
			continue;
		if (nkinds == 0)
			SSL_certs_clear(ssl);
		if (SSL_use_cert_and_key(ssl, p->cert, p->key, p->chain, 1) != 1) {
			ERR_clear_error();
			continue;
		}
		kinds[nkinds++] = kind;
	}
	return nkinds > 0;
}

static int
on_name(SSL *ssl, int *alert, void *arg)
{
	const struct tls_server *s = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	(void)alert;
	if (name == NULL || s->n == 1 || !(use_matching(s, ssl, name, false) || use_matching(s, ssl, name, true)))
		return SSL_TLSEXT_ERR_NOACK;
	return SSL_TLSEXT_ERR_OK;
}

static int
on_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in, unsigned inlen, void *arg)
{
	(void)ssl;
	(void)arg;
	for (unsigned i = 0; i < inlen && i + in[i] < inlen; i += in[i] + 1u)
		if (str_slice_eq((const char *)in + i + 1, in[i], "http/1.1")) {
			*out = in + i + 1;
			*outlen = in[i];
			return SSL_TLSEXT_ERR_OK;
		}
	return SSL_TLSEXT_ERR_ALERT_FATAL;	/* RFC 7301 3.2: no_application_protocol */
}

/* Would a connection take it? */
static bool
usable(const struct tls_server *s, const struct pair *p)
{
	SSL *ssl = SSL_new(s->ctx);
	bool ok;

	ASSERT(ssl != NULL);
	ERR_clear_error();
	ok = SSL_use_cert_and_key(ssl, p->cert, p->key, p->chain, 1) == 1;
	SSL_free(ssl);
	return ok;
}

static enum err
refuse(struct tls_server **sp, const struct tls_pair *which, struct errbuf *eb)
{
	enum err e = err_set(eb, ERR_INVAL, "%s: %s", which->name, tls_openssl_text());

	tls_server_free(sp);
	return e;
}

enum err
tls_server_new(struct tls_server **sp, const struct tls_pair *pairs, size_t n, bool only_1_3, struct errbuf *eb)
{
	struct tls_server *s = mem_zalloc(sizeof *s + n * sizeof s->v[0]);

	ASSERT(n > 0);
	*sp = s;
	s->refs = 1;
	s->ctx = tls_context(TLS_server_method(), only_1_3);
	s->n = n;
	for (size_t i = 0; i < n; i++)
		if (!read_pair(&s->v[i], &pairs[i]))
			return refuse(sp, &pairs[i], eb);
	for (size_t i = 0; i < n; i++)
		if (!usable(s, &s->v[i]))
			return refuse(sp, &pairs[i], eb);
	/* The others are put on a connection when its name asks for them. */
	ASSERT(SSL_CTX_use_cert_and_key(s->ctx, s->v[0].cert, s->v[0].key, s->v[0].chain, 1) == 1);
	SSL_CTX_set_session_cache_mode(s->ctx, SSL_SESS_CACHE_OFF);	/* tickets only */
	SSL_CTX_set_timeout(s->ctx, TICKET_LIFE_S);
	SSL_CTX_set_tlsext_servername_callback(s->ctx, on_name);
	SSL_CTX_set_tlsext_servername_arg(s->ctx, s);
	SSL_CTX_set_alpn_select_cb(s->ctx, on_alpn, NULL);
	return ERR_OK;
}

SSL *
tls_server_ssl(struct tls_server *s)
{
	SSL *ssl = SSL_new(s->ctx);

	ASSERT(ssl != NULL);
	return ssl;
}
