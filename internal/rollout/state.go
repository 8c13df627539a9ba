// SPDX-License-Identifier: Apache-2.0

package rollout

import "time"

// Phase is where a rollout stands.
type Phase string

// The phases. Halted waits for a person; Done and Aborted are the ends.
const (
	Pending   Phase = "pending" // for approvals, or its time
	Running   Phase = "running"
	Halted    Phase = "halted"
	Reverting Phase = "reverting" // machines are told to take it out
	Done      Phase = "done"
	Aborted   Phase = "aborted"
)

// Over reports whether nothing will happen any more.
func (p Phase) Over() bool { return p == Done || p == Aborted }

// Status is where a machine stands in a rollout.
type Status string

// The statuses of a machine that was offered the live patch.
const (
	Offered   Status = "offered"   // it may have it, and has not begun
	Begun     Status = "begun"     // it loads it, or is watched until it settles
	Well      Status = "well"      // it settled
	Failed    Status = "failed"    // see Record.Failure
	Withdrawn Status = "withdrawn" // it had not begun; it may be offered it again
	Late      Status = "late"      // it did not begin in time: it gets it after the rollout
	Left      Status = "left"      // it went to another tier or kernel, or is decommissioned
)

// Record is what is known of a machine that was offered the live patch. Times
// are of the server.
type Record struct {
	Status  Status    `json:"status"`
	Wave    int       `json:"wave"`    // in which it was offered it
	Offers  int       `json:"offers"`  // how often
	Offered time.Time `json:"offered"` // last
	// Begun is when it began to load it; zero: it has not had it. Boot is the
	// boot in which it did, or, before that, in which it was offered it.
	Begun   time.Time `json:"begun,omitzero"`
	Boot    string    `json:"boot,omitempty"`
	Settled time.Time `json:"settled,omitzero"` // when it was well
	// Failure is the gravest thing that went wrong, and FailedAt when. A boot or
	// a silence, which also come without any live patch, are kept apart:
	// Break, and when it booted or was last heard of.
	Failure  Failure   `json:"failure,omitempty"`
	FailedAt time.Time `json:"failed_at,omitzero"`
	Break    Failure   `json:"break,omitempty"`
	BreakAt  time.Time `json:"break_at,omitzero"`
	// Forgiven and Excused say that Failure and Break are from before a person
	// resumed the rollout: they count no more.
	Forgiven bool `json:"forgiven,omitempty"`
	Excused  bool `json:"excused,omitempty"`
}

// failed reports whether Failure counts, broken whether Break does: once is
// enough for a machine that crashed.
func (r *Record) failed() bool { return r.Failure != "" && !r.Forgiven }

func (r *Record) broken() bool {
	return r.Break != "" && !r.Excused && !(r.failed() && r.Failure.grave())
}

// inFlight reports whether the machine is on its way.
func (r *Record) inFlight() bool { return r.Status == Offered || r.Status == Begun }

// counts reports whether the machine takes a place of its wave.
func (r *Record) counts() bool {
	return !r.Begun.IsZero() || r.Status != Withdrawn && r.Status != Late && r.Status != Left
}

// Approval is a person's yes.
type Approval struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
}

// State is what was decided so far. It changes by Take, and by Act.
type State struct {
	Rollout   string     `json:"rollout"` // id
	Phase     Phase      `json:"phase"`
	Reason    string     `json:"reason,omitempty"` // of the phase
	Since     time.Time  `json:"since"`            // of the phase
	By        string     `json:"by,omitempty"`     // who halted or aborted it; "": it did by itself
	Wave      int        `json:"wave"`             // index in Plan.Waves
	Opened    time.Time  `json:"opened,omitzero"`  // when the wave began
	Soaking   time.Time  `json:"soaking,omitzero"` // since when all of its machines have settled
	Skip      bool       `json:"skip,omitempty"`   // what is left of the wave
	First     time.Time  `json:"first,omitzero"`   // when the first machine began to load it
	Told      time.Time  `json:"told,omitzero"`    // when the recall was last asked for
	Emergency bool       `json:"emergency,omitempty"`
	Approvals []Approval `json:"approvals,omitempty"`
	Asked     string     `json:"asked,omitempty"` // who asked for all machines at once; "": the plan does
	// Records are of the machines that were offered it, by id.
	Records map[string]*Record `json:"records,omitempty"`
}

// New is the state of a rollout that has not begun.
func New(rollout string, p *Plan, now time.Time) *State {
	return &State{Rollout: rollout, Phase: Pending, Since: now, Emergency: p.Emergency, Records: map[string]*Record{}}
}

// Admits reports whether a machine of the rollout's tier may be given the
// live patch. When the rollout is done each may.
func (s *State) Admits(machine string) bool {
	if s.Phase == Done {
		return true
	}
	r := s.Records[machine]
	return r != nil && (!r.Begun.IsZero() || r.Status == Offered)
}

// Needed is how many people have to approve what is asked for.
func (s *State) Needed(p *Plan) int {
	if s.Emergency {
		return max(p.Approvals, minEmergency)
	}
	return p.Approvals
}

// urgent reports whether all machines get it at once.
func (s *State) urgent(p *Plan) bool { return s.Emergency && len(s.Approvals) >= s.Needed(p) }

// What is the kind of a step.
type What string

// The kinds of steps. Those about machines name them.
const (
	Begin    What = "begin"    // the rollout
	Open     What = "open"     // the next wave
	Offer    What = "offer"    // to these machines
	Withdraw What = "withdraw" // the offer: they have not begun
	MarkLate What = "late"     // the same, and they come after the rollout
	MarkLeft What = "left"     // the same, and they are not in scope any more
	MarkOn   What = "on"       // they began to load it
	MarkBack What = "back"     // they were silent, and are heard of again in the same boot
	MarkWell What = "well"
	MarkFail What = "fail"
	Soak     What = "soak"   // all machines of the wave have settled
	Halt     What = "halt"   // offer nothing more
	Revert   What = "revert" // turn to taking it out of machines
	Recall   What = "recall" // tell machines to take it out: repeated until Facts.Recalled
	Finish   What = "finish" // done: all machines may have it
	Close    What = "close"  // aborted, and it is out of the machines
)

// Mark is a machine of a step.
type Mark struct {
	Machine string    `json:"machine"`
	At      time.Time `json:"at,omitzero"`     // when it began to load it
	Boot    string    `json:"boot,omitempty"`  // in which
	Failed  time.Time `json:"failed,omitzero"` // of MarkFail: when that befell it
}

// Step is what to do next.
type Step struct {
	What     What    `json:"what"`
	Machines []Mark  `json:"machines,omitempty"`
	Failure  Failure `json:"failure,omitempty"` // of MarkFail
	Wave     int     `json:"wave"`
	Why      string  `json:"why"`
}

// Take makes a step part of the state. It does not fail: a step of Next fits
// the state that it was made from.
func (s *State) Take(st Step, now time.Time) {
	turn := func(p Phase) { s.Phase, s.Reason, s.Since, s.By = p, st.Why, now, "" }
	switch st.What {
	case Begin:
		turn(Running)
		s.Wave, s.Opened = 0, now
	case Open:
		s.Wave, s.Opened, s.Soaking, s.Skip = st.Wave, now, time.Time{}, false
	case Soak:
		s.Soaking = now
	case Halt:
		turn(Halted)
	case Revert:
		turn(Reverting)
	case Finish:
		turn(Done)
	case Close:
		turn(Aborted)
	case Recall:
		s.Told = now
	default:
		for _, m := range st.Machines {
			s.mark(st, m, now)
		}
	}
}

// mark changes the record of one machine.
func (s *State) mark(st Step, m Mark, now time.Time) {
	r := s.Records[m.Machine]
	if r == nil {
		r = &Record{}
		if s.Records == nil {
			s.Records = map[string]*Record{}
		}
		s.Records[m.Machine] = r
	}
	if !m.At.IsZero() && r.Begun.IsZero() {
		r.Begun, r.Boot = m.At, m.Boot
		if s.First.IsZero() || m.At.Before(s.First) {
			s.First = m.At
		}
	}
	switch st.What {
	case Offer:
		r.Status, r.Wave, r.Offered, r.Boot = Offered, st.Wave, now, m.Boot
		r.Offers++
	case Withdraw:
		r.Status = Withdrawn
	case MarkLate:
		r.Status = Late
	case MarkLeft:
		r.Status = Left
	case MarkOn:
		r.Status = Begun
	case MarkBack:
		r.Break, r.BreakAt, r.Excused = "", time.Time{}, false
		if r.Failure == "" {
			r.Status = Begun
		}
	case MarkWell:
		r.Status, r.Settled = Well, now
	case MarkFail:
		r.Status = Failed
		if st.Failure.usual() {
			r.Break, r.BreakAt, r.Excused = st.Failure, m.Failed, false
		} else {
			r.Failure, r.FailedAt, r.Forgiven = st.Failure, m.Failed, false
		}
	}
}
