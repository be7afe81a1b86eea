#include "proxy/route.h"

#include <stdio.h>
#include <string.h>

#include "unit.h"

static char *uploads[] = { (char *)(uintptr_t) "/upload/" };
static struct conf_prefix prefixes[] = {
	{ .url = (char *)(uintptr_t) "/media/disk/", .url_len = 12, .class = CONF_CLASS_PUBLIC, .writes = CONF_WRITES_DISK },
	{ .url = (char *)(uintptr_t) "/media/mine/", .url_len = 12, .class = CONF_CLASS_AUTHORIZED, .writes = CONF_WRITES_DISK,
		.token = (char *)(uintptr_t) "sesame" },
	{ .url = (char *)(uintptr_t) "/media/deny/", .url_len = 12, .class = CONF_CLASS_DENY },
	{ .url = (char *)(uintptr_t) "/media/auth/", .url_len = 12, .class = CONF_CLASS_AUTHORIZED },
	{ .url = (char *)(uintptr_t) "/media/ask/", .url_len = 11, .class = CONF_CLASS_AUTHORIZED, .read_auth = (char *)(uintptr_t) "/may" },
	{ .url = (char *)(uintptr_t) "/media/Keys/", .url_len = 12, .class = CONF_CLASS_AUTHORIZED },
	/* As a Mac writes it; and what R2 takes it for. */
	{ .url = (char *)(uintptr_t) "/media/prive\xcc\x81/", .url_nfc = (char *)(uintptr_t) "/media/priv\xc3\xa9/", .url_len = 15,
		.class = CONF_CLASS_AUTHORIZED },
	{ .url = (char *)(uintptr_t) "/media/pass/", .url_len = 12, .class = CONF_CLASS_UPSTREAM },
	{ .url = (char *)(uintptr_t) "/media/dav/", .url_len = 11, .class = CONF_CLASS_PUBLIC, .writes = CONF_WRITES_UPSTREAM },
	{ .url = (char *)(uintptr_t) "/media/own/", .url_len = 11, .class = CONF_CLASS_PUBLIC, .token = (char *)(uintptr_t) "x" },
	{ .url = (char *)(uintptr_t) "/media/", .url_len = 7, .class = CONF_CLASS_PUBLIC },
};
static struct conf_internal internal[] = {
	{ .url = (char *)(uintptr_t) "/protected/", .url_len = 11 },
	{ .url = (char *)(uintptr_t) "/media/inner/", .url_len = 13 },
	{ .url = (char *)(uintptr_t) "/media/mine/in/", .url_len = 15 },
};
static struct conf conf = {
	.internal = internal,
	.ninternal = sizeof internal / sizeof internal[0],
	.media_url = (char *)(uintptr_t) "/media/",
	.uploads = { uploads, 1 },
	.prefixes = prefixes,
	.nprefixes = sizeof prefixes / sizeof prefixes[0],
	.canary = 100,
};

/* Further header lines of the requests. */
static const char *bearing = "";

static void
check(const char *method, const char *target, enum phase phase, enum route_what what, const char *key)
{
	static const struct http1_limits lim = { 8192, 4096, 64 };
	struct http1_head h;
	enum http1_bad bad;
	struct route r;
	size_t scan = 0, used;
	char text[4096];

	snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n", method, target, bearing);
	assert_int_equal(http1_parse_request(&h, text, strlen(text), &lim, &scan, &used, &bad), HTTP1_DONE);
	route_init(&r);
	route_decide(&r, &h, &conf, phase);
	if (r.what != what)
		fail_msg("%s %s in %s: %s, expected %s", method, target, phase_row(phase)->name, route_name(r.what), route_name(what));
	if (key == NULL && r.key != NULL)
		fail_msg("%s %s: key %.*s, expected none", method, target, (int)r.klen, r.key);
	if (key != NULL && (r.key == NULL || !str_slice_eq(r.key, r.klen, key)))
		fail_msg("%s %s: expected key %s", method, target, key);
	route_fini(&r);
}

static void
test_passthrough_touches_nothing(void **state)
{
	static const char *const methods[] = { "GET", "HEAD", "POST", "PUT", "DELETE", "MKCOL", "OPTIONS" };
	static const char *const targets[] = { "/", "/media/a.jpg", "/media/deny/a", "/media/dav/a", "/media/auth/", "/upload/", "/media/../x", "/%2e%2e/x" };
	size_t i, j;

	(void)state;
	for (i = 0; i < sizeof methods / sizeof methods[0]; i++)
		for (j = 0; j < sizeof targets / sizeof targets[0]; j++)
			check(methods[i], targets[j], PHASE_PASSTHROUGH, ROUTE_PASS, NULL);
}

static void
test_media(void **state)
{
	static const struct {
		const char *method, *target;
		enum route_what what;
		const char *key;
	} rows[] = {
		{ "GET", "/media/a.jpg", ROUTE_READ, "a.jpg" },
		{ "HEAD", "/media/a.jpg?v=1", ROUTE_READ, "a.jpg" },
		{ "GET", "/media/b/c%20d.jpg", ROUTE_READ, "b/c d.jpg" },
		{ "GET", "/media/caf%C3%A9.txt", ROUTE_READ, "caf\xc3\xa9.txt" },
		{ "GET", "/media/p%252Fq.txt", ROUTE_READ, "p%2Fq.txt" },
		{ "GET", "http://x/media/a.jpg", ROUTE_READ, "a.jpg" },
		{ "GET", "/media/", ROUTE_PASS, NULL },
		{ "GET", "/media/b/", ROUTE_PASS, NULL },
		{ "GET", "/mediaa.jpg", ROUTE_PASS, NULL },
		{ "GET", "/", ROUTE_PASS, NULL },
		{ "OPTIONS", "/media/a.jpg", ROUTE_PASS, NULL },
		{ "PROPFIND", "/media/dav/a", ROUTE_PASS, NULL },
		{ "GET", "/media/.r2shim-root", ROUTE_REFUSE, NULL },
		{ "PUT", "/media/disk/.r2shim-tmp-1", ROUTE_REFUSE, NULL },
		{ "GET", "/media/deny/a", ROUTE_REFUSE, NULL },
		{ "PUT", "/media/deny/a", ROUTE_REFUSE, NULL },
		{ "GET", "/media/auth/a", ROUTE_PASS, NULL },
		{ "GET", "/media/pass/a", ROUTE_PASS, NULL },
		/* Asked before it is read; what is no file is asked about, too, and passed on. */
		{ "GET", "/media/ask/a", ROUTE_READ, "ask/a" },
		{ "HEAD", "/media/ask/a?x", ROUTE_READ, "ask/a" },
		{ "GET", "/media/ask/", ROUTE_PASS, NULL },
		{ "PROPFIND", "/media/ask/a", ROUTE_PASS, NULL },
		{ "GET", "/media//ask/a", ROUTE_REFUSE, NULL },
		{ "GET", "/media/x/../ask/a", ROUTE_REFUSE, NULL },
		{ "GET", "/media/ask%2fa", ROUTE_REFUSE, NULL },
		{ "GET", "/media/Ask/a", ROUTE_READ, "Ask/a" },
		{ "GET", "/media//auth/a", ROUTE_PASS, NULL },
		/* R2 knows one spelling of a name: no other one leads around a prefix. */
		{ "GET", "/media/Keys/a", ROUTE_PASS, NULL },
		{ "GET", "/media/%E2%84%AAeys/a", ROUTE_PASS, NULL },
		{ "GET", "/media/keys/a", ROUTE_READ, "keys/a" },
		{ "GET", "/media/priv%C3%A9/a", ROUTE_PASS, NULL },
		{ "GET", "/media/prive%CC%81/a", ROUTE_PASS, NULL },
		{ "GET", "/media/prive/a", ROUTE_READ, "prive/a" },
		/* What only the application may name. */
		{ "GET", "/protected/a", ROUTE_REFUSE, NULL },
		{ "HEAD", "/%70rotected/a", ROUTE_REFUSE, NULL },
		{ "POST", "/protected/", ROUTE_REFUSE, NULL },
		{ "GET", "//protected/a", ROUTE_REFUSE, NULL },
		{ "GET", "/x/%2e%2e/protected%2fa", ROUTE_REFUSE, NULL },
		{ "GET", "http://x/protected/a", ROUTE_REFUSE, NULL },
		{ "GET", "/protected", ROUTE_PASS, NULL },
		{ "GET", "/media/inner/a", ROUTE_REFUSE, NULL },
		{ "PUT", "/media/inner/a", ROUTE_REFUSE, NULL },
		{ "PUT", "/media/mine/in/a", ROUTE_STORE, "mine/in/a" },
		{ "GET", "/media/mine/in/a", ROUTE_REFUSE, NULL },
		/* Writes. */
		{ "PUT", "/media/a.jpg", ROUTE_PASS, NULL },
		{ "DELETE", "/media/a.jpg", ROUTE_PASS, NULL },
		{ "PUT", "/media/dav/a.jpg", ROUTE_WRITE, "dav/a.jpg" },
		{ "DELETE", "/media/dav/a.jpg", ROUTE_WRITE, "dav/a.jpg" },
		{ "MOVE", "/media/dav/a.jpg", ROUTE_WRITE, NULL },
		{ "PUT", "/media/disk/a.jpg", ROUTE_STORE, "disk/a.jpg" },
		{ "DELETE", "/media/disk/a.jpg", ROUTE_REMOVE, "disk/a.jpg" },
		{ "POST", "/media/disk/a.jpg", ROUTE_PASS, NULL },
		{ "POST", "/upload/", ROUTE_WRITE, NULL },
		{ "PUT", "/upload/x", ROUTE_WRITE, NULL },
		{ "GET", "/upload/", ROUTE_PASS, NULL },
		{ "POST", "/other", ROUTE_PASS, NULL },
		/* Odd targets keep their bytes; no key is ever made of them. A write through one may land on an upload path. */
		{ "GET", "/media/../media/a.jpg", ROUTE_PASS, NULL },
		{ "GET", "/media/%2e%2e/a.jpg", ROUTE_PASS, NULL },
		{ "GET", "/media/sub%2fb.txt", ROUTE_PASS, NULL },
		{ "GET", "/media//a.jpg", ROUTE_PASS, NULL },
		{ "GET", "//media/a.jpg", ROUTE_PASS, NULL },
		{ "GET", "/media/./a.jpg", ROUTE_PASS, NULL },
		{ "PUT", "/media/disk/../a.jpg", ROUTE_WRITE, NULL },
		{ "PUT", "/media/x/..//disk/a.jpg", ROUTE_REFUSE, NULL },
		{ "PUT", "/media//.r2shim-root", ROUTE_REFUSE, NULL },
		{ "GET", "/media//deny/a", ROUTE_REFUSE, NULL },
		{ "POST", "/x/../upload/", ROUTE_WRITE, NULL },
		/* Nobody gets around a prefix's rules by a name that the upstream cleans; reads have none. */
		{ "PUT", "/media/own/a", ROUTE_PASS, NULL },
		{ "PUT", "/media//own/a", ROUTE_REFUSE, NULL },
		{ "DELETE", "/media/x/%2e%2e/own/a", ROUTE_REFUSE, NULL },
		{ "PUT", "/media/own%2fa", ROUTE_REFUSE, NULL },
		{ "PUT", "/media/own/../a", ROUTE_WRITE, NULL },
		{ "GET", "/media//own/a", ROUTE_PASS, NULL },
		/* Malformed ones are refused. */
		{ "GET", "/media/%00", ROUTE_REFUSE, NULL },
		{ "GET", "/media/%zz", ROUTE_REFUSE, NULL },
		{ "GET", "/media/%", ROUTE_REFUSE, NULL },
		{ "OPTIONS", "*", ROUTE_PASS, NULL },
	};
	size_t i;
	int p;

	(void)state;
	for (p = PHASE_DUAL_WRITE; p <= PHASE_VALIDATE; p++)
		for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
			check(rows[i].method, rows[i].target, (enum phase)p, rows[i].what, rows[i].key);
}

/* Where we write ourselves we do so in every phase, and whoever bears the token reads and lists. */
static void
test_own(void **state)
{
	static const struct {
		const char *method, *target;
		enum route_what without, with;
		const char *key, *key_without;
	} rows[] = {
		{ "PUT", "/media/mine/a", ROUTE_STORE, ROUTE_STORE, "mine/a", "mine/a" },
		{ "DELETE", "/media/mine/a", ROUTE_REMOVE, ROUTE_REMOVE, "mine/a", "mine/a" },
		{ "GET", "/media/mine/a", ROUTE_PASS, ROUTE_READ, "mine/a", NULL },
		{ "HEAD", "/media/mine/a", ROUTE_PASS, ROUTE_READ, "mine/a", NULL },
		{ "GET", "/media/mine/", ROUTE_PASS, ROUTE_LIST, "mine/", NULL },
		{ "GET", "/media/mine/b/?after=c", ROUTE_PASS, ROUTE_LIST, "mine/b/", NULL },
		{ "HEAD", "/media/mine/b/", ROUTE_PASS, ROUTE_PASS, NULL, NULL },
		{ "POST", "/media/mine/a", ROUTE_PASS, ROUTE_PASS, NULL, NULL },
		{ "PUT", "/media/mine/b/", ROUTE_PASS, ROUTE_PASS, NULL, NULL },
		{ "GET", "/media/auth/a", ROUTE_PASS, ROUTE_PASS, NULL, NULL },
		{ "GET", "/media/auth/", ROUTE_PASS, ROUTE_PASS, NULL, NULL },
	};
	size_t i;
	int p;

	(void)state;
	for (p = PHASE_PASSTHROUGH; p <= PHASE_VALIDATE; p++)
		for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
			bearing = "";
			check(rows[i].method, rows[i].target, (enum phase)p, rows[i].without, rows[i].key_without);
			bearing = "Authorization: Bearer sesam3\r\n";
			check(rows[i].method, rows[i].target, (enum phase)p, rows[i].without, rows[i].key_without);
			bearing = "Authorization: Bearer sesame\r\n";
			check(rows[i].method, rows[i].target, (enum phase)p, rows[i].with, rows[i].key);
		}
	bearing = "";
}

/* Whoever carried a PUT or DELETE out before, from r2-primary on R2 gets it first. All else stays. */
static void
test_r2_first(void **state)
{
	enum phase p;

	(void)state;
	for (p = PHASE_R2_PRIMARY; p <= PHASE_R2_ONLY; p++) {
		check("PUT", "/media/dav/a.jpg", p, ROUTE_FIRST, "dav/a.jpg");
		check("DELETE", "/media/disk/a.jpg", p, ROUTE_FIRST, "disk/a.jpg");
		check("PATCH", "/media/dav/a.jpg", p, ROUTE_WRITE, "dav/a.jpg");
		check("MOVE", "/media/dav/a.jpg", p, ROUTE_WRITE, NULL);
		check("PUT", "/media/a.jpg", p, ROUTE_PASS, NULL);
		check("POST", "/upload/", p, ROUTE_WRITE, NULL);
		check("GET", "/media/disk/a.jpg", p, ROUTE_READ, "disk/a.jpg");
		/* R2 cannot hold the name: the disk keeps it. */
		check("PUT", "/media/disk/l%E9", p, ROUTE_STORE, "disk/l\xe9");
	}
}

/* A second name does not get around the rules of the prefix that it lies in, nor does it reach what is ours. */
static void
test_destinations(void **state)
{
	static const struct {
		const char *method, *target, *destination;
		enum route_what what;
	} rows[] = {
		{ "MOVE", "/media/dav/a", "/media/dav/b", ROUTE_WRITE },
		{ "MOVE", "/media/dav/a", "http://x/media/dav/b?x", ROUTE_WRITE },
		{ "COPY", "/media/dav/a", "http://x/elsewhere", ROUTE_WRITE },
		{ "MOVE", "/media/dav/a", "/media/own/b", ROUTE_REFUSE },
		{ "MOVE", "/media/dav/a", "http://x/media/own/b", ROUTE_REFUSE },
		{ "COPY", "/media/dav/a", "/media/disk/b", ROUTE_REFUSE },
		{ "COPY", "/media/dav/a", "/media/deny/b", ROUTE_REFUSE },
		{ "MOVE", "/elsewhere", "/media/x/..//own/b", ROUTE_REFUSE },
		{ "MOVE", "/media/own/a", "/media/own/b", ROUTE_PASS },
		{ "MOVE", "/media/own/a", "/media/dav/b", ROUTE_PASS },
		{ "MOVE", "/media/dav/a", "/media/.r2shim-root", ROUTE_REFUSE },
		{ "MOVE", "/media/dav/a", "/media/dav/.r2shim-tmp-1", ROUTE_REFUSE },
		{ "MOVE", "/media/dav/a", "http://x", ROUTE_REFUSE },
		{ "MOVE", "/media/dav/a", "b", ROUTE_REFUSE },
		{ "MOVE", "/media/dav/a", "/media/%00", ROUTE_REFUSE },
		{ "GET", "/media/dav/a", "/media/own/b", ROUTE_READ },
	};
	char line[128];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		snprintf(line, sizeof line, "Destination: %s\r\n", rows[i].destination);
		bearing = line;
		check(rows[i].method, rows[i].target, PHASE_DUAL_WRITE, rows[i].what, rows[i].what == ROUTE_READ ? "dav/a" : NULL);
		check(rows[i].method, rows[i].target, PHASE_PASSTHROUGH, ROUTE_PASS, NULL);
	}
	bearing = "";
}

static void
test_options(void **state)
{
	(void)state;
	conf.odd_targets = CONF_ODD_REFUSE;
	check("GET", "/media//a.jpg", PHASE_PASSTHROUGH, ROUTE_REFUSE, NULL);
	conf.odd_targets = CONF_ODD_UPSTREAM;
	conf.source = CONF_SOURCE_ORIGIN;
	check("GET", "/media/a.jpg", PHASE_READ_R2, ROUTE_PASS, NULL);
	conf.source = CONF_SOURCE_DISK;
}

static void
test_read_plan(void **state)
{
	static const struct mark local = { .gen = 1, .side = MARK_LOCAL }, r2 = { .gen = 1, .side = MARK_R2 };
	static const struct {
		enum phase phase;
		int canary;
		const char *key;
		const struct mark *mark;
		bool uncertain;
		enum route_order order;
		bool violation, armed;
	} rows[] = {
		{ PHASE_DUAL_WRITE, 100, "a", NULL, false, ROUTE_DISK, false, false },
		{ PHASE_BACKFILL, 100, "a", NULL, true, ROUTE_DISK, false, false },
		{ PHASE_READ_R2, 100, "a", NULL, false, ROUTE_R2_DISK, false, false },
		{ PHASE_READ_R2, 0, "a", NULL, false, ROUTE_DISK_R2, false, false },
		{ PHASE_READ_R2, 100, "a", NULL, true, ROUTE_DISK_CAUTIOUS, false, false },
		{ PHASE_READ_R2, 100, "a", &local, false, ROUTE_DISK, false, false },
		{ PHASE_READ_R2, 100, "a", &local, true, ROUTE_DISK, false, false },
		{ PHASE_READ_R2, 100, "l\xe9", NULL, false, ROUTE_DISK, false, false },
		{ PHASE_VALIDATE, 0, "a", NULL, false, ROUTE_R2_DISK, true, false },
		{ PHASE_VALIDATE, 0, "a", &local, false, ROUTE_DISK, false, false },
		{ PHASE_VALIDATE, 0, "a", NULL, true, ROUTE_DISK_CAUTIOUS, true, false },
		/* Some member may write R2 first: a fallback asks first, and who does not know the marks must not trust the disk. */
		{ PHASE_VALIDATE, 0, "a", NULL, false, ROUTE_R2_DISK, true, true },
		{ PHASE_VALIDATE, 0, "a", NULL, true, ROUTE_R2, true, true },
		{ PHASE_READ_R2, 0, "a", NULL, true, ROUTE_DISK_CAUTIOUS, false, true },
		{ PHASE_R2_PRIMARY, 0, "a", NULL, false, ROUTE_R2_ERRORS, false, true },
		{ PHASE_R2_PRIMARY, 0, "a", NULL, true, ROUTE_R2, false, true },
		{ PHASE_R2_PRIMARY, 0, "a", &local, false, ROUTE_DISK, false, true },
		{ PHASE_R2_PRIMARY, 0, "a", &r2, false, ROUTE_R2, false, true },
		{ PHASE_R2_PRIMARY, 0, "l\xe9", NULL, false, ROUTE_DISK, false, true },
		{ PHASE_R2_ONLY, 0, "a", NULL, false, ROUTE_R2, false, true },
		/* What write-behind left to the disk is served from R2 in every phase. */
		{ PHASE_DUAL_WRITE, 0, "a", &r2, false, ROUTE_R2, false, false },
	};
	struct route_plan p;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		conf.canary = rows[i].canary;
		route_read_plan(&p, &conf, rows[i].phase, rows[i].key, strlen(rows[i].key),
		    &(struct route_marks){ rows[i].mark, rows[i].uncertain, rows[i].armed });
		if (p.order != rows[i].order || p.violation != rows[i].violation || (p.order == ROUTE_R2_DISK && p.ask != rows[i].armed))
			fail_msg("row %zu: order %d, violation %d", i, p.order, p.violation);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_passthrough_touches_nothing),
		cmocka_unit_test(test_media),
		cmocka_unit_test(test_own),
		cmocka_unit_test(test_destinations),
		cmocka_unit_test(test_r2_first),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_read_plan),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
