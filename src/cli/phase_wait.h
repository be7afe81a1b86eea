/*
 * phase_wait: what `phase set` waits for before a step, with progress on stderr; Ctrl-C leaves all as it is.
 */
#ifndef CLI_PHASE_WAIT_H
#define CLI_PHASE_WAIT_H

#include "base/conf.h"
#include "cli/cmd.h"
#include "coord/phase.h"

/* Arms the site and waits until every proxy has acknowledged; then, or for r2-only at once, until this machine's proxy would take the
 * step. REFUSED after a while, with the names of those that have not. */
enum cmd_exit phase_wait_up(const struct conf *c, const char *conf_path, enum phase to);
/* Until no other proxy is more than one phase above `to`; before passthrough until the disk is owed nothing. Without Redis that is
 * known of this machine's proxy only. REFUSED: there is no way back any more. */
enum cmd_exit phase_wait_down(const struct conf *c, const char *conf_path, enum phase to);

#endif
