#!/bin/bash
# Every test. The race detector is where goroutines meet. What works on whole
# kernels, or derives keys from passphrases, is five to ten times slower under it
# and finds nothing more: it runs without, and its small tests with it too. make
# race runs all of it so all the same. test/kernels.sh has prepared the kernels.
set -euo pipefail
cd "$(dirname "$0")/.."

go=${GO:-go}
PATH=$(test/browser.sh):$PATH
store=${TSUGI_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/tsugi}
kernels=(
	./test/... ./packaging # the longest first: at the end no processor waits for them
	./internal/cli ./internal/insn ./internal/kbuild ./internal/kernel ./internal/kimage ./internal/kload ./internal/klp
	./internal/modsig ./internal/proof ./internal/vm
)
mapfile -t on_kernels < <("$go" list "${kernels[@]}")
mapfile -t others < <("$go" list ./... | grep -vxF "$(printf '%s\n' "${on_kernels[@]}")")
of_server='^TestARealJobSurvivesItsServer$|^TestScripts$/^(init|serve)$'

failed=0
CGO_ENABLED=1 "$go" test -race -short -p 2 -skip '^TestFleetScripts$|^TestScripts$/^key$' "${on_kernels[@]}" || failed=1
export TSUGI_TEST_KERNELS=1 TSUGI_TEST_DEBS=$store/debs
CGO_ENABLED=1 "$go" test -race -p 2 -timeout 25m -skip "$of_server" "${others[@]}" || failed=1
CGO_ENABLED=0 "$go" test -p 2 -timeout 25m "${on_kernels[@]}" || failed=1
CGO_ENABLED=0 "$go" test -run "$of_server" ./internal/servercli || failed=1
exit $failed
