#include "cli/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

bool
audit_write(const struct conf *c, const char *event, json_t *details)
{
	char *path = mem_printf("%s/audit.jsonl", c->state_dir), *text;
	struct str line = STR_INIT;
	char time[25];
	bool ok;
	int fd;

	clock_iso(clock_real_ms(), time);
	json_object_set_new(details, "time", json_string(time));
	json_object_set_new(details, "event", json_string(event));
	json_object_set_new(details, "uid", json_integer((json_int_t)getuid()));
	text = json_dumps(details, JSON_COMPACT);
	str_printf(&line, "%s\n", text);
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
	ok = fd >= 0 && write(fd, line.p, line.len) == (ssize_t)line.len && fsync(fd) == 0;
	if (!ok)
		fprintf(stderr, "r2shim: %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	free(text);
	json_decref(details);
	str_fini(&line);
	mem_free(path);
	return ok;
}
