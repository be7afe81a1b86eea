/* certs: certificates of a test's own, made as it runs. Nothing stored can end. */
#ifndef UNIT_CERTS_H
#define UNIT_CERTS_H

#include <stdbool.h>

/* PEM texts; freed by certs_free. */
struct certs {
	char *cert, *key;
};

struct certs_want {
	const char *name;		/* the common name */
	const char *alt;		/* subjectAltName: "DNS:a.example,DNS:*.b.example,IP:127.0.0.1"; NULL: none */
	const struct certs *by;		/* who signs it; NULL: itself, as an authority */
	int from_s, to_s;		/* when it begins and ends, seconds from now; 0, 0: it is good */
	unsigned rsa;			/* bits of an RSA key; 0: an EC key on P-256 */
};

void certs_make(struct certs *c, const struct certs_want *w);
void certs_free(struct certs *c);

#endif
