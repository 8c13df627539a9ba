// SPDX-License-Identifier: Apache-2.0

package fleetfile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/api"
)

func TestExportIsTheFileOfWhatIsThere(t *testing.T) {
	t.Parallel()
	end := time.Date(2027, 1, 31, 12, 0, 0, 5e6, time.UTC)
	have := fresh().have
	have.Policies = append(have.Policies, api.PolicyInfo{Policy: api.Policy{
		Name: "db", Description: "of: the \"databases\"\n- all", MinSeverity: "high", Scope: "all", Extra: []string{"ours"}, SwapUnused: true,
		Exclusions: []api.Exclusion{{CVE: "CVE-2026-0001", Reason: "yes", Owner: "2026-01-01", Expires: end.UnixMilli()}},
	}, Groups: []string{"db", "on", "007"}})
	have.Tokens = []api.Token{
		{ID: "1", Name: "web", Tier: "edge", Group: "web", Limit: 5, Expires: end.UnixMilli()},
		{ID: "2", Name: "old", Tier: "edge", Revoked: 1},
		{ID: "3", Name: "over", Tier: "edge", Expires: now.UnixMilli()},
		{ID: "4", Name: "two", Tier: "edge"},
		{ID: "5", Name: "two", Tier: "beta"},
	}
	f, notes := Export(have, now)
	qt.Check(t, qt.DeepEquals(notes, []string{`token "two" is left out: several have this name and are not alike`}))
	text, err := f.Encode()
	qt.Assert(t, qt.IsNil(err))
	back, err := Parse("export", text)
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", text))
	p, err := back.Plan(have, now, Options{})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(lines(p), []string{}), qt.Commentf("%s", text))
	qt.Check(t, qt.StringContains(string(text), "tiers:\n  - edge\n"))
}

func TestAnyExportHasAnEmptyPlan(t *testing.T) {
	t.Parallel()
	word := rapid.StringMatching(`[a-zA-Z0-9:#'"&*!|>%@{} ,\[\]?-]{1,12}`).Filter(func(s string) bool { return s == strings.TrimSpace(s) })
	rapid.Check(t, func(rt *rapid.T) {
		have := fresh().have
		for i := range rapid.IntRange(0, 3).Draw(rt, "policies") {
			p := api.PolicyInfo{Policy: api.Policy{
				Name: fmt.Sprint("p", i), Description: word.Draw(rt, "description"), MinSeverity: rapid.SampledFrom([]string{"", "low", "critical"}).Draw(rt, "severity"),
				Scope: rapid.SampledFrom([]string{"", "security", "all"}).Draw(rt, "scope"),
			}}
			for j := range rapid.IntRange(0, 2).Draw(rt, "exclusions") {
				p.Exclusions = append(p.Exclusions, api.Exclusion{Fix: fmt.Sprint(word.Draw(rt, "fix"), j), Reason: word.Draw(rt, "reason"), Owner: word.Draw(rt, "owner"), Expires: rapid.Int64Range(0, 4e12).Draw(rt, "expires")})
			}
			for j := range rapid.IntRange(0, 2).Draw(rt, "groups") {
				p.Groups = append(p.Groups, fmt.Sprint(word.Draw(rt, "group"), i, j))
			}
			have.Policies = append(have.Policies, p)
		}
		for i := range rapid.IntRange(0, 4).Draw(rt, "tokens") {
			have.Tokens = append(have.Tokens, api.Token{
				ID: fmt.Sprint(i), Name: fmt.Sprint(word.Draw(rt, "token"), i), Tier: rapid.SampledFrom(have.Tiers).Draw(rt, "tier").Name, Limit: rapid.IntRange(0, 9).Draw(rt, "limit"),
				Group: word.Draw(rt, "its group"), Expires: rapid.Int64Range(0, 4e12).Draw(rt, "ends"),
			})
		}
		f, notes := Export(have, now)
		if len(notes) > 0 {
			rt.Fatalf("%q", notes)
		}
		text, err := f.Encode()
		if err != nil {
			rt.Fatal(err)
		}
		back, err := Parse("export", text)
		if err != nil {
			rt.Fatalf("%v\n%s", err, text)
		}
		p, err := back.Plan(have, now, Options{})
		if err != nil {
			rt.Fatalf("%v\n%s", err, text)
		}
		if len(p.Steps) > 0 {
			rt.Fatalf("%q\n%s", lines(p), text)
		}
	})
}
