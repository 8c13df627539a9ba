// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

// failure is the JSON form of an error on standard error.
type failure struct {
	Schema   int             `json:"schema"`
	Kind     string          `json:"kind"` // "error"
	Exit     int             `json:"exit"`
	Message  string          `json:"message"`
	Problems []*code.Problem `json:"problems,omitempty"`
}

// Fail tells why a command ends. Every problem with a code gets its remedy on
// a line of its own; with JSON on, the whole is one JSON value.
func (t *Terminal) Fail(program string, err error, exit int) {
	problems := code.All(err)
	if t.opts.JSON {
		b, jerr := json.Marshal(failure{Schema, "error", exit, err.Error(), problems})
		if jerr != nil {
			b = []byte(`{"schema":1,"kind":"error"}`)
		}
		t.write(t.stderr, string(b))
		return
	}
	if len(problems) == 0 {
		text := err.Error()
		if errors.Is(err, context.Canceled) {
			text = "interrupted; nothing is left half-written"
		}
		t.meter.above(Bad(program+":") + " " + text)
		return
	}
	for _, p := range problems {
		t.meter.above(Bad(program+":") + " " + Explain(p))
	}
}

// Explain is a problem for people: what, where and why on the first lines,
// the remedy behind an arrow.
func Explain(p *code.Problem) string {
	var b strings.Builder
	b.WriteString(Bold(string(p.Code)) + ": ")
	text := strings.TrimPrefix(p.Error(), string(p.Code)+": ")
	b.WriteString(strings.TrimSuffix(text, ": "+context.Canceled.Error())) // what the code says already
	if p.Fix != "" {
		b.WriteString("\n" + Indent(Dim("→")+" "+strings.ReplaceAll(p.Fix, "\n", "\n  "), 2))
	}
	return b.String()
}
