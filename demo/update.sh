#!/bin/bash
# A whole update instead of one fix: what Debian changed in net/sched between
# two versions of its kernel, taken apart into fixes with their CVEs, judged,
# built into one live patch, then without one CVE, proven, and built again.
#
# Needs the programs in bin/ (make build) and what test/deps.sh installs: use
# make demo-update. Results stay in demo/out/update.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=demo/versions.env
source demo/versions.env
# shellcheck source=demo/story.sh
source demo/story.sh

tsugictl=${TSUGICTL:-bin/tsugictl}
out=demo/out/update
target=debian:$OLD_RELEASE
part=net/sched
excluded=CVE-2026-90099
rm -rf "$out"
mkdir -p "$out"

series() {
	run "$tsugictl" fix export "$out/fixes" --update "$OLD_FIXED" -t "$target" --security --subsystem "$part"
	run "$tsugictl" fix ls --series "$out/fixes" -t "$target"
}
stage "1  The kernel, as Debian ships it" \
	run "$tsugictl" target add "$target" --version "$OLD_VERSION"
stage "2  A part of the next update, fix by fix" series
stage "3  What of it can be live" \
	run "$tsugictl" survey "$out/fixes" -t "$target" --html "$out/survey.html"
stage "4  All of that in one live patch" \
	run "$tsugictl" build "$out/fixes" -t "$target" -o "$out/v1.tsugi"
stage "5  The same without one CVE, to replace it" \
	run "$tsugictl" build "$out/fixes" -t "$target" --exclude "$excluded" --previous "$out/v1.tsugi" \
	--patch-version 2 -o "$out/v2.tsugi"
stage "6  The proof, in that very kernel" prove "$out/proof.txt" "$tsugictl" prove "$out/v2.tsugi"
stage "7  Years later: the same bytes" run "$tsugictl" rebuild "$out/v2.tsugi"
ending
