// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
)

// staleCounts are the processes of a machine that run what its disk has no more,
// as it told them last: all, and those of its files and packages in their order.
// nil: there is none, or it is not known.
type staleCounts struct {
	all             int
	files, packages []int
}

// staleCountsOf are those of facts.
func staleCountsOf(f facts) *staleCounts {
	if f.Stale == nil || f.Stale.Processes == 0 {
		return nil
	}
	s := &staleCounts{all: f.Stale.Processes}
	for _, x := range f.Stale.Files {
		s.files = append(s.files, x.Processes)
	}
	for _, p := range f.CheckIn.Packages {
		s.packages = append(s.packages, p.Stale)
	}
	return s
}

// staleNow puts what a machine told last into what the store has of it. The caller
// has saved to itself, and holds no lock.
func (m *member) staleNow(saved *api.Stale) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if saved == nil || m.stale == nil || len(m.stale.files) != len(saved.Files) {
		return // of another time
	}
	saved.Processes = m.stale.all
	for i := range saved.Files {
		saved.Files[i].Processes = m.stale.files[i]
	}
}

// coarseStale is what of it has to be written down: which files there are, and not
// in how many processes.
func coarseStale(said *api.Stale) *api.Stale {
	if said == nil {
		return nil
	}
	out := &api.Stale{Processes: min(said.Processes, 1), Files: slices.Clone(said.Files), More: min(said.More, 1)}
	for i := range out.Files {
		out.Files[i].Processes, out.Files[i].Program = 1, ""
	}
	return out
}

// stale checks what a check-in says of replaced files.
func (c *checker) stale(s *api.Stale) {
	if s == nil {
		return
	}
	c.number("stale.processes", int64(s.Processes), 0, maxProcesses)
	c.number("stale.more", int64(s.More), 0, maxProcesses)
	if len(s.Files) > api.MaxStaleFiles {
		c.add("stale.files", "at most %d files are expected", api.MaxStaleFiles)
	}
	if len(s.Files) > 0 && s.Processes == 0 {
		c.add("stale.processes", "none run the files")
	}
	for i, f := range s.Files[:min(len(s.Files), api.MaxStaleFiles)] {
		at := fmt.Sprintf("stale.files[%d]", i)
		c.text(at+".path", f.Path, 1, api.MaxStalePath)
		if f.BuildID != "" {
			c.hex(at+".build_id", f.BuildID, 1, 64)
		}
		c.number(at+".processes", int64(f.Processes), 1, maxProcesses)
		c.text(at+".program", f.Program, 0, 64)
	}
}

// startAnew says what ends it for the processes of a package that run a file which
// the disk has no more; "" where there are none.
func startAnew(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "1 process runs a file that is not on the disk any more: a restart gives it the version that is"
	}
	return fmt.Sprintf("%d processes run files that are not on the disk any more: a restart gives them the version that is", n)
}
