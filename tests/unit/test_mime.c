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
		mime_init();
	}
	mime_init();
	mime_fini();
	mime_fini();
	expect("x.png", "image/png");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_types)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
