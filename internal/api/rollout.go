// SPDX-License-Identifier: Apache-2.0

package api

// RolloutPlan is how a rollout goes, in the words of docs/rollouts.md: amounts
// are such as "5" or "0.5%", durations such as "90s", "15m", "4h" or "2d", times
// are of RFC 3339. What is left out is filled as that page says.
type RolloutPlan struct {
	Waves       []RolloutWave   `json:"waves,omitempty" maxItems:"50"`
	MaxInFlight string          `json:"max_in_flight,omitempty" maxLength:"20"`
	Ramp        float64         `json:"ramp,omitempty" minimum:"0" maximum:"1000"`
	Settle      string          `json:"settle,omitempty" maxLength:"20"`
	Watch       string          `json:"watch,omitempty" maxLength:"20"`
	Patience    string          `json:"patience,omitempty" maxLength:"20"`
	Windows     []string        `json:"windows,omitempty" maxItems:"50"`
	Freezes     []RolloutFreeze `json:"freezes,omitempty" maxItems:"50"`
	Timezone    string          `json:"timezone,omitempty" maxLength:"64"`
	Start       string          `json:"start,omitempty" maxLength:"40"`
	Budget      *RolloutBudget  `json:"budget,omitempty"`
	Revert      bool            `json:"revert,omitempty"` // when it halts over budget, take it out of all machines
	Emergency   bool            `json:"emergency,omitempty"`
	Approvals   int             `json:"approvals,omitempty" minimum:"0" maximum:"10"`
}

// RolloutWave is a part of the machines: those up to an amount, and how long
// to wait then.
type RolloutWave struct {
	Upto string `json:"upto" minLength:"1" maxLength:"20"`
	Soak string `json:"soak,omitempty" maxLength:"20"`
}

// RolloutFreeze is a time in which nothing is changed.
type RolloutFreeze struct {
	From   string `json:"from" maxLength:"40"`
	To     string `json:"to" maxLength:"40"`
	Reason string `json:"reason" maxLength:"1000"`
}

// RolloutBudget is what may go wrong.
type RolloutBudget struct {
	Crashes  RolloutLimit `json:"crashes"`
	Failures RolloutLimit `json:"failures"`
}

// RolloutLimit is the greater of a count and a percentage.
type RolloutLimit struct {
	Count   int     `json:"count" minimum:"0"`
	Percent float64 `json:"percent,omitempty" minimum:"0" maximum:"100"`
}

// RolloutPhase is where a rollout stands.
type RolloutPhase string

// The phases. The last two are the ends.
const (
	RolloutPending   RolloutPhase = "pending" // for approvals, or its time
	RolloutRunning   RolloutPhase = "running"
	RolloutHalted    RolloutPhase = "halted"    // waits for a person
	RolloutReverting RolloutPhase = "reverting" // machines are told to take it out
	RolloutDone      RolloutPhase = "done"
	RolloutAborted   RolloutPhase = "aborted"
)

// NewRollout asks for a rollout. If the tier does not have the live patch yet,
// it is promoted into it, for the machines that the rollout comes to.
type NewRollout struct {
	LivePatch string       `json:"livepatch" minLength:"1" maxLength:"255"`
	Tier      string       `json:"tier" minLength:"1" maxLength:"64"`
	Plan      *RolloutPlan `json:"plan,omitempty"` // nil: the tier's, or the one of docs/rollouts.md
}

// RolloutAction is what a person has to say to an action: why.
type RolloutAction struct {
	Reason string `json:"reason,omitempty" maxLength:"1000"`
}

// Rollout is a live patch on its way through a tier.
type Rollout struct {
	ID        string            `json:"id"`
	LivePatch string            `json:"livepatch"`
	Target    string            `json:"target"`
	Version   int               `json:"version"`
	Tier      string            `json:"tier"`
	Plan      RolloutPlan       `json:"plan"` // filled
	Phase     RolloutPhase      `json:"phase"`
	Reason    string            `json:"reason,omitempty"` // of the phase
	Since     int64             `json:"since"`            // of the phase
	By        string            `json:"by,omitempty"`     // who halted or aborted it; "": it did by itself
	Wave      int               `json:"wave"`             // 1 is the first; 0: it has not begun
	Opened    int64             `json:"opened,omitempty"` // when the wave began
	Soaking   int64             `json:"soaking,omitempty"`
	SoakEnds  int64             `json:"soak_ends,omitempty"`
	Closed    string            `json:"closed,omitempty"` // why nothing is offered now: a window, a freeze
	OpensAt   int64             `json:"opens_at,omitempty"`
	Skip      bool              `json:"skip,omitempty"`
	Emergency bool              `json:"emergency,omitempty"`
	Approvals []RolloutApproval `json:"approvals"`
	Needed    int               `json:"needed"` // people who have to approve
	Health    RolloutHealth     `json:"health"`
	Waves     []RolloutProgress `json:"waves"`
	Revision  int64             `json:"revision"`
	Created   int64             `json:"created"`
	CreatedBy string            `json:"created_by"`
	Changed   int64             `json:"changed"`
}

// RolloutApproval is a person's yes.
type RolloutApproval struct {
	By string `json:"by"`
	At int64  `json:"at"`
}

// RolloutHealth is a rollout against its budget, in numbers of machines.
type RolloutHealth struct {
	Machines int            `json:"machines"` // in scope, those that were offered it included
	Offered  int            `json:"offered"`  // may have it, and have not begun
	Begun    int            `json:"begun"`    // load it, or are watched until they settle
	Well     int            `json:"well"`
	Late     int            `json:"late"`     // did not begin in time: they get it after the rollout
	Had      int            `json:"had"`      // have begun at some time
	Failed   map[string]int `json:"failed"`   // not forgiven, by what went wrong
	Forgiven int            `json:"forgiven"` // failed before a person resumed
	Places   int            `json:"places"`   // of this wave and those before it
	Used     int            `json:"used"`     // of them
	Flight   int            `json:"flight"`   // machines that may be on their way now
	// Crashes and Failures are held against the budget, MayCrash and MayFail: no
	// whole numbers, where what is usual is taken off.
	Crashes  float64 `json:"crashes"`
	Failures float64 `json:"failures"`
	MayCrash float64 `json:"may_crash"`
	MayFail  float64 `json:"may_fail"`
	// Events are the boots and silences within Within of the load, where Usual
	// would be so. Control is how many machines without it they were held against.
	Within  string  `json:"within,omitempty"`
	Events  int     `json:"events"`
	Usual   float64 `json:"usual"`
	Control int     `json:"control"`
	Over    string  `json:"over,omitempty"` // why it is over its budget
}

// RolloutProgress is a wave, with the machines that were offered it in it.
type RolloutProgress struct {
	Wave    int    `json:"wave"` // 1 is the first
	Upto    string `json:"upto"`
	Soak    string `json:"soak,omitempty"`
	Places  int    `json:"places"` // of this wave alone, as far as is known now
	Offered int    `json:"offered"`
	Begun   int    `json:"begun"`
	Well    int    `json:"well"`
	Failed  int    `json:"failed"`
	Late    int    `json:"late"`
	State   string `json:"state" enum:"waits,runs,soaks,over"`
}

// RolloutStep is a line of a rollout's log: what was decided, by whom, and why.
type RolloutStep struct {
	Seq      int64  `json:"seq"`
	Time     int64  `json:"time"`
	What     string `json:"what"`
	Wave     int    `json:"wave,omitempty"`
	Machines int    `json:"machines,omitempty"`
	Failure  string `json:"failure,omitempty"`
	Why      string `json:"why"`
	Actor    string `json:"actor"` // "rollout" is the rollout itself
}

// RolloutMachine is a machine that was offered the live patch.
type RolloutMachine struct {
	Machine  string `json:"machine"`
	Hostname string `json:"hostname,omitempty"`
	Status   string `json:"status"`
	Wave     int    `json:"wave"`
	Offers   int    `json:"offers"`
	Offered  int64  `json:"offered,omitempty"`
	Begun    int64  `json:"begun,omitempty"`
	Settled  int64  `json:"settled,omitempty"`
	Failure  string `json:"failure,omitempty"` // the gravest thing that went wrong
	FailedAt int64  `json:"failed_at,omitempty"`
	Forgiven bool   `json:"forgiven,omitempty"`
}

// RolloutWord is how a machine stands in a rollout: in one word and one
// sentence.
type RolloutWord struct {
	Rollout   string `json:"rollout"`
	LivePatch string `json:"livepatch"`
	Machine   string `json:"machine"`
	Word      string `json:"word"`
	Why       string `json:"why"`
	Until     int64  `json:"until,omitempty"` // when this may change, if it is known
	Wave      int    `json:"wave,omitempty"`  // 1 is the first
}

// RolloutPreview is what a plan would mean for the machines of now.
type RolloutPreview struct {
	Plan     RolloutPlan       `json:"plan"`     // filled
	Machines int               `json:"machines"` // that need it
	Have     int               `json:"have"`     // that have it, or a newer one
	Bars     map[string]int    `json:"bars"`     // of those that need it: why they can't be offered it now
	Waves    []RolloutProgress `json:"waves"`
	Soaks    int64             `json:"soaks"`   // milliseconds that it takes at least, if nothing goes wrong and no window closes
	Running  string            `json:"running"` // id of the rollout that is under way already
	Promotes bool              `json:"promotes"`
}

// RolloutSettings say how tiers get their live patches.
type RolloutSettings struct {
	Tiers  map[string]RolloutTier `json:"tiers"`
	Ladder RolloutLadder          `json:"ladder"`
}

// RolloutTier says how live patches come to the machines of a tier.
type RolloutTier struct {
	// Only says that live patches that come to the tier from now on reach its
	// machines by rollouts alone. One begins by itself for the newest.
	Only  bool         `json:"only"`
	Since int64        `json:"since,omitempty" readOnly:"true"` // when that was set
	Plan  *RolloutPlan `json:"plan,omitempty"`                  // of the tier's rollouts
}

// RolloutLadder says how live patches climb from tier to tier.
type RolloutLadder struct {
	Rungs    []RolloutRung   `json:"rungs" maxItems:"50"`
	Windows  []string        `json:"windows,omitempty" maxItems:"50"` // when they climb by themselves
	Freezes  []RolloutFreeze `json:"freezes,omitempty" maxItems:"50"`
	Timezone string          `json:"timezone,omitempty" maxLength:"64"`
}

// RolloutRung is how a live patch gets from one tier to the next.
type RolloutRung struct {
	From      string `json:"from" minLength:"1" maxLength:"64"`
	To        string `json:"to" minLength:"1" maxLength:"64"`
	Auto      bool   `json:"auto,omitempty"`
	Soak      string `json:"soak,omitempty" maxLength:"20"`
	Well      int    `json:"well,omitempty" minimum:"0"`
	Approvals int    `json:"approvals,omitempty" minimum:"0" maximum:"10"`
}

// Promotion is how a live patch stands on the ladder.
type Promotion struct {
	LivePatch string `json:"livepatch"`
	Tier      string `json:"tier"` // the highest that has it
	To        string `json:"to,omitempty"`
	Ready     bool   `json:"ready"`
	Why       string `json:"why"`
	Until     int64  `json:"until,omitempty"`
	Missing   int    `json:"missing,omitempty"` // approvals
}
