// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
)

// The journal is one file of lines, each a CRC-32C in hex, a space and a
// Record as JSON. A line is on the medium before what it announces happens.
// The file is the only memory of the agent that matters: the state is what
// its lines add up to, and the reports that the server has not stored yet are
// lines too, so that nothing can be done without being reported.
//
// A crash may leave a part of the last line, which says nothing that has
// happened; it is cut off. A bad line anywhere else means that the medium or
// a person changed the file. Then the agent applies nothing until a person
// has looked (TS9403).
const (
	journalName = "journal"
	journalMax  = 256 << 10 // bytes, before it is written anew as one line
	maxLine     = 32 << 20
)

// Record is one line of the journal.
type Record struct {
	Seq int64 `json:"seq"`
	// One of these.
	Report *api.Report `json:"report,omitempty"` // something happened, and the server will hear of it
	Sent   []string    `json:"sent,omitempty"`   // ids of reports that the server has stored
	Hold   *bool       `json:"hold,omitempty"`
	ByHand *bool       `json:"by_hand,omitempty"` // with Patch: a person took it out, or lets it in again
	Clear  string      `json:"clear,omitempty"`   // id of a live patch whose quarantine ends, or name of a fixed module
	Stop   bool        `json:"stop,omitempty"`    // the agent ended in good order
	// Modules is what is about to be, or is now, below updates/tsugi.
	Modules *Modules   `json:"modules,omitempty"`
	Bad     *BadModule `json:"bad_module,omitempty"` // a fixed module is kept out
	Members *Members   `json:"members,omitempty"`    // a live patch is about to bring them
	Base    *State     `json:"base,omitempty"`       // everything before this line
	// Patch of ByHand.
	Patch *api.Patch `json:"patch,omitempty"`
	// Package of Report, when it is not about a live patch of the kernel.
	Package *PackageRef `json:"package,omitempty"`
}

func (r *Record) kinds() int {
	n := 0
	for _, set := range []bool{r.Report != nil, r.Sent != nil, r.Hold != nil, r.ByHand != nil, r.Clear != "", r.Stop, r.Modules != nil, r.Bad != nil, r.Members != nil, r.Base != nil} {
		if set {
			n++
		}
	}
	return n
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (r *Record) line() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if len(b) > maxLine {
		return nil, fmt.Errorf("journal: a record of %d bytes", len(b))
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(b, castagnoli), b), nil
}

func parseLine(line []byte) (*Record, error) {
	sum, body, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(sum) != 8 || len(body) > maxLine {
		return nil, errors.New("not a record")
	}
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || uint32(want) != crc32.Checksum(body, castagnoli) {
		return nil, errors.New("the checksum is wrong")
	}
	var r Record
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, err
	}
	if r.kinds() != 1 || r.Seq < 1 || (r.ByHand != nil) != (r.Patch != nil) || r.Package != nil && (r.Report == nil || r.Package.ID == "") {
		return nil, errors.New("it says nothing, or more than one thing")
	}
	return &r, nil
}

// ParseJournal reads a journal and adds it up. good is where the last whole
// line ends.
func ParseJournal(b []byte) (s *State, good int64, err error) {
	s = newState()
	for n := 1; int(good) < len(b); n++ {
		end := bytes.IndexByte(b[good:], '\n')
		if end < 0 {
			break // torn: it was being written when the power went
		}
		r, err := parseLine(b[good : int(good)+end])
		if err == nil && r.Seq != s.Seq+1 && r.Base == nil {
			err = fmt.Errorf("record %d follows record %d", r.Seq, s.Seq)
		}
		if err == nil && r.Base != nil && n > 1 {
			err = errors.New("a summary in the middle")
		}
		if err != nil {
			if int(good)+end+1 == len(b) {
				break // a torn line whose end happens to look whole
			}
			return nil, 0, code.New("TS9403", journalName, fmt.Sprintf("line %d", n)).With(err)
		}
		s.add(r)
		good += int64(end) + 1
	}
	return s, good, nil
}

// journal is the open file. Only one process has it open (see lockDir).
type journal struct {
	disk  Disk
	now   func() time.Time
	wake  chan struct{} // has one element after an append
	mu    sync.Mutex
	state *State
	good  int64
	bad   error // why nothing can be written, if so
}

// openJournal never fails for what the file holds: a damaged journal is
// opened as bad, so that status can tell.
func openJournal(disk Disk) *journal {
	j := &journal{disk: disk, now: time.Now, wake: make(chan struct{}, 1), state: newState()}
	b, err := disk.ReadFile(journalName)
	if errors.Is(err, fs.ErrNotExist) {
		return j
	}
	if err != nil {
		j.bad = diskProblem(journalName, err)
		return j
	}
	s, good, err := ParseJournal(b)
	if err != nil {
		j.bad = err
		return j
	}
	j.state, j.good = s, good
	return j
}

// add puts a record on the medium and then into the state.
func (j *journal) add(r *Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if code.Of(j.bad) == "TS9403" {
		return j.bad
	}
	r.Seq = j.state.Seq + 1
	line, err := r.line()
	if err != nil {
		return err
	}
	if err := j.disk.WriteAt(journalName, j.good, line); err != nil {
		j.bad = err
		return err
	}
	j.bad = nil
	j.good += int64(len(line))
	j.state.add(r)
	select {
	case j.wake <- struct{}{}:
	default:
	}
	if j.good > journalMax {
		// Not fatal: the long file is as true as the short one would be.
		_ = j.compact()
	}
	return nil
}

// compact writes the journal anew as one line. The caller holds the lock.
func (j *journal) compact() error {
	base := j.state.clone()
	line, err := (&Record{Seq: base.Seq, Base: base}).line()
	if err != nil {
		return err
	}
	if int64(len(line))*2 > j.good {
		return nil // little to win
	}
	if err := j.disk.WriteFile(journalName, line); err != nil {
		return err
	}
	j.good = int64(len(line))
	return nil
}

// report adds a report with an id and a time; about is the package that it is
// about, nil for the kernel.
func (j *journal) report(r api.Report, about *PackageRef) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	r.ID, r.Time = id.String(), j.now().UnixMilli()
	return j.add(&Record{Report: &r, Package: about})
}

// view is a copy of the state, and why the journal can't be written, if so.
func (j *journal) view() (*State, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.clone(), j.bad
}
