/*
 * mem: memory for small things. Out of memory aborts with a message: no caller can do better, and nothing whose
 * size a client chooses may be allocated whole through these. Every pointer is freed by mem_free.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t n);
void *mem_zalloc(size_t n);
/* n * size with overflow checked, zeroed. */
void *mem_calloc(size_t n, size_t size);
void *mem_realloc(void *p, size_t n);
void *mem_dup(const void *p, size_t n);
/* A terminated copy of a string, or of n bytes, whatever they are. NULL gives NULL. */
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Frees; NULL is fine. */
void mem_free(void *p);
/* Wipes n bytes in a way that the compiler keeps, then frees. For secrets. */
void mem_wipe_free(void *p, size_t n);

#endif
