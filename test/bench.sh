#!/bin/bash
# Measures the figures that Tsugi has to hold and prints them beside what they
# must be. Needs bin/tsugictl, the targets of test/kernels.sh and a machine
# with nothing else to do.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=demo/versions.env
source demo/versions.env

store=${TSUGI_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/tsugi}
target=debian:$DEMO_RELEASE
work=$(mktemp -d "$store/bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
cp bin/tsugictl "$work/tsugictl" # a build meanwhile does not matter
tsugictl=$work/tsugictl
"$tsugictl" -q target add "$target" --version "$DEMO_VERSION" >/dev/null

# clean_home DIR: a store with the downloaded packages and nothing else.
clean_home() {
	mkdir -p "$1/debs"
	cp -al "$store/debs/." "$1/debs/"
}

# timed NAME COMMAND...: runs a command and keeps its seconds in seconds[NAME]
# and tsugictl's peak memory in peak.
declare -A seconds
peak=0
timed() {
	local name=$1 start=$EPOCHREALTIME memory
	shift
	"$@" >"$work/out" 2>"$work/err" || { cat "$work/out" "$work/err" >&2; exit 1; }
	seconds[$name]=$(bc <<<"scale=2; ($EPOCHREALTIME - $start)/1")
	memory=$(sed -n 's/.*peak memory \([0-9.]*\) MB/\1/p' "$work/err" | tail -1)
	peak=$(printf '%s\n' "$peak" "${memory:-0}" | sort -g | tail -1)
}

# tcp_fix NAME TEXT: a fix of one TCP function that says TEXT once.
tcp_fix() {
	local file=net/ipv4/tcp_input.c source
	source=$("$tsugictl" --json target show "$target" | sed -n 's/^ *"source": "\(\/.*\)",*$/\1/p' | head -1)
	for side in old new; do
		mkdir -p "$work/$side/net/ipv4"
		cp "$source/$file" "$work/$side/$file"
	done
	sed -i "/^int tcp_rcv_state_process(/,/^{/s/^{/{\n\tprintk_once(\"$2\\\\n\");/" "$work/new/$file"
	"$tsugictl" -q fix derive "$work/old" "$work/new" -o "$work/$1.diff" >/dev/null
}

row() { # WHAT MUST MEASURED UNIT
	local mark=✓
	[ "$(bc <<<"$3 <= $2")" = 1 ] || mark=✗
	LC_ALL=C printf '%s  %-58s %8s %8.2f %s\n' "$mark" "$1" "$2" "$3" "$4"
}

printf '   %-58s %8s %8s\n' "what" must measured
home=$work/home
clean_home "$home"
timed prepare "$tsugictl" --home "$home" --stats target add "$target" --version "$DEMO_VERSION"
row "preparing a target after download" 120 "${seconds[prepare]}" s
tcp_fix one "tsugi was here"
tcp_fix two "tsugi was here again"
timed cold "$tsugictl" --home "$home" --stats build "$work/one.diff" -t "$target" -o "$work/one.tsugi" --module "$work/one.ko"
row "one-file fix, target prepared, nothing cached" 25 "${seconds[cold]}" s
timed warm "$tsugictl" --home "$home" --stats build "$work/two.diff" -t "$target" -o "$work/two.tsugi"
row "the same with the original object cached" 12 "${seconds[warm]}" s
row "module for a one-function TCP fix" 100 "$(bc <<<"scale=1; $(stat -c %s "$work/one.ko")/1000")" kB
kvm=$(CGO_ENABLED=0 TSUGI_TEST_KERNELS=1 go test ./test/bench -run '^$' -bench DiffKVM -benchtime 20x |
	sed -n 's/^BenchmarkDiffKVM.* \([0-9.]*\) ns\/op.*/\1/p')
row "object diff of arch/x86/kvm/x86.c" 0.5 "$(bc <<<"scale=3; $kvm/1000000000")" s
rm -rf "$home"
clean_home "$home"
timed demo env TSUGI_HOME="$home" TSUGICTL="$tsugictl" demo/run.sh
row "make demo after the downloads" 240 "${seconds[demo]}" s
row "peak memory of tsugictl" 700 "$peak" MB
fleet=$(CGO_ENABLED=0 TSUGI_TEST_KERNELS=1 go test ./test/fleet -run '^$' -bench Delivery -benchtime 1x)
figure() { sed -n "s|^BenchmarkDelivery.* \([0-9.]*\) $1.*|\1|p" <<<"$fleet"; }
row "publish to applied on a waiting machine, less the transition" 5 "$(figure s/delivery)" s
row "agent at rest: memory" 25 "$(figure MiB-rss)" MB
row "agent at rest: processor" 0.1 "$(figure %cpu-idle)" %
