#!/bin/bash
# Prepares what tests of the console run: Node 20.19 or newer, Debian's chromium
# and the modules of web/console. Prints the folder of node, for PATH. Debian 12
# has Node 18: where there is no newer one, npm fetches it into the store.
set -euo pipefail
cd "$(dirname "$0")/.."

node_version=20.20.2
store=${TSUGI_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/tsugi}
own=$store/node/node_modules/node-linux-$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')/bin

install() {
	if [ "$(id -u)" -ne 0 ]; then
		echo "Packages are missing. Run: sudo apt-get update && sudo apt-get install -y --no-install-recommends $*" >&2
		exit 1
	fi
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2
}

# recent NODE: whether the build of the console runs with it
recent() { "$1" -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null; }

# A browser shows Japanese in boxes without a font of it.
wanted=()
command -v chromium >/dev/null || wanted+=(chromium)
[ -n "$(fc-list :lang=ja 2>/dev/null)" ] || wanted+=(fonts-noto-cjk)
command -v npm >/dev/null || wanted+=(npm)
[ ${#wanted[@]} -eq 0 ] || install "${wanted[@]}"

if recent node; then
	node=$(dirname "$(command -v node)")
else
	[ -x "$own/node" ] || npm install --silent --no-save --prefix "$store/node" "$(basename "$(dirname "$own")")@$node_version" >&2
	node=$own
fi

# npm ci leaves this file behind: older than the lock file, it is not of it.
stamp=web/console/node_modules/.package-lock.json
if [ ! -e "$stamp" ] || [ "$stamp" -ot web/console/package-lock.json ]; then
	(cd web/console && PATH=$node:$PATH npm ci --no-audit --no-fund >&2)
	touch "$stamp"
fi
echo "$node"
