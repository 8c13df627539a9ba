#!/bin/bash
# Measures for how long processes stand still when a function of a library that
# they map is replaced: one process with 1 to 1,001 threads, and 4,000 processes.
# Nothing is prepared in the processes. Needs root and a C compiler, and a machine
# with nothing else to do. The exit code is 1 when something that must hold does
# not.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
	echo "  processes of others are for root: no figures of pauses" >&2
	exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${GO:-go}" test -c -o "$work/bench" ./test/scenarios
cd test/scenarios
printf '   %-58s %8s %8s\n' "what" must measured
TSUGI_BENCH_USERLAND=1 "$work/bench" -test.count=1 -test.timeout 10m -test.run '^(TestPauses|TestFourThousandProcesses)$' |
	sed '/^    bench_test\.go:[0-9]*: \(applied\|reverted\): /d; /^PASS$/d; /^FAIL$/d; /^--- FAIL: \(TestPauses\|TestFourThousandProcesses\) /d'
