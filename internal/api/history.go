// SPDX-License-Identifier: Apache-2.0

package api

// Sample is how a fleet stood at a time.
type Sample struct {
	At          int64              `json:"at"`
	Machines    int                `json:"machines"`
	Protections map[Protection]int `json:"protections"`
	// Open counts machines with anything open that somebody should do something
	// about, by the highest severity of that.
	Open map[string]int `json:"open,omitempty"`
}

// History is how a fleet stood over time, the oldest first. Samples of the last
// two weeks are an hour apart, those of the last three months six hours, and
// older ones, for a year, a day.
type History struct {
	Samples []Sample `json:"samples"`
	From    int64    `json:"from"`
	To      int64    `json:"to"`
}

// TargetInfo is a kernel that machines run, a package that their processes map
// files of, or either that anything is there for.
type TargetInfo struct {
	Target   string         `json:"target"`
	Release  string         `json:"release"` // "": a package
	Machines int            `json:"machines"`
	Tiers    map[string]int `json:"tiers,omitempty"` // machines by tier
	// Protections counts the machines of a package by how they stand with it.
	Protections map[Protection]int `json:"protections,omitempty"`
	// Stale counts those of them where processes run a file of it that the disk has
	// no more.
	Stale int `json:"stale,omitempty"`
	// ListedIn are the tiers that have live patches of a package. Their machines look
	// for it; others don't name it and are not counted.
	ListedIn []string `json:"listed_in,omitempty"`
	Patches  int      `json:"patches"`
	Newest   string   `json:"newest,omitempty"` // LivePatch.ID of the newest that is not blocked
	Updates  []string `json:"updates,omitempty"`
	To       string   `json:"to,omitempty"` // source version of the update
	Fixes    int      `json:"fixes,omitempty"`
	CVEs     int      `json:"cves,omitempty"`
	Live     int      `json:"live,omitempty"`
	Reboot   int      `json:"reboot,omitempty"`
	// Window is how long live patches are made for it; nil: nobody has said.
	Window *CoverageWindow `json:"window,omitempty"`
	// Standing is the window now.
	Standing WindowStanding `json:"standing"`
}

// WindowStanding says how a coverage window stands.
type WindowStanding string

// The standings of a window.
const (
	WindowOpen   WindowStanding = "open"
	WindowEnding WindowStanding = "ending" // within 30 days
	WindowOver   WindowStanding = "over"
	WindowAhead  WindowStanding = "ahead"
	WindowNone   WindowStanding = "none" // nobody has said
)

// CoverageWindow is how long live patches are made for a target. It is a
// promise to people and changes nothing by itself: after its end the overview
// and the target's page say that its machines have to boot another kernel.
type CoverageWindow struct {
	From      int64  `json:"from,omitempty"`  // 0: ever since
	Until     int64  `json:"until,omitempty"` // 0: no end
	Note      string `json:"note,omitempty"`
	Changed   int64  `json:"changed,omitempty"`
	ChangedBy string `json:"changed_by,omitempty"`
}

// SetWindow gives a target a window.
type SetWindow struct {
	From  int64  `json:"from,omitempty" minimum:"0" maximum:"253402300799999"`
	Until int64  `json:"until,omitempty" minimum:"0" maximum:"253402300799999"`
	Note  string `json:"note,omitempty" maxLength:"1000"`
}

// SystemReport is how the service itself stands.
type SystemReport struct {
	At      int64         `json:"at"`
	Version string        `json:"version"`
	Up      int64         `json:"up"` // ms since this server started
	URL     string        `json:"url"`
	Memory  int64         `json:"memory"` // bytes that this process has of the system
	Fleet   int           `json:"fleet"`  // machines in memory
	Waiters int           `json:"waiters"`
	Checks  []SystemCheck `json:"checks"`
	Store   SystemStore   `json:"store"`
	Blobs   SystemBlobs   `json:"blobs"`
	FeedAge int64         `json:"feed_age"`   // ms since the change feed was read
	Choices int64         `json:"choice_age"` // ms since policies were followed without an error
	Workers []WorkerInfo  `json:"workers"`
	Queued  int           `json:"queued"`
	Oldest  int64         `json:"oldest,omitempty"` // when the job that waits longest was made
	Roles   []TrustRole   `json:"roles"`
}

// SystemCheck is one thing that has to be right.
type SystemCheck struct {
	ID     string      `json:"id"` // store, blobs, feed, disk, choices, trust, workers
	Level  SystemLevel `json:"level"`
	Detail string      `json:"detail,omitempty"`
}

// SystemLevel says how bad it is.
type SystemLevel string

// The levels.
const (
	LevelGood SystemLevel = "good"
	LevelWarn SystemLevel = "warn"
	LevelBad  SystemLevel = "bad"
)

// SystemStore is the database.
type SystemStore struct {
	Engine  string `json:"engine"` // sqlite or postgres
	Version string `json:"version,omitempty"`
	Schema  int64  `json:"schema"`
	Size    int64  `json:"size"` // bytes
	Answer  int64  `json:"answer_us"`
}

// SystemBlobs is where files are.
type SystemBlobs struct {
	Kind   string `json:"kind"` // folder or s3
	Where  string `json:"where,omitempty"`
	Answer int64  `json:"answer_us"`
	Free   int64  `json:"free,omitempty"`  // bytes of the disk; 0: not a disk of this server
	Total  int64  `json:"total,omitempty"` // bytes
}

// WorkerInfo is a build worker that was heard of.
type WorkerInfo struct {
	Name  string `json:"name"`
	Job   string `json:"job,omitempty"` // that it does now
	Stage string `json:"stage,omitempty"`
	Since int64  `json:"since,omitempty"` // when that job began
	Until int64  `json:"until,omitempty"` // when its lease ends
	Seen  int64  `json:"seen,omitempty"`  // when its credential was used
}
