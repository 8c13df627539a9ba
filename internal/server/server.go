// SPDX-License-Identifier: Apache-2.0

// Package server answers the HTTP API: to machines, which enrol, check in,
// wait and report; to operators and build workers; and to anybody the static
// files of TUF. docs/openapi.yaml says what each operation takes and gives;
// this package decides nothing about live patches, which packages policy and
// publish do.
//
// What machines ask often is answered from memory (fleet.go, shelf.go), and
// the store's change feed keeps that memory right, so that any number of
// servers may share one store (feed.go). What a machine was told is stored is
// durable.
package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/authz"
	"github.com/tsugi-project/tsugi/internal/console"
	"github.com/tsugi-project/tsugi/internal/people"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
)

// Defaults of Options.
const (
	DefaultInterval   = time.Hour
	DefaultMaxWaiters = 10_000
	flushInterval     = 30 * time.Second
	// refreshInterval is how often is looked whether TUF metadata is due.
	refreshInterval = 5 * time.Minute
)

// Options of a server.
type Options struct {
	Store   *store.Store
	Blobs   blob.Store
	Publish Publisher
	Jobs    Jobs
	Log     *slog.Logger // nil: nothing is logged
	Now     func() time.Time
	// Registry takes the server's metrics; nil makes one. /metrics shows it.
	Registry *prometheus.Registry
	URL      string // as machines reach this service
	CA       []byte // PEM; the own CA that the certificate comes from, if it does
	Version  string // of the program

	Interval time.Duration // between check-ins, until a setting says otherwise; 0: DefaultInterval
	// RolloutInterval is how often rollouts are looked at; 0: rolloutInterval,
	// negative: never, by this server.
	RolloutInterval time.Duration
	MaxWaiters      int // machines that may wait at a time; 0: DefaultMaxWaiters
	Notify          NotifyOptions
	// TrustedProxies are the balancers whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix

	// Key is what package people seals with: 32 bytes, the same on every
	// replica and not in the database (people.DeriveKey).
	Key       []byte
	Providers []people.Provider // at which people may sign in
	Sessions  people.Limits     // zero fields are the defaults
	SignIns   Rate              // that fail, of one address; zero: 20 at once, then one in 6 seconds
}

// Rate is how often something may happen: so many times at once, and then one
// in each Every.
type Rate struct {
	Burst int
	Every time.Duration
}

// Server answers requests. Handler may be used as soon as New has returned;
// Run does what has to be done beside it.
type Server struct {
	opts       Options
	store      *store.Store
	blobs      blob.Store
	publish    Publisher
	jobs       Jobs
	log        *slog.Logger
	now        func() time.Time
	metrics    *metrics
	table      *authz.Table
	people     *people.Service
	strangers  *failures // of sign-ins
	origins    *http.CrossOriginProtection
	console    http.Handler
	teller     *teller
	handler    http.Handler
	fleet      *fleet
	shelves    shelves
	rollouts   rollouts
	rolling    rolling
	exposures  exposures
	auditCheck auditCheck
	matrices   struct {
		mu sync.Mutex
		of map[string]*matrix // by policy
	}
	started  time.Time
	book     atomic.Pointer[book]
	bookMu   sync.Mutex // held by who reads it
	modules  knownModules
	waiters  waiters
	streams  *streams
	failures *failures
	proven   proven
	buffers  sync.Pool
	interval atomic.Int64 // seconds between check-ins
	chosen   atomic.Int64 // when policies were last followed without an error

	uploading chan struct{} // has room for those who publish at a time
	reading   chan struct{} // and for those who look into a live patch

	feedMu   sync.Mutex
	feedSeq  int64
	feedRead atomic.Int64 // when the feed was last read
	kicked   chan struct{}
	waking   chan struct{}
	choosing chan struct{}
	closing  chan struct{}
	closed   sync.Once
}

// New makes a server and reads the fleet into memory.
func New(ctx context.Context, o Options) (*Server, error) {
	if o.Store == nil || o.Blobs == nil || o.Publish == nil || o.Jobs == nil {
		return nil, errors.New("server: a store, blobs, a publisher and jobs are needed")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	if o.RolloutInterval == 0 {
		o.RolloutInterval = rolloutInterval
	}
	if o.MaxWaiters <= 0 {
		o.MaxWaiters = DefaultMaxWaiters
	}
	o.URL = strings.TrimSuffix(o.URL, "/")
	s := &Server{
		opts: o, store: o.Store, blobs: o.Blobs, publish: o.Publish, jobs: o.Jobs, log: o.Log, now: o.Now,
		table: authz.NewTable(),
		fleet: newFleet(), failures: newFailures(Rate{Burst: failBurst, Every: failEvery}), waiters: waiters{limit: o.MaxWaiters, byID: map[string][]chan struct{}{}},
		buffers:   sync.Pool{New: func() any { return new(bytes.Buffer) }},
		uploading: make(chan struct{}, uploads), reading: make(chan struct{}, downloads),
		kicked: make(chan struct{}, 1), waking: make(chan struct{}, 1), choosing: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	s.shelves.load, s.shelves.packages, s.shelves.gates = o.Publish.Index, o.Publish.Packages, s.gatesOf
	s.rolling.owner, s.rolling.poked, s.rolling.said = uuid.NewString(), make(chan struct{}, 1), map[string]string{}
	s.started = o.Now()
	s.metrics = newMetrics(s, o.Registry)
	if o.SignIns == (Rate{}) {
		o.SignIns = Rate{Burst: failBurst, Every: 6 * time.Second}
	}
	s.strangers = newFailures(o.SignIns)
	var err error
	if s.teller, err = newTeller(o, s.metrics.notified); err != nil {
		return nil, err
	}
	if s.people, err = people.New(people.Options{
		Store: o.Store, Key: o.Key, URL: o.URL, Providers: o.Providers, Now: o.Now, Log: o.Log, Limits: o.Sessions,
	}); err != nil {
		return nil, err
	}
	if s.origins, err = sameOrigin(o.URL); err != nil {
		return nil, err
	}
	// In this order: what changes while the fleet is read is read again.
	if s.feedSeq, err = s.store.LastChange(ctx); err != nil {
		return nil, err
	}
	s.streams = newStreams(s.feedSeq)
	s.feedRead.Store(s.now().UnixMilli())
	s.chosen.Store(s.now().UnixMilli())
	if err := s.readSettings(ctx); err != nil {
		return nil, err
	}
	if err := s.readBook(ctx); err != nil {
		return nil, err
	}
	if err := s.fleet.load(ctx, s.store); err != nil {
		return nil, err
	}
	if s.fleet.size() > 0 {
		poke(s.metrics.fleet.due) // who asks first is to find it counted
	}
	if err := s.readRollouts(ctx); err != nil {
		return nil, err
	}
	if s.console, err = console.New(); err != nil {
		return nil, err
	}
	s.handler = s.routes()
	return s, nil
}

// Handler answers all requests.
func (s *Server) Handler() http.Handler { return s.handler }

// HTTP is an http.Server with the handler and the limits that it counts on.
// Who waits, or loads a large file, gets more time by the handler.
func (s *Server) HTTP() *http.Server {
	return &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // handshakes that fail: anybody can make them
	}
}

// Run follows the change feed, writes down who was seen and has TUF metadata
// signed in time, until ctx ends. Then waiting machines are let go, and what
// was not yet written down is.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.follow(ctx) })
	g.Go(func() error { s.keepWaking(ctx); return nil })
	g.Go(func() error { return s.keepChoosing(ctx) })
	g.Go(func() error { return s.keepTelling(ctx) })
	g.Go(func() error { s.teller.courier.Run(ctx); return nil })
	g.Go(func() error { return s.keepRollouts(ctx) })
	g.Go(func() error { s.every(ctx, flushInterval, s.flush); return nil })
	g.Go(func() error { s.every(ctx, refreshInterval, s.refresh); return nil })
	g.Go(func() error { s.every(ctx, time.Hour, s.prunePeople); return nil })
	g.Go(func() error { s.metrics.fleet.keep(ctx); return nil })
	g.Go(func() error { s.every(ctx, sampleInterval, s.sample); return nil })
	g.Go(func() error {
		<-ctx.Done()
		s.closed.Do(func() { close(s.closing) })
		return nil
	})
	err := g.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	s.flush(last)
	return err
}

// every calls f now and then at each interval.
func (s *Server) every(ctx context.Context, interval time.Duration, f func(context.Context)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		f(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *Server) flush(ctx context.Context) {
	start := time.Now()
	n, err := s.fleet.flush(ctx, s.store, patience(s.interval.Load()).Milliseconds(), s.listening(s.now()).UnixMilli())
	if err != nil && ctx.Err() == nil {
		s.log.Error("last check-ins could not be written down", "err", err)
	}
	if n > 0 {
		s.metrics.flushed.Add(float64(n))
		s.metrics.flushSeconds.Observe(time.Since(start).Seconds())
	}
}

func (s *Server) refresh(ctx context.Context) {
	if err := s.publish.Refresh(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("tuf metadata could not be refreshed", "err", err)
	}
}

// audit writes down a decision that no transaction of its own goes with.
func (s *Server) audit(ctx context.Context, actor, action, object, detail string) {
	e := store.AuditEntry{Actor: actor, Action: action, Object: object, Detail: detail}
	if err := s.store.Audit(context.WithoutCancel(ctx), e); err != nil {
		s.log.Error("audit entry could not be written", "action", action, "object", object, "err", err)
	}
}
