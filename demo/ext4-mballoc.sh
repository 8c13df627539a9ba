#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Reproducer of Debian bug #1154101: in linux 6.1.192-1 the kernel dereferences
# a null folio in ext4_mb_load_buddy_gfp when it frees blocks of a group whose
# buddy bitmap is no longer in the page cache.
#
# It needs an empty disk of 2 GB, /dev/tsugi/scratch, with an ext4 file system
# on it (it makes one when there is none and mkfs.ext4 is at hand), and the
# module ext4. It exits 0 when the kernel survives.
#
# tsugi: disk scratch 2G ext4
# tsugi: module ext4

disk=/dev/tsugi/scratch
dir=/mnt

fail() {
	echo "ext4-mballoc: $*"
	exit 1
}

[ -b "$disk" ] || fail "no disk $disk"
mkdir -p "$dir"
if ! mount -t ext4 "$disk" "$dir"; then
	command -v mkfs.ext4 >/dev/null || fail "$disk holds no ext4 file system and there is no mkfs.ext4"
	echo "make an ext4 file system on $disk"
	mkfs.ext4 -q -F "$disk" || fail "mkfs.ext4"
	mount -t ext4 "$disk" "$dir" || fail "mount"
fi
# A page that a processor still holds in a batch is not dropped, so one round
# may miss: that luck does not hold for ten.
round=1
while [ $round -le 10 ]; do
	echo "round $round: write 400 KB, drop the caches, remove the file"
	dd if=/dev/zero of="$dir/victim" bs=1k count=400 2>/dev/null || fail "write"
	sync
	# buddy bitmaps go with the caches; removing the file loads them again
	echo 3 >/proc/sys/vm/drop_caches || fail "drop_caches"
	rm "$dir/victim" || fail "rm"
	sync
	round=$((round + 1))
done
umount "$dir" || fail "umount"
echo "survived"
