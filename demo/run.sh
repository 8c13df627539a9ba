#!/bin/bash
# One real fix, live in a real kernel: Debian bug #1154101, a NULL folio
# dereference in ext4 that linux 6.1.192-1 has and 6.1.192-2 fixes. First on an
# author's computer, then as a service: a server hands the live patch to a
# machine, which applies it, keeps it over a boot and takes it out again.
#
# Needs the programs in bin/ (make build) and what test/deps.sh installs: use
# make demo.
# Results stay in demo/out.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=demo/versions.env
source demo/versions.env
# shellcheck source=demo/story.sh
source demo/story.sh

tsugictl=${TSUGICTL:-bin/tsugictl}
out=demo/out
target=debian:$DEMO_RELEASE
rm -rf "$out"
mkdir -p "$out"

# shellcheck source=demo/console.sh
source demo/console.sh
trap end_all EXIT
stage "1  The kernel, as Debian ships it" \
	run "$tsugictl" target add "$target" --version "$DEMO_VERSION"
stage "2  The fix, from two source packages" \
	run "$tsugictl" fix derive "$target" "$DEMO_FIXED" -o "$out/ext4.diff"
stage "3  The live patch" \
	run "$tsugictl" build "$out/ext4.diff" --target "$target" -o "$out/ext4.tsugi"
stage "4  The proof, in that very kernel" \
	prove "$out/proof.txt" "$tsugictl" prove "$out/ext4.tsugi" --reproducer demo/ext4-mballoc.sh

# The service: one process with SQLite, a folder and a CA of its own.
tsugi_server=${TSUGI_SERVER:-bin/tsugi-server}
port=8443
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
export TSUGI_SESSION=$PWD/$out/session.json TSUGI_SERVER_WORKERS_COUNT=0 TSUGI_SERVER_LISTEN=127.0.0.1:$port
echo "a passphrase for the root key" >"$out/passphrase" # whoever really runs this keeps it elsewhere
field() { sed -n "s/^ *\"$1\": \"\(.*\)\",*\$/\1/p" "$2"; }
serve() {
	local init=("$tsugi_server" init --dir "$out/server" --url "https://10.0.2.100:$port" --name 127.0.0.1
		--root-passphrase-file "$out/passphrase")
	say "${init[@]}"
	"${init[@]}" --json >"$out/init.json"
	sed -n 's/^ *"\(url\|ca_sha256\|root_sha256\)": "\(.*\)",*$/\1: \2/p' "$out/init.json"
	say "$tsugi_server" serve --dir "$out/server"
	"$tsugi_server" serve --dir "$out/server" 2>"$out/server.log" &
	server=$!
	until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
		kill -0 "$server" 2>/dev/null || { cat "$out/server.log"; exit 1; }
		sleep 0.1
	done
	field operator_token "$out/init.json" |
		run "$tsugictl" login "https://127.0.0.1:$port" --ca-sha256 "$(field ca_sha256 "$out/init.json")"
}
publish() {
	run "$tsugictl" publish "$out/ext4.tsugi" --proof "$out/ext4.proof.json" --tier stable
	say "$tsugictl" token new demo --tier stable
	"$tsugictl" token new demo --tier stable --json >"$out/token.json"
}
# computer SCRIPT: the machine: the same unmodified kernel, the agent, a disk
# for its state, a network with the server in it. Then what the server sees.
computer() {
	"$out/machine" -target "$target" -disk "$out/web-1.img" -tsugi "${TSUGI:-bin/tsugi}" -server "127.0.0.1:$port" \
		-env "WORD=$(field enroll "$out/token.json")" -script "$1"
	run "$tsugictl" machine ls
}
CGO_ENABLED=0 go build -trimpath -o "$out/machine" ./demo/machine
stage "5  The service: one process, one folder" serve
stage "6  The live patch goes to a tier" publish
stage "7  A vulnerable machine enrolls" computer demo/machine/first-boot.sh
stage "8  It boots again, and lets go" computer demo/machine/second-boot.sh
kill "$server"
wait "$server" || true
server=

printf '\n%s9  What came out%s\n' "$bold" "$off"
"$tsugictl" show "$out/ext4.tsugi"

# A fleet, an update for it, and the console. With nobody at the terminal it is
# seen that it answers, and that is all.
CGO_ENABLED=0 go build -trimpath -o "$out/fleet" ./demo/fleet
open_console() {
	serve_console
	start_fleet
	quick_rollouts
	push_update
	console_answers
}
stage "10  A fleet, an update, and the console" open_console
ending
stay
