// SPDX-License-Identifier: Apache-2.0

package kimage

import (
	"encoding/binary"
	"fmt"
)

// SealedEndbr returns the addresses of the ENDBR instructions that an IBT
// kernel overwrites at boot, since nothing takes the address of what follows
// them: an indirect call to such a function faults on IBT hardware. They are
// listed in .ibt_endbr_seal as 32-bit offsets, each relative to its own
// address. The result is in the section's order, nil when the image has no
// such section (a kernel without CONFIG_X86_KERNEL_IBT).
func SealedEndbr(img *Image) ([]uint64, error) {
	data, addr, ok := img.Section(".ibt_endbr_seal")
	if !ok {
		return nil, nil
	}
	if len(data)%4 != 0 {
		return nil, fmt.Errorf("section .ibt_endbr_seal: %d bytes are not a whole number of 4-byte entries", len(data))
	}
	out := make([]uint64, 0, len(data)/4)
	for off := 0; off < len(data); off += 4 {
		rel := int64(int32(binary.LittleEndian.Uint32(data[off:])))
		out = append(out, addr+uint64(off)+uint64(rel))
	}
	return out, nil
}
