// SPDX-License-Identifier: Apache-2.0

package api

// MaxUpdate bounds the fixes that are pushed for a target.
const MaxUpdate = 64 << 20

// Policy is what a group of machines wants (package selection).
type Policy struct {
	Name        string      `json:"name" minLength:"1" maxLength:"63"`
	Description string      `json:"description,omitempty" maxLength:"1000"`
	Exclusions  []Exclusion `json:"exclusions,omitempty" maxItems:"1000"`
	MinSeverity string      `json:"min_severity,omitempty" enum:"low,medium,high,critical"`
	Scope       string      `json:"scope,omitempty" enum:"security,all"` // "" is security
	// Extra names series that were pushed for those who name them.
	Extra []string `json:"extra,omitempty" maxItems:"20"`
	// SwapUnused lets machines replace a module that is loaded and not in use.
	SwapUnused bool `json:"swap_unused,omitempty"`
}

// Exclusion leaves one CVE, or one fix by its id, out.
type Exclusion struct {
	CVE     string `json:"cve,omitempty" maxLength:"40"`
	Fix     string `json:"fix,omitempty" maxLength:"200"`
	Reason  string `json:"reason" minLength:"1" maxLength:"1000"`
	Owner   string `json:"owner" minLength:"1" maxLength:"200"`
	Expires int64  `json:"expires,omitempty"` // 0: never
}

// PolicyInfo is a policy as operators see it.
type PolicyInfo struct {
	Policy
	Groups    []string       `json:"groups,omitempty"` // the default policy has all that no other has
	Machines  int            `json:"machines"`
	Changed   int64          `json:"changed,omitempty"`
	ChangedBy string         `json:"changed_by,omitempty"`
	Ending    []Ending       `json:"ending,omitempty"` // soon
	Choices   []PolicyChoice `json:"choices,omitempty"`
	Open      *Exposure      `json:"open,omitempty"` // of its machines, with GET of one policy only
}

// ChoiceState says how far what a policy chooses for a target has come.
type ChoiceState string

// The states of a choice.
const (
	ChoicePublished ChoiceState = "published" // its live patch is there
	ChoiceBuilding  ChoiceState = "building"  // a job waits or runs
	ChoiceFailed    ChoiceState = "failed"    // the job ended without a live patch: see Problem
	ChoiceBlocked   ChoiceState = "blocked"   // its live patch is blocked
	ChoiceEmpty     ChoiceState = "empty"     // no fix is chosen
	ChoicePending   ChoiceState = "pending"   // nobody has looked yet
)

// PolicyChoice is what a policy chooses for a target.
type PolicyChoice struct {
	Target    string         `json:"target"`
	Update    string         `json:"update,omitempty"` // source version up to which fixes are taken
	Selection string         `json:"selection"`        // names what the live patch is made of
	Fixes     int            `json:"fixes"`
	CVEs      int            `json:"cves"`
	Left      map[string]int `json:"left,omitempty"` // fixes that are not taken, by why
	State     ChoiceState    `json:"state"`
	Job       string         `json:"job,omitempty"`
	Patch     string         `json:"patch,omitempty"` // LivePatch.ID
	Tiers     []string       `json:"tiers,omitempty"` // where the live patch is
	Shared    []string       `json:"shared,omitempty"`
	Machines  int            `json:"machines"` // of the policy with this kernel
	Problem   *Problem       `json:"problem,omitempty"`
	// Omitted is what the build found not to go with the others.
	Omitted []LeftFix `json:"omitted,omitempty"`
	// Keeps is the newest other live patch that machines of the policy may still
	// run, in tiers that the chosen one is not in, and KeepsExcluded what of it
	// the policy excludes: nobody is offered that, and only a newer live patch, a
	// revert or a reboot takes it out.
	Keeps         string `json:"keeps,omitempty"`
	KeepsExcluded string `json:"keeps_excluded,omitempty"`
}

// LeftFix is a fix that is not taken, and why.
type LeftFix struct {
	ID        string   `json:"id"`
	Title     string   `json:"title,omitempty"`
	CVEs      []string `json:"cves,omitempty"`
	Severity  string   `json:"severity,omitempty"`
	Exploited bool     `json:"exploited,omitempty"`
	Kind      string   `json:"kind"` // excluded, dragged, lesser, out-of-scope, reboot, not-affected or error
	Code      string   `json:"code,omitempty"`
	Why       string   `json:"why,omitempty"`
	// By is the CVE or the fix whose exclusion drags this one along.
	By string `json:"by,omitempty"`
	// Needs are fixes with which it could be taken.
	Needs []string `json:"needs,omitempty"`
}

// PolicyGroups gives groups of machines a policy.
type PolicyGroups struct {
	Groups []string `json:"groups" minItems:"1" maxItems:"1000"`
}

// Exclude adds exclusions to a policy; one that is there gets the new words.
type Exclude struct {
	Exclusions []Exclusion `json:"exclusions" minItems:"1" maxItems:"1000"`
}

// Include takes exclusions out of a policy, by CVE or fix.
type Include struct {
	Names []string `json:"names" minItems:"1" maxItems:"1000"`
}

// PolicyQuestion asks what would change with another text of a policy, and
// for groups that would have it.
type PolicyQuestion struct {
	Policy *Policy  `json:"policy,omitempty"` // nil: as it is
	Groups []string `json:"groups,omitempty" maxItems:"1000"`
	// Exclude and Include change the text that is asked about.
	Exclude []Exclusion `json:"exclude,omitempty" maxItems:"1000"`
	Include []string    `json:"include,omitempty" maxItems:"1000"`
}

// PolicyPreview says what would change for whom.
type PolicyPreview struct {
	Policy  Policy          `json:"policy"` // that is asked about
	New     bool            `json:"new,omitempty"`
	Targets []TargetPreview `json:"targets"`
	Ending  []Ending        `json:"ending,omitempty"`
}

// TargetPreview is the part of a preview about one target.
type TargetPreview struct {
	Target   string         `json:"target"`
	Update   string         `json:"update,omitempty"`
	Machines int            `json:"machines"` // that have the kernel and would have the policy
	Tiers    map[string]int `json:"tiers,omitempty"`
	Fixes    int            `json:"fixes"`
	CVEs     int            `json:"cves"`
	// Goes are fixes that are taken now and would not be, with why; those that
	// an exclusion drags along among them. Comes are the others.
	Goes  []LeftFix `json:"goes,omitempty"`
	Comes []LeftFix `json:"comes,omitempty"`
	// Open are fixes of CVEs that would not be there.
	Open     []LeftFix `json:"open,omitempty"`
	OpenCVEs int       `json:"open_cves"`
	// Idle are exclusions that no fix answers to.
	Idle   []string `json:"idle,omitempty"`
	Same   bool     `json:"same,omitempty"`   // nothing would change
	Shared []string `json:"shared,omitempty"` // policies that choose the same
	Patch  string   `json:"patch,omitempty"`  // live patch that is there for it
	Build  bool     `json:"build,omitempty"`  // one would be built
	// Modules are fixed modules that would come or go, as far as live patches
	// that are there tell.
	Modules []ModulePreview `json:"modules,omitempty"`
	// Stuck says why machines with what the policy has now could not take the
	// live patch that is there without a reboot.
	Stuck   string   `json:"stuck,omitempty"`
	Problem *Problem `json:"problem,omitempty"` // why it can't be said what would be chosen
}

// ModulePreview is a fixed module that machines would get or lose.
type ModulePreview struct {
	Module   string   `json:"module"`
	Comes    bool     `json:"comes,omitempty"` // it would be there; else it would not any more
	Fixes    []string `json:"fixes"`           // that it serves
	CVEs     []string `json:"cves,omitempty"`
	Machines int      `json:"machines"` // of those concerned that have the fixed build, loaded or on the disk
}

// Rebuild asks for what a policy chooses to be built again.
type Rebuild struct {
	Target string `json:"target,omitempty" maxLength:"255"` // "": each that anything is pushed for
}

// Rebuilt names the targets for which it will be.
type Rebuilt struct {
	Targets []string `json:"targets"`
}

// Update is what is pushed for a target.
type Update struct {
	Target    string `json:"target"`
	Name      string `json:"name"`
	Extra     bool   `json:"extra,omitempty"` // only policies that name it take it
	Title     string `json:"title,omitempty"`
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
	Digest    string `json:"sha256"`
	Size      int64  `json:"size"`
	Fixes     int    `json:"fixes"`
	CVEs      int    `json:"cves"`
	Known     int    `json:"known"` // fixes with a verdict for the target
	Live      int    `json:"live"`
	Reboot    int    `json:"reboot"`
	Created   int64  `json:"created"`
	CreatedBy string `json:"created_by"`
	// Selections are how many live patches the policies need of it.
	Selections int `json:"selections"`
}

// JobUpdate makes a job one of a choice of pushed fixes. The worker makes the
// choice again, by what it is told, and must come to the same.
type JobUpdate struct {
	Series    []string `json:"series"`          // digests of what is pushed, in order
	Selection string   `json:"selection"`       // selection.Key
	Again     int      `json:"again,omitempty"` // part of it: how often the same was asked for anew
	Policy    Policy   `json:"policy"`
	At        int64    `json:"at"` // when the choice was made: exclusions count that held then
	Policies  []string `json:"policies,omitempty"`
}
