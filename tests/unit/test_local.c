/* local: on a tree in /tmp with everything in it that a media root should not have. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/local.h"
#include "store/store.h"

#define Z(z) (z), strlen(z)

int __real_fsync(int fd);
int __wrap_fsync(int fd);

static unsigned syncs;
static char root[64];
static struct local *l;

int
__wrap_fsync(int fd)
{
	syncs++;
	return __real_fsync(fd);
}

static enum err
settle(const char *key)
{
	struct local_seen v = { .key = key, .klen = strlen(key) };

	syncs = 0;
	local_settle(l, &v, 1);
	return v.e == ERR_OK && !v.st.exists ? ERR_NOTFOUND : v.e;
}

static int
setup(void **state)
{
	struct errbuf eb;

	(void)state;
	(void)snprintf(root, sizeof(root), "/tmp/r2shim-local-XXXXXX");
	assert_non_null(mkdtemp(root));
	assert_int_equal(chmod(root, 0755), 0);
	assert_int_equal(local_sentinel_write(root, "demo", &eb), ERR_OK);
	assert_int_equal(chdir(root), 0);
	assert_int_equal(mkdir("d", 0755), 0);
	assert_int_equal(mkdir("d/sub", 0755), 0);
	file_write("d/f.txt", "hello", 0644);
	file_write("d/caf\xe9", "latin", 0644);
	file_write("d/e\xcc\x81.png", "nfd", 0644);
	assert_int_equal(symlink("f.txt", "d/link"), 0);
	assert_int_equal(symlink("/etc/passwd", "d/out"), 0);
	assert_int_equal(symlink("d", "dlink"), 0);
	assert_int_equal(mkfifo("d/fifo", 0644), 0);
	assert_int_equal(local_open(&l, root, "demo", &eb), ERR_OK);
	return 0;
}

static int
teardown(void **state)
{
	char *cmd = mem_printf("rm -rf -- %s %s.away", root, root);

	(void)state;
	local_free(&l);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(system(cmd), 0);
	mem_free(cmd);
	return 0;
}

static enum err
look(const char *key, bool *exists)
{
	struct local_stat st;
	enum err e = local_look(l, Z(key), &st);

	*exists = st.exists;
	return e;
}

static enum err
open_key(const char *key)
{
	struct local_stat st;
	int fd;
	enum err e = local_open_key(l, Z(key), &fd, &st);

	assert_int_equal(e == ERR_OK, fd >= 0);
	if (fd >= 0)
		assert_int_equal(close(fd), 0);
	return e;
}

static void
test_sentinel(void **state)
{
	struct local *other = NULL;
	struct errbuf eb;

	(void)state;
	assert_int_equal(local_sentinel(l, &eb), ERR_OK);
	assert_int_equal(local_sentinel_write(root, "demo", &eb), ERR_OK);
	assert_int_equal(local_sentinel_write(root, "other", &eb), ERR_STATE);
	assert_non_null(strstr(eb.text, "\"demo\""));
	assert_int_equal(local_open(&other, root, "other", &eb), ERR_SENTINEL);
	assert_null(other);
	assert_int_equal(local_open(&other, "/nonexistent", "demo", &eb), ERR_NOTFOUND);
	assert_int_equal(unlink(".r2shim-root"), 0);
	assert_int_equal(local_sentinel(l, &eb), ERR_SENTINEL);
	assert_int_equal(local_open(&other, root, "demo", &eb), ERR_SENTINEL);
	/* a longer id that begins alike is another */
	file_write(".r2shim-root", "demo2\n", 0644);
	assert_int_equal(local_sentinel(l, &eb), ERR_SENTINEL);
	file_write(".r2shim-root", "demo", 0644);
	assert_int_equal(local_sentinel(l, &eb), ERR_OK);
}

static void
test_open_key(void **state)
{
	char longkey[5000];

	(void)state;
	assert_int_equal(open_key("d/f.txt"), ERR_OK);
	assert_int_equal(open_key("d/caf\xe9"), ERR_OK);
	assert_int_equal(open_key("d"), ERR_NOTFOUND);
	assert_int_equal(open_key("d/"), ERR_NOTFOUND);
	assert_int_equal(open_key("d/f.txt/"), ERR_NOTFOUND);
	assert_int_equal(open_key("d/link"), ERR_NOTFOUND);
	assert_int_equal(open_key("d/out"), ERR_NOTFOUND);
	assert_int_equal(open_key("dlink/f.txt"), ERR_NOTFOUND);
	assert_int_equal(open_key("d/fifo"), ERR_NOTFOUND);
	assert_int_equal(open_key("d/missing"), ERR_NOTFOUND);
	assert_int_equal(open_key("no/such/dir"), ERR_NOTFOUND);
	assert_int_equal(open_key("d/f.txt/below"), ERR_NOTFOUND);
	assert_int_equal(open_key("../etc/passwd"), ERR_NOTFOUND);
	assert_int_equal(open_key("d/../../etc/passwd"), ERR_NOTFOUND);
	assert_int_equal(open_key("/etc/passwd"), ERR_INVAL);
	assert_int_equal(open_key(""), ERR_INVAL);
	memset(longkey, 'a', sizeof(longkey));
	longkey[4999] = '\0';
	assert_int_equal(open_key(longkey), ERR_NOTFOUND);
	longkey[300] = '\0';
	assert_int_equal(open_key(longkey), ERR_NOTFOUND);
}

static void
test_look(void **state)
{
	struct local_stat a, b;
	bool exists;
	char key[302];

	(void)state;
	assert_int_equal(look("d/f.txt", &exists), ERR_OK);
	assert_true(exists);
	for (size_t i = 0; i < 8; i++) {
		static const char *const absent[] = {
		    "d/missing", "no/such/dir", "d/f.txt/below", "d/f.txt/a/b", "d/sub", "d/link", "d/fifo", "d/sub/x"};

		assert_int_equal(look(absent[i], &exists), ERR_OK);
		assert_false(exists);
	}
	/* what lies behind a symlink is not ours to call absent */
	assert_int_equal(look("dlink/f.txt", &exists), ERR_UNSUPPORTED);
	assert_int_equal(look("dlink/missing", &exists), ERR_UNSUPPORTED);
	assert_int_equal(look("dlink/a/b", &exists), ERR_UNSUPPORTED);
	memset(key, 'a', sizeof(key));
	key[301] = '\0';
	assert_int_not_equal(look(key, &exists), ERR_OK);

	assert_int_equal(local_look(l, Z("d/f.txt"), &a), ERR_OK);
	assert_int_equal(a.size, 5);
	assert_int_equal(a.mode, 0644);
	assert_int_equal(local_look(l, Z("d/f.txt"), &b), ERR_OK);
	assert_true(local_same(&a, &b));
	file_write("d/f.txt.new", "hello", 0644);
	assert_int_equal(rename("d/f.txt.new", "d/f.txt"), 0);
	assert_int_equal(local_look(l, Z("d/f.txt"), &b), ERR_OK);
	assert_false(local_same(&a, &b));
	assert_int_equal(unlink("d/f.txt"), 0);
	assert_int_equal(local_look(l, Z("d/f.txt"), &b), ERR_OK);
	assert_false(local_same(&a, &b));
}

/* Absence needs the sentinel, the same root, and a parent that can be read. */
static void
test_no_evidence(void **state)
{
	char away[80], sentinel[80];
	bool exists;

	(void)state;
	assert_int_equal(unlink(".r2shim-root"), 0);
	assert_int_equal(look("d/missing", &exists), ERR_SENTINEL);
	assert_int_equal(look("d/sub", &exists), ERR_SENTINEL);
	assert_int_equal(open_key("d/missing"), ERR_SENTINEL);
	assert_int_equal(look("d/f.txt", &exists), ERR_OK); /* what is there is there */
	assert_true(exists);
	file_write(".r2shim-root", "demo\n", 0644);
	assert_int_equal(look("d/missing", &exists), ERR_OK);

	/* another folder in the root's place, even with a sentinel */
	(void)snprintf(away, sizeof(away), "%s.away", root);
	assert_int_equal(rename(root, away), 0);
	assert_int_equal(look("d/missing", &exists), ERR_SENTINEL);
	assert_int_equal(mkdir(root, 0755), 0);
	(void)snprintf(sentinel, sizeof(sentinel), "%s/.r2shim-root", root);
	file_write(sentinel, "demo\n", 0644);
	assert_int_equal(look("d/missing", &exists), ERR_SENTINEL);
	assert_int_equal(look("x", &exists), ERR_SENTINEL);

	if (geteuid() != 0)
		return;
	assert_int_equal(unlink(sentinel), 0);
	assert_int_equal(rmdir(root), 0);
	assert_int_equal(rename(away, root), 0);
	assert_int_equal(chmod("d/sub", 0700), 0);
	assert_int_equal(mkdir("d/noread", 0711), 0);
	assert_int_equal(seteuid(65534), 0);
	assert_int_equal(look("d/sub/x", &exists), ERR_DENIED);
	assert_int_equal(look("d/noread/x", &exists), ERR_DENIED);
	assert_int_equal(look("d/noread/x/y", &exists), ERR_DENIED);
	assert_int_equal(open_key("d/sub/x"), ERR_DENIED);
	assert_int_equal(look("d/missing", &exists), ERR_OK);
	assert_int_equal(seteuid(0), 0);
}

static void
test_digest(void **state)
{
	uint8_t md5[16], sha[32], want_md5[16], want_sha[32];
	struct local_stat st;
	bool stop = true;
	char *big = mem_alloc(700000);
	int fd;

	(void)state;
	memset(big, 'x', 699999);
	big[699999] = '\0';
	file_write("big", big, 0644);
	assert_int_equal(local_open_key(l, Z("big"), &fd, &st), ERR_OK);
	assert_int_equal(local_digest(fd, st.size, md5, sha, NULL), ERR_OK);
	digest_md5(big, 699999, want_md5);
	digest_sha256(big, 699999, want_sha);
	assert_memory_equal(md5, want_md5, 16);
	assert_memory_equal(sha, want_sha, 32);
	assert_int_equal(local_digest(fd, st.size - 1, md5, sha, NULL), ERR_CHANGED);
	assert_int_equal(local_digest(fd, st.size + 1, md5, sha, NULL), ERR_CHANGED);
	assert_int_equal(local_digest(fd, st.size, md5, sha, &stop), ERR_CANCELLED);
	assert_int_equal(close(fd), 0);
	file_write("empty", "", 0644);
	assert_int_equal(local_open_key(l, Z("empty"), &fd, &st), ERR_OK);
	assert_int_equal(local_digest(fd, 0, md5, sha, NULL), ERR_OK);
	assert_int_equal(md5[0], 0xd4);
	assert_int_equal(close(fd), 0);
	mem_free(big);
}

static void
test_locked(void **state)
{
	int a = open("d/f.txt", O_RDWR), b = open("d/f.txt", O_RDONLY);

	(void)state;
	assert_false(local_is_locked(b));
	assert_int_equal(flock(a, LOCK_EX), 0);
	assert_true(local_is_locked(b));
	assert_int_equal(flock(a, LOCK_UN), 0);
	assert_false(local_is_locked(b));
	assert_int_equal(flock(a, LOCK_EX | LOCK_NB), 0); /* nothing is left behind */
	assert_int_equal(close(a), 0);
	assert_int_equal(close(b), 0);
}

static enum err
write_key(const char *key, const char *text, bool *created)
{
	char *tmp;
	int fd;
	enum err e = local_tmp_create(l, Z(key), &fd, &tmp);

	if (e != ERR_OK)
		return e;
	assert_non_null(strstr(tmp, ".r2shim-tmp-"));
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	e = local_tmp_commit(l, fd, &tmp, Z(key), created);
	assert_null(tmp);
	assert_int_equal(close(fd), 0);
	return e;
}

static enum err
write_new(const char *key, const char *text)
{
	char *tmp;
	int fd;
	enum err e = local_tmp_create(l, Z(key), &fd, &tmp);

	assert_int_equal(e, ERR_OK);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	e = local_tmp_commit_new(l, fd, &tmp, Z(key));
	assert_null(tmp);
	assert_int_equal(close(fd), 0);
	return e;
}

static void
test_write_new(void **state)
{
	(void)state;
	assert_int_equal(write_new("n/new", "one"), ERR_OK);
	assert_int_equal(write_new("n/new", "two"), ERR_PRECOND);
	assert_int_equal(write_new("d/sub", "x"), ERR_PRECOND);
	assert_int_equal(write_new("d/link", "x"), ERR_PRECOND);
	assert_int_equal(system("test -z \"$(find . -name '.r2shim-tmp-*')\" && test \"$(cat n/new)\" = one"), 0);
}

static void
test_A23_left_by_a_dead_writer(void **state)
{
	char *dead, *live;
	int fd[2], dir = open("d", O_RDONLY | O_DIRECTORY);

	(void)state;
	assert_true(dir >= 0);
	assert_int_equal(local_tmp_create(l, "d/a", 3, &fd[0], &dead), ERR_OK);
	assert_int_equal(local_tmp_create(l, "d/b", 3, &fd[1], &live), ERR_OK);
	close(fd[0]);
	assert_true(local_tmp_sweep(dir, strrchr(dead, '/') + 1));
	assert_true(local_tmp_sweep(dir, strrchr(live, '/') + 1));
	assert_int_equal(access(dead, F_OK), -1);
	assert_int_equal(access(live, F_OK), 0);
	assert_false(local_tmp_sweep(dir, "f.txt"));
	assert_false(local_tmp_sweep(dir, ".r2shim-swap-x"));
	assert_int_equal(access("d/f.txt", F_OK), 0);
	mem_free(dead);
	local_tmp_discard(l, &live);
	close(fd[1]);
	close(dir);
}

/* "a b/ c" for a file a, a folder b and a file c; a dot behind them: there is more. */
static void
expect_list(const char *folder, const char *after, size_t max, const char *names)
{
	struct local_names got;
	struct str s = STR_INIT;

	assert_int_equal(local_list(l, Z(folder), after, max, &got), ERR_OK);
	for (size_t i = 0; i < got.n; i++)
		str_printf(&s, "%s%s%s", i > 0 ? " " : "", got.v[i].name, got.v[i].is_folder ? "/" : "");
	if (got.last != NULL)
		str_printf(&s, " .%s", got.last);
	assert_string_equal(str_z(&s), names);
	str_fini(&s);
	local_names_fini(&got);
}

static void
test_list(void **state)
{
	struct local_names got;

	(void)state;
	/* No symlinks, no FIFO, no names of ours; by bytes. */
	expect_list("d/", NULL, 10, "caf\xe9 e\xcc\x81.png f.txt sub/");
	expect_list("", NULL, 10, "d/");
	expect_list("d/sub/", NULL, 10, "");
	file_write("d/sub/B", "", 0644);
	file_write("d/sub/a", "x", 0644);
	file_write("d/sub/a.", "", 0644);
	file_write("d/sub/b", "", 0644);
	file_write("d/sub/.r2shim-tmp-1", "", 0644);
	file_write("d/sub/.hidden", "", 0644);
	expect_list("d/sub/", NULL, 5, ".hidden B a a. b");
	expect_list("d/sub/", NULL, 2, ".hidden B .B");
	expect_list("d/sub/", "B", 2, "a a. .a.");
	expect_list("d/sub/", "a.", 2, "b");
	expect_list("d/sub/", "b", 2, "");
	expect_list("d/sub/", "A", 1, "B .B");
	assert_int_equal(local_list(l, Z("d/sub/"), NULL, 3, &got), ERR_OK);
	assert_int_equal(got.v[2].size, 1);
	assert_true(got.v[2].mtime_ns > 1600000000000000000);
	local_names_fini(&got);
	for (size_t i = 0; i < 5; i++) {
		static const char *const no[] = {"none/", "d/none/", "d/f.txt/", "dlink/", "d/f.txt/x/"};

		assert_int_equal(local_list(l, Z(no[i]), NULL, 3, &got), ERR_NOTFOUND);
		assert_int_equal(got.n, 0);
		local_names_fini(&got);
	}
	/* A root that is gone is not an empty folder. */
	assert_int_equal(unlink(".r2shim-root"), 0);
	assert_int_equal(local_list(l, Z("none/"), NULL, 3, &got), ERR_SENTINEL);
	local_names_fini(&got);
	assert_int_equal(mkdir("empty", 0755), 0);
	assert_int_equal(local_list(l, Z("empty/"), NULL, 3, &got), ERR_SENTINEL);
	local_names_fini(&got);
}

static void
test_write(void **state)
{
	uint64_t space = 0;
	bool created;
	char *tmp;
	int fd;

	(void)state;
	assert_int_equal(write_key("new/deep/file", "one", &created), ERR_OK);
	assert_true(created);
	assert_int_equal(write_key("new/deep/file", "two", &created), ERR_OK);
	assert_false(created);
	assert_int_equal(write_key("top", "x", &created), ERR_OK);
	assert_int_equal(write_key("d/sub", "x", &created), ERR_EXISTS);     /* a folder */
	assert_int_equal(write_key("d/f.txt/x", "x", &created), ERR_EXISTS); /* below a file */
	assert_int_equal(write_key("dlink/x", "x", &created), ERR_EXISTS);   /* through a symlink */
	assert_int_equal(access("d/x", F_OK), -1);
	assert_int_equal(
	    system("test -z \"$(find . -name '.r2shim-tmp-*')\" && test \"$(cat new/deep/file)\" = two"), 0);

	assert_int_equal(local_tmp_create(l, Z("gone/f"), &fd, &tmp), ERR_OK);
	local_tmp_discard(l, &tmp);
	assert_null(tmp);
	local_tmp_discard(l, &tmp);
	assert_int_equal(close(fd), 0);
	assert_int_equal(rmdir("gone"), 0);

	assert_int_equal(settle("new/deep/file"), ERR_OK);
	assert_int_equal(settle("top"), ERR_OK);
	assert_int_equal(settle("nothing"), ERR_NOTFOUND);
	assert_int_equal(local_unlink(l, Z("new/deep/file")), ERR_OK);
	assert_int_equal(local_unlink(l, Z("new/deep/file")), ERR_NOTFOUND);
	assert_int_equal(local_unlink(l, Z("no/such/file")), ERR_NOTFOUND);
	assert_int_equal(local_unlink(l, Z("d/sub")), ERR_NOTFOUND);
	assert_int_equal(local_unlink(l, Z("d/link")), ERR_NOTFOUND);
	assert_int_equal(local_unlink(l, Z("dlink/f.txt")), ERR_UNSUPPORTED);
	assert_int_equal(access("d/f.txt", F_OK), 0);
	assert_int_equal(local_free_space(l, &space), ERR_OK);
	assert_true(space > 0);
}

/* How many fsyncs the file took, its folders included. */
static unsigned
synced(const char *key)
{
	assert_int_equal(settle(key), ERR_OK);
	return syncs;
}

/* A folder's own entry is synced once, as long as somebody tells of folders that are renamed. */
static void
test_folders(void **state)
{
	(void)state;
	assert_int_equal(system("mkdir -p a/b a/c && touch a/b/1 a/b/2 a/c/1"), 0);
	assert_int_equal(synced("a/b/1"), 4);	/* the file, a/b, a, the root */
	assert_int_equal(synced("a/b/1"), 4);
	local_folders_watched(l, true);
	assert_int_equal(synced("a/b/1"), 4);
	assert_int_equal(synced("a/b/2"), 2);	/* the file and its own entry */
	assert_int_equal(synced("a/c/1"), 3);	/* and a/c's entry in a */
	assert_int_equal(synced("a/c/1"), 2);
	/* Another folder of the same name, even if it should get the same inode. */
	assert_int_equal(system("rm -r a/c && mkdir a/c && touch a/c/1"), 0);
	assert_int_equal(synced("a/c/1"), 3);
	/* Renamed away and back: what the disk has of it, nobody knows. */
	local_folders_moved(l);
	assert_int_equal(synced("a/b/1"), 4);
	assert_int_equal(synced("a/b/1"), 2);
	local_folders_watched(l, false);
	assert_int_equal(synced("a/b/1"), 4);
	assert_int_equal(system("rm -r a"), 0);
}

/* Each file's own fsync, and one for a folder that several share. What cannot be had of one is no matter to the others. */
static void
test_settle(void **state)
{
	static const char *const key[] = { "g/a/1", "g/b/1", "g/a/2", "g/a/none", "g/a/large", "g/a/locked", "dlink/f.txt", "g/a/3" };
	enum { N = sizeof(key) / sizeof(*key), LARGE = 4 };
	struct local_seen v[N];
	int locked;

	(void)state;
	assert_int_equal(system("mkdir -p g/a g/b && touch g/a/1 g/a/2 g/a/3 g/b/1 g/a/locked && truncate -s 1048577 g/a/large"), 0);
	locked = open("g/a/locked", O_RDONLY);
	assert_int_equal(flock(locked, LOCK_EX), 0);
	for (size_t i = 0; i < N; i++)
		v[i] = (struct local_seen){ .key = key[i], .klen = strlen(key[i]) };
	syncs = 0;
	local_settle(l, v, N);
	/* Four files; g/a, g, the root; g/b, g, the root; g/a for what is not there. */
	assert_int_equal(syncs, 4 + 3 + 3 + 1);
	for (size_t i = 0; i < N; i++)
		assert_int_equal(v[i].e, i == 5 ? ERR_CHANGED : i == 6 ? ERR_UNSUPPORTED : ERR_OK);
	assert_false(v[3].st.exists);
	assert_true(v[0].st.exists && v[LARGE].st.exists && v[7].st.exists);
	for (size_t i = 0; i < N; i++)
		assert_int_equal(v[i].alone, i == LARGE);
	assert_int_equal(synced("g/a/large"), 4);
	assert_int_equal(close(locked), 0);
	assert_int_equal(settle("g/a/locked"), ERR_OK);
	assert_int_equal(system("rm -r g"), 0);
}

static void
test_meta(void **state)
{
	struct store_meta m;
	struct local_stat st;

	(void)state;
	assert_int_equal(local_look(l, Z("d/e\xcc\x81.png"), &st), ERR_OK);
	local_meta(&st, Z("d/e\xcc\x81.png"), "public", &m);
	assert_string_equal(m.content_type, "image/png");
	assert_string_equal(m.cache_control, "public");
	assert_string_equal(m.spelling, "d/e\xcc\x81.png");
	assert_int_equal(m.size, 3);
	assert_true(m.has_mtime && m.has_mode && m.mtime_ns == st.mtime_ns);
	store_meta_fini(&m);
	local_meta(&st, Z("plain"), NULL, &m);
	assert_null(m.cache_control);
	assert_null(m.spelling);
	store_meta_fini(&m);
}

int
main(void)
{
#define ROW(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {ROW(test_sentinel), ROW(test_open_key), ROW(test_look),
	    ROW(test_no_evidence), ROW(test_digest), ROW(test_locked), ROW(test_write), ROW(test_write_new),
	    ROW(test_A23_left_by_a_dead_writer), ROW(test_list), ROW(test_folders), ROW(test_settle), ROW(test_meta)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
