/*
 * The commit of an intent runs beside the forwarded body, and only the request's end waits for it. The whole proxy in a child
 * process whose fdatasync stands at a gate that the test opens, or fails; the test itself is client and application.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/str.h"
#include "proxy/server.h"

enum { WAIT = 15000, BODY = 5000 };

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

/* Shared with the child. */
static struct gate {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool closed;
	int error;		/* errno of what passes */
	unsigned waiting;
} *gate;

static struct {
	char dir[64];
	int app;		/* listens */
	pid_t proxy;
} t;

int
__wrap_fdatasync(int fd)
{
	int error;

	pthread_mutex_lock(&gate->mutex);
	gate->waiting++;
	pthread_cond_broadcast(&gate->cond);
	while (gate->closed)
		pthread_cond_wait(&gate->cond, &gate->mutex);
	gate->waiting--;
	error = gate->error;
	pthread_mutex_unlock(&gate->mutex);
	if (error != 0) {
		errno = error;
		return -1;
	}
	return __real_fdatasync(fd);
}

static void
gate_set(bool closed, int error)
{
	pthread_mutex_lock(&gate->mutex);
	gate->closed = closed;
	gate->error = error;
	pthread_cond_broadcast(&gate->cond);
	pthread_mutex_unlock(&gate->mutex);
}

static void
gate_wait(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT / 1000;
	pthread_mutex_lock(&gate->mutex);
	while (gate->waiting == 0)
		assert_int_equal(pthread_cond_timedwait(&gate->cond, &gate->mutex, &until), 0);
	pthread_mutex_unlock(&gate->mutex);
}

/* Sockets: blocking, with a time limit. */

static struct sockaddr_un
address(const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path, sizeof a.sun_path, "%s/%s", t.dir, name);
	return a;
}

static int
limited(int fd)
{
	struct timeval tv = { .tv_sec = WAIT / 1000 };

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
	return fd;
}

static int
client(void)
{
	struct sockaddr_un a = address("p.sock");
	int fd = limited(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));

	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

static int
accepted(void)
{
	struct pollfd p = { .fd = t.app, .events = POLLIN };

	assert_int_equal(poll(&p, 1, WAIT), 1);
	return limited(accept4(t.app, NULL, NULL, SOCK_CLOEXEC));
}

static void
say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void
say_body(int fd, size_t n)
{
	char body[BODY];

	assert_true(n <= sizeof body);
	memset(body, 'x', sizeof body);
	assert_int_equal(send(fd, body, n, MSG_NOSIGNAL), n);
}

/* Reads until text has come, or the end; the whole is in *in. */
static bool
hear(int fd, struct str *in, const char *text)
{
	while (in->len == 0 || strstr(in->p, text) == NULL) {
		ssize_t n = recv(fd, str_reserve(in, 8192), 8192, 0);

		assert_true(n >= 0);
		if (n == 0)
			return false;
		in->len += (size_t)n;
		in->p[in->len] = '\0';
	}
	return true;
}

/* Body bytes of a request that was heard up to its blank line. */
static void
hear_body(int fd, struct str *in, size_t n)
{
	size_t head = (size_t)(strstr(in->p, "\r\n\r\n") + 4 - in->p);

	while (in->len < head + n) {
		ssize_t k = recv(fd, str_reserve(in, 8192), 8192, 0);

		assert_true(k > 0);
		in->len += (size_t)k;
		in->p[in->len] = '\0';
	}
	assert_int_equal(in->len, head + n);
}

static bool
silent(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

/* The application's side of a request, its head heard. */
static int
forwarded(struct str *in)
{
	int a = accepted();

	assert_true(hear(a, in, "\r\n\r\n"));
	return a;
}

/* Sends a request, or a part of one, whose intent then stands at the gate. */
static void
held(int c, const char *head, size_t body, const char *end)
{
	gate_set(true, 0);
	say(c, head);
	say_body(c, body);
	say(c, end);
	gate_wait();
}

/* The client hears a head that begins so. */
static void
answered(int c, struct str *in, const char *status)
{
	str_clear(in);
	assert_true(hear(c, in, "\r\n\r\n"));
	assert_memory_equal(in->p, status, strlen(status));
}

/* A whole other request: when it is through, the proxy has done all that it can do with what it was sent before. */
static void
settle(void)
{
	struct str in = STR_INIT;
	int c = client(), a;

	say(c, "GET /page HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n");
	a = forwarded(&in);
	say(a, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
	str_clear(&in);
	assert_true(hear(c, &in, "\r\n\r\nok"));
	close(a);
	close(c);
	str_fini(&in);
}

static int
setup(void **state)
{
	struct sockaddr_un a;
	struct str errors = STR_INIT;
	char path[128];
	int ready[2];
	FILE *f;
	char byte;

	(void)state;
	memset(&t, 0, sizeof t);
	snprintf(t.dir, sizeof t.dir, "/tmp/r2shim-overlap-XXXXXX");
	assert_non_null(mkdtemp(t.dir));
	assert_int_equal(chdir(t.dir), 0);
	assert_int_equal(mkdir("media", 0755), 0);
	assert_int_equal(mkdir("state", 0755), 0);
	f = fopen("media/.r2shim-root", "w");
	fprintf(f, "test\n");
	fclose(f);
	umask(077);
	f = fopen("token", "w");
	fprintf(f, "sesame\n");
	fclose(f);
	f = fopen("r2shim.conf", "w");
	fprintf(f, "site = \"test\"; state-dir = \"state\"; phase = \"dual-write\"; log: { level = \"error\"; };\n"
	    "proxy: { listen = [ \"unix:%s/p.sock\" ]; };\nupstream: { address = \"unix:%s/app.sock\"; };\n"
	    "media: { root = \"media\"; url = \"/media/\"; uploads = [ \"/upload/\" ]; min-free = \"0\"; prefixes = (\n"
	    "  { url = \"/media/\"; class = \"public\"; writes = \"upstream\"; },\n"
	    "  { url = \"/media/own/\"; class = \"public\"; writes = \"disk\"; token-file = \"token\"; } ); };\n"
	    "mirror: { policy = \"async\"; };\n"
	    "r2: { endpoint = \"http://127.0.0.1:1\"; bucket = \"media\"; allow-http = true; access-key-id = \"AKID\";\n"
	    "  secret-access-key-file = \"token\"; };\nredis: { address = \"unix:%s/none\"; };\n", t.dir, t.dir, t.dir);
	fclose(f);
	a = address("app.sock");
	t.app = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(t.app, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(t.app, 16), 0);
	gate_set(false, 0);
	assert_int_equal(pipe(ready), 0);
	fflush(NULL);
	t.proxy = fork();
	assert_true(t.proxy >= 0);
	if (t.proxy == 0) {
		struct conf *c;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		snprintf(path, sizeof path, "%s/r2shim.conf", t.dir);
		dup2(ready[1], STDOUT_FILENO);
		dup2(open("log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600), STDERR_FILENO);
		close(ready[0]);
		close(ready[1]);
		c = conf_load(path, &errors);
		if (c == NULL)
			fprintf(stderr, "%s\n", str_z(&errors));
		_exit(c != NULL ? (int)server_run(c) : 99);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);	/* the ready line */
	close(ready[0]);
	return 0;
}

static int
teardown(void **state)
{
	char cmd[128];
	int status;

	(void)state;
	gate_set(false, 0);
	assert_int_equal(kill(t.proxy, SIGTERM), 0);
	assert_int_equal(waitpid(t.proxy, &status, 0), t.proxy);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), SERVER_OK);
	close(t.app);
	assert_int_equal(chdir("/"), 0);
	snprintf(cmd, sizeof cmd, "rm -rf %s", t.dir);
	return system(cmd);
}

/* Begins an upload whose intent stands at the gate; the application's side of it, with all that may come before the gate opens. */
static int
upload(int c, const char *head, size_t first, struct str *in)
{
	int a;

	held(c, head, BODY, "");
	a = forwarded(in);
	hear_body(a, in, first);
	settle();
	assert_true(silent(a));
	assert_true(silent(c));
	return a;
}

static const char post[] = "POST /upload/x HTTP/1.1\r\nHost: s\r\nContent-Length: 5000\r\n\r\n";

static void
test_length(void **state)
{
	static const char put[] = "PUT /media/f HTTP/1.1\r\nHost: s\r\nContent-Length: 5000\r\n\r\n";
	const char *const heads[] = { post, put };
	struct str in = STR_INIT;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		int c = client(), a = upload(c, heads[i], BODY - 1024, &in);

		gate_set(false, 0);
		hear_body(a, &in, BODY);
		say(a, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
		answered(c, &in, "HTTP/1.1 201");
		str_clear(&in);
		close(a);
		close(c);
	}
	str_fini(&in);
}

/* A body whose length nobody knows: the last chunk and the end stay. */
static void
test_chunked(void **state)
{
	struct str in = STR_INIT;
	int c = client(), a;
	size_t at;

	(void)state;
	held(c, "POST /upload/x HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n", BODY, "\r\n0\r\n\r\n");
	a = accepted();
	assert_true(hear(a, &in, "x\r\n"));
	settle();
	assert_true(silent(a));
	assert_null(strstr(in.p, "\r\n0\r\n"));
	at = in.len;
	gate_set(false, 0);
	assert_true(hear(a, &in, "\r\n0\r\n\r\n"));
	assert_true(in.len - at >= 1024 && in.len - at < 1100);
	say(a, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
	answered(c, &in, "HTTP/1.1 204");
	close(a);
	close(c);
	str_fini(&in);
}

/* The body comes slowly: what is held is let go with what follows, and the rest is passed on as it comes. */
static void
test_released_within(void **state)
{
	struct str in = STR_INIT;
	int c = client(), a;

	(void)state;
	held(c, post, 3000, "");
	a = forwarded(&in);
	hear_body(a, &in, 3000 - 1024);
	gate_set(false, 0);
	hear_body(a, &in, 3000);
	say_body(c, BODY - 3000);
	hear_body(a, &in, BODY);
	close(a);
	answered(c, &in, "HTTP/1.1 502");
	close(c);
	str_fini(&in);
}

/* Without a body the head is the end. */
static void
test_no_body(void **state)
{
	struct pollfd p = { .fd = t.app, .events = POLLIN };
	struct str in = STR_INIT;
	int c = client(), a;

	(void)state;
	held(c, "DELETE /media/f HTTP/1.1\r\nHost: s\r\n\r\n", 0, "");
	settle();
	assert_int_equal(poll(&p, 1, 0), 0);
	gate_set(false, 0);
	a = forwarded(&in);
	say(a, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
	answered(c, &in, "HTTP/1.1 204");
	close(a);
	close(c);
	str_fini(&in);
}

/* An answer before the body's end: nobody hears it before the intent is on disk. */
static void
test_early_answer(void **state)
{
	struct str in = STR_INIT;
	int c = client(), a = upload(c, post, BODY - 1024, &in);

	(void)state;
	say(a, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly");
	settle();
	settle();
	assert_true(silent(c));
	gate_set(false, 0);
	str_clear(&in);
	assert_true(hear(c, &in, "early"));
	assert_memory_equal(in.p, "HTTP/1.1 200", 12);
	close(a);
	close(c);
	str_fini(&in);
}

/* The journal fails: the application sees a cut body, whatever it has said; the client a refusal. */
static void
test_refused(void **state)
{
	struct str in = STR_INIT, out = STR_INIT;

	(void)state;
	for (int early = 0; early < 2; early++) {
		int c = client(), a = upload(c, post, BODY - 1024, &in);

		if (early != 0) {
			say(a, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly");
			settle();
			settle();
		}
		gate_set(false, early != 0 ? EIO : ENOSPC);
		answered(c, &out, early != 0 ? "HTTP/1.1 503" : "HTTP/1.1 507");
		assert_false(hear(a, &in, "never"));
		assert_non_null(strstr(in.p, "\r\n\r\n"));
		assert_int_equal(in.len, (size_t)(strstr(in.p, "\r\n\r\n") + 4 - in.p) + BODY - 1024);
		close(a);
		close(c);
		str_clear(&in);
		str_clear(&out);
		/* Known now: the next one is refused before anything is forwarded. */
		c = client();
		say(c, post);
		assert_true(hear(c, &out, "nothing was forwarded"));
		close(c);
		str_clear(&out);
		gate_set(false, 0);
		/* And taken again when the file could be written anew. */
		for (unsigned tries = 0;; tries++) {
			struct pollfd p[2] = { { .fd = t.app, .events = POLLIN }, { .events = POLLIN } };

			p[1].fd = c = client();
			say(c, "DELETE /media/f HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n");
			assert_true(poll(p, 2, WAIT) > 0);
			if (p[0].revents != 0)
				break;
			close(c);
			assert_true(tries < WAIT / 20);
			(void)poll(NULL, 0, 20);
		}
		a = accepted();
		assert_true(hear(a, &in, "\r\n\r\n"));
		say(a, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
		assert_true(hear(c, &out, "204"));
		close(a);
		close(c);
		str_clear(&in);
		str_clear(&out);
	}
	str_fini(&in);
	str_fini(&out);
}

/* The client goes, or the application does, while the intent is on its way. */
static void
test_gone(void **state)
{
	struct str in = STR_INIT;
	int c = client(), a;

	(void)state;
	held(c, post, 3000, "");
	a = forwarded(&in);
	close(c);
	assert_false(hear(a, &in, "never"));
	close(a);
	gate_set(false, 0);
	settle();
	str_clear(&in);
	c = client();
	a = upload(c, post, BODY - 1024, &in);
	close(a);
	answered(c, &in, "HTTP/1.1 502");
	gate_set(false, 0);
	settle();
	close(c);
	str_fini(&in);
}

/* writes = disk: the body is written meanwhile, the file takes its place with the intent only. */
static void
test_store(void **state)
{
	static const char put[] = "PUT /media/own/f HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer sesame\r\nContent-Length: 5000\r\n\r\n";
	struct str in = STR_INIT;
	int c = client();

	(void)state;
	held(c, put, BODY, "");
	settle();
	assert_true(silent(c));
	assert_int_not_equal(access("media/own/f", F_OK), 0);
	gate_set(false, 0);
	answered(c, &in, "HTTP/1.1 201");
	assert_int_equal(access("media/own/f", F_OK), 0);
	assert_int_equal(unlink("media/own/f"), 0);
	held(c, put, BODY, "");
	settle();
	gate_set(false, ENOSPC);
	answered(c, &in, "HTTP/1.1 507");
	assert_int_not_equal(access("media/own/f", F_OK), 0);
	close(c);
	str_fini(&in);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_length, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chunked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_released_within, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_body, setup, teardown),
		cmocka_unit_test_setup_teardown(test_early_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_store, setup, teardown),
	};
	pthread_mutexattr_t ma;
	pthread_condattr_t ca;

	gate = mmap(NULL, sizeof *gate, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (gate == MAP_FAILED)
		return 99;
	pthread_mutexattr_init(&ma);
	pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&gate->mutex, &ma);
	pthread_condattr_init(&ca);
	pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
	pthread_cond_init(&gate->cond, &ca);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
