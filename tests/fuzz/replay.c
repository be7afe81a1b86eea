/*
 * replay: runs a fuzz target once over every file of its corpus, so that `make check` does with any compiler. The folder is
 * corpus/NAME for the program fuzz_NAME, or whatever files are given.
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_MAX_INPUT (1 << 20)

static int
replay(const char *path)
{
	static uint8_t buf[SIZE_MAX_INPUT];
	FILE *f = fopen(path, "rb");
	if (!f) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return 1;
	}
	size_t n = fread(buf, 1, sizeof buf, f);
	fclose(f);
	/* Exactly as long as the input, so that the sanitizers see a read beyond it. */
	uint8_t *p = malloc(n ? n : 1);
	if (!p)
		abort();
	memcpy(p, buf, n);
	LLVMFuzzerTestOneInput(p, n);
	free(p);
	return 0;
}

static int
replay_folder(const char *name)
{
	const char *srcdir = getenv("srcdir");
	char dir[1024], path[2048];
	int bad = 0, count = 0;
	snprintf(dir, sizeof dir, "%s/tests/fuzz/corpus/%s", srcdir ? srcdir : ".", name);
	DIR *d = opendir(dir);
	if (!d) {
		fprintf(stderr, "%s: %s\n", dir, strerror(errno));
		return 1;
	}
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		bad |= replay(path);
		count++;
	}
	closedir(d);
	printf("%s: %d inputs\n", name, count);
	return bad || count == 0;
}

int
main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
	if (argc < 2)
		return replay_folder(strncmp(name, "fuzz_", 5) == 0 ? name + 5 : name);
	int bad = 0;
	for (int i = 1; i < argc; i++)
		bad |= replay(argv[i]);
	return bad;
}
