// SPDX-License-Identifier: Apache-2.0

// Command fleet is the rest of the fleet in make demo: some hundred machines
// that are none. Each enrols, checks in, waits, follows the signed indexes,
// decides by package policy and reports, over HTTP as agents do; only loading
// a live patch is a pause, and going down is one too.
//
//	fleet -target debian:6.1.0-54-amd64 WORD=COUNT...
//
// A WORD is what tsugictl token new prints. Machines fall sick when they are
// told: -sick is a file with lines VERSION SHARE, such as "2 8%" (* is any
// version), read each time that a machine loads something. Which machines these
// are is always the same: it hangs on their names.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/updater"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var o options
	flag.StringVar(&o.target, "target", "", "kernel of the machines, as tsugictl target ls names it")
	flag.StringVar(&o.kernel.Release, "release", "", "its release, without -target")
	flag.StringVar(&o.kernel.BuildID, "build-id", "", "its build-id, without -target")
	flag.StringVar(&o.url, "url", "", "the server's address from here (default that of the word)")
	flag.StringVar(&o.sick, "sick", "", "file that says who falls sick")
	flag.Float64Var(&o.speed, "speed", 1, "how fast the machines' own time runs")
	flag.StringVar(&o.ready, "ready", "", "file to write when all have enrolled")
	flag.Parse()
	err := o.run(ctx, flag.Args())
	interrupted := ctx.Err() != nil
	stop()
	if err != nil && !interrupted {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

type options struct {
	target, url, sick, ready string
	kernel                   api.Kernel
	speed                    float64
}

// run is the fleet until the context ends.
func (o *options) run(ctx context.Context, words []string) error {
	if len(words) == 0 {
		return errors.New("WORD=COUNT: the words that tsugictl token new prints")
	}
	if o.target != "" {
		home, err := kernel.Home()
		if err != nil {
			return err
		}
		store, err := kernel.OpenStore(home)
		if err != nil {
			return err
		}
		k, err := store.Get(o.target)
		if err != nil {
			return err
		}
		o.kernel.Release, o.kernel.BuildID = k.Release, k.BuildID
	}
	o.kernel.Arch = "x86_64"
	if o.kernel.Release == "" || o.kernel.BuildID == "" {
		return errors.New("-target, or -release and -build-id")
	}
	dir, err := os.MkdirTemp("", "tsugi-fleet-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var all []*machine
	for i, w := range words {
		word, number, ok := cutLast(w, "=")
		count, err := strconv.Atoi(number)
		if !ok || err != nil || count < 1 || count > 10_000 {
			return fmt.Errorf("argument %d is not WORD=COUNT", i+1)
		}
		s, err := o.join(ctx, word, filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return err
		}
		for range count {
			all = append(all, newMachine(len(all), s, o))
		}
	}
	return o.live(ctx, all)
}

// live enrols the machines one after the other and lets them run.
func (o *options) live(ctx context.Context, all []*machine) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	var enrolled atomic.Int64
	for _, m := range all {
		if err := m.enroll(ctx); err != nil {
			return fmt.Errorf("%s: %w", m.host, err)
		}
		enrolled.Add(1)
		wg.Go(func() { m.live(ctx) })
	}
	fmt.Printf("%d machines have enrolled\n", enrolled.Load())
	if o.ready != "" {
		if err := os.WriteFile(o.ready, []byte("enrolled\n"), 0o644); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// pause is a time of the machines' own; false: it is over before.
func (o *options) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(time.Duration(float64(d) / max(o.speed, .01)))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// site is what the machines that came with one token share: how to reach the
// server, and the signed metadata, which each agent would fetch for itself.
type site struct {
	url, token string
	http       []*http.Client // many wait at a time
	tuf        *updater.Updater

	mu      sync.Mutex
	indexes map[string]*trust.Index // by tier and policy
}

// connections is how many machines share one: HTTP/2 carries 250 requests at a
// time on it, and most of the machines wait.
const connections = 4

// join takes a word apart and believes what it says and nobody else.
func (o *options) join(ctx context.Context, word, dir string) (*site, error) {
	e, err := api.ParseEnrollment(word)
	if err != nil {
		return nil, err
	}
	s := &site{url: strings.TrimSuffix(e.URL, "/"), token: e.Token, indexes: map[string]*trust.Index{}}
	if o.url != "" {
		s.url = strings.TrimSuffix(o.url, "/")
	}
	var ca []byte
	if e.CA != "" {
		if ca, err = client.FetchCA(ctx, s.url, e.CA, "none"); err != nil {
			return nil, err
		}
	}
	for range connections {
		h, err := client.NewHTTP(client.HTTPOptions{CA: ca, Proxy: "none", IdleConns: 8})
		if err != nil {
			return nil, err
		}
		s.http = append(s.http, h)
	}
	c, err := s.client(0, "")
	if err != nil {
		return nil, err
	}
	root, err := c.Root(ctx)
	if err != nil {
		return nil, err
	}
	if got := sha256.Sum256(root); hex.EncodeToString(got[:]) != e.Root {
		return nil, fmt.Errorf("the first root of trust is %x and not the word's", got)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if s.tuf, err = updater.New(updater.Options{Dir: dir, BaseURL: s.url + "/tuf", HTTP: s.http[0]}); err != nil {
		return nil, err
	}
	return s, s.tuf.Bootstrap(root)
}

func (s *site) client(n int, credential string) (*client.Client, error) {
	return client.New(client.Options{URL: s.url, Credential: credential, HTTP: s.http[n%len(s.http)], UserAgent: "tsugi-fleet"})
}

// index is the signed index of a tier and a policy, at least as new as a
// sequence. One machine fetches it, the others take it from there.
func (s *site) index(ctx context.Context, tier, buildID, policy string, sequence int64) (*trust.Index, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := tier + " " + policy + " " + buildID
	if x := s.indexes[key]; x != nil && x.Sequence >= sequence {
		return x, nil
	}
	if err := s.tuf.Refresh(ctx); err != nil {
		return nil, err
	}
	x, err := s.tuf.Index(ctx, tier, buildID, policy)
	if err == nil {
		s.indexes[key] = x
	}
	return x, err
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// between is a random time.
func between(a, b time.Duration) time.Duration { return a + rand.N(b-a) }
