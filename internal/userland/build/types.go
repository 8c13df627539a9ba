// SPDX-License-Identifier: Apache-2.0

package build

import (
	"fmt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/layout"
)

// compareTypes finds types that the fix lays out anew. Objects in memory have
// the old layout, and so have the functions that do not change. The types are
// those of BTF, and of DWARF where there is none; who compiles a unit with
// neither must know that its types stay.
func compareTypes(u Unit, opt Options, r *Result) error {
	was, err := typesOf(u.Orig)
	if err != nil {
		return err
	}
	is, err := typesOf(u.Patched)
	if err != nil {
		return err
	}
	if was == nil || is == nil {
		return compareShapes(u, opt, r)
	}
	for _, ch := range layout.Compare(was, is) {
		p := code.New("TS4030", ch.Type, ch.Detail)
		if ch.Numbers {
			p = code.New("TS4031", ch.Type, ch.Detail)
		}
		if ch.Padding {
			r.Risks = append(r.Risks, Problem{worded(code.New("TS8008", ch.Type, ch.Detail)), u.Source})
			continue
		}
		r.acceptable(p, u, opt)
	}
	return nil
}

// compareShapes does the same by DWARF.
func compareShapes(u Unit, opt Options, r *Result) error {
	was, err := shapes(u.Orig)
	if err != nil {
		return err
	}
	is, err := shapes(u.Patched)
	if err != nil {
		return err
	}
	names, detail := reshaped(was, is)
	for _, n := range names {
		r.acceptable(code.New("TS4030", n, detail(n)), u, opt)
	}
	return nil
}

// acceptable is a refusal, or a risk where the caller lives with it.
func (r *Result) acceptable(p *code.Problem, u Unit, opt Options) {
	if opt.Accept != nil && opt.Accept(p) {
		p.Why += "; accepted"
		r.Risks = append(r.Risks, Problem{worded(p), u.Source})
		return
	}
	r.Refusals = append(r.Refusals, Problem{worded(p), u.Source})
}

func typesOf(f *elfobj.File) (*layout.Types, error) {
	s := f.Section(".BTF")
	if s == nil {
		return nil, nil
	}
	t, err := layout.Parse(s.Data)
	if err != nil {
		return nil, fmt.Errorf("types: %w", err)
	}
	return t, nil
}
