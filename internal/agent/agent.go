// SPDX-License-Identifier: Apache-2.0

// Package agent keeps one machine protected: it checks in with its server,
// verifies what the server's signed index offers, asks package policy what to
// do, loads live patches through the kernel, watches their health and reports
// what happened. It survives the loss of power at any moment and takes no
// live patch twice that took the machine down.
//
// Everything that the agent acts on or through is an interface in ports.go;
// package agent/host has the real ones. docs/agent.md draws the states and
// lists the files.
//
// Three goroutines share an Agent: the loop (loop.go) checks in and acts, the
// courier (courier.go) delivers reports, and the nurse (health.go) watches
// what was just applied. Changes to the kernel are made one at a time.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/policy"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Where things are, unless Options say otherwise.
const (
	StateDir   = "/var/lib/tsugi"
	ConfigFile = "/etc/tsugi/agent.yaml"
	Socket     = "/run/tsugi/agent.sock"
)

// Options are what an Agent is made of.
type Options struct {
	Dir     string // of the state
	Disk    Disk   // nil: Dir
	Config  Config
	System  System
	Kernel  Kernel
	Link    Link
	Crypt   Crypt
	Modules ModuleDisk // nil: fixed modules are left alone
	Keeper  Keeper     // nil: live patches of packages are left alone
	Log     *slog.Logger
	Version string // of the program
	// Patience is how long Open waits for another program that has the state
	// to end; 0 is 3 seconds.
	Patience time.Duration
	// Run runs the health command and returns the end of what it printed.
	Run func(ctx context.Context, argv []string) (string, error)
	// Large is called before something that needs much memory, and what it
	// returns after it; nil: nobody cares.
	Large func() (done func())
	// Notify tells the service manager; nil: there is none.
	Notify func(state string)
	// GoesDown reports whether the machine is being shut down in good order; nil:
	// that can't be known.
	GoesDown func(ctx context.Context) bool
}

// Agent is the agent of this machine. At most one process has one open.
type Agent struct {
	opts    Options
	cfg     Config
	disk    Disk
	log     *slog.Logger
	run     string // random for each start
	journal *journal
	lock    *os.File
	kick    chan struct{} // asks the loop for a check-in now
	parcel  chan struct{} // asks the courier to try now
	nurse   nurse
	boots   boots
	work    chan struct{} // held by who changes the kernel's or the agent's state

	mu    sync.Mutex // of what follows
	now   moment
	stop  context.CancelCauseFunc // of the change that is under way, or nil
	tries map[string]try          // by id of the live patch
}

// moment is what the agent knows and the journal does not.
type moment struct {
	machine    *Machine
	machineErr error // machine.json can't be used
	server     Server
	source     Source
	linkErr    error
	host       *Host
	hostErr    error
	assignment *api.Assignment
	etag       string
	answered   time.Time // last good check-in
	tried      time.Time
	checkErr   error
	skew       time.Duration // of this machine's clock against the server's
	index      *trust.Index
	indexed    time.Time // when the metadata was last refreshed
	indexErr   error
	decision   *policy.Decision
	pending    *trust.Offer  // what the decision is about and is not done
	problem    *code.Problem // why it is not done
	retry      time.Time     // when it is tried again
	stalls     []api.Stall   // of the transition under way, or of the last that was reversed
	// modulesErr is why fixed modules could not be tended, blockedModules why
	// single ones are kept out, by name and digest.
	modulesErr     *code.Problem
	blockedModules map[string]*code.Problem
	// unfitModules are those that the module on the disk speaks against; they are
	// looked at again each time.
	unfitModules map[string]*code.Problem
	modulesDue   time.Time // end of the watch over a fixed module
	giveWay      *giveWay
	// packages is what is known of each package that is mapped or has something
	// applied, by id; catalogue is the tier's list of packages, keeper what the
	// keeper has said last.
	packages     map[string]packageMoment
	catalogue    *trust.Packages
	catalogueErr error
	keeper       *KeeperStatus
	keeperErr    *code.Problem
	staleAsked   bool            // a server has asked for CheckIn.Stale
	local        *api.Patch      // a file that root wants applied and that could not be yet
	handed       map[string]bool // live patches whose keys came in a bundle
	renew        bool            // the cache is for the identity of before
	running      bool            // as a daemon
}

// try counts failures of one live patch since the agent started.
type try struct {
	count int
	next  time.Time
	why   *code.Problem
}

// Open opens the state and locks it. Problems of the state's contents do not
// keep the agent from starting: status tells them.
func Open(ctx context.Context, opts Options) (*Agent, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	a := &Agent{
		opts: opts, cfg: opts.Config, disk: opts.Disk, log: opts.Log, run: uuid.NewString(),
		kick: make(chan struct{}, 1), parcel: make(chan struct{}, 1), work: make(chan struct{}, 1),
		tries: map[string]try{},
	}
	if a.disk == nil {
		d, err := OpenDisk(opts.Dir)
		if err != nil {
			return nil, err
		}
		a.disk = d
		if a.lock, err = lockDir(ctx, opts.Dir, cmp.Or(opts.Patience, lockPatience)); err != nil {
			return nil, err
		}
	}
	a.journal = openJournal(a.disk)
	a.now.machine, a.now.machineErr = readMachine(a.disk)
	a.now.host, a.now.hostErr = opts.System.Host(ctx)
	return a, nil
}

// Close gives the state free.
func (a *Agent) Close() error {
	if a.lock != nil {
		return a.lock.Close()
	}
	return nil
}

// Look reads the machine and decides, without changing anything.
func (a *Agent) Look(ctx context.Context) {
	host, err := a.host(ctx)
	if err != nil {
		return // status tells
	}
	x := a.cachedIndex(host.Kernel.BuildID)
	a.see(func(m *moment) { m.index = x })
	d := a.decide(host, time.Now())
	a.see(func(m *moment) { m.decision, m.pending = &d, d.Offer })
	if a.userland() {
		a.hear(ctx)
		a.cachedPackages()
		a.decidedPackages(host)
	}
}

// lockPatience is how long a program waits for another that is about to end,
// such as the one that a boot starts before the network.
const lockPatience = 3 * time.Second

// lockDir takes the lock of a state directory. The directory itself is
// locked, so that a file system that is read-only has a lock as well.
func lockDir(ctx context.Context, dir string, patience time.Duration) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, diskProblem(dir, err)
	}
	for end := time.Now().Add(patience); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) || ctx.Err() != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, code.New("TS9408", dir, "")
			}
			return nil, diskProblem(dir, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// see runs f with what the agent knows.
func (a *Agent) see(f func(m *moment)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(&a.now)
}

// host reads the machine anew.
func (a *Agent) host(ctx context.Context) (*Host, error) {
	h, err := a.opts.System.Host(ctx)
	a.see(func(m *moment) {
		m.hostErr = err
		if err == nil {
			m.host = h
		}
	})
	return h, err
}

// begin waits for its turn to change things. The context that it returns ends
// when a person interrupts.
func (a *Agent) begin(ctx context.Context) (context.Context, func(), error) {
	select {
	case a.work <- struct{}{}:
	case <-ctx.Done():
		return ctx, func() {}, context.Cause(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	a.mu.Lock()
	a.stop = cancel
	a.mu.Unlock()
	return ctx, func() {
		a.mu.Lock()
		a.stop = nil
		a.mu.Unlock()
		cancel(nil)
		<-a.work
	}, nil
}

// errInterrupted is the cause when a person ends a change that is under way.
var errInterrupted = errors.New("interrupted by a person")

// interrupt ends the change that is under way, if it can be ended.
func (a *Agent) interrupt() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stop != nil {
		a.stop(errInterrupted)
	}
}

// note journals that a live patch of the kernel came to a state.
func (a *Agent) note(h *Host, p api.Patch, s api.State, fill ...func(*api.Report)) error {
	return a.noteOf(h, nil, p, s, fill...)
}

// noteOf journals that a live patch of a package came to a state, or of the
// kernel without one.
func (a *Agent) noteOf(h *Host, about *PackageRef, p api.Patch, s api.State, fill ...func(*api.Report)) error {
	p.State, p.Problem, p.Since = s, nil, 0
	r := api.Report{Kind: api.ReportState, BootID: h.BootID, Kernel: h.Kernel, Patch: p}
	for _, f := range fill {
		f(&r)
	}
	attrs := []any{"patch", p.ID, "state", string(s)}
	if r.Patch.Problem != nil {
		attrs = append(attrs, "code", string(r.Patch.Problem.Code), "why", r.Patch.Problem.Why)
	}
	a.log.Info("live patch", attrs...)
	a.notify(fmt.Sprintf("STATUS=%s: %s", p.ID, s))
	return a.journal.report(r, about)
}

// noteOnce journals a state unless it is the last one already, for the same
// reason.
func (a *Agent) noteOnce(h *Host, p api.Patch, s api.State, why *code.Problem) error {
	return a.noteOnceOf(h, nil, p, s, why)
}

func (a *Agent) noteOnceOf(h *Host, about *PackageRef, p api.Patch, s api.State, why *code.Problem) error {
	st, _ := a.journal.view()
	l := st.Last
	if about != nil {
		l = st.Packages[about.ID].Last
	}
	if l != nil && l.ID == p.ID && l.State == s && same(l.Problem, why) {
		return nil
	}
	return a.noteOf(h, about, p, s, because(why))
}

func same(a *api.Problem, b *code.Problem) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	w := wire(b)
	return a.Code == w.Code && a.Where == w.Where && a.Why == w.Why
}

func because(p *code.Problem) func(*api.Report) {
	return func(r *api.Report) { r.Patch.Problem = wire(p) }
}

// wire is a problem as it travels.
func wire(p *code.Problem) *api.Problem {
	if p == nil {
		return nil
	}
	why := p.Why
	if p.Err != nil {
		if why != "" {
			why += ": "
		}
		why += p.Err.Error()
	}
	return &api.Problem{Code: p.Code, What: p.What, Where: p.Where, Why: clip(why, 2000), Fix: p.Fix}
}

// unwire is its way back.
func unwire(p *api.Problem) *code.Problem {
	if p == nil {
		return nil
	}
	return &code.Problem{Code: p.Code, What: p.What, Where: p.Where, Why: p.Why, Fix: p.Fix}
}

// problemOf makes a problem of any error; c is the code of one that has none.
func problemOf(c code.Code, where string, err error) *code.Problem {
	if p, ok := errors.AsType[*code.Problem](err); ok {
		return p
	}
	return code.New(c, where, "").With(err)
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// large announces that a live patch is about to be in memory.
func (a *Agent) large() (done func()) {
	if a.opts.Large == nil {
		return func() {}
	}
	return a.opts.Large()
}

func (a *Agent) notify(state string) {
	if a.opts.Notify != nil {
		a.opts.Notify(state)
	}
}
