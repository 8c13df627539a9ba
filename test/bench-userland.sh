#!/bin/bash
# Measures for how long processes stand still when a function of a library that
# they map is replaced: one process with 1 to 1,001 threads, and 4,000 processes.
# Nothing is prepared in the processes. Needs root and a C compiler.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
	echo "  processes of others are for root: no figures of pauses" >&2
	exit 0
fi
TSUGI_BENCH_USERLAND=1 "${GO:-go}" test -v -count=1 -timeout 10m -run '^(TestPauses|TestFourThousandProcesses)$' ./test/scenarios |
	grep -v '^\(ok\|PASS\)'
