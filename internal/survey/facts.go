// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"encoding/json"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

// Facts are what is known of the fixes of a series, for choosing among them
// before anything is built.
type Facts struct {
	Verdicts map[string]selection.Fact `json:"verdicts"` // by id of the fix
}

// Known returns what surveys that were made before, by the same program, found
// out about the fixes of a series. Of others it says nothing.
func Known(req Request) (*Facts, error) {
	kept, err := openVerdicts(req.Dir, req.Target)
	if err != nil {
		return nil, err
	}
	w := &walk{req: req, kept: kept, digest: series.Digest(req.Series.Fixes)}
	if _, err := w.recall(); err != nil {
		return nil, err
	}
	f := newFacts()
	for i, x := range req.Series.Fixes {
		if e := w.found[i]; w.holds(x, e) {
			f.add(x.ID, e.Verdict)
		}
	}
	return f, nil
}

// Facts are those of all fixes of the report.
func (r *Report) Facts() *Facts {
	f := newFacts()
	for _, x := range r.Fixes {
		f.add(x.ID, x.Verdict)
	}
	return f
}

func newFacts() *Facts {
	return &Facts{Verdicts: map[string]selection.Fact{}}
}

func (f *Facts) add(id string, v *Verdict) {
	if v.Outcome == Unknown {
		return
	}
	fact := selection.Fact{Verdict: selection.Verdict(v.Outcome)}
	if len(v.Reasons) > 0 {
		fact.Code, fact.Why = v.Reasons[0].Code, v.Reasons[0].line()
	}
	// What it was taken together with may be more than it needs, so that it is
	// not what the fix requires: a build finds that out.
	for _, x := range v.With {
		fact.With = append(fact.With, x.ID)
	}
	f.Verdicts[id] = fact
}

// ReadReport reads what tsugictl survey --json or --json-file wrote.
func ReadReport(name string, b []byte) (*Report, error) {
	var frame struct {
		Kind   string  `json:"kind"`
		Result *Report `json:"result"`
	}
	if err := json.Unmarshal(b, &frame); err != nil {
		return nil, code.New("TS1405", name, "").With(err)
	}
	r := frame.Result
	if frame.Kind != "survey" || r == nil || r.Schema != schema {
		return nil, code.New("TS1405", name, "it is of another kind, or of another version of Tsugi")
	}
	for _, f := range r.Fixes {
		if f.ID == "" || f.Verdict == nil || f.Outcome == "" {
			return nil, code.New("TS1405", name, "a fix without an id or a verdict")
		}
	}
	return r, nil
}
