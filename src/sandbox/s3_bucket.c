#include "sandbox/s3.h"

#include <string.h>

#include "base/clock.h"
#include "sandbox/disk.h"
#include "sandbox/keyidx.h"
#include "sandbox/xml.h"

void
s3_buckets_commit(struct s3_req *r)
{
	struct list *it, *next;

	xml_root(&r->body, "ListAllMyBucketsResult");
	xml_raw(&r->body, "<Buckets>");
	LIST_FOREACH(it, next, &r->sb->disk->buckets) {
		struct bucket *b = LIST_ENTRY(it, struct bucket, node);
		char iso[25];

		clock_iso(b->created_ms, iso);
		str_printf(&r->body, "<Bucket><CreationDate>%s</CreationDate><Name>%s</Name></Bucket>", iso, b->name);
	}
	xml_raw(&r->body, "</Buckets><Owner><DisplayName>sandbox</DisplayName><ID>sandbox</ID></Owner>");
	xml_close(&r->body, "ListAllMyBucketsResult");
	s3_reply_xml(r);
}

void
s3_head_bucket_commit(struct s3_req *r)
{
	if (s3_bucket(r) != NULL)
		s3_reply(r, 200, "x-amz-bucket-region: auto\r\n");
}

void
s3_create_bucket_commit(struct s3_req *r)
{
	struct str line = STR_INIT;

	if (!disk_bucket_name_ok(r->bucket_name)) {
		s3_reply_error(r, S3_BUCKET_NAME);
		return;
	}
	if (disk_bucket(r->sb->disk, r->bucket_name) != NULL) {
		s3_reply_error(r, S3_BUCKET_EXISTS);
		return;
	}
	if (disk_create_bucket(r->sb->disk, r->bucket_name, NULL) != ERR_OK) {
		s3_reply_error(r, S3_INTERNAL);
		return;
	}
	str_printf(&line, "Location: /%s\r\n", r->bucket_name);
	s3_reply(r, 200, line.p);
	str_fini(&line);
}

void
s3_delete_bucket_commit(struct s3_req *r)
{
	struct bucket *b = s3_bucket(r);

	if (b == NULL)
		return;
	if (keyidx_count(b->keys) > 0 || !list_empty(&b->uploads)) {
		s3_reply_error(r, S3_BUCKET_NOT_EMPTY);
		return;
	}
	disk_delete_bucket(b);
	s3_reply(r, 204, NULL);
}

/* Subresources whose answer is the same for every bucket that nobody has configured. */
void
s3_bucket_info_commit(struct s3_req *r)
{
	static const struct {
		const char *param, *root, *content;
		enum s3_error error;
	} infos[] = {
	    {"location", "LocationConstraint", "auto", S3_OK},
	    {"encryption", "ServerSideEncryptionConfiguration",
		"<Rule><ApplyServerSideEncryptionByDefault>"
		"<SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault>"
		"<BucketKeyEnabled>true</BucketKeyEnabled></Rule>",
		S3_OK},
	    {"versioning", "VersioningConfiguration", "", S3_OK},
	    {"tagging", NULL, NULL, S3_NO_TAGS},
	    {"object-lock", NULL, NULL, S3_NO_LOCK},
	    {"replication", NULL, NULL, S3_NO_REPLICATION},
	    {"cors", NULL, NULL, S3_NO_CORS},
	    {"lifecycle", NULL, NULL, S3_NO_LIFECYCLE},
	};

	for (size_t i = 0; i < sizeof(infos) / sizeof(infos[0]); i++) {
		if (!query_has(&r->query, infos[i].param))
			continue;
		if (infos[i].error != S3_OK) {
			s3_reply_error(r, infos[i].error);
			return;
		}
		for (size_t k = 0; i == 0 && k < r->query.n; k++) {
			const char *name = r->query.v[k].name;

			if (strcmp(name, "location") == 0 || query_ignored(name))
				continue;
			s3_reply_errorf(
			    r, S3_INVALID_ARGUMENT, "Search param %s is unsupported for bucket location", name);
			return;
		}
		xml_root(&r->body, infos[i].root);
		xml_raw(&r->body, infos[i].content);
		xml_close(&r->body, infos[i].root);
		s3_reply_xml(r);
		return;
	}
	ASSERT(false);
}

void
s3_bucket_post_commit(struct s3_req *r)
{
	s3_reply(r, 200, NULL);
}
