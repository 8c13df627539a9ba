// SPDX-License-Identifier: Apache-2.0

package authz

import "slices"

// The permissions. A role either has one or has not: see rolesOf.
const (
	Own      Permission = "own"      // one's own account
	Look     Permission = "look"     // see how things stand, the audit log included
	Machines Permission = "machines" // move, hold, remove machines
	Enroll   Permission = "enroll"   // tokens that machines enrol with
	Policies Permission = "policies" // choose and exclude CVEs
	Build    Permission = "build"    // push fixes, have live patches built
	Publish  Permission = "publish"  // put a live patch into the first tier
	Stop     Permission = "stop"     // block a live patch, halt a rollout
	Rollouts Permission = "rollouts" // promote, unblock, revert, run rollouts
	Approve  Permission = "approve"  // be the second person
	Tiers    Permission = "tiers"    // tiers and settings of the fleet
	People   Permission = "people"   // users, their roles, everybody's keys and sessions
	Keys     Permission = "keys"     // the keys that sign
	Work     Permission = "work"     // do build jobs
)

// Permissions are all that there are.
func Permissions() []Permission {
	return []Permission{Own, Look, Machines, Enroll, Policies, Build, Publish, Stop, Rollouts, Approve, Tiers, People, Keys, Work}
}

// rolesOf is the table of roles. An admin has everything: who can give roles
// can take any.
func rolesOf(p Permission) []Role {
	switch p {
	case Own:
		return []Role{Worker, Viewer, Operator, Author, ReleaseManager, Admin}
	case Look:
		return []Role{Viewer, Operator, Author, ReleaseManager, Admin}
	case Machines, Enroll:
		return []Role{Operator, Admin}
	case Policies:
		return []Role{Operator, ReleaseManager, Admin}
	case Build, Publish:
		return []Role{Author, ReleaseManager, Admin}
	case Stop: // whoever sees that something goes wrong: to stop is safe
		return []Role{Operator, Author, ReleaseManager, Admin}
	case Rollouts, Approve:
		return []Role{ReleaseManager, Admin}
	case Tiers, People, Keys:
		return []Role{Admin}
	case Work:
		return []Role{Worker, Admin}
	}
	return nil
}

// Has reports whether a role has a permission.
func (r Role) Has(p Permission) bool { return slices.Contains(rolesOf(p), r) }

// Caller says who an operation is for.
type Caller string

// The callers.
const (
	Subjects       Caller = ""         // people and programs with a role
	Anybody        Caller = "anybody"  // no credential is asked for
	MachinesCaller Caller = "machines" // with the credential of their enrolment
)

// Reach is what an operation touches: see the package comment.
type Reach int

// The reaches.
const (
	Nothing Reach = iota // of any group
	Groups               // machines, or what belongs to groups
	Fleet
)

// Proof is how a caller must have shown who they are.
type Proof int

// The proofs, each asking for more than the one before.
const (
	Credential Proof = iota // any: a key will do
	Person                  // a person, if with a key
	Session                 // a person with a session of the console
	Fresh                   // the same, who proved a moment ago who they are
)

// Operation is an operation's line in the table.
type Operation struct {
	Caller Caller
	Needs  Permission
	Reach  Reach
	Proof  Proof
}

// Table is the table of operations. It does not change.
type Table struct{ operations map[string]Operation }

// NewTable makes the table.
func NewTable() *Table {
	all := map[string]Operation{}
	for _, id := range []string{
		"health", "ready", "metrics", "tuf-metadata", "tuf-target", "ca", "root", "enroll",
		// What leads to a session, and what a browser asks before there is one.
		"sign-in", "sign-in-passkey-begin", "sign-in-passkey-finish", "sign-in-oidc-begin", "sign-in-oidc-finish",
		"sign-in-methods", "look-at-link", "redeem-link",
	} {
		all[id] = Operation{Caller: Anybody}
	}
	for _, id := range []string{"check-in", "wait", "report", "unenroll"} {
		all[id] = Operation{Caller: MachinesCaller}
	}
	add := func(needs Permission, reach Reach, proof Proof, ids ...string) {
		for _, id := range ids {
			all[id] = Operation{Needs: needs, Reach: reach, Proof: proof}
		}
	}

	add(Own, Nothing, Credential, "whoami")
	add(Own, Nothing, Session, "sign-out", "get-account", "change-account", "list-own-sessions", "end-own-session", "list-own-keys", "revoke-own-key", "confirm-identity", "confirm-passkey", "list-passkeys")
	add(Own, Nothing, Fresh, "change-password", "begin-totp", "confirm-totp", "remove-totp", "begin-passkey", "finish-passkey", "remove-passkey", "create-own-key", "connect-identity")

	add(Look, Nothing, Credential,
		"list-livepatches", "list-updates", "get-settings", "get-trust", "get-notifications",
		"list-jobs", "get-job", "get-job-log", "job-artifact", "get-approval-actions",
		"get-livepatch-contents", "get-livepatch-diff", "get-livepatch-proof", "get-livepatch-provenance",
		"list-rollouts", "get-rollout", "list-rollout-steps", "get-rollout-settings", "list-promotions")
	add(Look, Groups, Credential, "list-policies", "get-policy", "list-cves", "get-cve", "list-targets")
	// Events tell that something of a kind changed; who may not see what asks for it in vain.
	add(Look, Groups, Credential, "events", "get-overview", "get-livepatch", "list-tiers", "list-machines", "get-machine", "get-machine-modules", "list-reports", "list-tokens")
	// They tell of everybody's machines, or of people.
	add(Look, Fleet, Credential, "list-audit", "verify-audit", "list-operators", "preview-policy", "get-history", "get-system", "preview-rollout", "list-rollout-machines", "explain-rollout")

	add(Machines, Groups, Credential, "change-machine", "remove-machine")
	add(Machines, Fleet, Credential, "bundle") // of a tier: it holds the keys of machines of all groups
	add(Enroll, Groups, Credential, "create-token", "revoke-token")

	// A policy can be that of several groups, and of those that have none.
	add(Policies, Fleet, Credential, "set-policy", "delete-policy", "exclude-fixes", "include-fixes", "set-policy-groups", "rebuild-policy")

	add(Build, Fleet, Credential, "create-job", "cancel-job", "push-update", "delete-update")
	add(Publish, Fleet, Credential, "publish-livepatch")
	add(Stop, Fleet, Credential, "block-livepatch", "halt-rollout")
	add(Rollouts, Fleet, Credential, "promote-livepatch", "unblock-livepatch", "authorise-revert",
		"create-rollout", "resume-rollout", "skip-rollout", "abort-rollout", "revert-rollout", "hurry-rollout")

	add(Approve, Fleet, Credential, "list-approvals", "get-approval")
	add(Approve, Fleet, Person, "give-approval", "refuse-approval", "approve-rollout")
	add(Rollouts, Fleet, Person, "ask-approval")

	add(Tiers, Fleet, Credential, "create-tier", "delete-tier", "change-settings", "set-window", "delete-window", "set-rollout-settings")
	// Channels name people's addresses, and messages tell of everybody's machines.
	add(Tiers, Fleet, Credential, "list-channels", "get-channel", "create-channel", "set-channel", "delete-channel", "test-channel",
		"rotate-channel-secret", "retire-channel-secret", "list-deliveries", "retry-delivery")
	add(Keys, Fleet, Credential, "rotate-tier-key", "import-root")

	add(People, Fleet, Credential, "create-operator", "revoke-operator", "list-users", "get-user", "create-user", "change-user", "list-sessions", "end-session", "list-keys", "revoke-key")
	add(People, Fleet, Fresh, "set-approvals", "create-link", "reset-user-factors", "unlock-user")

	add(Work, Fleet, Credential,
		"lease-job", "heartbeat", "append-log", "finish-job", "release-job", "put-job-file", "job-previous", "worker-update", "cache-get", "cache-put")
	return &Table{operations: all}
}

// Operation returns an operation's line.
func (t *Table) Operation(id string) (Operation, bool) {
	op, ok := t.operations[id]
	return op, ok
}

// IDs are the ids of all operations, in order.
func (t *Table) IDs() []string {
	ids := make([]string, 0, len(t.operations))
	for id := range t.operations {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
