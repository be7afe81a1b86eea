#include "unit.h"

#include "certs.h"

#include "base/openssl_err.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/digest.h"
#include "base/mem.h"

static char *
text_of(BIO *b)
{
	char *p;
	long n = BIO_get_mem_data(b, &p);
	char *text = mem_strndup(p, (size_t)n);

	BIO_free(b);
	return text;
}

static void
extend(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *e;

	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(e);
	assert_int_equal(X509_add_ext(x, e, -1), 1);
	X509_EXTENSION_free(e);
}

static void
read_issuer(const struct certs *by, X509 **x, EVP_PKEY **key)
{
	BIO *c = BIO_new_mem_buf(by->cert, -1), *k = BIO_new_mem_buf(by->key, -1);

	*x = PEM_read_bio_X509(c, NULL, NULL, NULL);
	*key = PEM_read_bio_PrivateKey(k, NULL, NULL, NULL);
	assert_true(*x && *key);
	BIO_free(c);
	BIO_free(k);
}

void
certs_make(struct certs *c, const struct certs_want *w)
{
	EVP_PKEY *key = w->rsa > 0 ? EVP_RSA_gen(w->rsa) : EVP_EC_gen("P-256"), *signer = key;
	X509 *x = X509_new(), *issuer = x;
	BIO *cert = BIO_new(BIO_s_mem()), *pem = BIO_new(BIO_s_mem());
	X509_NAME *name = X509_get_subject_name(x);
	uint32_t serial;

	assert_true(key && x && cert && pem);
	if (w->by)
		read_issuer(w->by, &issuer, &signer);
	digest_random(&serial, sizeof serial);
	X509_set_version(x, X509_VERSION_3);
	ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial);
	X509_gmtime_adj(X509_getm_notBefore(x), w->from_s != 0 ? w->from_s : -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), w->to_s != 0 ? w->to_s : 30 * 86400);
	assert_int_equal(
	    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)w->name, -1, -1, 0), 1);
	X509_set_issuer_name(x, X509_get_subject_name(issuer));
	X509_set_pubkey(x, key);
	extend(x, issuer, NID_basic_constraints, w->by ? "critical,CA:FALSE" : "critical,CA:TRUE");
	if (w->alt)
		extend(x, issuer, NID_subject_alt_name, w->alt);
	assert_true(X509_sign(x, signer, EVP_sha256()) > 0);
	PEM_write_bio_X509(cert, x);
	PEM_write_bio_PrivateKey(pem, key, NULL, NULL, 0, NULL, NULL);
	c->cert = text_of(cert);
	c->key = text_of(pem);
	if (w->by) {
		X509_free(issuer);
		EVP_PKEY_free(signer);
	}
	X509_free(x);
	EVP_PKEY_free(key);
}

void
certs_free(struct certs *c)
{
	mem_free(c->cert);
	mem_free(c->key);
}
