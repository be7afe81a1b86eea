#include "base/metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

enum kind { COUNTER, GAUGE, HISTOGRAM };

static const char *const kind_names[] = {"counter", "gauge", "histogram"};

static const struct {
	enum kind kind;
	const char *name, *label, *help;
} table[METRIC_COUNT] = {
#define METRIC(id, kind, name, label, help) [METRIC_##id] = {kind, "r2shim_" name, label, help},
#include "metrics.def"
#undef METRIC
};

/* Upper bounds in microseconds: a local hit takes 100 us, a large upload a minute. */
static const uint64_t bounds[] = {100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000,
    2500000, 5000000, 10000000, 30000000, 60000000};
#define NBOUNDS (sizeof(bounds) / sizeof(bounds[0]))

/* One value. Cells are added at the front, under the mutex, and stay for good: readers need no lock. */
struct metric_cell {
	struct metric_cell *next;
	const char *labels[METRIC_LABELS_MAX]; /* the values, as many as the table has names; then NULL */
	_Atomic int64_t value;     /* a histogram's sum, in microseconds */
	_Atomic uint64_t *buckets; /* histograms only: NBOUNDS, and one for what is beyond */
};

static struct metric_cell *_Atomic cells[METRIC_COUNT];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static bool
same_label(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static struct metric_cell *
find(enum metric m, const char *const labels[METRIC_LABELS_MAX])
{
	struct metric_cell *c;
	unsigned i;

	for (c = atomic_load_explicit(&cells[m], memory_order_acquire); c; c = c->next) {
		for (i = 0; i < METRIC_LABELS_MAX && same_label(c->labels[i], labels[i]); i++)
			;
		if (i == METRIC_LABELS_MAX)
			return c;
	}
	return NULL;
}

static struct metric_cell *
cell_of(enum metric m, const char *const labels[METRIC_LABELS_MAX])
{
	struct metric_cell *c = find(m, labels);

	if (c)
		return c;
	(void)pthread_mutex_lock(&mutex);
	c = find(m, labels);
	if (!c) {
		c = mem_zalloc(sizeof(*c));
		for (unsigned i = 0; i < METRIC_LABELS_MAX && labels[i]; i++)
			c->labels[i] = mem_strdup(labels[i]);
		if (table[m].kind == HISTOGRAM)
			c->buckets = mem_calloc(NBOUNDS + 1, sizeof(*c->buckets));
		c->next = atomic_load_explicit(&cells[m], memory_order_relaxed);
		atomic_store_explicit(&cells[m], c, memory_order_release);
	}
	(void)pthread_mutex_unlock(&mutex);
	return c;
}

static unsigned
count_names(enum metric m)
{
	const char *p = table[m].label;
	unsigned n = p ? 1 : 0;

	while (p && (p = strchr(p, ',')) != NULL) {
		p++;
		n++;
	}
	return n;
}

static struct metric_cell *
cell_of_one(enum metric m, const char *label)
{
	ASSERT((unsigned)m < METRIC_COUNT && !label == !table[m].label);
	return cell_of(m, (const char *const[METRIC_LABELS_MAX]){label});
}

struct metric_cell *
metrics_cell(enum metric m, const char *const *labels, unsigned n)
{
	const char *all[METRIC_LABELS_MAX] = {NULL};

	ASSERT((unsigned)m < METRIC_COUNT && n <= METRIC_LABELS_MAX && n == count_names(m));
	memcpy(all, labels, n * sizeof(*labels));
	return cell_of(m, all);
}

void
metrics_cell_add(struct metric_cell *c, int64_t n)
{
	ASSERT(!c->buckets);
	atomic_fetch_add_explicit(&c->value, n, memory_order_relaxed);
}

void
metrics_cell_observe(struct metric_cell *c, uint64_t us)
{
	size_t b = 0;

	ASSERT(c->buckets);
	while (b < NBOUNDS && us > bounds[b])
		b++;
	atomic_fetch_add_explicit(&c->buckets[b], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->value, (int64_t)us, memory_order_relaxed);
}

void
metrics_add(enum metric m, const char *label, int64_t n)
{
	metrics_cell_add(cell_of_one(m, label), n);
}

void
metrics_set(enum metric m, const char *label, int64_t v)
{
	ASSERT(table[m].kind == GAUGE);
	atomic_store_explicit(&cell_of_one(m, label)->value, v, memory_order_relaxed);
}

void
metrics_observe(enum metric m, const char *label, uint64_t us)
{
	metrics_cell_observe(cell_of_one(m, label), us);
}

int64_t
metrics_get(enum metric m, const char *label)
{
	struct metric_cell *c = find(m, (const char *const[METRIC_LABELS_MAX]){label});
	uint64_t n = 0;

	if (!c)
		return 0;
	if (table[m].kind != HISTOGRAM)
		return atomic_load_explicit(&c->value, memory_order_relaxed);
	for (size_t b = 0; b <= NBOUNDS; b++)
		n += atomic_load_explicit(&c->buckets[b], memory_order_relaxed);
	return (int64_t)n;
}

/* As the text format wants it: a path of the configuration may hold anything. */
static void
add_value(struct str *out, const char *z)
{
	str_addc(out, '"');
	for (; *z; z++) {
		if (*z == '"' || *z == '\\' || *z == '\n')
			str_addc(out, '\\');
		str_addc(out, *z == '\n' ? 'n' : *z);
	}
	str_addc(out, '"');
}

/* {name="value",...}; le: a bucket's bound, or NULL. */
static void
add_labels(struct str *out, enum metric m, const struct metric_cell *c, const char *le)
{
	const char *name = table[m].label;
	char open = '{';

	for (unsigned i = 0; i < METRIC_LABELS_MAX && c->labels[i]; i++) {
		size_t n = strcspn(name, ",");

		str_printf(out, "%c%.*s=", open, (int)n, name);
		add_value(out, c->labels[i]);
		name += n + (name[n] == ',');
		open = ',';
	}
	if (le) {
		str_printf(out, "%cle=\"%s\"", open, le);
		open = ',';
	}
	if (open == ',')
		str_addc(out, '}');
}

static void
add_seconds(struct str *out, uint64_t us)
{
	str_printf(out, "%llu", (unsigned long long)(us / 1000000));
	if (us % 1000000 == 0)
		return;
	str_printf(out, ".%06u", (unsigned)(us % 1000000));
	while (out->p[out->len - 1] == '0')
		out->p[--out->len] = '\0';
}

static void
print_histogram(struct str *out, enum metric m, const struct metric_cell *c)
{
	struct str le = STR_INIT;
	uint64_t n = 0;

	for (size_t b = 0; b <= NBOUNDS; b++) {
		n += atomic_load_explicit(&c->buckets[b], memory_order_relaxed);
		str_clear(&le);
		if (b < NBOUNDS)
			add_seconds(&le, bounds[b]);
		else
			str_addz(&le, "+Inf");
		str_printf(out, "%s_bucket", table[m].name);
		add_labels(out, m, c, le.p);
		str_printf(out, " %llu\n", (unsigned long long)n);
	}
	str_printf(out, "%s_sum", table[m].name);
	add_labels(out, m, c, NULL);
	str_addc(out, ' ');
	add_seconds(out, (uint64_t)atomic_load_explicit(&c->value, memory_order_relaxed));
	str_printf(out, "\n%s_count", table[m].name);
	add_labels(out, m, c, NULL);
	str_printf(out, " %llu\n", (unsigned long long)n);
	str_fini(&le);
}

void
metrics_print(struct str *out)
{
	for (int i = 0; i < METRIC_COUNT; i++) {
		enum metric m = (enum metric)i;
		struct metric_cell *c;

		if (!table[m].label)
			(void)cell_of_one(m, NULL); /* a value without labels is there from the start, as 0 */
		str_printf(out, "# HELP %s %s\n# TYPE %s %s\n", table[m].name, table[m].help, table[m].name,
		    kind_names[table[m].kind]);
		for (c = atomic_load_explicit(&cells[m], memory_order_acquire); c; c = c->next) {
			if (table[m].kind == HISTOGRAM) {
				print_histogram(out, m, c);
				continue;
			}
			str_addz(out, table[m].name);
			add_labels(out, m, c, NULL);
			str_printf(out, " %lld\n", (long long)atomic_load_explicit(&c->value, memory_order_relaxed));
		}
	}
}

void
metrics_list(struct str *out)
{
	for (size_t m = 0; m < METRIC_COUNT; m++)
		str_printf(out, "%s\t%s\t%s\t%s\n", table[m].name, kind_names[table[m].kind],
		    table[m].label ? table[m].label : "-", table[m].help);
}
