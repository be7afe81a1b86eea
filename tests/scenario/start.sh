#!/bin/sh
# Runs one proxy for a scenario: start.sh R2SHIM FOLDER UPSTREAM
#
# The folder gets the configuration, the media root and the state. The proxy listens on FOLDER/p.sock; its readiness line
# goes to the FIFO FOLDER/ready, on which the scenario waits; its log to FOLDER/log. Neither Redis nor R2 is there, unless R2
# and REDIS name them. PHASE, PROXY, UPSTREAM_OPTS, MEDIA, PREFIXES and R2_OPTS add to the configuration.
set -eu
r2shim=$1 dir=$2 upstream=$3
public='{ url = "/media/"; class = "public"; }'

mkdir -p "$dir/state" "$dir/media"
echo scenario > "$dir/media/.r2shim-root"
(umask 077; echo nothing > "$dir/secret")
[ -e "$dir/phase.conf" ] || echo "phase = \"${PHASE:-passthrough}\";" > "$dir/phase.conf"
cat > "$dir/r2shim.conf" <<END
site = "scenario";
state-dir = "state";
@include "phase.conf"
proxy: { listen = [ "unix:$dir/p.sock" ]; access-log = "access.log"; ${PROXY:-} };
upstream: { address = "$upstream"; ${UPSTREAM_OPTS:-} };
media: { root = "media"; url = "/media/"; uploads = [ "/upload/" ]; min-free = "0"; ${MEDIA:-}
  prefixes = ( ${PREFIXES:-$public} ); };
mirror: { policy = "async"; };
r2: { endpoint = "http://${R2:-127.0.0.1:1}"; bucket = "media"; allow-http = true; access-key-id = "AKID";
  secret-access-key-file = "secret"; ${R2_OPTS:-} };
redis: { address = "${REDIS:-127.0.0.1:1}"; };
END
echo $$ > "$dir/pid"
exec "$r2shim" proxy -c "$dir/r2shim.conf" > "$dir/ready" 2> "$dir/log"
