// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

const (
	maxGrants = 20
	maxGroups = 200
)

// CheckGrants refuses grants that mean nothing (TS8224): an unknown role, a
// worker that is a person, a group without a name. None are allowed: such a
// person can sign in and see their own account.
func CheckGrants(all []Grant) error {
	bad := func(format string, args ...any) error { return code.New("TS8224", "", fmt.Sprintf(format, args...)) }
	if len(all) > maxGrants {
		return bad("more than %d roles", maxGrants)
	}
	for _, g := range all {
		switch {
		case !slices.Contains(PeopleRoles(), g.Role):
			return bad("%q is none of %s", g.Role, roleNames())
		case len(g.Groups) > maxGroups:
			return bad("role %s: more than %d groups", g.Role, maxGroups)
		case g.Role == Admin && len(g.Groups) > 0:
			return bad("an admin is one of the whole fleet: whoever gives roles can take any")
		}
		for _, group := range g.Groups {
			if group == "" || len(group) > 100 {
				return bad("role %s: a group's name has 1 to 100 characters", g.Role)
			}
		}
	}
	return nil
}

// ParseGrant reads a grant as people type it: "operator", "viewer:web,db".
func ParseGrant(s string) (Grant, error) {
	role, groups, some := strings.Cut(s, ":")
	g := Grant{Role: Role(strings.TrimSpace(role))}
	if some {
		for group := range strings.SplitSeq(groups, ",") {
			g.Groups = append(g.Groups, strings.TrimSpace(group))
		}
	}
	return g, CheckGrants([]Grant{g})
}

// CheckScopes refuses scopes that are no permissions (TS8219).
func CheckScopes(all []Permission) error {
	for _, p := range all {
		if !slices.Contains(Permissions(), p) {
			return code.New("TS8219", "", fmt.Sprintf("%q is no scope", p))
		}
	}
	return nil
}

// OfKind are the grants of a key that is older than people: an operator's
// kind, which is its role.
func OfKind(kind string) []Grant {
	switch kind {
	case "admin":
		return []Grant{{Role: Admin}}
	case "reader":
		return []Grant{{Role: Viewer}}
	case "worker":
		return []Grant{{Role: Worker}}
	}
	return nil
}

// IsAdmin reports whether grants hold the role of an admin.
func IsAdmin(all []Grant) bool {
	return slices.ContainsFunc(all, func(g Grant) bool { return g.Role == Admin })
}

func roleNames() string {
	var s []string
	for _, r := range PeopleRoles() {
		s = append(s, string(r))
	}
	return strings.Join(s, ", ")
}
