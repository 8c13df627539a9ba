// SPDX-License-Identifier: Apache-2.0

package server

import (
	"container/list"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Failures of authentication and enrolment are limited for each address: a
// burst, then a slow rate. What succeeds is never limited, so that one bad
// machine behind an address does not keep out the others.
const (
	failBurst = 20
	failEvery = time.Second
	failHosts = 10_000 // addresses remembered; the longest quiet is forgotten
)

// failures counts failures by address.
type failures struct {
	rate Rate

	mu    sync.Mutex
	byKey map[netip.Addr]*list.Element
	order *list.List // of *failing, the latest first
}

type failing struct {
	addr    netip.Addr
	limiter *rate.Limiter
}

func newFailures(r Rate) *failures {
	return &failures{rate: r, byKey: map[netip.Addr]*list.Element{}, order: list.New()}
}

// exhausted reports whether an address has failed so often that the next
// attempt is not looked at.
func (f *failures) exhausted(a netip.Addr, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.byKey[network(a)]
	return ok && e.Value.(*failing).limiter.TokensAt(now) < 1
}

// failed counts one failure.
func (f *failures) failed(a netip.Addr, now time.Time) {
	a = network(a)
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.byKey[a]
	if !ok {
		e = f.order.PushFront(&failing{addr: a, limiter: rate.NewLimiter(rate.Every(f.rate.Every), f.rate.Burst)})
		f.byKey[a] = e
		for f.order.Len() > failHosts {
			last := f.order.Back()
			f.order.Remove(last)
			delete(f.byKey, last.Value.(*failing).addr)
		}
	}
	f.order.MoveToFront(e)
	e.Value.(*failing).limiter.AllowN(now, 1)
}

// proven are the hashes of credentials and tokens that were good since the
// start. Who shows one is looked at even where others fail too often.
type proven struct {
	mu sync.RWMutex
	m  map[hashKey]bool
}

const maxProven = 10_000

func (p *proven) has(hash []byte) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.m[hashKey(hash[:16])]
}

func (p *proven) add(hash []byte) {
	if p.has(hash) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil || len(p.m) >= maxProven {
		p.m = map[hashKey]bool{}
	}
	p.m[hashKey(hash[:16])] = true
}

// network is what one holder of addresses has: an IPv4 address, a /64 of IPv6.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// clientAddr is where a request comes from: the connection's other end or,
// when that is a proxy that the configuration trusts, the last address before
// it in X-Forwarded-For.
func (s *Server) clientAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	a := ap.Addr().Unmap()
	if len(s.opts.TrustedProxies) == 0 {
		return a
	}
	words := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(words) - 1; i >= 0 && s.trusts(a); i-- {
		next, err := netip.ParseAddr(strings.TrimSpace(words[i]))
		if err != nil {
			break
		}
		a = next.Unmap()
	}
	return a
}

func (s *Server) trusts(a netip.Addr) bool {
	for _, p := range s.opts.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
