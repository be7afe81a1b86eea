#include "cli/cmd.h"

#include <stdio.h>

#include "base/str.h"

struct conf *
cmd_conf(const char *path)
{
	struct str errors = STR_INIT;
	struct conf *c = conf_load(path, &errors);

	if (c == NULL)
		fputs(str_z(&errors), stderr);
	str_fini(&errors);
	return c;
}
