// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"testing"

	"github.com/go-quicktest/qt"
)

// TestMayIsWhatIsDecided holds what a console is told against the decisions.
func TestMayIsWhatIsDecided(t *testing.T) {
	t.Parallel()
	table := NewTable()
	for name, s := range map[string]Subject{
		"nobody":          {},
		"an admin":        {Person: "p", Session: true, Fresh: true, Grants: []Grant{{Role: Admin}}},
		"scoped":          {Person: "p", Session: true, Fresh: true, Grants: []Grant{{Role: Operator, Groups: []string{"web", "db"}}, {Role: Viewer}}},
		"a key's scopes":  {Person: "p", Grants: []Grant{{Role: Admin}}, Scopes: []Permission{Look, Machines}},
		"a build worker":  {Grants: []Grant{{Role: Worker}}},
		"a key of nobody": {Grants: []Grant{{Role: Admin}}},
	} {
		may := s.May()
		for _, id := range table.IDs() {
			op, _ := table.Operation(id)
			if op.Caller != Subjects || op.Needs == Own {
				continue
			}
			groups, has := may[op.Needs]
			d, err := table.Decide(s, id)
			switch {
			case err == nil:
				qt.Check(t, qt.IsTrue(has), qt.Commentf("%s may %s", name, id))
				if op.Reach == Groups {
					qt.Check(t, qt.Equals(d.Whole(), len(groups) == 0), qt.Commentf("%s: %s", name, id))
				}
			case op.Proof == Credential && op.Reach != Fleet || len(groups) == 0 && op.Proof == Credential:
				qt.Check(t, qt.IsFalse(has), qt.Commentf("%s may not %s: %v", name, id, err))
			}
		}
	}
	scoped := Subject{Grants: []Grant{{Role: Operator, Groups: []string{"web", "db"}}, {Role: Viewer}}}
	qt.Check(t, qt.DeepEquals(scoped.May(), map[Permission][]string{
		Own: {}, Look: {}, Machines: {"db", "web"}, Enroll: {"db", "web"}, Policies: {"db", "web"}, Stop: {"db", "web"},
	}))
}
