/* watch_int: what watch.c (events), watch_tree.c (which directories are watched) and watch_crawl.c (listings) share. Nobody else
 * includes it. */
#ifndef PROXY_WATCH_INT_H
#define PROXY_WATCH_INT_H

#include <dirent.h>

#include "base/list.h"
#include "base/map.h"
#include "base/str.h"
#include "proxy/watch.h"

/* A watched directory. Its path is that of its parent and its name: so a rename moves one of them and not all below. */
struct wdir {
	int wd;
	struct wdir *parent;		/* NULL: the root */
	struct list children, sibling;
	uint64_t seen;			/* in this generation of the watches */
	char name[];			/* "" for the root */
};

/* What is done with a directory's entries. */
enum listing_kind {
	LISTING_WATCH,		/* directories: go on there; files: nothing */
	LISTING_REPORT,		/* files of a ctime since the clean point are reported */
	LISTING_ALL		/* the directory is new to us: all files are reported */
};

/* A directory that waits to be watched and listed. */
struct todo {
	struct list node;
	enum listing_kind kind;
	char *path;		/* "" for the root, else "a/b/" */
	char *old;		/* its path before a rename, where files have vanished, too; or NULL */
	DIR *dir;		/* the listing so far */
};

/* Listings, depth first: the list stays short, and one directory at a time is open. */
struct lister {
	struct list todos;
	struct todo *now;
};

/* A directory was renamed away; its new name has not come yet. */
struct moving {
	struct list node;
	uint32_t cookie;
	struct wdir *dir;	/* in its old place as yet; NULL: not watched, or another has that place by now */
	char *path;
};

enum crawl_part { CRAWL_NONE, CRAWL_WATCHES, CRAWL_REPORT };

struct watch {
	struct loop *loop;
	struct local *local;
	const struct watch_cb *cb;
	void *arg;
	int fd;
	struct loop_fd rd;
	uint64_t seq;
	/* The tree. */
	struct map *by_wd;	/* int wd -> struct wdir */
	struct map *by_name;	/* parent's wd, name -> struct wdir */
	struct wdir *root;
	struct list moving;
	/* Listings: of directories that appeared, and the crawl's. */
	struct lister fresh, crawl;
	struct loop_call slice;
	struct loop_timer again, links;
	enum crawl_part part;
	bool standing, sweep;
	uint64_t generation, since_ms, start_ms, part_began, took_ms;
	uint64_t links_ms;	/* a file with other names was written at this real time: they want a look; 0: none */
	size_t at_once;		/* entries that may still be listed within this drain */
	/* Everything queued by the kernel before this real time has been reported. */
	uint64_t drained_ms;
	bool overflowed;
	size_t seen;		/* directories that this crawl has come to */
	int refused;		/* errno of the first that could not be watched */
	char trouble[400];
	struct str path, key;	/* scratch of events and reports */
};

/* watch.c */
void watch_report(struct watch *w, const char *dir, size_t dirlen, const char *name, enum mark_op op);

/* watch_tree.c */
/* Watches the open directory. By its descriptor, so that no symlink can lead elsewhere meanwhile. A known one that bears another name
 * now is moved. False: it cannot be watched. */
bool tree_watch(struct watch *w, int dirfd, const char *path);
/* NULL: not watched. */
struct wdir *tree_find(const struct watch *w, const char *path);
struct wdir *tree_child(const struct watch *w, const struct wdir *parent, const char *name);
/* Appends the directory's path with its slash; nothing for the root. */
void tree_path(const struct wdir *d, struct str *out);
/* Moves it, with all that is below it. Whatever bears the name there is forgotten. False: that place is at or below itself. */
bool tree_move(struct watch *w, struct wdir *d, struct wdir *parent, const char *name);
/* rm: the kernel's watches are taken away too. */
void tree_forget(struct watch *w, struct wdir **d, bool rm);
/* Forgets what this generation has not seen: it was removed or moved away, and the event was lost. */
void tree_sweep(struct watch *w);
void tree_free(struct watch *w);

/* watch_crawl.c */
/* lost: events were lost, or nothing is watched yet; else what stands goes on standing. */
void crawl_begin(struct watch *w, uint64_t since_ms, bool lost);
/* A directory appeared, or got another name (old; may be NULL): what is in it may have been written before we watched it. */
void crawl_appeared(struct watch *w, const char *path, const char *old);
/* A file that was written has other names: files changed since then are looked for. */
void crawl_links(struct watch *w);
void crawl_init(struct watch *w);
void crawl_fini(struct watch *w);

#endif
