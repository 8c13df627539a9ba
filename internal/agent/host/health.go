// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/kload"
)

// reportLines bounds how many lines behind the first belong to a report of
// the kernel: registers, code bytes, a stack.
const reportLines = 120

// reportStarts begin the reports of something bad (arch/x86/mm/fault.c,
// arch/x86/kernel/{traps,dumpstack}.c, kernel/panic.c, lib/bug.c,
// kernel/{hung_task,watchdog}.c, mm/kasan/report.c, lib/list_debug.c).
var reportStarts = [...]string{
	"BUG: ", "WARNING: ", "Oops: ", "kernel BUG at ", "general protection fault", "divide error", "invalid opcode",
	"stack segment", "double fault", "int3:", "watchdog: BUG: ", "list_add corruption", "list_del corruption",
	"unchecked MSR access error", "traps: PANIC", "INFO: task ", "rcu: INFO: ", "refcount_t: ", "UBSAN: ",
}

// Ear listens to the kernel's log for reports that name a live patch.
type Ear struct {
	module    string
	functions []string
	first     string // line of the report that is being told; "" none is
	caller    string
	left      int
}

// NewEar listens for a module and functions.
func NewEar(module string, functions []string) *Ear { return &Ear{module: module, functions: functions} }

// Hear takes the next record and returns what is wrong, or "".
func (e *Ear) Hear(r kload.Record) string {
	if !r.Kernel {
		return ""
	}
	if slices.ContainsFunc(reportStarts[:], func(s string) bool { return strings.HasPrefix(r.Text, s) }) && r.Level <= 4 {
		if e.left == 0 || e.caller != r.Caller {
			e.first, e.caller = r.Text, r.Caller
		}
		e.left = reportLines
	}
	if e.left == 0 || e.caller != r.Caller {
		return "" // another processor's lines lie between
	}
	e.left--
	if fn := e.names(r.Text); fn != "" {
		e.left = 0
		if strings.Contains(e.first, fn) {
			return e.first
		}
		return e.first + " (in " + fn + ")"
	}
	if strings.HasPrefix(r.Text, "---[ end trace") {
		e.left = 0
	}
	return ""
}

// names finds a function of the live patch in a line of a report.
func (e *Ear) names(text string) string {
	// "RIP: 0010:f+0x1/0x2", "WARNING: … at file.c:1 f+0x1/0x2 [mod]", " f+0x1/0x2 [mod]"
	text = strings.ReplaceAll(text, ":", ": ")
	fn, module, ok := kload.ParseFrame(text)
	switch {
	case !ok:
		return ""
	case module == e.module:
		return fn
	case slices.Contains(e.functions, fn) && !strings.HasPrefix(module, "tsugi_"):
		return fn
	}
	return ""
}

// Complaint listens until ctx ends.
func (k Kernel) Complaint(ctx context.Context, since time.Time, module string, functions []string) (string, error) {
	log, err := k.Loader.KlogFromStart()
	if err != nil {
		return "", err
	}
	defer log.Close()
	from := sinceBoot(since)
	ear := NewEar(module, functions)
	for {
		r, err := log.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return "", nil
		case errors.Is(err, io.EOF):
			<-ctx.Done() // a plain file: nothing will be added that is read
			return "", nil
		case err != nil:
			return "", err
		case r.Time < from:
			continue
		}
		if found := ear.Hear(r); found != "" {
			return found, nil
		}
	}
}
