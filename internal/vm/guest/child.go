// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Child is a program that goes on running beside the steps, in a session of
// its own.
type Child struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// Background starts a program that nobody waits for. Process 1 collects it.
func (e *Env) Background(cmd *exec.Cmd) (*Child, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second // what it left behind may hold a pipe
	if err := e.start(cmd); err != nil {
		return nil, err
	}
	c := &Child{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		_ = cmd.Wait()
		e.forget(cmd)
	}()
	return c, nil
}

// PID is the number of the program, and of its session.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Ended tells how the program has ended, "" while it runs.
func (c *Child) Ended() string {
	select {
	case <-c.ended:
	default:
		return ""
	}
	ws, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case ok && ws.Signaled():
		return unix.SignalName(ws.Signal())
	case ok:
		return fmt.Sprintf("exit status %d", ws.ExitStatus())
	}
	return "ended"
}

// Stop asks the whole session to end, and ends it when it has not after a while.
func (c *Child) Stop(patience time.Duration) {
	for _, p := range session(c.PID()) {
		_ = unix.Kill(p, unix.SIGTERM)
	}
	for end := time.Now().Add(patience); time.Now().Before(end) && len(session(c.PID())) > 0; {
		time.Sleep(50 * time.Millisecond)
	}
	killSession(c.PID())
	<-c.ended
}

// Wait waits for the program's end, and ends it when the context does.
func (c *Child) Wait(ctx context.Context) error {
	select {
	case <-c.ended:
		return nil
	case <-ctx.Done():
		killSession(c.PID())
		<-c.ended
		return ctx.Err()
	}
}
