// SPDX-License-Identifier: Apache-2.0

package api

// Limits of workers' requests.
const (
	MaxJob      = 16 << 20 // bytes of a NewJob
	MaxJobLog   = 64 << 10 // bytes of text in one JobLog
	MaxObject   = 64 << 20 // bytes of an entry of the object cache
	MaxJobWait  = 30       // seconds that a worker may wait for a job
	MaxJobFiles = 64 << 20 // bytes of a report or proof
	MaxConsole  = 4 << 20  // bytes of what a virtual machine wrote on its console
)

// LeaseRequest asks for a job. The answer is a Lease, or 204 when none came
// within the wait.
type LeaseRequest struct {
	Worker string `json:"worker" minLength:"1" maxLength:"200"` // unique for each run and slot of a worker
	Wait   int    `json:"wait,omitempty" minimum:"0" maximum:"30"`
}

// Lease is a job that a worker has for as long as it says so in time.
type Lease struct {
	Job     string `json:"job"`
	Attempt int    `json:"attempt"`
	Spec    NewJob `json:"spec"`
	// Update, if not nil, says what is built in the place of Spec's fixes.
	Update *JobUpdate `json:"update,omitempty"`
	// Version of the live patch to be: above the newest of the target.
	Version int `json:"version"`
	// Previous is the live patch of the target that the new one supersedes, if
	// there is one.
	Previous string `json:"previous,omitempty"`
	// LogFrom is the Seq of the last JobLog of this attempt: one that was given
	// back counts on.
	LogFrom int `json:"log_from,omitempty"`
	// Within is how many milliseconds the lease lasts from each heartbeat.
	Within int64 `json:"within"`
}

// Heartbeat keeps a lease.
type Heartbeat struct {
	Worker string `json:"worker" minLength:"1" maxLength:"200"`
	Stage  string `json:"stage,omitempty" maxLength:"200"`
}

// HeartbeatAnswer says whether anybody still wants the job.
type HeartbeatAnswer struct {
	Cancelled bool `json:"cancelled"`
}

// JobLog is a piece of the log of an attempt. A repeated piece is harmless.
type JobLog struct {
	Worker  string `json:"worker" minLength:"1" maxLength:"200"`
	Attempt int    `json:"attempt" minimum:"1"`
	Seq     int    `json:"seq" minimum:"1"` // 1 is the first of the attempt
	Text    string `json:"text" maxLength:"65536"`
}

// JobFile names a result of an attempt that is uploaded.
type JobFile struct {
	Worker  string `json:"worker"`
	Attempt int    `json:"attempt"`
	Name    string `json:"name"`
}

// The names of JobFile.
const (
	JobArtifact = "livepatch.tsugi"
	JobReport   = "report.json"
	JobProof    = "proof.json"
	JobBefore   = "console-before.txt" // of the proof's machine without the live patch
	JobAfter    = "console-after.txt"  // and with it
)

// JobResult ends a job.
type JobResult struct {
	Worker  string   `json:"worker" minLength:"1" maxLength:"200"`
	State   JobState `json:"state" enum:"done,failed,cancelled"`
	Verdict string   `json:"verdict,omitempty" maxLength:"32"`
	Proven  bool     `json:"proven,omitempty"` // a proof that holds was uploaded
	Problem *Problem `json:"problem,omitempty"`
	// Omitted is what of a choice the build had to leave out.
	Omitted []LeftFix `json:"omitted,omitempty" maxItems:"5000"`
}

// WorkerName is the body of a request that says only who asks.
type WorkerName struct {
	Worker string `json:"worker" minLength:"1" maxLength:"200"`
}
