/* local_swap_int: what local_swap.c (the swap), local_swap_judge.c (what came of it) and local_swap_note.c (what is
 * known of it on disk) share. Nobody else includes it.
 */
#ifndef STORE_LOCAL_SWAP_INT_H
#define STORE_LOCAL_SWAP_INT_H

#include "store/local_int.h"
#include "store/local_swap.h"

#define SWAP_NAME_MAX 64

/* Which file, and which contents of it. The ctime is not part of it: our own renames move it. */
struct swap_id {
	uint64_t exists, ino, size;
	int64_t mtime_ns;
};

/*
 * The note. Its first record says what is to be done: `prev` is the base, `placed` our file (a delete has none). Each
 * further one: something later than `prev` was taken out, and gets its name back: `placed` is that file, `prev` what
 * was placed before.
 */
enum swap_kind { SWAP_PUT = 1, SWAP_DELETE, SWAP_BACK };
struct swap_note {
	enum swap_kind kind;         /* of the first record */
	unsigned records;            /* 0: there is no note, or none that was ever finished */
	bool present;                /* the file is there, finished or not */
	struct swap_id base, ours;   /* of the first */
	struct swap_id prev, placed; /* of the last */
};

struct local_swap {
	struct local *l;
	struct local_stat base;
	int fd;       /* our file, open for writing; -1: not */
	bool created; /* our file is there and no note speaks of it: free removes it */
	char tmp[SWAP_NAME_MAX], note[SWAP_NAME_MAX];
	uint64_t until_mono_ms;
	const bool *stop;
	void (*at)(void *arg, const char *step);
	void *at_arg;
	size_t klen;
	char key[];
};

void swap_at(struct local_swap *s, const char *step);
/* May we rename now? */
bool swap_may(const struct local_swap *s);
struct swap_id swap_id(const struct local_stat *st);
bool swap_is(const struct swap_id *id, const struct local_stat *st);

/* dir: the key's folder. Synced when it returns, the name too. */
enum err swap_note_write(const struct local_swap *s, int dir, enum swap_kind kind, const struct swap_id *base,
    const struct swap_id *ours) ERR_MUST_CHECK;
/* `placed` is about to get the name back, from behind what n says was placed last; n follows. */
enum err swap_note_back(
    const struct local_swap *s, int dir, struct swap_note *n, const struct swap_id *placed) ERR_MUST_CHECK;
enum err swap_note_read(const struct local_swap *s, int dir, struct swap_note *n) ERR_MUST_CHECK;

/* A read lease: nobody has the file open for writing, and who opens it now waits until fd is closed. BUSY, DENIED,
 * UNSUPPORTED. */
enum err swap_lease(int fd) ERR_MUST_CHECK;
/* Is the lease still whole: has nobody begun to open the file for writing? */
bool swap_lease_whole(int fd);

/*
 * After the rename that n announces: what does the disk have now? *held: the base, under a lease since before the
 * rename, or -1; closed, and -1 then, when that lease is known to be broken. keep: what is surely superseded stays
 * under our name (settle removes it later).
 */
enum err swap_judge(struct local_swap *s, int dir, struct swap_note *n, int *held, bool keep, enum local_swap_result *r,
    struct local_stat *st) ERR_MUST_CHECK;

#endif
