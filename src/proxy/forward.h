/*
 * forward: the heads that cross the proxy. Pure: a parsed head goes in, a re-serialised one comes out; nothing is copied
 * through that was not parsed. Header names keep their case, order and repetition.
 *
 * From the client is dropped: what is hop-by-hop (RFC 9110 7.6.1) or named in Connection, Expect (answered by us), names
 * with '_' (a WSGI application cannot tell them from '-'), X-Accel-*, X-Sendfile*, X-Shim-*. X-Forwarded-For is appended to;
 * X-Forwarded-Proto, -Host and X-Real-IP are replaced unless the peer is one of proxy.trusted-proxies. Forwarded (RFC 7239) gets our
 * element, behind those of a trusted proxy; a stranger's are dropped.
 * From the upstream is dropped: what is hop-by-hop, and X-Accel-*, X-Sendfile* unless the peer is a trusted proxy, for whom the
 * application means them. X-Shim-* and the hints X-Media-Stored and X-Media-Deleted (hint.h) always.
 */
#ifndef PROXY_FORWARD_H
#define PROXY_FORWARD_H

#include <stdbool.h>

#include "base/conf.h"
#include "base/str.h"
#include "io/http1.h"

/* proxy.trusted-proxies, parsed. */
struct forward_trust;
/* An entry that is no network is left out and named in eb (ERR_SYNTAX; the rest is usable). */
enum err forward_trust_new(struct forward_trust **t, const struct conf *c, struct errbuf *eb) ERR_MUST_CHECK;
void forward_trust_free(struct forward_trust **t);
/* peer: an address without port, or "unix:". */
bool forward_trusted(const struct forward_trust *t, const char *peer);

#define FORWARD_CLIENT_MAX 64
/* Who the client is behind trusted proxies: the peer, or, of X-Forwarded-For, the last address that is not a trusted proxy's; without
 * that header, of Forwarded. "" if a trusted proxy names something that is no address: nobody knows. */
void forward_client(const struct forward_trust *t, const struct http1_head *h, const char *peer, char out[FORWARD_CLIENT_MAX]);

/* Where a request comes from: the connection's peer, as http_conn_peer names it; whether it came over TLS; forward_trusted. */
struct forward_peer {
	const char *addr;
	bool tls, trusted;
};

/* The head for the upstream, complete. Bodies of unknown length are sent chunked. without: a header that is left out, or NULL. */
void forward_request(struct str *out, const struct http1_head *h, const struct forward_peer *from, const char *without);
/* A question of our own about a request (auth.h): GET path with the request's Cookie, Authorization, Origin and User-Agent, its
 * method and target in X-Original-Method and X-Original-URI, and the claims of X-Forwarded-*. No body, no condition, no range. */
void forward_question(struct str *out, const struct http1_head *h, const char *path, const struct forward_peer *from);
/* Of an answer that names a file (accel.h): the header lines that the client gets with the file's own. All but what describes the
 * answer's body (Content-Type, -Length, -Encoding, ETag, ...), what goes with other statuses (Location, ...), what is hop-by-hop,
 * and commands. nginx keeps fewer: Set-Cookie, Content-Disposition, Cache-Control, Expires. */
void forward_kept(struct str *out, const struct http1_head *h);
/* The head for the client: as http_conn_start takes it, without framing. */
void forward_response(struct str *out, const struct http1_head *h, bool trusted);

#endif
