// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bufio"
	"bytes"
	"context"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What is written into a process is on the account of its control groups. Where
// one is at its memory limit the kernel makes room by killing a process of it.

// memoryTree is where the control groups for memory are seen.
type memoryTree struct {
	mount string // "" for nowhere
	top   string // the group that is seen there
	v2    bool
}

// theMemoryTree stays where it is while this program runs.
var theMemoryTree = sync.OnceValue(func() memoryTree {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return memoryTree{}
	}
	return findMemoryTree(text)
})

// findMemoryTree reads a mountinfo (man 5 proc_pid_mountinfo). Where both versions
// of control groups are mounted the first has the memory, if it says so.
func findMemoryTree(mountinfo []byte) (t memoryTree) {
	for lines := bufio.NewScanner(bytes.NewReader(mountinfo)); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		mount, fs := strings.Fields(before), strings.Fields(after)
		if !ok || len(mount) < 5 || len(fs) < 3 {
			continue
		}
		here := memoryTree{mount: mount[4], top: mount[3]}
		switch {
		case fs[0] == "cgroup" && slices.Contains(strings.Split(fs[2], ","), "memory"):
			return here
		case fs[0] == "cgroup2" && t.mount == "":
			here.v2 = true
			t = here
		}
	}
	return t
}

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

type groups struct {
	mu    sync.Mutex
	since map[string]time.Time
}

const (
	groupsAge = time.Second
	maxGroups = 4096
)

func (g *groups) has(group string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	since, ok := g.since[group]
	return ok && time.Since(since) < groupsAge
}

func (g *groups) note(group string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.since == nil || len(g.since) >= maxGroups {
		g.since = map[string]time.Time{}
	}
	g.since[group] = time.Now()
}

// group finds in /proc/PID/cgroup the path below the mount, "" when it is not there.
func (t memoryTree) group(cgroup []byte) string {
	for line := range strings.SplitSeq(string(cgroup), "\n") {
		f := strings.SplitN(line, ":", 3)
		if len(f) != 3 || t.v2 && f[1] != "" || !t.v2 && !slices.Contains(strings.Split(f[1], ","), "memory") {
			continue
		}
		below := f[2]
		if t.top != "/" {
			var ok bool
			if below, ok = strings.CutPrefix(below, t.top); !ok {
				return ""
			}
		}
		if strings.Contains(below, "..") { // outside of our namespace
			return ""
		}
		return path.Clean("/" + below)
	}
	return ""
}

// room looks at a group and all above it.
func (t memoryTree) room(group string) (uint64, string) {
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
func (t memoryTree) left(dir string) uint64 {
	limit, used := "memory.limit_in_bytes", "memory.usage_in_bytes"
	swapLimit, swapped, prefix := "memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes", "total_"
	if t.v2 {
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
