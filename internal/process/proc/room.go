// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
)

// What is written into a process is on the account of its control groups. Where
// one is at its memory limit the kernel makes room by killing a process of it.

// theMemoryTree stays where it is while this program runs.
var theMemoryTree = sync.OnceValue(func() groupTree {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return groupTree{}
	}
	return findTree(text, "memory")
})

// Room is how much memory may be put into the process until a control group of
// it is at its limit, and which; math.MaxUint64 where none has a limit, or none
// that can be seen from here.
func (p *Process) Room(ctx context.Context) (uint64, string, error) {
	t := theMemoryTree()
	if t.mount == "" {
		return math.MaxUint64, "", nil
	}
	text, err := p.ReadFile(ctx, "cgroup", 64<<10)
	if err != nil {
		return 0, "", err
	}
	own := t.group(text)
	if unlimited.has(own) {
		return math.MaxUint64, "", nil
	}
	room, group := t.room(own)
	if room == math.MaxUint64 {
		unlimited.note(own)
	}
	return room, group, nil
}

// unlimited remembers for a moment which groups have no limit, nor any above
// them: thousands of processes may be in the same.
var unlimited groups

// room looks at a group and all above it.
func (t groupTree) room(group string) (uint64, string) {
	least, tightest := uint64(math.MaxUint64), ""
	for ; group != ""; group = path.Dir(group) {
		if left := t.left(path.Join(t.mount, group)); left < least {
			least, tightest = left, group
		}
		if group == "/" {
			break
		}
	}
	return least, tightest
}

// left is what one group leaves: up to its limit, what can be dropped of files'
// contents, and what can be swapped.
func (t groupTree) left(dir string) uint64 {
	limit, used := "memory.limit_in_bytes", "memory.usage_in_bytes"
	swapLimit, swapped, prefix := "memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes", "total_"
	if t.v2() {
		limit, used, prefix = "memory.max", "memory.current", ""
		swapLimit, swapped = "memory.swap.max", "memory.swap.current"
	}
	most := amount(path.Join(dir, limit))
	if most >= 1<<62 { // what stands for none, in either version
		return math.MaxUint64
	}
	now := amount(path.Join(dir, used))
	if now == math.MaxUint64 {
		return now // it can't be told
	}
	left := less(most, now)
	stat := amounts(path.Join(dir, "memory.stat"))
	file := stat[prefix+"inactive_file"] + stat[prefix+"active_file"]
	unwritten := stat[prefix+"dirty"] + stat[prefix+"writeback"] + stat["file_dirty"] + stat["file_writeback"]
	left += less(file, unwritten)
	if swap := amounts("/proc/meminfo")["SwapFree:"] << 10; swap > 0 {
		if most := amount(path.Join(dir, swapLimit)); most != math.MaxUint64 {
			swap = min(swap, less(most, amount(path.Join(dir, swapped))))
		}
		left += swap
	}
	return left
}

// less is the difference, 0 where there is none left.
func less(a, b uint64) uint64 { return a - min(a, b) }

// amount reads a file of one number; what is none, "max" too, is the most.
func amount(file string) uint64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return math.MaxUint64
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return math.MaxUint64
	}
	return n
}

// amounts reads a file of a name and a number in each line.
func amounts(file string) map[string]uint64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	all := map[string]uint64{}
	for line := range strings.SplitSeq(string(text), "\n") {
		if f := strings.Fields(line); len(f) >= 2 {
			if n, err := strconv.ParseUint(f[1], 10, 64); err == nil {
				all[f[0]] = n
			}
		}
	}
	return all
}
