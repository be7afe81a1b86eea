/* accept: Accept-Encoding against what there may be. */
#include "unit.h"

#include <string.h>

#include "base/str.h"
#include "proxy/accept.h"

static void
test_choose(void **state)
{
	static const struct {
		const char *accept, *chosen;
	} rows[] = {
		{ "", "" },
		{ "gzip", "gzip " },
		{ "gzip, br", "br gzip " },
		{ "GZip,Br", "br gzip " },
		{ "x-gzip", "gzip " },
		{ "gzip;q=1.0, br;q=0.9", "gzip br " },
		{ "br ; q=0.5 ,\tgzip;Q=0.501", "gzip br " },
		{ "br;q=0, gzip", "gzip " },
		{ "br;q=0.000", "" },
		{ "br;q=0.001", "br " },
		{ "*", "br gzip " },
		{ "*;q=0", "" },
		{ "br;q=0, *", "gzip " },
		{ "*, gzip;q=0.5", "br gzip " },
		{ "identity", "" },
		{ "identity, gzip;q=0.5", "" },
		{ "identity;q=0.5, gzip;q=0.5", "gzip " },
		{ "identity;q=0, gzip;q=0.1", "gzip " },
		{ "deflate, compress", "" },
		{ "gzip;q=2", "" },
		{ "gzip;q=1.5", "" },
		{ "gzip;q=", "" },
		{ "gzip;q=a", "" },
		{ "gzip;q=0.1x", "" },
		{ "gzip;level=9", "" },
		{ "gzipped, brr, b", "" },
		{ ",, gzip ,,", "gzip " },
		{ "gzip, gzip;q=0", "" },
	};
	const enum accept_coding offered[] = { ACCEPT_BR, ACCEPT_GZIP }, one[] = { ACCEPT_GZIP };
	enum accept_coding chosen[ACCEPT_CODINGS];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct str got = STR_INIT;
		unsigned n = accept_choose(rows[i].accept, strlen(rows[i].accept), offered, 2, chosen);

		for (unsigned k = 0; k < n; k++)
			str_printf(&got, "%s ", accept_coding_name(chosen[k]));
		if (strcmp(str_z(&got), rows[i].chosen) != 0)
			fail_msg("%s: %s, not %s", rows[i].accept, str_z(&got), rows[i].chosen);
		str_fini(&got);
	}
	assert_int_equal(accept_choose("gzip, br", 8, one, 1, chosen), 1);
	assert_int_equal(chosen[0], ACCEPT_GZIP);
	assert_int_equal(accept_choose("gzip, br", 8, one, 0, chosen), 0);
	assert_string_equal(accept_coding_suffix(ACCEPT_GZIP), ".gz");
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_choose) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
