#!/bin/bash
# Every test. The race detector is where goroutines meet. What works on whole
# kernels, or derives keys from passphrases, is five to ten times slower under it
# and finds nothing more: it runs without, and its small tests with it too. make
# race runs all of it so all the same. test/kernels.sh has prepared the kernels,
# and go vet is lint's.
#
# Three rows of tests run side by side, for none of them keeps two processors
# busy: a virtual machine works on one, servers wait for disks, browsers for
# servers. What the second and third say is shown at their end. The first ends
# with tests on kernels that the second would come to last of all.
set -euo pipefail
cd "$(dirname "$0")/.."

go=${GO:-go}
# Compilers and tests are short-lived: collecting their garbage later saves a third of the processors' time.
export GOGC=${GOGC:-400}
PATH=$(test/browser.sh):$PATH
store=${TSUGI_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/tsugi}
kernels=(
	./test/kernels ./test/fleet ./test/... ./packaging # the longest first: at the end no processor waits for them
	./internal/cli ./internal/insn ./internal/kbuild ./internal/kernel ./internal/kimage ./internal/kload ./internal/klp
	./internal/modsig ./internal/proof ./internal/vm
)
# Commands meet in the packages below them, and these two compute.
plain='/internal/(agentcli|cli|servercli|objdiff|people)$'
# meets: whether a package has goroutines, or its tests have.
meets() { grep -qsE '(^|[^A-Za-z])go (func|[A-Za-z.]+\()|\.Go\(|"sync["/]|/errgroup"' "$1"/*.go; }
quick=() racing=() others=()
mapfile -t on_kernels < <("$go" list "${kernels[@]}" | grep -v '/test/console$\|/test/scenarios$')
while read -r dir package; do
	if printf '%s\n' "${on_kernels[@]}" | grep -qxF "$package"; then
		if [[ $package == */internal/* ]] && meets "$dir" && ! [[ $package =~ $plain ]]; then racing+=("$package"); fi
	elif meets "$dir" && ! [[ $package =~ $plain ]]; then
		others+=("$package")
	else
		quick+=("$package")
	fi
done < <("$go" list -f '{{.Dir}} {{.ImportPath}}' ./... | grep -v '/test/console$')
mapfile -t last_on_kernels < <(printf '%s\n' "${on_kernels[@]}" | grep /internal/)
mapfile -t on_kernels < <(printf '%s\n' "${on_kernels[@]}" | grep -v /internal/)
# SQLite is C that was made Go: to watch its memory takes twice the time and tells nothing of ours.
quiet=-gcflags=modernc.org/...=-race=false
of_server='^TestARealJobSurvivesItsServer$|^TestScripts$/^(init|serve)$'
many='^TestEveryOperationAsEveryCaller$|^TestMutatedRequestsAreRefusedClearly$|^TestPowerLoss|^TestTheAgentIsKilled' # one after the other
export TSUGI_TEST_DEBS=$store/debs

# Whole kernels, with the patience that they have: the rest goes first.
on_kernels() {
	TSUGI_TEST_KERNELS=1 CGO_ENABLED=0 nice -n 5 "$go" test -vet=off -p 2 -timeout 40m "$@"
}
# Browsers, and jobs that survive their server.
waiting() {
	local failed=0
	export TSUGI_TEST_KERNELS=1 CGO_ENABLED=0
	"$go" test -vet=off -timeout 25m ./test/console || failed=1
	"$go" test -vet=off -run "$of_server|$many" ./internal/servercli ./internal/server ./internal/agent || failed=1
	return $failed
}
said=$(mktemp -d)
set -m # groups of their own, which can be ended as one
on_kernels "${on_kernels[@]}" >"$said/on_kernels" 2>&1 &
beside=($!)
waiting >"$said/waiting" 2>&1 &
beside+=($!)
set +m
trap 'kill -INT -- "${beside[@]/#/-}" 2>/dev/null || true; rm -rf "$said"' EXIT

failed=0
CGO_ENABLED=1 "$go" test -vet=off -race "$quiet" -short -p 2 "${racing[@]}" || failed=1
export TSUGI_TEST_KERNELS=1
CGO_ENABLED=1 "$go" test -vet=off -race "$quiet" -p 2 -timeout 25m -skip "$of_server|$many" "${others[@]}" || failed=1
CGO_ENABLED=0 "$go" test -vet=off -p 2 -timeout 25m -skip "$of_server|$many" "${quick[@]}" || failed=1
on_kernels "${last_on_kernels[@]}" || failed=1
for pid in "${beside[@]}"; do wait "$pid" || failed=1; done
cat "$said/on_kernels" "$said/waiting"
exit $failed
