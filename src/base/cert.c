#include "base/cert.h"

#include <string.h>

#include "base/openssl_err.h"

#include <openssl/pem.h>
#include <openssl/x509.h>

#define SECURITY_BITS_MIN 112	/* RSA of 2048 bits; OpenSSL's own level 2 (SSL_CTX_set_security_level) */

/* No passphrase is asked for: nobody sits at a server's terminal. Says in *arg that one was wanted. */
static int
no_passphrase(char *buf, int size, int writing, void *arg)
{
	bool *wanted = arg;

	(void)buf;
	(void)size;
	(void)writing;
	*wanted = true;
	return -1;
}

static EVP_PKEY *
read_key(const char *pem, struct errbuf *eb)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	bool encrypted = false;
	EVP_PKEY *key = in ? PEM_read_bio_PrivateKey(in, NULL, no_passphrase, &encrypted) : NULL;

	BIO_free(in);
	if (!key && encrypted)
		(void)err_set(eb, ERR_INVAL, "is encrypted, and there is nobody to type the passphrase; write it without: openssl pkey");
	else if (!key)
		(void)err_set(eb, ERR_INVAL, "holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)");
	return key;
}

/* The earliest end of all. */
static void
note_end(const X509 *x, int64_t *not_after)
{
	struct tm tm;
	int64_t end;

	if (ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) != 1)
		return;
	end = timegm(&tm);
	if (*not_after == 0 || end < *not_after)
		*not_after = end;
}

/* Counts the chain's certificates in *n, which of them the key is of in *owner (stays 0: of none), and notes its end. */
static enum err
check_chain(const char *pem, EVP_PKEY *key, unsigned *n, unsigned *owner, int64_t *not_after, struct errbuf *eb)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	unsigned long why;
	X509 *x;

	while (in && (x = PEM_read_bio_X509(in, NULL, NULL, NULL))) {
		EVP_PKEY *pub = X509_get0_pubkey(x);

		(*n)++;
		if (*owner == 0 && pub && EVP_PKEY_eq(pub, key) == 1)
			*owner = *n;
		note_end(x, not_after);
		X509_free(x);
	}
	BIO_free(in);
	why = ERR_peek_last_error();	/* the end of the text is an error, too */
	ERR_clear_error();
	if (*n == 0)
		return err_set(eb, ERR_INVAL, "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)");
	if (ERR_GET_LIB(why) != ERR_LIB_PEM || ERR_GET_REASON(why) != PEM_R_NO_START_LINE)
		return err_set(eb, ERR_INVAL, "certificate number %u in it is damaged", *n + 1);
	return ERR_OK;
}

enum err
cert_check(const char *chain, const char *pem, bool *key_wrong, int64_t *not_after, struct errbuf *eb)
{
	EVP_PKEY *key = read_key(pem, eb);
	unsigned n = 0, owner = 0;
	enum err e = ERR_INVAL;

	*key_wrong = !key;
	*not_after = 0;
	if (key && EVP_PKEY_get_security_bits(key) < SECURITY_BITS_MIN) {
		*key_wrong = true;
		(void)err_set(eb, e, "is too weak (%d bits); make an EC key (P-256) or an RSA key of 2048 bits or more",
		    EVP_PKEY_get_bits(key));
	} else if (key) {
		e = check_chain(chain, key, &n, &owner, not_after, eb);
	}
	if (e == ERR_OK && owner == 0)
		e = err_set(eb, ERR_INVAL, "the key is not that of the certificate; they were made by different runs, or mixed up");
	else if (e == ERR_OK && owner > 1)
		e = err_set(eb, ERR_INVAL, "the key is that of certificate number %u in the file; the server's own comes first", owner);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return e;
}
