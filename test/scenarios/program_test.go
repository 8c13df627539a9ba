// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/userland/local"
)

// source reads a file of testdata in two versions.
func source(t *testing.T, name string, from, to int) local.Source {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	qt.Assert(t, qt.IsNil(err))
	text := func(level int) string {
		if filepath.Ext(name) == ".s" {
			return fmt.Sprintf("\t.set LEVEL, %d\n%s", level, b)
		}
		return fmt.Sprintf("#define LEVEL %d\n#line 1\n%s", level, b)
	}
	return local.Source{Name: name, Original: text(from), Patched: text(to)}
}

// build is what build makes.
type build struct {
	name    string // of the file
	kind    local.Kind
	files   []string // that have versions
	same    []string // that are only linked
	strip   bool
	cflags  []string
	ldflags []string
}

// at builds version 0 and what leads from it to a level, in dir.
func (b build) at(t *testing.T, dir string, level int) (*local.Result, error) {
	t.Helper()
	header, err := os.ReadFile("testdata/control.h")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "control.h"), header, 0o644)))
	o := local.Options{Dir: dir, Name: b.name, Kind: b.kind, Strip: b.strip, CFlags: b.cflags, LDFlags: b.ldflags}
	for _, f := range b.files {
		o.Sources = append(o.Sources, source(t, f, 0, level))
	}
	for _, f := range b.same {
		o.Sources = append(o.Sources, source(t, f, 0, 0))
	}
	return local.Build(t.Context(), o)
}

// program is a process that runs control.c.
type program struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out chan string
	pid int
}

// limit is how long a process may take to answer.
const limit = 20 * time.Second

// start starts a program and waits until it answers.
func start(t *testing.T, path string, env ...string) *program {
	t.Helper()
	p := begin(t, path, env...)
	p.pid = p.ready()
	return p
}

// begin only starts it.
func begin(t *testing.T, path string, env ...string) *program {
	t.Helper()
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	qt.Assert(t, qt.IsNil(err))
	stdout, err := cmd.StdoutPipe()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(cmd.Start()))
	p := &program{t: t, cmd: cmd, in: in, out: make(chan string, 16)}
	go func() {
		defer close(p.out)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			p.out <- s.Text()
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return p
}

// ready reads what a process says when it begins.
func (p *program) ready() int {
	p.t.Helper()
	pid, err := strconv.Atoi(strings.TrimPrefix(p.answer(), "= ready "))
	qt.Assert(p.t, qt.IsNil(err))
	return pid
}

func (p *program) answer() string {
	p.t.Helper()
	select {
	case l, ok := <-p.out:
		if !ok {
			err := p.cmd.Wait()
			p.t.Fatalf("the process ended: %v", err)
		}
		return l
	case <-time.After(limit):
		p.t.Fatalf("the process does not answer")
	}
	return ""
}

// do asks and returns the number that is answered.
func (p *program) do(format string, args ...any) int {
	p.t.Helper()
	ask := fmt.Sprintf(format, args...)
	if _, err := io.WriteString(p.in, ask+"\n"); err != nil {
		p.t.Fatalf("%s: %v", ask, err)
	}
	a := p.answer()
	n, err := strconv.Atoi(strings.TrimPrefix(a, "= "))
	if err != nil {
		p.t.Fatalf("%s: the answer is %q", ask, a)
	}
	return n
}

// check asks for the value of a call of every one.
func (p *program) check(when string, want []call, value func(call) int) {
	p.t.Helper()
	for _, c := range want {
		qt.Check(p.t, qt.Equals(p.do("call %s %d", c.name, c.with), value(c)), qt.Commentf("%s: %s(%d)", when, c.name, c.with))
	}
}

// call is a function of a program with what it returns before and after.
type call struct {
	name          string
	with          int
	before, after int
}

// quit ends the process in good order: it has to be able to.
func (p *program) quit() {
	p.t.Helper()
	p.do("quit")
	if _, ok := <-p.out; ok {
		p.t.Errorf("the process says more")
	}
	qt.Check(p.t, qt.IsNil(p.cmd.Wait()))
}

// until waits for something that comes by itself.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come: %s", what)
		}
	}
}
