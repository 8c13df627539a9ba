// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/proof/guest"
)

func (j *judge) functions() {
	s, ok := j.state(stepLoaded)
	if !ok {
		j.notReached(CheckFunctions)
		return
	}
	j.p.Objects = s.Objects
	var wrong []string
	if s.Enabled != "1" || s.Transition != "0" {
		wrong = append(wrong, fmt.Sprintf("enabled is %q, transition is %q", s.Enabled, s.Transition))
	}
	wrong = append(wrong, compareFunctions(j.ev.Request.Functions, s.Objects)...)
	wrong = append(wrong, unpatched(s, j.ev.Request.LateModules)...)
	if len(wrong) > 0 {
		j.fail(CheckFunctions, "TS6105", j.p.Patch.Name, strings.Join(wrong, "; "))
		return
	}
	j.pass(CheckFunctions, 0, "%d", len(j.ev.Request.Functions))
}

// compareFunctions tells what sysfs has and the manifest has not, and the
// other way round.
func compareFunctions(want []livepatch.Function, got []guest.Object) []string {
	left := map[string]bool{}
	for _, f := range want {
		// sysfs counts from 1 and shows a unique name as the first.
		left[fmt.Sprintf("%s/%s,%d", f.Object, f.Name, max(f.SymPos, 1))] = true
	}
	var wrong []string
	for _, o := range got {
		for _, f := range o.Functions {
			key := o.Name + "/" + f
			if !left[key] {
				wrong = append(wrong, key+" is patched and not in the manifest")
			}
			delete(left, key)
		}
	}
	for k := range left {
		wrong = append(wrong, k+" is in the manifest and not patched")
	}
	slices.Sort(wrong)
	return wrong
}

// unpatched names the objects that are there and not patched, and the late
// ones that were there too early to show anything.
func unpatched(s *guest.State, late []string) []string {
	var wrong []string
	for _, o := range s.Objects {
		loaded := o.Name == livepatch.Vmlinux || slices.Contains(s.Modules, o.Name)
		switch {
		case o.Patched == "": // kernels before 6.1 do not tell
		case loaded && o.Patched != "1":
			wrong = append(wrong, o.Name+" is loaded and not patched")
		case !loaded && o.Patched != "0":
			wrong = append(wrong, o.Name+" is patched and not loaded")
		}
		if loaded && slices.Contains(late, o.Name) {
			wrong = append(wrong, o.Name+" was loaded before the patch, so that nothing is shown about its arrival")
		}
	}
	return wrong
}

func (j *judge) late() {
	late := j.ev.Request.LateModules
	if len(late) == 0 {
		j.skip(CheckLate, "none asked for")
		return
	}
	e, ok := j.ev.After.Step(stepLate)
	if !ok {
		j.notReached(CheckLate)
		return
	}
	if e.Error != "" {
		j.fail(CheckLate, "TS6109", strings.Join(late, ", "), refusal(e, j.ev.After))
		return
	}
	s, ok := j.state(stepLateLoaded)
	if !ok {
		j.notReached(CheckLate)
		return
	}
	j.p.Objects = s.Objects
	wrong := unpatched(s, nil)
	for _, m := range late {
		if !slices.Contains(s.Modules, m) {
			wrong = append(wrong, m+" is not loaded")
		}
	}
	if len(wrong) > 0 {
		j.fail(CheckLate, "TS6109", strings.Join(late, ", "), strings.Join(wrong, "; "))
		return
	}
	j.pass(CheckLate, 0, "%s", strings.Join(late, ", "))
}

func (j *judge) state(step string) (*guest.State, bool) {
	e, ok := j.ev.After.Step(step)
	if !ok || e.Error != "" {
		return nil, false
	}
	var s guest.State
	return &s, decode(e, &s)
}
