// SPDX-License-Identifier: Apache-2.0

package api

// Overview is how a fleet stands. What takes a look at every machine is some
// seconds old: see Counted.
type Overview struct {
	Machines    int                `json:"machines"` // enrolled
	Protections map[Protection]int `json:"protections"`
	// Stale counts the machines whose processes run what their disk has no more, since
	// a package was upgraded under them.
	Stale int `json:"stale,omitempty"`
	// Open counts machines by what would end what is open on them, and by the
	// highest severity of that; nil when it can't be told now.
	Open       map[Need]map[string]int `json:"open,omitempty"`
	Choices    map[ChoiceState]int     `json:"choices,omitempty"`    // of all policies; nil when it can't be told now
	Unpromoted int                     `json:"unpromoted,omitempty"` // published choices whose live patch is not in the last tier yet
	Ending     int                     `json:"ending,omitempty"`     // exclusions that end soon
	Jobs       map[JobState]int        `json:"jobs"`
	Groups     []string                `json:"groups,omitempty"` // that machines are in, in order; the first MaxGroups
	Counted    int64                   `json:"counted"`          // when the machines and choices were looked at
}

// MaxGroups bounds the groups in an overview.
const MaxGroups = 1000
