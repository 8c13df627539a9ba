// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// marksAtMost bounds the marks: a file each, per copy of it in a container.
const marksAtMost = 4096

// marks remembers which files are marked: by build-id and mount namespace,
// since containers have copies.
type marks struct {
	mu   sync.Mutex
	seen map[string]bool
}

// unknown tells whether one of the files may not be marked yet.
func (m *marks) unknown(pid int, buildIDs []string) bool {
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range buildIDs {
		if !m.seen[ns+" "+id] {
			return len(m.seen) < marksAtMost
		}
	}
	return false
}

// note remembers a file.
func (m *marks) note(pid int, buildID string) {
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen == nil {
		m.seen = map[string]bool{}
	}
	if len(m.seen) < marksAtMost {
		m.seen[ns+" "+buildID] = true
	}
}

// mark marks the wanted files of a process, so that others that open them are
// known at once. The file is named by the mapping: nobody's path is followed.
func (w *Watcher) mark(ctx context.Context, p *proc.Process, f proc.Finding) {
	if w.opens == nil || !w.marks.unknown(p.PID(), f.BuildIDs) {
		return
	}
	objects, err := p.Objects(ctx)
	if err != nil {
		return // another process will do
	}
	maps, err := p.Mappings(ctx)
	if err != nil {
		return
	}
	for _, o := range objects {
		if o.BuildID == "" || !w.opt.Wanted(o.BuildID) || !w.marks.unknown(p.PID(), []string{o.BuildID}) {
			continue
		}
		for _, m := range maps {
			if m.Start != o.Base || p.Check(ctx) != nil {
				continue
			}
			// Some file systems take no marks; the other sources are there. A
			// mapping that is another by now is one that is just being loaded:
			// the next look at the process will do.
			err := w.opens.mark(fmt.Sprintf("/proc/%d/map_files/%x-%x", p.PID(), m.Start, m.End))
			if !errors.Is(err, unix.ENOENT) {
				w.marks.note(p.PID(), o.BuildID)
			}
		}
	}
}
