// SPDX-License-Identifier: Apache-2.0

package fleetfile

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

// Export is the file of what a server has, for those who begin with a fleet
// that is there: its plan against the same server is empty. notes name what can't
// stand in a file: tokens that share a name and are not alike. Tokens that are
// revoked or over are left out.
func Export(have Have, now time.Time) (f *File, notes []string) {
	f = &File{Version: Version, Tiers: []string{}, Policies: map[string]selection.Policy{}, Groups: map[string]Group{}, Tokens: map[string]Token{}}
	tiers := slices.SortedFunc(slices.Values(have.Tiers), func(a, b api.Tier) int { return cmp.Compare(a.Rank, b.Rank) })
	for _, t := range tiers {
		f.Tiers = append(f.Tiers, t.Name)
	}
	for _, p := range have.Policies {
		f.Policies[p.Name] = unwire(p.Policy)
		for _, g := range p.Groups {
			f.Groups[g] = Group{Policy: p.Name}
		}
	}
	for _, c := range have.Channels {
		if f.Channels == nil {
			f.Channels = map[string]Channel{}
		}
		f.Channels[c.Name] = unwireChannel(c.ChannelSettings)
	}
	var err error
	if f.Rollouts, err = unwireRollouts(have.Rollouts); err != nil {
		f.Rollouts = nil
		notes = append(notes, "the settings of rollouts are left out: "+err.Error())
	}
	unlike := map[string]int{}
	for _, t := range have.Tokens {
		if t.Revoked != 0 || t.Expires != 0 && t.Expires <= now.UnixMilli() {
			continue
		}
		want := Token{Tier: t.Tier, Group: t.Group, Limit: t.Limit}
		if t.Expires != 0 {
			want.Expires = time.UnixMilli(t.Expires).UTC()
		}
		if other, ok := f.Tokens[t.Name]; ok && (other.Tier != want.Tier || other.Group != want.Group || other.Limit != want.Limit || !other.Expires.Equal(want.Expires)) {
			unlike[t.Name] = max(unlike[t.Name], 1) + 1
		}
		f.Tokens[t.Name] = want
	}
	for _, name := range slices.Sorted(maps.Keys(unlike)) {
		delete(f.Tokens, name)
		notes = append(notes, fmt.Sprintf("token %q is left out: several have this name and are not alike", name))
	}
	return f, notes
}

// unwire is Wire, back.
func unwire(p api.Policy) selection.Policy {
	out := selection.Policy{
		Name: p.Name, Description: p.Description, MinSeverity: series.Severity(p.MinSeverity), Scope: selection.Scope(p.Scope), Extra: p.Extra, SwapUnused: p.SwapUnused,
	}
	for _, x := range p.Exclusions {
		e := selection.Exclusion{CVE: x.CVE, Fix: x.Fix, Reason: x.Reason, Owner: x.Owner}
		if x.Expires != 0 {
			e.Expires = time.UnixMilli(x.Expires).UTC()
		}
		out.Exclusions = append(out.Exclusions, e)
	}
	return out
}

// Encode writes the file as Parse reads it.
func (f *File) Encode() ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(f); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}
