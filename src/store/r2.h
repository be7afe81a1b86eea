/*
 * r2: the store that speaks R2's S3 interface: path style, SigV4 signed by us (sigv4.h); GETs ride our own engine (r2_peer.h), the rest
 * libcurl. Files from
 * multipart_threshold on go in equal parts and carry md5chksum (rclone's), so that any tool can check them. Every PUT
 * carries Content-MD5 and the payload's SHA-256; the answer's ETag is compared (BADDIGEST).
 * Source: developers.cloudflare.com/r2/api/s3/api.
 */
#ifndef STORE_R2_H
#define STORE_R2_H

#include "base/conf.h"
#include "io/loop.h"
#include "io/pool.h"
#include "store/store.h"

/* The snapshot is referenced. A reload with other R2 options makes a new store; the old one is freed when it is idle. */
struct store *r2_new(struct loop *l, struct pool *pool, const struct conf *c);

#endif
