// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/progress"
)

// text is what a terminal was given.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (x *text) Write(b []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.Write(b)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

// pty opens a pseudo-terminal of 100 columns. What is written to tty comes into
// out, and all of it is what seen closes it for.
func pty(t *testing.T) (tty *os.File, out *text, seen func() string) {
	t.Helper()
	host, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	qt.Assert(t, qt.IsNil(err))
	fd := int(host.Fd())
	qt.Assert(t, qt.IsNil(unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	qt.Assert(t, qt.IsNil(err))
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR, 0)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 30, Col: 100})))
	out = &text{}
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(out, host) }) // ends with EIO when the tty is closed
	return tty, out, func() string {
		tty.Close()
		wg.Wait()
		host.Close()
		return out.String()
	}
}

func TestBarsOnATerminalLeaveOneLinePerStage(t *testing.T) {
	tty, out, seen := pty(t)
	term := New(tty, tty, []string{"TERM=xterm-256color"}, Options{})
	rep := term.Progress()
	one := rep.Start("unpack source", 1000, progress.Bytes)
	two := rep.Start("boot", 0, progress.Steps)
	one.Add(400)
	two.Note("qemu")
	for end := time.Now().Add(time.Minute); !strings.Contains(out.String(), "400"); time.Sleep(10 * time.Millisecond) {
		qt.Assert(t, qt.IsTrue(time.Now().Before(end)), qt.Commentf("the bar does not move: %q", out.String()))
	}
	one.Done(nil)
	two.Done(errors.New("no"))
	term.Print("RESULT")
	three := rep.Start("again", 0, progress.Steps)
	three.Done(nil)
	term.Close()
	got := seen()
	if testing.Verbose() {
		t.Logf("%q", got)
	}
	qt.Check(t, qt.IsTrue(strings.Contains(got, "\x1b[")))
	last := screen(got)
	qt.Check(t, qt.Equals(len(last), 4), qt.Commentf("%q", last))
	for i, word := range []string{"✓ unpack source", "✗ boot", "RESULT", "✓ again"} {
		qt.Check(t, qt.IsTrue(i < len(last) && strings.HasPrefix(last[i], word)), qt.Commentf("line %d of %q", i, last))
	}
}

// screen plays the few control sequences that mpb uses and returns the lines
// that stay.
func screen(out string) []string {
	lines := []string{""}
	row := 0
	for i := 0; i < len(out); i++ {
		switch c := out[i]; c {
		case '\r':
		case '\n':
			row++
			if row == len(lines) {
				lines = append(lines, "")
			}
			lines[row] = ""
		case 0x1b:
			j := i + 2
			for j < len(out) && (out[j] < '@' || out[j] > '~') {
				j++
			}
			n := 1
			fmt.Sscanf(out[i+2:j], "%d", &n)
			switch out[j] {
			case 'A':
				row = max(0, row-n)
			case 'J':
				lines = lines[:row+1]
				lines[row] = ""
			}
			i = j
		default:
			lines[row] += string([]byte{c})
		}
	}
	var kept []string
	for _, l := range lines {
		if l != "" {
			kept = append(kept, l)
		}
	}
	return kept
}

func TestDumbTerminalAndNoColor(t *testing.T) {
	for _, env := range [][]string{{"TERM=dumb"}, {"TERM=xterm-256color", "NO_COLOR=1"}} {
		tty, _, seen := pty(t)
		term := New(tty, tty, env, Options{})
		term.Print(Good("plain"))
		term.Close()
		got := seen()
		qt.Check(t, qt.IsTrue(strings.Contains(got, "plain")))
		qt.Check(t, qt.IsFalse(strings.Contains(got, "[3")), qt.Commentf("%v: %q", env, got)) // no colour
	}
}
