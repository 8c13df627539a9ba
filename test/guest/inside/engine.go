// SPDX-License-Identifier: Apache-2.0

package inside

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/tsugi-project/tsugi/internal/process"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/ptrace"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// engine is one that takes requests.
type engine struct {
	*process.Engine
	programs map[string]*program
	watching *watching
}

// serve answers requests, one line of JSON each, until there are no more.
func serve(in io.Reader, out io.Writer) {
	e := &engine{
		// An emulated machine on a busy host gives threads little time.
		Engine:   process.New(process.Config{Locks: fmt.Sprintf("/tmp/locks-%d", os.Getuid()), Ptrace: ptrace.Options{Grace: 3 * time.Second}}),
		programs: map[string]*program{},
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r Request
		a := &Answer{}
		err := json.Unmarshal(lines.Bytes(), &r)
		if err == nil {
			err = e.do(context.Background(), r, a)
		}
		if err != nil {
			a.Error = err.Error()
		}
		b, err := json.Marshal(a)
		if err != nil {
			panic(err) // nothing in it can't be JSON
		}
		if _, err := out.Write(append(b, '\n')); err != nil {
			return
		}
	}
}

// do is one request.
func (e *engine) do(ctx context.Context, r Request, a *Answer) error {
	p := e.programs[r.Name]
	if p != nil && r.PID == 0 {
		r.PID = p.cmd.Process.Pid
	}
	switch r.Do {
	case "start":
		p, err := begin(r)
		if err != nil {
			return err
		}
		e.programs[r.Name] = p
		a.PID = p.cmd.Process.Pid
		return nil
	case "ask":
		if p == nil {
			return errors.New("no such program: " + r.Name)
		}
		text, err := p.ask(r.Line)
		a.Text = text
		return err
	case "threads":
		a.Threads = threads(r.PID)
		return nil
	case "label":
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/attr/current", r.PID))
		a.Text = string(b)
		return err
	case "apply", "revert":
		result, err := e.change(ctx, r)
		a.Result = result
		return err
	case "state":
		return e.state(ctx, r, a)
	case "find":
		return find(ctx, r, a)
	case "watch":
		return e.watch(ctx, r, a)
	case "watched":
		a.Found = e.watched()
		return nil
	}
	return errors.New("no such request: " + r.Do)
}

// change applies or reverts.
func (e *engine) change(ctx context.Context, r Request) (*Result, error) {
	var patch process.Patch
	if r.Do == "apply" {
		file, err := read(r.Patch)
		if err != nil {
			return nil, err
		}
		patch = process.Patch{ID: r.Patch, Files: []*splice.File{file}}
	}
	began := time.Now()
	p, err := proc.Open(ctx, r.PID)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	opt := process.Options{Budget: time.Duration(r.Budget) * time.Millisecond}
	var done process.Result
	if r.Do == "apply" {
		done, err = e.Apply(ctx, p, patch, opt)
	} else {
		done, err = e.Revert(ctx, p, process.Selection{}, opt)
	}
	return told(done, began), err
}

func told(r process.Result, began time.Time) *Result {
	t := &Result{State: string(r.State), Tries: r.Tries, Pause: r.Pause.Microseconds(), Took: time.Since(began).Milliseconds()}
	if r.Reason != nil {
		t.Code, t.Why, t.Fix = string(r.Reason.Code), r.Reason.Error(), r.Reason.Fix
	}
	return t
}

func (e *engine) state(ctx context.Context, r Request, a *Answer) error {
	p, err := proc.Open(ctx, r.PID)
	if err != nil {
		return err
	}
	defer p.Close()
	there, err := e.State(ctx, p)
	for _, i := range there {
		a.Text += fmt.Sprintf("%s %s %d\n", i.Patch, i.State, i.Functions)
	}
	return err
}

func read(path string) (*splice.File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return splice.Decode(b)
}

// find looks through all processes.
func find(ctx context.Context, r Request, a *Answer) error {
	file, err := read(r.Patch)
	if err != nil {
		return err
	}
	ids, err := proc.List(ctx)
	if err != nil {
		return err
	}
	found, err := proc.Find(ctx, ids, func(id string) bool { return id == file.BuildID }, proc.FindOptions{})
	for _, f := range found {
		one := Found{PID: f.ID.PID, Static: f.Static}
		if f.Problem != nil {
			one.Code = string(f.Problem.Code)
		}
		a.Found = append(a.Found, one)
	}
	return err
}
