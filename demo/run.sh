#!/bin/bash
# One real fix, live in a real kernel: Debian bug #1154101, a NULL folio
# dereference in ext4 that linux 6.1.192-1 has and 6.1.192-2 fixes.
#
# Needs bin/tsugictl (make build) and what test/deps.sh installs: use make demo.
# Results stay in demo/out.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=demo/versions.env
source demo/versions.env

tsugictl=${TSUGICTL:-$PWD/bin/tsugictl}
out=demo/out
target=debian:$DEMO_RELEASE
rm -rf "$out"
mkdir -p "$out"

bold='' dim='' off=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' dim=$'\e[2m' off=$'\e[0m'; fi

# shown COMMAND...: the command as a reader would type it.
shown() {
	[ "$1" != prove ] || shift
	echo "${*/#"$tsugictl"/tsugictl}"
}

# stage TITLE COMMAND...: runs a step of the story and keeps its time.
times=()
stage() {
	local title=$1 start=$EPOCHREALTIME
	shift
	printf '\n%s%s%s\n%s$ %s%s\n' "$bold" "$title" "$off" "$dim" "$(shown "$@")" "$off"
	"$@"
	times+=("$(printf '%-34s %7.1f s' "$title" "$(bc <<<"$EPOCHREALTIME - $start")")")
}

begin=$EPOCHREALTIME
stage "1  The kernel, as Debian ships it" \
	"$tsugictl" target add "$target" --version "$DEMO_VERSION"
stage "2  The fix, from two source packages" \
	"$tsugictl" fix derive "$target" "$DEMO_FIXED" -o "$out/ext4.diff"
stage "3  The live patch" \
	"$tsugictl" build "$out/ext4.diff" --target "$target" -o "$out/ext4.tsugi"
# What the proof says stands in the summary; here only if it does not hold.
prove() { "$@" >"$out/proof.txt" || { cat "$out/proof.txt"; exit 1; }; }
stage "4  The proof, in that very kernel" \
	prove "$tsugictl" prove "$out/ext4.tsugi" --reproducer demo/ext4-mballoc.sh

printf '\n%s5  What came out%s\n' "$bold" "$off"
"$tsugictl" show "$out/ext4.tsugi"
echo
for t in "${times[@]}"; do printf '  %s\n' "$t"; done
printf '  %s%-34s %7.1f s%s\n' "$bold" "in all" "$(bc <<<"$EPOCHREALTIME - $begin")" "$off"
