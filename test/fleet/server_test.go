// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/testenv/port"
	"github.com/tsugi-project/tsugi/internal/vm"
)

// server is a tsugi-server of its own, made by init and run as a process.
type server struct {
	t    testing.TB
	dir  string
	port int
	env  []string
	cmd  *exec.Cmd
	log  bytes.Buffer
}

// newServer makes and starts a server that machines reach at vm.HostAddress,
// and logs tsugictl in as its first operator.
func newServer(t testing.TB) *server {
	t.Helper()
	p, err := port.Reserve()
	qt.Assert(t, qt.IsNil(err))
	s := &server{t: t, dir: filepath.Join(t.TempDir(), "server"), port: p}
	s.env = append(os.Environ(), "TSUGI_SESSION="+filepath.Join(t.TempDir(), "session.json"))
	passphrase := filepath.Join(t.TempDir(), "passphrase")
	qt.Assert(t, qt.IsNil(os.WriteFile(passphrase, []byte("sewn on a worn cloth\n"), 0o600)))
	out := s.run(buildServer, nil, "init", "--dir", s.dir, "--url", fmt.Sprintf("https://%s:%d", vm.HostAddress, s.port),
		"--name", "127.0.0.1", "--root-passphrase-file", passphrase, "--json")
	var made initResult
	qt.Assert(t, qt.IsNil(json.Unmarshal(result(t, out), &made)))
	s.start()
	t.Cleanup(s.stop)
	s.run(buildTsugictl, strings.NewReader(made.Token), "login", s.url(), "--ca-sha256", made.CA)
	return s
}

// initResult is what the tests read of tsugi-server init --json.
type initResult struct {
	Token string `json:"operator_token"`
	CA    string `json:"ca_sha256"`
}

// url is the server as this host reaches it.
func (s *server) url() string { return fmt.Sprintf("https://127.0.0.1:%d", s.port) }

// net is the network card of a machine of this server's fleet.
func (s *server) net() *vm.Net {
	return &vm.Net{Forward: map[int]string{s.port: fmt.Sprintf("127.0.0.1:%d", s.port)}}
}

func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(program(s.t, buildServer), "serve", "--dir", s.dir)
	s.cmd.Env = append(s.env, "TSUGI_SERVER_WORKERS_COUNT=0", fmt.Sprintf("TSUGI_SERVER_LISTEN=127.0.0.1:%d", s.port))
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	qt.Assert(s.t, qt.IsNil(s.cmd.Start()))
	deadline := time.Now().Add(time.Minute)
	for {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", s.port), time.Second)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the server does not answer: %s", s.log.String())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// kill ends the server as a crash would.
func (s *server) kill() {
	s.t.Helper()
	qt.Assert(s.t, qt.IsNil(s.cmd.Process.Kill()))
	_ = s.cmd.Wait()
	s.cmd = nil
}

func (s *server) stop() {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		_ = s.cmd.Wait()
		s.cmd = nil
	}
	if s.t.Failed() {
		s.t.Logf("server: %s", s.log.String())
	}
}

// run runs a program of this host, which has to succeed.
func (s *server) run(build func() (string, error), stdin *strings.Reader, args ...string) []byte {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), program(s.t, build), args...)
	cmd.Env = s.env
	if stdin != nil {
		cmd.Stdin = stdin
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	qt.Assert(s.t, qt.IsNil(err), qt.Commentf("%s: %s%s", args, out, stderr.String()))
	return out
}

// result is the result in what a program printed with --json.
func result(t testing.TB, out []byte) json.RawMessage {
	t.Helper()
	var v struct {
		Result json.RawMessage `json:"result"`
	}
	qt.Assert(t, qt.IsNil(json.Unmarshal(out, &v)), qt.Commentf("%s", out))
	return v.Result
}

// ctl runs tsugictl and reads its result.
func ctl[T any](s *server, args ...string) T {
	s.t.Helper()
	var v T
	qt.Assert(s.t, qt.IsNil(json.Unmarshal(result(s.t, s.run(buildTsugictl, nil, append(args, "--json")...)), &v)))
	return v
}

// machine is what the server says of a machine, by its host name.
func (s *server) machine(host string) api.Machine {
	s.t.Helper()
	for _, m := range ctl[[]api.Machine](s, "machine", "ls") {
		if m.Hostname == host {
			return m
		}
	}
	s.t.Fatalf("the server does not know %s", host)
	return api.Machine{}
}

// until waits for the server to see a machine in a certain way.
func (s *server) until(host, what string, ok func(api.Machine) bool) api.Machine {
	s.t.Helper()
	var m api.Machine
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(400 * time.Millisecond) {
		if m = s.machine(host); ok(m) {
			return m
		}
	}
	s.t.Fatalf("%s is not %s: %+v", host, what, m)
	return m
}
