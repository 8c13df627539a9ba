// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	vmguest "github.com/tsugi-project/tsugi/internal/vm/guest"
)

// subject is a program that a live patch comes to.
type subject struct {
	name  string
	child *vmguest.Child
	said  *said
	asked bool // the reproducer asks for it: it has no reason to fail
}

// Short is how messages name a command: a long one by its beginning.
func Short(line string) string {
	const most = 60
	if r := []rune(line); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return line
}

// add starts a program. What it says goes to the console.
func (g *stage) add(env *vmguest.Env, name string, cmd *exec.Cmd, asked bool) error {
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("%s: %w", Short(name), err)
	}
	if cmd.Stderr = write; cmd.Stdout == nil {
		cmd.Stdout = write
	}
	c, err := env.Background(cmd)
	write.Close()
	if err != nil {
		read.Close()
		return fmt.Errorf("%s: %w", Short(name), err)
	}
	s := &subject{name: name, child: c, said: &said{}, asked: asked}
	go s.said.listen(read)
	g.subjects = append(g.subjects, s)
	return nil
}

// said keeps the end of what a program says.
type said struct {
	sync.Mutex
	last []byte
}

// mostSaid is how much of it.
const mostSaid = 600

// listen copies it to the console, for as long as there is a process that the
// program has left behind: one that nobody listens to any more is ended when it
// speaks.
func (s *said) listen(from *os.File) {
	defer from.Close()
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		_, _ = os.Stderr.Write(b[:n])
		s.Lock()
		s.last = append(s.last, b[:n]...)
		s.last = bytes.Clone(s.last[max(0, len(s.last)-mostSaid):])
		s.Unlock()
	}
}

func (s *said) String() string {
	s.Lock()
	defer s.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(string(s.last)), "?")
}

// failed is an error that names a program which the reproducer asks for and
// which has ended otherwise than well: waiting for it is of no use.
func (g *stage) failed() error {
	for _, s := range g.subjects {
		if how := s.child.Ended(); s.asked && how != "" && how != "exit status 0" {
			return fmt.Errorf("%s: %s%s", Short(s.name), how, saying(s))
		}
	}
	return nil
}

// lastWords are those of the programs that the reproducer asks for.
func (g *stage) lastWords() string {
	var b strings.Builder
	for _, s := range g.subjects {
		if words := saying(s); s.asked && words != "" {
			fmt.Fprintf(&b, "; %s%s", Short(s.name), words)
		}
	}
	return b.String()
}

func saying(s *subject) string {
	if words := s.said.String(); words != "" {
		return ", and says: " + words
	}
	return ""
}

func shell(line string) *exec.Cmd {
	cmd := exec.Command("/bin/sh", "-c", "exec "+line)
	cmd.Dir = "/tmp"
	return cmd
}

// talk starts a program that answers lines. Process 1 holds both pipes open all
// the time, so that neither side sees an end when a script closes its own.
func (g *stage) talk(env *vmguest.Env, line string) error {
	var ends []*os.File
	for _, p := range []string{talkIn, talkOut} {
		if err := os.Remove(p); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := unix.Mkfifo(p, 0o666); err != nil {
			return &os.PathError{Op: "mkfifo", Path: p, Err: err}
		}
		// Opened blocking, and as both: no open waits for the other side.
		fd, err := unix.Open(p, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: p, Err: err}
		}
		ends = append(ends, os.NewFile(uintptr(fd), p))
	}
	cmd := shell(line)
	cmd.Stdin, cmd.Stdout = ends[0], ends[1]
	return g.add(env, line, cmd, true)
}
