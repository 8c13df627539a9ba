// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/progress"
)

func terminal(opts Options) (t *Terminal, stdout, stderr *bytes.Buffer) {
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	return New(stdout, stderr, []string{"TERM=xterm-256color"}, opts), stdout, stderr
}

func TestRedirectedOutputHasNoEscapes(t *testing.T) {
	term, stdout, stderr := terminal(Options{})
	term.Print(Bold("title") + " " + Good("fine"))
	term.Say("%s", Warn("mind"))
	term.Fail("prog", code.New("TS1001", "x.o", "it is empty"), 1)
	qt.Check(t, qt.Equals(stdout.String(), "title fine\n"))
	qt.Check(t, qt.IsFalse(strings.Contains(stdout.String()+stderr.String(), "\x1b")))
}

func TestFailGivesTheRemedyALineOfItsOwn(t *testing.T) {
	term, _, stderr := terminal(Options{})
	p := code.New("TS1001", "x.o", "it is empty").WithFix("do this\nthen that")
	term.Fail("prog", fmt.Errorf("outer: %w", p), 1)
	qt.Check(t, qt.Equals(stderr.String(), "prog: TS1001: not a relocatable ELF64 object: x.o: it is empty\n  → do this\n    then that\n"))
}

func TestFailTellsEveryProblemOfAJoinedError(t *testing.T) {
	term, _, stderr := terminal(Options{})
	term.Fail("prog", errors.Join(code.New("TS1001", "a.o", ""), code.New("TS1001", "b.o", "")), 1)
	qt.Check(t, qt.Equals(strings.Count(stderr.String(), "TS1001"), 2))
}

func TestFailOfAPlainErrorAndOfAnInterrupt(t *testing.T) {
	term, _, stderr := terminal(Options{})
	term.Fail("prog", errors.New("the sky fell"), 1)
	term.Fail("prog", fmt.Errorf("stage: %w", context.Canceled), 130)
	qt.Check(t, qt.Equals(stderr.String(), "prog: the sky fell\nprog: interrupted; nothing is left half-written\n"))
}

func TestJSONErrorsAreOneObject(t *testing.T) {
	term, stdout, stderr := terminal(Options{JSON: true})
	term.Print("not for scripts")
	term.Say("nor this")
	task := term.Progress().Start("work", 0, progress.Steps)
	task.Done(nil)
	term.Fail("prog", code.New("TS1001", "x.o", "it is empty"), 1)
	qt.Check(t, qt.Equals(stdout.String(), ""))
	var f failure
	qt.Assert(t, qt.IsNil(json.Unmarshal(stderr.Bytes(), &f)))
	qt.Check(t, qt.Equals(f.Schema, Schema))
	qt.Check(t, qt.Equals(f.Exit, 1))
	qt.Check(t, qt.Equals(f.Problems[0].Code, code.Code("TS1001")))
}

func TestJSONResultsHaveSchemaAndKind(t *testing.T) {
	term, stdout, _ := terminal(Options{JSON: true})
	qt.Assert(t, qt.IsNil(term.WriteJSON("thing", map[string]int{"n": 3})))
	qt.Check(t, qt.JSONEquals(stdout.String(), map[string]any{"schema": 1, "kind": "thing", "result": map[string]any{"n": 3}}))
}

func TestStagesWithoutATerminalAreLines(t *testing.T) {
	term, _, stderr := terminal(Options{})
	rep := term.Progress()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			task := rep.Start(fmt.Sprintf("stage %d", i), 10, progress.Bytes)
			task.Add(10)
			task.Note("a note")
			if i == 3 {
				task.Done(errors.New("no"))
			} else {
				task.Done(nil)
			}
		})
	}
	wg.Wait()
	term.Close()
	qt.Check(t, qt.Equals(strings.Count(stderr.String(), "✓"), 7))
	qt.Check(t, qt.Equals(strings.Count(stderr.String(), "✗"), 1))
	qt.Check(t, qt.Equals(strings.Count(stderr.String(), "\n"), 8))
}

func TestCloseEndsOpenTasksAndLaterCallsAreHarmless(t *testing.T) {
	term, _, stderr := terminal(Options{})
	task := term.Progress().Start("forgotten", 0, progress.Steps)
	term.Close()
	task.Add(1)
	task.Done(nil)
	qt.Check(t, qt.Equals(stderr.String(), ""))
}

func TestTableAlignsAndTrims(t *testing.T) {
	got := Table([]string{"name", "n"}, [][]string{{"a", "1"}, {"longer", "200"}}, 1)
	term, stdout, _ := terminal(Options{})
	term.Print(got)
	qt.Check(t, qt.Equals(stdout.String(), "name      n\na         1\nlonger  200\n"))
	qt.Check(t, qt.Equals(Table([]string{"x"}, nil), ""))
}

func TestFlowBreaksLinesBehindTheLabel(t *testing.T) {
	words := slices.Repeat([]string{"__jump_table 24"}, 8)
	got := Flow("  special  ", words, ", ")
	lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	qt.Assert(t, qt.Equals(len(lines), 2))
	qt.Check(t, qt.IsTrue(len(lines[0]) <= 100))
	qt.Check(t, qt.IsTrue(strings.HasSuffix(lines[0], ",")))
	qt.Check(t, qt.IsTrue(strings.HasPrefix(lines[1], "           __jump_table")))
	qt.Check(t, qt.Equals(Flow("x", nil, ""), ""))
}

func TestNumbersForPeople(t *testing.T) {
	for want, got := range map[string]string{
		"999 B": Size(999), "1.0 kB": Size(1000), "41.2 kB": Size(41_233), "65.9 MB": Size(65_906_612), "2.5 GB": Size(2_500_000_000),
		"0.31 s": Span(310 * time.Millisecond), "12.4 s": Span(12_400 * time.Millisecond), "2 min 5 s": Span(125 * time.Second),
		"1 function": Count(1, "function"), "0 functions": Count(0, "function"), "2 entries": Count(2, "entry"),
	} {
		qt.Check(t, qt.Equals(got, want))
	}
}
