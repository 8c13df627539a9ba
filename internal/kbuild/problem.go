// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

// failures collects the objects that did not compile.
type failures struct {
	mu   sync.Mutex
	objs []Object
	errs []error
}

func (e *failures) add(o Object, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.objs = append(e.objs, o)
	e.errs = append(e.errs, err)
}

// buildProblem makes a problem of a failed build step; its text is the
// messages with the directories taken off the paths.
func buildProblem(c code.Code, where string, err error, dirs ...string) error {
	exit, ok := errors.AsType[*kernel.ExitError](err)
	if !ok {
		return err
	}
	if bytes.Contains(exit.Output, []byte("No space left on device")) {
		return code.New("TS9103", where, "").With(err)
	}
	if why := messages(exit.Output, dirs...); why != "" {
		return code.New(c, where, why) // the command is of no use beside it
	}
	return code.New(c, where, "").With(err)
}

// messages shows a compiler's output with paths as the author knows them.
func messages(out []byte, dirs ...string) string {
	text := kernel.ErrorLines(out)
	for _, d := range dirs {
		text = strings.ReplaceAll(text, d+"/", "")
	}
	return text
}

// explain tells why the fix does not compile. The first object that failed is
// compiled once more from what the author wrote, without #line directives, so
// that the messages have the line numbers of the author's own file.
func (c *compilation) explain(ctx context.Context, failed *failures, w *workspace) error {
	o, err := failed.objs[0], failed.errs[0]
	if werr := w.apply(c.written); werr != nil {
		return errors.Join(err, werr)
	}
	r, rerr := c.recorded(o)
	if rerr != nil {
		return errors.Join(err, rerr)
	}
	p := c.paths(o, w)
	p.out = os.DevNull
	p.extra = []string{"-g0", "-fsyntax-only", "-fno-diagnostics-show-caret"}
	again := run(ctx, c.cwd(w), r.compiler(p))
	if _, ok := errors.AsType[*kernel.ExitError](again); ok {
		err = again
	}
	problem := buildProblem("TS3101", o.Source, err, w.tree())
	if q, ok := errors.AsType[*code.Problem](problem); ok && len(failed.objs) > 1 {
		var rest []string
		for _, o := range failed.objs[1:] {
			rest = append(rest, o.Path)
		}
		q.Why += fmt.Sprintf("\n%d more objects do not compile: %s", len(rest), strings.Join(rest[:min(8, len(rest))], ", "))
	}
	return problem
}
