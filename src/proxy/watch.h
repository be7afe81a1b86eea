/*
 * watch: inotify on the media root's tree. It says which files were finished (close after write, rename into place) and which
 * vanished (unlink, rename away); never creation. One watch a directory; a new directory is watched first, then listed. The
 * crawl that sets the watches also reports files whose ctime is at or after `since` (the rescan that makes the watcher's word
 * true). Overflow: crawl again since the last clean point. A hint only: who hears of it looks at the disk.
 *
 * Loop thread; directory listings of the crawl are done in bounded slices so that requests go on.
 */
#ifndef PROXY_WATCH_H
#define PROXY_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coord/marks.h"
#include "io/loop.h"
#include "store/local.h"

struct watch;

struct watch_cb {
	/* A key changed. Called synchronously from watch_drain too. seq grows by one each. */
	void (*changed)(void *arg, const char *key, size_t klen, enum mark_op op, uint64_t seq);
	/* A census is due: a directory was renamed or removed, events were lost, the watcher began. why: static. */
	void (*census)(void *arg, const char *why);
	/* The crawl, or a listing of a large new directory, is complete: everything that happened before start_ms (real time) has been reported. */
	void (*clean)(void *arg, uint64_t start_ms);
};

/* since_ms: report files with a ctime from here on (0: none by the crawl: a first start, where backfill looks at everything). */
enum err watch_new(struct watch **w, struct loop *l, struct local *local, uint64_t since_ms, const struct watch_cb *cb, void *arg,
    struct errbuf *eb) ERR_MUST_CHECK;
/* Reads the kernel's queue dry now: every event queued before this call has been reported when it returns. Returns the last seq. */
uint64_t watch_drain(struct watch *w);
uint64_t watch_seq(const struct watch *w);
/* A number of its own for something that was learnt in another way. */
uint64_t watch_next_seq(struct watch *w);
/* Is the crawl going on, or a directory that appeared not listed to its end yet? clean is called when that is over. */
bool watch_crawling(const struct watch *w);
size_t watch_dirs(const struct watch *w);
/* NULL: all well; else a text for a person, e.g. that fs.inotify.max_user_watches is reached. */
const char *watch_trouble(const struct watch *w);
void watch_free(struct watch **w);

#endif
