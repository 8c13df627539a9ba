// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// world is a machine and its server, made of memory. Every step that lasts
// (a write, a call of the kernel) is counted, and the power can go at any of
// them: from then on nothing that the agent does has an effect.
type world struct {
	t  *testing.T
	mu sync.Mutex

	// power
	steps int
	dieAt int     // step; 0: never
	mode  dieMode // how
	off   bool
	boots int

	files map[string][]byte
	full  bool // the disk has no space
	ro    bool // the disk is read-only

	patches  map[string]*Loaded
	panics   map[string]bool           // loading these takes the machine down
	stuck    map[string]bool           // their transitions do not end
	leaves   map[string]bool           // their reverts do not end
	complain map[string]string         // what the kernel says of them
	refuse   map[string]error          // what loading them ends in
	blockers map[string]*code.Problem  // what preflight finds
	loads    []string                  // "boot name"
	downs    int                       // panics so far
	healthy  func(argv []string) error // the health command

	// What modprobe would load: files of the package by path, fixed ones by name.
	shipped map[string]ShippedModule
	fixed   map[string][]byte
	dep     []string          // names of fixed ones that modules.dep leads to
	users   map[string]string // of loaded modules
	noSwap  error             // what loading the fixed build in a swap ends in
	swapped []string          // modules that were unloaded to be loaded again
	swaps   func(name string) // called when a module is unloaded and not yet loaded
	noFind  map[string]bool   // fixed ones that modprobe is not led to
	depmod  error             // what depmod ends in
	panicky map[string]bool   // fixed modules that take the machine down as they load
	spare   string            // release of a kernel that is installed too

	onPreflight func(p *livepatch.Patch)

	packageWorld

	host    Host
	index   *trust.Index      // of tier and policy
	others  []*trust.Index    // of other tiers and policies
	policy  string            // that the server assigns
	bundled string            // policy that a bundle has for this machine
	noIndex error             // of the kernel's index
	poison  string            // id of a report that the server does not take
	forged  map[string]error  // what their provenance ends in
	files2  map[string][]byte // encrypted live patches by id
	keys    map[string]string
	gated   []string     // whose keys are held back, by a rollout
	cached  *trust.Index // what signatures vouch for without a network
	down    bool         // the server does not answer
	refusal error
	stale   error // what a refresh of the metadata ends in
	serial  int   // of the assignment
	tier    string
	held    bool
	want    []api.Wish
	skew    time.Duration
	news    chan struct{}
	got     []api.Report // in order of arrival
	checked []api.CheckIn
}

type dieMode int

const (
	dieBefore dieMode = iota // the step has no effect
	dieAfter                 // the step has its effect and is not known to have
	dieTorn                  // a write leaves a part of itself
	dieModes
)

const testBuildID = "0123456789abcdef0123456789abcdef01234567"

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, files: map[string][]byte{}, patches: map[string]*Loaded{}, panics: map[string]bool{}, stuck: map[string]bool{},
		leaves: map[string]bool{}, complain: map[string]string{}, refuse: map[string]error{}, blockers: map[string]*code.Problem{},
		shipped: map[string]ShippedModule{}, fixed: map[string][]byte{}, users: map[string]string{},
		files2: map[string][]byte{}, forged: map[string]error{}, keys: map[string]string{}, tier: "stable", serial: 1, news: make(chan struct{}),
		host: Host{
			Kernel:    api.Kernel{Release: "6.1.0-55-amd64", BuildID: testBuildID, Arch: "x86_64"},
			MachineID: strings.Repeat("ab", 32), Hostname: "h", OS: "Debian", Distro: "debian-12",
		},
	}
	w.boot()
	return w
}

// boot is a fresh start of the machine; what was not on the disk is gone.
func (w *world) boot() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.boots++
	w.off, w.dieAt = false, 0
	w.patches = map[string]*Loaded{}
	w.host.BootID = fmt.Sprintf("boot-%d", w.boots)
	w.host.Booted = time.Now()
}

var errPower = errors.New("the power is gone")

// step is one thing that lasts. It reports whether it has its effect, and its
// error. The caller holds the lock.
func (w *world) step() (effect bool, err error) {
	if w.off {
		return false, errPower
	}
	w.steps++
	if w.steps == w.dieAt {
		w.off = true
		return w.mode == dieAfter, errPower
	}
	return true, nil
}

// --- Disk

type memDisk struct{ w *world }

func (d memDisk) ReadFile(name string) ([]byte, error) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	b, ok := d.w.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return bytes.Clone(b), nil
}

func (d memDisk) writable(name string) error {
	switch {
	case d.w.full:
		return code.New("TS9103", name, "")
	case d.w.ro:
		return code.New("TS9402", name, "the file system is read-only")
	}
	return nil
}

func (d memDisk) WriteFile(name string, b []byte) error {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	if err := d.writable(name); err != nil {
		return err
	}
	effect, err := d.w.step()
	if effect {
		d.w.files[name] = bytes.Clone(b)
	}
	return err
}

func (d memDisk) WriteAt(name string, off int64, b []byte) error {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	old := d.w.files[name]
	if d.w.full && int(off)+len(b) > len(old) {
		// What fits is written before the error, as a real disk does.
		d.w.files[name] = append(bytes.Clone(old[:off]), b[:len(b)/2]...)
		return code.New("TS9103", name, "")
	}
	if err := d.writable(name); err != nil {
		return err
	}
	effect, err := d.w.step()
	switch {
	case effect:
		d.w.files[name] = append(bytes.Clone(old[:off]), b...)
	case err != nil && d.w.mode == dieTorn && d.w.steps == d.w.dieAt:
		d.w.files[name] = append(bytes.Clone(old[:off]), b[:len(b)*2/3]...)
	}
	return err
}

func (d memDisk) Remove(name string) error {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	if _, ok := d.w.files[name]; !ok {
		return nil
	}
	if d.w.ro {
		return d.writable(name)
	}
	effect, err := d.w.step()
	if effect {
		delete(d.w.files, name)
	}
	return err
}

func (d memDisk) List(dir string) ([]string, error) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	var out []string
	for n := range d.w.files {
		if rest, ok := strings.CutPrefix(n, dir+"/"); ok {
			out = append(out, rest)
		}
	}
	slices.Sort(out)
	return out, nil
}

func (d memDisk) Free() (int64, error) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	if d.w.full {
		return 0, nil
	}
	return 1 << 40, nil
}

// --- System

type memSystem struct{ w *world }

func (s memSystem) Host(context.Context) (*Host, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	h := s.w.host
	return &h, nil
}

func (s memSystem) Preflight(_ context.Context, p *livepatch.Patch, _ []*livepatch.Manifest) []*code.Problem {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.onPreflight != nil {
		s.w.onPreflight(p)
	}
	if b := s.w.blockers[p.Manifest.Name]; b != nil {
		return []*code.Problem{b}
	}
	for _, o := range p.Manifest.Objects() {
		if m, is := loadedModule(&s.w.host, o); is && m.BuildID != s.w.shipped["kernel/"+o+".ko"].BuildID {
			return []*code.Problem{code.New("TS9214", o, "")}
		}
	}
	return nil
}

// --- Kernel

type memKernel struct{ w *world }

func (k memKernel) Load(_ context.Context, module []byte, name string) error {
	w := k.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.refuse[name]; err != nil {
		return err
	}
	if w.patches[name] != nil {
		return code.New("TS9301", name, "it is there")
	}
	if !bytes.Contains(module, []byte(name)) {
		w.t.Errorf("the module of %s is %q", name, module)
	}
	effect, err := w.step()
	if effect {
		w.loads = append(w.loads, w.host.BootID+" "+name)
		w.patches[name] = &Loaded{Name: name, Enabled: true, Transition: true}
		if w.panics[name] {
			w.off = true
			w.downs++
			return errPower
		}
	}
	return err
}

// ends waits until a transition is over, or the limit.
func (k memKernel) ends(ctx context.Context, name string, limit time.Duration, tick func([]api.Stall), stuck map[string]bool) (Transition, error) {
	began := time.Now()
	for {
		k.w.mu.Lock()
		held, off := stuck[name], k.w.off
		k.w.mu.Unlock()
		switch {
		case off:
			return Transition{}, errPower
		case !held:
			pause(ctx, 300*time.Millisecond)
			return Transition{Done: true, Duration: time.Since(began)}, ctx.Err()
		case time.Since(began) >= limit:
			return Transition{Duration: time.Since(began), Stalls: []api.Stall{{PID: 7, Comm: "nfsd", Function: "tcp_ack"}}}, nil
		}
		tick([]api.Stall{{PID: 7, Comm: "nfsd", Function: "tcp_ack"}})
		if pause(ctx, time.Second); ctx.Err() != nil {
			return Transition{}, ctx.Err()
		}
	}
}

func (k memKernel) Watch(ctx context.Context, name string, limit time.Duration, tick func([]api.Stall)) (Transition, error) {
	t, err := k.ends(ctx, name, limit, tick, k.w.stuck)
	if err != nil || !t.Done {
		return t, err
	}
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	effect, err := k.w.step()
	if effect && k.w.patches[name] != nil {
		k.w.patches[name].Transition = false
		for n := range k.w.patches {
			if n != name {
				delete(k.w.patches, n) // replaced
			}
		}
	}
	return t, err
}

func (k memKernel) Revert(ctx context.Context, name string, limit time.Duration, tick func([]api.Stall)) (Transition, error) {
	k.w.mu.Lock()
	effect, err := k.w.step()
	p := k.w.patches[name]
	if effect && p != nil {
		p.Enabled, p.Transition = false, true
	}
	k.w.mu.Unlock()
	if err != nil {
		return Transition{}, err
	}
	if p == nil {
		return Transition{Done: true}, nil
	}
	t, err := k.ends(ctx, name, limit, tick, k.w.leaves)
	if err != nil || !t.Done {
		return t, err
	}
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	effect, err = k.w.step()
	if effect {
		delete(k.w.patches, name)
	}
	return t, err
}

func (k memKernel) Remove(context.Context, string) error {
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	_, err := k.w.step()
	return err
}

func (k memKernel) Loaded(context.Context) ([]Loaded, error) {
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	var out []Loaded
	for _, n := range slices.Sorted(maps.Keys(k.w.patches)) {
		out = append(out, *k.w.patches[n])
	}
	return out, nil
}

func (k memKernel) Complaint(ctx context.Context, _ time.Time, module string, _ []string) (string, error) {
	for {
		k.w.mu.Lock()
		line, off := k.w.complain[module], k.w.off
		k.w.mu.Unlock()
		if line != "" && !off {
			return line, nil
		}
		if pause(ctx, time.Second); ctx.Err() != nil {
			return "", nil
		}
	}
}

// --- Server, Source, Link, Crypt

type memServer struct{ w *world }

func (s memServer) ask() error {
	switch {
	case s.w.off:
		return errPower
	case s.w.down:
		return code.New("TS7612", "server", "no answer in time")
	}
	return s.w.refusal
}

func (s memServer) CheckIn(_ context.Context, c api.CheckIn, etag string) (*api.Assignment, string, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if err := s.ask(); err != nil {
		return nil, "", err
	}
	if s.w.old && saysStale(&c) {
		s.w.refused++
		return nil, "", code.New("TS7601", "body", `unknown field "stale"`)
	}
	s.w.checked = append(s.w.checked, c)
	s.w.named = nil
	for _, p := range c.Packages {
		s.w.named = append(s.w.named, p.ID)
	}
	now := s.w.tag()
	if etag == now {
		return nil, now, nil
	}
	as := &api.Assignment{
		Machine: "m", Tier: s.w.tier, Policy: s.w.policy, Interval: 600, Keys: s.w.given(), Hold: s.w.held, Want: s.w.want,
		Time: time.Now().Add(-s.w.skew).UnixMilli(),
	}
	if len(c.Modules) > 0 {
		as.Want = nil
	}
	if x := s.w.indexOf(s.w.tier, s.w.policy); x != nil {
		as.Sequence = x.Sequence
	}
	s.w.assign(as, c.Packages)
	return as, now, nil
}

func (s memServer) Wait(ctx context.Context, etag string, timeout time.Duration) (bool, error) {
	s.w.mu.Lock()
	news, err := s.w.news, s.ask()
	changed := etag != s.w.tag()
	s.w.mu.Unlock()
	if err != nil || changed {
		return changed, err
	}
	select {
	case <-news:
		return true, nil
	case <-time.After(timeout):
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (s memServer) Reports(_ context.Context, all []api.Report) ([]string, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if err := s.ask(); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(all, func(r api.Report) bool { return r.ID == s.w.poison }) {
		return nil, code.New("TS7601", "", "")
	}
	var ids []string
	for _, r := range all {
		if !slices.ContainsFunc(s.w.got, func(g api.Report) bool { return g.ID == r.ID }) {
			s.w.got = append(s.w.got, r)
		}
		ids = append(ids, r.ID)
	}
	return ids, nil
}

func (s memServer) Leave(context.Context) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.ask()
}

func (s memServer) Refresh(context.Context) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return errors.Join(s.ask(), s.w.stale)
}

// indexOf is the index of a tier and a policy, or nil. The caller holds the lock.
func (w *world) indexOf(tier, policy string) *trust.Index {
	for _, x := range append([]*trust.Index{w.index}, w.others...) {
		if x != nil && x.Tier == tier && x.Policy == policy {
			return x
		}
	}
	return nil
}

func (s memServer) Index(_ context.Context, tier, id, policy string) (*trust.Index, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	found := s.w.indexOf(tier, policy)
	if x := s.w.ofPackage[id]; x != nil {
		found = x
	} else if id == packageRef().ID {
		return nil, s.ask()
	} else if s.w.noIndex != nil {
		return nil, s.w.noIndex
	}
	if found == nil {
		return nil, s.ask()
	}
	x := *found
	x.Patches, x.Blocked = slices.Clone(x.Patches), slices.Clone(x.Blocked)
	return &x, s.ask()
}

func (s memServer) Cached(tier, buildID, policy string) (*trust.Index, time.Time, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if c := s.w.cached; c == nil || c.Tier != tier || c.Policy != policy || c.Target.BuildID != buildID {
		return nil, time.Time{}, nil
	}
	return s.w.cached, time.Time{}, nil
}

func (s memServer) Patch(_ context.Context, _ string, o trust.Offer) ([]byte, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return bytes.Clone(s.w.files2[o.ID]), s.ask()
}

func (s memServer) Provenance(_ context.Context, _ string, o trust.Offer) (*trust.Provenance, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return &trust.Provenance{}, errors.Join(s.ask(), s.w.forged[o.ID])
}

type memLink struct{ w *world }

func (l memLink) Enroll(_ context.Context, e Enrollment, _ api.EnrollRequest) (*Machine, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if err := memServer(l).ask(); err != nil {
		return nil, err
	}
	return &Machine{ID: "m", Server: e.Server, Credential: "tsm_x", Tier: l.w.tier}, nil
}

func (l memLink) Open(*Machine) (Server, Source, error) {
	return memServer(l), memServer(l), nil
}

func (l memLink) Bundle(context.Context, []byte, string) (Source, *BundleInfo, error) {
	return memServer(l), &BundleInfo{Tier: l.w.tier, Policy: l.w.bundled, Keys: l.w.keys}, nil
}

func (l memLink) Forget() error { return nil }

// memCrypt puts a word before the plain text.
type memCrypt struct{}

func (memCrypt) NewIdentity() (string, string, error) { return "secret", "recipient", nil }

func (memCrypt) Recipient(string) (string, error) { return "recipient", nil }

func (memCrypt) Decrypt(cipher []byte, wrapped, secret string) ([]byte, error) {
	b, ok := bytes.CutPrefix(cipher, []byte("sealed:"+wrapped+":"))
	if !ok || secret != "secret" {
		return nil, code.New("TS7106", "", "")
	}
	return b, nil
}

// --- what tests do with it

// given are the keys that the server gives. The caller holds the lock.
func (w *world) given() map[string]string {
	keys := maps.Clone(w.keys)
	for _, id := range w.gated {
		delete(keys, id)
	}
	return keys
}

// offer publishes a live patch of a version.
func (w *world) offer(version int, more ...func(p *livepatch.Patch)) trust.Offer {
	w.t.Helper()
	name := fmt.Sprintf("tsugi_v%d", version)
	p, err := livepatch.New(livepatch.Manifest{
		Name: name, Version: version,
		Target: livepatch.TargetRef{
			Name: "debian:6.1.0-55-amd64", Release: "6.1.0-55-amd64", PackageVersion: "6.1.192-1", Arch: "x86_64", BuildID: testBuildID,
		},
		Fixes:     []livepatch.FixRef{{ID: "fix", Title: "net: check the length", CVEs: []string{"CVE-2026-12345"}}},
		Functions: []livepatch.Function{{Object: "vmlinux", Name: "tcp_ack"}},
	}, name+".ko", []byte("module "+name), map[string][]byte{"fix": []byte("--- a/x\n")})
	qt.Assert(w.t, qt.IsNil(err))
	for _, f := range more {
		f(p)
	}
	b, err := p.Bytes()
	qt.Assert(w.t, qt.IsNil(err))
	o := trust.Offer{ID: trust.PatchID("debian:6.1.0-55-amd64", version), Name: name, Version: version, Digest: digest(b), Size: int64(len(b)), CVEs: []string{"CVE-2026-12345"}}
	w.publish(func(x *trust.Index) {
		x.Patches = append(x.Patches, o)
		w.files2[o.ID] = append([]byte("sealed:key"+o.ID+":"), b...)
		w.keys[o.ID] = "key" + o.ID
	})
	return o
}

// plain is the file of a live patch.
func (w *world) plain(id string) []byte {
	return bytes.TrimPrefix(w.files2[id], []byte("sealed:"+w.keys[id]+":"))
}

// publish changes the index and tells the machine.
func (w *world) publish(change func(x *trust.Index)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.index == nil {
		w.index = &trust.Index{Format: 1, Tier: w.tier, Target: trust.IndexRef{Name: "debian:6.1.0-55-amd64", Release: "6.1.0-55-amd64", Arch: "x86_64", BuildID: testBuildID}}
	}
	x := *w.index
	x.Patches, x.Blocked = slices.Clone(x.Patches), slices.Clone(x.Blocked)
	x.Sequence++
	change(&x)
	w.index = &x
	w.bump()
}

// publishTo makes the index of another policy.
func (w *world) publishTo(policy string, change func(x *trust.Index)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := *w.index
	x.Policy, x.Patches, x.Revert, x.Blocked = policy, slices.Clone(x.Patches), nil, nil
	change(&x)
	w.others = append(w.others, &x)
	w.bump()
}

func (w *world) bump() {
	w.serial++
	close(w.news)
	w.news = make(chan struct{})
}

// set changes the world under its lock.
func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func testConfig() Config {
	c := DefaultConfig()
	return c
}

func (w *world) open(cfg ...Config) *Agent {
	w.t.Helper()
	c := testConfig()
	if len(cfg) > 0 {
		c = cfg[0]
	}
	a, err := Open(w.t.Context(), Options{
		Modules: memModules{w}, Keeper: memKeeper{w}, Disk: memDisk{w}, Config: c, System: memSystem{w}, Kernel: memKernel{w}, Link: memLink{w}, Crypt: memCrypt{}, Version: "test",
		Run: func(_ context.Context, argv []string) (string, error) {
			if w.healthy == nil {
				return "", nil
			}
			return "what it printed", w.healthy(argv)
		},
	})
	qt.Assert(w.t, qt.IsNil(err))
	return a
}

// start runs a daemon until stop is called.
func (w *world) start(cfg ...Config) (a *Agent, stop func()) {
	a = w.open(cfg...)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Run(ctx); err != nil {
			w.t.Errorf("run: %v", err)
		}
	})
	return a, func() { cancel(); wg.Wait() }
}

// enroll makes the machine known before a test.
func (w *world) enroll() {
	w.t.Helper()
	a := w.open()
	_, err := a.Enroll(w.t.Context(), Enrollment{Server: "https://server:8443", Token: "t"})
	qt.Assert(w.t, qt.IsNil(err))
}

func (w *world) loaded() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, n := range slices.Sorted(maps.Keys(w.patches)) {
		s := n
		if w.patches[n].Transition {
			s += " in transition"
		}
		out = append(out, s)
	}
	return out
}

// states are the states that were reported, in order.
func (w *world) states() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, r := range w.got {
		if r.Patch.State != "" {
			out = append(out, fmt.Sprintf("v%d %s", r.Patch.Version, r.Patch.State))
		}
	}
	return out
}
