#!/bin/sh
# Proves that scripts/check-includes lets through what it should, and refuses what it should with file and line.
set -u
check=$(cd "$(dirname "$0")/../.." && pwd)/scripts/check-includes
dir=$(mktemp -d "${TMPDIR:-/tmp}/check-includes-XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
failed=0

# is STATUS FILE INCLUDE [WORDS]: FILE with INCLUDE on its second line gives STATUS, and a line with WORDS if refused
is() {
	rm -rf "$dir/src"
	mkdir -p "$dir/src/$(dirname "$2")"
	printf '/* one */\n%s\n' "$3" >"$dir/src/$2"
	out=$("$check" "$dir/src" 2>&1)
	got=$?
	if [ $got -ne "$1" ]; then
		echo "FAIL: $2 with $3: exit $got, not $1: $out"
		failed=1
	elif [ "$1" -eq 1 ]; then
		case $out in
		"src/$2:2: "*"$4"*) ;;
		"src/$2: $4"*) ;;
		*)
			echo "FAIL: $2 with $3: said: $out"
			failed=1
			;;
		esac
	fi
}

is 0 base/a.c '#include "base/str.h"'
is 0 base/a.c '#include "errors.def"'
is 0 base/a.c '#include <stdio.h>'
is 0 io/a.c '#include <event2/event.h>'
is 0 io/a.h '#include <curl/curl.h>'
is 0 coord/a.c '#include <hiredis/hiredis.h>'
is 0 base/conf_load.c '#include <libconfig.h>'
is 0 base/conf_load.c '#include "base/conf_int.h"'
is 0 store/a.c '#include "io/loop.h"'
is 0 sync/a.c '#include "coord/marks.h"'
is 0 cli/a.c '#include "proxy/watch.h"'
is 0 migrate/a.c '#include <jansson.h>'

# upwards
is 1 base/a.c '#include "io/loop.h"' 'base may not see io'
is 1 base/a.h '#include "cli/cmd.h"' 'base may not see cli'
is 1 io/a.c '  #  include  "store/r2.h"' 'io may not see store'
is 1 store/deep/a.c '#include "sync/retry.h"' 'store may not see sync'
is 1 sync/a.c '#include "proxy/watch.h"' 'sync may not see proxy'
is 1 proxy/a.c '#include "cli/cmd.h"' 'proxy may not see cli'
# sideways
is 1 store/a.c '#include "coord/marks.h"' 'store may not see coord'
is 1 coord/a.c '#include "store/r2.h"' 'coord may not see store'
is 1 proxy/a.c '#include "migrate/walk.h"' 'proxy may not see migrate'
is 1 migrate/a.c '#include "sandbox/s3.h"' 'migrate may not see sandbox'
is 1 sandbox/a.def '#include "proxy/watch.h"' 'sandbox may not see proxy'
# external headers
is 1 base/a.c '#include <event2/event.h>' '<event2/event.h>'
is 1 proxy/a.c '#include <curl/curl.h>' '<curl/curl.h>'
is 1 proxy/a.c '#include "curl/curl.h"' 'names no layer'
is 1 coord/a.c '#include <hiredis/async.h>' '<hiredis/async.h>'
is 1 store/a.c '#include <hiredis/hiredis.h>' '<hiredis/hiredis.h>'
is 1 base/str.c '#include <libconfig.h>' '<libconfig.h>'
is 1 store/a.c '#include <openssl/evp.h>' '<openssl/evp.h>'
is 1 proxy/a.c '#include <expat.h>' '<expat.h>'
# form
is 1 base/a.c '#include "str.h"' 'with its layer'
is 1 proxy/a.c '#include "../base/str.h"' 'names no layer'
is 1 base/str.c '#include "base/conf_int.h"' 'private'
is 1 cli/a.c '#include "base/conf_int.h"' 'private'
is 1 other/a.c '#include <stdio.h>' 'stands in no layer'

mkdir -p "$dir/empty"
if "$check" "$dir/empty" 2>/dev/null; then
	echo "FAIL: a folder without sources passes"
	failed=1
fi
exit $failed
