/*
 * local_swap: at each of its steps the site writes the very file, in each way that a site may, once or twice; and at
 * each of its steps the process dies, before or after such a write. What must hold in the end: the newest bytes have
 * the name, and what the caller is told to be the known state of the disk is never true of a file that the site wrote.
 * On whatever file systems there are: /tmp and /dev/shm.
 */
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/local_swap.h"

#define Z(z) (z), strlen(z)
static const char key[] = "d/a.txt";

static const char *folder; /* where this group's roots are made */
static char root[64];
static struct local *l;

/* What the site does at a step. */
enum act {
	ACT_NOTHING,
	ACT_RENAME,  /* a finished file renamed over it: what editors and careful programs do */
	ACT_REWRITE, /* truncated and written in place */
	ACT_HOLD,    /* opened for writing, and written only when all seems over */
	ACT_UNLINK,
	ACT_REMAKE, /* unlinked and made anew */
	ACT_COUNT
};

enum { STOCK = 100, MODE = 0640 };
static unsigned stock, used;

static struct {
	unsigned step;  /* steps so far */
	unsigned at[2]; /* the step of each act; 0: never */
	enum act act[2];
	unsigned die_at; /* the process ends there */
	char want[16];   /* what the key must hold in the end; "" none */
	bool wrote;      /* the site did something */
	int held;        /* ACT_HOLD's descriptor */
	pthread_t thread;
	bool threaded;     /* a writer waits for the end of a lease */
	bool waited;       /* there was one: in no order to what was written after it began */
	bool waiter_wrote; /* ... and it found a file to write */
	char thread_text[16];
} w;

static struct local_stat
look(void)
{
	struct local_stat st;

	assert_int_equal(local_look(l, Z(key), &st), ERR_OK);
	return st;
}

/* Until a write of now can be told from what is there. */
static void
age(void)
{
	uint64_t began = clock_mono_ms();

	while (clock_mono_ms() - began < 11)
		;
}

/* Is there anything of ours in the key's folder? */
static bool
leftovers(void)
{
	return folder_has("d", ".r2shim");
}

/* A folder d with an old file in it: made in stock and renamed, as a file keeps its ctime when its folder is renamed.
 */
static void
fresh_folder(void)
{
	char name[32];

	if (stock == 0) {
		for (; stock < STOCK; stock++) {
			(void)snprintf(name, sizeof(name), "stock%u", stock);
			assert_int_equal(mkdir(name, 0755), 0);
			assert_int_equal(chdir(name), 0);
			file_write("a.txt", "base", MODE);
			assert_int_equal(chdir(root), 0);
		}
		age();
	}
	(void)snprintf(name, sizeof(name), "old%u", used++);
	assert_true(rename("d", name) == 0 || errno == ENOENT);
	(void)snprintf(name, sizeof(name), "stock%u", --stock);
	assert_int_equal(rename(name, "d"), 0);
}

static int
setup(void **state)
{
	struct errbuf eb;

	(void)state;
	(void)snprintf(root, sizeof(root), "%s/r2shim-swap-XXXXXX", folder);
	assert_non_null(mkdtemp(root));
	assert_int_equal(local_sentinel_write(root, "demo", &eb), ERR_OK);
	assert_int_equal(chdir(root), 0);
	stock = 0;
	fresh_folder();
	assert_int_equal(local_open(&l, root, "demo", &eb), ERR_OK);
	memset(&w, 0, sizeof(w));
	w.held = -1;
	return 0;
}

static int
teardown(void **state)
{
	char *cmd = mem_printf("rm -rf -- %s", root);

	(void)state;
	local_free(&l);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(system(cmd), 0);
	mem_free(cmd);
	return 0;
}

/* ---- the site ---- */

static void *
late_writer(void *arg)
{
	int fd = open(key, O_WRONLY | O_TRUNC);

	(void)arg;
	if (fd >= 0) {
		assert_int_equal(write(fd, w.thread_text, strlen(w.thread_text)), (ssize_t)strlen(w.thread_text));
		close(fd);
		w.waiter_wrote = true;
	}
	return NULL;
}

static void
rewrite(const char *text, bool hold)
{
	int fd = open(key, O_WRONLY | O_NONBLOCK | (hold ? 0 : O_TRUNC));

	if (fd < 0 && errno == EWOULDBLOCK) {
		/* Under a lease: the kernel has noted that somebody wants to write; who does not mind waits for its
		 * end. */
		if (w.threaded)
			return; /* one that waits is enough */
		w.threaded = w.waited = true;
		(void)snprintf(w.thread_text, sizeof(w.thread_text), "%s", text);
		assert_int_equal(pthread_create(&w.thread, NULL, late_writer, NULL), 0);
		return;
	}
	if (fd < 0) {
		assert_int_equal(errno, ENOENT);
		return; /* nothing to rewrite */
	}
	(void)snprintf(w.want, sizeof(w.want), "%s", text);
	w.wrote = true;
	if (hold) {
		w.held = fd;
		return;
	}
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(close(fd), 0);
}

static void
site_acts(enum act a, const char *text)
{
	switch (a) {
	case ACT_RENAME:
		file_write("d/upload", text, MODE);
		assert_int_equal(rename("d/upload", key), 0);
		break;
	case ACT_REWRITE:
	case ACT_HOLD:
		rewrite(text, a == ACT_HOLD);
		return;
	case ACT_UNLINK:
		if (unlink(key) == 0) {
			w.want[0] = '\0';
			w.wrote = true;
		}
		return;
	case ACT_REMAKE:
		(void)unlink(key);
		file_write(key, text, MODE);
		break;
	case ACT_NOTHING:
	case ACT_COUNT:
		return;
	}
	(void)snprintf(w.want, sizeof(w.want), "%s", text);
	w.wrote = true;
}

static void
on_step(void *arg, const char *step)
{
	(void)arg;
	(void)step;
	w.step++;
	for (int i = 0; i < 2; i++)
		if (w.at[i] == w.step)
			site_acts(w.act[i], i == 0 ? "site one" : "site two");
	if (w.die_at == w.step)
		_exit(0);
}

/* ---- a reconciler in small ---- */

/* More than a swap has that meets the site twice. */
#define STEPS 12

enum verb { PUT_OVER, PUT_NEW, DELETE, VERBS };

/* What its mark knows of the disk. */
struct known {
	struct local_stat base;
	bool local; /* the side has become local */
	enum mark { NO_DELETE, IS_DELETE } op;
};

static bool
same_file(const struct local_stat *a, const struct local_stat *b)
{
	return a->exists == b->exists && (!a->exists || (a->ino == b->ino && a->size == b->size &&
							    a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns));
}

static bool
follow(struct known *k, enum local_swap_result r, const struct local_stat *st)
{
	if (r == LOCAL_SWAP_DONE || r == LOCAL_SWAP_SAME)
		k->base = *st;
	else if (r != LOCAL_SWAP_NONE)
		k->local = true;
	k->op = r == LOCAL_SWAP_LATER_DELETE ? IS_DELETE : NO_DELETE;
	return r == LOCAL_SWAP_DONE;
}

static enum err
settle(struct local_swap *s, struct known *k, bool *done)
{
	enum local_swap_result r;
	struct local_stat st;
	enum err e = local_swap_settle(s, &r, &st);

	*done = e == ERR_OK && follow(k, r, &st);
	return e == ERR_OK ? local_swap_forget(s) : e;
}

static enum err
carry(struct local_swap *s, enum verb v, struct known *k)
{
	const struct local_swap_meta m = {.mtime_ns = 1700000000123456789, .has_mode = false};
	enum local_swap_result r;
	struct local_stat st;
	enum err e;
	bool done;
	int fd;

	if (v == DELETE) {
		e = local_swap_out(s, &r, &st);
	} else {
		assert_int_equal(local_swap_create(s, &fd), ERR_OK);
		assert_int_equal(write(fd, "R2", 2), 2);
		e = local_swap_in(s, &m, &r, &st);
	}
	return e == ERR_OK && follow(k, r, &st) ? settle(s, k, &done) : e == ERR_OK ? local_swap_forget(s) : e;
}

/* Swaps, watched. */
static enum err
run(enum verb v, struct known *k)
{
	struct local_swap *s = local_swap_new(l, Z(key), &k->base);
	enum err e;

	local_swap_watch(s, on_step, NULL);
	e = carry(s, v, k);
	local_swap_free(&s);
	return e;
}

/* Once more, by somebody who comes later. */
static enum err
run_again(enum verb v, struct known *k)
{
	struct local_swap *s = local_swap_new(l, Z(key), &k->base);
	bool done;
	enum err e;

	local_swap_watch(s, on_step, NULL);
	if ((e = settle(s, k, &done)) == ERR_OK && !done && !k->local) {
		local_swap_free(&s);
		s = local_swap_new(l, Z(key), &k->base);
		local_swap_watch(s, on_step, NULL);
		if (v != DELETE || k->base.exists)
			e = carry(s, v, k);
	}
	local_swap_free(&s);
	return e;
}

/* The site has finished whatever it had open: who could not judge then can now. */
static void
calm(struct known *k)
{
	struct local_swap *s;
	bool done;

	if (w.held >= 0) {
		assert_int_equal(ftruncate(w.held, 0), 0);
		assert_int_equal(write(w.held, w.want, strlen(w.want)), (ssize_t)strlen(w.want));
		assert_int_equal(close(w.held), 0);
		w.held = -1;
	}
	if (w.threaded)
		assert_int_equal(pthread_join(w.thread, NULL), 0);
	w.threaded = false;
	if (w.waiter_wrote && !w.wrote) {
		(void)snprintf(w.want, sizeof(w.want), "%s", w.thread_text);
		w.wrote = true;
	}
	s = local_swap_new(l, Z(key), &k->base);
	assert_int_equal(settle(s, k, &done), ERR_OK);
	local_swap_free(&s);
}

static void
begin(enum verb v, struct known *k)
{
	fresh_folder();
	if (v == PUT_NEW)
		assert_int_equal(unlink(key), 0);
	memset(k, 0, sizeof(*k));
	k->base = look();
	w.step = 0;
	w.wrote = w.threaded = w.waited = w.waiter_wrote = false;
	w.held = -1;
}

static const char *
carried(enum verb v)
{
	return v == DELETE ? "" : "R2";
}

#define CHECK(cond)                                                                                                    \
	do {                                                                                                           \
		if (!(cond))                                                                                           \
			fail_msg("%s: verb %d, act %d at %u, act %d at %u, dead at %u, want \"%s\", local %d", #cond,  \
			    (int)v, (int)w.act[0], w.at[0], (int)w.act[1], w.at[1], w.die_at, w.want, k.local);        \
	} while (0)

/* The site has written, and all has come to rest. */
static void
check_site_won(enum verb v, struct known k)
{
	struct local_stat st = look();

	CHECK(file_is(key, w.want) || (w.waiter_wrote && file_is(key, w.thread_text)));
	/* Whatever the mark knows must not be what the site left: else its event would be taken for an old one. A
	 * delete that both wanted is no contradiction. */
	CHECK(k.local || !same_file(&k.base, &st) || (v == DELETE && !st.exists));
	/* That the disk has a file must not be called a delete; the other way round the watcher says more. */
	CHECK(!k.local || k.op == NO_DELETE || !st.exists);
	CHECK(!leftovers());
}

static void
test_undisturbed(void **state)
{
	struct known k;

	(void)state;
	for (enum verb v = 0; v < VERBS; v++) {
		begin(v, &k);
		assert_int_equal(run(v, &k), ERR_OK);
		assert_true(file_is(key, carried(v)));
		assert_false(k.local);
		assert_false(leftovers());
		assert_true(w.step >= 3);
		if (v != DELETE) {
			struct local_stat st = look();

			assert_true(same_file(&k.base, &st));
			assert_int_equal(st.mtime_ns, 1700000000123456789);
			assert_int_equal(st.mode, v == PUT_OVER ? MODE : 0644);
		}
	}
}

/* The site acts at each step, once. */
static void
test_one_write(void **state)
{
	unsigned ran = 0;
	struct known k;

	(void)state;
	for (enum verb v = 0; v < VERBS; v++)
		for (enum act a = ACT_RENAME; a < ACT_COUNT; a++)
			for (unsigned n = 1;; n++) {
				w.at[0] = n;
				w.act[0] = a;
				begin(v, &k);
				(void)run(v, &k);
				calm(&k);
				if (w.step < n)
					break;
				if (w.wrote) {
					check_site_won(v, k);
					ran++;
				}
			}
	print_message("    %s: %u writes\n", folder, ran);
	assert_true(ran >= 50);
}

/* ... and twice, at any two steps. */
static void
test_two_writes(void **state)
{
	static const enum act first[] = {ACT_RENAME, ACT_REWRITE, ACT_UNLINK, ACT_REMAKE};
	unsigned ran = 0;
	struct known k;

	(void)state;
	for (enum verb v = 0; v < VERBS; v++)
		for (size_t a = 0; a < sizeof(first) / sizeof(first[0]); a++)
			for (enum act b = ACT_RENAME; b < ACT_COUNT; b++)
				for (unsigned n = 1; n <= STEPS; n++)
					for (unsigned m = n; m <= STEPS; m++) {
						w.at[0] = n;
						w.act[0] = first[a];
						w.at[1] = m;
						w.act[1] = b;
						begin(v, &k);
						(void)run(v, &k);
						calm(&k);
						if (w.step < n)
							break;
						/* made and unlinked before anybody looked: absence has no identity */
						if (w.wrote && w.step >= m &&
						    !(v == PUT_NEW && w.act[1] == ACT_UNLINK)) {
							check_site_won(v, k);
							ran++;
						}
					}
	print_message("    %s: %u pairs\n", folder, ran);
	assert_true(ran > 400);
}

static void
die(enum err (*life)(enum verb v, struct known *k), enum verb v, struct known *k)
{
	/* the mark outlives the process, as Redis does */
	struct known *mark = mmap(NULL, sizeof(*mark), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;
	int status;

	assert_true(mark != MAP_FAILED);
	*mark = *k;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)life(v, mark);
		_exit(7);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 7);
	*k = *mark;
	assert_int_equal(munmap(mark, sizeof(*mark)), 0);
	w.step = WEXITSTATUS(status) == 0 ? w.die_at : 0;
}

/* Death at each step; then nothing, or the site acts, and somebody else goes on. */
static void
test_death(void **state)
{
	static const enum act acts[] = {ACT_NOTHING, ACT_RENAME, ACT_REWRITE, ACT_UNLINK, ACT_REMAKE};
	unsigned ran = 0;

	(void)state;
	for (enum verb v = 0; v < VERBS; v++)
		for (size_t a = 0; a < sizeof(acts) / sizeof(acts[0]); a++)
			for (unsigned n = 1;; n++) {
				struct known k;

				begin(v, &k);
				w.at[0] = 0;
				w.act[0] = acts[a];
				w.die_at = n;
				die(run, v, &k);
				if (w.step == 0)
					break;
				w.die_at = 0;
				site_acts(acts[a], "site one");
				CHECK(run_again(v, &k) == ERR_OK);
				w.die_at = n;
				if (w.wrote)
					check_site_won(v, k);
				else
					CHECK(!k.local && file_is(key, carried(v)) && !leftovers());
				ran++;
			}
	w.die_at = 0;
	print_message("    %s: %u deaths\n", folder, ran);
	assert_true(ran >= 50);
}

/* The only name of ours in the key's folder that is no note. */
static void
taken_out(char path[280])
{
	DIR *d = opendir("d");
	struct dirent *de;

	assert_non_null(d);
	while ((de = readdir(d)) != NULL)
		if (strncmp(de->d_name, ".r2shim-swap-", 13) == 0 && strstr(de->d_name, ".note") == NULL)
			(void)snprintf(path, 280, "d/%s", de->d_name);
	(void)closedir(d);
}

/* A writer opens the file under the lease, and waits; it gets to write when its file is about to have its name back. */
static void
on_step_of_waiter(void *arg, const char *step)
{
	char path[280];
	int fd;

	(void)arg;
	if (strcmp(step, "rename") == 0) {
		assert_int_equal(open(key, O_WRONLY | O_NONBLOCK), -1);
		assert_int_equal(errno, EWOULDBLOCK);
	} else if (strcmp(step, "back") == 0) {
		taken_out(path);
		fd = open(path, O_WRONLY | O_TRUNC);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, "site waited", 11), 11);
		_exit(0);
	}
}

static enum err
life_with_waiter(enum verb v, struct known *k)
{
	struct local_swap *s = local_swap_new(l, Z(key), &k->base);
	enum err e;

	local_swap_watch(s, on_step_of_waiter, NULL);
	e = carry(s, v, k);
	local_swap_free(&s);
	return e;
}

static void
test_death_before_the_way_back(void **state)
{
	struct known k;

	(void)state;
	for (enum verb v = 0; v < VERBS; v++) {
		if (v == PUT_NEW)
			continue; /* nothing to wait for */
		begin(v, &k);
		w.die_at = 1;
		die(life_with_waiter, v, &k);
		assert_int_equal(w.step, 1);
		w.die_at = w.step = 0;
		(void)snprintf(w.want, sizeof(w.want), "site waited");
		assert_int_equal(run_again(v, &k), ERR_OK);
		check_site_won(v, k);
	}
}

/* Who goes on after a death dies, too. */
static void
test_death_twice(void **state)
{
	unsigned ran = 0;
	struct known k;

	(void)state;
	for (enum verb v = 0; v < VERBS; v++)
		for (unsigned n = 1, more = 1; more; n++)
			for (unsigned m = 1;; m++) {
				begin(v, &k);
				w.die_at = n;
				die(run, v, &k);
				more = w.step;
				w.die_at = m;
				w.step = 0;
				die(run_again, v, &k);
				if (w.step == 0)
					break;
				w.die_at = w.step = 0;
				CHECK(run_again(v, &k) == ERR_OK);
				CHECK(!k.local && file_is(key, carried(v)) && !leftovers());
				ran++;
			}
	print_message("    %s: %u deaths after a death\n", folder, ran);
	assert_true(ran > 100);
}

/* The site acts at one step, the process dies at a later one; then the site acts once more, or not. */
static void
test_write_then_death(void **state)
{
	static const enum act acts[] = {ACT_RENAME, ACT_REMAKE, ACT_UNLINK},
			      after[] = {ACT_NOTHING, ACT_RENAME, ACT_REWRITE};
	unsigned ran = 0;

	(void)state;
	for (enum verb v = 0; v < VERBS; v++)
		for (size_t a = 0; a < sizeof(acts) / sizeof(acts[0]); a++)
			for (size_t b = 0; b < sizeof(after) / sizeof(after[0]); b++)
				for (unsigned n = 1, more = 1; more; n++)
					for (unsigned m = n;; m++) {
						struct known k;
						struct local_stat before;

						begin(v, &k);
						before = look();
						w.at[0] = n;
						w.act[0] = acts[a];
						w.die_at = m;
						die(run, v, &k);
						more = m > n || w.step != 0;
						if (w.step == 0)
							break;
						/* the child's site did it if it did not unlink nothing */
						w.wrote = acts[a] != ACT_UNLINK || before.exists;
						(void)snprintf(w.want, sizeof(w.want), "%s",
						    acts[a] == ACT_UNLINK ? "" : "site one");
						w.at[0] = w.die_at = 0;
						site_acts(after[b], "site two");
						CHECK(run_again(v, &k) == ERR_OK);
						w.die_at = m;
						w.at[0] = n;
						if (w.wrote)
							check_site_won(v, k);
						ran++;
					}
	w.die_at = w.at[0] = 0;
	print_message("    %s: %u deaths after a write\n", folder, ran);
	assert_true(ran > 200);
}

static void
test_open_for_writing(void **state)
{
	struct local_swap *s;
	struct known k;
	int fd, writer, err;

	(void)state;
	begin(PUT_OVER, &k);
	writer = open(key, O_WRONLY);
	s = local_swap_new(l, Z(key), &k.base);
	assert_int_equal(carry(s, PUT_OVER, &k), ERR_BUSY);
	local_swap_free(&s);
	/* nothing was touched: whoever has it open may never write at all, and R2's bytes are still owed */
	assert_true(file_is(key, "base"));
	assert_false(leftovers());
	begin(DELETE, &k);
	assert_int_equal(close(writer), 0);
	writer = open(key, O_RDWR);
	s = local_swap_new(l, Z(key), &k.base);
	err = carry(s, DELETE, &k);
	local_swap_free(&s);
	assert_int_equal(err, ERR_BUSY);
	assert_true(file_is(key, "base"));
	assert_int_equal(close(writer), 0);
	/* one who reads is no writer */
	fd = open(key, O_RDONLY);
	assert_int_equal(run(PUT_OVER, &k), ERR_OK);
	assert_true(file_is(key, "R2"));
	assert_int_equal(close(fd), 0);
}

/* A mapping outlives its descriptor, and what is written through it is seen late. */
static void
test_not_the_base(void **state)
{
	struct local_swap *s;
	struct known k, other;

	(void)state;
	begin(PUT_OVER, &k);
	other = k;
	other.base.ctime_ns--; /* as if written and its mtime put back */
	assert_int_equal(run(PUT_OVER, &other), ERR_OK);
	assert_true(other.local && other.op == NO_DELETE && file_is(key, "base"));
	other = k;
	other.base.size++;
	assert_int_equal(run(DELETE, &other), ERR_OK);
	assert_true(other.local && file_is(key, "base"));
	assert_int_equal(unlink(key), 0);
	other = k;
	assert_int_equal(run(PUT_OVER, &other), ERR_OK);
	assert_true(other.local && other.op == IS_DELETE && file_is(key, ""));
	/* absence needs its evidence */
	assert_int_equal(unlink(".r2shim-root"), 0);
	other = k;
	assert_int_equal(run(PUT_OVER, &other), ERR_SENTINEL);
	assert_false(other.local);
	assert_false(leftovers());
	file_write(".r2shim-root", "demo\n", MODE);
	/* a folder or a link in the file's place: no file */
	assert_int_equal(mkdir(key, 0755), 0);
	other = k;
	assert_int_equal(run(PUT_OVER, &other), ERR_OK);
	assert_true(other.local && other.op == IS_DELETE);
	memset(&other, 0, sizeof(other));
	assert_int_equal(run(PUT_NEW, &other), ERR_EXISTS);
	assert_false(leftovers());
	assert_int_equal(rmdir(key), 0);
	assert_int_equal(symlink("elsewhere", key), 0);
	assert_int_equal(run(PUT_NEW, &other), ERR_EXISTS);
	assert_false(leftovers());
	assert_int_equal(unlink(key), 0);
	/* a file where a folder is wanted */
	s = local_swap_new(l, Z("d/f/g"), &other.base);
	file_write("d/f", "x", MODE);
	{
		int fd;

		assert_int_equal(local_swap_create(s, &fd), ERR_EXISTS);
	}
	local_swap_free(&s);
}

static void
test_leavings(void **state)
{
	enum local_swap_result r;
	struct local_swap *s, *t;
	struct local_stat st;
	struct known k;
	char *cmd;
	int fd;

	(void)state;
	begin(PUT_NEW, &k);
	s = local_swap_new(l, Z(key), &k.base);
	assert_int_equal(local_swap_create(s, &fd), ERR_OK);
	assert_int_equal(write(fd, "half", 4), 4);
	/* a half file, whose maker may be dead: only settle lets another begin */
	t = local_swap_new(l, Z(key), &k.base);
	assert_int_equal(local_swap_create(t, &fd), ERR_STATE);
	assert_int_equal(local_swap_settle(t, &r, &st), ERR_OK);
	assert_int_equal(r, LOCAL_SWAP_NONE);
	assert_false(leftovers());
	assert_int_equal(local_swap_create(t, &fd), ERR_OK);
	local_swap_free(&t);
	local_swap_free(&s);
	assert_false(leftovers());
	/* a note that was not finished: nothing was renamed */
	s = local_swap_new(l, Z(key), &k.base);
	assert_int_equal(local_swap_create(s, &fd), ERR_OK);
	cmd = mem_printf("n=$(find d -name '.r2shim-swap-*'); head -c 40 /dev/zero >$n.note");
	assert_int_equal(system(cmd), 0);
	mem_free(cmd);
	t = local_swap_new(l, Z(key), &k.base);
	assert_int_equal(local_swap_settle(t, &r, &st), ERR_OK);
	assert_int_equal(r, LOCAL_SWAP_NONE);
	assert_false(leftovers());
	local_swap_free(&t);
	local_swap_free(&s);
	/* folders that are not there */
	s = local_swap_new(l, Z("no/such/folder"), &k.base);
	assert_int_equal(local_swap_settle(s, &r, &st), ERR_OK);
	assert_int_equal(r, LOCAL_SWAP_NONE);
	assert_int_equal(local_swap_forget(s), ERR_OK);
	local_swap_free(&s);
	/* the folder is moved away while the bytes come: nothing of it goes elsewhere */
	s = local_swap_new(l, Z(key), &k.base);
	assert_int_equal(local_swap_create(s, &fd), ERR_OK);
	assert_int_equal(rename("d", "e"), 0);
	assert_int_equal(mkdir("d", 0755), 0);
	assert_int_equal(local_swap_in(s, &(struct local_swap_meta){0}, &r, &st), ERR_STATE);
	assert_true(file_is(key, ""));
	local_swap_free(&s);
}

/* The lease's signal would end a process that has not asked for it. */
static void
test_signal(void **state)
{
	struct sigaction old;
	struct known k;

	(void)state;
	assert_int_equal(sigaction(SIGIO, NULL, &old), 0);
	assert_true(old.sa_handler == SIG_DFL);
	w.at[0] = 2;
	w.act[0] = ACT_REWRITE;
	begin(PUT_OVER, &k);
	(void)run(PUT_OVER, &k);
	assert_true(w.waited); /* it had to wait: there was a signal */
	calm(&k);
	check_site_won(PUT_OVER, k);
}

/* Whoever is stopped until others may have gone on does nothing any more when it wakes, at whichever step. */
static void
lose(void *arg, const char *step)
{
	(void)step;
	if (++w.step == w.at[1])
		*(bool *)arg = true;
}

static void
test_lease_lost(void **state)
{
	struct known k;
	unsigned ran = 0;

	(void)state;
	for (enum verb v = 0; v < VERBS; v++)
		for (unsigned n = 1;; n++) {
			struct local_swap *s;
			bool stop = false;
			enum err e;

			begin(v, &k);
			w.at[1] = n;
			s = local_swap_new(l, Z(key), &k.base);
			local_swap_until(s, clock_mono_ms() + 100000, &stop);
			local_swap_watch(s, lose, &stop);
			e = carry(s, v, &k);
			local_swap_free(&s);
			w.at[1] = 0;
			if (!stop)
				break;
			assert_true(e == ERR_OK || e == ERR_LEASE_LOST);
			CHECK(run_again(v, &k) == ERR_OK);
			CHECK(!k.local && file_is(key, carried(v)) && !leftovers());
			ran++;
		}
	assert_true(ran > 15);
	/* by the clock */
	begin(PUT_OVER, &k);
	{
		struct local_swap *s = local_swap_new(l, Z(key), &k.base);

		local_swap_until(s, clock_mono_ms(), NULL);
		assert_int_equal(carry(s, PUT_OVER, &k), ERR_LEASE_LOST);
		local_swap_free(&s);
	}
	assert_true(file_is(key, "base"));
	assert_int_equal(run_again(PUT_OVER, &k), ERR_OK);
	assert_true(file_is(key, "R2") && !leftovers());
}

static void
test_supported(void **state)
{
	struct errbuf eb = {""};

	(void)state;
	assert_int_equal(local_swap_supported(l, &eb), ERR_OK);
	assert_false(leftovers());
}

static void
test_another_users_file(void **state)
{
	struct known k;

	(void)state;
	if (geteuid() != 0)
		skip();
	begin(PUT_OVER, &k);
	assert_int_equal(chown(key, 1, 1), 0);
	age();
	k.base = look();
	assert_int_equal(run(PUT_OVER, &k), ERR_OK);
	assert_int_equal(look().uid, 1);
	/* without CAP_LEASE another's file cannot be watched */
	assert_int_equal(chmod("d", 0777), 0);
	assert_int_equal(chmod(root, 0755), 0);
	age();
	k.base = look();
	assert_int_equal(seteuid(65534), 0);
	{
		enum err e = run(PUT_OVER, &k);

		assert_int_equal(seteuid(0), 0);
		assert_int_equal(e, ERR_DENIED);
	}
	assert_true(file_is(key, "R2"));
	assert_false(leftovers());
}

int
main(void)
{
#define ROW(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {ROW(test_undisturbed), ROW(test_one_write), ROW(test_two_writes),
	    ROW(test_death), ROW(test_death_twice), ROW(test_death_before_the_way_back), ROW(test_write_then_death), ROW(test_open_for_writing),
	    ROW(test_not_the_base), ROW(test_leavings), ROW(test_signal), ROW(test_lease_lost), ROW(test_supported),
	    ROW(test_another_users_file)};
	static const char *const folders[] = {"/tmp", "/dev/shm"};
	int failed = 0;

	for (size_t i = 0; i < 2; i++) {
		folder = folders[i];
		if (access(folder, W_OK) == 0)
			failed += cmocka_run_group_tests_name(folder, tests, NULL, NULL);
	}
	return failed;
}
