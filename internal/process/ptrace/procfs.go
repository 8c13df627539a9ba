// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"fmt"
	"io"
	"os"
	"strconv"

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

// maxThreads is above what the kernel can have: threads-max of large machines.
const maxThreads = 1 << 20

// threads lists the threads of a process, in the order of the directory, into
// room that a stop has already.
func threads(pid int, into []int) ([]int, error) {
	d, err := os.Open(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return into, err
	}
	defer d.Close()
	for len(into) < maxThreads {
		names, err := d.Readdirnames(4096)
		for _, name := range names {
			if tid, err := strconv.Atoi(name); err == nil {
				into = append(into, tid)
			}
		}
		if err == io.EOF || err == nil && len(names) == 0 {
			break
		}
		if err != nil {
			return into, err
		}
	}
	return into, nil
}
