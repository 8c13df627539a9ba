// SPDX-License-Identifier: Apache-2.0

package selection

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/series"
)

var (
	cveForm  = regexp.MustCompile(`^CVE-\d{4}-\d{4,19}$`)
	nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
)

// maxPolicy bounds the text of a policy.
const maxPolicy = 1 << 20

// ParsePolicy reads a policy in YAML. A key that it does not know is an error:
// a misspelt exclusion must not be lost. name is used for messages, and is the
// policy's when the text has none.
func ParsePolicy(name string, b []byte) (Policy, error) {
	if len(b) > maxPolicy {
		return Policy{}, code.New("TS1301", name, fmt.Sprintf("it is longer than %d bytes", maxPolicy))
	}
	var p Policy
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&p); err != nil && !errors.Is(err, io.EOF) {
		return Policy{}, code.New("TS1301", name, err.Error())
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Policy{}, code.New("TS1301", name, "there is more than one document in it")
	}
	if p.Name == "" {
		p.Name = name
	}
	return p, p.Check()
}

// Check holds for every policy that is used: what is excluded, by whom and why
// is always known.
func (p Policy) Check() error {
	bad := func(format string, args ...any) error {
		return code.New("TS1301", p.Name, fmt.Sprintf(format, args...))
	}
	switch {
	case !nameForm.MatchString(p.Name):
		return bad("name %q: not 1 to 63 of a-z, 0-9, dot, dash and underscore", p.Name)
	case p.MinSeverity.Rank() < 0:
		return bad("min_severity %q: not low, medium, high or critical", p.MinSeverity)
	case !slices.Contains([]Scope{"", Security, All}, p.Scope):
		return bad("scope %q: not security or all", p.Scope)
	}
	for i, name := range p.Extra {
		if !nameForm.MatchString(name) || slices.Contains(p.Extra[:i], name) {
			return bad("extra %q: no name of a series, or twice", name)
		}
	}
	seen := map[string]bool{}
	for _, x := range p.Exclusions {
		switch id := x.Name(); {
		case (x.CVE == "") == (x.Fix == ""):
			return bad("an exclusion has either a cve or a fix")
		case x.CVE != "" && !cveForm.MatchString(x.CVE):
			return bad("exclusion: %q is not a CVE id", x.CVE)
		case x.Reason == "":
			return bad("exclusion of %s: no reason", id)
		case x.Owner == "":
			return bad("exclusion of %s: no owner", id)
		case seen[id]:
			return bad("exclusion of %s: twice", id)
		default:
			seen[id] = true
		}
	}
	return nil
}

// Name is what the exclusion leaves out: a CVE, or the id of a fix.
func (x Exclusion) Name() string {
	if x.CVE != "" {
		return x.CVE
	}
	return x.Fix
}

// Active tells whether the exclusion holds at a time.
func (x Exclusion) Active(now time.Time) bool { return x.Expires.IsZero() || now.Before(x.Expires) }

// names returns the name by which the exclusion means a fix, or "".
func (x Exclusion) names(f *series.Fix) string {
	switch {
	case x.CVE != "" && slices.Contains(f.CVEs, x.CVE):
		return x.CVE
	case x.Fix != "" && x.Fix == f.ID:
		return x.Fix
	}
	return ""
}

func (p Policy) excludes(f *series.Fix, now time.Time) (Exclusion, string) {
	for _, x := range p.Exclusions {
		if by := x.names(f); by != "" && x.Active(now) {
			return x, by
		}
	}
	return Exclusion{}, ""
}

// Ending lists the exclusions that are in force and end within a time, the
// first to end first.
func (p Policy) Ending(now time.Time, within time.Duration) []Exclusion {
	var out []Exclusion
	for _, x := range p.Exclusions {
		if x.Active(now) && !x.Expires.IsZero() && !x.Expires.After(now.Add(within)) {
			out = append(out, x)
		}
	}
	slices.SortStableFunc(out, func(a, b Exclusion) int { return a.Expires.Compare(b.Expires) })
	return out
}
