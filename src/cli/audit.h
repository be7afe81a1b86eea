/*
 * audit: the trail of what operators changed: state-dir/audit.jsonl, append only, one JSON object a line, synced.
 */
#ifndef CLI_AUDIT_H
#define CLI_AUDIT_H

#include <jansson.h>

#include "base/conf.h"

/* Adds time, user and the event's name to the details (taken over) and appends the line. false: said on stderr. */
bool audit_write(const struct conf *c, const char *event, json_t *details);

#endif
