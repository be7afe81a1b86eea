#include "io/rds.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <hiredis/hiredis.h>
#define ERR_STATE OPENSSL_ERR_STATE /* a type of OpenSSL's bears the name of an error of ours */
#include <openssl/evp.h>
#undef ERR_STATE

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/trip.h"
#include "io/addr.h"

enum {
	BACKOFF_MIN = 50, /* ms */
	BACKOFF_MAX = 2000,
	READ_SIZE = 65536
};

enum rds_state {
	RDS_DOWN,       /* the timer says when to connect */
	RDS_CONNECTING, /* the timer is the limit */
	RDS_GREETING,   /* AUTH, SELECT are on their way; from here on the timer is the first command's deadline */
	RDS_UP
};

struct rds_call {
	struct list node;
	struct rds *rds;
	rds_cb *cb; /* NULL: cancelled, its reply is still to come */
	void *arg;
	uint64_t deadline;
	bool own;    /* of the greeting */
	bool failed; /* in rds.failed, not in rds.sent */
	enum err e;  /* what to tell then */
	struct rds_script *script;
	bool unknown;    /* the server does not know the script's digest: by its body */
	struct str rest; /* its formatted keys and arguments, for EVAL */
	size_t argc;
};

struct rds {
	struct loop *loop;
	char *address, *user, *password;
	int db;
	uint64_t timeout_ms;
	void (*state_cb)(void *arg, bool up);
	void *arg;

	enum rds_state state;
	bool told_up;
	struct addr addr;
	bool resolved;
	int fd;
	struct loop_fd io;
	redisReader *reader;
	struct str out;
	size_t out_off;
	struct list sent;   /* in the order of their replies */
	struct list failed; /* to be told by later */
	struct loop_timer timer;
	uint64_t armed;         /* when the timer fires; 0: not set */
	struct loop_call later; /* flushes, tells failures and state */
	unsigned tries;
	struct errbuf why;
	unsigned inside; /* callbacks of the caller's on the stack */
	bool freed;
};

static void on_io(void *arg, int what);

static void
call_free(struct rds_call *c)
{
	list_del(&c->node);
	str_fini(&c->rest);
	mem_free(c);
}

static void
arm(struct rds *r, uint64_t at)
{
	uint64_t now = clock_mono_ms();

	r->armed = at;
	loop_timer_set(&r->timer, at > now ? at - now : 0);
}

static void
set_state(struct rds *r, enum rds_state s)
{
	static const char *const name[] = {"down", "connecting", "greeting", "up"};

	log_debug("redis", "%s: %s -> %s", r->address, name[r->state], name[s]);
	r->state = s;
}

static uint64_t
backoff(struct rds *r)
{
	uint64_t ms = BACKOFF_MIN;
	uint32_t rnd;

	for (unsigned i = 0; i < r->tries && ms < BACKOFF_MAX; i++)
		ms *= 2;
	if (ms > BACKOFF_MAX)
		ms = BACKOFF_MAX;
	r->tries++;
	/* The upper half at random, so that many processes do not come back in step. */
	digest_random(&rnd, sizeof rnd);
	return ms / 2 + rnd % (ms / 2 + 1);
}

static void
hang_up(struct rds *r)
{
	if (r->fd >= 0) {
		loop_fd_fini(&r->io);
		close(r->fd);
		r->fd = -1;
	}
	if (r->reader != NULL)
		redisReaderFree(r->reader);
	r->reader = NULL;
	str_clear(&r->out);
	r->out_off = 0;
}

static void
fail_later(struct rds *r, struct rds_call *c, enum err e)
{
	c->failed = true;
	c->e = e;
	list_add_tail(&r->failed, &c->node);
	loop_call_soon(&r->later);
}

/* Gives the connection up. Calls without a reply fail with e, later; those beyond their deadline with ERR_TIMEOUT. */
static void
drop(struct rds *r, enum err e)
{
	uint64_t now = clock_mono_ms();
	struct list *it, *nxt;

	if (r->state == RDS_UP)
		log_warn("redis", "%s: %s", r->address, r->why.text);
	hang_up(r);
	set_state(r, RDS_DOWN);
	LIST_FOREACH(it, nxt, &r->sent)
	{
		struct rds_call *c = LIST_ENTRY(it, struct rds_call, node);

		if (c->own || c->cb == NULL) {
			call_free(c);
			continue;
		}
		list_del(&c->node);
		fail_later(r, c, c->deadline <= now ? ERR_TIMEOUT : e);
	}
	arm(r, now + backoff(r));
	loop_call_soon(&r->later);
}

static bool
last_inside(struct rds *r)
{
	return --r->inside == 0 && r->freed;
}

static void
flush(struct rds *r)
{
	while (r->out_off < r->out.len) {
		ssize_t n = send(r->fd, r->out.p + r->out_off, r->out.len - r->out_off, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			loop_fd_want(&r->io, LOOP_READ | LOOP_WRITE);
			return;
		}
		if (n < 0) {
			err_set(&r->why, ERR_CLOSED, "write: %s", strerror(errno));
			drop(r, ERR_CLOSED);
			return;
		}
		r->out_off += (size_t)n;
	}
	str_clear(&r->out);
	r->out_off = 0;
	loop_fd_want(&r->io, LOOP_READ);
}

static void
on_later(void *arg)
{
	struct rds *r = arg;
	struct rds_call *c;
	bool up;

	if (r->state >= RDS_GREETING && r->out.len > 0)
		flush(r);
	up = r->state == RDS_UP;
	r->inside++;
	if (up != r->told_up) {
		r->told_up = up;
		if (r->state_cb != NULL)
			r->state_cb(r->arg, up);
	}
	while (!r->freed && (c = LIST_FIRST(&r->failed, struct rds_call, node)) != NULL) {
		rds_cb *cb = c->cb;
		void *cb_arg = c->arg;
		enum err e = c->e;

		call_free(c);
		cb(cb_arg, e, NULL);
	}
	if (last_inside(r))
		mem_free(r);
}

static void
add_bulk(struct str *s, const void *p, size_t n)
{
	str_printf(s, "$%zu\r\n", n);
	str_add(s, p, n);
	str_add(s, "\r\n", 2);
}

static struct rds_call *
call_new(struct rds *r, uint64_t timeout_ms, rds_cb *cb, void *arg)
{
	struct rds_call *c = mem_zalloc(sizeof *c);

	list_init(&c->node);
	str_init(&c->rest);
	c->rds = r;
	c->cb = cb;
	c->arg = arg;
	c->deadline = clock_mono_ms() + (timeout_ms > 0 ? timeout_ms : r->timeout_ms);
	return c;
}

/* The command's bytes are in out already: it waits for its reply. */
static void
wait_reply(struct rds *r, struct rds_call *c)
{
	list_add_tail(&r->sent, &c->node);
	if (r->armed == 0 || c->deadline < r->armed)
		arm(r, c->deadline);
	loop_call_soon(&r->later);
}

static struct rds_call *
send_argv(struct rds *r, struct rds_call *c, const struct rds_arg *argv, size_t argc)
{
	str_printf(&r->out, "*%zu\r\n", argc);
	for (size_t i = 0; i < argc; i++)
		add_bulk(&r->out, argv[i].p, argv[i].len);
	wait_reply(r, c);
	return c;
}

static void
send_eval(struct rds *r, struct rds_call *c)
{
	str_printf(&r->out, "*%zu\r\n", c->argc);
	if (!c->unknown) {
		add_bulk(&r->out, "EVALSHA", 7);
		add_bulk(&r->out, c->script->sha, 40);
	} else {
		add_bulk(&r->out, "EVAL", 4);
		add_bulk(&r->out, c->script->body, strlen(c->script->body));
	}
	str_add(&r->out, c->rest.p, c->rest.len);
	wait_reply(r, c);
}

/* The greeting's replies: AUTH if there is a password, and SELECT always: it tells that Redis answers at all. */
static void
on_greeting(void *arg, enum err e, const struct redisReply *reply)
{
	struct rds *r = arg;

	if (e == ERR_OK)
		return;
	err_set(&r->why, e, "%s", reply->str);
	drop(r, ERR_CONNECT);
}

static void
on_selected(void *arg, enum err e, const struct redisReply *reply)
{
	struct rds *r = arg;

	on_greeting(arg, e, reply);
	if (e != ERR_OK)
		return;
	r->tries = 0;
	r->why.text[0] = '\0';
	set_state(r, RDS_UP);
	loop_call_soon(&r->later);
}

static void
greet(struct rds *r)
{
	struct str db = STR_INIT;
	struct rds_call *c;

	set_state(r, RDS_GREETING);
	loop_timer_cancel(&r->timer);
	r->armed = 0;
	r->reader = redisReaderCreate();
	ASSERT(r->reader != NULL);
	loop_fd_want(&r->io, LOOP_READ);
	if (r->password != NULL) {
		struct rds_arg argv[3] = {RDS_Z("AUTH")};
		size_t n = 1;

		if (r->user != NULL)
			argv[n++] = RDS_Z(r->user);
		argv[n++] = RDS_Z(r->password);
		c = call_new(r, 0, on_greeting, r);
		c->own = true;
		send_argv(r, c, argv, n);
	}
	str_printf(&db, "%d", r->db);
	c = call_new(r, 0, on_selected, r);
	c->own = true;
	send_argv(r, c, (struct rds_arg[]){RDS_Z("SELECT"), {db.p, db.len}}, 2);
	str_fini(&db);
}

static void
connect_now(struct rds *r)
{
	set_state(r, RDS_CONNECTING);
	if (!r->resolved && addr_parse(&r->addr, r->address, &r->why) != ERR_OK) {
		drop(r, ERR_CONNECT);
		return;
	}
	r->resolved = true;
	if (addr_connect(&r->addr, &r->fd, &r->why) != ERR_OK) {
		drop(r, ERR_CONNECT);
		return;
	}
	loop_fd_init(&r->io, r->loop, r->fd, on_io, r);
	loop_fd_want(&r->io, LOOP_WRITE);
	arm(r, clock_mono_ms() + r->timeout_ms);
}

static void
check_deadlines(struct rds *r)
{
	uint64_t now = clock_mono_ms(), first = UINT64_MAX;
	struct list *it, *nxt;

	LIST_FOREACH(it, nxt, &r->sent)
	{
		struct rds_call *c = LIST_ENTRY(it, struct rds_call, node);

		if (c->deadline < first)
			first = c->deadline;
	}
	if (first <= now) {
		/* Its reply may still come, and must not be taken for that of another command: only a new connection
		 * helps. */
		err_set(&r->why, ERR_TIMEOUT, "no reply in time");
		drop(r, ERR_CLOSED);
	} else if (first != UINT64_MAX) {
		arm(r, first);
	}
}

static void
on_timer(void *arg)
{
	struct rds *r = arg;

	r->armed = 0;
	switch (r->state) {
	case RDS_DOWN:
		connect_now(r);
		break;
	case RDS_CONNECTING:
		err_set(&r->why, ERR_TIMEOUT, "connect: timed out");
		drop(r, ERR_CONNECT);
		break;
	case RDS_GREETING:
	case RDS_UP:
		check_deadlines(r);
		break;
	}
}

static enum err
reply_err(const redisReply *reply)
{
	/* What passes by itself, or by an operator's hand, without a change of ours. */
	static const char *const unavail[] = {
	    "LOADING", "READONLY", "BUSY", "MISCONF", "OOM", "MASTERDOWN", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN"};
	size_t n;

	if (reply->type != REDIS_REPLY_ERROR)
		return ERR_OK;
	n = strcspn(reply->str, " ");
	for (size_t i = 0; i < sizeof unavail / sizeof *unavail; i++)
		if (str_slice_eq(reply->str, n, unavail[i]))
			return ERR_UNAVAIL;
	return ERR_PROTO;
}

static void
take_reply(struct rds *r, redisReply *reply)
{
	struct rds_call *c = LIST_FIRST(&r->sent, struct rds_call, node);
	rds_cb *cb = c->cb;
	void *cb_arg = c->arg;
	enum err e;

	list_del(&c->node);
	if (cb != NULL && c->script != NULL && !c->unknown && reply->type == REDIS_REPLY_ERROR &&
	    strncmp(reply->str, "NOSCRIPT", 8) == 0) {
		c->unknown = true;
		send_eval(r, c);
		return;
	}
	e = c->script != NULL ? TRIP_ERR("redis", c->script->name, "answer") : ERR_OK;
	call_free(c);
	if (cb != NULL && e != ERR_OK)
		cb(cb_arg, e, NULL);
	else if (cb != NULL)
		cb(cb_arg, reply_err(reply), reply);
}

static void
take_replies(struct rds *r)
{
	void *reply;

	/* A callback may have freed r, or dropped the connection (and its reader) by way of the greeting. */
	while (!r->freed && r->reader != NULL) {
		if (redisReaderGetReply(r->reader, &reply) != REDIS_OK) {
			err_set(&r->why, ERR_PROTO, "malformed reply: %s", r->reader->errstr);
			drop(r, ERR_PROTO);
			return;
		}
		if (reply == NULL)
			return;
		if (list_empty(&r->sent)) {
			err_set(&r->why, ERR_PROTO, "a reply without a command");
			drop(r, ERR_PROTO);
		} else {
			take_reply(r, reply);
		}
		freeReplyObject(reply);
	}
}

static void
on_readable(struct rds *r)
{
	char buf[READ_SIZE];
	ssize_t n = recv(r->fd, buf, sizeof buf, 0);

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return;
	if (n <= 0) {
		err_set(&r->why, ERR_CLOSED, "%s", n == 0 ? "Redis closed the connection" : strerror(errno));
		drop(r, ERR_CLOSED);
		return;
	}
	ASSERT(redisReaderFeed(r->reader, buf, (size_t)n) == REDIS_OK);
	r->inside++;
	take_replies(r);
	if (last_inside(r))
		mem_free(r);
}

static void
on_io(void *arg, int what)
{
	struct rds *r = arg;

	if (r->state == RDS_CONNECTING) {
		if (addr_connect_result(r->fd, &r->why) == ERR_OK)
			greet(r);
		else
			drop(r, ERR_CONNECT);
	} else if (what == LOOP_WRITE) {
		flush(r);
	} else {
		on_readable(r);
	}
}

struct rds *
rds_new(struct loop *l, const struct rds_opts *o)
{
	struct rds *r = mem_zalloc(sizeof *r);

	ASSERT(o->timeout_ms > 0);
	r->loop = l;
	r->address = mem_strdup(o->address);
	r->user = mem_strdup(o->user);
	r->password = mem_strdup(o->password);
	r->db = o->db;
	r->timeout_ms = o->timeout_ms;
	r->state_cb = o->state;
	r->arg = o->arg;
	r->fd = -1;
	str_init(&r->out);
	list_init(&r->sent);
	list_init(&r->failed);
	loop_timer_init(&r->timer, l, on_timer, r);
	loop_call_init(&r->later, l, on_later, r);
	err_set(&r->why, ERR_CONNECT, "not connected yet");
	arm(r, clock_mono_ms());
	return r;
}

static void
free_calls(struct list *calls)
{
	struct rds_call *c;

	while ((c = LIST_FIRST(calls, struct rds_call, node)) != NULL)
		call_free(c);
}

void
rds_free(struct rds **rp)
{
	struct rds *r = *rp;

	if (r == NULL)
		return;
	*rp = NULL;
	hang_up(r);
	loop_timer_fini(&r->timer);
	loop_call_cancel(&r->later);
	free_calls(&r->sent);
	free_calls(&r->failed);
	/* The password may still stand in it. */
	mem_wipe_free(r->out.p, r->out.cap);
	if (r->password != NULL)
		mem_wipe_free(r->password, strlen(r->password));
	mem_free(r->user);
	mem_free(r->address);
	r->freed = true;
	if (r->inside == 0)
		mem_free(r);
}

bool
rds_up(const struct rds *r)
{
	return r->state == RDS_UP;
}

const char *
rds_why(const struct rds *r)
{
	return r->why.text;
}

struct rds_call *
rds_command(struct rds *r, uint64_t timeout_ms, rds_cb *cb, void *arg, const struct rds_arg *argv, size_t argc)
{
	struct rds_call *c = call_new(r, timeout_ms, cb, arg);

	ASSERT(cb != NULL && argc > 0);
	if (r->state != RDS_UP)
		fail_later(r, c, ERR_CONNECT);
	else
		send_argv(r, c, argv, argc);
	return c;
}

static void
script_digest(struct rds_script *s)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* scripts are shared by all loops */

	pthread_mutex_lock(&mutex);
	if (s->sha[0] == '\0') {
		unsigned char md[EVP_MAX_MD_SIZE];
		unsigned n = 0;
		struct str hex = STR_INIT;

		ASSERT(EVP_Digest(s->body, strlen(s->body), md, &n, EVP_sha1(), NULL) == 1 && n == 20);
		str_add_hex(&hex, md, n);
		memcpy(s->sha, hex.p, 41);
		str_fini(&hex);
	}
	pthread_mutex_unlock(&mutex);
}

struct rds_call *
rds_eval(struct rds *r, struct rds_script *s, rds_cb *cb, void *arg, const struct rds_arg *keys, size_t nkeys,
    const struct rds_arg *args, size_t nargs)
{
	struct rds_call *c = call_new(r, 0, cb, arg);
	struct str n = STR_INIT;
	enum err e;

	ASSERT(cb != NULL);
	script_digest(s);
	c->script = s;
	e = r->state == RDS_UP ? TRIP_ERR("redis", s->name, "send") : ERR_CONNECT;
	if (e != ERR_OK) {
		fail_later(r, c, e);
		return c;
	}
	c->argc = 3 + nkeys + nargs;
	str_printf(&n, "%zu", nkeys);
	add_bulk(&c->rest, n.p, n.len);
	str_fini(&n);
	for (size_t i = 0; i < nkeys; i++)
		add_bulk(&c->rest, keys[i].p, keys[i].len);
	for (size_t i = 0; i < nargs; i++)
		add_bulk(&c->rest, args[i].p, args[i].len);
	send_eval(r, c);
	return c;
}

void
rds_cancel(struct rds_call *c)
{
	if (c->failed)
		call_free(c);
	else
		c->cb = NULL;
}
