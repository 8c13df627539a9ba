// SPDX-License-Identifier: Apache-2.0

package selection

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Edit is the policy with further exclusions, in the place of those of the same
// name, and without others. It takes those to be included out first.
func (p Policy) Edit(exclude []Exclusion, include []string) (Policy, error) {
	p.Exclusions = slices.Clone(p.Exclusions)
	for _, name := range include {
		i := slices.IndexFunc(p.Exclusions, func(x Exclusion) bool { return x.Name() == name })
		if i < 0 {
			return p, code.New("TS7905", p.Name, name)
		}
		p.Exclusions = slices.Delete(p.Exclusions, i, i+1)
	}
	for _, x := range exclude {
		i := slices.IndexFunc(p.Exclusions, func(o Exclusion) bool { return o.Name() == x.Name() })
		if i < 0 {
			p.Exclusions = append(p.Exclusions, x)
		} else {
			p.Exclusions[i] = x
		}
	}
	return p, nil
}

// Changes says in a few words what is another in a policy than in an older
// text of it, nil if there was none.
func (p Policy) Changes(old *Policy) string {
	var words []string
	if old == nil {
		words, old = append(words, "new"), &Policy{}
	}
	for _, x := range p.Exclusions {
		if o, ok := old.exclusion(x.Name()); !ok || !o.Expires.Equal(x.Expires) || o.Reason != x.Reason || o.Owner != x.Owner {
			words = append(words, "exclude "+x.say())
		}
	}
	for _, x := range old.Exclusions {
		if _, ok := p.exclusion(x.Name()); !ok {
			words = append(words, "include "+x.Name())
		}
	}
	note := func(name string, a, b any) {
		if a != b {
			words = append(words, fmt.Sprintf("%s %s → %s", name, orNone(a), orNone(b)))
		}
	}
	note("min_severity", old.MinSeverity, p.MinSeverity)
	note("scope", old.Scope, p.Scope)
	note("swap_unused", old.SwapUnused, p.SwapUnused)
	note("extra", strings.Join(old.Extra, " "), strings.Join(p.Extra, " "))
	return strings.Join(words, ", ")
}

// orNone is a value in words, "none" for one that is empty.
func orNone(v any) string { return cmp.Or(fmt.Sprint(v), "none") }

func (p Policy) exclusion(name string) (Exclusion, bool) {
	i := slices.IndexFunc(p.Exclusions, func(x Exclusion) bool { return x.Name() == name })
	if i < 0 {
		return Exclusion{}, false
	}
	return p.Exclusions[i], true
}

func (x Exclusion) say() string {
	until := "for good"
	if !x.Expires.IsZero() {
		until = "until " + x.Expires.UTC().Format(time.DateOnly)
	}
	return fmt.Sprintf("%s %s (%s, %s)", x.Name(), until, x.Reason, x.Owner)
}
