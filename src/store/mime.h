/*
 * mime: Content-Type by file name: what the site says (media.types), then built-in rows for the web's common types, then the system's
 * /etc/mime.types.
 * Loaded once (mime_init), then read only: thread safe.
 */
#ifndef STORE_MIME_H
#define STORE_MIME_H

#include <stddef.h>

#include "base/conf.h"

/* types: "ext type" each, as the configuration has checked; taken by the first call. */
void mime_init(const struct conf_list *types);
void mime_fini(void);
/* Never NULL: "application/octet-stream" if unknown. Static or process lifetime. */
const char *mime_type(const char *key, size_t klen);

#endif
