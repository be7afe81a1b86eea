/* fakestore: a store in memory with a say in each operation: hooks before and after it is applied, errors, and holding. */
#ifndef UNIT_FAKESTORE_H
#define UNIT_FAKESTORE_H

#include "base/map.h"
#include "io/loop.h"
#include "store/store.h"

struct fakeobj {
	uint64_t size, version;
	uint8_t md5[16];
	char *body;
	struct store_meta meta;
};

struct fakestore {
	struct store s;		/* first */
	struct loop *loop;
	struct map *objects;
	struct list ops;
	unsigned heads, gets, puts, dels, aborts, cancels, pauses;
	size_t chunk;		/* a get's bytes come in pieces of this size */
	bool corrupt;		/* a get's first byte is another than it was */
	/* Runs before an operation is applied ("head", "get", "put", "del", "abort"); an error other than OK is its result, and it is not applied. */
	enum err (*before)(void *arg, const char *what);
	/* Runs when it has been applied; what is returned is the result. */
	enum err (*after)(void *arg, const char *what);
	void *arg;
	const char *hold;	/* operations of this name ("*": all) wait for fakestore_release */
};

void fakestore_init(struct fakestore *f, struct loop *l);
void fakestore_fini(struct fakestore *f);
void fakestore_release(struct fakestore *f);
struct fakeobj *fakestore_get(struct fakestore *f, const char *key);
/* An object that another tool put there. */
void fakestore_set(struct fakestore *f, const char *key, const char *text);

#endif
