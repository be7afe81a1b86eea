/*
 * log: one event a line on stderr (or a file), "time level area: text" or JSON. Keys are passed through str_add_safe by
 * the caller (LOGKEY). Never logs a secret: callers pass none. Thread safe.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_LVL_DEBUG, LOG_LVL_INFO, LOG_LVL_WARN, LOG_LVL_ERROR };

/* area is a short word: "proxy", "r2", "journal". */
void log_at(enum log_level lvl, const char *area, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#define log_debug(area, ...) (log_on(LOG_LVL_DEBUG) ? log_at(LOG_LVL_DEBUG, area, __VA_ARGS__) : (void)0)
#define log_info(area, ...) log_at(LOG_LVL_INFO, area, __VA_ARGS__)
#define log_warn(area, ...) log_at(LOG_LVL_WARN, area, __VA_ARGS__)
#define log_error(area, ...) log_at(LOG_LVL_ERROR, area, __VA_ARGS__)
bool log_on(enum log_level lvl);
void log_setup(enum log_level lvl, bool json);
/* Text that names this process in every line, e.g. "migrator"; copied. */
void log_program(const char *name);
/* A key made safe for one line; a rotating per-thread buffer, good for one log call with up to 4 keys. */
const char *log_key(const char *key, unsigned long len);

#endif
