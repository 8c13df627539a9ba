// SPDX-License-Identifier: Apache-2.0

package selection

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/strict"
)

// PushedFormat is the number of this version of the form.
const PushedFormat = 1

// MaxPushed bounds the bytes of one.
const MaxPushed = 64 << 20

// Pushed is a series of fixes for one target, with what is known of each there,
// as it travels to a server and from it to its workers: one JSON document. All
// that decides about a live patch is in it, so equal bytes are equal choices.
type Pushed struct {
	Format       int            `json:"format"`
	Target       string         `json:"target"` // "debian:6.1.0-54-amd64"
	Name         string         `json:"name,omitempty"`
	From         string         `json:"from,omitempty"`
	To           string         `json:"to,omitempty"`
	Fixes        []PushedFix    `json:"fixes"`
	Unattributed []series.Entry `json:"unattributed,omitempty"`
}

// PushedFix is one fix of it.
type PushedFix struct {
	series.Meta
	Diff string `json:"diff"`
	Fact *Fact  `json:"fact,omitempty"` // nil: not known; a build finds out
}

// Push makes the form of a series. What facts does not name is not known.
func Push(target string, s *series.Series, facts map[string]Fact) *Pushed {
	p := &Pushed{Format: PushedFormat, Target: target, Name: s.Name, From: s.From, To: s.To, Unattributed: s.Unattributed}
	for _, f := range s.Fixes {
		pf := PushedFix{Meta: f.Meta, Diff: string(f.Diff.Raw)}
		if fact, ok := facts[f.ID]; ok {
			pf.Fact = &fact
		}
		p.Fixes = append(p.Fixes, pf)
	}
	return p
}

// Bytes is the one text of it.
func (p *Pushed) Bytes() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(p)
	return b.Bytes(), err
}

// ReadPushed reads it and everything in it: each diff, id and severity.
func ReadPushed(b []byte) (*Pushed, *series.Series, map[string]Fact, error) {
	if len(b) > MaxPushed {
		return nil, nil, nil, badPushed("%d bytes, more than %d", len(b), MaxPushed)
	}
	var p Pushed
	if err := strict.JSON(b, &p); err != nil {
		return nil, nil, nil, badPushed("not readable").With(err)
	}
	switch {
	case p.Format != PushedFormat:
		return nil, nil, nil, badPushed("format %d, this program knows %d", p.Format, PushedFormat)
	case p.Target == "":
		return nil, nil, nil, badPushed("it does not say for which target it is")
	case len(p.Fixes) == 0:
		return nil, nil, nil, badPushed("it holds no fix")
	}
	s := &series.Series{Name: p.Name, From: p.From, To: p.To, Unattributed: p.Unattributed}
	facts := map[string]Fact{}
	ids := map[string]bool{}
	for i := range p.Fixes {
		f, err := p.Fixes[i].parse()
		if err != nil {
			return nil, nil, nil, err
		}
		if ids[f.ID] {
			return nil, nil, nil, badPushed("fix %s is in it twice", f.ID)
		}
		ids[f.ID] = true
		if k := p.Fixes[i].Fact; k != nil {
			facts[f.ID] = *k
		}
		s.Fixes = append(s.Fixes, f)
	}
	return &p, s, facts, nil
}

func (p *PushedFix) parse() (*series.Fix, error) {
	if p.ID == "" || len(p.ID) > 200 || strings.ContainsFunc(p.ID, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, badPushed("a fix's id %q: not 1 to 200 characters without blanks", p.ID)
	}
	if p.Severity.Rank() < 0 {
		return nil, badPushed("fix %s: severity %q", p.ID, p.Severity)
	}
	if p.Fact != nil && !slices.Contains([]Verdict{IsLive, NeedsReboot, IsNotAffected, IsError}, p.Fact.Verdict) {
		return nil, badPushed("fix %s: verdict %q", p.ID, p.Fact.Verdict)
	}
	d, err := fix.Parse(p.ID, []byte(p.Diff))
	if err != nil {
		return nil, fmt.Errorf("fix %s: %w", p.ID, err)
	}
	d.ID = p.ID
	return &series.Fix{Meta: p.Meta, Diff: d}, nil
}

// Join puts series one after another. An id that two of them have is refused:
// nobody could say which of the two a policy means.
func Join(all ...*series.Series) (*series.Series, error) {
	if len(all) == 1 {
		return all[0], nil
	}
	out := &series.Series{}
	ids := map[string]bool{}
	for i, s := range all {
		if i == 0 {
			out.Name, out.From, out.To = s.Name, s.From, s.To
		}
		out.Unattributed = append(out.Unattributed, s.Unattributed...)
		for _, f := range s.Fixes {
			if ids[f.ID] {
				return nil, badPushed("fix %s is in two series", f.ID).WithFix("rename it in one of them and push that again")
			}
			ids[f.ID] = true
			out.Fixes = append(out.Fixes, f)
		}
	}
	return out, nil
}

func badPushed(format string, args ...any) *code.Problem {
	return code.New("TS7901", "", fmt.Sprintf(format, args...))
}
