// SPDX-License-Identifier: Apache-2.0

// Package ui is the edge to the person and the script: results go to standard
// output, everything else to standard error. On a terminal there are a few
// colours and moving progress; elsewhere there are plain lines. With JSON on,
// standard output holds one JSON value and nothing else.
//
// NO_COLOR, TERM=dumb and a redirected stream each turn colours off.
package ui

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/charmbracelet/colorprofile"
	"golang.org/x/term"
)

// Schema is the version of the JSON output. It grows when a field changes its
// meaning or goes away; new fields may come at any time.
const Schema = 1

// Options say how a Terminal behaves.
type Options struct {
	JSON  bool // results and errors as JSON
	Quiet bool // no progress and no talk; results and errors only
}

// Terminal is where a command writes. It is safe for concurrent use.
type Terminal struct {
	opts    Options
	environ []string
	stdout  io.Writer
	stderr  io.Writer
	live    bool // standard error is a terminal that can move its cursor
	width   int  // of standard output in columns; 0 if it is no terminal
	meter   *meter
	mu      sync.Mutex
}

// New makes a Terminal of two streams. The environment decides on colour.
func New(stdout, stderr io.Writer, environ []string, opts Options) *Terminal {
	t := &Terminal{
		opts:    opts,
		environ: environ,
		stdout:  colorprofile.NewWriter(stdout, environ),
		stderr:  colorprofile.NewWriter(stderr, environ),
		live:    columns(stderr) > 0 && colorprofile.Detect(stderr, environ) > colorprofile.NoTTY,
		width:   columns(stdout),
	}
	t.meter = newMeter(t)
	return t
}

func columns(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	n, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return n
}

// JSON reports whether results are wanted as JSON.
func (t *Terminal) JSON() bool { return t.opts.JSON }

// Print writes a result for people. With JSON on it writes nothing.
func (t *Terminal) Print(text string) {
	if !t.opts.JSON {
		t.write(t.stdout, text)
	}
}

// Say writes a remark to standard error.
func (t *Terminal) Say(format string, args ...any) {
	if !t.opts.Quiet && !t.opts.JSON {
		t.meter.above(fmt.Sprintf(format, args...))
	}
}

// Raw writes result bytes as they are: a diff, a script, a man page. Only a
// terminal gets them as Print writes text.
func (t *Terminal) Raw(b []byte) error {
	if t.width > 0 {
		b = []byte(clean(string(b)))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := raw(t.stdout).Write(b)
	return err
}

// raw is the stream below the one that adapts colours.
func raw(w io.Writer) io.Writer {
	if p, ok := w.(*colorprofile.Writer); ok {
		return p.Forward
	}
	return w
}

// Result is the frame of every JSON value on standard output.
type Result struct {
	Schema int    `json:"schema"`
	Kind   string `json:"kind"`
	Result any    `json:"result"`
}

// WriteJSON writes a result of the kind as one indented JSON value.
func (t *Terminal) WriteJSON(kind string, v any) error {
	b, err := json.MarshalIndent(Result{Schema, kind, v}, "", "  ")
	if err != nil {
		return fmt.Errorf("result %s: %w", kind, err)
	}
	return t.Raw(append(b, '\n'))
}

func (t *Terminal) write(w io.Writer, text string) {
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	io.WriteString(w, clean(text))
}
