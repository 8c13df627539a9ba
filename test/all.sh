#!/bin/bash
# Every test. What works on whole kernels runs twice: its small tests under the
# race detector, and all of them without, since that makes reading a kernel (and
# deriving a key from a passphrase) five to ten times slower and finds nothing
# more; make race does it all the same. test/kernels.sh has prepared the kernels.
set -euo pipefail
cd "$(dirname "$0")/.."

go=${GO:-go}
store=${TSUGI_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/tsugi}
kernels=(
	./internal/cli ./internal/insn ./internal/kbuild ./internal/kernel ./internal/kimage ./internal/kload ./internal/klp
	./internal/modsig ./internal/proof ./internal/vm ./test/...
)
mapfile -t on_kernels < <("$go" list "${kernels[@]}")
mapfile -t others < <("$go" list ./... | grep -vxF "$(printf '%s\n' "${on_kernels[@]}")")

failed=0
CGO_ENABLED=1 "$go" test -race -short -p 2 -skip '^TestFleetScripts$|^TestScripts$/^key$' "${on_kernels[@]}" || failed=1
export TSUGI_TEST_KERNELS=1 TSUGI_TEST_DEBS=$store/debs
CGO_ENABLED=1 "$go" test -race -p 2 -timeout 25m "${others[@]}" || failed=1
CGO_ENABLED=0 "$go" test -p 2 -timeout 25m "${on_kernels[@]}" || failed=1
exit $failed
