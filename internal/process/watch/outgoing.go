// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// outgoing is what waits for the reader, of the users in turn.
type outgoing struct {
	users map[uint32][]Event
	turn  []uint32
	count int
}

// outgoingAtMost bounds what waits. What does not fit is found again by the
// next look at all processes.
const outgoingAtMost = 1 << 16

func (o *outgoing) push(uid uint32, e Event) bool {
	if o.count == outgoingAtMost {
		return false
	}
	if o.users == nil {
		o.users = map[uint32][]Event{}
	}
	if _, ok := o.users[uid]; !ok {
		o.turn = append(o.turn, uid)
	}
	o.users[uid] = append(o.users[uid], e)
	o.count++
	return true
}

// head is whose turn it is.
func (o *outgoing) head() (Event, bool) {
	if len(o.turn) == 0 {
		return Event{}, false
	}
	return o.users[o.turn[0]][0], true
}

// pop takes the head away.
func (o *outgoing) pop() {
	uid := o.turn[0]
	o.turn = o.turn[1:]
	o.count--
	if rest := o.users[uid][1:]; len(rest) > 0 {
		o.users[uid] = rest
		o.turn = append(o.turn, uid)
	} else {
		delete(o.users, uid)
	}
}

// told remembers what was told, by number of the process, so that it is told
// once. Who hears that a process has executed a program deletes it here:
// without address space randomisation, one run looks like the next.
type told map[int]telling

type telling struct {
	start    uint64
	program  uint64
	buildIDs string
	round    int // of looks at all in which it was last seen or told
}

// news tells whether a finding was not told yet, and notes it.
func (t told) news(f proc.Finding, round int) bool {
	ids := strings.Join(f.BuildIDs, " ")
	was, known := t[f.ID.PID]
	same := known && was.start == f.ID.Start && was.program == f.Program && subset(f.BuildIDs, was.buildIDs)
	if !same {
		t[f.ID.PID] = telling{f.ID.Start, f.Program, ids, round}
	} else {
		was.round = round
		t[f.ID.PID] = was
	}
	return !same
}

// subset tells whether each of ids is in the list that was told.
func subset(ids []string, list string) bool {
	known := strings.Fields(list)
	return !slices.ContainsFunc(ids, func(id string) bool { return !slices.Contains(known, id) })
}

// forget drops what was not seen since a round.
func (t told) forget(round int) {
	for pid, was := range t {
		if was.round < round {
			delete(t, pid)
		}
	}
}
