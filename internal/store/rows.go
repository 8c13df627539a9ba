// SPDX-License-Identifier: Apache-2.0

package store

// Times in rows are milliseconds since 1970 UTC; 0 is never.

// Machine is an enrolled machine.
type Machine struct {
	ID         string
	MachineID  string // the machine's own word for what it is: api.EnrollRequest
	Credential []byte // SHA-256 of its credential; nil when it is gone
	Recipient  string // of its encryption key pair
	Hostname   string
	Tier       string
	Group      string
	Token      string // id of the token that it came with
	OS         string
	Facts
	Hold     bool // an operator holds it on the server
	Cloned   bool // two machines use its identity
	Enrolled int64
	Seen     int64 // last check-in, as precise as the batches of TouchMachines
	Gone     int64 // decommissioned
	// Boots that nobody announced, and silences, since it enrolled.
	Boots, Silences int
}

// Facts are what a machine says about itself in a check-in: the columns that
// are searched and counted, and all of it as JSON.
type Facts struct {
	Agent        string
	Release      string // of the running kernel
	BuildID      string
	Arch         string
	Patch        string // id of its live patch
	PatchVersion int
	PatchState   string
	Able         bool
	Booted       int64
	JSON         []byte // whatever else the server keeps of the last check-in
}

// EnrollInput is what an enrolment brings.
type EnrollInput struct {
	TokenHash  []byte // SHA-256
	Previous   []byte // SHA-256 of the credential of an earlier enrolment; nil: none
	MachineID  string
	Hostname   string
	Recipient  string
	Credential []byte // SHA-256 of the new credential
	OS         string
	Agent      string
	Release    string
	BuildID    string
	Arch       string
}

// MachineChange changes what operators and the server decide about a machine;
// nil leaves a field as it is.
type MachineChange struct {
	Tier   *string
	Group  *string
	Hold   *bool
	Cloned *bool
}

// MachineFilter chooses machines; zero fields choose all. They come in the
// order of their ids, which is that of their enrolment.
type MachineFilter struct {
	Tier    string
	Group   *string
	Query   string // part of the host name or the kernel release, or start of the id
	BuildID string
	Patch   string // id of a live patch
	State   string // of the live patch
	Gone    bool   // decommissioned ones too
	After   string // id: the next ones
	Limit   int    // 0: 1,000
}

// Touch says when a machine that had nothing new to say was heard of.
type Touch struct {
	ID   string
	Seen int64
	// Silence, if it is not 0, is how long a machine that lives says nothing at
	// most: when it was last heard of longer ago than that, but not before
	// Listening, a silence of it is counted.
	Silence, Listening int64
}

// CheckInRow is a check-in that changed something.
type CheckInRow struct {
	ID       string
	Seen     int64
	Hostname string // "": as it is
	OS       string // "": as it is
	Cloned   bool   // set it; UpdateMachine takes it back
	Boots    int    // that nobody announced, since the check-in before
	Facts
}

// Counts are numbers of machines.
type Counts struct {
	Live   int // enrolled
	Gone   int // decommissioned
	ByTier map[string]int
}

// Token is an enrolment token.
type Token struct {
	ID       string
	Name     string
	Hash     []byte // SHA-256 of the secret
	Tier     string
	Group    string
	Limit    int // machines that may enrol with it in its life; 0: only the plan's limit
	Uses     int // machines that did
	Created  int64
	Expires  int64
	Revoked  int64
	LastUsed int64
}

// Tier is an ordered stage of trust.
type Tier struct {
	Name     string
	Rank     int // 1 is the first
	Machines int // enrolled ones
	Patches  int // live patches published in it, blocked ones too
	Created  int64
}

// LivePatch is a live patch that the service holds.
type LivePatch struct {
	ID      string // trust.PatchID
	Name    string // of the module
	Version int
	Target  string
	Release string
	BuildID string
	Arch    string

	Digest           string // SHA-256 of the .tsugi file, hex
	Size             int64
	CipherDigest     string // of the encrypted file
	CipherSize       int64
	SealedKey        []byte // content key, sealed to the server's own identity
	Manifest         []byte // JSON
	CVEs             []string
	Fixes            []string // titles
	ProofDigest      string
	ProvenanceDigest string
	Proven           bool
	Signed           bool // the module carries a kernel module signature

	Created   int64
	CreatedBy string
	Blocked   int64
	Reason    string // of the block
	Recall    bool
	Selection string   // digest of the choice that it was built for; "": made by hand
	Tiers     []string // where it is published, by rank; read only
	Policies  []string // whose machines go along it, ordered; read only
}

// Policy is a policy as it was saved last. The default one has no row until
// then.
type Policy struct {
	Name      string
	Body      []byte // JSON
	Created   int64
	Changed   int64
	ChangedBy string
}

// Update is the fixes that were pushed for a target under a name.
type Update struct {
	Target    string
	Name      string
	Extra     bool   // only policies that name it take it
	Digest    string // of the file among the blobs
	Size      int64
	Summary   []byte // JSON
	Created   int64
	CreatedBy string
}

// Choice is what a policy chooses for a target.
type Choice struct {
	Policy    string
	Target    string
	Selection string // digest
	Body      []byte // JSON
	Changed   int64  // when the selection became this one
}

// LineEnd is the newest live patch of a target that something holds for: a
// policy's line, a selection.
type LineEnd struct {
	ID        string
	Version   int
	Selection string
	Blocked   bool
}

// LinePatch is a live patch of a policy's line, with the tiers that it is in.
type LinePatch struct {
	LineEnd
	Tiers []string
}

// LivePatchFilter chooses live patches; zero fields choose all. The newest
// come first.
type LivePatchFilter struct {
	Target  string
	BuildID string
	Tier    string
	CVE     string     // that a fix in it has
	Bare    bool       // without manifests and keys: they are large
	Before  *LivePatch // the ones after this one in the order of the answer
	Limit   int        // 0: 1,000
}

// Publication is a live patch in a tier.
type Publication struct {
	LivePatch string
	Tier      string
	Published int64
}

// TUFFile is a metadata file of the TUF repository.
type TUFFile struct {
	Role    string // "root", "targets", "tier-edge", "snapshot", "timestamp"
	Version int64
	Name    string // "3.root.json", "timestamp.json"
	Body    []byte
	Created int64 // set by SaveTUF
}

// Report is one thing that happened on a machine.
type Report struct {
	Seq      string // the store's own order, set by AddReports
	Machine  string // set by AddReports
	ID       string // the machine's own; unique for it
	Time     int64  // the machine's clock
	Received int64  // set by AddReports
	Kind     string
	Patch    string // id of the live patch
	State    string
	Body     []byte // api.Report as JSON
}

// ReportFilter chooses reports; zero fields choose all. The newest come first.
type ReportFilter struct {
	Machine string
	Kind    string
	Patch   string
	State   string
	Before  string // Seq: the older ones
	Limit   int    // 0: 1,000
}

// JobState is where a job stands.
type JobState string

// The states of a job.
const (
	JobQueued    JobState = "queued"
	JobRunning   JobState = "running"
	JobDone      JobState = "done"
	JobFailed    JobState = "failed"
	JobCancelled JobState = "cancelled"
)

// Job is work for a worker.
type Job struct {
	ID          string
	Kind        string // "build"; a-z and -
	Target      string
	Title       string
	Spec        []byte // JSON
	State       JobState
	Stage       string
	Attempt     int // 1 is the first; 0: none yet
	MaxAttempts int
	Worker      string // unique for a run of a worker: it is what owns the lease
	LeasedUntil int64
	Cancel      bool // was asked for
	Created     int64
	CreatedBy   string
	Started     int64
	Ended       int64
	Verdict     string
	Problem     []byte // JSON; nil: none
	Patch       string // LivePatch.ID when it was published
	Artifact    string
	Selection   string // digest of the choice that it builds; "": none
	Version     int    // of the live patch to be; 0: none was drawn yet
	Omitted     []byte // JSON: what of the choice the build left out; nil: nothing
}

// JobResult ends a job.
type JobResult struct {
	State    JobState // JobDone, JobFailed or JobCancelled
	Verdict  string
	Problem  []byte // JSON; nil: none
	Patch    string
	Artifact string
	Omitted  []byte
}

// JobFilter chooses jobs; zero fields choose all. The newest come first.
type JobFilter struct {
	State  JobState
	Target string
	Before string // id: the older ones
	Limit  int    // 0: 1,000
}

// LogLine is text that a job wrote. Position orders the lines of a job over
// all its attempts.
type LogLine struct {
	Position int64
	Attempt  int
	Seq      int
	Time     int64
	Text     string
}

// Operator is a key to the operators' API: a person's, or that of a program or
// a worker, which are nobody's.
type Operator struct {
	ID       string
	Name     string
	Kind     string // OperatorAdmin, OperatorReader, OperatorWorker or OperatorKey
	Hash     []byte // SHA-256 of the credential
	Created  int64
	Revoked  int64
	LastUsed int64
	Person   string // id of the user whose key it is; "": nobody's
	Grants   string // JSON; "": those of the kind, or of the person
	Scopes   string // JSON; "": no narrower than the grants
	Expires  int64
}

// The kinds of operators.
const (
	OperatorAdmin  = "admin"
	OperatorReader = "reader"
	OperatorWorker = "worker"
	OperatorKey    = "key" // what it may is in its grants, or its person's
)

// AuditEntry is one decision of a person or of the service.
type AuditEntry struct {
	ID     string // set by Audit
	Time   int64  // set by Audit
	Actor  string
	Action string
	Object string
	Detail string
	Seq    int64  // its place in the chain, set when it is stored; 0: none yet
	Hash   string // over itself and all before it, hex: ChainHash
}

// AuditFilter chooses audit entries; zero fields choose all. The newest come
// first.
type AuditFilter struct {
	Actor  string
	Action string // rollout.* is all that begins with rollout.
	Object string
	Before string // id: the older ones
	Limit  int    // 0: 1,000
}

// Kind says what a change is about.
type Kind string

// The kinds of changes.
const (
	KindMachine   Kind = "machine"
	KindToken     Kind = "token"
	KindTier      Kind = "tier"
	KindLivePatch Kind = "livepatch"
	KindTUF       Kind = "tuf"
	KindJob       Kind = "job"
	KindSetting   Kind = "setting"
	KindOperator  Kind = "operator"
	KindUser      Kind = "user"
	KindApproval  Kind = "approval"
	KindChannel   Kind = "channel" // a channel of notifications, or a delivery by it
	KindRollout   Kind = "rollout"
	KindPolicy    Kind = "policy" // a policy, its groups, updates and what is chosen of them
	KindWindow    Kind = "window" // of a target
)

// Change is the latest change of one thing.
type Change struct {
	Seq  int64
	Kind Kind
	ID   string
}
