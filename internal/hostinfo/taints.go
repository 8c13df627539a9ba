// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"strconv"
	"strings"
)

// Taints are the bits of /proc/sys/kernel/tainted.
type Taints uint64

// The taints by name (include/linux/panic.h).
const (
	TaintProprietary Taints = 1 << iota
	TaintForcedModule
	TaintOutOfSpec
	TaintForcedRemove
	TaintMachineCheck
	TaintBadPage
	TaintUser
	TaintDied
	TaintACPI
	TaintWarn
	TaintStaging
	TaintFirmware
	TaintOutOfTree
	TaintUnsigned
	TaintSoftLockup
	TaintLivepatch
	TaintAux
	TaintRandstruct
	TaintTest
	TaintFirmwareControl
)

// letters in the order of the bits (kernel/panic.c, taint_flags).
const taintLetters = "PFSRMBUDAWCIOELKXTNJ"

// Letters returns the letters that oops reports show for the bits.
func (t Taints) Letters() string {
	var b strings.Builder
	for i, l := range taintLetters {
		if t&(1<<i) != 0 {
			b.WriteRune(l)
		}
	}
	return b.String()
}

func parseTaints(s string) Taints {
	n, _ := strconv.ParseUint(s, 10, 64)
	return Taints(n)
}
