#!/bin/bash
# Measures what choosing again costs: a series of 30 CVE fixes of an update, one
# file each, built, built without one of them, and built for 20 policies that
# each leave out another. Needs bin/tsugictl, the targets of test/kernels.sh and
# a machine with nothing else to do.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=demo/versions.env
source demo/versions.env

store=${TSUGI_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/tsugi}
target=debian:$OLD_RELEASE
work=$(mktemp -d "$store/bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
cp bin/tsugictl "$work/tsugictl" # a build meanwhile does not matter
tsugictl=$work/tsugictl

files=(
	arch/x86/events/amd/core.c drivers/block/loop.c drivers/gpu/drm/amd/amdgpu/amdgpu_cs.c
	drivers/gpu/drm/amd/display/amdgpu_dm/amdgpu_dm_plane.c drivers/gpu/drm/amd/display/dc/dml/dcn302/dcn302_fpu.c
	drivers/gpu/drm/i915/gt/intel_rps.c drivers/hwmon/lm90.c drivers/infiniband/hw/mlx5/umr.c drivers/md/raid1.c
	drivers/net/ethernet/intel/ixgbe/ixgbe_main.c drivers/net/wireless/ath/ath11k/mac.c
	drivers/net/wireless/mediatek/mt76/mt7915/main.c drivers/nvme/target/tcp.c drivers/scsi/qla2xxx/qla_mid.c
	drivers/usb/core/hub.c kernel/audit_tree.c fs/btrfs/scrub.c fs/exfat/fatent.c
	fs/nfs/blocklayout/dev.c fs/smb/client/cifsacl.c fs/smb/server/mgmt/user_config.c kernel/bpf/hashtab.c mm/slub.c
	net/bridge/br_arp_nd_proxy.c net/ipv4/ipmr_base.c net/mac80211/ibss.c net/qrtr/mhi.c net/sctp/sm_statefuns.c
	net/tipc/node.c security/landlock/fs.c
)

home=$work/home
mkdir -p "$home/debs" "$work/series"
cp -al "$store/debs/." "$home/debs/"
"$tsugictl" -q --home "$home" target add "$target" --version "$OLD_VERSION" >/dev/null
ids=()
for f in "${files[@]}"; do
	id=$(tr / - <<<"${f%.c}")
	ids+=("$id")
	"$tsugictl" -q fix derive "$target" "$OLD_FIXED" "$f" -o "$work/series/$id.diff" >/dev/null
done

# build NAME ARGUMENT...: one live patch; its seconds are in took.
build() {
	local name=$1 start=$EPOCHREALTIME
	shift
	"$tsugictl" -q --home "$home" build "$work/series" -t "$target" -o "$work/$name.tsugi" "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
	took=$(bc <<<"scale=2; ($EPOCHREALTIME - $start)/1")
}

row() { # WHAT MUST MEASURED UNIT
	local mark=✓
	[ "$(bc <<<"$3 <= $2")" = 1 ] || mark=✗
	LC_ALL=C printf '%s  %-58s %8s %8.2f %s\n' "$mark" "$1" "$2" "$3" "$4"
}

build first --exclude "${ids[0]}"
one=$took all=$took
for id in "${ids[@]:1:19}"; do
	build policy --exclude "$id"
	all=$(bc <<<"$all + $took")
done
build again --exclude "${ids[25]}"
row "one of 30 fixes taken out, what is compiled cached" 20 "$took" s
row "20 policies, each without another fix" "$(bc <<<"2 * $one")" "$all" "s (one: $one)"
