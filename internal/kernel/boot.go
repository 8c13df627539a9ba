// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// latest is the package that depends on the newest kernel of the distribution.
const latest = "linux-image-amd64"

// bootWithin bounds how long a kernel to boot is waited for: 70 MB of download,
// and a minute's work.
const bootWithin = 30 * time.Minute

// Boot gives a kernel that virtual machines can run: the one that an earlier
// call has fetched, else the distribution's newest, by the apt that is asked for
// then. It is an image with its modules and nothing else; live patches can't be
// made for it, and Get and List don't know it. One is kept, in HOME/boot, which
// may be deleted.
func (s *Store) Boot(ctx context.Context, apt func(context.Context) (Apt, error), rep progress.Reporter) (*Target, error) {
	return s.boot(ctx, apt, bootWithin, rep)
}

func (s *Store) boot(ctx context.Context, apt func(context.Context) (Apt, error), within time.Duration, rep progress.Reporter) (*Target, error) {
	unlock, err := s.lock(ctx, "boot", true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, name := range s.boots().Names() {
		if t, err := s.booted(name); err == nil {
			return t, nil
		}
	}
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	a, err := apt(limited)
	if err != nil {
		return nil, err
	}
	t, err := s.fetchBoot(limited, a, rep)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("it was not fetched within %s", within)
	}
	return t, err
}

func (s *Store) boots() Targets { return Targets(filepath.Join(s.home, "boot")) }

// booted opens what fetchBoot made.
func (s *Store) booted(name string) (*Target, error) {
	var t Target
	if err := s.boots().Read(name, targetFormat, &t); err != nil {
		return nil, err
	}
	if _, err := os.Stat(t.Vmlinuz); err != nil {
		return nil, err
	}
	t.home = s.home
	return &t, t.loadModules()
}

// fetchBoot downloads the newest kernel and unpacks it.
func (s *Store) fetchBoot(ctx context.Context, apt Apt, rep progress.Reporter) (*Target, error) {
	p, err := newestImage(ctx, apt)
	if err != nil {
		return nil, err
	}
	debs, err := apt.Fetch(ctx, s.debs(), []Deb{p}, rep)
	if err != nil {
		return nil, err
	}
	release := strings.TrimPrefix(p.Name, "linux-image-")
	t := &Target{
		Format: targetFormat, Name: "debian:" + release, Release: release,
		Package: p.Name, PackageVersion: p.Version, SourceVersion: p.SourceVersion,
		Arch: "x86_64", Packages: []Input{{p.File, p.SHA256}},
	}
	if err := os.RemoveAll(string(s.boots())); err != nil { // older ones, or halves of one
		return nil, err
	}
	dir := s.boots().Dir(t.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, DiskError(dir, err)
	}
	image := filepath.Join(dir, "image")
	if err := unpackImage(ctx, debs[p.Name], image, t, rep); err != nil {
		return nil, err
	}
	config, err := os.ReadFile(filepath.Join(image, "config"))
	if err != nil {
		return nil, code.New("TS2307", p.File, "it has no configuration").With(err)
	}
	sum := sha256.Sum256(config)
	t.ConfigDigest = hex.EncodeToString(sum[:])
	if err := s.boots().Write(t.Name, t); err != nil {
		return nil, err
	}
	return s.booted(t.Name)
}

// newestImage finds the package of the kernel that the distribution would
// install today.
func newestImage(ctx context.Context, apt Apt) (Deb, error) {
	metas, err := apt.Show(ctx, latest)
	if err != nil {
		return Deb{}, err
	}
	for _, m := range metas {
		for dep := range strings.SplitSeq(m.Depends, ",") {
			name, version := relation(dep)
			if !imageName.MatchString(name) {
				continue
			}
			all, err := apt.Show(ctx, name)
			if err != nil {
				return Deb{}, err
			}
			if len(all) == 0 {
				continue // the archive has lost it, and names an older one
			}
			d, err := choose(all, name, version)
			if err == nil && d.Arch != "amd64" {
				err = code.New("TS2311", name, d.Arch)
			}
			return d, err
		}
	}
	return Deb{}, code.New("TS2303", latest, "apt knows no kernel that it depends on")
}

// relation reads one dependency: its package, and the version if it names one.
func relation(text string) (name, version string) {
	if m := packageRelation.FindStringSubmatch(text); m != nil {
		return m[1], m[2]
	}
	return strings.TrimSpace(text), ""
}
