/* mime: types by name. */
#include "unit.h"

#include <string.h>

#include "store/mime.h"

static void
expect(const char *key, const char *type)
{
	assert_string_equal(mime_type(key, strlen(key)), type);
}

static void
test_types(void **state)
{
	static const struct conf_list none;

	(void)state;
	for (int loaded = 0; loaded < 2; loaded++) {
		expect("a/b/photo.JPG", "image/jpeg");
		expect("x.7z", "application/x-7z-compressed");
		expect("x.zip", "application/zip");
		expect("backup.tar.gz", "application/gzip");
		expect("x.woff2", "font/woff2");
		expect("noext", "application/octet-stream");
		expect("dir.png/noext", "application/octet-stream");
		expect(".png", "application/octet-stream");
		expect("a/.png", "application/octet-stream");
		expect("a/.hidden.png", "image/png");
		expect("x.", "application/octet-stream");
		expect("x.averyveryverylongextension", "application/octet-stream");
		expect("", "application/octet-stream");
		expect("x.nosuchtypeever", "application/octet-stream");
		mime_init(&none);
	}
	mime_init(&none);
	mime_fini();
	mime_fini();
	expect("x.png", "image/png");
}

/* What the site says goes first; the first call holds. */
static void
test_overrides(void **state)
{
	char txt[] = "txt text/plain; charset=utf-8", heic[] = "heic\timage/x-own", new[] = "new application/x-new",
	     newer[] = "new application/x-newer";
	const struct conf_list own = {(char *[]){txt, heic, new, newer}, 4}, none = {NULL, 0};

	(void)state;
	mime_init(&own);
	mime_init(&none);
	expect("a.TXT", "text/plain; charset=utf-8");
	expect("a.heic", "image/x-own");
	expect("a.new", "application/x-newer");
	expect("a.png", "image/png");
	mime_fini();
	expect("a.txt", "text/plain");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_types), cmocka_unit_test(test_overrides)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
