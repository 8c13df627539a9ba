// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// packageWorld is what of a world packages need: the list and the indexes of the
// tier, and a keeper, whose directory outlasts boots.
type packageWorld struct {
	catalogue *trust.Packages
	ofPackage map[string]*trust.Index
	named     []string // ids of the packages of the last check-in

	mapped     map[string]int // processes by id of the package
	busy       int            // of them, that are pending
	kept       map[string]keptOne
	stamps     int64
	sought     map[string][]string
	crashes    []Crash
	asleep     bool // the keeper does not run
	absent     bool
	slow       bool // it runs, and comes to no end
	gives      []string
	backs      []string
	staleFiles *api.Stale // what the keeper says of it
	staleOf    map[string]int
	old        bool // the server refuses what it does not know
	refused    int
}

type keptOne struct {
	Kept
	version int
	in      bool // processes have it
}

const testPackage = "debian:libssl3=3.0.20-1~deb12u2"

func packageRef() PackageRef {
	return PackageRef{livepatch.TargetRef{Name: testPackage, Arch: "x86_64"}.ID(), testPackage}
}

// offerPackage publishes a live patch of the package.
func (w *world) offerPackage(version int) trust.Offer {
	w.t.Helper()
	ref := packageRef()
	name := fmt.Sprintf("libssl3_v%d", version)
	p, err := livepatch.NewUserland(livepatch.Manifest{
		Name: name, Version: version,
		Target:    livepatch.TargetRef{Name: testPackage, PackageVersion: "3.0.20-1~deb12u2", Arch: "x86_64"},
		Fixes:     []livepatch.FixRef{{ID: "fix", Title: "ocb: check the length", CVEs: []string{"CVE-2026-45445"}}},
		Functions: []livepatch.Function{{Object: "libcrypto.so.3", Name: "aes_ocb_cipher"}},
		Files:     []livepatch.FileRef{{BuildID: "0123456789abcdef", Name: "libcrypto.so.3", Path: "/usr/lib/libcrypto.so.3", Package: "libssl3"}},
	}, map[string][]byte{"0123456789abcdef": []byte("splice of " + name)}, map[string][]byte{"fix": []byte("--- a/x\n")})
	qt.Assert(w.t, qt.IsNil(err))
	b, err := p.Bytes()
	qt.Assert(w.t, qt.IsNil(err))
	o := trust.Offer{ID: trust.PatchID(testPackage, version), Name: name, Version: version, Digest: digest(b), Size: int64(len(b)), CVEs: []string{"CVE-2026-45445"}}
	w.publishPackage(func(x *trust.Index) {
		x.Patches = append(x.Patches, o)
		w.files2[o.ID] = append([]byte("sealed:key"+o.ID+":"), b...)
		w.keys[o.ID] = "key" + o.ID
		w.catalogue = &trust.Packages{Format: trust.PackagesFormat, Tier: w.tier, Packages: []trust.Package{{
			Target: testPackage, Arch: "x86_64", ID: ref.ID, Files: []trust.ELFFile{{BuildID: "0123456789abcdef", Name: "libcrypto.so.3"}},
		}}}
	})
	return o
}

// publishPackage changes the index of the package and tells the machine.
func (w *world) publishPackage(change func(x *trust.Index)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ref := packageRef()
	x := &trust.Index{Format: 1, Tier: w.tier, Target: trust.IndexRef{Name: ref.Target, Arch: "x86_64", BuildID: ref.ID}}
	if old := w.ofPackage[ref.ID]; old != nil {
		*x = *old
	}
	x.Patches, x.Blocked = slices.Clone(x.Patches), slices.Clone(x.Blocked)
	x.Sequence++
	change(x)
	w.ofPackage = map[string]*trust.Index{ref.ID: x}
	w.bump()
}

// tag is that of the server's answer. The caller holds the lock.
func (w *world) tag() string {
	if len(w.named) == 0 {
		return fmt.Sprint(w.serial)
	}
	return fmt.Sprint(w.serial, w.named)
}

// assign is what the server says about packages. The caller holds the lock.
func (w *world) assign(as *api.Assignment, named []api.Package) {
	as.Catalogue = catalogueDigest(w.catalogue)
	as.Packages = map[string]int64{}
	for _, p := range named {
		if x := w.ofPackage[p.ID]; x != nil {
			as.Packages[p.ID] = x.Sequence
		}
	}
}

func (s memServer) Packages(context.Context, string) (*trust.Packages, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.w.catalogue, s.ask()
}

// memKeeper has the directory of the world's machine, and brings processes to it
// at once.
type memKeeper struct{ w *world }

func (k memKeeper) Seek(_ context.Context, files map[string][]string) error {
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	k.w.sought = maps.Clone(files)
	return nil
}

func (k memKeeper) Give(_ context.Context, file []byte, back bool) (int64, error) {
	w := k.w
	w.mu.Lock()
	defer w.mu.Unlock()
	p, err := livepatch.Read(file)
	if err != nil {
		w.t.Errorf("the keeper got %d bytes: %v", len(file), err)
		return 0, err
	}
	m := &p.Manifest
	id := trust.PatchID(m.Target.Name, m.Version)
	if w.full {
		return 0, code.New("TS9103", id, "")
	}
	for _, old := range w.kept {
		if old.Target == m.Target.Name && old.version > m.Version && !back {
			return 0, code.New("TS9423", id, "")
		}
	}
	effect, err := w.step()
	if effect {
		w.stamps++
		maps.DeleteFunc(w.kept, func(_ string, o keptOne) bool { return o.Target == m.Target.Name })
		if w.kept == nil {
			w.kept = map[string]keptOne{}
		}
		w.kept[id] = keptOne{Kept: Kept{ID: id, Target: m.Target.Name, Stamp: w.stamps, Given: true}, version: m.Version}
		w.gives = append(w.gives, w.host.BootID+" "+m.Name)
		if w.brings() {
			return 0, errPower
		}
	}
	return w.stamps, err
}

// brings has the keeper go through all processes, and reports whether that took
// the machine down. The caller holds the lock.
func (w *world) brings() bool {
	if w.asleep || w.slow {
		return false
	}
	for id, one := range w.kept {
		one.in = true
		w.kept[id] = one
		if w.panics[id] && !w.off {
			w.off = true
			w.downs++
			return true
		}
	}
	return false
}

func (k memKeeper) TakeBack(_ context.Context, id string) error {
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	if _, there := k.w.kept[id]; !there {
		return nil
	}
	if k.w.ro {
		return code.New("TS9661", id, "")
	}
	effect, err := k.w.step()
	if effect {
		delete(k.w.kept, id)
		k.w.backs = append(k.w.backs, id)
		k.w.crashes = slices.DeleteFunc(k.w.crashes, func(c Crash) bool { return c.Patch == id })
	}
	return err
}

func (k memKeeper) Kept(context.Context) ([]Kept, error) {
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	var out []Kept
	for _, id := range slices.Sorted(maps.Keys(k.w.kept)) {
		out = append(out, k.w.kept[id].Kept)
	}
	return out, nil
}

func (k memKeeper) Status(context.Context) (*KeeperStatus, error) {
	w := k.w
	w.mu.Lock()
	defer w.mu.Unlock()
	st := &KeeperStatus{Mapped: map[string]int{}, Reach: map[string]Reach{}, Counted: true, Crashes: slices.Clone(w.crashes)}
	if w.absent {
		st.Absent, st.Problem = true, code.New("TS9440", "", "")
		return st, nil
	}
	if w.asleep {
		st.Problem = code.New("TS9440", "", "")
	} else if !w.off {
		w.brings()
	}
	st.Stale, st.StaleOf = w.staleFiles, maps.Clone(w.staleOf)
	for id := range w.sought {
		if n := w.mapped[id]; n > 0 {
			st.Mapped[id] = n
		}
	}
	for id, one := range w.kept {
		n := w.mapped[packageRef().ID]
		if one.in {
			r := Reach{Stamp: one.Stamp, Processes: api.Processes{Protected: n - w.busy, Pending: w.busy}}
			if w.busy > 0 {
				r.Reasons = []api.ProcessReason{{Problem: api.Problem{Code: "TS9620", What: "busy"}, Processes: w.busy, Program: "nginx"}}
			}
			st.Reach[id] = r
		}
	}
	return st, nil
}

// keptNow are the live patches of packages that the machine has.
func (w *world) keptNow() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(w.kept)), " ")
}

// packageOf is what a status says of the package.
func packageOf(s Status) PackageStatus {
	i := slices.IndexFunc(s.Packages, func(p PackageStatus) bool { return p.ID == packageRef().ID })
	if i < 0 {
		return PackageStatus{}
	}
	return s.Packages[i]
}

// plainPackage is the file of a live patch of the package.
func (w *world) plainPackage(id string) []byte {
	return bytes.TrimPrefix(w.files2[id], []byte("sealed:"+w.keys[id]+":"))
}
