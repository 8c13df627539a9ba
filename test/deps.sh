#!/bin/bash
# Installs the Debian packages that Tsugi and its tests run, those that are
# missing only. Says the command instead where it may not.
set -euo pipefail

packages=(
	# compiling kernel objects, as Debian does
	gcc-12 gcc g++ make binutils flex bison bc python3 perl libelf-dev libssl-dev dwarves kmod rsync cpio
	libc6-dev
	# unpacking packages
	dpkg-dev xz-utils zstd lz4 bzip2
	# the virtual machine
	qemu-system-x86 busybox-static e2fsprogs
	# the second database engine; tests start a server of their own
	postgresql
	git ca-certificates shellcheck
	# reading the packages that make packages builds; asking servers in make bench
	rpm curl
	# what our view of a stack is compared with
	gdb
	# the compilers of policies that tests load in virtual machines
	apparmor secilc
	# the server of TLS that is patched under load
	openssl
)

missing=()
for p in "${packages[@]}"; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)
	[ "$status" = installed ] || missing+=("$p")
done

# Package lists: without them no kernel package can be named or fetched.
lists_missing() { ! ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1; }

if [ ${#missing[@]} -eq 0 ] && ! lists_missing; then
	exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
	if [ ${#missing[@]} -eq 0 ]; then
		echo "The package lists are missing. Run: sudo apt-get update" >&2
	else
		echo "Packages are missing. Run: sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
	fi
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
if [ ${#missing[@]} -gt 0 ]; then
	echo "Installing: ${missing[*]}"
	apt-get install -y -q --no-install-recommends "${missing[@]}"
fi
