/* One call of http_client.h: its limits, its end, its talk with libcurl, its start, and what its response said. */
#include "io/http_client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/http_client_i.h"

enum {
	HEAD_MAX = 256 * 1024, /* libcurl bounds a line, not the head */
	COLLECT_MAX = 1024 * 1024,
	BUFFER_SIZE = 128 * 1024,
	FIELDS_STEP = 16,
	HEAD_MOST = 1000 /* bytes of most heads: room that saves growing, no limit */
};

/* ---- limits of time ---- */

static uint64_t
idle_limit(const struct http_call *call)
{
	switch (call->state) {
	case CALL_SENDING:
		return call->o.stall_ms;
	case CALL_WAITING:
		return call->o.first_byte_ms;
	case CALL_RECEIVING:
		return call->paused ? 0 : call->o.stall_ms;
	case CALL_QUEUED:
	case CALL_CONNECTING:
	case CALL_FINISHING:
		break;
	}
	return 0;
}

/* There was progress. The timer is not moved each time: it looks at touched when it fires. */
static void
touch(struct http_call *call)
{
	call->touched = clock_mono_ms();
}

static void
set_state(struct http_call *call, enum call_state s)
{
	uint64_t ms;

	ASSERT(s > call->state || (s == CALL_SENDING && call->state == CALL_WAITING));
	call->state = s;
	touch(call);
	ms = idle_limit(call);
	if (ms > 0)
		loop_timer_set(&call->idle, ms);
	else
		loop_timer_cancel(&call->idle);
}

/* ---- the end ---- */

void
http_call_free(struct http_call *call)
{
	loop_timer_fini(&call->limit);
	loop_timer_fini(&call->idle);
	list_del(&call->node);
	list_del(&call->work);
	curl_slist_free_all(call->headers);
	mem_free(call->method);
	mem_free(call->url);
	str_fini(&call->head);
	mem_free(call->fields);
	str_fini(&call->body);
	mem_free(call);
}

/* Ends the call and tells so. The caller holds c->inside. */
static void
finish(struct http_call *call, enum err e)
{
	ASSERT(call->client->inside > 0);
	http_client_detach(call, e == ERR_OK);
	list_del(&call->node);
	list_del(&call->work);
	loop_timer_cancel(&call->limit);
	set_state(call, CALL_FINISHING);
	if (!call->cancelled)
		call->o.done(call->o.arg, e, call->status);
	http_call_free(call);
}

static void
time_out(struct http_call *call, const char *what, uint64_t ms)
{
	struct http_client *c = call->client;
	struct str s = STR_INIT;

	str_printf(&s, "%s ", what);
	str_add_duration(&s, ms);
	snprintf(call->why, sizeof call->why, "%s", s.p);
	str_fini(&s);
	http_client_enter(c);
	finish(call, ERR_TIMEOUT);
	http_client_leave(c);
}

static void
on_limit(void *arg)
{
	struct http_call *call = arg;

	time_out(call, "not finished within", call->o.limit_ms);
}

static void
on_idle(void *arg)
{
	struct http_call *call = arg;
	uint64_t limit = idle_limit(call), since = clock_mono_ms() - call->touched;

	if (limit == 0)
		return;
	if (since < limit)
		loop_timer_set(&call->idle, limit - since);
	else
		time_out(call, call->state == CALL_WAITING ? "no response within" : "no byte went over for", limit);
}

/* What libcurl's code means to us. Written out: each is a decision about what may have happened at the other side. */
static enum err
curl_err(const struct http_call *call, CURLcode rc)
{
	if (call->e != ERR_OK)
		return call->e;
	switch ((int)rc) {
	case CURLE_OK:
		return ERR_OK;
	case CURLE_URL_MALFORMAT:
	case CURLE_LOGIN_DENIED:
		return ERR_INVAL;
	case CURLE_UNSUPPORTED_PROTOCOL: /* of the URL; and a peer that answers without an HTTP head */
		return call->state <= CALL_CONNECTING ? ERR_INVAL : ERR_PROTO;
	case CURLE_OPERATION_TIMEDOUT: /* libcurl's own limit is that of connecting: nothing was sent */
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_USE_SSL_FAILED:
		return ERR_CONNECT;
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_PARTIAL_FILE:
	case CURLE_SEND_FAIL_REWIND:
		return ERR_CLOSED;
	default:
		return ERR_PROTO;
	}
}

void
http_call_ended(struct http_call *call, CURLcode rc)
{
	if (rc != CURLE_OK && call->why[0] == '\0')
		snprintf(call->why, sizeof call->why, "%s", curl_easy_strerror(rc));
	finish(call, curl_err(call, rc));
}

/* ---- libcurl's callbacks ---- */

/* Breaks the transfer off, from within libcurl. */
static void
break_off(struct http_call *call, enum err e, const char *why)
{
	call->e = e;
	snprintf(call->why, sizeof call->why, "%s", why);
	/* libcurl would write its own text over ours. */
	curl_easy_setopt(call->easy, CURLOPT_ERRORBUFFER, NULL);
}

static int
on_prereq(void *arg, char *ip, char *local_ip, int port, int local_port)
{
	struct http_call *call = arg;

	(void)ip;
	(void)local_ip;
	(void)port;
	(void)local_port;
	if (call->cancelled)
		return CURL_PREREQFUNC_ABORT;
	/* Again, if libcurl tries anew because a kept connection turned out dead. */
	if (call->state == CALL_CONNECTING)
		set_state(call, call->o.body_len > 0 ? CALL_SENDING : CALL_WAITING);
	return CURL_PREREQFUNC_OK;
}

static size_t
on_read(char *p, size_t size, size_t nmemb, void *arg)
{
	struct http_call *call = arg;
	uint64_t left = call->o.body_len - call->sent;
	size_t n = size * nmemb;

	if (call->cancelled)
		return CURL_READFUNC_ABORT;
	if (n > left)
		n = (size_t)left;
	if (n > 0 && call->o.body_fd >= 0) {
		ssize_t got;

		do
			got = pread(call->o.body_fd, p, n, (off_t)(call->o.body_off + call->sent));
		while (got < 0 && errno == EINTR);
		if (got <= 0) {
			break_off(call, got < 0 ? ERR_IO : ERR_CHANGED,
			    got < 0 ? strerror(errno) : "the file became shorter while it was sent");
			return CURL_READFUNC_ABORT;
		}
		n = (size_t)got;
	} else if (n > 0) {
		memcpy(p, (const char *)call->o.body + call->sent, n);
	}
	call->sent += n;
	touch(call);
	if (call->sent == call->o.body_len && call->state == CALL_SENDING)
		set_state(call, CALL_WAITING);
	return n;
}

static int
on_seek(void *arg, curl_off_t off, int origin)
{
	struct http_call *call = arg;

	if (call->cancelled || origin != SEEK_SET || off < 0 || (uint64_t)off > call->o.body_len)
		return CURL_SEEKFUNC_FAIL;
	call->sent = (uint64_t)off;
	if (call->state == CALL_WAITING && call->sent < call->o.body_len)
		set_state(call, CALL_SENDING);
	return CURL_SEEKFUNC_OK;
}

static void
add_field(struct http_call *call, const char *p, size_t n)
{
	const char *colon = memchr(p, ':', n);
	size_t name_len = colon == NULL ? n : (size_t)(colon - p), from = name_len + 1;

	if (colon == NULL)
		return;
	while (from < n && (p[from] == ' ' || p[from] == '\t'))
		from++;
	while (n > from && (p[n - 1] == ' ' || p[n - 1] == '\t'))
		n--;
	if (call->nfields % FIELDS_STEP == 0)
		call->fields = mem_realloc(call->fields, (call->nfields + FIELDS_STEP) * sizeof *call->fields);
	call->fields[call->nfields].name = call->head.len;
	str_add(&call->head, p, name_len);
	str_addc(&call->head, '\0');
	call->fields[call->nfields++].value = call->head.len;
	str_add(&call->head, p + from, n - from);
	str_addc(&call->head, '\0');
}

static void
on_head_end(struct http_call *call)
{
	long status = 0;

	curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200)
		return; /* interim */
	call->status = (int)status;
	call->head_done = true;
	set_state(call, CALL_RECEIVING);
	if (call->o.on_head != NULL)
		call->o.on_head(call->o.arg, call->status);
}

static size_t
on_header(char *p, size_t size, size_t nmemb, void *arg)
{
	struct http_call *call = arg;
	size_t all = size * nmemb, n = all;

	if (call->cancelled)
		return 0;
	if (call->head_done)
		return all; /* a trailer */
	while (n > 0 && (p[n - 1] == '\n' || p[n - 1] == '\r'))
		n--;
	if (call->head.len + n > HEAD_MAX || (n > 0 && (*p == ' ' || *p == '\t')) || memchr(p, '\0', n) != NULL) {
		break_off(call, ERR_PROTO, "the response head is malformed or too large");
		return 0;
	}
	if (n == 0) {
		on_head_end(call);
		return call->cancelled ? 0 : all;
	}
	if (n > 5 && memcmp(p, "HTTP/", 5) == 0) {
		/* A new head: what came before was an interim one. */
		str_clear(&call->head);
		(void)str_reserve(&call->head, HEAD_MOST);
		call->nfields = 0;
	} else {
		add_field(call, p, n);
	}
	return all;
}

static size_t
on_write(char *p, size_t size, size_t nmemb, void *arg)
{
	struct http_call *call = arg;
	size_t n = size * nmemb;

	if (call->cancelled)
		return CURL_WRITEFUNC_ERROR;
	if (call->paused) {
		call->stuck = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	touch(call);
	if (call->o.on_data != NULL) {
		call->o.on_data(call->o.arg, p, n);
		return call->cancelled ? CURL_WRITEFUNC_ERROR : n;
	}
	if (call->body.len + n > COLLECT_MAX) {
		break_off(call, ERR_TOOBIG, "the response is larger than 1 MiB");
		return CURL_WRITEFUNC_ERROR;
	}
	str_add(&call->body, p, n);
	return n;
}

/* ---- the start of a call ---- */

/* Everything that the last call may have chosen is chosen anew. */
static void
set_method(struct http_call *call)
{
	bool head = strcmp(call->method, "HEAD") == 0, put = call->o.has_body;
	CURL *h = call->easy;

	curl_easy_setopt(h, CURLOPT_NOBODY, head ? 1L : 0L);
	if (!head)
		curl_easy_setopt(h, CURLOPT_HTTPGET, 1L);
	if (put)
		curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, put ? (curl_off_t)call->o.body_len : (curl_off_t)-1);
	curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, put || (!head && strcmp(call->method, "GET") != 0) ? call->method : NULL);
}

static void
set_callbacks(struct http_call *call)
{
	CURL *h = call->easy;

	curl_easy_setopt(h, CURLOPT_PRIVATE, call);
	curl_easy_setopt(h, CURLOPT_ERRORBUFFER, call->why);
	curl_easy_setopt(h, CURLOPT_PREREQFUNCTION, on_prereq);
	curl_easy_setopt(h, CURLOPT_PREREQDATA, call);
	curl_easy_setopt(h, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(h, CURLOPT_READDATA, call);
	curl_easy_setopt(h, CURLOPT_SEEKFUNCTION, on_seek);
	curl_easy_setopt(h, CURLOPT_SEEKDATA, call);
	curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(h, CURLOPT_HEADERDATA, call);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_write);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, call);
}

/*
 * What we gave up, or died over, must not arrive any more: an ordinary close leaves the rest to the kernel, which goes on sending it
 * for minutes where the network has a gap, long after the quarantine of the lease under which it was written. Closed like this
 * the kernel forgets it at once, also when the process is killed.
 */
static int
on_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	struct linger none = {.l_onoff = 1, .l_linger = 0};

	(void)arg;
	(void)purpose;
	return setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none) == 0 ? CURL_SOCKOPT_OK : CURL_SOCKOPT_ERROR;
}

void
http_call_options(struct http_client *c, CURL *h)
{
	curl_easy_setopt(h, CURLOPT_SOCKOPTFUNCTION, on_socket);
	curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(h, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
	/* Nothing of the environment: no proxy, no .netrc, one certificate file. */
	curl_easy_setopt(h, CURLOPT_PROXY, "");
	curl_easy_setopt(h, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(h, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(h, CURLOPT_CAINFO, c->ca_file);
	curl_easy_setopt(h, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(h, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(h, CURLOPT_PIPEWAIT, 0L);
	curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, c->connect_ms);
	/* A cancelled call must not block the loop until a slow name server has answered. */
	curl_easy_setopt(h, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(h, CURLOPT_BUFFERSIZE, (long)BUFFER_SIZE);
	curl_easy_setopt(h, CURLOPT_UPLOAD_BUFFERSIZE, (long)BUFFER_SIZE);
}

void
http_call_begin(struct http_call *call)
{
	struct http_client *c = call->client;

	if (call->e != ERR_OK) {
		finish(call, call->e);
		return;
	}
	call->easy = http_client_easy(c);
	curl_easy_setopt(call->easy, CURLOPT_URL, call->url);
	curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers);
	set_method(call);
	set_callbacks(call);
	set_state(call, CALL_CONNECTING);
	ASSERT(curl_multi_add_handle(c->multi, call->easy) == CURLM_OK);
}

void
http_call_unpause(struct http_call *call)
{
	struct http_client *c = call->client;
	CURLcode rc;

	if (call->paused || !call->stuck)
		return;
	call->stuck = false;
	touch(call);
	/* What libcurl held back comes at once, from within this call. */
	c->in_curl = true;
	rc = curl_easy_pause(call->easy, CURLPAUSE_CONT);
	c->in_curl = false;
	if (rc != CURLE_OK && !call->cancelled)
		http_call_ended(call, rc);
}

static bool
is_token(const char *z)
{
	if (*z == '\0')
		return false;
	for (; *z != '\0'; z++)
		if (!((*z >= 'a' && *z <= 'z') || (*z >= 'A' && *z <= 'Z') || (*z >= '0' && *z <= '9') ||
			strchr("!#$%&'*+-.^_`|~", *z) != NULL))
			return false;
	return true;
}

/* No byte below min, no DEL, none of 8 bits unless allowed. */
static bool
is_clean(const char *z, unsigned char min, bool allow_8bit)
{
	for (; *z != '\0'; z++)
		if ((unsigned char)*z < min || *z == 0x7f || (!allow_8bit && (unsigned char)*z > 0x7f))
			return false;
	return true;
}

static void
append(struct curl_slist **l, const char *line)
{
	struct curl_slist *more = curl_slist_append(*l, line);

	ASSERT(more != NULL);
	*l = more;
}

/* Exactly the headers that are asked for, with Host and Content-Length: what libcurl adds by itself is taken out. */
static enum err
make_headers(struct http_call *call, const struct http_header *h, size_t n)
{
	static const char *const defaults[] = {"Accept", "Expect", "Content-Type"};
	struct str s = STR_INIT;

	(void)str_reserve(&s, HEAD_MOST);
	for (size_t i = 0; i < n; i++) {
		if (!is_token(h[i].name) || !is_clean(h[i].value, ' ', true) ||
		    strcasecmp(h[i].name, "Transfer-Encoding") == 0) {
			str_fini(&s);
			return ERR_INVAL;
		}
		if (strcasecmp(h[i].name, "Content-Length") == 0)
			continue; /* libcurl counts */
		str_clear(&s);
		/* libcurl's way to write an empty value. */
		str_addz(&s, h[i].name);
		str_addz(&s, h[i].value[0] == '\0' ? ";" : ": ");
		str_addz(&s, h[i].value);
		append(&call->headers, s.p);
	}
	for (size_t k = 0; k < sizeof defaults / sizeof *defaults; k++) {
		size_t i = 0;

		while (i < n && strcasecmp(h[i].name, defaults[k]) != 0)
			i++;
		if (i < n)
			continue;
		str_clear(&s);
		str_addz(&s, defaults[k]);
		str_addc(&s, ':');
		append(&call->headers, s.p);
	}
	str_fini(&s);
	return ERR_OK;
}

struct http_call *
http_call_start(struct http_client *c, const struct http_call_opts *o)
{
	struct http_call *call = mem_zalloc(sizeof *call);
	bool head = strcmp(o->method, "HEAD") == 0;

	ASSERT(o->done != NULL && !c->freed);
	ASSERT(o->has_body ? o->body_fd >= 0 || o->body != NULL || o->body_len == 0 : o->body_len == 0);
	call->client = c;
	call->o = *o;
	call->o.method = call->o.url = NULL;
	call->o.headers = NULL;
	call->method = mem_strdup(o->method);
	call->url = mem_strdup(o->url);
	list_init(&call->work);
	list_add_tail(&c->calls, &call->node);
	loop_timer_init(&call->limit, c->loop, on_limit, call);
	loop_timer_init(&call->idle, c->loop, on_idle, call);
	call->e = make_headers(call, o->headers, o->nheaders);
	/* libcurl would encode bytes of 8 bits by itself, and a signature would no longer fit. */
	if (!is_token(o->method) || !is_clean(o->url, ' ' + 1, false) || (head && o->has_body))
		call->e = ERR_INVAL;
	if (call->e != ERR_OK)
		snprintf(call->why, sizeof call->why, "invalid method, URL or header");
	if (o->limit_ms > 0)
		loop_timer_set(&call->limit, o->limit_ms);
	http_client_soon(call);
	return call;
}

void
http_call_cancel(struct http_call **callp)
{
	struct http_call *call = *callp;
	struct http_client *c;

	if (call == NULL)
		return;
	*callp = NULL;
	c = call->client;
	if (call->state == CALL_FINISHING || call->cancelled)
		return;
	call->cancelled = true;
	if (c->in_curl) {
		loop_timer_cancel(&call->limit);
		loop_timer_cancel(&call->idle);
		list_del(&call->work);
		list_del(&call->node);
		list_add_tail(&c->cancelled, &call->node);
	} else {
		http_client_detach(call, false);
		http_call_free(call);
	}
}

void
http_call_pause(struct http_call *call)
{
	call->paused = true;
	if (call->state == CALL_RECEIVING)
		loop_timer_cancel(&call->idle);
}

void
http_call_resume(struct http_call *call)
{
	if (!call->paused)
		return;
	call->paused = false;
	if (call->state != CALL_RECEIVING)
		return;
	touch(call);
	if (call->o.stall_ms > 0)
		loop_timer_set(&call->idle, call->o.stall_ms);
	if (call->stuck)
		http_client_soon(call);
}

/* ---- what a response said ---- */

bool
http_call_header_at(const struct http_call *call, size_t i, const char **name, const char **value)
{
	if (i >= call->nfields)
		return false;
	*name = call->head.p + call->fields[i].name;
	*value = call->head.p + call->fields[i].value;
	return true;
}

const char *
http_call_header(const struct http_call *call, const char *name)
{
	const char *n, *v;

	for (size_t i = 0; http_call_header_at(call, i, &n, &v); i++)
		if (strcasecmp(n, name) == 0)
			return v;
	return NULL;
}

const char *
http_call_body(const struct http_call *call, size_t *len)
{
	*len = call->body.len;
	return str_z(&call->body);
}

const char *
http_call_why(const struct http_call *call)
{
	return call->why;
}
