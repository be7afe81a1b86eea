/*
 * metrics: the table metrics.def, counted per process, printed in Prometheus text form (exposition format 0.0.4).
 * A label's value must be a static string: its pointer is kept. Thread safe (atomics; a mutex when a label is new).
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
int64_t metrics_get(enum metric m, const char *label);
void metrics_print(struct str *out);
/* A table of name, kind, label and help, for docs and their check. */
void metrics_list(struct str *out);

#endif
