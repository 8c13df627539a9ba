// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Whoever reads rows into memory meanwhile, what was decided is what counts from
// the moment that it was answered.
func TestWhatIsDecidedHoldsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	token := s.token().Secret
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	t.Cleanup(func() {
		stop()
		readers.Wait()
	})
	for i := range 6 {
		a := s.enroll(token, fmt.Sprintf("m%d", i))
		id := a.enrolled.Machine
		for range 4 { // as the change feed does
			readers.Go(func() {
				for ctx.Err() == nil && s.fleet.byID(id) != nil {
					_, _ = s.fleet.refresh(ctx, s.db, id)
				}
			})
		}
		a.checkIn(t)
		hold := true
		_, err := s.admin.ChangeMachine(t.Context(), id, api.MachineChange{Hold: &hold})
		qt.Assert(t, qt.IsNil(err))
		got := a.checkIn(t)
		qt.Assert(t, qt.IsNotNil(got))
		qt.Check(t, qt.IsTrue(got.Hold))

		qt.Assert(t, qt.IsNil(s.admin.Decommission(t.Context(), id)))
		_, _, err = a.CheckIn(t.Context(), a.report, "")
		refused(t, err, http.StatusUnauthorized, "TS7623")
	}
}

// Groups have the policy that they were given as soon as that is answered.
func TestAPolicyHoldsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.enroll(s.token().Secret, "a")
	group := "db"
	_, err := s.admin.ChangeMachine(t.Context(), a.enrolled.Machine, api.MachineChange{Group: &group})
	qt.Assert(t, qt.IsNil(err))
	for i := range 5 {
		name := fmt.Sprintf("p%d", i)
		_, err := s.admin.SetPolicy(t.Context(), api.Policy{Name: name})
		qt.Assert(t, qt.IsNil(err))
		_, err = s.admin.SetPolicyGroups(t.Context(), name, []string{group})
		qt.Assert(t, qt.IsNil(err))
		got := a.checkIn(t)
		qt.Assert(t, qt.IsNotNil(got))
		qt.Check(t, qt.Equals(got.Policy, trust.PolicyWord(name)))
	}
}
