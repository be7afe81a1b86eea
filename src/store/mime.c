#include "store/mime.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"

#define MIME_FILE    "/etc/mime.types"
#define MIME_UNKNOWN "application/octet-stream"
#define EXT_MAX      16

/* What the web's common files are, whatever the system's table says: a machine without the table must agree with one
 * that has it, or objects would differ by who wrote them. Sorted by extension. */
static const struct mime_row {
	const char *ext, *type;
} rows[] = {
    {"7z", "application/x-7z-compressed"},
    {"aac", "audio/aac"},
    {"avif", "image/avif"},
    {"bmp", "image/bmp"},
    {"css", "text/css"},
    {"csv", "text/csv"},
    {"doc", "application/msword"},
    {"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
    {"eot", "application/vnd.ms-fontobject"},
    {"epub", "application/epub+zip"},
    {"flac", "audio/flac"},
    {"gif", "image/gif"},
    {"gz", "application/gzip"},
    {"heic", "image/heic"},
    {"heif", "image/heif"},
    {"htm", "text/html"},
    {"html", "text/html"},
    {"ico", "image/vnd.microsoft.icon"},
    {"ics", "text/calendar"},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"js", "text/javascript"},
    {"json", "application/json"},
    {"m3u8", "application/vnd.apple.mpegurl"},
    {"m4a", "audio/mp4"},
    {"m4v", "video/mp4"},
    {"md", "text/markdown"},
    {"mjs", "text/javascript"},
    {"mkv", "video/x-matroska"},
    {"mov", "video/quicktime"},
    {"mp3", "audio/mpeg"},
    {"mp4", "video/mp4"},
    {"mpeg", "video/mpeg"},
    {"odp", "application/vnd.oasis.opendocument.presentation"},
    {"ods", "application/vnd.oasis.opendocument.spreadsheet"},
    {"odt", "application/vnd.oasis.opendocument.text"},
    {"oga", "audio/ogg"},
    {"ogg", "audio/ogg"},
    {"ogv", "video/ogg"},
    {"otf", "font/otf"},
    {"pdf", "application/pdf"},
    {"png", "image/png"},
    {"ppt", "application/vnd.ms-powerpoint"},
    {"pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
    {"rar", "application/vnd.rar"},
    {"rtf", "application/rtf"},
    {"svg", "image/svg+xml"},
    {"tar", "application/x-tar"},
    {"tif", "image/tiff"},
    {"tiff", "image/tiff"},
    {"ts", "video/mp2t"},
    {"ttf", "font/ttf"},
    {"txt", "text/plain"},
    {"wasm", "application/wasm"},
    {"wav", "audio/x-wav"},
    {"weba", "audio/webm"},
    {"webm", "video/webm"},
    {"webmanifest", "application/manifest+json"},
    {"webp", "image/webp"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"xhtml", "application/xhtml+xml"},
    {"xls", "application/vnd.ms-excel"},
    {"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
    {"xml", "application/xml"},
    {"zip", "application/zip"},
};

static struct map *by_ext, *own;	/* the system's, the site's */

static int
row_cmp(const void *ext, const void *row)
{
	return strcmp(ext, ((const struct mime_row *)row)->ext);
}

/* The next word of a line, or NULL; *line moves behind it. */
static const char *
next_word(const char **line, size_t *n)
{
	static const char blanks[] = " \t\r\n";
	const char *p = *line + strspn(*line, blanks);

	*n = strcspn(p, blanks);
	*line = p + *n;
	return *n > 0 ? p : NULL;
}

/* One line of mime.types: "type ext ext ...". */
static void
add_line(const char *line)
{
	size_t tlen, elen;
	const char *type = next_word(&line, &tlen), *ext;

	if (type == NULL || *type == '#' || memchr(type, '/', tlen) == NULL)
		return;
	while ((ext = next_word(&line, &elen)) != NULL)
		if (map_get(by_ext, ext, elen) == NULL)
			(void)map_set(by_ext, ext, elen, mem_strndup(type, tlen));
}

/* "html text/html; charset=utf-8" */
static void
add_own(const char *text)
{
	size_t elen = strcspn(text, " \t");
	const char *type = text + elen + strspn(text + elen, " \t");
	char *copy = mem_strdup(type);

	mem_free(map_set(own, text, elen, copy));
}

void
mime_init(const struct conf_list *types)
{
	char line[1024];
	FILE *f;

	if (by_ext != NULL)
		return;
	by_ext = map_new();
	own = map_new();
	for (size_t i = 0; i < types->n; i++)
		add_own(types->v[i]);
	if ((f = fopen(MIME_FILE, "re")) == NULL)
		return;
	while (fgets(line, sizeof(line), f) != NULL)
		add_line(line);
	(void)fclose(f);
}

static void
free_types(struct map **m)
{
	size_t pos = 0, len;
	const void *ext;
	void *type;

	while (map_next(*m, &pos, &ext, &len, &type))
		mem_free(type);
	map_free(m);
}

void
mime_fini(void)
{
	if (by_ext == NULL)
		return;
	free_types(&by_ext);
	free_types(&own);
}

const char *
mime_type(const char *key, size_t klen)
{
	char ext[EXT_MAX + 1];
	const struct mime_row *row;
	const char *type;
	size_t n = 0;

	/* ".name" alone is a hidden file, not an extension */
	while (n < klen && n <= EXT_MAX && key[klen - n - 1] != '.' && key[klen - n - 1] != '/')
		n++;
	if (n == 0 || n > EXT_MAX || n + 1 >= klen || key[klen - n - 1] != '.' || key[klen - n - 2] == '/')
		return MIME_UNKNOWN;
	for (size_t i = 0; i < n; i++)
		ext[i] = (char)tolower((unsigned char)key[klen - n + i]);
	ext[n] = '\0';
	if (own != NULL && (type = map_get(own, ext, n)) != NULL)
		return type;
	if ((row = bsearch(ext, rows, sizeof(rows) / sizeof(rows[0]), sizeof(rows[0]), row_cmp)) != NULL)
		return row->type;
	type = by_ext != NULL ? map_get(by_ext, ext, n) : NULL;
	return type != NULL ? type : MIME_UNKNOWN;
}
