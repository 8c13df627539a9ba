// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

func digest(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

func ptr[T any](v T) *T { return &v }

// newToken makes a token whose secret is its name.
func newToken(t testing.TB, s *Store, in Token) Token {
	t.Helper()
	in.Hash = digest(in.Name)
	made, err := s.CreateToken(t.Context(), in)
	qt.Assert(t, qt.IsNil(err))
	return made
}

func unlimited(t testing.TB, s *Store) {
	t.Helper()
	qt.Assert(t, qt.IsNil(s.SetSetting(t.Context(), SettingPlanMachines, PlanUnlimited)))
}

// enrollment is that of a machine; its credential is "credential of NAME".
func enrollment(token, name string) EnrollInput {
	return EnrollInput{
		TokenHash: digest(token), MachineID: "id of " + name, Hostname: name, Recipient: "age1" + name,
		Credential: digest("credential of " + name), OS: "Debian 12", Agent: "1.0", Release: "6.1.0-55-amd64", BuildID: "aa", Arch: "x86_64",
	}
}

func enroll(t testing.TB, s *Store, in EnrollInput) Machine {
	t.Helper()
	e, err := s.Enroll(t.Context(), in)
	qt.Assert(t, qt.IsNil(err))
	return e.Machine
}

func TestEnrolment(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		token := newToken(t, s, Token{Name: "web", Tier: "beta", Group: "web servers"})
		qt.Assert(t, qt.Equals(token.Created, c.ms()))
		e, err := s.Enroll(t.Context(), enrollment("web", "one"))
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsFalse(e.Again))
		want := Machine{
			ID: e.ID, MachineID: "id of one", Credential: digest("credential of one"), Recipient: "age1one", Hostname: "one",
			Tier: "beta", Group: "web servers", Token: token.ID, OS: "Debian 12",
			Facts:    Facts{Agent: "1.0", Release: "6.1.0-55-amd64", BuildID: "aa", Arch: "x86_64"},
			Enrolled: c.ms(), Seen: c.ms(),
		}
		qt.Assert(t, qt.DeepEquals(e.Machine, want))
		got, err := s.MachineByCredential(t.Context(), digest("credential of one"))
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.DeepEquals(got, want))
		got, err = s.Machine(t.Context(), e.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.DeepEquals(got, want))

		token, err = s.Token(t.Context(), token.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(token.Uses, 1))
		qt.Assert(t, qt.Equals(token.LastUsed, c.ms()))

		_, err = s.MachineByCredential(t.Context(), digest("other"))
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		_, err = s.Machine(t.Context(), "other")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		// A credential is one machine's.
		in := enrollment("web", "two")
		in.Credential = digest("credential of one")
		_, err = s.Enroll(t.Context(), in)
		qt.Check(t, qt.ErrorIs(err, ErrConflict))
	})
}

func TestTokensThatDoNotEnroll(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		unlimited(t, s)
		refused := func(token string, why error) {
			t.Helper()
			_, err := s.Enroll(t.Context(), enrollment(token, "m"))
			qt.Check(t, qt.ErrorIs(err, why))
		}
		refused("none", ErrNotFound)
		soon := newToken(t, s, Token{Name: "soon", Expires: c.in(time.Minute)})
		gone := newToken(t, s, Token{Name: "gone"})
		one := newToken(t, s, Token{Name: "one", Limit: 1})
		qt.Assert(t, qt.IsNil(s.RevokeToken(t.Context(), gone.ID)))
		qt.Check(t, qt.ErrorIs(s.RevokeToken(t.Context(), gone.ID), ErrNotFound))
		refused("gone", ErrRevoked)
		enroll(t, s, enrollment("soon", "early"))
		c.pass(time.Minute)
		refused("soon", ErrExpired)
		enroll(t, s, enrollment("one", "first"))
		refused("one", ErrLimit)
		_, err := s.Enroll(t.Context(), enrollment("one", "m"))
		limit, ok := errors.AsType[*LimitError](err)
		qt.Assert(t, qt.IsTrue(ok))
		qt.Check(t, qt.DeepEquals(limit, &LimitError{Of: "token", Limit: 1, Used: 1}))

		all, err := s.Tokens(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals([]string{all[0].ID, all[1].ID, all[2].ID}, []string{soon.ID, gone.ID, one.ID}))
		qt.Check(t, qt.Equals(all[1].Revoked, c.in(-time.Minute)))
		qt.Check(t, qt.DeepEquals([]int{all[0].Uses, all[1].Uses, all[2].Uses}, []int{1, 0, 1}))
		_, err = s.Token(t.Context(), "none")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		_, err = s.CreateToken(t.Context(), Token{Name: "x", Hash: digest("x"), Tier: "none"})
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		_, err = s.CreateToken(t.Context(), Token{Name: "x", Hash: digest("one")})
		qt.Check(t, qt.ErrorIs(err, ErrConflict))
		qt.Check(t, qt.Equals(soon.Tier, "stable")) // the last one is the default
	})
}

func TestThePlansLimit(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		newToken(t, s, Token{Name: "t"})
		m := enroll(t, s, enrollment("t", "m0"))
		for i := range 2 {
			enroll(t, s, enrollment("t", fmt.Sprintf("m%d", i+1)))
		}
		_, err := s.Enroll(t.Context(), enrollment("t", "m3"))
		limit, ok := errors.AsType[*LimitError](err)
		qt.Assert(t, qt.IsTrue(ok))
		qt.Check(t, qt.DeepEquals(limit, &LimitError{Of: "plan", Limit: DefaultPlanMachines, Used: 3}))
		// A machine that is known needs no room.
		again := enrollment("t", "m0")
		again.Previous, again.Credential = again.Credential, digest("new")
		e, err := s.Enroll(t.Context(), again)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(e.Again))
		// One that goes makes some.
		qt.Assert(t, qt.IsNil(s.Decommission(t.Context(), m.ID)))
		enroll(t, s, enrollment("t", "m3"))
		_, err = s.Enroll(t.Context(), enrollment("t", "m4"))
		qt.Check(t, qt.ErrorIs(err, ErrLimit))
		for _, c := range []struct {
			plan string
			ok   bool
		}{{"3", false}, {"4", true}, {"4", false}, {PlanUnlimited, true}, {"0", false}} {
			qt.Assert(t, qt.IsNil(s.SetSetting(t.Context(), SettingPlanMachines, c.plan)))
			_, err = s.Enroll(t.Context(), enrollment("t", "more"+c.plan+fmt.Sprint(c.ok)))
			qt.Check(t, qt.Equals(err == nil, c.ok), qt.Commentf("%s: %v", c.plan, err))
		}
		qt.Assert(t, qt.IsNil(s.SetSetting(t.Context(), SettingPlanMachines, "many")))
		_, err = s.Enroll(t.Context(), enrollment("t", "x"))
		qt.Check(t, qt.ErrorMatches(err, "setting plan.machines: .*"))
	})
}

func TestFiftyAtOnceKeepTheLimit(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		newToken(t, s, Token{Name: "t"})
		newToken(t, s, Token{Name: "u", Limit: 1})
		var wg sync.WaitGroup
		var mu sync.Mutex
		enrolled := map[string]int{}
		for i := range 50 {
			wg.Go(func() {
				token := []string{"t", "u"}[i%2]
				_, err := s.Enroll(t.Context(), enrollment(token, fmt.Sprintf("m%d", i)))
				switch {
				case err == nil:
					mu.Lock()
					defer mu.Unlock()
					enrolled[token]++
				case !errors.Is(err, ErrLimit):
					t.Errorf("machine %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		qt.Check(t, qt.Equals(enrolled["t"]+enrolled["u"], 3))
		qt.Check(t, qt.IsTrue(enrolled["u"] <= 1))
		n, err := s.CountMachines(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(n, Counts{Live: 3, ByTier: map[string]int{"stable": 3}}))
	})
}

func TestEnrollingAgain(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		unlimited(t, s)
		newToken(t, s, Token{Name: "t", Tier: "beta"})
		newToken(t, s, Token{Name: "other"})
		first := enroll(t, s, enrollment("t", "m"))
		edge := "edge"
		_, err := s.UpdateMachine(t.Context(), first.ID, MachineChange{Tier: &edge})
		qt.Assert(t, qt.IsNil(err))
		c.pass(time.Hour)

		next := func(token, previous, credential string, change func(*EnrollInput)) Enrolled {
			t.Helper()
			in := enrollment(token, "m")
			in.Credential, in.Recipient = digest(credential), "age1"+credential
			if previous != "" {
				in.Previous = digest(previous)
			}
			if change != nil {
				change(&in)
			}
			e, err := s.Enroll(t.Context(), in)
			qt.Assert(t, qt.IsNil(err))
			return e
		}
		// By its credential, with any token: all that an operator decided stays.
		e := next("other", "credential of m", "c2", nil)
		qt.Check(t, qt.IsTrue(e.Again))
		qt.Check(t, qt.Equals(e.ID, first.ID))
		qt.Check(t, qt.Equals(e.Tier, "edge"))
		qt.Check(t, qt.Equals(e.Recipient, "age1c2"))
		qt.Check(t, qt.Equals(e.Seen, c.ms()))
		_, err = s.MachineByCredential(t.Context(), digest("credential of m"))
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		// By its machine id with the token of before, when it lost everything.
		e = next("other", "", "c3", nil)
		qt.Check(t, qt.Equals(e.ID, first.ID))
		e = next("other", "wrong", "c4", nil)
		qt.Check(t, qt.Equals(e.ID, first.ID))
		// Not with another token, and not with its credential on another machine.
		second := next("t", "", "c5", nil)
		qt.Check(t, qt.IsFalse(second.Again))
		third := next("t", "c5", "c6", func(in *EnrollInput) { in.MachineID = "another" })
		qt.Check(t, qt.IsFalse(third.Again))
		// Nor when it is gone.
		qt.Assert(t, qt.IsNil(s.Decommission(t.Context(), third.ID)))
		fourth := next("t", "c6", "c7", func(in *EnrollInput) { in.MachineID = "another" })
		qt.Check(t, qt.IsFalse(fourth.Again))
		// Two machines of one id under one token: which one is it?
		fifth := next("t", "", "c8", func(in *EnrollInput) { in.MachineID = "another" })
		qt.Check(t, qt.Equals(fifth.ID, fourth.ID))
		tok, err := s.TokenByHash(t.Context(), digest("t"))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(tok.Uses, 4)) // machines, not enrolments
	})
}

func TestAClonePartsFromItsOriginal(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		unlimited(t, s)
		newToken(t, s, Token{Name: "t"})
		m := enroll(t, s, enrollment("t", "m"))
		qt.Assert(t, qt.IsNil(s.SaveCheckIns(t.Context(), []CheckInRow{{ID: m.ID, Cloned: true}})))
		got, err := s.Machine(t.Context(), m.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(got.Cloned))
		// What it says later doesn't take that back.
		qt.Assert(t, qt.IsNil(s.SaveCheckIns(t.Context(), []CheckInRow{{ID: m.ID}})))

		// Without its credential it can't be told from a clone either.
		in := enrollment("t", "m")
		in.Credential = digest("lost")
		lost := enroll(t, s, in)
		qt.Check(t, qt.Not(qt.Equals(lost.ID, m.ID)))

		in.Previous, in.Credential = digest("credential of m"), digest("c1")
		one, err := s.Enroll(t.Context(), in)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsFalse(one.Again))
		qt.Check(t, qt.Not(qt.Equals(one.ID, m.ID)))
		// The other one was told to enroll too, and keeps the identity.
		in.Credential = digest("c2")
		other, err := s.Enroll(t.Context(), in)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(other.Again))
		qt.Check(t, qt.Equals(other.ID, m.ID))
		qt.Check(t, qt.IsFalse(other.Cloned))
		// Without a credential there are several of this id now: a new one.
		in.Previous, in.Credential = nil, digest("c3")
		another, err := s.Enroll(t.Context(), in)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsFalse(another.Again))
	})
}

func TestChangesOfAMachine(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		newToken(t, s, Token{Name: "t"})
		m := enroll(t, s, enrollment("t", "m"))
		got, err := s.UpdateMachine(t.Context(), m.ID, MachineChange{Tier: ptr("edge"), Group: ptr("g"), Hold: ptr(true)})
		qt.Assert(t, qt.IsNil(err))
		m.Tier, m.Group, m.Hold = "edge", "g", true
		qt.Check(t, qt.DeepEquals(got, m))
		got, err = s.UpdateMachine(t.Context(), m.ID, MachineChange{Hold: ptr(false), Cloned: ptr(true)})
		qt.Assert(t, qt.IsNil(err))
		m.Hold, m.Cloned = false, true
		qt.Check(t, qt.DeepEquals(got, m))
		_, err = s.UpdateMachine(t.Context(), m.ID, MachineChange{Tier: ptr("none")})
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		_, err = s.UpdateMachine(t.Context(), "none", MachineChange{Hold: ptr(true)})
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		got, err = s.Machine(t.Context(), m.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(got, m))

		c.pass(time.Minute)
		qt.Assert(t, qt.IsNil(s.Decommission(t.Context(), m.ID)))
		qt.Check(t, qt.ErrorIs(s.Decommission(t.Context(), m.ID), ErrNotFound))
		qt.Check(t, qt.ErrorIs(s.Decommission(t.Context(), "none"), ErrNotFound))
		_, err = s.MachineByCredential(t.Context(), m.Credential)
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		_, err = s.MachineByCredential(t.Context(), []byte{})
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		m.Gone, m.Credential = c.ms(), nil
		got, err = s.Machine(t.Context(), m.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(got, m))
		// A second machine may be gone too: neither has a credential.
		m2 := enroll(t, s, enrollment("t", "m2"))
		qt.Assert(t, qt.IsNil(s.Decommission(t.Context(), m2.ID)))
		n, err := s.CountMachines(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(n, Counts{Gone: 2, ByTier: map[string]int{}}))
	})
}

func TestCheckIns(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		newToken(t, s, Token{Name: "t"})
		a, b := enroll(t, s, enrollment("t", "a")), enroll(t, s, enrollment("t", "b"))
		gone := enroll(t, s, enrollment("t", "gone"))
		qt.Assert(t, qt.IsNil(s.Decommission(t.Context(), gone.ID)))
		before, err := s.LastChange(t.Context())
		qt.Assert(t, qt.IsNil(err))

		facts := Facts{
			Agent: "2", Release: "6.12", BuildID: "bb", Arch: "aarch64", Patch: "p-v3", PatchVersion: 3, PatchState: "healthy",
			Able: true, Booted: 17, JSON: []byte(`{"x":"ä"}`),
		}
		qt.Assert(t, qt.IsNil(s.SaveCheckIns(t.Context(), []CheckInRow{
			{ID: b.ID, Seen: c.in(time.Second), Facts: facts},
			{ID: gone.ID, Seen: c.in(time.Second), Facts: facts},
			{ID: "unknown", Facts: facts},
			{ID: a.ID, Seen: c.in(2 * time.Second), Hostname: "renamed", OS: "Debian 13", Facts: facts},
		})))
		a.Facts, a.Hostname, a.OS, a.Seen = facts, "renamed", "Debian 13", c.in(2*time.Second)
		b.Facts, b.Seen = facts, c.in(time.Second)
		for _, want := range []Machine{a, b} {
			got, err := s.Machine(t.Context(), want.ID)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(got, want))
		}
		got, err := s.Machine(t.Context(), gone.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(got.Release, "6.1.0-55-amd64"))
		changes, err := s.Changes(t.Context(), before)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(changes, 2)) // the two that changed

		qt.Assert(t, qt.IsNil(s.TouchMachines(t.Context(), []Touch{
			{ID: b.ID, Seen: c.in(time.Minute)}, {ID: "unknown", Seen: 1}, {ID: a.ID, Seen: c.in(-time.Minute)},
		})))
		for id, seen := range map[string]int64{a.ID: a.Seen, b.ID: c.in(time.Minute)} {
			got, err := s.Machine(t.Context(), id)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(got.Seen, seen))
		}
		now, err := s.LastChange(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(now, changes[0].Seq)) // touches are no news
		qt.Assert(t, qt.IsNil(s.SaveCheckIns(t.Context(), nil)))
		qt.Assert(t, qt.IsNil(s.TouchMachines(t.Context(), nil)))
	})
}

func TestMachineLists(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		unlimited(t, s)
		newToken(t, s, Token{Name: "t"})
		newToken(t, s, Token{Name: "e", Tier: "edge", Group: "g"})
		var all []Machine
		for i, name := range []string{"Web-1", "web_2", "db%1", "db-2", "gone"} {
			token := []string{"t", "e"}[i%2]
			in := enrollment(token, name)
			in.Release = []string{"6.1.0-55-amd64", "6.12.1"}[i/3]
			all = append(all, enroll(t, s, in))
		}
		qt.Assert(t, qt.IsNil(s.SaveCheckIns(t.Context(), []CheckInRow{
			{ID: all[1].ID, Facts: Facts{BuildID: "bb", Patch: "p-v1", PatchState: "applied"}},
		})))
		qt.Assert(t, qt.IsNil(s.Decommission(t.Context(), all[4].ID)))
		for _, c := range []struct {
			name string
			f    MachineFilter
			want []int
		}{
			{"all", MachineFilter{}, []int{0, 1, 2, 3}},
			{"gone ones too", MachineFilter{Gone: true}, []int{0, 1, 2, 3, 4}},
			{"a tier", MachineFilter{Tier: "edge"}, []int{1, 3}},
			{"a group", MachineFilter{Group: ptr("g")}, []int{1, 3}},
			{"no group", MachineFilter{Group: ptr("")}, []int{0, 2}},
			{"a kernel", MachineFilter{BuildID: "bb"}, []int{1}},
			{"a live patch", MachineFilter{Patch: "p-v1"}, []int{1}},
			{"a state", MachineFilter{State: "applied"}, []int{1}},
			{"a name in any case", MachineFilter{Query: "WEB"}, []int{0, 1}},
			{"an underscore is one", MachineFilter{Query: "b_2"}, []int{1}},
			{"a percent sign is one", MachineFilter{Query: "b%"}, []int{2}},
			{"a backslash is one", MachineFilter{Query: `b\`}, nil},
			{"a release", MachineFilter{Query: "6.12"}, []int{3}},
			{"the start of an id", MachineFilter{Query: all[2].ID[:30]}, nil},
			{"an id", MachineFilter{Query: all[2].ID}, []int{2}},
			{"several", MachineFilter{Tier: "edge", Query: "db", Group: ptr("g")}, []int{3}},
			{"none", MachineFilter{Tier: "edge", State: "healthy"}, nil},
			{"the first two", MachineFilter{Limit: 2}, []int{0, 1}},
			{"the next two", MachineFilter{Limit: 2, After: all[1].ID}, []int{2, 3}},
			{"and no more", MachineFilter{Limit: 2, After: all[3].ID}, nil},
		} {
			found, err := s.Machines(t.Context(), c.f)
			qt.Assert(t, qt.IsNil(err))
			var got []int
			for _, m := range found {
				got = append(got, slices.IndexFunc(all, func(a Machine) bool { return a.ID == m.ID }))
			}
			if c.name == "the start of an id" { // ids of one millisecond share it
				qt.Check(t, qt.IsTrue(slices.Contains(got, 2)))
				continue
			}
			qt.Check(t, qt.DeepEquals(got, c.want), qt.Commentf("%s", c.name))
		}
		var streamed []string
		qt.Assert(t, qt.IsNil(s.AllMachines(t.Context(), func(m Machine) error {
			streamed = append(streamed, m.Hostname)
			return nil
		})))
		qt.Check(t, qt.DeepEquals(streamed, []string{"Web-1", "web_2", "db%1", "db-2"}))
		stop := errors.New("stop")
		qt.Check(t, qt.ErrorIs(s.AllMachines(t.Context(), func(Machine) error { return stop }), stop))
	})
}

func TestAllMachinesGoesOverPages(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		unlimited(t, s)
		token := newToken(t, s, Token{Name: "t"})
		const n = 2003
		populate(t, s, token, n)
		last, count := "", 0
		qt.Assert(t, qt.IsNil(s.AllMachines(t.Context(), func(m Machine) error {
			if m.ID <= last {
				return fmt.Errorf("%s after %s", m.ID, last)
			}
			last = m.ID
			count++
			return nil
		})))
		qt.Check(t, qt.Equals(count, n))
		// Paging by the ids that come out sees each machine once.
		count, last = 0, ""
		for {
			page, err := s.Machines(t.Context(), MachineFilter{After: last, Limit: 999})
			qt.Assert(t, qt.IsNil(err))
			if len(page) == 0 {
				break
			}
			count, last = count+len(page), page[len(page)-1].ID
		}
		qt.Check(t, qt.Equals(count, n))
	})
}

// Those that are asked for come in the order of the ids, over pages, whatever else
// is asked for.
func TestMachinesByIDs(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		unlimited(t, s)
		ids := populate(t, s, newToken(t, s, Token{Name: "t"}), 251)
		qt.Assert(t, qt.IsNil(s.Decommission(t.Context(), ids[7])))
		ask := []string{"", "nobody", "ж%_ 'x", ids[0] + "0", ids[0][:35]}
		ask = append(ask, ids...)
		slices.Reverse(ask)
		found, err := s.MachinesByIDs(t.Context(), ask)
		qt.Assert(t, qt.IsNil(err))
		var got []string
		for _, m := range found {
			got = append(got, m.ID)
			one, err := s.Machine(t.Context(), m.ID)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(m, one))
		}
		qt.Check(t, qt.DeepEquals(got, slices.Sorted(slices.Values(ids))))
		none, err := s.MachinesByIDs(t.Context(), nil)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(none, 0))
	})
}

// populate enrolls many machines in few transactions.
func populate(t testing.TB, s *Store, token Token, n int) (ids []string) {
	t.Helper()
	for len(ids) < n {
		err := s.Update(t.Context(), func(tx *Tx) error {
			for range min(2000, n-len(ids)) {
				in := enrollment(token.Name, fmt.Sprintf("machine-%d", len(ids)))
				id, err := tx.insertMachine(t.Context(), in, token)
				if err != nil {
					return err
				}
				ids = append(ids, id)
			}
			return nil
		})
		qt.Assert(t, qt.IsNil(err))
	}
	return ids
}

// What a machine says may hold anything; it is stored, in both engines alike.
func TestTextFromOutsideIsStorable(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		newToken(t, s, Token{Name: "t", Group: "g\x00\xff"})
		const nasty = "a\x00b\xffc\U0001F600'\"\\; DROP TABLE machines; --"
		const stored = "a\uFFFDb\uFFFDc\U0001F600'\"\\; DROP TABLE machines; --"
		in := enrollment("t", nasty)
		in.OS, in.Agent, in.Release, in.BuildID, in.Arch, in.Recipient = nasty, nasty, nasty, nasty, nasty, nasty
		m := enroll(t, s, in)
		qt.Check(t, qt.Equals(m.Hostname, stored))
		f := Facts{Agent: nasty, Release: nasty, BuildID: nasty, Arch: nasty, Patch: nasty, PatchState: nasty, JSON: []byte(nasty)}
		qt.Assert(t, qt.IsNil(s.SaveCheckIns(t.Context(), []CheckInRow{{ID: m.ID, Hostname: nasty, OS: nasty, Facts: f}})))
		got, err := s.Machine(t.Context(), m.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(string(got.JSON), stored))
		qt.Check(t, qt.Equals(got.PatchState, stored))
		_, err = s.Machines(t.Context(), MachineFilter{Query: nasty})
		qt.Check(t, qt.IsNil(err))
		_, err = s.AddReports(t.Context(), m.ID, []Report{{ID: nasty, Kind: nasty, Patch: nasty, State: nasty, Body: []byte(nasty)}})
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(s.Audit(t.Context(), AuditEntry{Actor: nasty, Action: nasty, Object: nasty, Detail: nasty})))
		j, err := s.CreateJob(t.Context(), Job{Kind: "build", Target: nasty, Title: nasty, Spec: []byte(nasty), CreatedBy: nasty})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(s.AppendLog(t.Context(), j.ID, 1, 0, nasty)))
		lines, err := s.Log(t.Context(), j.ID, 0)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(lines[0].Text, stored))
	})
}
