#!/bin/bash
# The end of the demo alone: a server, a fleet of machines that are none, an
# update for it, and the console.
#
# Needs the programs in bin/ (make build) and what test/deps.sh installs: use
# make demo-console. Results stay in demo/out/look.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=demo/versions.env
source demo/versions.env
# shellcheck source=demo/story.sh
source demo/story.sh

tsugictl=${TSUGICTL:-bin/tsugictl}
tsugi_server=${TSUGI_SERVER:-bin/tsugi-server}
out=${DEMO_OUT:-demo/out/look}
rm -rf "$out"
mkdir -p "$out"
port=8443
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
TSUGI_SESSION=$(realpath "$out")/session.json
export TSUGI_SESSION TSUGI_SERVER_LISTEN=127.0.0.1:$port
echo "a passphrase for the root key" >"$out/passphrase" # whoever really runs this keeps it elsewhere
field() { sed -n "s/^ *\"$1\": \"\(.*\)\",*$/\1/p" "$2"; }
# shellcheck source=demo/console.sh
source demo/console.sh
trap end_all EXIT

look() {
	CGO_ENABLED=0 go build -trimpath -o "$out/fleet" ./demo/fleet
	"$tsugi_server" init --dir "$out/server" --url "https://127.0.0.1:$port" --root-passphrase-file "$out/passphrase" --json >"$out/init.json"
	serve_console
	start_fleet
	quick_rollouts
	push_update
	console_answers
}
stage "A fleet, an update, and the console" look
ending
stay
