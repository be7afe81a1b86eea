/*
 * digest: MD5 (R2's ETag, Content-MD5), SHA-256 (SigV4), HMAC-SHA-256, CRC-32C (journal), over OpenSSL EVP. Thread safe
 * per object.
 */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_MD5_LEN 16
#define DIGEST_SHA256_LEN 32

enum digest_kind { DIGEST_MD5, DIGEST_SHA256 };

struct digest;
struct digest *digest_new(enum digest_kind kind);
void digest_free(struct digest **d);
void digest_update(struct digest *d, const void *p, size_t n);
/* Writes DIGEST_*_LEN bytes; the object is then reset and may be used again. */
void digest_final(struct digest *d, uint8_t *out);

void digest_md5(const void *p, size_t n, uint8_t out[DIGEST_MD5_LEN]);
void digest_sha256(const void *p, size_t n, uint8_t out[DIGEST_SHA256_LEN]);
void digest_hmac_sha256(const void *key, size_t klen, const void *p, size_t n, uint8_t out[DIGEST_SHA256_LEN]);
uint32_t digest_crc32c(uint32_t crc, const void *p, size_t n);
/* Constant-time comparison, for tokens and signatures. */
bool digest_equal(const void *a, const void *b, size_t n);
/* n random bytes from the kernel. */
void digest_random(void *p, size_t n);

#endif
