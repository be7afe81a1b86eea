#include "sandbox/s3.h"

#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

/* A subresource and what R2 calls the operation that it does not implement. */
struct sub {
	const char *param, *name;
};

static const struct sub object_get[] = {{"tagging", "GetObjectTagging"}, {"acl", "GetObjectAcl"},
    {"attributes", "GetObjectAttributes"}, {"torrent", "GetObjectTorrent"}, {"retention", "GetObjectRetention"},
    {"legal-hold", "GetObjectLegalHold"}, {NULL, NULL}};
static const struct sub object_put[] = {{"tagging", "PutObjectTagging"}, {"acl", "PutObjectAcl"},
    {"retention", "PutObjectRetention"}, {"legal-hold", "PutObjectLegalHold"}, {NULL, NULL}};
/* "GetGet..." is R2's own slip. acl: R2 answers with the account's owner, which a sandbox has not. */
static const struct sub bucket_get[] = {{"versions", "ListObjectVersions"}, {"policy", "GetBucketPolicy"},
    {"website", "GetBucketWebsite"}, {"notification", "GetBucketNotificationConfiguration"},
    {"requestPayment", "GetBucketRequestPayment"}, {"logging", "GetBucketLogging"},
    {"accelerate", "GetBucketAccelerateConfiguration"}, {"publicAccessBlock", "GetPublicAccessBlock"},
    {"ownershipControls", "GetBucketOwnershipControls"},
    {"intelligent-tiering", "GetBucketIntelligentTieringConfiguration"},
    {"inventory", "GetBucketInventoryConfiguration"}, {"metrics", "GetBucketMetricsConfiguration"},
    {"analytics", "GetBucketAnalyticsConfiguration"}, {"policyStatus", "GetGetBucketPolicyStatus"},
    {"acl", "GetBucketAcl"}, {NULL, NULL}};
static const struct sub bucket_put[] = {{"accelerate", "PutBucketAccelerateConfiguration"}, {"acl", "PutBucketAcl"},
    {"analytics", "PutBucketAnalyticsConfiguration"},
    {"intelligent-tiering", "PutBucketIntelligentTieringConfiguration"},
    {"inventory", "PutBucketInventoryConfiguration"}, {"logging", "PutBucketLogging"},
    {"metrics", "PutBucketMetricsConfiguration"}, {"notification", "PutBucketNotificationConfiguration"},
    {"object-lock", "PutObjectLockConfiguration"}, {"ownershipControls", "PutBucketOwnershipControls"},
    {"policy", "PutBucketPolicy"}, {"publicAccessBlock", "PutPublicAccessBlock"},
    {"replication", "PutBucketReplication"}, {"requestPayment", "PutBucketRequestPayment"},
    {"tagging", "PutBucketTagging"}, {"website", "PutBucketWebsite"}, {"cors", "PutBucketCors"},
    {"encryption", "PutBucketEncryption"}, {"lifecycle", "PutBucketLifecycleConfiguration"},
    {"versioning", "PutBucketVersioning"}, {NULL, NULL}};
static const struct sub bucket_delete[] = {{"analytics", "DeleteBucketAnalyticsConfiguration"},
    {"intelligent-tiering", "DeleteBucketIntelligentTieringConfiguration"},
    {"inventory", "DeleteBucketInventoryConfiguration"}, {"metrics", "DeleteBucketMetricsConfiguration"},
    {"ownershipControls", "DeleteBucketOwnershipControls"}, {"policy", "DeleteBucketPolicy"},
    {"replication", "DeleteBucketReplication"}, {"tagging", "DeleteBucketTagging"}, {"website", "DeleteBucketWebsite"},
    {"cors", "DeleteBucketCors"}, {"encryption", "DeleteBucketEncryption"}, {"lifecycle", "DeleteBucketLifecycle"},
    {NULL, NULL}};
static const char *const bucket_info[] = {
    "location", "encryption", "versioning", "tagging", "object-lock", "replication", "cors", "lifecycle"};
static const char *const list_v1[] = {"prefix", "delimiter", "marker", "max-keys", "encoding-type", NULL};
static const char *const list_v2[] = {"list-type", "prefix", "delimiter", "continuation-token", "start-after",
    "max-keys", "encoding-type", "fetch-owner", NULL};

static void
route_error(struct s3_req *r, enum s3_error e, const char *text)
{
	r->op = S3_OP_UNSUPPORTED;
	r->route_error = e;
	str_clear(&r->route_message);
	if (text != NULL)
		str_addz(&r->route_message, text);
}

static bool
is(const struct s3_req *r, const char *method)
{
	return strcmp(r->method, method) == 0;
}

/* The first parameter that names a subresource of the table wins. */
static bool
subresource(struct s3_req *r, const struct sub *table)
{
	for (size_t i = 0; i < r->query.n; i++)
		for (const struct sub *s = table; s->param != NULL; s++)
			if (strcmp(r->query.v[i].name, s->param) == 0) {
				route_error(r, S3_NOT_IMPLEMENTED, NULL);
				str_printf(&r->route_message, "%s not implemented", s->name);
				return true;
			}
	return false;
}

static bool
listed(const char *const *list, const char *name)
{
	for (; *list != NULL; list++)
		if (strcmp(*list, name) == 0)
			return true;
	return false;
}

static void
route_list(struct s3_req *r)
{
	const char *type = s3_param(r, "list-type");
	bool v2 = type != NULL && strcmp(type, "2") == 0;

	if (type != NULL && !v2) {
		route_error(r, S3_NOT_IMPLEMENTED, NULL);
		str_printf(&r->route_message, "ListObjectsV%s not implemented", type);
		return;
	}
	if (!v2 && query_has(&r->query, "continuation-token")) {
		route_error(r, S3_INVALID_ARGUMENT, "continuation-token not supported in ListObjects");
		return;
	}
	r->op = v2 ? S3_OP_LIST_OBJECTS_V2 : S3_OP_LIST_OBJECTS;
	for (size_t i = 0; i < r->query.n; i++) {
		const char *name = r->query.v[i].name;

		if (listed(v2 ? list_v2 : list_v1, name) || query_ignored(name))
			continue;
		route_error(r, S3_NOT_IMPLEMENTED, NULL);
		str_printf(
		    &r->route_message, "ListObjectsV%c search parameter %s not implemented", v2 ? '2' : '1', name);
		return;
	}
}

static void
route_bucket_get(struct s3_req *r)
{
	if (query_has(&r->query, "uploads")) {
		r->op = S3_OP_LIST_UPLOADS;
		return;
	}
	for (size_t i = 0; i < sizeof(bucket_info) / sizeof(bucket_info[0]); i++)
		if (query_has(&r->query, bucket_info[i])) {
			r->op = S3_OP_BUCKET_INFO;
			return;
		}
	if (!subresource(r, bucket_get))
		route_list(r);
}

/* PUT or DELETE of a bucket: bare, or refused. */
static void
route_bucket_change(struct s3_req *r, const struct sub *table, enum s3_op op)
{
	bool found = false;

	if (subresource(r, table))
		return;
	r->op = op;
	for (size_t i = 0; i < r->query.n; i++) {
		const char *name = r->query.v[i].name;

		if (query_ignored(name))
			continue;
		if (!found)
			route_error(r, S3_INVALID_ARGUMENT, "Unsupported search param(s) ");
		str_printf(&r->route_message, "%s\"%s\"", found ? ", " : "", name);
		found = true;
	}
	if (found)
		str_printf(&r->route_message, " on a %s bucket route", r->method);
}

static void
route_bucket(struct s3_req *r)
{
	if (is(r, "GET"))
		route_bucket_get(r);
	else if (is(r, "HEAD"))
		r->op = S3_OP_HEAD_BUCKET;
	else if (is(r, "PUT"))
		route_bucket_change(r, bucket_put, S3_OP_CREATE_BUCKET);
	else if (is(r, "DELETE"))
		route_bucket_change(r, bucket_delete, S3_OP_DELETE_BUCKET);
	else if (is(r, "POST"))
		r->op = query_has(&r->query, "delete") ? S3_OP_DELETE_OBJECTS : S3_OP_BUCKET_POST;
	else
		route_error(r, S3_NO_ROUTE, NULL);
}

/* R2's part routes match an integer only, padded and signed as it may be; its range is checked later. */
static bool
integer_shaped(const char *p)
{
	p += strspn(p, " ");
	p += *p == '-';
	return p[strspn(p, "0123456789")] == '\0';
}

static unsigned
part_number(const char *p)
{
	uint64_t n;

	p += strspn(p, " ");
	return str_to_u64(p, strlen(p), &n) && n <= 10000 ? (unsigned)n : 0;
}

/* With ?uploadId; false: it does not count, go on as without. */
static bool
route_upload(struct s3_req *r)
{
	const char *part = s3_param(r, "partNumber");

	if (part != NULL && !integer_shaped(part)) {
		route_error(r, S3_NO_ROUTE, NULL);
		return true;
	}
	r->part_number = part == NULL ? 0 : part_number(part);
	if (is(r, "PUT") && part == NULL)
		return false;
	if (is(r, "GET"))
		r->op = S3_OP_LIST_PARTS;
	else if (is(r, "PUT"))
		r->op = s3_header(r, "x-amz-copy-source") != NULL ? S3_OP_UPLOAD_PART_COPY : S3_OP_UPLOAD_PART;
	else if (is(r, "POST"))
		r->op = S3_OP_COMPLETE_UPLOAD;
	else if (is(r, "DELETE"))
		r->op = S3_OP_ABORT_UPLOAD;
	else if (is(r, "HEAD"))
		r->op = S3_OP_HEAD_OBJECT;
	else
		route_error(r, S3_NO_ROUTE, NULL);
	return true;
}

static void
route_object(struct s3_req *r)
{
	if (query_has(&r->query, "uploadId") && route_upload(r))
		return;
	if (query_has(&r->query, "uploads") && (is(r, "POST") || is(r, "GET"))) {
		r->op = is(r, "POST") ? S3_OP_CREATE_UPLOAD : S3_OP_LIST_UPLOADS;
		return;
	}
	if (is(r, "GET") || is(r, "HEAD")) {
		r->op = is(r, "GET") ? S3_OP_GET_OBJECT : S3_OP_HEAD_OBJECT;
		if (query_has(&r->query, "partNumber"))
			route_error(r, S3_NOT_IMPLEMENTED, "partNumber not implemented");
		else if (is(r, "GET"))
			subresource(r, object_get);
	} else if (is(r, "PUT")) {
		if (!subresource(r, object_put))
			r->op = s3_header(r, "x-amz-copy-source") != NULL ? S3_OP_COPY_OBJECT : S3_OP_PUT_OBJECT;
	} else if (is(r, "POST"))
		r->op = S3_OP_PUT_OBJECT;
	else if (is(r, "DELETE"))
		r->op = S3_OP_DELETE_OBJECT;
	else
		route_error(r, S3_NO_ROUTE, NULL);
}

/* "bucket.localhost:port": the bucket is in the host, the whole path is the key. */
static size_t
virtual_bucket(const struct http1_head *head)
{
	static const char suffix[] = ".localhost";
	size_t n = head->host.n, sl = sizeof(suffix) - 1;
	const char *colon = memchr(head->host.p, ':', n);

	if (colon != NULL)
		n = (size_t)(colon - head->host.p);
	return n > sl && memcmp(head->host.p + n - sl, suffix, sl) == 0 ? n - sl : 0;
}

void
s3_route(struct s3_req *r, const struct http1_head *head)
{
	size_t vn = head->host.p == NULL ? 0 : virtual_bucket(head);
	const char *p = r->path + (*r->path == '/'), *slash;
	struct str name = STR_INIT;
	bool ok = true;

	r->op = S3_OP_UNSUPPORTED;
	if (vn > 0)
		str_add(&name, head->host.p, vn);
	else {
		slash = strchr(p, '/');
		ok = query_decode_path(&name, p, slash == NULL ? strlen(p) : (size_t)(slash - p));
		p = slash == NULL ? "" : slash + 1;
	}
	r->bucket_name = mem_strdup(str_z(&name));
	str_fini(&name);
	r->key_ok = query_decode_path(&r->key, p, strlen(p)) &&
		    (r->key.len == 0 || utf8_add_nfc(&r->nfc, r->key.p, r->key.len)) && r->nfc.len <= S3_KEY_MAX;
	if (!ok)
		route_error(r, S3_BUCKET_NAME, NULL);
	else if (*r->bucket_name == '\0') {
		if (is(r, "GET") && *p == '\0')
			r->op = S3_OP_LIST_BUCKETS;
		else
			route_error(r, S3_NO_ROUTE, NULL);
	} else if (*p == '\0')
		route_bucket(r);
	else
		route_object(r);
	if (r->route_error == S3_OK && !r->key_ok)
		route_error(r, S3_OBJECT_NAME, NULL);
}
