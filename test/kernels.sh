#!/bin/bash
# Prepares the kernels of demo/versions.env for the tests, those that are not
# ready only, and fetches the packages with Debian's own sign-file to compare
# with and with Prometheus' promtool. Needs bin/tsugictl.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=demo/versions.env
source demo/versions.env

bin/tsugictl target add "debian:$DEMO_RELEASE" --version "$DEMO_VERSION"
bin/tsugictl target add "debian:$OLD_RELEASE" --version "$OLD_VERSION"
bin/tsugictl target add "debian:$IBT_RELEASE" --version "$IBT_VERSION"

debs=${TSUGI_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/tsugi}/debs
mkdir -p "$debs"
for package in linux-kbuild-6.1 prometheus; do
	if ! ls "$debs/${package}"_*.deb >/dev/null 2>&1; then
		(cd "$debs" && apt-get download -q "$package")
	fi
done
