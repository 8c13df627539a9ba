// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/vm"
	vmguest "github.com/tsugi-project/tsugi/internal/vm/guest"
)

// ending tells how the reproducer of a step ended.
func ending(o *vm.Outcome, step string) Ending {
	e, ok := o.Step(step)
	if !ok {
		if !o.Began(step) {
			return Ending{Kind: EndNotRun}
		}
		switch {
		case o.End == vm.TimedOut:
			return Ending{Kind: EndHang, Detail: "the whole machine"}
		case o.Crash != nil && o.Crash.Oops:
			return Ending{Kind: EndOops, Detail: crashDetail(o.Crash)}
		case o.Crash != nil:
			return Ending{Kind: EndPanic, Detail: crashDetail(o.Crash)}
		}
		return Ending{Kind: EndDied, Detail: machineEnd(o)}
	}
	if e.Error != "" {
		return Ending{Kind: EndNotRun, Detail: e.Error}
	}
	var r vmguest.ScriptResult
	if !decode(e, &r) {
		return Ending{Kind: EndNotRun, Detail: "its result cannot be read"}
	}
	end := Ending{Output: r.Output, MS: ms(r.Elapsed)}
	switch w := complained(o, step); {
	case oopsed.MatchString(w):
		end.Kind, end.Detail = EndOops, w
	case r.TimedOut || r.Stuck:
		end.Kind, end.Detail = EndHang, fmt.Sprintf("for %s", time.Duration(r.Elapsed).Round(time.Second))
		if r.Stacks != "" {
			end.Detail += "\n" + r.Stacks
		}
	case r.Signal != "":
		end.Kind, end.Detail = EndSignal, r.Signal
	case r.Exit != 0:
		end.Kind, end.Detail = EndExit, fmt.Sprint(r.Exit)
	case w != "":
		end.Kind, end.Detail = EndWarning, w
	default:
		end.Kind = EndPassed
	}
	return end
}

// String is the kind and its detail.
func (e Ending) String() string {
	if e.Detail == "" {
		return string(e.Kind)
	}
	return string(e.Kind) + ": " + e.Detail
}

func run(r *Request, o *vm.Outcome) *Run {
	if o == nil {
		return nil
	}
	sum := sha256.Sum256([]byte(o.Console))
	out := &Run{
		End: o.End, Crash: o.Crash, BootMS: o.Boot.Milliseconds(),
		ElapsedMS: o.Elapsed.Milliseconds(), ConsoleDigest: hex.EncodeToString(sum[:]), Console: o.Console,
	}
	if r.Reproducer != "" {
		e := ending(o, stepReproduce)
		out.Reproducer = &e
	}
	if r.Probe != "" {
		e := ending(o, stepProbe)
		out.Probe = &e
	}
	return out
}

func crashDetail(c *vm.Crash) string {
	if c.Function == "" {
		return c.Title
	}
	return c.Title + " in " + c.Function
}

func machineEnd(o *vm.Outcome) string {
	if o.Crash != nil {
		return fmt.Sprintf("the machine %s: %s", o.End, crashDetail(o.Crash))
	}
	lines := strings.Split(strings.TrimSpace(o.Console), "\n")
	return fmt.Sprintf("the machine %s; the console ends with: %s", o.End, lines[len(lines)-1])
}
