/*
 * bench_http_server: http_server with nothing behind it, for wrk. "bench_http_server PORT": /N answers N bytes from memory, /f/N N
 * bytes of a file by sendfile. Ends on SIGTERM or SIGINT.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/str.h"
#include "io/http_server.h"

#define MAX (4 << 20)

static char block[MAX];
static int file = -1;

static void
on_request(struct http_conn *c, const struct http1_head *h)
{
	bool of_file = h->path.n > 3 && memcmp(h->path.p, "/f/", 3) == 0;
	size_t skip = of_file ? 3 : 1;
	uint64_t n;
	if (h->path.n <= skip || !str_to_u64(h->path.p + skip, h->path.n - skip, &n) || n > MAX) {
		http_conn_reply(c, 404, NULL, NULL, "no", 2);
	} else if (of_file) {
		struct str head = STR_INIT;
		http1_add_status_line(&head, 200, NULL);
		str_addz(&head, http_server_date(http_conn_server(c)));
		http_conn_start(c, &head, n);
		http_conn_sendfile(c, dup(file), 0, n);
		http_conn_end(c);
		str_fini(&head);
	} else {
		http_conn_reply(c, 200, "text/plain", NULL, block, (size_t)n);
	}
}

static void
on_done(struct http_conn *c, bool ok, enum http_close why)
{
	(void)c;
	(void)ok;
	(void)why;
}

static void
stop(void *arg)
{
	loop_stop(arg);
}

int
main(int argc, char **argv)
{
	static const struct http_server_opts opts = {.limits = {.head_max = 32768, .target_max = 8192, .headers_max = 100},
	    .header_timeout = 10000,
	    .idle_timeout = 30000,
	    .body_timeout = 30000,
	    .write_timeout = 30000,
	    .out_high = 262144};
	static const struct http_server_cb cb = {.on_request = on_request, .on_done = on_done};
	char to[40], name[] = "/tmp/bench_http_server.XXXXXX";
	struct addr a;
	struct errbuf eb;
	snprintf(to, sizeof to, "127.0.0.1:%s", argc > 1 ? argv[1] : "0");
	memset(block, 'b', sizeof block);
	file = mkstemp(name);
	if (file < 0 || unlink(name) < 0 || write(file, block, sizeof block) != sizeof block)
		return 1;
	struct loop *l = loop_new();
	struct http_server *s = http_server_new(l, &opts, &cb, NULL);
	if (addr_parse(&a, to, &eb) != ERR_OK || http_server_listen(s, &a, 0, &eb) != ERR_OK) {
		fprintf(stderr, "%s\n", eb.text);
		return 1;
	}
	loop_signal(l, SIGTERM, stop, l);
	loop_signal(l, SIGINT, stop, l);
	printf("ready on 127.0.0.1:%u\n", http_server_port(s));
	fflush(stdout);
	loop_run(l);
	http_server_free(&s);
	loop_free(&l);
	return 0;
}
