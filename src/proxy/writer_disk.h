/*
 * writer_disk: what writer.c needs of writer_file.c: the same operations, with the environment given.
 */
#ifndef PROXY_WRITER_DISK_H
#define PROXY_WRITER_DISK_H

#include "proxy/writer.h"

struct writer_file *writer_disk_open(const struct reconcile_env *env, const char *key, size_t klen, bool exclusive);
struct writer_file *writer_disk_spool(const struct reconcile_env *env);
void writer_disk_unlink(const struct reconcile_env *env, const char *key, size_t klen, writer_file_done *done, void *arg);

#endif
