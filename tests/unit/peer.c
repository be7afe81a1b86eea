#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/sigv4.h"

#define CONNS_MAX 64
#define SEEN_MAX  256

struct conn {
	struct peer *p;
	int fd;
	pthread_t thread;
};

struct peer {
	int fd;
	unsigned port;
	pthread_t thread;
	pthread_mutex_t lock;
	struct conn conns[CONNS_MAX];
	unsigned nconns;
	const struct peer_rule *rules;
	unsigned used[64];
	size_t nrules;
	struct peer_seen seen[SEEN_MAX];
	unsigned nseen, bad;
	const char *key_id, *secret, *region;
};

const char *
peer_header(const char *head, const char *name)
{
	static __thread char ring[64][1024];
	static __thread unsigned at;
	size_t n = strlen(name);

	for (const char *p = head; *p != '\0'; p += strcspn(p, "\n") + 1) {
		if (strncasecmp(p, name, n) == 0 && p[n] == ':') {
			const char *v = p + n + 1 + strspn(p + n + 1, " ");
			char *out = ring[at++ % 64];

			(void)snprintf(out, sizeof(ring[0]), "%.*s", (int)strcspn(v, "\r\n"), v);
			return out;
		}
		if (strchr(p, '\n') == NULL)
			break;
	}
	return NULL;
}

/* Checks as R2 would: the canonical form made from what came over the wire. */
static bool
signature_good(const struct peer *p, const char *line, const char *head, const char *body, size_t blen)
{
	struct sigv4_header h[32];
	char names[32][64], method[16], target[8192], *query;
	const char *auth = peer_header(head, "authorization"), *sha = peer_header(head, "x-amz-content-sha256"), *s,
		   *sig;
	const struct sigv4_creds creds = {p->key_id, p->secret, p->region};
	struct sigv4_request r = {
	    .method = method, .headers = h, .payload = sha, .amz_date = peer_header(head, "x-amz-date")};
	struct str hex = STR_INIT;
	uint8_t digest[32];
	char want[65];
	bool same;

	if (auth == NULL || sha == NULL || r.amz_date == NULL || sscanf(line, "%15s %8191s", method, target) != 2)
		return false;
	if ((s = strstr(auth, "SignedHeaders=")) == NULL || (sig = strstr(auth, "Signature=")) == NULL)
		return false;
	digest_sha256(body, blen, digest);
	str_add_hex(&hex, digest, sizeof(digest));
	same = strcmp(str_z(&hex), sha) == 0;
	str_fini(&hex);
	for (s += 14; r.nheaders < 32 && *s != '\0' && *s != ','; s += *s == ';') {
		size_t n = strcspn(s, ";,");
		char *value = mem_alloc(1024);

		(void)snprintf(names[r.nheaders], sizeof(names[0]), "%.*s", (int)n, s);
		(void)snprintf(value, 1024, "%s",
		    peer_header(head, names[r.nheaders]) != NULL ? peer_header(head, names[r.nheaders]) : "?");
		h[r.nheaders] = (struct sigv4_header){names[r.nheaders], value};
		r.nheaders++;
		s += n;
	}
	if ((query = strchr(target, '?')) != NULL)
		*query++ = '\0';
	r.path = target;
	r.query = query;
	sigv4_signature(&r, &creds, want);
	for (size_t i = 0; i < r.nheaders; i++)
		mem_free((void *)(uintptr_t)h[i].value);
	return same && strcmp(want, sig + 10) == 0;
}

/* A copy: the script may go while an answer is being written. */
static struct peer_rule
pick_rule(struct peer *p, const char *line)
{
	for (size_t i = 0; i < p->nrules; i++)
		if (strstr(line, p->rules[i].match) != NULL &&
		    (p->rules[i].times == 0 || p->used[i] < p->rules[i].times)) {
			p->used[i]++;
			return p->rules[i];
		}
	return (struct peer_rule){.status = 599};
}

static void
keep(struct peer *p, const char *line, const char *head, const char *body, size_t blen)
{
	if (p->nseen == SEEN_MAX)
		return;
	p->seen[p->nseen++] = (struct peer_seen){mem_strdup(line), mem_strdup(head), mem_strndup(body, blen), blen};
	if (!signature_good(p, line, head, body, blen))
		p->bad++;
}

static bool
send_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return false;
		p += k;
		n -= (size_t)k;
	}
	return true;
}

static bool
answer(struct peer *p, int fd, const char *line, const char *body, size_t blen)
{
	struct peer_rule r;
	struct str out = STR_INIT;
	uint8_t md5[16];
	size_t n;
	bool ok;

	(void)pthread_mutex_lock(&p->lock);
	r = pick_rule(p, line);
	(void)pthread_mutex_unlock(&p->lock);
	if (r.gone)
		return false;
	if (r.silent) {
		char c;

		(void)recv(fd, &c, 1, 0);
		return false;
	}
	n = r.body != NULL ? strlen(r.body) : 0;
	str_printf(&out, "HTTP/1.1 %d Scripted\r\n%s", r.status, r.headers != NULL ? r.headers : "");
	if (r.etag) {
		digest_md5(body, blen, md5);
		str_addz(&out, "ETag: \"");
		str_add_hex(&out, md5, sizeof(md5));
		str_addz(&out, "\"\r\n");
	}
	if (r.headers == NULL || strstr(r.headers, "Content-Length:") == NULL)
		str_printf(&out, "Content-Length: %zu\r\n", n);
	str_addz(&out, "\r\n");
	if (n > 0 && strncmp(line, "HEAD ", 5) != 0)
		str_add(&out, r.body, r.cut ? n / 2 : n);
	ok = send_all(fd, out.p, out.len);
	str_fini(&out);
	return ok && !r.cut;
}

/* One request from the buffer and the socket; false: the connection is over. */
static bool
serve_one(struct peer *p, int fd, struct str *in)
{
	char *end, line[8300], *head;
	size_t hlen, blen;
	const char *cl;
	bool ok;

	while (in->len == 0 || (end = strstr(in->p, "\r\n\r\n")) == NULL) {
		ssize_t n = recv(fd, str_reserve(in, 65536), 65536, 0);

		if (n <= 0)
			return false;
		in->len += (size_t)n;
		in->p[in->len] = '\0';
	}
	hlen = (size_t)(end - in->p) + 4;
	head = mem_strndup(in->p, hlen - 2);
	(void)snprintf(line, sizeof(line), "%.*s", (int)strcspn(head, "\r"), head);
	if (strstr(line, " HTTP/1.1") != NULL)
		*strstr(line, " HTTP/1.1") = '\0';
	cl = peer_header(head, "content-length");
	blen = cl != NULL ? (size_t)strtoull(cl, NULL, 10) : 0;
	while (in->len < hlen + blen) {
		ssize_t n = recv(fd, str_reserve(in, 65536), 65536, 0);

		if (n <= 0) {
			mem_free(head);
			return false;
		}
		in->len += (size_t)n;
		in->p[in->len] = '\0';
	}
	(void)pthread_mutex_lock(&p->lock);
	keep(p, line, head, in->p + hlen, blen);
	(void)pthread_mutex_unlock(&p->lock);
	mem_free(head);
	ok = answer(p, fd, line, in->p + hlen, blen);
	str_drop(in, hlen + blen);
	return ok;
}

static void *
serve(void *arg)
{
	struct conn *c = arg;
	struct str in = STR_INIT;

	while (serve_one(c->p, c->fd, &in))
		continue;
	(void)shutdown(c->fd, SHUT_RDWR);
	str_fini(&in);
	return NULL;
}

static void *
listen_loop(void *arg)
{
	struct peer *p = arg;
	int fd;

	while ((fd = accept(p->fd, NULL, NULL)) >= 0) {
		struct conn *c;

		(void)pthread_mutex_lock(&p->lock);
		ASSERT(p->nconns < CONNS_MAX);
		c = &p->conns[p->nconns++];
		(void)pthread_mutex_unlock(&p->lock);
		c->p = p;
		c->fd = fd;
		ASSERT(pthread_create(&c->thread, NULL, serve, c) == 0);
	}
	return NULL;
}

struct peer *
peer_new(const char *key_id, const char *secret, const char *region)
{
	struct peer *p = mem_zalloc(sizeof(*p));
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);

	p->key_id = key_id;
	p->secret = secret;
	p->region = region;
	(void)pthread_mutex_init(&p->lock, NULL);
	p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT(bind(p->fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(p->fd, 16) == 0);
	ASSERT(getsockname(p->fd, (struct sockaddr *)&a, &n) == 0);
	p->port = ntohs(a.sin_port);
	ASSERT(pthread_create(&p->thread, NULL, listen_loop, p) == 0);
	return p;
}

static void
forget(struct peer *p)
{
	for (unsigned i = 0; i < p->nseen; i++) {
		mem_free(p->seen[i].line);
		mem_free(p->seen[i].head);
		mem_free(p->seen[i].body);
	}
	p->nseen = 0;
}

void
peer_free(struct peer *p)
{
	(void)shutdown(p->fd, SHUT_RDWR);
	(void)pthread_join(p->thread, NULL);
	for (unsigned i = 0; i < p->nconns; i++) {
		(void)shutdown(p->conns[i].fd, SHUT_RDWR);
		(void)pthread_join(p->conns[i].thread, NULL);
		(void)close(p->conns[i].fd);
	}
	(void)close(p->fd);
	forget(p);
	(void)pthread_mutex_destroy(&p->lock);
	mem_free(p);
}

unsigned
peer_port(const struct peer *p)
{
	return p->port;
}

void
peer_script(struct peer *p, const struct peer_rule *rules, size_t n)
{
	(void)pthread_mutex_lock(&p->lock);
	forget(p);
	p->rules = rules;
	p->nrules = n;
	memset(p->used, 0, sizeof(p->used));
	(void)pthread_mutex_unlock(&p->lock);
}

unsigned
peer_count(struct peer *p, const char *match, struct peer_seen *last)
{
	unsigned n = 0;

	(void)pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < p->nseen; i++)
		if (strstr(p->seen[i].line, match) != NULL) {
			n++;
			if (last != NULL)
				*last = p->seen[i];
		}
	(void)pthread_mutex_unlock(&p->lock);
	return n;
}

unsigned
peer_bad_signatures(struct peer *p)
{
	return p->bad;
}

unsigned
peer_connections(struct peer *p)
{
	unsigned n;

	(void)pthread_mutex_lock(&p->lock);
	n = p->nconns;
	(void)pthread_mutex_unlock(&p->lock);
	return n;
}
