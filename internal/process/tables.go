// SPDX-License-Identifier: Apache-2.0

package process

import (
	"cmp"
	"crypto/sha256"
	"io"
	"slices"
	"sync"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/process/stack"
	"github.com/tsugi-project/tsugi/internal/unwind"
)

// maxFrames bounds the .eh_frame that is read of one object.
const maxFrames = 64 << 20

// layout says where code lies, for the check of stacks. With tables it also
// knows how to unwind it, which takes its time: at first the words on the
// stacks are looked at without.
func (w *work) layout(tables bool) (stack.Layout, error) {
	l := stack.Layout{PID: w.p.ID().PID}
	for _, m := range w.s.maps {
		if m.Path == "[stack]" {
			l.MainStackEnd = m.End
		}
	}
	var err error
	if l.SignalReturns, l.Switches, err = w.specialCode(); err != nil {
		return l, err
	}
	for _, m := range w.s.maps {
		if m.Path == "[uprobes]" && m.Exec {
			// What returns to the start of it is watched by a probe: the kernel alone
			// knows where it goes on. As with a signal the words don't tell.
			l.SignalReturns = append(l.SignalReturns, m.Start)
		}
	}
	if !tables {
		return l, nil
	}
	for i := range w.s.objects {
		o := &w.s.objects[i]
		table, err := w.tableOf(o.Base)
		if err != nil {
			return l, err
		}
		w.addCode(&l, o.Name, span{o.Base, o.End}, o.Bias, table)
	}
	for _, m := range w.s.maps {
		if m.Path == "[vdso]" {
			table, err := w.tableOf(m.Start)
			if err != nil {
				return l, err
			}
			w.addCode(&l, m.Path, span{m.Start, m.End}, m.Start, table)
		}
	}
	for _, a := range w.s.areas {
		var table *unwind.Table
		if a.unwindSize > 0 {
			frame, err := read(w.s.mem, a.base+a.unwind, a.unwindSize)
			if err != nil && !unreadable(err) {
				return l, err
			}
			table, _ = w.e.tables.parse(nil, 0, frame, a.base+a.unwind)
		}
		text := a.base + a.text
		w.addCode(&l, a.name, span{text, text + a.textSize}, 0, table)
	}
	return l, nil
}

// addCode adds the executable mappings of a span that are not there yet.
func (w *work) addCode(l *stack.Layout, name string, of span, bias uint64, table *unwind.Table) {
	for _, m := range w.s.within(of) {
		code := span{max(m.Start, of.start), min(m.End, of.end)}
		if !m.Exec || code.start >= code.end {
			continue
		}
		// They are in order, and do not overlap.
		i, there := slices.BinarySearchFunc(l.Objects, code.start, func(o stack.Object, at uint64) int { return cmp.Compare(o.Start, at) })
		if !there && (i == 0 || l.Objects[i-1].End <= code.start) && (i == len(l.Objects) || code.end <= l.Objects[i].Start) {
			l.Objects = slices.Insert(l.Objects, i, stack.Object{Name: name, Start: code.start, End: code.end, Bias: bias, Table: table})
		}
	}
}

// tableOf reads the unwind table of an object. One that is not to be understood
// is none: what runs there is judged by words. The error is the process's.
func (w *work) tableOf(base uint64) (*unwind.Table, error) {
	f, err := dso.OpenMemory(w.s.mem, base)
	if err != nil {
		return nil, onlyProcess(err)
	}
	r, err := f.EHFrame()
	if err != nil || r.Size == 0 || r.Size > maxFrames {
		return nil, onlyProcess(err)
	}
	frame, err := f.Bytes(r.Start, r.Size)
	if err != nil {
		return nil, onlyProcess(err)
	}
	header, err := f.Bytes(f.EHFrameHdr.Start, f.EHFrameHdr.Size)
	if err != nil {
		return nil, onlyProcess(err)
	}
	table, err := w.e.tables.parse(header, f.EHFrameHdr.Start, frame, r.Start)
	return table, onlyProcess(err)
}

// onlyProcess lets through what says that the process is gone or silent.
func onlyProcess(err error) error {
	if code.Of(err) != "" {
		return err
	}
	return nil
}

func read(mem io.ReaderAt, at, size uint64) ([]byte, error) {
	b := make([]byte, size)
	return b, readFull(mem, b, at)
}

// tableCache keeps parsed tables by their bytes. A build-id would not do: a
// process can claim any.
type tableCache struct {
	mu    sync.Mutex
	known map[[32]byte]*unwind.Table
	size  int
}

const (
	maxCached = 64 << 20 // bytes of .eh_frame
	maxTables = 4096
)

func (c *tableCache) parse(header []byte, headerAt uint64, frame []byte, at uint64) (*unwind.Table, error) {
	h := sha256.New()
	h.Write(word(headerAt))
	h.Write(word(uint64(len(header))))
	h.Write(header)
	h.Write(word(at))
	h.Write(frame)
	key := [32]byte(h.Sum(nil))
	c.mu.Lock()
	table, ok := c.known[key]
	c.mu.Unlock()
	if ok {
		return table, nil
	}
	var err error
	if header != nil {
		table, err = unwind.ParseHeader(header, headerAt, frame, at)
	} else {
		table, err = unwind.Parse(frame, at)
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || c.size+len(frame) > maxCached || len(c.known) >= maxTables {
		c.known, c.size = map[[32]byte]*unwind.Table{}, 0
	}
	c.known[key] = table
	c.size += len(frame)
	return table, nil
}
