/*
 * watch: inotify on the media root's tree. It says which files were finished (close after write, rename into place) and which
 * vanished (unlink, rename away); never creation. One watch a directory; a new directory is watched first, then listed. A hint only:
 * who hears of it looks at the disk.
 *
 * The crawl has two parts. First the watches: every directory is watched, no file is looked at; when they stand (watch_standing) what
 * happens from then on is an event. Then the report: files whose ctime is at or after `since` (the rescan that makes the watcher's word
 * true), only as fast as whoever hears of them has room. Overflow: both again, since the last clean point.
 *
 * A directory that is renamed within the tree keeps its watches; each file below is reported under both names. It is told of as a whole,
 * too (away): the names of files that are not below the new name are known to R2 alone.
 *
 * Loop thread; listings are done in slices bounded by entries and time, so that requests go on.
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
	/* A directory ("a/b/") has not its name any more. found: under its new one its files were looked for, and were reported as gone from
	 * here; but some may have gone elsewhere in between. If not, it was moved out of the tree. */
	void (*away)(void *arg, const char *prefix, size_t len, bool found);
	/* A census is due: a directory was renamed or removed, events were lost, the watcher began. why: static. */
	void (*census)(void *arg, const char *why);
	/* The watches stand, or a listing has come to its end: who waits looks again (watch_standing, watch_listing, watch_crawling). */
	void (*progress)(void *arg);
	/* May more be reported by the crawl? If not, it goes on after watch_resume. */
	bool (*room)(void *arg);
};

/* since_ms: report files with a ctime from here on (0: none by the crawl: a first start, where backfill looks at everything). */
enum err watch_new(struct watch **w, struct loop *l, struct local *local, uint64_t since_ms, const struct watch_cb *cb, void *arg,
    struct errbuf *eb) ERR_MUST_CHECK;
/* Every event that the kernel had queued when this was called has been reported when it returns; it reads no more than those, however
 * many come meanwhile. Returns the last seq. */
uint64_t watch_drain(struct watch *w);
uint64_t watch_seq(const struct watch *w);
/* A number for a notice that is not the watcher's own, greater than all before. */
uint64_t watch_next_seq(struct watch *w);
/* There is room again. */
void watch_resume(struct watch *w);
/* Is every directory watched (but those that cannot be: watch_trouble)? What is finished from now on is an event. */
bool watch_standing(const struct watch *w);
/* Grows when events were lost: what was seen before it grew does not tell of what happened before. */
uint64_t watch_generation(const struct watch *w);
/* Is a directory that appeared not listed to its end yet? */
bool watch_listing(const struct watch *w);
/* Is anything of the crawl left to do, or of such a listing? */
bool watch_crawling(const struct watch *w);
size_t watch_dirs(const struct watch *w);
/* NULL: all well; else a text for a person, e.g. that fs.inotify.max_user_watches is reached. */
const char *watch_trouble(const struct watch *w);
void watch_free(struct watch **w);

/* The kernel's limits (fs.inotify.*); 0: cannot be read. */
struct watch_limits {
	uint64_t watches, events, instances;
	const char *watches_name;	/* of the sysctl that bounds the watches */
};
void watch_limits(struct watch_limits *lim);
/* Counts the tree's directories for at most max_ms; false: there are more. Blocks. */
bool watch_count_dirs(struct local *l, uint64_t max_ms, uint64_t *n);
/* One line: the directories, the limit, what to set. Empty if the limit is wide enough. */
void watch_limits_text(const struct watch_limits *lim, uint64_t dirs, bool more, char *out, size_t cap);

#endif
