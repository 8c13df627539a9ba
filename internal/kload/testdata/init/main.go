// SPDX-License-Identifier: Apache-2.0

// Command init is process 1 in the virtual machines of this package's tests:
// its verbs are the functions of kload, hostinfo and preflight.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
	"github.com/tsugi-project/tsugi/internal/kload"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/preflight"
	vmguest "github.com/tsugi-project/tsugi/internal/vm/guest"
)

// args are those of all verbs.
type args struct {
	Name    string          `json:"name,omitempty"`
	Path    string          `json:"path,omitempty"`
	Want    kload.Direction `json:"want,omitempty"`
	LimitMS int64           `json:"limit_ms,omitempty"`
	SlowMS  int64           `json:"slow_ms,omitempty"`
	Text    string          `json:"text,omitempty"`
}

func (a args) options(ticks *int) kload.WatchOptions {
	return kload.WatchOptions{
		Limit: time.Duration(a.LimitMS) * time.Millisecond, Slow: time.Duration(a.SlowMS) * time.Millisecond,
		OnTick: func(kload.Transition) { *ticks++ },
	}
}

// result is that of all verbs.
type result struct {
	Code       code.Code            `json:"code,omitempty"`
	Error      string               `json:"error,omitempty"`
	Transition *kload.Transition    `json:"transition,omitempty"`
	Ticks      int                  `json:"ticks,omitempty"`
	Loaded     []hostinfo.Livepatch `json:"loaded,omitempty"`
	Host       *hostinfo.Host       `json:"host,omitempty"`
	Findings   []preflight.Finding  `json:"findings,omitempty"`
	Trouble    []kload.Trouble      `json:"trouble,omitempty"`
}

func (r *result) of(err error) {
	if err != nil {
		r.Code, r.Error = code.Of(err), err.Error()
	}
}

type guest struct {
	*kload.Loader
	log    *kload.Klog
	health *kload.Health
}

// read reads a live patch, or a module that has no manifest.
func read(path string) (*livepatch.Manifest, []byte, error) {
	b, err := os.ReadFile(path)
	if err != nil || filepath.Ext(path) == ".ko" {
		return nil, b, err
	}
	p, err := livepatch.Read(b)
	if err != nil {
		return nil, nil, err
	}
	return &p.Manifest, p.Module(), nil
}

func (g *guest) load(ctx context.Context, a args, _ *result) error {
	_, ko, err := read(a.Path)
	if err != nil {
		return err
	}
	return g.Load(ctx, ko, a.Name)
}

func (g *guest) watch(ctx context.Context, a args, r *result) error {
	t, err := g.Watch(ctx, a.Name, a.Want, a.options(&r.Ticks))
	r.Transition = &t
	return err
}

func (g *guest) revert(ctx context.Context, a args, r *result) error {
	t, err := g.Revert(ctx, a.Name, a.options(&r.Ticks))
	r.Transition = &t
	return err
}

func (g *guest) loaded(_ context.Context, _ args, r *result) (err error) {
	r.Loaded, err = g.Loaded()
	return err
}

func (g *guest) host(_ context.Context, _ args, r *result) (err error) {
	r.Host, err = hostinfo.Read("/")
	return err
}

func (g *guest) preflight(_ context.Context, a args, r *result) error {
	h, err := hostinfo.Read("/")
	if err != nil {
		return err
	}
	m, ko, err := read(a.Path)
	if err != nil {
		return err
	}
	module, err := preflight.ReadModule(ko)
	if err != nil {
		return err
	}
	r.Host = h
	r.Findings = preflight.Check(preflight.Request{Host: h, Manifest: m, Module: module})
	return nil
}

// watchLog begins a health watch, and trouble tells what it found.
func (g *guest) watchLog(_ context.Context, _ args, _ *result) (err error) {
	patches, err := g.Loaded()
	if err != nil {
		return err
	}
	g.health = kload.NewHealth(patches)
	g.log, err = g.Klog()
	return err
}

func (g *guest) trouble(_ context.Context, _ args, r *result) error {
	records, err := g.log.Read()
	for _, rec := range records {
		g.health.Add(rec)
	}
	r.Trouble = g.health.Take(-1)
	return err
}

// wait waits for a record that does not come, and for one that does.
func (g *guest) wait(ctx context.Context, _ args, _ *result) error {
	log, err := g.Klog()
	if err != nil {
		return err
	}
	defer log.Close()
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	for err == nil {
		_, err = log.Next(short)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("a wait that its context ends: %w", err)
	}
	const text = "tsugi: somebody says something"
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "sleep 0.3; echo '"+text+"' > /dev/kmsg")
	if err := cmd.Start(); err != nil {
		return err
	}
	long, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		r, err := log.Next(long)
		if err != nil || r.Text == text && !r.Kernel {
			return err
		}
	}
}

// background starts a shell command that nobody waits for.
func (g *guest) background(_ context.Context, a args, _ *result) error {
	cmd := exec.Command("/bin/sh", "-c", a.Text)
	return cmd.Start()
}

func main() {
	g := &guest{Loader: kload.New(kload.Options{})}
	verbs := map[string]vmguest.Verb{}
	for name, f := range map[string]func(context.Context, args, *result) error{
		"load": g.load, "watch": g.watch, "revert": g.revert, "loaded": g.loaded,
		"host": g.host, "preflight": g.preflight, "watch-log": g.watchLog, "trouble": g.trouble, "background": g.background, "wait": g.wait,
		"reverse": func(ctx context.Context, a args, _ *result) error { return g.Reverse(ctx, a.Name) },
		"remove":  func(ctx context.Context, a args, _ *result) error { return g.Remove(ctx, a.Name) },
		"mount": func(context.Context, args, *result) error {
			return unix.Mount("securityfs", "/sys/kernel/security", "securityfs", 0, "")
		},
	} {
		verbs[name] = func(ctx context.Context, _ *vmguest.Env, raw json.RawMessage) (any, error) {
			var a args
			if len(raw) > 0 {
				if err := json.Unmarshal(raw, &a); err != nil {
					return nil, err
				}
			}
			r := &result{}
			r.of(f(ctx, a, r))
			return r, nil
		}
	}
	vmguest.Main(verbs)
	os.Exit(1)
}
