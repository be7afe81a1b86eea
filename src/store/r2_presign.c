#include "base/clock.h"
#include "base/utf8.h"
#include "store/r2_req.h"
#include "store/sigv4.h"

enum err
r2_presign(struct store *s, const char *method, const char *key, size_t klen, unsigned lifetime_s, struct str *url)
{
	struct r2 *r2 = (struct r2 *)s;
	const struct sigv4_creds creds = {r2->conf->r2_access_key, r2->conf->r2_secret, r2->conf->r2_region};
	const struct sigv4_header host = {"host", r2->host};
	struct sigv4_request r = {.method = method, .headers = &host, .nheaders = 1};
	struct str nfc = STR_INIT, path = STR_INIT;
	char date[17];

	if (!utf8_add_nfc(&nfc, key, klen)) {
		str_fini(&nfc);
		return ERR_INVAL;
	}
	str_addz(&path, r2->bucket_path);
	str_addc(&path, '/');
	str_add_uri(&path, nfc.p, nfc.len, true);
	clock_amz_date((int64_t)(clock_real_ms() / 1000) + r2->clock_off_s, date);
	r.path = str_z(&path);
	r.amz_date = date;
	str_addz(url, r2->origin);
	str_addz(url, r.path);
	str_addc(url, '?');
	sigv4_presign(&r, &creds, lifetime_s, url);
	str_fini(&nfc);
	str_fini(&path);
	return ERR_OK;
}
