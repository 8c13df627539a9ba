#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the deb and rpm packages of all programs below cmd/ into the directory
# OUT. The same commit and Go give the same bytes: all times are the commit's.
#
#   packaging/build.sh OUT [PROGRAM...]
#
# COMPRESSION, xz unless it is set, is for tests: it takes most of the time.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:?usage: packaging/build.sh OUT [PROGRAM...]}")
shift
programs=("$@")
[ ${#programs[@]} -gt 0 ] || programs=(tsugi tsugi-server tsugictl)

# A release has a tag; what lies between releases sorts after the one before.
export CGO_ENABLED=0 TZ=UTC LC_ALL=C
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
tag=$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null || echo v0.0.0)
VERSION=${tag#v}
if [ "$(git rev-parse -q --verify "refs/tags/$tag^{commit}" || true)" != "$(git rev-parse HEAD)" ]; then
	VERSION+="+git$(git log -1 --format=%cd --date=format-local:%Y%m%d%H%M%S).$(git rev-parse --short=12 HEAD)"
fi
STAGE=$(mktemp -d)
trap 'rm -rf "$STAGE"' EXIT
export SOURCE_DATE_EPOCH VERSION STAGE

umask 022
mkdir -p "$out"
for p in "${programs[@]}"; do
	dir=$STAGE/$p
	mkdir -p "$dir/bin" "$dir/man"
	go build -trimpath -ldflags='-s -w' -o "$dir/bin/" "./cmd/$p"
	if [ "$p" = tsugi ]; then go run ./packaging/man "$dir/man"; else "$dir/bin/$p" man "$dir/man"; fi
	gzip -9n "$dir/man"/*.1
	for shell in bash zsh fish; do
		"$dir/bin/$p" completion "$shell" >"$dir/$shell"
	done
	sed "s/compression: xz/compression: ${COMPRESSION:-xz}/" "packaging/$p.yaml" >"$dir/nfpm.yaml"
	for kind in deb rpm; do
		go tool -modfile=tools/nfpm.mod nfpm package -f "$dir/nfpm.yaml" -p "$kind" -t "$out" >/dev/null
	done
done
printf "%s\n" "$out"/*"$VERSION"*
