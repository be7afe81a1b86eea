/* The golden configurations of tests/conf, and what a snapshot answers. */
#include "unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/conf.h"
#include "base/mem.h"
#include "base/str.h"
#include "certs.h"

#define SECRET "n0-one-may-see-this"

static char folder[] = "/tmp/r2shim-conf-XXXXXX";

static void
write_file(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static void
read_file(const char *path, struct str *out)
{
	FILE *f = fopen(path, "r");
	size_t n;

	if (!f)
		fail_msg("%s is missing", path);
	str_clear(out);
	while ((n = fread(str_reserve(out, 4096), 1, 4096, f)) > 0)
		out->len += n;
	str_addz(out, "");
	assert_int_equal(fclose(f), 0);
}

static void
copy_conf_files(const char *from, const char *to)
{
	struct str text = STR_INIT;
	struct dirent *e;
	DIR *d = opendir(from);

	assert_non_null(d);
	while ((e = readdir(d))) {
		char *src = mem_printf("%s/%s", from, e->d_name), *dst = mem_printf("%s/%s", to, e->d_name);
		size_t n = strlen(e->d_name);

		if (n > 5 && strcmp(e->d_name + n - 5, ".conf") == 0) {
			read_file(src, &text);
			write_file(dst, str_z(&text), 0644);
		}
		mem_free(src);
		mem_free(dst);
	}
	assert_int_equal(closedir(d), 0);
	str_fini(&text);
}

/* NAME.pem and NAME.key, good for so long. */
static void
write_certificate(const char *name, int seconds)
{
	struct certs c;
	char *pem = mem_printf("%s.pem", name), *key = mem_printf("%s.key", name);

	certs_make(&c, &(struct certs_want){.name = name, .from_s = seconds - 86400, .to_s = seconds});
	write_file(pem, c.cert, 0644);
	write_file(key, c.key, 0600);
	certs_free(&c);
	mem_free(pem);
	mem_free(key);
}

static int
set_up(void **state)
{
	struct str key = STR_INIT;

	(void)state;
	assert_non_null(mkdtemp(folder));
	assert_int_equal(chdir(folder), 0);
	assert_int_equal(mkdir("state", 0700) | mkdir("media", 0755) | mkdir("media/state", 0755) | mkdir("inc", 0755), 0);
	write_file("r2.secret", SECRET "\n", 0600);
	write_file("token", SECRET "\r\n", 0600);
	write_file("open.secret", "AKID", 0644);
	write_file("empty.secret", "", 0600);
	write_certificate("site", 90 * 86400);
	write_certificate("other", 90 * 86400);
	read_file("other.key", &key);
	write_file("open.key", str_z(&key), 0644);
	str_fini(&key);
	assert_int_equal(setenv("R2SHIM_TEST_SECRET", SECRET, 1) | unsetenv("R2SHIM_TEST_NONE"), 0);
	copy_conf_files(CONF_TESTS, ".");
	copy_conf_files(CONF_TESTS "/inc", "inc");
	return 0;
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static int
tear_down(void **state)
{
	(void)state;
	return chdir("/") | nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The folder's name differs each time: the lists have an @ for it. */
static void
shorten(struct str *text)
{
	struct str out = STR_INIT;
	const char *p = str_z(text), *hit;

	for (; (hit = strstr(p, folder)); p = hit + strlen(folder)) {
		str_add(&out, p, (size_t)(hit - p));
		str_addc(&out, '@');
	}
	str_addz(&out, p);
	str_fini(text);
	*text = out;
}

static void
golden(const char *name)
{
	struct str errors = STR_INIT, expected = STR_INIT;
	char *list = mem_printf(CONF_TESTS "/%.*s.expected", (int)(strlen(name) - 5), name);
	struct conf *c = conf_load(name, &errors);

	shorten(&errors);
	read_file(list, &expected);
	if (strcmp(str_z(&errors), str_z(&expected)) != 0)
		fail_msg("%s gives\n%sand not\n%s", name, str_z(&errors), str_z(&expected));
	assert_true((c != NULL) == (errors.len == 0));
	conf_unref(&c);
	mem_free(list);
	str_fini(&errors);
	str_fini(&expected);
}

static void
test_golden(void **state)
{
	struct dirent *e;
	DIR *d = opendir(".");
	unsigned n = 0;

	(void)state;
	assert_non_null(d);
	while ((e = readdir(d))) {
		size_t len = strlen(e->d_name);

		if (len > 5 && strcmp(e->d_name + len - 5, ".conf") == 0) {
			golden(e->d_name);
			n++;
		}
	}
	assert_int_equal(closedir(d), 0);
	assert_true(n > 40);
}

static void
test_ten_mistakes(void **state)
{
	struct str errors = STR_INIT;
	unsigned lines = 0;

	(void)state;
	assert_null(conf_load("ten.conf", &errors));
	for (const char *p = str_z(&errors); (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, 10);
	str_fini(&errors);
}

static struct conf *
must_load(const char *path)
{
	struct str errors = STR_INIT;
	struct conf *c = conf_load(path, &errors);

	if (!c)
		fail_msg("%s", str_z(&errors));
	str_fini(&errors);
	return c;
}

static void
must_not_load(const char *path, const char *mistake)
{
	struct str errors = STR_INIT;

	assert_null(conf_load(path, &errors));
	shorten(&errors);
	assert_string_equal(str_z(&errors), mistake);
	str_fini(&errors);
}

static void
test_values(void **state)
{
	struct conf *c = must_load("good-full.conf");
	char *expected;

	(void)state;
	assert_string_equal(c->site, "demo-1");
	assert_int_equal(c->phase, 0);
	assert_int_equal(c->canary, 5);
	assert_int_equal(c->listen.n, 4);
	assert_string_equal(c->listen.v[2], "unix:/run/r2shim/http.sock");
	assert_int_equal(c->body_max, 10000000);
	assert_int_equal(c->drain_timeout, 0);
	assert_int_equal(c->target_max, 64);
	assert_int_equal(c->upstream_timeout, 3600000);
	assert_int_equal(c->odd_targets, CONF_ODD_REFUSE);
	assert_int_equal(c->mirror_policy, CONF_MIRROR_ASYNC);
	assert_int_equal(c->source, CONF_SOURCE_ORIGIN);
	assert_int_equal(c->redis_db, 3);
	assert_int_equal(c->max_delete, 16);
	assert_true(c->redis_allow_unsafe);
	assert_string_equal(c->r2_region, "auto");
	assert_string_equal(c->r2_access_key, "AKID");
	assert_string_equal(c->r2_secret, SECRET);
	assert_string_equal(c->redis_password, SECRET);
	assert_string_equal(c->admin_token, SECRET);
	assert_null(c->r2_ca_file);
	expected = mem_printf("%s/state", folder);
	assert_string_equal(c->state_dir, expected);
	mem_free(expected);
	expected = mem_printf("%s/access.log", folder);
	assert_string_equal(c->access_log, expected);
	mem_free(expected);
	expected = mem_printf("%s/inc/phase.conf", folder);
	assert_string_equal(c->phase_file, expected);
	assert_int_equal(c->phase_line, 2);
	assert_false(c->phase_shared);
	mem_free(expected);
	conf_unref(&c);
	assert_null(c);
	conf_unref(&c);

	c = must_load("good.conf");
	expected = mem_printf("unix:%s/state/admin.sock", folder);
	assert_string_equal(c->admin_listen, expected);
	mem_free(expected);
	assert_int_equal(c->lease, 30000);
	assert_int_equal(c->min_free, 64 << 20);
	conf_unref(&c);
}

static void
expect_prefix(const struct conf *c, const char *path, const char *url)
{
	const struct conf_prefix *p = conf_prefix_for(c, path, strlen(path));

	if (!url)
		assert_null(p);
	else
		assert_string_equal(p->url, url);
}

static void
test_paths(void **state)
{
	struct conf *c = must_load("good-full.conf");
	size_t klen;

	(void)state;
	expect_prefix(c, "/m/a.txt", "/m/");
	expect_prefix(c, "/m/", "/m/");
	expect_prefix(c, "/m/private/a", "/m/private/");
	expect_prefix(c, "/m/privateer", "/m/");
	expect_prefix(c, "/m/put/x", "/m/put/");
	expect_prefix(c, "/m", NULL);
	expect_prefix(c, "/", NULL);
	assert_int_equal(conf_prefix_for(c, "/m/put/x", 8)->writes, CONF_WRITES_DISK);
	assert_string_equal(conf_prefix_for(c, "/m/put/x", 8)->token, SECRET);
	assert_int_equal(conf_prefix_for(c, "/m/none/x", 9)->class, CONF_CLASS_DENY);
	assert_int_equal(conf_prefix_for(c, "/m/private/x", 12)->class, CONF_CLASS_AUTHORIZED);
	assert_string_equal(conf_prefix_for(c, "/m/x", 4)->cache_control, "public, max-age=60");
	assert_string_equal(conf_prefix_for(c, "/m/users/x", 10)->auth, "/may/write/");
	assert_true(network_has(conf_prefix_for(c, "/m/users/x", 10)->nets, 2, "10.1.2.3"));
	assert_string_equal(conf_prefix_for(c, "/m/users/x", 10)->methods.v[1], "DELETE");
	assert_true(conf_prefix_for(c, "/m/frozen/x", 11)->methods.v != NULL && conf_prefix_for(c, "/m/frozen/x", 11)->methods.n == 0);
	assert_null(conf_prefix_for(c, "/m/x", 4)->methods.v);

	assert_string_equal(conf_key_of(c, "/m/a/b", 6, &klen), "a/b");
	assert_int_equal(klen, 3);
	assert_non_null(conf_key_of(c, "/m/", 3, &klen));
	assert_int_equal(klen, 0);
	assert_null(conf_key_of(c, "/m", 2, &klen));
	assert_null(conf_key_of(c, "/x/m/a", 6, &klen));

	assert_true(conf_is_upload(c, "/admin/add", 10));
	assert_false(conf_is_upload(c, "/admin", 6));
	assert_true(conf_is_upload(c, "/upload", 7));
	assert_true(conf_is_upload(c, "/upload/x", 9));
	assert_false(conf_is_upload(c, "/uploads", 8));
	conf_unref(&c);
}

/* Certificates whose end is near are named, and loaded; the rest keeps quiet. */
static void
test_warnings(void **state)
{
	struct str text = STR_INIT;
	struct conf *c = must_load("tls-only.conf");

	(void)state;
	assert_non_null(strstr(c->certificates[0].chain, "BEGIN CERTIFICATE"));
	assert_non_null(strstr(c->certificates[0].key, "PRIVATE KEY"));
	conf_warnings(c, &text);
	assert_int_equal(text.len, 0);
	conf_unref(&c);
	write_certificate("site", 3 * 86400 + 3600);
	c = must_load("tls-only.conf");
	conf_warnings(c, &text);
	assert_non_null(strstr(str_z(&text), "/site.pem: the certificate, or one of its chain, ends on 20"));
	assert_non_null(strstr(str_z(&text), ", in 3 days; renew it\n"));
	conf_unref(&c);
	str_clear(&text);
	write_certificate("site", -60);
	c = must_load("tls-only.conf");
	conf_warnings(c, &text);
	assert_non_null(strstr(str_z(&text), "/site.pem: the certificate, or one of its chain, ended on 20"));
	conf_unref(&c);
	write_certificate("site", 90 * 86400);
	str_fini(&text);
}

static void
test_private(void **state)
{
	struct conf *c = must_load("private-good.conf");
	struct str out = STR_INIT;
	const char *root = c->media_root;
	size_t n = strlen(root);

	(void)state;
	/* R2 takes these names for one: each falls under the one prefix. */
	expect_prefix(c, "/media/Keys/x", "/media/Keys/");
	expect_prefix(c, "/media/\xe2\x84\xaa" "eys/x", "/media/Keys/");
	expect_prefix(c, "/media/keys/x", "/media/");
	expect_prefix(c, "/media/prive\xcc\x81/x", "/media/prive\xcc\x81/");
	expect_prefix(c, "/media/priv\xc3\xa9/x", "/media/prive\xcc\x81/");
	expect_prefix(c, "/media/prive/x", "/media/");
	expect_prefix(c, "/media/priv\xc3\xa9/\xff", "/media/");	/* not UTF-8: nothing that R2 could have */
	assert_string_equal(conf_prefix_for(c, "/media/Keys/x", 13)->read_auth, "/may/");

	assert_int_equal(c->ninternal, 4);
	assert_string_equal(c->internal[0].alias, root);	/* it is written with its slash */
	assert_string_equal(c->internal[0].key, "");
	assert_int_equal(strncmp(c->internal[1].alias, root, n), 0);
	assert_string_equal(c->internal[1].alias + n, "Keys/");
	assert_string_equal(c->internal[1].key, "Keys/");
	assert_null(c->internal[3].url);
	assert_string_equal(c->internal[3].key, "Keys/x/");
	assert_true(conf_is_internal(c, "/protected/a", 12));
	assert_true(conf_is_internal(c, "/protected/", 11));
	assert_true(conf_is_internal(c, "/media/in/a", 11));
	assert_false(conf_is_internal(c, "/protected", 10));
	assert_false(conf_is_internal(c, "/media/inn", 10));
	conf_dump(c, &out);
	assert_non_null(strstr(str_z(&out), "\nmedia.internal[0].url = \"/protected/\"\n"));
	str_fini(&out);
	conf_unref(&c);
}

static void
test_restart(void **state)
{
	struct conf *a = must_load("good.conf"), *b = must_load("good.conf"), *old = conf_ref(a);

	(void)state;
	assert_null(conf_needs_restart(a, b));
	b->canary = 7;
	b->mirror_deadline = 1;
	assert_null(conf_needs_restart(a, b));
	b->lease = 1;
	assert_string_equal(conf_needs_restart(a, b), "coord.lease");
	b->lease = a->lease;
	b->listen.v[0][strlen(b->listen.v[0]) - 1] = '1';
	assert_string_equal(conf_needs_restart(a, b), "proxy.listen");
	b->listen.v[0][strlen(b->listen.v[0]) - 1] = '0';
	b->redis_password = mem_strdup("new");
	assert_string_equal(conf_needs_restart(a, b), "redis.password-file");
	conf_unref(&a);
	assert_string_equal(old->site, "demo");
	conf_unref(&old);
	conf_unref(&b);
}

static void
test_secrets_do_not_show(void **state)
{
	struct conf *c = must_load("good-full.conf");
	struct str out = STR_INIT;

	(void)state;
	conf_dump(c, &out);
	assert_null(strstr(str_z(&out), SECRET));
	assert_non_null(strstr(str_z(&out), "\nr2.secret-access-key = ***\n"));
	assert_non_null(strstr(str_z(&out), "\nmedia.prefixes[6].url = \"/m/\"\n"));
	assert_non_null(strstr(str_z(&out), "].token-file = ***\n"));
	assert_non_null(strstr(str_z(&out), "].methods = [ \"PUT\", \"DELETE\" ]\n"));
	assert_null(strstr(str_z(&out), "prefixes[6].methods"));	/* not given, and not an empty list */
	assert_non_null(strstr(str_z(&out), "\nproxy.body-max = \"10000000\"\n"));
	assert_non_null(strstr(str_z(&out), "\nproxy.drain-timeout = \"0ms\"\n"));
	str_fini(&out);
	conf_unref(&c);
}

static void
test_write_phase(void **state)
{
	struct conf *c = must_load("good.conf");
	struct errbuf eb;
	struct stat st;

	(void)state;
	assert_int_equal(chmod("inc/phase.conf", 0640), 0);
	assert_int_equal(conf_write_phase(c, "no-phase", &eb), ERR_INVAL);
	assert_int_equal(conf_write_phase(c, "dual-write", &eb), ERR_OK);
	conf_unref(&c);
	c = must_load("good.conf");
	assert_int_equal(c->phase, 1);
	assert_int_equal(stat("inc/phase.conf", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(st.st_nlink, 1);

	/* A symlink stays one: the file behind it is replaced. */
	assert_int_equal(rename("inc/phase.conf", "inc/behind"), 0);
	assert_int_equal(symlink("behind", "inc/phase.conf"), 0);
	assert_int_equal(conf_write_phase(c, "passthrough", &eb), ERR_OK);
	assert_int_equal(lstat("inc/phase.conf", &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	conf_unref(&c);
	c = must_load("good.conf");
	assert_int_equal(c->phase, 0);

	assert_int_equal(unlink("inc/phase.conf"), 0);
	assert_int_equal(conf_write_phase(c, "dual-write", &eb), ERR_NOTFOUND);
	assert_int_equal(rename("inc/behind", "inc/phase.conf"), 0);
	conf_unref(&c);

	c = must_load("phase-in-main.conf");
	assert_int_equal(conf_write_phase(c, "backfill", &eb), ERR_STATE);
	assert_non_null(strstr(eb.text, "phase-in-main.conf:1: "));
	conf_unref(&c);
	c = must_load("phase-shared.conf");
	assert_int_equal(conf_write_phase(c, "backfill", &eb), ERR_STATE);
	assert_non_null(strstr(eb.text, "inc/mixed.conf:1: "));
	conf_unref(&c);
}

static void
test_odd_files(void **state)
{
	struct str errors = STR_INIT;
	struct conf *c;
	char *path = mem_printf("%s/wrong-included.conf", folder);
	int fd;

	(void)state;
	must_not_load("nowhere.conf", "nowhere.conf: cannot open @/nowhere.conf: No such file or directory\n");
	must_not_load("inc", "inc: @/inc is no regular file\n");
	must_not_load(path, "@/inc/wrong.conf:3: canary = 101 is out of range; it is 0 to 100\n");
	mem_free(path);
	assert_int_equal(chmod("inc/phase.conf", 0666), 0);
	must_not_load("good.conf",
	    "good.conf:2: @/inc/phase.conf may be written by everybody: run chmod o-w @/inc/phase.conf\n");
	assert_int_equal(chmod("inc/phase.conf", 0644), 0);
	write_file("nul", "site = \"a", 0644);
	fd = open("nul", O_WRONLY | O_APPEND);
	assert_int_equal(write(fd, "\0@include", 9), 9);
	assert_int_equal(close(fd), 0);
	must_not_load("nul", "nul: @/nul holds a NUL byte: no text file\n");

	/* init makes the state folder, so it may be missing then. */
	assert_int_equal(rmdir("state"), 0);
	must_not_load("good.conf",
	    "inc/site.conf:2: state-dir: @/state does not exist; run \"r2shim init\", which makes it\n");
	c = conf_load_init("good.conf", &errors);
	assert_non_null(c);
	conf_unref(&c);
	assert_int_equal(mkdir("state", 0700), 0);
	str_fini(&errors);
}

static void
test_option_list(void **state)
{
	struct str out = STR_INIT;
	json_t *list;

	(void)state;
	conf_list_options(&out, true);
	list = json_loads(str_z(&out), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(list);
	assert_true(json_array_size(list) > 60);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "name")), "site");
	assert_true(json_is_true(json_object_get(json_array_get(list, 0), "required")));
	json_decref(list);
	str_clear(&out);
	conf_list_options(&out, false);
	assert_non_null(strstr(str_z(&out), "\nmedia.prefixes.token-file "));
	str_fini(&out);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_ten_mistakes),
	    cmocka_unit_test(test_values), cmocka_unit_test(test_paths), cmocka_unit_test(test_warnings),
	    cmocka_unit_test(test_restart),
	    cmocka_unit_test(test_values), cmocka_unit_test(test_paths), cmocka_unit_test(test_private), cmocka_unit_test(test_restart),
	    cmocka_unit_test(test_secrets_do_not_show), cmocka_unit_test(test_write_phase),
	    cmocka_unit_test(test_odd_files), cmocka_unit_test(test_option_list)};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
