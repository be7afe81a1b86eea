#include "sandbox/keyidx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "unit.h"

enum { KEYS = 20000 };

static struct keyidx_node *
node(unsigned n)
{
	struct keyidx_node *k = mem_zalloc(sizeof(*k));

	k->key = mem_printf("k%05u", n);
	k->klen = strlen(k->key);
	return k;
}

static void
node_free(struct keyidx_node *n)
{
	mem_free(n->key);
	mem_free(n);
}

static void
free_all(struct keyidx *ix)
{
	struct keyidx_pos pos = {0, 0};
	struct keyidx_node *n;

	while ((n = keyidx_next(ix, &pos)) != NULL)
		node_free(n);
	keyidx_free(&ix);
}

/* In any order of insertion the walk is sorted and complete. */
static void
test_order(void **state)
{
	static const unsigned steps[] = {1, KEYS - 1, 7919};

	(void)state;
	for (size_t s = 0; s < 3; s++) {
		struct keyidx *ix = keyidx_new();
		struct keyidx_pos pos = {0, 0};
		struct keyidx_node *n;
		unsigned seen = 0;
		char want[16];

		for (unsigned i = 0, k = 0; i < KEYS; i++, k = (k + steps[s]) % KEYS)
			keyidx_add(ix, node(k));
		assert_int_equal(keyidx_count(ix), KEYS);
		while ((n = keyidx_next(ix, &pos)) != NULL) {
			snprintf(want, sizeof(want), "k%05u", seen++);
			assert_string_equal(n->key, want);
			assert_ptr_equal(keyidx_get(ix, want, strlen(want)), n);
		}
		assert_int_equal(seen, KEYS);
		free_all(ix);
	}
}

static void
test_delete(void **state)
{
	struct keyidx *ix = keyidx_new();
	char key[16];

	(void)state;
	for (unsigned i = 0; i < KEYS; i++)
		keyidx_add(ix, node(i));
	for (unsigned i = 0; i < KEYS; i += 2) {
		struct keyidx_node *n;

		snprintf(key, sizeof(key), "k%05u", i);
		n = keyidx_del(ix, key, strlen(key));
		assert_non_null(n);
		node_free(n);
		assert_null(keyidx_del(ix, key, strlen(key)));
		assert_null(keyidx_get(ix, key, strlen(key)));
	}
	assert_int_equal(keyidx_count(ix), KEYS / 2);
	for (unsigned i = 1; i < KEYS; i += 2) {
		snprintf(key, sizeof(key), "k%05u", i);
		node_free(keyidx_del(ix, key, strlen(key)));
	}
	assert_int_equal(keyidx_count(ix), 0);
	assert_null(keyidx_get(ix, "k", 1));
	keyidx_add(ix, node(1));
	free_all(ix);
}

static const char *
first(const struct keyidx *ix, const char *key, size_t klen, bool after)
{
	struct keyidx_pos pos = keyidx_seek(ix, key, klen, after);
	struct keyidx_node *n = keyidx_next(ix, &pos);

	return n == NULL ? "" : n->key;
}

static void
test_seek(void **state)
{
	struct keyidx *ix = keyidx_new();

	(void)state;
	assert_string_equal(first(ix, "", 0, false), "");
	for (unsigned i = 0; i < 2000; i++)
		keyidx_add(ix, node(i * 2));
	assert_string_equal(first(ix, "", 0, false), "k00000");
	assert_string_equal(first(ix, "k00000", 6, false), "k00000");
	assert_string_equal(first(ix, "k00000", 6, true), "k00002");
	assert_string_equal(first(ix, "k00001", 6, false), "k00002");
	assert_string_equal(first(ix, "k01022", 6, true), "k01024");
	assert_string_equal(first(ix, "k0102", 5, true), "k01020");
	assert_string_equal(first(ix, "k03998", 6, false), "k03998");
	assert_string_equal(first(ix, "k03998", 6, true), "");
	assert_string_equal(first(ix, "l", 1, false), "");
	free_all(ix);
}

/* By unsigned bytes, a prefix first: the order of UTF-8, not of UTF-16. */
static void
test_cmp(void **state)
{
	(void)state;
	assert_true(keyidx_cmp("a", 1, "a/", 2) < 0);
	assert_true(keyidx_cmp("a/", 2, "a0", 2) < 0);
	assert_true(keyidx_cmp("z", 1, "\xc3\xa4", 2) < 0);
	assert_true(keyidx_cmp("\xef\xbf\xae", 3, "\xf0\x9f\x98\x80", 4) < 0);
	assert_int_equal(keyidx_cmp("", 0, "", 0), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_order),
	    cmocka_unit_test(test_delete),
	    cmocka_unit_test(test_seek),
	    cmocka_unit_test(test_cmp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
