/* Both ends of tls over a socket pair, and ends that speak what ours never would. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cert.h"
#include "base/clock.h"
#include "base/openssl_err.h"

#include <openssl/ssl.h>

#include "base/mem.h"
#include "certs.h"
#include "io/tls.h"

#define TURNS 10000	/* of both ends, before something is taken to hang */

static struct certs ca, other_ca, site, shop, twin, wild, rsa, late, early, addr;
static char ca_file[] = "/tmp/test_tls_ca.XXXXXX";
static struct tls_server *server;

struct link {
	int fd[2];		/* ours, the other's */
	struct tls *a, *b;	/* server, client */
	enum tls_result ra, rb;	/* how their handshakes stand */
};

static void
make_file(char *name, const char *text)
{
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static int
make_all(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	certs_make(&ca, &(struct certs_want){.name = "our authority"});
	certs_make(&other_ca, &(struct certs_want){.name = "another authority"});
	certs_make(&site, &(struct certs_want){.name = "site", .alt = "DNS:site.example", .by = &ca});
	certs_make(&shop, &(struct certs_want){.name = "shop", .alt = "DNS:shop.example,DNS:www.shop.example", .by = &ca});
	certs_make(&twin, &(struct certs_want){.name = "twin", .alt = "DNS:shop.example", .by = &ca});
	certs_make(&wild, &(struct certs_want){.name = "wild", .alt = "DNS:*.wild.example", .by = &ca});
	certs_make(&rsa, &(struct certs_want){.name = "rsa", .alt = "DNS:shop.example", .by = &ca, .rsa = 2048});
	certs_make(&late, &(struct certs_want){.name = "late", .alt = "DNS:site.example", .by = &ca, .from_s = -7200, .to_s = -60});
	certs_make(&early, &(struct certs_want){.name = "early", .alt = "DNS:site.example", .by = &ca, .from_s = 3600, .to_s = 7200});
	certs_make(&addr, &(struct certs_want){.name = "addr", .alt = "IP:127.0.0.1", .by = &ca});
	make_file(ca_file, ca.cert);
	return 0;
}

static int
free_all(void **state)
{
	struct certs *all[] = {&ca, &other_ca, &site, &shop, &twin, &wild, &rsa, &late, &early, &addr};

	(void)state;
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		certs_free(all[i]);
	unlink(ca_file);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	tls_server_free(&server);
	return 0;
}

static void
serve(const struct certs *const *v, size_t n)
{
	struct tls_pair pairs[5];
	struct errbuf eb;

	for (size_t i = 0; i < n; i++)
		pairs[i] = (struct tls_pair){"x.pem", v[i]->cert, v[i]->key};
	if (tls_server_new(&server, pairs, n, false, &eb) != ERR_OK)
		fail_msg("%s", eb.text);
}

static void
serve_one(const struct certs *c)
{
	serve(&c, 1);
}

static struct tls_client *
client_of(const char *host)
{
	struct tls_client *c;
	struct errbuf eb;

	if (tls_client_new(&c, host, ca_file, &eb) != ERR_OK)
		fail_msg("%s", eb.text);
	return c;
}

static void
link_up(struct link *l, struct tls_client *c)
{
	memset(l, 0, sizeof *l);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, l->fd), 0);
	if (server)
		l->a = tls_accept(server, l->fd[0]);
	if (c)
		l->b = tls_connect(c, l->fd[1]);
	l->ra = l->rb = TLS_WANT_READ;
}

static void
link_down(struct link *l)
{
	tls_free(&l->a);
	tls_free(&l->b);
	close(l->fd[0]);
	if (l->fd[1] >= 0)
		close(l->fd[1]);
}

static bool
waits(enum tls_result r)
{
	return r == TLS_WANT_READ || r == TLS_WANT_WRITE;
}

/* Both ends, until neither waits for the other. */
static void
shake(struct link *l)
{
	for (int i = 0; i < TURNS && (waits(l->ra) || waits(l->rb)); i++) {
		if (waits(l->rb))
			l->rb = tls_handshake(l->b);
		if (waits(l->ra))
			l->ra = tls_handshake(l->a);
	}
}

/* One end sends text, the other gets it. */
static void
say(struct tls *from, struct tls *to, const char *text)
{
	char got[64];
	size_t n;

	assert_int_equal(tls_write(from, text, strlen(text), &n), TLS_OK);
	assert_int_equal(n, strlen(text));
	assert_int_equal(tls_read(to, got, sizeof got, &n), TLS_OK);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(got, text, n);
}

static void
test_both_ways(void **state)
{
	struct tls_client *c = client_of("site.example");
	struct link l;
	char buf[8];
	size_t n;

	(void)state;
	serve_one(&site);
	link_up(&l, c);
	assert_false(tls_established(l.a));
	assert_int_equal(tls_bye(l.a), TLS_FAILED);
	shake(&l);
	assert_int_equal(l.ra, TLS_OK);
	assert_int_equal(l.rb, TLS_OK);
	assert_true(tls_established(l.a) && tls_established(l.b));
	assert_string_equal(tls_version(l.a), "TLSv1.3");
	assert_false(tls_resumed(l.b));
	say(l.b, l.a, "question");
	say(l.a, l.b, "answer");
	/* A record is read in pieces; the socket would not tell of the rest. */
	assert_int_equal(tls_write(l.b, "12345678901", 11, &n), TLS_OK);
	assert_int_equal(tls_read(l.a, buf, 8, &n), TLS_OK);
	assert_int_equal(n, 8);
	assert_true(tls_pending(l.a));
	assert_int_equal(tls_read(l.a, buf, 8, &n), TLS_OK);
	assert_int_equal(n, 3);
	assert_false(tls_pending(l.a));
	assert_int_equal(tls_read(l.a, buf, 8, &n), TLS_WANT_READ);
	/* Who has said that nothing more comes may still be answered. */
	assert_int_equal(tls_bye(l.b), TLS_OK);
	assert_int_equal(tls_read(l.a, buf, 8, &n), TLS_EOF);
	say(l.a, l.b, "late");
	assert_int_equal(tls_bye(l.a), TLS_OK);
	assert_int_equal(tls_read(l.b, buf, 8, &n), TLS_EOF);
	link_down(&l);
	tls_client_free(&c);
}

/* What comes without close_notify may be a part of what was sent. */
static void
test_cut(void **state)
{
	struct tls_client *c = client_of("site.example");
	struct link l;
	char buf[8];
	size_t n;

	(void)state;
	serve_one(&site);
	link_up(&l, c);
	shake(&l);
	say(l.a, l.b, "part");
	shutdown(l.fd[0], SHUT_WR);
	assert_int_equal(tls_read(l.b, buf, 8, &n), TLS_CUT);
	assert_non_null(strstr(tls_why(l.b), "close_notify"));
	assert_int_equal(tls_read(l.b, buf, 8, &n), TLS_FAILED);
	assert_false(tls_peer_left(l.b));
	link_down(&l);
	tls_client_free(&c);
}

/* Both ends of a handshake that must fail; the client's reason. */
static void
refused(const struct certs *shown, const char *host, const char *why)
{
	struct tls_client *c = client_of(host);
	struct link l;

	serve_one(shown);
	link_up(&l, c);
	shake(&l);
	assert_int_equal(l.rb, TLS_FAILED);
	if (!strstr(tls_why(l.b), why))
		fail_msg("\"%s\", not: %s", tls_why(l.b), why);
	assert_int_equal(l.ra, TLS_FAILED);
	assert_false(tls_established(l.a) || tls_peer_left(l.a));
	link_down(&l);
	tls_client_free(&c);
	tls_server_free(&server);
}

static void
accepted(const struct certs *shown, const char *host)
{
	struct tls_client *c = client_of(host);
	struct link l;

	serve_one(shown);
	link_up(&l, c);
	shake(&l);
	assert_int_equal(l.rb, TLS_OK);
	assert_int_equal(l.ra, TLS_OK);
	link_down(&l);
	tls_client_free(&c);
	tls_server_free(&server);
}

static void
test_verification(void **state)
{
	struct certs foreign, alone, named;

	(void)state;
	certs_make(&foreign, &(struct certs_want){.name = "foreign", .alt = "DNS:site.example", .by = &other_ca});
	certs_make(&alone, &(struct certs_want){.name = "alone", .alt = "DNS:site.example"});
	certs_make(&named, &(struct certs_want){.name = "site.example", .by = &ca});
	accepted(&site, "site.example");
	accepted(&site, "SITE.example");
	accepted(&wild, "a.wild.example");
	accepted(&addr, "127.0.0.1");
	refused(&site, "shop.example", "is not for shop.example");
	refused(&wild, "a.b.wild.example", "is not for a.b.wild.example");
	refused(&wild, "wild.example", "is not for wild.example");
	refused(&site, "127.0.0.1", "is not for 127.0.0.1");
	refused(&addr, "127.0.0.2", "is not for 127.0.0.2");
	refused(&named, "site.example", "is not for site.example");	/* a common name is none */
	refused(&foreign, "site.example", "signed by \"another authority\", leads to none of /tmp/test_tls_ca.");
	refused(&alone, "site.example", "leads to none of /tmp/test_tls_ca.");
	refused(&late, "site.example", "certificate has expired");
	refused(&early, "site.example", "certificate is not yet valid");
	certs_free(&foreign);
	certs_free(&alone);
	certs_free(&named);
}

static void
test_system_authorities(void **state)
{
	struct tls_client *c;
	struct link l;

	(void)state;
	assert_int_equal(tls_client_new(&c, "site.example", NULL, NULL), ERR_OK);
	serve_one(&site);
	link_up(&l, c);
	shake(&l);
	assert_int_equal(l.rb, TLS_FAILED);
	assert_non_null(strstr(tls_why(l.b), "the system's authorities"));
	link_down(&l);
	tls_client_free(&c);
}

static void
test_bad_ca_file(void **state)
{
	char empty[] = "/tmp/test_tls_empty.XXXXXX";
	struct tls_client *c;
	struct errbuf eb;

	(void)state;
	make_file(empty, "nothing\n");
	assert_int_equal(tls_client_new(&c, "a", empty, &eb), ERR_INVAL);
	assert_null(c);
	assert_non_null(strstr(eb.text, empty));
	assert_int_equal(tls_client_new(&c, "a", "/nonexistent", &eb), ERR_INVAL);
	unlink(empty);
}

/* An end made of OpenSSL alone. */
struct foreign {
	SSL_CTX *ctx;
	SSL *ssl;
};

static void
foreign_new(struct foreign *f, int fd, int max, const char *sni)
{
	char *name = mem_strdup(sni);	/* OpenSSL's macros know no const */

	f->ctx = SSL_CTX_new(TLS_client_method());
	assert_non_null(f->ctx);
	SSL_CTX_set_security_level(f->ctx, 0);
	SSL_CTX_set_min_proto_version(f->ctx, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(f->ctx, max);
	f->ssl = SSL_new(f->ctx);
	SSL_set_fd(f->ssl, fd);
	if (name)
		SSL_set_tlsext_host_name(f->ssl, name);
	mem_free(name);
	SSL_set_connect_state(f->ssl);
}

static void
only_signed_by(struct foreign *f, const char *algorithms)
{
	char *text = mem_strdup(algorithms);

	assert_int_equal(SSL_set1_sigalgs_list(f->ssl, text), 1);
	mem_free(text);
}

static void
foreign_free(struct foreign *f)
{
	SSL_free(f->ssl);
	SSL_CTX_free(f->ctx);
}

/* Our server's end with the foreign one's. */
static enum tls_result
shake_foreign(struct link *l, struct foreign *f)
{
	int rc = 0;

	for (int i = 0; i < TURNS && (rc <= 0 || waits(l->ra)); i++) {
		if (rc <= 0)
			rc = SSL_do_handshake(f->ssl);
		if (waits(l->ra))
			l->ra = tls_handshake(l->a);
		if (!waits(l->ra) && l->ra != TLS_OK)
			break;
	}
	return l->ra;
}

/* The common name of what the server shows to who asks for sni. */
static void
shown(const char *sni, int max, const char *algorithms, const char *want)
{
	struct foreign f;
	struct link l;
	char got[64] = "";

	link_up(&l, NULL);
	foreign_new(&f, l.fd[1], max, sni);
	if (algorithms)
		only_signed_by(&f, algorithms);
	assert_int_equal(shake_foreign(&l, &f), TLS_OK);
	X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get0_peer_certificate(f.ssl)), NID_commonName, got, sizeof got);
	assert_string_equal(got, want);
	foreign_free(&f);
	link_down(&l);
}

static void
test_sni(void **state)
{
	const struct certs *all[] = {&site, &shop, &wild, &rsa, &twin};

	(void)state;
	serve(all, sizeof all / sizeof all[0]);
	shown(NULL, TLS1_3_VERSION, NULL, "site");
	shown("unknown.example", TLS1_3_VERSION, NULL, "site");
	shown("site.example", TLS1_2_VERSION, NULL, "site");
	shown("www.shop.example", TLS1_2_VERSION, NULL, "shop");
	shown("WWW.Shop.example", TLS1_3_VERSION, NULL, "shop");
	shown("a.wild.example", TLS1_3_VERSION, NULL, "wild");
	shown("a.b.wild.example", TLS1_3_VERSION, NULL, "site");
	shown("wild.example", TLS1_3_VERSION, NULL, "site");
	/* Two for one name: who cannot check EC gets the RSA one; of two of a kind the first is shown. */
	shown("shop.example", TLS1_2_VERSION, "ECDSA+SHA256:RSA+SHA256", "shop");
	shown("shop.example", TLS1_2_VERSION, "RSA+SHA256", "rsa");
	shown("shop.example", TLS1_3_VERSION, "RSA-PSS+SHA256", "rsa");
}

static void
test_order_of_kinds(void **state)
{
	/* The default is the first, and not the first of each kind of key. */
	const struct certs *all[] = {&rsa, &site};
	struct foreign f;
	struct link l;

	(void)state;
	serve(all, 2);
	shown(NULL, TLS1_2_VERSION, NULL, "rsa");
	link_up(&l, NULL);
	foreign_new(&f, l.fd[1], TLS1_2_VERSION, NULL);
	only_signed_by(&f, "ECDSA+SHA256");
	assert_int_equal(shake_foreign(&l, &f), TLS_FAILED);
	foreign_free(&f);
	link_down(&l);
}

static void
foreign_refused(int max, const char *ciphers, const unsigned char *alpn, unsigned nalpn, const char *why)
{
	struct foreign f;
	struct link l;

	link_up(&l, NULL);
	foreign_new(&f, l.fd[1], max, NULL);
	if (ciphers)
		assert_int_equal(SSL_set_cipher_list(f.ssl, ciphers), 1);
	if (alpn)
		assert_int_equal(SSL_set_alpn_protos(f.ssl, alpn, nalpn), 0);
	assert_int_equal(shake_foreign(&l, &f), TLS_FAILED);
	if (!strstr(tls_why(l.a), why))
		fail_msg("\"%s\", not: %s", tls_why(l.a), why);
	foreign_free(&f);
	link_down(&l);
}

static void
test_refused_clients(void **state)
{
	static const unsigned char h2[] = "\x02h2", both[] = "\x02h2\x08http/1.1";
	const unsigned char *got;
	struct foreign f;
	struct link l;
	unsigned n;

	(void)state;
	serve_one(&rsa);
	foreign_refused(TLS1_1_VERSION, NULL, NULL, 0, "unsupported protocol");
	foreign_refused(TLS1_2_VERSION, "AES128-GCM-SHA256", NULL, 0, "no shared cipher");
	foreign_refused(TLS1_2_VERSION, "DHE-RSA-AES128-GCM-SHA256", NULL, 0, "no shared cipher");
	foreign_refused(TLS1_2_VERSION, "ECDHE-RSA-AES128-SHA256", NULL, 0, "no shared cipher");
	foreign_refused(TLS1_3_VERSION, NULL, h2, sizeof h2 - 1, "no application protocol");
	link_up(&l, NULL);
	foreign_new(&f, l.fd[1], TLS1_3_VERSION, NULL);
	assert_int_equal(SSL_set_alpn_protos(f.ssl, both, sizeof both - 1), 0);
	assert_int_equal(shake_foreign(&l, &f), TLS_OK);
	SSL_get0_alpn_selected(f.ssl, &got, &n);
	assert_int_equal(n, 8);
	assert_memory_equal(got, "http/1.1", 8);
	foreign_free(&f);
	link_down(&l);
}

static void
test_only_1_3(void **state)
{
	struct tls_pair pair = {"x.pem", rsa.cert, rsa.key};

	(void)state;
	assert_int_equal(tls_server_new(&server, &pair, 1, true, NULL), ERR_OK);
	foreign_refused(TLS1_2_VERSION, NULL, NULL, 0, "unsupported protocol");
	shown(NULL, TLS1_3_VERSION, NULL, "rsa");
}

static void
test_no_renegotiation(void **state)
{
	struct foreign f;
	struct link l;
	char buf[8];
	size_t n;

	(void)state;
	serve_one(&site);
	link_up(&l, NULL);
	foreign_new(&f, l.fd[1], TLS1_2_VERSION, NULL);
	assert_int_equal(shake_foreign(&l, &f), TLS_OK);
	assert_int_equal(SSL_renegotiate(f.ssl), 1);
	(void)SSL_do_handshake(f.ssl);
	assert_int_equal(tls_read(l.a, buf, sizeof buf, &n), TLS_WANT_READ);	/* no answer but an alert */
	assert_int_equal(SSL_do_handshake(f.ssl), -1);
	assert_int_equal(ERR_GET_REASON(ERR_get_error()), SSL_R_NO_RENEGOTIATION);
	ERR_clear_error();
	foreign_free(&f);
	link_down(&l);
}

static void
test_resumption(void **state)
{
	struct tls_client *c = client_of("site.example");
	struct link l;
	char buf[8];
	size_t n;

	(void)state;
	serve_one(&site);
	for (int i = 0; i < 3; i++) {
		link_up(&l, c);
		shake(&l);
		assert_int_equal(l.rb, TLS_OK);
		assert_int_equal(tls_resumed(l.b), i > 0);
		assert_int_equal(tls_resumed(l.a), i > 0);
		say(l.a, l.b, "ticket");
		link_down(&l);
	}
	/* A new set of certificates knows nothing of the old one's tickets. */
	tls_server_free(&server);
	serve_one(&site);
	link_up(&l, c);
	shake(&l);
	assert_int_equal(l.rb, TLS_OK);
	assert_false(tls_resumed(l.b));
	assert_int_equal(tls_read(l.b, buf, sizeof buf, &n), TLS_WANT_READ);
	link_down(&l);
	tls_client_free(&c);
}

/* Moves what one pair of sockets holds to the other, n bytes at a time. */
static bool
carry(int from, int to, size_t n)
{
	char buf[256];
	ssize_t got = recv(from, buf, n, MSG_DONTWAIT);

	if (got > 0)
		assert_int_equal(send(to, buf, (size_t)got, MSG_DONTWAIT), got);
	return got > 0;
}

static void
test_byte_by_byte(void **state)
{
	struct tls_client *c = client_of("site.example");
	struct link l;
	int fd[2];
	char buf[16];
	size_t n;

	(void)state;
	serve_one(&site);
	link_up(&l, NULL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
	l.b = tls_connect(c, fd[1]);
	for (int i = 0; i < TURNS && (waits(l.ra) || waits(l.rb)); i++) {
		if (waits(l.rb))
			l.rb = tls_handshake(l.b);
		(void)carry(fd[0], l.fd[1], 1);
		if (waits(l.ra))
			l.ra = tls_handshake(l.a);
		(void)carry(l.fd[1], fd[0], 1);
	}
	assert_int_equal(l.ra, TLS_OK);
	assert_int_equal(l.rb, TLS_OK);
	while (carry(l.fd[1], fd[0], 256))
		;
	assert_int_equal(tls_write(l.b, "slow", 4, &n), TLS_OK);
	for (int i = 0; carry(fd[0], l.fd[1], 1); i++)
		if (tls_read(l.a, buf, sizeof buf, &n) == TLS_OK)
			break;
	assert_int_equal(n, 4);
	assert_memory_equal(buf, "slow", 4);
	link_down(&l);
	close(fd[0]);
	close(fd[1]);
	tls_client_free(&c);
}

/* A reader that does not read: what was written stays the writer's, is repeated from another place, and comes whole. */
static void
test_blocked_write(void **state)
{
	static char block[TLS_RECORD], moved[TLS_RECORD], got[TLS_RECORD];
	struct tls_client *c = client_of("site.example");
	struct link l;
	size_t sent = 0, n, read = 0;
	enum tls_result r;

	(void)state;
	for (size_t i = 0; i < sizeof block; i++)
		block[i] = (char)('a' + i % 23);
	serve_one(&site);
	link_up(&l, c);
	shake(&l);
	while ((r = tls_write(l.a, block, sizeof block, &n)) == TLS_OK)
		sent += n;
	assert_int_equal(r, TLS_WANT_WRITE);
	assert_true(sent > 0 && sent % sizeof block == 0);
	memcpy(moved, block, sizeof block);
	assert_int_equal(tls_write(l.a, moved, sizeof moved, &n), TLS_WANT_WRITE);
	for (bool more = true; more || read < sent;) {
		if (tls_read(l.b, got, sizeof got, &n) == TLS_OK) {
			assert_memory_equal(got, block + read % sizeof block, n);
			read += n;
		}
		if (more && tls_write(l.a, moved, sizeof moved, &n) == TLS_OK) {
			sent += n;
			more = false;
		}
	}
	assert_int_equal(read, sent);
	link_down(&l);
	tls_client_free(&c);
}

/* Who connects and goes, and who does not speak TLS. */
static void
test_strangers(void **state)
{
	static const char http[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
	struct link l;
	char buf[64];

	(void)state;
	serve_one(&site);
	link_up(&l, NULL);
	assert_int_equal(tls_handshake(l.a), TLS_WANT_READ);
	close(l.fd[1]);
	l.fd[1] = -1;
	assert_int_equal(tls_handshake(l.a), TLS_FAILED);
	assert_true(tls_peer_left(l.a));
	link_down(&l);
	link_up(&l, NULL);
	assert_int_equal(send(l.fd[1], http, sizeof http - 1, 0), sizeof http - 1);
	assert_int_equal(tls_handshake(l.a), TLS_FAILED);
	assert_int_equal(errno, EPROTO);
	assert_string_equal(tls_why(l.a), "http request");
	assert_false(tls_peer_left(l.a));
	assert_true(recv(l.fd[1], buf, sizeof buf, MSG_DONTWAIT) <= 7);	/* an alert at most */
	link_down(&l);
}

/* A connection outlives the certificates with which it began. */
static void
test_swap(void **state)
{
	struct tls_client *c = client_of("site.example");
	struct link l;

	(void)state;
	serve_one(&site);
	link_up(&l, c);
	tls_server_free(&server);
	tls_client_free(&c);
	shake(&l);
	assert_int_equal(l.ra, TLS_OK);
	say(l.b, l.a, "still");
	link_down(&l);
}

static void
unusable(const char *cert, const char *key, bool key_wrong, const char *why)
{
	struct errbuf eb;
	bool wrong;
	int64_t end;

	assert_int_equal(cert_check(cert, key, &wrong, &end, &eb), ERR_INVAL);
	assert_int_equal(wrong, key_wrong);
	if (!strstr(eb.text, why))
		fail_msg("\"%s\", not: %s", eb.text, why);
}

static void
test_pairs(void **state)
{
	struct tls_pair pair = {"x.pem", site.cert, shop.key};
	struct certs weak;
	struct errbuf eb;
	char *chain = mem_printf("%s%s", site.cert, ca.cert), *turned = mem_printf("%s%s", ca.cert, site.cert),
	     *cut = mem_printf("%s%.200s", site.cert, ca.cert);
	int64_t end, now = (int64_t)(clock_real_ms() / 1000);
	bool wrong;

	(void)state;
	certs_make(&weak, &(struct certs_want){.name = "weak", .by = &ca, .rsa = 1024});
	assert_int_equal(cert_check(chain, site.key, &wrong, &end, &eb), ERR_OK);
	assert_true(end > now + 29 * 86400 && end < now + 31 * 86400);
	assert_int_equal(cert_check(late.cert, late.key, &wrong, &end, &eb), ERR_OK);
	assert_true(end < now && end > now - 120);
	unusable(site.cert, shop.key, false, "not that of the certificate");
	unusable(turned, site.key, false, "that of certificate number 2");
	unusable(cut, site.key, false, "certificate number 2 in it is damaged");
	unusable("", site.key, false, "no certificate");
	unusable(site.cert, site.cert, true, "no private key");
	unusable(weak.cert, weak.key, true, "too weak (1024 bits)");
	assert_int_equal(tls_server_new(&server, &pair, 1, false, &eb), ERR_INVAL);
	assert_null(server);
	assert_string_equal(eb.text, "x.pem: private key mismatch");
	certs_free(&weak);
	mem_free(chain);
	mem_free(turned);
	mem_free(cut);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_teardown(test_both_ways, teardown),
	    cmocka_unit_test_teardown(test_cut, teardown),
	    cmocka_unit_test_teardown(test_verification, teardown),
	    cmocka_unit_test_teardown(test_system_authorities, teardown),
	    cmocka_unit_test_teardown(test_bad_ca_file, teardown),
	    cmocka_unit_test_teardown(test_sni, teardown),
	    cmocka_unit_test_teardown(test_order_of_kinds, teardown),
	    cmocka_unit_test_teardown(test_refused_clients, teardown),
	    cmocka_unit_test_teardown(test_only_1_3, teardown),
	    cmocka_unit_test_teardown(test_no_renegotiation, teardown),
	    cmocka_unit_test_teardown(test_resumption, teardown),
	    cmocka_unit_test_teardown(test_byte_by_byte, teardown),
	    cmocka_unit_test_teardown(test_blocked_write, teardown),
	    cmocka_unit_test_teardown(test_strangers, teardown),
	    cmocka_unit_test_teardown(test_swap, teardown),
	    cmocka_unit_test_teardown(test_pairs, teardown),
	};

	return cmocka_run_group_tests(tests, make_all, free_all);
}
