// SPDX-License-Identifier: Apache-2.0

// Package survey finds out what of a series of fixes a target can have without
// a reboot: it walks the fixes of a whole update, judges each one as a build
// would, and says what that means for every CVE.
//
// In go a target and a series, out comes a [Report] with a [Verdict] for every
// fix and every CVE, and how often each reason for a reboot was given. Text,
// JSON and HTML are made from it.
//
// A fix is judged alone, with the fixes that it requires, on the unmodified
// target. One that does not compile because it misses what another fix of the
// series brings is taken together with that one, and the verdict tells so.
//
// Verdicts are kept, so a survey that was interrupted goes on where it was,
// and a repeated one costs seconds. A verdict holds as long as the fix, what
// it requires, the target and the engine are the same; after a change of the
// engine it is found again, from objects that were compiled already.
package survey

import (
	"context"
	"fmt"
	"runtime"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/series"
)

// Request says what to survey.
type Request struct {
	Target *kernel.Target
	Series *series.Series
	Dir    string // where verdicts are kept, for all targets
	// Engine names the program that judges. Verdicts of another one are found
	// again.
	Engine     string
	Made       string // date of the report
	Jobs       int    // fixes and compilers at a time; 0 for one per processor
	MaxObjects int    // objects that a fix may reach; 0: 500
	// Known judges nothing: the report tells what is known by now, be it found
	// by another engine.
	Known  bool
	Shared kbuild.Cache
}

// Run walks the fixes and reports. What it found so far is kept when ctx ends.
func Run(ctx context.Context, req Request, rep progress.Reporter) (*Report, error) {
	if req.Jobs <= 0 {
		req.Jobs = runtime.NumCPU()
	}
	if from := req.Series.From; from != "" && from != req.Target.SourceVersion {
		return nil, OtherSource(req.Target, from)
	}
	kept, err := openVerdicts(req.Dir, req.Target)
	if err != nil {
		return nil, err
	}
	w := newWalk(req, kept, rep)
	if err := w.run(ctx); err != nil {
		return nil, kernel.OrInterrupted(ctx, err)
	}
	return w.report(), nil
}

// OtherSource is the problem of an update that does not begin where the
// target's source stands.
func OtherSource(t *kernel.Target, from string) *code.Problem {
	return code.New("TS1401", t.Name, fmt.Sprintf("its source is %s, the update begins at %s", t.SourceVersion, from))
}
