// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/kload"
	vmguest "github.com/tsugi-project/tsugi/internal/vm/guest"
)

// tracer finds out which functions of the live patch's own module run. It
// uses the function tracer in an instance of its own
// (Documentation/trace/ftrace.rst) and takes each function out of the filter
// once it was seen, so that a hot one costs nothing and fills no buffer.
type tracer struct {
	mu      sync.Mutex
	waiting map[string]bool // in the filter
	seen    map[string]bool
	quit    chan struct{} // nil when nothing is watched
	reader  sync.WaitGroup
}

const instance = "/sys/kernel/tracing/instances/tsugi"

func set(file, text string) error {
	return vmguest.WriteString(filepath.Join(instance, file), text)
}

// Traced is what a tracer found. Names are those of the module's symbols.
type Traced struct {
	Traceable []string `json:"traceable"` // functions that the tracer can see
	Seen      []string `json:"seen"`      // those that ran
}

// start begins to watch all functions of the patch's module. A kernel that
// cannot trace, or a module with nothing to trace, is no error.
func (t *tracer) start(_ context.Context, p Patch) (*Traced, error) {
	t.waiting, t.seen = map[string]bool{}, map[string]bool{}
	if err := os.Mkdir(instance, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return &Traced{}, nil
	}
	if set("set_ftrace_filter", "*:mod:"+kload.ModuleName(p.Name)) != nil {
		return &Traced{}, nil
	}
	b, err := os.ReadFile(filepath.Join(instance, "set_ftrace_filter"))
	if err != nil {
		return &Traced{}, err
	}
	out := &Traced{}
	for l := range strings.Lines(string(b)) {
		f := strings.Fields(l) // "name [module]"; a comment when there is no filter
		if len(f) == 2 && f[1] == "["+kload.ModuleName(p.Name)+"]" {
			t.waiting[f[0]] = true
			out.Traceable = append(out.Traceable, f[0])
		}
	}
	slices.Sort(out.Traceable)
	if len(t.waiting) == 0 {
		return out, nil
	}
	// The tracer cannot be changed while someone has the pipe open.
	if err := set("current_tracer", "function"); err != nil {
		return out, err
	}
	// A blocking reader of an empty pipe could not be woken again.
	pipe, err := unix.Open(filepath.Join(instance, "trace_pipe"), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return out, errors.Join(err, set("current_tracer", "nop"))
	}
	t.quit = make(chan struct{})
	t.reader.Go(func() {
		defer unix.Close(pipe)
		t.read(pipe, t.quit)
	})
	return out, nil
}

// read takes lines like "rm-104 [001] ..... 7.106: f <-ext4_free_blocks" until
// every function was seen, or until there is nothing left to read after quit.
func (t *tracer) read(pipe int, quit <-chan struct{}) {
	buf := make([]byte, 64<<10)
	rest := ""
	for {
		n, err := unix.Read(pipe, buf)
		if n <= 0 {
			if err != nil && err != unix.EAGAIN && err != unix.EINTR {
				return
			}
			select {
			case <-quit:
				return
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		lines := strings.Split(rest+string(buf[:n]), "\n")
		rest = lines[len(lines)-1]
		for _, l := range lines[:len(lines)-1] {
			if name := tracedFunction(l); name != "" && t.note(name) {
				return
			}
		}
	}
}

// note takes a function out of the filter. An empty filter would mean all
// functions, so the last one stops the recording instead; note then says true.
func (t *tracer) note(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.waiting[name] {
		return false
	}
	delete(t.waiting, name)
	t.seen[name] = true
	if len(t.waiting) == 0 {
		_ = set("tracing_on", "0")
		return true
	}
	f, err := os.OpenFile(filepath.Join(instance, "set_ftrace_filter"), os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, _ = f.WriteString("!" + name)
		f.Close()
	}
	return false
}

// tracedFunction returns the function of a line of the function tracer, which
// writes a module's as "f [module]".
func tracedFunction(line string) string {
	// A task's name may hold anything, so the line is read from its end.
	i := strings.LastIndex(line, " <-")
	if i < 0 {
		return ""
	}
	j := strings.LastIndex(line[:i], ": ")
	if j < 0 {
		return ""
	}
	name, _, _ := strings.Cut(line[j+2:i], " ")
	return name
}

// stop ends the watch and tells what was seen.
func (t *tracer) stop(_ context.Context, _ Patch) (*Traced, error) {
	if t.quit != nil {
		_ = set("tracing_on", "0")
		close(t.quit)
		t.reader.Wait()
		t.quit = nil
		_ = set("current_tracer", "nop")
	}
	_ = os.Remove(instance)
	out := &Traced{}
	for n := range t.seen {
		out.Seen = append(out.Seen, n)
	}
	for n := range t.waiting {
		out.Traceable = append(out.Traceable, n)
	}
	out.Traceable = append(out.Traceable, out.Seen...)
	slices.Sort(out.Traceable)
	slices.Sort(out.Seen)
	return out, nil
}
