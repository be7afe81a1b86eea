/*
 * map: a hash table from bytes to a pointer. Copies its keys, does not own its values. Seeded SipHash-like hash, so
 * that a client cannot choose names that collide. Not thread safe.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map;

struct map *map_new(void);
/* Frees the table and its keys, not the values. Takes NULL, clears the pointer. */
void map_free(struct map **m);
size_t map_count(const struct map *m);
void *map_get(const struct map *m, const void *key, size_t len);
/* Sets, and returns the value that stood there before (NULL: none). value must not be NULL. */
void *map_set(struct map *m, const void *key, size_t len, void *value);
/* Removes, and returns the value (NULL: there was none). */
void *map_del(struct map *m, const void *key, size_t len);
/* Walk in no order: start with *pos = 0; false at the end. Deleting is allowed, setting is not. */
bool map_next(const struct map *m, size_t *pos, const void **key, size_t *len, void **value);

#endif
