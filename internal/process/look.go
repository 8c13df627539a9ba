// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/splice"
)

const (
	// Of all journals of a process. What a process forges beyond is not looked at.
	maxAreas         = 4096
	maxJournalBytes  = 16 << 20
	maxFunctionBytes = 64 << 20 // of code that they say to have replaced
)

// sight is what a process looked like at one time.
type sight struct {
	mem     io.ReaderAt
	maps    []proc.Mapping
	objects []proc.Object
	areas   []*area
}

// area is a journal that was found in a process.
type area struct {
	*journal
	state  JournalState
	raw    []byte // the journal as it was found
	object *proc.Object
	// orphan tells that its jumps have gone with an object that was unloaded and
	// loaded again in the same place. It counts as taken out.
	orphan bool
	// superseded tells that a later area in effect says that it replaces this one:
	// the patcher was killed before it could note that here.
	superseded bool
}

// look reads what the process maps, and finds the areas in it.
func look(ctx context.Context, p *proc.Process) (*sight, error) {
	s := &sight{mem: p.Memory(ctx)}
	var err error
	if s.maps, err = p.Mappings(ctx); err != nil {
		return nil, err
	}
	if s.objects, err = p.ObjectsIn(ctx, s.maps); err != nil {
		return nil, err
	}
	return s, s.findAreas()
}

// findAreas looks for journals where one can be: at the start of private
// anonymous R-- pages. What is not wholly right is none.
func (s *sight) findAreas() error {
	total, functions := 0, uint64(0)
	for _, m := range s.maps {
		if m.File() || !m.Read || m.Write || m.Exec || m.Shared || m.Path != "" && !strings.HasPrefix(m.Path, "[anon") {
			continue
		}
		var head [headerSize]byte
		if err := readFull(s.mem, head[:], m.Start); err != nil {
			if unreadable(err) {
				continue
			}
			return err
		}
		n, ok := journalLength(head[:])
		if !ok || uint64(n) > m.End-m.Start || total+n > maxJournalBytes || len(s.areas) == maxAreas {
			continue
		}
		total += n
		raw := make([]byte, n)
		if err := readFull(s.mem, raw, m.Start); err != nil {
			if unreadable(err) {
				continue
			}
			return err
		}
		j, state, err := decodeJournal(raw, m.Start)
		if err != nil {
			continue
		}
		a := &area{journal: j, state: state, raw: raw}
		if functions += j.functionBytes(); functions > maxFunctionBytes {
			break
		}
		if !s.belongs(a) {
			continue
		}
		if a.orphan, err = s.orphaned(a); err != nil {
			return err
		}
		if a.orphan {
			a.state = TakenOut
		}
		s.areas = append(s.areas, a)
	}
	s.supersede()
	return nil
}

// supersede finds the areas of which later ones say that they replace them.
func (s *sight) supersede() {
	type place struct {
		object *proc.Object
		base   uint64
	}
	latest := map[place]uint64{}
	for _, a := range s.areas {
		if p := (place{a.object, a.prior}); a.state == InEffect && a.prior != 0 {
			latest[p] = max(latest[p], a.generation)
		}
	}
	for _, a := range s.areas {
		a.superseded = latest[place{a.object, a.base}] > a.generation
	}
}

// orphaned tells whether an area says that it is in effect, and all its
// functions are as they were shipped.
func (s *sight) orphaned(a *area) (bool, error) {
	if a.state != InEffect {
		return false, nil
	}
	redirected := false
	for i := range a.records {
		r := &a.records[i]
		if !r.redirects() {
			continue
		}
		redirected = true
		if plain, err := s.holds(r.entry(), r.original[:]); err != nil || !plain {
			return false, err
		}
	}
	return redirected, nil
}

// belongs compares a journal with the process around it: the object that it
// names is there, its functions lie in that object's code, and its own code
// where the journal says.
func (s *sight) belongs(a *area) bool {
	i := slices.IndexFunc(s.objects, func(o proc.Object) bool { return o.BuildID == a.buildID && o.Bias == a.bias })
	if i < 0 {
		return false
	}
	a.object = &s.objects[i]
	text := span{a.base + a.text, a.base + a.text + a.textSize}
	if !s.covers(text, func(m proc.Mapping) bool { return isCode(m) && !m.File() }) {
		return false
	}
	for i := range a.records {
		r := &a.records[i]
		code := span{r.function, max(r.function+uint64(r.size), r.entry()+jumpSize)}
		if code.start < a.object.Base || code.end > a.object.End || !s.covers(code, isCode) {
			return false
		}
	}
	return true
}

// isCode tells a mapping in whose pages jumps may be written: each process has
// its own copy of them then.
func isCode(m proc.Mapping) bool { return m.Exec && !m.Write && !m.Shared }

// behind is the index of the first mapping that ends behind an address.
func (s *sight) behind(at uint64) int {
	i, _ := slices.BinarySearchFunc(s.maps, at, func(m proc.Mapping, at uint64) int {
		if m.End <= at {
			return -1
		}
		return 1
	})
	return i
}

// within are the mappings that lie in a span, if only in part.
func (s *sight) within(what span) []proc.Mapping {
	i := s.behind(what.start)
	n := i
	for n < len(s.maps) && s.maps[n].Start < what.end {
		n++
	}
	return s.maps[i:n]
}

// covers tells whether all of a span lies in mappings of some kind.
func (s *sight) covers(what span, kind func(proc.Mapping) bool) bool {
	i := s.behind(what.start)
	for at := what.start; at < what.end; i++ {
		if i >= len(s.maps) || s.maps[i].Start > at || !kind(s.maps[i]) {
			return false
		}
		at = s.maps[i].End
	}
	return true
}

// inEffect finds the area whose jumps are written at an object. Of one that
// was replaced by a patcher that was killed before it could note that, the
// later one is meant.
func (s *sight) inEffect(o *proc.Object) []*area {
	var found []*area
	for _, a := range s.areas {
		if a.state == InEffect && a.object == o && !a.superseded {
			found = append(found, a)
		}
	}
	return found
}

// unfinished are the areas of which a killed patcher left jumps half written.
func (s *sight) unfinished() []*area {
	var found []*area
	for _, a := range s.areas {
		if a.state == Applying || a.state == Reverting {
			found = append(found, a)
		}
	}
	return found
}

// unused are the areas that no jump has ever led to: so they say, and so it is.
func (s *sight) unused() ([]*area, error) {
	var found []*area
	for _, a := range s.areas {
		used := a.state != Prepared
		for i := range a.records {
			if r := &a.records[i]; !used && r.redirects() {
				var err error
				if used, err = s.holds(r.entry(), r.after[:]); err != nil {
					return nil, err
				}
			}
		}
		if !used {
			found = append(found, a)
		}
	}
	return found, nil
}

// stale are areas of an object that say that they are in effect and are not:
// the patcher that replaced them was killed before it could note that, or the
// object was loaded anew.
func (s *sight) stale(o *proc.Object, inEffect *area) []*area {
	var found []*area
	for _, a := range s.areas {
		if a.object == o && a != inEffect && (a.orphan || a.state == InEffect) {
			found = append(found, a)
		}
	}
	return found
}

// at finds the area at an address.
func (s *sight) at(base uint64) *area {
	for _, a := range s.areas {
		if base != 0 && a.base == base {
			return a
		}
	}
	return nil
}

// neighbours is what an area must keep clear of.
func (s *sight) neighbours() neighbours {
	n := neighbours{used: make([]span, 0, len(s.maps)+2)}
	for _, m := range s.maps {
		n.used = append(n.used, span{m.Start, m.End})
		switch m.Path {
		case "[heap]":
			n.heap = span{m.Start, m.End}
		case "[stack]":
			n.stack = span{m.Start, m.End}
		}
	}
	return n
}

// state tells what an area is to people.
func (s *sight) installed(a *area) Installed {
	n := 0
	for i := range a.records {
		if a.records[i].redirects() {
			n++
		}
	}
	state := a.state
	if state == InEffect && a.superseded {
		state = Replaced
	}
	return Installed{
		Patch: a.patch, BuildID: a.buildID, Name: a.name, Path: a.object.Path, Bias: a.bias, Digest: a.digest,
		State: state, Functions: n, Area: splice.Range{Start: a.base, Size: a.size},
	}
}

// holds tells whether bytes lie at an address.
func (s *sight) holds(at uint64, want []byte) (bool, error) {
	got := make([]byte, len(want))
	if err := readFull(s.mem, got, at); err != nil {
		return false, err
	}
	return bytes.Equal(got, want), nil
}
