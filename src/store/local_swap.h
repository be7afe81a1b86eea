/*
 * local_swap: puts another file in place of a key's file, or takes the file away, but only if the disk's file still is
 * the one expected: the base. For carrying to the disk what was written to R2 first, under a site that may write that
 * very file at any moment and knows nothing of us: whatever is found to be a later write than the base keeps its name,
 * and no byte of it is lost.
 *
 * The caller holds the key's lease: one local_swap a key in the whole site. Calls block: for the pool; thread safe
 * between different keys. Not for file systems without leases or RENAME_EXCHANGE (NFS): local_swap_supported tells.
 *
 * The order: local_swap_settle always comes first, since somebody may have died in the middle. Then local_swap_create,
 * the bytes, local_swap_in (or local_swap_out alone, for a delete); then, with DONE, the mark's base becomes `st`; then
 * local_swap_settle again, which removes what was taken out; then local_swap_forget. Two files beside the target, named
 * after the key, bear all that is known, so that at each point somebody else can go on: .r2shim-swap-HASH        our
 * file before the swap, then what the swap took out .r2shim-swap-HASH.note   what was about to be done, synced before
 * it is done (local_swap_note.c). Without it nothing was.
 */
#ifndef STORE_LOCAL_SWAP_H
#define STORE_LOCAL_SWAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/local.h"

enum local_swap_result {
	LOCAL_SWAP_NONE,        /* nothing was begun, or it never touched the file */
	LOCAL_SWAP_DONE,        /* st is our file, in place (of a delete: no file): the new base */
	LOCAL_SWAP_SAME,        /* given up, the base is in place again: st. Its ctime has moved: it is the new base */
	LOCAL_SWAP_LATER_WRITE, /* st is a file that was written after the base: the disk was written last */
	LOCAL_SWAP_LATER_DELETE /* somebody else removed the file after the base was seen: proven absence */
};
const char *local_swap_result_name(enum local_swap_result r);

struct local_swap;

/* base: what is expected on the disk (exists false: nothing); its dev and mode are not looked at. Its ctime must have
 * been at least 10 ms old when it was looked at, or a second write in the same tick would look alike. */
struct local_swap *local_swap_new(struct local *l, const char *key, size_t klen, const struct local_stat *base);
/* What was begun in earnest stays for local_swap_settle; an unfinished file of ours is removed. Takes NULL, clears the
 * pointer. */
void local_swap_free(struct local_swap **s);

/* Is something left of an earlier swap of this key, so that nothing may be decided about its file before it is settled? */
bool local_swap_pending(struct local *l, const char *key, size_t klen);
/* Judges what is left of an earlier swap of this key, and brings the newest file to its name. After any result but NONE
 * do what it asks for (mark, new base), then local_swap_forget: until then the result can be had again. BUSY: somebody
 * has open for writing what must not be lost. */
enum err local_swap_settle(struct local_swap *s, enum local_swap_result *r, struct local_stat *st) ERR_MUST_CHECK;
/* Removes the note, and our own file if it is not in place. */
enum err local_swap_forget(struct local_swap *s) ERR_MUST_CHECK;

/* Our file, empty, its folders made; *fd is open for writing and stays ours. STATE: settle first. EXISTS: a file or
 * link stands in a folder's place. */
enum err local_swap_create(struct local_swap *s, int *fd) ERR_MUST_CHECK;
struct local_swap_meta {
	int64_t mtime_ns;
	bool has_mode; /* mode and owner, as far as we may; those of a file that is replaced come first */
	uint32_t mode, uid, gid;
};
/*
 * All bytes are in it: sync it, and swap it in. NONE does not happen. Errors: BUSY, somebody has the base open for
 * writing (nothing was touched); DENIED, the file is another user's and we have not CAP_LEASE; UNSUPPORTED, the file
 * system cannot; EXISTS, a folder or link is there; STATE, the folder is not the one that the file was made in. After
 * any error settle.
 */
enum err local_swap_in(struct local_swap *s, const struct local_swap_meta *m, enum local_swap_result *r,
    struct local_stat *st) ERR_MUST_CHECK;
/* Takes the base away. The base exists. As above. */
enum err local_swap_out(struct local_swap *s, enum local_swap_result *r, struct local_stat *st) ERR_MUST_CHECK;

/* Can this file system do it? Tries it in the root with two files of ours. UNSUPPORTED and the reason, or an error. */
enum err local_swap_supported(struct local *l, struct errbuf *eb) ERR_MUST_CHECK;

/* No rename of ours after this (monotonic ms; 0: no limit), or when *stop has become true (atomically; may be NULL): LEASE_LOST. */
void local_swap_until(struct local_swap *s, uint64_t until_mono_ms, const bool *stop);

/* For tests: told the name of each step before it is done. */
void local_swap_watch(struct local_swap *s, void (*at)(void *arg, const char *step), void *arg);

#endif
