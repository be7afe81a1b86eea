/*
 * metrics: the table metrics.def, counted per process, printed in Prometheus text form (exposition format 0.0.4).
 * A label's value is copied, and stays for good: it comes from a table or the configuration. Thread safe (atomics; a mutex when a label is new).
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include <stdint.h>

struct str;

enum metric {
#define METRIC(id, kind, name, label, help) METRIC_##id,
#include "metrics.def"
#undef METRIC
	METRIC_COUNT
};

/* label is NULL where the table has none. */
void metrics_add(enum metric m, const char *label, int64_t n);
void metrics_set(enum metric m, const char *label, int64_t v);
/* A histogram's observation, in microseconds. */
void metrics_observe(enum metric m, const char *label, uint64_t us);
/* Of a metric with one label at most. */
int64_t metrics_get(enum metric m, const char *label);

/* For what is counted with each request, and for metrics with several labels: the place of one combination of values, in the
 * table's order; looked up once, the pointer is good for ever, and a count is one addition. */
struct metric_cell;
enum { METRIC_LABELS_MAX = 3 };
struct metric_cell *metrics_cell(enum metric m, const char *const *labels, unsigned n);
void metrics_cell_add(struct metric_cell *c, int64_t n);
void metrics_cell_observe(struct metric_cell *c, uint64_t us);

void metrics_print(struct str *out);
/* A table of name, kind, label and help, for docs and their check. */
void metrics_list(struct str *out);

#endif
