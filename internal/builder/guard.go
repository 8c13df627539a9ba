// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Guard runs a step that reads what compilers and other people made. A defect
// of the engine that shows as a panic becomes the problem that tells so: one
// object must not end a survey of thousands, or a server's worker.
func Guard(where string, step func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = code.New("TS1402", where, fmt.Sprintf("%v at %s", p, panicked(string(debug.Stack()))))
		}
	}()
	return step()
}

// panicked is the first place of Tsugi's own in a stack, below the panic.
func panicked(stack string) string {
	_, below, _ := strings.Cut(stack, "\npanic(")
	for line := range strings.Lines(below) {
		line = strings.TrimSpace(line)
		if at := strings.Index(line, "/internal/"); at >= 0 && strings.Contains(line, ".go:") {
			place, _, _ := strings.Cut(line[at+1:], " ")
			return place
		}
	}
	return "an unknown place"
}
