// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bufio"
	"bytes"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// groupTree is where the control groups of one controller are seen.
type groupTree struct {
	mount      string // "" for nowhere
	top        string // the group that is seen there
	controller string // "" for version 2, which has one tree for all
}

// findTree reads a mountinfo (man 5 proc_pid_mountinfo). Where both versions of
// control groups are mounted the first has the controller, if it says so. With ""
// it is the tree of version 2.
func findTree(mountinfo []byte, controller string) (t groupTree) {
	for lines := bufio.NewScanner(bytes.NewReader(mountinfo)); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		mount, fs := strings.Fields(before), strings.Fields(after)
		if !ok || len(mount) < 5 || len(fs) < 3 {
			continue
		}
		here := groupTree{mount: mount[4], top: mount[3]}
		switch {
		case fs[0] == "cgroup" && controller != "" && slices.Contains(strings.Split(fs[2], ","), controller):
			here.controller = controller
			return here
		case fs[0] == "cgroup2" && t.mount == "":
			t = here
		}
	}
	return t
}

// v2 tells whether it is version 2.
func (t groupTree) v2() bool { return t.controller == "" }

// group finds in /proc/PID/cgroup the path below the mount, "" when it is not there.
func (t groupTree) group(cgroup []byte) string {
	for line := range strings.SplitSeq(string(cgroup), "\n") {
		f := strings.SplitN(line, ":", 3)
		if len(f) != 3 || !slices.Contains(strings.Split(f[1], ","), t.controller) {
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

// groups remembers some for a moment.
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
