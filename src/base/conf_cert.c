/* TLS. proxy.certificates: both files are read once, into the snapshot, and looked at together. What is served is what was looked at. */
#include "base/conf_int.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#define PEM_MAX 65536	/* bytes of a chain, or a key */
#define SOON_DAYS 14
#define DAY_S	 86400

/* The file's text, or NULL with a mistake. */
static char *
read_pem(struct conf_loading *ld, struct conf_pos pos, const char *name, const char *path)
{
	char *text = mem_zalloc(PEM_MAX + 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t n = 0;
	ssize_t got = -1;

	while (fd >= 0 && n < PEM_MAX && ((got = read(fd, text + n, PEM_MAX - n)) > 0 || (got < 0 && errno == EINTR)))
		n += got > 0 ? (size_t)got : 0;
	if (got < 0)
		conf_mistake(ld, pos, "%s: %s: %s", name, path, strerror(errno));
	else if (n == PEM_MAX)
		conf_mistake(ld, pos, "%s: %s is too large; it may have %d bytes", name, path, PEM_MAX - 1);
	if (fd >= 0)
		(void)close(fd);
	if (got == 0)
		return text;
	mem_wipe_free(text, PEM_MAX);
	return NULL;
}

static void
check_one(struct conf_loading *ld, struct conf_certificate *x, struct conf_pos pos)
{
	struct errbuf eb;
	bool key_wrong;
	size_t before = ld->nmistakes;

	if (!x->file || !x->key_file)
		return; /* a mistake already */
	conf_check_file(ld, pos, &conf_certificate_opts[0], &x->file);
	conf_check_file(ld, pos, &conf_certificate_opts[1], &x->key_file);
	if (ld->nmistakes > before)
		return;
	x->chain = read_pem(ld, pos, "certificate", x->file);
	x->key = read_pem(ld, pos, "key", x->key_file);
	if (x->chain && x->key && cert_check(x->chain, x->key, &key_wrong, &x->not_after, &eb) != ERR_OK)
		conf_mistake(ld, pos, "%s: %s: %s", key_wrong ? "key" : "certificate", key_wrong ? x->key_file : x->file, eb.text);
}

/* One of the two must be there. What is given, but not as it should be, is a mistake already. */
static void
check_any_listener(struct conf_loading *ld)
{
	struct conf_pos pos = conf_pos_of(ld, "proxy.listen");
	bool given = false;

	for (size_t i = 0; i < conf_nopts; i++)
		if (strcmp(conf_opts[i].name, "proxy.listen") == 0 || strcmp(conf_opts[i].name, "proxy.tls-listen") == 0)
			given = given || ld->pos[i].file;
	if (ld->c->listen.n == 0 && ld->c->tls_listen.n == 0 && !(given && conf_mistake_at(ld, pos)))
		conf_mistake(ld, pos, "proxy.listen is missing: addresses to listen on, like [ \"127.0.0.1:8080\" ]; or proxy.tls-listen");
}

void
conf_check_certificates(struct conf_loading *ld)
{
	struct conf *c = ld->c;

	for (size_t i = 0; i < c->ncertificates; i++)
		check_one(ld, &c->certificates[i], ld->list_pos[CONF_LIST_CERTIFICATES][i]);
	check_any_listener(ld);
	if (c->tls_listen.n > 0 && c->ncertificates == 0)
		conf_mistake(ld, conf_pos_of(ld, "proxy.tls-listen"), "proxy.tls-listen needs a certificate: add certificates = ( %s ) to proxy",
		    conf_lists[CONF_LIST_CERTIFICATES].example);
	if (c->tls_listen.n == 0 && c->ncertificates > 0)
		conf_mistake(ld, ld->list_pos[CONF_LIST_CERTIFICATES][0],
		    "proxy.certificates without proxy.tls-listen; add tls-listen = [ \"0.0.0.0:443\" ], or leave the certificates out");
}

void
conf_warnings(const struct conf *c, struct str *out)
{
	int64_t now = (int64_t)(clock_real_ms() / 1000);

	for (size_t i = 0; i < c->ncertificates; i++) {
		const struct conf_certificate *x = &c->certificates[i];
		char when[25];

		if (x->not_after > now + SOON_DAYS * DAY_S)
			continue;
		clock_iso((uint64_t)(x->not_after > 0 ? x->not_after : 0) * 1000, when);
		if (x->not_after <= now)
			str_printf(out, "%s: the certificate, or one of its chain, ended on %.10s: clients refuse it; renew it\n", x->file, when);
		else
			str_printf(out, "%s: the certificate, or one of its chain, ends on %.10s, in %lld days; renew it\n", x->file, when,
			    (long long)((x->not_after - now) / DAY_S));
	}
}
