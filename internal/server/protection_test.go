// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/trust"
)

func TestProtectionInOneWord(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_000_000_000)
	one := trust.Offer{ID: "p-v1", Version: 1}
	two := trust.Offer{ID: "p-v2", Version: 2}
	index := func(x trust.Index) *trust.Index {
		x.Target.BuildID = testKernel.BuildID
		return &x
	}
	both := index(trust.Index{Patches: []trust.Offer{one, two}})
	has := func(version int, state api.State) standing {
		return standing{buildID: testKernel.BuildID, patch: "p-v" + string(rune('0'+version)), version: version, state: state, able: true, seen: now.UnixMilli()}
	}
	with := func(s standing, change func(*standing)) standing {
		change(&s)
		return s
	}
	for _, c := range []struct {
		name   string
		m      standing
		x      *trust.Index
		word   api.Protection
		target string
	}{
		{"the newest is there", has(2, api.Healthy), both, api.Protected, "p-v2"},
		{"the newest is there, its watch not over", has(2, api.Applied), both, api.Protected, "p-v2"},
		{"an older one is there", has(1, api.Healthy), both, api.Outdated, "p-v2"},
		{"an older one is there, held", with(has(1, api.Healthy), func(s *standing) { s.hold = true }), both, api.Outdated, "p-v2"},
		{"nothing is there yet", has(0, ""), both, api.Unprotected, "p-v2"},
		{"it is on its way", has(2, api.Verified), both, api.Unprotected, "p-v2"},
		{"this host can't", with(has(0, ""), func(s *standing) { s.able, s.unable = false, "no CONFIG_LIVEPATCH" }), both, api.Unprotected, "p-v2"},
		{"taken out by hand", has(2, api.Reverted), both, api.Unprotected, "p-v1"},
		{"it took the machine down", has(2, api.Quarantined), both, api.Failing, "p-v1"},
		{"preflight refused it", has(2, api.Blocked), both, api.Failing, "p-v2"},
		{"there is nothing for this kernel", has(0, ""), nil, api.NotCovered, ""},
		{"the index is empty", has(0, ""), index(trust.Index{}), api.NotCovered, ""},
		{"what is there is not offered any more", has(2, api.Healthy), nil, api.Protected, "p-v2"},
		{"what is there is recalled", has(2, api.Healthy), index(trust.Index{Patches: []trust.Offer{two}, Blocked: []trust.BlockRef{{ID: two.ID, Version: 2, Reason: "oopses", Recall: true}}}), api.Failing, ""},
		{"it has not been heard of", with(has(2, api.Healthy), func(s *standing) { s.seen -= (4 * time.Hour).Milliseconds() }), both, api.Silent, "p-v2"},
		{"it missed one", with(has(2, api.Healthy), func(s *standing) { s.seen -= (90 * time.Minute).Milliseconds() }), both, api.Protected, "p-v2"},
		{"it is gone", with(has(2, api.Healthy), func(s *standing) { s.gone = true }), both, api.Gone, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			word, target, reason := protection(c.m, c.x, now, 3600)
			qt.Check(t, qt.Equals(word, c.word), qt.Commentf("%s", reason))
			qt.Check(t, qt.Equals(target, c.target))
			qt.Check(t, qt.Not(qt.Equals(reason, "")))
		})
	}
}

func TestTracesTellAClone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		heard []string // boots; *x is what another server wrote down
		twice bool
	}{
		{"one machine", []string{"a", "a", "a"}, false},
		{"reboots", []string{"a", "b", "c", "d", "e"}, false},
		{"a request that came late, once", []string{"a", "b", "a", "b"}[:3], false},
		{"two machines in turn", []string{"a", "b", "a", "b"}, true},
		{"three machines in turn", []string{"a", "b", "c", "a", "b"}, true},
		{"the store lags behind", []string{"a", "b", "*a", "b", "*b", "b"}, false},
		{"two machines at two servers", []string{"a", "*b", "a", "*b", "a"}, true},
		{"it moved to another server, and back after a reboot", []string{"a", "*b", "*b", "b", "c"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var tr traces
			twice := false
			for _, boot := range c.heard {
				if boot[0] == '*' {
					tr.elsewhere(boot[1:])
				} else {
					twice = tr.heard(boot, "run")
				}
			}
			qt.Check(t, qt.Equals(twice, c.twice))
		})
	}
}
