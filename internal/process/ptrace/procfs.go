// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// Thread-wise looks are package proc's; these are what it has no use for.

// wchan names the function of the kernel that a thread waits in, "" for none.
func wchan(pid, tid int) string {
	w := proc.TaskFile(pid, tid, "wchan")
	if w == "0" {
		return ""
	}
	return w
}
