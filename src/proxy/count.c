#include "proxy/count.h"

#include "base/metrics.h"
#include "proxy/request.h"

/* How a request ended. */
enum result { R_1XX, R_2XX, R_3XX, R_4XX, R_5XX, R_CUT, R_GONE };
enum { RESULTS = R_GONE + 1, ROUTES = ROUTE_LAST + 1, SOURCES = REQUEST_R2 + 1 };

static const char *const result_names[RESULTS] = { "1xx", "2xx", "3xx", "4xx", "5xx", "cut", "gone" };

/* Where to count: looked up with the first request of its kind. */
static struct metric_cell *requests[ROUTES][SOURCES][RESULTS], *seconds[ROUTES][SOURCES], *sent[SOURCES];

static enum result
result_of(int status, bool ok)
{
	if (status == 0)
		return R_GONE;
	if (!ok)
		return R_CUT;
	/* An upstream may answer with what it likes: RFC 9110 15 has a client treat that as a 5xx. */
	return status < 600 ? (enum result)(status / 100 - 1) : R_5XX;
}

void
count_request(const struct request *r, bool ok, uint64_t us)
{
	enum route_what w = r->route.what;
	enum request_source s = r->source;
	enum result end = result_of(r->status, ok);
	const char *const names[] = { route_name(w), request_source_name(s), result_names[end] };

	if (requests[w][s][end] == NULL)
		requests[w][s][end] = metrics_cell(METRIC_REQUESTS, names, 3);
	if (seconds[w][s] == NULL) {
		seconds[w][s] = metrics_cell(METRIC_REQUEST_SECONDS, names, 2);
		sent[s] = metrics_cell(METRIC_SENT_BYTES, names + 1, 1);
	}
	metrics_cell_add(requests[w][s][end], 1);
	metrics_cell_observe(seconds[w][s], us);
	metrics_cell_add(sent[s], (int64_t)r->sent);
	if (w == ROUTE_READ)
		metrics_add(METRIC_SERVED, names[1], 1);
}

void
count_malformed(int status)
{
	const char *const names[] = { "malformed", request_source_name(REQUEST_SELF), result_names[status >= 500 ? R_5XX : R_4XX] };

	metrics_cell_add(metrics_cell(METRIC_REQUESTS, names, 3), 1);
}
