/*
 * mime: Content-Type by file name: the system's /etc/mime.types, built-in rows for the web's common types first.
 * Loaded once (mime_init), then read only: thread safe.
 */
#ifndef STORE_MIME_H
#define STORE_MIME_H

#include <stddef.h>

void mime_init(void);
void mime_fini(void);
/* Never NULL: "application/octet-stream" if unknown. Static or process lifetime. */
const char *mime_type(const char *key, size_t klen);

#endif
