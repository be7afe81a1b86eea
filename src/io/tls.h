/*
 * tls: TLS 1.2 and 1.3 (OpenSSL) on a connected, non-blocking socket. For servers a set of certificates of which the client's
 * SNI picks one; for clients a verification that cannot be switched off: chain and host name, always.
 *
 * What is never spoken: compression, renegotiation, early data, TLS below 1.2, key exchange other than ECDHE, ciphers other than
 * AEAD. ALPN is http/1.1, a client that offers only others is refused. A server's tickets are sealed with a key that is made with
 * the tls_server and kept nowhere: none outlives a reload or a restart.
 *
 * A tls_server or tls_client never changes; a new one is made and the old one released, connections keep theirs. They are counted
 * by reference without atomics: one thread only, like a connection.
 *
 * The socket stays the caller's; SIGPIPE must be ignored (loop_new does). A read or write that cannot go on says for what it waits: that
 * may be the other direction (a key update, the handshake). It is then to be repeated, a write with the same bytes at least.
 */
#ifndef IO_TLS_H
#define IO_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct tls;
struct tls_server;
struct tls_client;

/* What a server shows: PEM text, read before (base/cert.h). */
struct tls_pair {
	const char *name;	/* for messages: the certificate's file */
	const char *chain, *key;
};

/* The first pair is for clients that name no host, or one that is on none. A name matches exactly, or a certificate's *.example.com in
 * its first label; two pairs for the same name (RSA and EC) are both offered. INVAL names the pair and what OpenSSL has against it. */
enum err tls_server_new(struct tls_server **s, const struct tls_pair *pairs, size_t n, bool only_1_3, struct errbuf *eb) ERR_MUST_CHECK;
struct tls_server *tls_server_ref(struct tls_server *s);
/* Takes NULL, clears the pointer. */
void tls_server_free(struct tls_server **s);

/* host: a name, or an address, that the server's certificate must bear; sent as SNI if it is a name. ca_file: PEM, instead of the
 * system's authorities; NULL: those. Sessions are kept for the next connections. */
enum err tls_client_new(struct tls_client **c, const char *host, const char *ca_file, struct errbuf *eb) ERR_MUST_CHECK;
struct tls_client *tls_client_ref(struct tls_client *c);
void tls_client_free(struct tls_client **c);

/* A connection's end on a socket. It holds a reference of s or c. */
struct tls *tls_accept(struct tls_server *s, int fd);
struct tls *tls_connect(struct tls_client *c, int fd);
/* Sends nothing; see tls_bye. Takes NULL, clears the pointer. */
void tls_free(struct tls **t);

enum tls_result {
	TLS_OK,
	TLS_WANT_READ,		/* again, once the socket is readable */
	TLS_WANT_WRITE,		/* again, once it is writable */
	TLS_EOF,		/* the peer has said that nothing more comes (close_notify) */
	TLS_CUT,		/* the peer's bytes ended without that: what came may be a part */
	TLS_FAILED		/* see tls_why, and errno (EPROTO: not the socket's); the connection is of no use any more */
};

/* For those who want to know before they have something to write: read and write begin with the handshake, too. */
enum tls_result tls_handshake(struct tls *t);
/* Has the handshake been completed? */
bool tls_established(const struct tls *t);
/* OK: *n bytes, 1 at least, of max (> 0). */
enum tls_result tls_read(struct tls *t, void *p, size_t max, size_t *n);
/* Is there something to read though the socket may have nothing more? */
bool tls_pending(const struct tls *t);
/* OK: the first *n bytes, 1 at least, of len (> 0), are with the kernel. */
enum tls_result tls_write(struct tls *t, const void *p, size_t len, size_t *n);
/* The largest piece that is worth handing to tls_write at once. */
#define TLS_RECORD 16384
/* Tells the peer that nothing more comes (close_notify): OK, WANT_WRITE, or FAILED: it cannot be told. Before the handshake is
 * complete, and after a failure, there is nothing to be said. */
enum tls_result tls_bye(struct tls *t);
/* Why CUT or FAILED: for a person, without the peer's data. */
const char *tls_why(const struct tls *t);
/* Was it the peer who broke off: closed or reset within the handshake, without an alert? Scanners do, and those who only look
 * whether the port is open. */
bool tls_peer_left(const struct tls *t);
/* "TLSv1.3", and whether an earlier session went on. */
const char *tls_version(const struct tls *t);
bool tls_resumed(const struct tls *t);

#endif
