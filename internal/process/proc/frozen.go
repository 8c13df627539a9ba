// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"os"
	"path"
	"strings"
	"sync"
)

// A control group can be frozen: its processes do nothing until it is thawed,
// which may be never. Of version 2 they still stop for a tracer, and still do
// nothing that they are told then.

// freezerTrees are where groups that freeze are seen, of both versions.
var freezerTrees = sync.OnceValue(func() []groupTree {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	trees := []groupTree{findTree(text, "")}
	if first := findTree(text, "freezer"); !first.v2() {
		trees = append(trees, first)
	}
	return trees
})

// Frozen is the control group that keeps the process from running, "" for none
// that can be seen from here.
func (p *Process) Frozen(ctx context.Context) (string, error) {
	var cgroup []byte
	for _, t := range freezerTrees() {
		if t.mount == "" {
			continue
		}
		if cgroup == nil {
			var err error
			if cgroup, err = p.ReadFile(ctx, "cgroup", 64<<10); err != nil {
				return "", err
			}
		}
		if group := t.frozen(t.group(cgroup)); group != "" {
			return group, nil
		}
	}
	return "", nil
}

// frozen looks at a group and all above it.
func (t groupTree) frozen(group string) string {
	file, runs := "cgroup.freeze", "0"
	if !t.v2() {
		file, runs = "freezer.state", "THAWED"
	}
	for ; group != "" && group != "/"; group = path.Dir(group) { // the topmost has no such file
		text, err := os.ReadFile(path.Join(t.mount, group, file))
		if err == nil && strings.TrimSpace(string(text)) != runs {
			return group
		}
	}
	return ""
}
