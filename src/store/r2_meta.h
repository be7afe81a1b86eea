/* r2_meta: an object's metadata as headers, both ways: rclone's mtime, s3fs's mode and owner, our spelling of the name.
 * Pure. */
#ifndef STORE_R2_META_H
#define STORE_R2_META_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct r2_req;
struct store_meta;

/* Adds what a PUT of this key sends. */
void r2_meta_send(struct r2_req *q, const char *key, size_t klen, const struct store_meta *m);
/* Fills m (initialised) from a 2xx answer to a HEAD or GET; size from Content-Length. False: no usable length. */
bool r2_meta_read(const struct r2_req *q, struct store_meta *m);
/* Is the object that of this key, not of a name that only looks alike (NFC)? */
bool r2_meta_is_key(const struct store_meta *m, const char *key, size_t klen);
/* "1700000000.123456789" <-> nanoseconds. */
bool r2_meta_parse_mtime(const char *z, int64_t *ns);
void r2_meta_format_mtime(int64_t ns, char out[40]);

#endif
