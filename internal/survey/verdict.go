// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"errors"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
)

// Outcome is what became of a fix or of a CVE on one target.
type Outcome string

const (
	Live        Outcome = "live"         // it can be had without a reboot
	Reboot      Outcome = "reboot"       // it can't, and the reasons say why
	NotAffected Outcome = "not-affected" // it changes nothing that runs here
	Failed      Outcome = "error"        // no verdict: a defect of the fix or of Tsugi
	Unknown     Outcome = "unknown"      // not judged yet; only in a report of what is known
)

// Verdict is what a survey found out about one fix, together with the fixes
// that it requires, on the unmodified target.
type Verdict struct {
	Outcome Outcome `json:"verdict"`
	// Served: the verdict is reboot, and all that the fix changes lies in
	// modules. Machines that have not loaded them are served by the fixed
	// modules, put in their place on disk.
	Served  bool                 `json:"served_by_module,omitempty"`
	Reasons []Reason             `json:"reasons,omitempty"` // of reboot and error
	Risks   []Reason             `json:"risks,omitempty"`
	Objects []Object             `json:"objects,omitempty"`
	Unbuilt []builder.Unbuilt    `json:"unbuilt,omitempty"`
	Changes []livepatch.Function `json:"functions,omitempty"` // replaced functions
	// Partial: not all objects were looked at, because the others decide.
	Partial bool `json:"partial,omitempty"`
	// With are the fixes that it was taken together with.
	With  []Requirement `json:"with,omitempty"`
	Milli int64         `json:"ms"` // how long it took
}

// Reason is a problem with its place.
type Reason struct {
	Code   code.Code `json:"code"`
	What   string    `json:"what"`
	Where  string    `json:"where,omitempty"`
	Why    string    `json:"why,omitempty"`
	Object string    `json:"object,omitempty"`
	Source string    `json:"source,omitempty"` // "fs/ext4/mballoc.c:1540"
}

// Object is an object that the fix was compiled to.
type Object struct {
	Path    string `json:"path"`
	Module  string `json:"module,omitempty"` // "" is vmlinux
	Changed bool   `json:"changed"`          // both compiles differ
}

// Requirement is a fix that another one can't do without.
type Requirement struct {
	ID string `json:"id"`
	// Name is what the compiler missed without it; "" when the series says that
	// it is required.
	Name string `json:"name,omitempty"`
}

// Modules lists the modules that the fix changes something in.
func (v *Verdict) Modules() []string {
	var out []string
	for _, o := range v.Objects {
		if o.Changed && o.Module != "" {
			out = append(out, o.Module)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Built tells whether the target builds something of the fix.
func (v *Verdict) Built() bool { return v.Outcome != NotAffected && v.Outcome != Unknown }

// fromReport takes over what a build found.
func fromReport(r *builder.Report) *Verdict {
	v := &Verdict{Outcome: Outcome(r.Verdict), Unbuilt: r.Unbuilt, Changes: r.Functions}
	for _, x := range r.Refusals {
		v.Reasons = append(v.Reasons, reasonOf(x))
	}
	for _, x := range r.Risks {
		v.Risks = append(v.Risks, reasonOf(x))
	}
	onlyModules := false
	for i, o := range r.Objects {
		changed := o.Diff != nil
		v.Objects = append(v.Objects, Object{o.Path, o.Module, changed})
		if changed {
			onlyModules = o.Module != "" && (onlyModules || !slices.ContainsFunc(v.Objects[:i], func(b Object) bool { return b.Changed }))
		}
	}
	v.Served = v.Outcome == Reboot && onlyModules && !r.Rest.Kernel
	v.Partial = r.Rest.Any
	return v
}

func reasonOf(r builder.Refusal) Reason {
	return Reason{Code: r.Code, What: r.What, Where: r.Where, Why: shorten(r.Why), Object: r.Object, Source: r.Source}
}

// unanswered is the verdict of fixes some object of which does not compile, or
// can't be compared. When that is a refusal, it is one of the fix.
func unanswered(r *builder.Report, err error) *Verdict {
	if err != nil || r == nil {
		return failed(err)
	}
	v := fromReport(r)
	v.Outcome, v.Served, v.Reasons = Failed, false, nil
	refusals := 0
	for _, x := range r.Failed {
		v.Reasons = append(v.Reasons, reasonOf(x))
		if e, ok := code.Lookup(x.Code); ok && e.Kind == code.KindRefusal {
			refusals++
		}
	}
	if refusals == len(r.Failed) {
		v.Outcome = Reboot
	}
	return v
}

// failed is the verdict of a fix that could not be judged.
func failed(err error) *Verdict {
	v := &Verdict{Outcome: Failed}
	if p, ok := errors.AsType[*code.Problem](err); ok {
		why := p.Why
		if why == "" && p.Err != nil {
			why = p.Err.Error()
		}
		v.Reasons = []Reason{{Code: p.Code, What: p.What, Where: p.Where, Why: shorten(why)}}
		return v
	}
	p := code.New("TS1403", "", "")
	v.Reasons = []Reason{{Code: p.Code, What: p.What, Why: shorten(err.Error())}}
	return v
}

// line is the reason in one line.
func (r Reason) line() string {
	words := []string{r.What}
	for _, w := range []string{r.Where, r.Why} {
		if w != "" {
			words = append(words, clip(strings.Join(strings.Fields(w), " "), 200))
		}
	}
	return strings.Join(words, ": ")
}

// passing tells a verdict that the machine may be the reason of, not the fix:
// an error that Tsugi has no name for. It is reported, and found again the next
// time.
func (v *Verdict) passing() bool {
	return slices.ContainsFunc(v.Reasons, func(r Reason) bool { return r.Code == "TS1403" })
}

// tooMany tells a verdict that a higher limit may change.
func (v *Verdict) tooMany() bool {
	return slices.ContainsFunc(v.Reasons, func(r Reason) bool { return r.Code == "TS3106" })
}

// shorten keeps a compiler's messages from filling a report.
func shorten(s string) string {
	const most = 1500
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + " …"
}
