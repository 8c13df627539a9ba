#!/bin/bash
# Measures what the server has to hold under load: a real tsugi-server process
# over TLS, and the load generator beside it on the same machine. Needs bin/ and
# a machine with nothing else to do. With TSUGI_BENCH_POSTGRES=postgres://… (an
# empty database), a million machines at an hourly interval are measured instead.
set -euo pipefail
cd "$(dirname "$0")/.."

machines=${TSUGI_BENCH_MACHINES:-100000}
rate=${TSUGI_BENCH_RATE:-10000}
seconds=${TSUGI_BENCH_SECONDS:-30}
work=$(mktemp -d)
server=
stop() {
	[ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
	server=
}
trap 'stop; rm -rf "$work"' EXIT

program=${TSUGI_BENCH_SERVER:-bin/tsugi-server}
[ -x "$program" ] || { echo "$program is missing: make build" >&2; exit 1; }
cp "$program" "$work/tsugi-server" # a build meanwhile does not matter
CGO_ENABLED=0 go build -trimpath -o "$work/load" ./test/load

# port: one that nobody listens on.
port() {
	local p
	while :; do
		p=$((20000 + RANDOM % 20000))
		(: </dev/tcp/127.0.0.1/$p) 2>/dev/null || { echo $p; return; }
	done
}

# start NAME DATABASE MACHINES: a new server with machines, ready.
start() {
	local dir=$work/$1
	url=https://127.0.0.1:$(port)
	"$work/tsugi-server" -q init --dir "$dir" --url "$url" --database "$2" --no-root-passphrase >"$work/$1.init" 2>&1 ||
		{ cat "$work/$1.init" >&2; exit 1; }
	"$work/load" fill --database "${2/sqlite:/sqlite:$dir/}" --machines "$3"
	"$work/tsugi-server" serve --dir "$dir" --workers-count 0 >"$work/$1.log" 2>&1 &
	server=$!
	local since=$EPOCHREALTIME
	until curl -sfk "$url/readyz" >/dev/null; do
		kill -0 "$server" || { cat "$work/$1.log" >&2; exit 1; }
		sleep 0.1
	done
	printf 'ready after %.1f s\n' "$(bc <<<"$EPOCHREALTIME - $since")"
}

# load NAME RATE ARGS...: leaves rate, p99, share and memory.
load() {
	local name=$1 r=$2
	shift 2
	"$work/load" run --url "$url" --pid "$server" --name "$name" --rate "$r" --figures "$work/figures" "$@"
	read -r got p99 share memory <"$work/figures"
}

failed=0
row() { # WHAT MUST MEASURED UNIT, as in test/bench.sh; a must of >N is a lower limit
	local mark=✓ limit=${2#>} bad="$3 > ${2#>}"
	[ "$limit" = "$2" ] || bad="$3 < $limit"
	if [ "$(bc <<<"$bad")" = 1 ]; then
		mark=✗ failed=1
	fi
	LC_ALL=C printf '%s  %-58s %8s %8.2f %s\n' "$mark" "$1" "$2" "$3" "$4"
}

if [ -n "${TSUGI_BENCH_POSTGRES:-}" ]; then
	# Once an hour for a million machines is 278 a second. All million are in
	# the database and in the server's memory; 5,000 of them check in, in turn,
	# so that after 20 s all that do have done so before, as in any hour but the
	# first.
	start postgres "$TSUGI_BENCH_POSTGRES" 1000000
	load "a million machines, hourly" 278 --machines 5000 --warmup 20s --duration 60s
	row "a million machines on PostgreSQL, hourly: processor" 25 "$share" "% of a core"
	row "a million machines on PostgreSQL, hourly: p99" 50 "$p99" ms
	row "a million machines on PostgreSQL, hourly: memory" 2500 "$memory" MB
	load "a million machines, hourly, 2 % with news" 278 --machines 5000 --warmup 20s --duration 30s --changed 0.02
	stop
else
	start sqlite sqlite:tsugi.db "$machines"
	load "first check-ins, all stored" 2500 --machines "$machines"
	load "unchanged check-ins" "$rate" --machines "$machines" --warmup "$((machines / rate + 2))s" --duration "${seconds}s"
	# The clock of the load has whole seconds at its ends.
	row "check-ins a second, $machines machines, SQLite, TLS" ">$(bc <<<"$rate * 0.98 / 1")" "$got" /s
	row "check-ins, 99 % within" 50 "$p99" ms
	load "1 % of check-ins with news" "$((rate / 2))" --machines "$machines" --warmup "$((2 * machines / rate + 2))s" --duration 10s --changed 0.01
	stop
fi
exit "$failed"
