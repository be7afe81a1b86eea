#include "base/digest.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#define ERR_STATE OPENSSL_ERR_STATE /* a type of OpenSSL's bears the name of an error of ours */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#undef ERR_STATE

#include "base/err.h"
#include "base/mem.h"

#define HMAC_BLOCK 64 /* of SHA-256 */

struct digest {
	EVP_MD_CTX *ctx;
	const EVP_MD *md;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_MD *algorithms[2];
static uint32_t crc_table[256];

/* Fetched once: an implicit fetch a call costs more than hashing a short message. */
static void
init(void)
{
	algorithms[DIGEST_MD5] = EVP_MD_fetch(NULL, "MD5", NULL);
	algorithms[DIGEST_SHA256] = EVP_MD_fetch(NULL, "SHA256", NULL);
	ASSERT(algorithms[DIGEST_MD5] && algorithms[DIGEST_SHA256]);
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int bit = 0; bit < 8; bit++)
			c = c >> 1 ^ (c & 1 ? 0x82f63b78u : 0);
		crc_table[i] = c;
	}
}

static const EVP_MD *
algorithm(enum digest_kind kind)
{
	(void)pthread_once(&once, init);
	return algorithms[kind];
}

struct digest *
digest_new(enum digest_kind kind)
{
	struct digest *d = mem_zalloc(sizeof(*d));

	d->md = algorithm(kind);
	d->ctx = EVP_MD_CTX_new();
	ASSERT(d->ctx && EVP_DigestInit_ex2(d->ctx, d->md, NULL) == 1);
	return d;
}

void
digest_free(struct digest **d)
{
	if (!*d)
		return;
	EVP_MD_CTX_free((*d)->ctx);
	mem_free(*d);
	*d = NULL;
}

void
digest_update(struct digest *d, const void *p, size_t n)
{
	ASSERT(EVP_DigestUpdate(d->ctx, p, n) == 1);
}

void
digest_final(struct digest *d, uint8_t *out)
{
	ASSERT(EVP_DigestFinal_ex(d->ctx, out, NULL) == 1);
	ASSERT(EVP_DigestInit_ex2(d->ctx, d->md, NULL) == 1);
}

void
digest_md5(const void *p, size_t n, uint8_t out[DIGEST_MD5_LEN])
{
	ASSERT(EVP_Digest(p, n, out, NULL, algorithm(DIGEST_MD5), NULL) == 1);
}

void
digest_sha256(const void *p, size_t n, uint8_t out[DIGEST_SHA256_LEN])
{
	ASSERT(EVP_Digest(p, n, out, NULL, algorithm(DIGEST_SHA256), NULL) == 1);
}

/* RFC 2104. OpenSSL's HMAC in one call looks its algorithm up anew each time, which takes longer than the hashing. */
void
digest_hmac_sha256(const void *key, size_t klen, const void *p, size_t n, uint8_t out[DIGEST_SHA256_LEN])
{
	const EVP_MD *md = algorithm(DIGEST_SHA256);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t block[HMAC_BLOCK] = {0}, inner[DIGEST_SHA256_LEN];

	if (klen > sizeof(block))
		digest_sha256(key, klen, block);
	else if (klen > 0)
		memcpy(block, key, klen);
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] ^= 0x36;
	ASSERT(ctx && EVP_DigestInit_ex2(ctx, md, NULL) == 1 && EVP_DigestUpdate(ctx, block, sizeof(block)) == 1);
	ASSERT(EVP_DigestUpdate(ctx, p, n) == 1 && EVP_DigestFinal_ex(ctx, inner, NULL) == 1);
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] ^= 0x36 ^ 0x5c;
	ASSERT(EVP_DigestInit_ex2(ctx, md, NULL) == 1 && EVP_DigestUpdate(ctx, block, sizeof(block)) == 1);
	ASSERT(EVP_DigestUpdate(ctx, inner, sizeof(inner)) == 1 && EVP_DigestFinal_ex(ctx, out, NULL) == 1);
	EVP_MD_CTX_free(ctx);
	explicit_bzero(block, sizeof(block));
}

uint32_t
digest_crc32c(uint32_t crc, const void *p, size_t n)
{
	const uint8_t *b = p;

	(void)pthread_once(&once, init);
	crc = ~crc;
	for (size_t i = 0; i < n; i++)
		crc = crc_table[(crc ^ b[i]) & 0xff] ^ crc >> 8;
	return ~crc;
}

bool
digest_equal(const void *a, const void *b, size_t n)
{
	return CRYPTO_memcmp(a, b, n) == 0;
}

void
digest_random(void *p, size_t n)
{
	uint8_t *b = p;

	while (n) {
		ssize_t got = getrandom(b, n, 0);

		ASSERT(got > 0 || errno == EINTR);
		if (got > 0) {
			b += got;
			n -= (size_t)got;
		}
	}
}
