#!/bin/bash
# Measures what the console's pages have to hold: everything that they ask, of a
# server with 100,000 machines, 5,000 CVEs on 6 targets and five packages on each
# machine, on SQLite and on PostgreSQL. Needs Debian's postgresql and a machine with nothing else to do.
# TSUGI_BENCH_ENGINE=postgresql measures one engine, TSUGI_BENCH_PATH=preview what fits a regular expression.
set -euo pipefail
cd "$(dirname "$0")/.."

figures=$(mktemp)
trap 'rm -f "$figures"' EXIT
TSUGI_BENCH_CONSOLE=$figures CGO_ENABLED=0 go test -run '^$' -bench '^BenchmarkConsole$' -benchtime 1x -timeout 30m ./internal/server >"$figures.log" 2>&1 ||
	{ cat "$figures.log" >&2; rm -f "$figures.log"; exit 1; }
rm -f "$figures.log"

failed=0
for engine in sqlite postgresql; do
	grep -q "^$engine " "$figures" || continue
	while read -r _ half most _ path; do
		mark=✓
		[ "$(bc <<<"$most > 200")" = 0 ] || mark=✗ failed=1
		LC_ALL=C printf '%s  %-10s %-72s half %7.1f  95 %% %7.1f ms (must 200)\n' "$mark" "$engine" "$path" "$half" "$most"
	done < <(grep "^$engine " "$figures")
	worst=$(grep "^$engine " "$figures" | sort -k3 -rn | head -1)
	LC_ALL=C printf '   %s: the slowest is %s\n' "$engine" "$(awk '{print $5 ", 95 % within " $3 " ms"}' <<<"$worst")"
done
exit "$failed"
