/* Against a real redis-server on a Unix socket in a folder of its own, and against scripted peers. */
#include "child.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/addr.h"
#include "io/loop.h"
#include "io/rds.h"

enum { LONG = 10000 };

static struct loop *loop;
static char folder[64], address[128];
static pid_t server;

static void
start_server(void)
{
	char sock[96];
	const char *const argv[] = { "redis-server", "--port", "0", "--unixsocket", sock, "--dir", folder, "--save", "", "--appendonly", "no",
		"--user", "worker", "on", ">secret", "~*", "+@all", NULL };

	snprintf(sock, sizeof sock, "%s/s", folder);
	server = child_start(argv, NULL, -1);
}

/* One connection under test. */
struct peer {
	struct rds *rds;
	bool up, down, got;
	unsigned ups, downs, calls;
	enum err e;
	char text[256];
	long long number;
};

static void
on_state(void *arg, bool up)
{
	struct peer *p = arg;

	assert_int_equal(up, p->rds != NULL && rds_up(p->rds));
	p->up = up;
	p->down = !up;
	if (up)
		p->ups++;
	else
		p->downs++;
}

static void
on_reply(void *arg, enum err e, const struct redisReply *r)
{
	struct peer *p = arg;

	p->calls++;
	p->got = true;
	p->e = e;
	p->text[0] = '\0';
	p->number = 0;
	if (r != NULL && r->str != NULL)
		snprintf(p->text, sizeof p->text, "%.*s", (int)r->len, r->str);
	if (r != NULL)
		p->number = r->integer;
}

static void
peer_start(struct peer *p, struct rds_opts o)
{
	*p = (struct peer){.rds = NULL};
	o.state = on_state;
	o.arg = p;
	if (o.timeout_ms == 0)
		o.timeout_ms = LONG;
	p->rds = rds_new(loop, &o);
}

static void
peer_up(struct peer *p, struct rds_opts o)
{
	peer_start(p, o);
	assert_true(loop_run_until(loop, &p->up, LONG));
}

static void
wait_reply(struct peer *p)
{
	assert_true(loop_run_until(loop, &p->got, LONG));
	p->got = false;
}

#define CMD(p, ...)                                                                                                    \
	rds_command((p)->rds, 0, on_reply, (p), (struct rds_arg[]){__VA_ARGS__},                                       \
	    sizeof((struct rds_arg[]){__VA_ARGS__}) / sizeof(struct rds_arg))

static void
do_cmd(struct peer *p, const char *name)
{
	CMD(p, RDS_Z(name));
	wait_reply(p);
}

static void
test_commands(void **state)
{
	struct peer p;

	(void)state;
	peer_start(&p, (struct rds_opts){.address = address});
	assert_false(rds_up(p.rds));
	assert_string_not_equal(rds_why(p.rds), "");
	do_cmd(&p, "PING");
	assert_int_equal(p.e, ERR_CONNECT);
	assert_true(loop_run_until(loop, &p.up, LONG));
	assert_string_equal(rds_why(p.rds), "");
	do_cmd(&p, "PING");
	assert_int_equal(p.e, ERR_OK);
	assert_string_equal(p.text, "PONG");
	CMD(&p, RDS_Z("SET"), RDS_B("k\0\r\n", 4), RDS_B("\0v", 2));
	assert_false(p.got);
	wait_reply(&p);
	assert_int_equal(p.e, ERR_OK);
	CMD(&p, RDS_Z("STRLEN"), RDS_B("k\0\r\n", 4));
	wait_reply(&p);
	assert_int_equal(p.number, 2);
	CMD(&p, RDS_Z("SET"), RDS_Z("empty"), RDS_Z(""));
	wait_reply(&p);
	assert_int_equal(p.e, ERR_OK);
	do_cmd(&p, "NOSUCH");
	assert_int_equal(p.e, ERR_PROTO);
	assert_memory_equal(p.text, "ERR unknown command", 19);
	rds_free(&p.rds);
	assert_null(p.rds);
	rds_free(&p.rds);
}

struct row {
	struct peer *p;
	long long want;
};

static void
on_row(void *arg, enum err e, const struct redisReply *r)
{
	struct row *row = arg;

	assert_int_equal(e, ERR_OK);
	assert_int_equal(r->integer, row->want);
	row->p->calls++;
	row->p->got = row->p->calls == 500;
}

static void
test_pipeline_and_cancel(void **state)
{
	struct row rows[1000];
	struct rds_call *c[1000];
	struct peer p;

	(void)state;
	peer_up(&p, (struct rds_opts){.address = address, .db = 3});
	for (int i = 0; i < 1000; i++) {
		rows[i] = (struct row){&p, i + 1};
		c[i] = rds_command(p.rds, 0, on_row, &rows[i], (struct rds_arg[]){RDS_Z("INCR"), RDS_Z("n")}, 2);
	}
	for (int i = 0; i < 1000; i += 2)
		rds_cancel(c[i]);
	wait_reply(&p);
	rds_free(&p.rds);
	/* The database was selected, so elsewhere the key is not known. */
	peer_up(&p, (struct rds_opts){.address = address});
	CMD(&p, RDS_Z("EXISTS"), RDS_Z("n"));
	wait_reply(&p);
	assert_int_equal(p.number, 0);
	/* A cancelled failure. */
	rds_free(&p.rds);
	peer_start(&p, (struct rds_opts){.address = address});
	rds_cancel(CMD(&p, RDS_Z("PING")));
	assert_true(loop_run_until(loop, &p.up, LONG));
	assert_int_equal(p.calls, 0);
	rds_free(&p.rds);
}

static void
test_big_reply(void **state)
{
	size_t n = 3 << 20;
	char *big = mem_zalloc(n);
	struct peer p;

	(void)state;
	peer_up(&p, (struct rds_opts){.address = address});
	CMD(&p, RDS_Z("SET"), RDS_Z("big"), RDS_B(big, n));
	CMD(&p, RDS_Z("GET"), RDS_Z("big"));
	CMD(&p, RDS_Z("STRLEN"), RDS_Z("big"));
	while (p.calls < 3)
		wait_reply(&p);
	assert_int_equal(p.number, n);
	rds_free(&p.rds);
	mem_free(big);
}

static void
test_R17_error_replies(void **state)
{
	static const struct {
		const char *text;
		enum err e;
	} rows[] = {
	    {"LOADING Redis is loading", ERR_UNAVAIL},
	    {"READONLY You can't write", ERR_UNAVAIL},
	    {"BUSY running a script", ERR_UNAVAIL},
	    {"MISCONF cannot persist", ERR_UNAVAIL},
	    {"OOM command not allowed", ERR_UNAVAIL},
	    {"BUSYGROUP exists", ERR_PROTO},
	    {"NOGROUP none", ERR_PROTO},
	    {"NOPERM no", ERR_PROTO},
	    {"UNBLOCKED the stream key no longer exists", ERR_PROTO},
	    {"WRONGTYPE no", ERR_PROTO},
	};
	struct peer p;

	(void)state;
	peer_up(&p, (struct rds_opts){.address = address});
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		CMD(&p, RDS_Z("EVAL"), RDS_Z("return {err=ARGV[1]}"), RDS_Z("0"), RDS_Z(rows[i].text));
		wait_reply(&p);
		assert_int_equal(p.e, rows[i].e);
		assert_memory_equal(p.text, rows[i].text, strlen(rows[i].text));
	}
	rds_free(&p.rds);
}

static void
test_script(void **state)
{
	struct rds_script s = {"sum", "return #KEYS * 100 + ARGV[1] + #ARGV[2]", ""};
	struct rds_arg keys[] = {RDS_Z("a"), RDS_Z("b")}, args[] = {RDS_Z("7"), RDS_B("\0\r\n", 3)};
	struct peer p;

	(void)state;
	peer_up(&p, (struct rds_opts){.address = address});
	for (int i = 0; i < 3; i++) {
		if (i == 2) {
			CMD(&p, RDS_Z("SCRIPT"), RDS_Z("FLUSH"));
			wait_reply(&p);
		}
		rds_eval(p.rds, &s, on_reply, &p, keys, 2, args, 2);
		wait_reply(&p);
		assert_int_equal(p.e, ERR_OK);
		assert_int_equal(p.number, 210);
	}
	CMD(&p, RDS_Z("SCRIPT"), RDS_Z("EXISTS"), RDS_Z(s.sha));
	wait_reply(&p);
	assert_int_equal(p.e, ERR_OK);
	rds_cancel(rds_eval(p.rds, &s, on_reply, &p, keys, 2, args, 2));
	do_cmd(&p, "PING");
	assert_string_equal(p.text, "PONG");
	rds_free(&p.rds);
	peer_start(&p, (struct rds_opts){.address = address});
	rds_eval(p.rds, &s, on_reply, &p, NULL, 0, NULL, 0);
	wait_reply(&p);
	assert_int_equal(p.e, ERR_CONNECT);
	rds_free(&p.rds);
}

static void
test_auth(void **state)
{
	bool never = false;
	struct peer p;

	(void)state;
	peer_up(&p, (struct rds_opts){.address = address, .user = "worker", .password = "secret"});
	CMD(&p, RDS_Z("ACL"), RDS_Z("WHOAMI"));
	wait_reply(&p);
	assert_string_equal(p.text, "worker");
	rds_free(&p.rds);
	peer_start(&p, (struct rds_opts){.address = address, .user = "worker", .password = "wrong"});
	assert_false(loop_run_until(loop, &never, 30));
	assert_int_equal(p.ups + p.downs, 0);
	assert_non_null(strstr(rds_why(p.rds), "WRONGPASS"));
	rds_free(&p.rds);
}

static void
test_command_timeout_drops_the_connection(void **state)
{
	struct peer p;
	uint64_t start;

	(void)state;
	peer_up(&p, (struct rds_opts){.address = address});
	start = clock_mono_ms();
	/* The late reply must not be taken for another command's. */
	rds_command(p.rds, 30, on_reply, &p, (struct rds_arg[]){RDS_Z("BLPOP"), RDS_Z("none"), RDS_Z("0.1")}, 3);
	wait_reply(&p);
	assert_int_equal(p.e, ERR_TIMEOUT);
	assert_true(clock_mono_ms() - start >= 30);
	assert_false(rds_up(p.rds));
	assert_int_equal(p.downs, 1);
	assert_true(loop_run_until(loop, &p.up, LONG));
	do_cmd(&p, "PING");
	assert_string_equal(p.text, "PONG");
	/* A longer deadline than the connection's. */
	rds_free(&p.rds);
	peer_up(&p, (struct rds_opts){.address = address, .timeout_ms = 50});
	rds_command(p.rds, LONG, on_reply, &p, (struct rds_arg[]){RDS_Z("BLPOP"), RDS_Z("none"), RDS_Z("0.15")}, 3);
	wait_reply(&p);
	assert_int_equal(p.e, ERR_OK);
	rds_free(&p.rds);
}

static void
on_reply_free(void *arg, enum err e, const struct redisReply *r)
{
	struct peer *p = arg;

	on_reply(arg, e, r);
	rds_free(&p->rds);
}

static void
test_free_in_callback(void **state)
{
	struct peer p;

	(void)state;
	peer_up(&p, (struct rds_opts){.address = address});
	rds_command(p.rds, 0, on_reply_free, &p, (struct rds_arg[]){RDS_Z("PING")}, 1);
	CMD(&p, RDS_Z("PING"));
	wait_reply(&p);
	assert_int_equal(p.calls, 1);
	peer_start(&p, (struct rds_opts){.address = address});
	rds_command(p.rds, 0, on_reply_free, &p, (struct rds_arg[]){RDS_Z("PING")}, 1);
	CMD(&p, RDS_Z("PING"));
	wait_reply(&p);
	assert_int_equal(p.e, ERR_CONNECT);
	assert_int_equal(p.calls, 1);
}

static void
on_state_free(void *arg, bool up)
{
	struct peer *p = arg;

	(void)up;
	p->got = true;
	rds_free(&p->rds);
}

static void
on_reply_more(void *arg, enum err e, const struct redisReply *r)
{
	struct peer *p = arg;

	on_reply(arg, e, r);
	p->got = false;
	rds_cancel(CMD(p, RDS_Z("PING")));
	CMD(p, RDS_Z("PING"));
}

static void
test_free_and_command_in_callbacks(void **state)
{
	struct peer p = {.rds = NULL};
	struct rds_opts o = {.address = address, .timeout_ms = LONG, .state = on_state_free, .arg = &p};

	(void)state;
	p.rds = rds_new(loop, &o);
	wait_reply(&p);
	assert_null(p.rds);
	/* In the answer to a success, and to a failure. */
	peer_up(&p, (struct rds_opts){.address = address});
	rds_command(p.rds, 0, on_reply_more, &p, (struct rds_arg[]){RDS_Z("PING")}, 1);
	wait_reply(&p);
	assert_int_equal(p.calls, 2);
	assert_int_equal(p.e, ERR_OK);
	rds_free(&p.rds);
	peer_start(&p, (struct rds_opts){.address = address});
	rds_command(p.rds, 0, on_reply_more, &p, (struct rds_arg[]){RDS_Z("PING")}, 1);
	wait_reply(&p);
	assert_int_equal(p.calls, 2);
	assert_int_equal(p.e, ERR_CONNECT);
	rds_free(&p.rds);
}

/* The shorter deadline may stand behind the longer one; who was not yet due learns that the connection went. */
static void
test_deadlines_are_each_ones_own(void **state)
{
	struct peer p, first = {.rds = NULL}, last = {.rds = NULL};

	(void)state;
	peer_up(&p, (struct rds_opts){.address = address});
	rds_command(p.rds, LONG, on_reply, &first, (struct rds_arg[]){RDS_Z("BLPOP"), RDS_Z("none"), RDS_Z("0")}, 3);
	rds_command(p.rds, 20, on_reply, &p, (struct rds_arg[]){RDS_Z("PING")}, 1);
	rds_command(p.rds, LONG, on_reply, &last, (struct rds_arg[]){RDS_Z("PING")}, 1);
	assert_true(loop_run_until(loop, &last.got, LONG));
	assert_int_equal(first.e, ERR_CLOSED);
	assert_int_equal(p.e, ERR_TIMEOUT);
	assert_int_equal(last.e, ERR_CLOSED);
	assert_int_equal(p.downs, 1);
	/* A cancelled command's reply that does not come ends the connection too. */
	assert_true(loop_run_until(loop, &p.up, LONG));
	rds_cancel(
	    rds_command(p.rds, 20, on_reply, &p, (struct rds_arg[]){RDS_Z("BLPOP"), RDS_Z("none"), RDS_Z("0")}, 3));
	p.calls = 0;
	assert_true(loop_run_until(loop, &p.down, LONG));
	assert_int_equal(p.calls, 0);
	rds_free(&p.rds);
}

static void
test_server_comes_back(void **state)
{
	struct peer p;

	(void)state;
	peer_up(&p, (struct rds_opts){.address = address});
	CMD(&p, RDS_Z("BLPOP"), RDS_Z("none"), RDS_Z("0"));
	child_kill(server);
	wait_reply(&p);
	assert_int_equal(p.e, ERR_CLOSED);
	assert_int_equal(p.downs, 1);
	do_cmd(&p, "PING");
	assert_int_equal(p.e, ERR_CONNECT);
	start_server();
	assert_true(loop_run_until(loop, &p.up, LONG));
	do_cmd(&p, "PING");
	assert_int_equal(p.e, ERR_OK);
	rds_free(&p.rds);
}

/* A peer that accepts and answers as its bytes say. */
struct script {
	struct loop_fd lf, cf;
	int lfd, cfd;
	const char *bytes;
	unsigned accepted;
};

static void
on_script_read(void *arg, int what)
{
	struct script *s = arg;
	char buf[4096];

	(void)what;
	if (recv(s->cfd, buf, sizeof buf, 0) <= 0)
		loop_fd_want(&s->cf, 0);
	else if (s->bytes != NULL)
		assert_true(send(s->cfd, s->bytes, strlen(s->bytes), MSG_NOSIGNAL) >= 0);
}

static void
script_hang_up(struct script *s)
{
	if (s->cfd < 0)
		return;
	loop_fd_fini(&s->cf);
	close(s->cfd);
	s->cfd = -1;
}

static void
on_script_accept(void *arg, int what)
{
	struct script *s = arg;

	(void)what;
	script_hang_up(s);
	s->cfd = accept(s->lfd, NULL, NULL);
	assert_true(s->cfd >= 0);
	s->accepted++;
	loop_fd_init(&s->cf, loop, s->cfd, on_script_read, s);
	loop_fd_want(&s->cf, LOOP_READ);
}

static void
script_start(struct script *s, const char *bytes, char text[128])
{
	struct addr a;
	struct errbuf eb;

	*s = (struct script){.cfd = -1, .bytes = bytes};
	assert_int_equal(addr_parse(&a, "127.0.0.1:0", &eb), ERR_OK);
	assert_int_equal(addr_listen(&a, 5, 0, &s->lfd, &eb), ERR_OK);
	a.len = sizeof a.ss;
	assert_int_equal(getsockname(s->lfd, &a.sa, &a.len), 0);
	addr_text(&a, text);
	loop_fd_init(&s->lf, loop, s->lfd, on_script_accept, s);
	loop_fd_want(&s->lf, LOOP_READ);
}

static void
script_stop(struct script *s)
{
	script_hang_up(s);
	loop_fd_fini(&s->lf);
	close(s->lfd);
}

static void
test_bad_peers(void **state)
{
	static const struct {
		const char *bytes, *why;
	} rows[] = {
	    {"HTTP/1.1 400 Bad Request\r\n\r\n", "malformed reply"},
	    {"+OK\r\n+OK\r\n", "without a command"},
	    {"-NOAUTH Authentication required.\r\n", "NOAUTH"},
	    {NULL, "no reply in time"},
	};
	bool never = false;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct script s;
		struct peer p;
		char text[128];

		script_start(&s, rows[i].bytes, text);
		peer_start(&p, (struct rds_opts){.address = text, .timeout_ms = 20});
		for (int k = 0; k < 100 && strstr(rds_why(p.rds), rows[i].why) == NULL; k++)
			loop_run_until(loop, &never, 5);
		assert_non_null(strstr(rds_why(p.rds), rows[i].why));
		/* It tries again. */
		for (int k = 0; k < 200 && s.accepted < 2; k++)
			loop_run_until(loop, &never, 5);
		assert_true(s.accepted >= 2);
		rds_free(&p.rds);
		script_stop(&s);
	}
}

static void
test_nobody_listens(void **state)
{
	char none[128];
	bool never = false;
	struct peer p;

	(void)state;
	snprintf(none, sizeof none, "unix:%s/none", folder);
	peer_start(&p, (struct rds_opts){.address = none});
	assert_false(loop_run_until(loop, &never, 20));
	assert_non_null(strstr(rds_why(p.rds), "No such file"));
	assert_int_equal(p.ups + p.downs, 0);
	rds_free(&p.rds);
	peer_start(&p, (struct rds_opts){.address = "nonsense"});
	assert_false(loop_run_until(loop, &never, 20));
	assert_non_null(strstr(rds_why(p.rds), "nonsense"));
	rds_free(&p.rds);
}

static int
group_setup(void **state)
{
	(void)state;
	log_setup(LOG_LVL_ERROR, false);
	snprintf(folder, sizeof folder, "/tmp/test_rds.XXXXXX");
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(address, sizeof address, "unix:%s/s", folder);
	loop = loop_new();
	start_server();
	return 0;
}

static int
group_teardown(void **state)
{
	char path[96];

	(void)state;
	child_kill(server);
	loop_free(&loop);
	snprintf(path, sizeof path, "%s/s", folder);
	unlink(path);
	return rmdir(folder);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_commands),
	    cmocka_unit_test(test_pipeline_and_cancel),
	    cmocka_unit_test(test_big_reply),
	    cmocka_unit_test(test_R17_error_replies),
	    cmocka_unit_test(test_script),
	    cmocka_unit_test(test_auth),
	    cmocka_unit_test(test_command_timeout_drops_the_connection),
	    cmocka_unit_test(test_free_in_callback),
	    cmocka_unit_test(test_free_and_command_in_callbacks),
	    cmocka_unit_test(test_deadlines_are_each_ones_own),
	    cmocka_unit_test(test_server_comes_back),
	    cmocka_unit_test(test_bad_peers),
	    cmocka_unit_test(test_nobody_listens),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
