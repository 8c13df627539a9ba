// SPDX-License-Identifier: Apache-2.0

package build

import (
	"fmt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/layout"
)

// compareTypes finds types that the fix lays out anew. Objects in memory have
// the old layout, and so have the functions that do not change. Objects without
// BTF are not judged: compilers write it for C alone.
func compareTypes(u Unit, opt Options, r *Result) error {
	was, err := typesOf(u.Orig)
	if was == nil || err != nil {
		return err
	}
	is, err := typesOf(u.Patched)
	if is == nil || err != nil {
		return err
	}
	for _, ch := range layout.Compare(was, is) {
		p := code.New("TS4030", ch.Type, ch.Detail)
		if ch.Numbers {
			p = code.New("TS4031", ch.Type, ch.Detail)
		}
		switch {
		case ch.Padding:
			r.Risks = append(r.Risks, Problem{worded(code.New("TS8008", ch.Type, ch.Detail)), u.Source})
		case opt.Accept != nil && opt.Accept(p):
			p.Why += "; accepted"
			r.Risks = append(r.Risks, Problem{worded(p), u.Source})
		default:
			r.Refusals = append(r.Refusals, Problem{worded(p), u.Source})
		}
	}
	return nil
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
