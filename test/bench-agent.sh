#!/bin/bash
# Measures what an idle agent costs: a real tsugi agent, enrolled over TLS at a
# real tsugi-server on loopback, that waits for news. Needs bin/.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${TSUGI_BENCH_IDLE:-60}
work=$(mktemp -d)
server='' agent=''
stop() {
	for p in $agent $server; do
		kill "$p" 2>/dev/null || true
		wait "$p" 2>/dev/null || true
	done
	rm -rf "$work"
}
trap stop EXIT
[ -x bin/tsugi-server ] || { echo "bin/tsugi-server is missing: make build" >&2; exit 1; }
cp bin/tsugi-server "$work/tsugi-server" # a build meanwhile does not matter
CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$work/tsugi" ./cmd/tsugi # as packages have it

while :; do # a port that nobody listens on
	port=$((20000 + RANDOM % 20000))
	(: </dev/tcp/127.0.0.1/$port) 2>/dev/null || break
done
url=https://127.0.0.1:$port
"$work/tsugi-server" -q --json init --dir "$work/server" --url "$url" --no-root-passphrase >"$work/init.json"
"$work/tsugi-server" serve --dir "$work/server" --workers-count 0 >"$work/server.log" 2>&1 &
server=$!
until curl -sfk "$url/readyz" >/dev/null; do
	kill -0 "$server" || { cat "$work/server.log" >&2; exit 1; }
	sleep 0.1
done
tsugi=("$work/tsugi" --dir "$work/state" --socket "$work/run/agent.sock" --config "$work/none.yaml")
word=$(grep -o 'tsugi1\.[A-Za-z0-9_-]*' "$work/init.json" | head -1)
"${tsugi[@]}" -q enroll "$word" >/dev/null
"${tsugi[@]}" agent >"$work/agent.log" 2>&1 &
agent=$!
for _ in $(seq 100); do
	"${tsugi[@]}" --json status 2>/dev/null | grep -q '"answered": [1-9]' && break
	sleep 0.1
done
"${tsugi[@]}" --json status | grep -q '"answered": [1-9]' || { cat "$work/agent.log" >&2; exit 1; }

ticks() { awk '{print $14 + $15}' "/proc/$agent/stat"; }
sleep 5 # what starting needs is over
before=$(ticks)
sleep "$seconds"
after=$(ticks)
rss=$(awk '/^VmRSS/ {print $2}' "/proc/$agent/status")

row() { # WHAT MUST MEASURED UNIT, as in test/bench.sh
	local mark=✓
	[ "$(bc <<<"$3 <= $2")" = 1 ] || mark=✗
	LC_ALL=C printf '%s  %-58s %8s %8.2f %s\n' "$mark" "$1" "$2" "$3" "$4"
}
row "agent, idle: resident memory" 25 "$(bc <<<"scale=2; $rss / 1000")" MB
row "agent, idle: processor time over $seconds s" 0.1 "$(bc <<<"scale=4; ($after - $before) * 100 / $(getconf CLK_TCK) / $seconds")" %
row "agent: program, stripped" 15 "$(bc <<<"scale=2; $(stat -c %s "$work/tsugi") / 1000000")" MB
