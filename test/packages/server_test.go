// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv/port"
)

// server is openssl s_server with a libssl of ours, and clients that read its
// answers all the time.
type server struct {
	t       *testing.T
	pid     int
	stop    atomic.Bool
	clients sync.WaitGroup
	answers atomic.Int64
}

func serve(t *testing.T, libs string) *server {
	t.Helper()
	dir := t.TempDir()
	said, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-subj", "/CN=localhost", "-days", "2", "-keyout", dir+"/key", "-out", dir+"/cert").CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", said))
	p, err := port.Reserve()
	qt.Assert(t, qt.IsNil(err))
	address := fmt.Sprintf("127.0.0.1:%d", p)
	cmd := exec.Command("openssl", "s_server", "-www", "-quiet", "-key", dir+"/key", "-cert", dir+"/cert", "-accept", address)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libs)
	qt.Assert(t, qt.IsNil(cmd.Start()))
	s := &server{t: t, pid: cmd.Process.Pid}
	t.Cleanup(func() {
		s.stop.Store(true)
		s.clients.Wait()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for i := 0; get(address) != nil; i++ {
		qt.Assert(t, qt.IsTrue(i < 100))
		time.Sleep(50 * time.Millisecond)
	}
	for range 2 {
		s.clients.Go(func() {
			for !s.stop.Load() {
				if err := get(address); err != nil {
					t.Errorf("after %d answers: %v", s.answers.Load(), err)
					return
				}
				s.answers.Add(1)
			}
		})
	}
	return s
}

// end says how much there was to do.
func (s *server) end() {
	s.t.Helper()
	s.stop.Store(true)
	s.clients.Wait()
	qt.Check(s.t, qt.IsTrue(s.answers.Load() > 100))
	s.t.Logf("the server gave %d answers, all of them right", s.answers.Load())
}

// get shakes hands and reads a page.
func get(address string) error {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	b, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.0 200") {
		return fmt.Errorf("%w: %q", err, b[:min(len(b), 80)])
	}
	return nil
}
