/*
 * lua: the Redis scripts of lua/ as data, made at build time. Each carries the names (keys.h) of the keys it works on; the first
 * is always the epoch, and ARGV[1] too, but for hello.
 */
#ifndef COORD_LUA_H
#define COORD_LUA_H

#include <stddef.h>

#include "io/rds.h"

struct lua {
	struct rds_script script;
	const char *const *keys;
	size_t nkeys;
};

extern struct lua lua_ack, lua_arm, lua_batch, lua_beat, lua_claim, lua_dead_list, lua_dead_retry, lua_depth,
    lua_disarm, lua_drop, lua_due, lua_fail, lua_finish, lua_hello, lua_hint, lua_intent_close, lua_intent_open,
    lua_lease, lua_leave, lua_mark_announce, lua_mark_census, lua_mark_count, lua_mark_get, lua_mark_rebase, lua_mark_set,
    lua_member_again, lua_member_forget, lua_pace, lua_park, lua_release, lua_renew, lua_run_feeder, lua_run_get, lua_run_set,
    lua_touch;
/* All of them, ended by NULL. */
extern struct lua *const lua_all[];

#endif
