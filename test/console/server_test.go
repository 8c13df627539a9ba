// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/testenv/port"
)

type server struct {
	t     *testing.T
	url   string
	token string
	link  string // of the first admin
	ca    []byte
	admin *client.Client
}

// newServer makes a server at a name of this machine as an operator does, and
// runs it with an environment until the test ends.
func newServer(t *testing.T, host string, environ ...string) *server {
	t.Helper()
	work := t.TempDir()
	bin := filepath.Join(work, "tsugi-server")
	build := exec.Command("go", "build", "-o", bin, "../../cmd/tsugi-server")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))

	p, err := port.Reserve()
	qt.Assert(t, qt.IsNil(err))
	s := &server{t: t, url: "https://" + net.JoinHostPort(host, strconv.Itoa(p))}
	dir, passphrase := filepath.Join(work, "server"), filepath.Join(work, "passphrase")
	qt.Assert(t, qt.IsNil(os.WriteFile(passphrase, []byte("sewn on a worn cloth\n"), 0o600)))
	made := exec.Command(bin, "init", "--dir", dir, "--url", s.url, "--root-passphrase-file", passphrase, "--json")
	text, err := made.Output()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", text))
	var result struct {
		Result struct {
			Token string `json:"operator_token"`
			Link  string `json:"admin_link"`
		} `json:"result"`
	}
	qt.Assert(t, qt.IsNil(json.Unmarshal(text, &result)))
	s.token, s.link = result.Result.Token, result.Result.Link
	s.ca, err = os.ReadFile(filepath.Join(dir, "ca", "ca.pem"))
	qt.Assert(t, qt.IsNil(err))

	var log bytes.Buffer
	run := exec.Command(bin, "serve", "--dir", dir)
	run.Env = append(append(os.Environ(), "TSUGI_SERVER_WORKERS_COUNT=0"), environ...)
	run.Stdout, run.Stderr = &log, &log
	run.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	qt.Assert(t, qt.IsNil(run.Start()))
	t.Cleanup(func() {
		_ = run.Process.Signal(syscall.SIGTERM)
		_ = run.Wait()
		if t.Failed() {
			t.Logf("server: %s", log.String())
		}
	})
	s.admin = s.client(s.token)
	for deadline := time.Now().Add(time.Minute); ; {
		if err = s.admin.Ready(t.Context()); err == nil {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server does not answer: %v\n%s", err, log.String())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (s *server) client(credential string) *client.Client {
	s.t.Helper()
	h, err := client.NewHTTP(client.HTTPOptions{CA: s.ca})
	qt.Assert(s.t, qt.IsNil(err))
	c, err := client.New(client.Options{URL: s.url, Credential: credential, HTTP: h, UserAgent: "tsugi/1.0.0"})
	qt.Assert(s.t, qt.IsNil(err))
	return c
}

func name(format string, a ...any) string { return fmt.Sprintf(format, a...) }
