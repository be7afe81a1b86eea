/* files: small files of a test's own. */
#ifndef UNIT_FILES_H
#define UNIT_FILES_H

#include "unit.h"

#include <stdbool.h>
#include <sys/types.h>

/* Makes it, or writes it anew in place. */
void file_write(const char *path, const char *text, mode_t mode);
/* Holds it this; "": is there none? */
bool file_is(const char *path, const char *text);
/* Is there anything in the folder whose name begins so? */
bool folder_has(const char *path, const char *prefix);

#endif
