// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/order"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// unit is what shall be changed at one object, all of it known before the
// process is stopped.
type unit struct {
	file    *prepared // nil where nothing new comes
	object  *proc.Object
	journal *journal
	// through is the state while jumps are written, and end the one behind it.
	through, end JournalState
	writes       []write
	// prior is noted as replaced in the end, nil for none, and stale at once.
	prior *area
	stale []*area
	// header is the journal as it must lie in the area when the process is
	// stopped. fresh tells that it does not lie there yet, and mapped that the
	// area has its pages.
	header []byte
	// touched tells that a jump has led into the area, or may have.
	fresh, mapped, touched bool
	layout                 splice.Layout
	content                *splice.Areas
	// watch is what must be as it was when all this was prepared.
	watch []watch
	// busy is code that no thread may be in.
	busy []busyRange
}

// write is one jump that is written or taken out.
type write struct {
	name     string
	entry    uint64
	from, to [jumpSize]byte
}

// watch is bytes of the process that a unit has been made with.
type watch struct {
	addr uint64
	want []byte
	or   []byte // or this, nil for nothing else
	what string
}

// busyRange is code that no thread may be in, or return to. Where jump is not
// 0 a jump is about to be written there; with entryOnly only its bytes matter.
type busyRange struct {
	name string
	span
	jump      uint64
	entryOnly bool
}

// newUnit prepares what puts a file into an object, whatever stands there now.
// It returns nil where nothing is to be done.
func newUnit(s *sight, o *proc.Object, file *prepared, patch string) (*unit, error) {
	prior, err := s.soleInEffect(o)
	if err != nil {
		return nil, err
	}
	u := &unit{file: file, object: o, prior: prior, stale: s.stale(o, prior), through: Applying, end: InEffect}
	if prior != nil {
		u.watch = append(u.watch, watch{addr: prior.base, want: prior.raw, what: "the journal of the patch that is there"})
	}
	u.journal = &journal{bias: o.Bias, patch: patch, buildID: file.BuildID, name: file.Name, digest: file.digest}
	if err := u.functions(s); err != nil {
		return nil, err
	}
	if prior != nil && prior.digest == file.digest && prior.patch == patch {
		return nil, nil // its jumps were compared with the rest
	}
	return u, u.leftovers(s)
}

// soleInEffect is the area that is in effect at an object, or nil.
func (s *sight) soleInEffect(o *proc.Object) (*area, error) {
	areas := s.inEffect(o)
	switch len(areas) {
	case 0:
		return nil, nil
	case 1:
		return areas[0], nil
	}
	return nil, code.New("TS9638", o.Name, fmt.Sprintf("%d journals say that they are in effect", len(areas)))
}

// functions makes a record for each function of the file, from what is in the
// process now.
func (u *unit) functions(s *sight) error {
	quiet := u.file.quiet
	for i := range u.file.Functions {
		f := &u.file.Functions[i]
		r := record{function: f.Old + u.object.Bias, size: f.Size, skip: uint8(f.Skip), policy: f.Policy, sum: u.file.sums[i]}
		if err := u.observe(s, &r, f.Name, u.prior); err != nil {
			return err
		}
		u.journal.records = append(u.journal.records, r)
		u.busy = append(u.busy, busyRange{f.Name, span{r.function, max(r.function+uint64(r.size), r.entry()+jumpSize)}, r.entry(), !quiet})
		if quiet {
			for _, p := range f.Parts {
				u.busy = append(u.busy, busyRange{name: f.Name, span: span{p.Start + u.object.Bias, p.Start + p.Size + u.object.Bias}})
			}
		}
	}
	if quiet && u.prior != nil {
		u.busy = append(u.busy, u.prior.newCode())
	}
	return nil
}

// newCode is the code that an area brought.
func (j *journal) newCode() busyRange {
	at := j.base + j.text
	return busyRange{name: "the code of " + j.patch, span: span{at, at + j.textSize}}
}

// observe reads a function, compares it with what the file that it comes from
// has, and fills in what is at its entry: by known where that has redirected it.
func (u *unit) observe(s *sight, r *record, name string, known *area) error {
	entry := r.entry()
	if entry/pageSize != (entry+jumpSize-1)/pageSize {
		return code.New("TS9643", name, fmt.Sprintf("at %#x", entry))
	}
	end := max(r.function+uint64(r.size), entry+jumpSize)
	if r.function < u.object.Base || end > u.object.End || end < r.function || !s.covers(span{r.function, end}, isCode) {
		return code.New("TS9635", u.object.Name, name+" is not in its code")
	}
	now := make([]byte, end-r.function)
	if err := readFull(s.mem, now, r.function); err != nil {
		return err
	}
	u.watch = append(u.watch, watch{addr: r.function, want: now, what: name})
	copy(r.before[:], now[r.skip:])
	r.original = r.before
	if before := known.recordOf(r.function); before != nil {
		if r.before != before.after {
			return code.New("TS9638", name, "what stands at its entry is not what the journal says")
		}
		r.original = before.original
	}
	return shipped(r, now, name)
}

// shipped compares a function with the original bytes put back with its digest.
func shipped(r *record, now []byte, name string) error {
	whole := slices.Clone(now)
	copy(whole[r.skip:], r.original[:])
	if sha256.Sum256(whole[:r.size]) == r.sum {
		return nil
	}
	why := "its bytes are not those that the patch was made for"
	switch {
	case now[r.skip] == jumpOpcode || now[0] == jumpOpcode:
		why = "a jump of someone else stands at its entry"
	case bytes.IndexByte(now, 0xcc) >= 0:
		why = "its bytes are not those that the patch was made for, as with a breakpoint or a probe"
	}
	return code.New("TS9631", name, why)
}

// recordOf finds the record of the function at an address; j may be nil.
func (a *area) recordOf(function uint64) *record {
	if a == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(a.records, function, func(r record, f uint64) int { return cmp.Compare(r.function, f) })
	if !ok {
		return nil
	}
	return &a.records[i]
}

// leftovers adds what the patch that is there has replaced and this one does not.
func (u *unit) leftovers(s *sight) error {
	if u.prior == nil {
		return nil
	}
	for i := range u.prior.records {
		old := &u.prior.records[i]
		if !old.redirects() || slices.ContainsFunc(u.journal.records, func(r record) bool { return r.function == old.function }) {
			continue
		}
		r := record{function: old.function, size: old.size, skip: old.skip, policy: old.policy, sum: old.sum}
		name := fmt.Sprintf("a function at %#x", r.function)
		if err := u.observe(s, &r, name, u.prior); err != nil {
			return err
		}
		u.journal.records = append(u.journal.records, r)
		u.busy = append(u.busy, busyRange{name, span{r.function, r.entry() + jumpSize}, r.entry(), true})
	}
	order.Sort(u.journal.records, func(a, b record) int { return cmp.Compare(a.function, b.function) })
	return nil
}

// settle decides where the area lies and makes its bytes. New ones are placed,
// and an old one of the same file is taken up again where it can be.
func (u *unit) settle(s *sight, res *resolved, random func(uint64) uint64) error {
	u.layout = u.file.Layout(uint32(journalSize(u.journal)))
	if u.layout.Size+2*guard > maxArea {
		return code.New("TS9633", u.object.Name, fmt.Sprintf("it would take %d bytes", u.layout.Size))
	}
	for _, old := range s.areas {
		if old.object != u.object || old.digest != u.file.digest || old.state != TakenOut && old.state != Replaced {
			continue
		}
		if old.orphan && len(u.file.Data)+int(u.file.BSS) > 0 {
			continue // its data is of the life of the object that is gone
		}
		if err := u.lay(old.base, res); err != nil {
			continue
		}
		if same, err := u.isThere(s, old); err != nil {
			return err
		} else if same {
			u.fresh, u.mapped = false, true
			u.stale = slices.DeleteFunc(u.stale, func(a *area) bool { return a == old })
			return u.encode(old.state)
		}
	}
	base, ok := place(s.neighbours(), span{u.object.Base, u.object.End}, u.layout.Size, u.file.Limit(), random)
	if !ok {
		return code.New("TS9633", u.object.Name, fmt.Sprintf("%d bytes", u.layout.Size))
	}
	u.fresh, u.mapped = true, false
	if err := u.lay(base, res); err != nil {
		return err
	}
	return u.encode(Prepared)
}

// lay makes the bytes of the area for a place.
func (u *unit) lay(base uint64, res *resolved) error {
	p := u.layout.Place(base, u.object.Bias)
	p.Slots, p.Imports = res.slots, res.imports
	var err error
	if u.content, err = u.file.Resolve(p); err != nil {
		return err
	}
	j := u.journal
	j.base, j.size, j.text, j.data, j.textSize = base, u.layout.Size, u.layout.Text, u.layout.Data, uint64(len(u.file.Text))
	j.unwind, j.unwindSize = 0, 0
	if u.file.Unwind.Size != 0 {
		j.unwind, j.unwindSize = u.layout.ROData+u.file.Unwind.Start, u.file.Unwind.Size
	}
	if u.prior != nil {
		j.prior, j.generation = u.prior.base, u.prior.generation+1
	}
	next := 0
	u.writes = u.writes[:0]
	for i := range j.records {
		r := &j.records[i]
		r.after = r.original
		name := fmt.Sprintf("a function at %#x", r.function)
		if next < len(u.file.Functions) && u.file.Functions[next].Old+u.object.Bias == r.function {
			f := &u.file.Functions[next]
			if r.after, err = splice.Jump(r.entry(), p.Text+uint64(f.New)); err != nil {
				return err
			}
			name = f.Name
			next++
		}
		if r.after != r.before {
			u.writes = append(u.writes, write{name, r.entry(), r.before, r.after})
		}
	}
	return nil
}

// hasParts tells whether all parts of the unit's area are mapped at a place.
func (s *sight) hasParts(u *unit, base uint64) bool {
	for _, part := range u.layout.Parts {
		kind := func(m proc.Mapping) bool {
			return m.Read && m.Write == part.Write && m.Exec == part.Exec && !m.Shared && !m.File()
		}
		if !s.covers(span{base + part.Offset, base + part.Offset + part.Size}, kind) {
			return false
		}
	}
	return true
}

// isThere tells whether an old area holds what this one would: constants and
// code to the byte, and data of its own life.
func (u *unit) isThere(s *sight, old *area) (bool, error) {
	if old.size != u.layout.Size || old.text != u.layout.Text || old.data != u.layout.Data || old.textSize != uint64(len(u.file.Text)) {
		return false, nil
	}
	if !s.hasParts(u, old.base) {
		return false, nil
	}
	for _, c := range u.chunks() {
		if c.writable {
			continue
		}
		if same, err := s.holds(c.addr, c.data); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// chunk is bytes of an area at their address.
type chunk struct {
	addr     uint64
	data     []byte
	writable bool
	name     string
}

// chunks are the bytes of the area but for the journal.
func (u *unit) chunks() []chunk {
	var all []chunk
	for _, c := range []chunk{
		{u.journal.base + u.layout.ROData, u.content.ROData, false, "rodata"},
		{u.journal.base + u.layout.Text, u.content.Text, false, "text"},
		{u.journal.base + u.layout.Data, u.content.Data, true, "data"},
	} {
		if len(c.data) > 0 {
			all = append(all, c)
		}
	}
	return all
}

// encode makes the header. When the process is stopped, it and the code must be
// there: another patcher may have given a fresh area back.
func (u *unit) encode(state JournalState) error {
	var err error
	u.header, err = u.journal.encode(state)
	if err != nil {
		return fmt.Errorf("%s: %w", u.object.Name, err)
	}
	return nil
}

// errChanged says that the process is not any more as it was looked at.
var errChanged = errors.New("the process has changed meanwhile")
