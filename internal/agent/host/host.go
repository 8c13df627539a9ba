// SPDX-License-Identifier: Apache-2.0

// Package host is what the agent acts on and through on a real machine:
// hostinfo and preflight behind agent.System, kload behind agent.Kernel, the
// API client and the TUF updater behind agent.Link, age behind agent.Crypt.
package host

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/preflight"
)

// System is this machine.
type System struct {
	Root string // "" is "/"
	Dir  string // of the agent's state, for what is free there
}

// Host reads it.
func (s System) Host(context.Context) (*agent.Host, error) {
	h, err := hostinfo.Read(cmp.Or(s.Root, "/"))
	if err != nil {
		return nil, err
	}
	out := &agent.Host{
		Kernel: api.Kernel{Release: h.Release, BuildID: h.BuildID, Arch: h.Arch},
		BootID: h.BootID, MachineID: MachineID(h.MachineID), Hostname: h.Hostname, OS: h.OS,
		Distro: distro(filepath.Join(cmp.Or(s.Root, "/"), "etc/os-release")),
		Booted: time.Now().Add(-h.Uptime), Off: h.Off(),
		Problems: preflight.Problems(preflight.Able(h)),
	}
	for _, m := range h.Modules {
		out.Modules = append(out.Modules, api.Module{Name: m.Name, BuildID: m.BuildID})
	}
	return out, nil
}

// Able is what tsugi check shows before anything is enrolled.
func (s System) Able() (*hostinfo.Host, []preflight.Finding, error) {
	h, err := hostinfo.Read(cmp.Or(s.Root, "/"))
	if err != nil {
		return nil, nil, err
	}
	return h, preflight.Able(h), nil
}

// Preflight judges a live patch against the machine as it is now.
func (s System) Preflight(_ context.Context, p *livepatch.Patch, ours []*livepatch.Manifest) []*code.Problem {
	h, err := hostinfo.Read(cmp.Or(s.Root, "/"))
	if err != nil {
		return []*code.Problem{asProblem(err)}
	}
	m, err := preflight.ReadModule(p.Module())
	if err != nil {
		return []*code.Problem{asProblem(err)}
	}
	var names []string
	var replaced []*livepatch.Manifest
	for _, o := range ours {
		names = append(names, o.Name)
		if slices.ContainsFunc(h.Livepatches, func(l hostinfo.Livepatch) bool { return l.Name == o.Name }) {
			replaced = append(replaced, o)
		}
	}
	return preflight.Problems(preflight.Check(preflight.Request{
		Host: h, Manifest: &p.Manifest, Module: m, Ours: names, Replaces: replaced, Space: s.space(),
		OnDisk: hostinfo.ModulesOnDisk(cmp.Or(s.Root, "/"), h.Release, p.Manifest.Objects()),
	}))
}

// journalRoom is what the journal needs to take the live patch through all of
// its states; the live patch itself is in the cache already.
const journalRoom = 1 << 20

func (s System) space() preflight.Space {
	var fs unix.Statfs_t
	if s.Dir == "" || unix.Statfs(s.Dir, &fs) != nil {
		return preflight.Space{}
	}
	return preflight.Space{Path: s.Dir, Free: int64(fs.Bavail) * fs.Bsize, Need: journalRoom}
}

func asProblem(err error) *code.Problem {
	if p, ok := err.(*code.Problem); ok {
		return p
	}
	return code.New("TS9400", "", "").With(err)
}

// MachineID is what a server may know of /etc/machine-id: the file itself is
// for this machine only (machine-id(5)).
func MachineID(id string) string {
	if id == "" {
		return ""
	}
	h := sha256.Sum256([]byte("tsugi" + id))
	return hex.EncodeToString(h[:])
}

// distro is ID-VERSION_ID of os-release, as package URLs have it.
func distro(path string) string {
	b, err := os.ReadFile(path)
	if err != nil || len(b) > 64<<10 {
		return ""
	}
	v := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			v[key] = strings.Trim(value, `"'`)
		}
	}
	return strings.Trim(v["ID"]+"-"+v["VERSION_ID"], "-")
}
