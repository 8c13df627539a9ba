// SPDX-License-Identifier: Apache-2.0

// Package authz says who may do what. It holds the one table of permissions
// (table.go): for each operation of the API what it asks for, and for each
// permission the roles that have it. Decide is a pure function of a subject
// and an operation's id; it knows no request, no session and no database.
//
// # Subjects
//
// A subject has grants: a role, for the whole fleet or for some groups of
// machines. Several grants add up. An API key may narrow what its owner can do
// by scopes, which are permissions, and never widens it.
//
// # Reach
//
// What an operation touches decides what a grant for groups is worth:
//
//   - Nothing of a group (live patches, policies as such): a grant for groups
//     is as good as one for the fleet, if all that is asked is to look.
//   - Machines of groups: Decide says for which groups, and the operation
//     leaves out, or refuses, what is of other groups (Decision.Covers).
//   - The fleet: only a grant for the whole fleet will do.
//
// What is not in the table is allowed to nobody.
package authz

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Role is what somebody is for the fleet, or for groups of it.
type Role string

// The roles. A worker is a program that builds: it runs compilers on what
// others send and is the easiest to take over, so it sees nothing.
const (
	Viewer         Role = "viewer"
	Operator       Role = "operator"
	Author         Role = "author"
	ReleaseManager Role = "release-manager"
	Admin          Role = "admin"
	Worker         Role = "worker"
)

// Roles are all roles that there are, the one that may least first.
func Roles() []Role { return []Role{Worker, Viewer, Operator, Author, ReleaseManager, Admin} }

// PeopleRoles are those that a person can have.
func PeopleRoles() []Role { return Roles()[1:] }

// Permission is what an operation asks for. It is also what the scopes of an
// API key name.
type Permission string

// Grant is a role for groups of machines.
type Grant struct {
	Role   Role     `json:"role"`
	Groups []string `json:"groups,omitempty"` // none: the whole fleet
}

func (g Grant) String() string {
	if len(g.Groups) == 0 {
		return string(g.Role)
	}
	return string(g.Role) + " of " + strings.Join(g.Groups, ", ")
}

// Subject is who calls an operation.
type Subject struct {
	Person  string // id of the person; "": a program with a key of its own
	Session bool   // it came with a session of the console, not with a key
	Fresh   bool   // the person proved a moment ago who they are
	Grants  []Grant
	Scopes  []Permission // nil: no narrower than the grants
}

// Decision is what a subject may do with an operation that it may use at all.
type Decision struct {
	// Groups are those that it is for; nil: the whole fleet.
	Groups []string
}

// Covers reports whether the decision holds for a machine of a group. Machines
// without a group are the whole fleet's.
func (d Decision) Covers(group string) bool {
	return d.Groups == nil || group != "" && slices.Contains(d.Groups, group)
}

// Whole reports whether the decision holds for the whole fleet.
func (d Decision) Whole() bool { return d.Groups == nil }

// Refuse is the error for something of a group that the decision does not cover.
func (d Decision) Refuse(group string) error {
	why := "it is of group " + group
	if group == "" {
		why = "it is of no group"
	}
	return code.New("TS8203", "", fmt.Sprintf("%s, and you have %s", why, strings.Join(d.Groups, ", ")))
}

// Decide says whether a subject may use an operation. A refusal is a problem:
// TS8202 for the role, TS8203 for groups, TS8204 for scopes, TS8205 for what
// only a person may do, TS8206 for who must prove again who they are.
func (t *Table) Decide(s Subject, id string) (Decision, error) {
	op, ok := t.operations[id]
	switch {
	case !ok:
		return Decision{}, code.New("TS8202", id, "the operation is not in the table of permissions")
	case op.Caller == Anybody:
		return Decision{}, nil
	case op.Caller != Subjects:
		return Decision{}, code.New("TS8202", id, "it is for "+string(op.Caller)+" alone")
	}
	d, err := grant(s, op)
	if err != nil {
		return Decision{}, at(err, id)
	}
	switch {
	case s.Scopes != nil && !slices.Contains(s.Scopes, op.Needs) && (op.Needs != Own || op.Proof != Credential): // whose a key is, it may always ask
		return Decision{}, code.New("TS8204", id, "it needs the scope "+string(op.Needs))
	case op.Proof != Credential && s.Person == "":
		return Decision{}, code.New("TS8205", id, "this key is nobody's")
	case op.Proof >= Session && !s.Session:
		return Decision{}, code.New("TS8205", id, "an API key does not do here")
	case op.Proof >= Fresh && !s.Fresh:
		return Decision{}, code.New("TS8206", id, "")
	}
	return d, nil
}

// grant adds up what the grants are worth for an operation.
func grant(s Subject, op Operation) (Decision, error) {
	var groups []string
	for _, g := range s.Grants {
		if !g.Role.Has(op.Needs) {
			continue
		}
		if len(g.Groups) == 0 || op.Reach == Nothing {
			return Decision{}, nil
		}
		groups = append(groups, g.Groups...)
	}
	switch {
	case len(groups) == 0:
		return Decision{}, code.New("TS8202", "", fmt.Sprintf("it needs the permission %s, which %s has not", op.Needs, names(s.Grants)))
	case op.Reach == Fleet:
		return Decision{}, code.New("TS8203", "", "it concerns the whole fleet, and you have "+strings.Join(groups, ", "))
	}
	slices.Sort(groups)
	return Decision{Groups: slices.Compact(groups)}, nil
}

func at(err error, id string) error {
	if p, ok := err.(*code.Problem); ok { //nolint:errorlint // it was made above
		p.Where = id
	}
	return err
}

func names(all []Grant) string {
	if len(all) == 0 {
		return "who has no role"
	}
	var s []string
	for _, g := range all {
		s = append(s, string(g.Role))
	}
	return strings.Join(s, ", ")
}
