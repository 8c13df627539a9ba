// SPDX-License-Identifier: Apache-2.0

package inside

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// limit is how long a program may take to answer.
const limit = 20 * time.Second

// program is one that the engine has started.
type program struct {
	cmd   *exec.Cmd
	in    io.Writer
	out   chan string
	began time.Time
}

// begin starts a program and waits until it says that it is ready.
func begin(r Request) (*program, error) {
	cmd := exec.Command(r.Argv[0], r.Argv[1:]...)
	cmd.Stderr = os.Stderr
	if r.User != 0 {
		cmd.SysProcAttr = as(r.User)
	}
	if r.Spaces {
		own := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
			UidMappings: own, GidMappings: own, Credential: &syscall.Credential{NoSetGroups: true},
		}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p := &program{cmd: cmd, in: in, out: make(chan string, 16), began: time.Now()}
	if err := labelled(r.Label, cmd.Start); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.out)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.out <- s.Text()
		}
	}()
	_, err = p.answer()
	return p, err
}

func (p *program) answer() (string, error) {
	select {
	case l, ok := <-p.out:
		if !ok {
			var s syscall.WaitStatus
			_, err := syscall.Wait4(p.cmd.Process.Pid, &s, 0, nil)
			return "", fmt.Errorf("the program has ended: status %#x, %v", s, err)
		}
		return strings.TrimPrefix(l, "= "), nil
	case <-time.After(limit):
		return "", fmt.Errorf("the program does not answer")
	}
}

func (p *program) ask(line string) (string, error) {
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		return "", err
	}
	return p.answer()
}

// threads are those of a process now.
func threads(pid int) []Thread {
	var all []Thread
	files, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		open, shut := strings.IndexByte(string(b), '('), strings.LastIndexByte(string(b), ')')
		fields := strings.Fields(string(b[shut+1:]))
		flags, _ := strconv.ParseUint(fields[6], 10, 64)
		all = append(all, Thread{Name: string(b[open+1 : shut]), Flags: flags})
	}
	return all
}
