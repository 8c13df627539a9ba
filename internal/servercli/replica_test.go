// SPDX-License-Identifier: Apache-2.0

package servercli_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/testenv/port"
)

// replica is a second server process of the same service, from a copy of the
// directory, with an address of its own.
func (s *site) replica() *site {
	p, err := port.Reserve()
	qt.Assert(s.t, qt.IsNil(err))
	r := &site{
		t: s.t, dir: filepath.Join(s.t.TempDir(), "srv"), url: fmt.Sprintf("https://localhost:%d", p),
		environ: []string{fmt.Sprintf("TSUGI_SERVER_LISTEN=127.0.0.1:%d", p)},
		ca:      s.ca, operator: s.operator, enroll: s.enroll, dsn: s.dsn,
	}
	qt.Assert(s.t, qt.IsNil(os.CopyFS(r.dir, os.DirFS(s.dir))))
	// CopyFS makes files readable by all, which keys must not be.
	for _, dir := range []string{"keys", "ca"} {
		files, err := filepath.Glob(filepath.Join(r.dir, dir, "*"))
		qt.Assert(s.t, qt.IsNil(err))
		for _, f := range files {
			qt.Assert(s.t, qt.IsNil(os.Chmod(f, 0o600)))
		}
	}
	s.t.Cleanup(r.kill)
	return r
}

func checkIn(t testing.TB, c *client.Client, etag string) (*api.Assignment, string) {
	t.Helper()
	a, tag, err := c.CheckIn(t.Context(), api.CheckIn{Agent: "test", BootID: "b", Run: "r", Kernel: kernelOf(0), Able: true}, etag)
	qt.Assert(t, qt.IsNil(err))
	return a, tag
}

// TestTwoReplicasServeOneFleet runs two servers on one database and bucket.
func TestTwoReplicasServeOneFleet(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("two servers and PostgreSQL: not with -short")
	}
	a := newSite(t, filepath.Join(t.TempDir(), "srv"), testenv.Postgres(t), s3Config(t))
	b := a.replica()
	a.start()
	b.start()

	// Enrolled here, known there.
	atA, id, credential := a.machine("m")
	atB := b.client(credential)
	checkIn(t, atA, "")
	_, tag := checkIn(t, atB, "")

	// What one publishes reaches a machine that waits at the other.
	publish := func(at *site, version int) {
		artifact, proof, err := makePatch(0, version, "f")
		qt.Assert(t, qt.IsNil(err))
		_, err = at.admin().Publish(t.Context(), client.Publication{Artifact: artifact, Proof: proof})
		qt.Assert(t, qt.IsNil(err))
	}
	woken := make(chan error, 1)
	go func() {
		changed, err := atB.Wait(t.Context(), tag, time.Minute)
		if err == nil && !changed {
			err = errors.New("the machine slept on")
		}
		woken <- err
	}()
	time.Sleep(200 * time.Millisecond) // it waits now, most probably
	publish(a, 1)
	qt.Assert(t, qt.IsNil(<-woken))
	got, tag := checkIn(t, atB, tag)
	qt.Assert(t, qt.IsNotNil(got))
	qt.Check(t, qt.Equals(got.Sequence, 1))
	qt.Check(t, qt.HasLen(got.Keys, 1))

	// A decision at one is the other's.
	tier := "beta"
	_, err := b.admin().ChangeMachine(t.Context(), id, api.MachineChange{Tier: &tier})
	qt.Assert(t, qt.IsNil(err))
	eventually(t, func() bool {
		got, _ := checkIn(t, atA, "")
		return got.Tier == "beta"
	})
	tier = "edge"
	_, err = a.admin().ChangeMachine(t.Context(), id, api.MachineChange{Tier: &tier})
	qt.Assert(t, qt.IsNil(err))

	// Both sign at once: nothing is lost, nothing comes twice.
	var both sync.WaitGroup
	for i, at := range []*site{a, b, a, b} {
		both.Go(func() {
			for n := range 4 {
				artifact, proof, err := makePatch(100+10*i+n, 1, "f")
				qt.Check(t, qt.IsNil(err))
				_, err = at.admin().Publish(t.Context(), client.Publication{Artifact: artifact, Proof: proof})
				qt.Check(t, qt.IsNil(err))
			}
		})
	}
	both.Wait()
	ack := acknowledged{published: map[string]int{}}
	for i := range 4 {
		for n := range 4 {
			k := 100 + 10*i + n
			ack.published[fmt.Sprintf("debian-6.1.0-%d-amd64-v1", k)] = k
		}
	}
	a.checkServed(&ack)
	b.checkServed(&ack)

	// One dies: the other goes on; it comes back and knows.
	a.kill()
	publish(b, 2)
	got, _ = checkIn(t, atB, tag)
	qt.Assert(t, qt.IsNotNil(got))
	qt.Check(t, qt.HasLen(got.Keys, 2))
	a.start()
	got, _ = checkIn(t, atA, "")
	qt.Check(t, qt.HasLen(got.Keys, 2))
	a.stop()
	b.stop()
}

func eventually(t testing.TB, is func() bool) {
	t.Helper()
	for range 3000 {
		if is() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("it never comes")
}

// TestNothingIsLoggedThatIsSecret looks through all that two servers said.
func TestNothingIsLoggedThatIsSecret(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a server process: not with -short")
	}
	s := newSite(t, filepath.Join(t.TempDir(), "srv"), "sqlite:tsugi.db", "")
	s.start()
	c, _, credential := s.machine("m")
	checkIn(t, c, "")
	made, err := s.admin().CreateToken(t.Context(), api.NewToken{Name: "x"})
	qt.Assert(t, qt.IsNil(err))
	_, err = s.client("tso_" + strings.Repeat("a", 58)).Whoami(t.Context())
	qt.Check(t, qt.IsNotNil(err))
	s.stop()
	log := s.log.String()
	qt.Check(t, qt.StringContains(log, `"msg":"serving"`))
	for _, secret := range []string{s.operator, s.enroll.Token, made.Secret, credential, "tsm_", "tst_", "tso_", "AGE-SECRET"} {
		qt.Check(t, qt.Not(qt.StringContains(log, secret)))
	}
}
