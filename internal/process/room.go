// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"fmt"

	"github.com/tsugi-project/tsugi/internal/code"
)

// spareRoom is what must be left of a memory limit beyond what is counted: page
// tables, the stack of a thread that is borrowed, and what the program itself
// takes meanwhile.
const spareRoom = 256 << 10

// hasRoom looks whether new pages fit below the memory limits of the process. At
// a limit the kernel kills a process of the group to make room: this one, for all
// that is known.
func (w *work) hasRoom(ctx context.Context, units []*unit) error {
	need, copied := uint64(0), map[uint64]bool{}
	for _, u := range units {
		if u.content == nil {
			continue // jumps are only taken out: their pages are the process's own already
		}
		if u.fresh {
			need += u.journal.size
		}
		for _, wr := range u.writes {
			copied[wr.entry/pageSize] = true
		}
	}
	need += uint64(len(copied)) * pageSize
	if need == 0 {
		return nil
	}
	room, group, err := w.p.Room(ctx)
	if err != nil || room >= need+spareRoom {
		return err
	}
	return code.New("TS9644", w.p.ID().String(), fmt.Sprintf("control group %s leaves %d KiB, and %d are needed", group, room>>10, (need+spareRoom)>>10))
}
