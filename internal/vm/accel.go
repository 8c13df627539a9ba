// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// Accel is how QEMU runs the guest's instructions.
type Accel string

// The accelerators that are tried, best first.
const (
	KVM Accel = "kvm"
	TCG Accel = "tcg"
)

// args returns the values of -accel and -cpu. The emulator runs all processors
// in one thread: with a thread for each, QEMU 7.2 was seen to run a stale copy
// of code that the guest has just patched, and a kernel that is being traced or
// live-patched dies of "int3" (bugzilla.redhat.com 2216496). What runs here is
// hardly parallel, so that little is lost.
func (a Accel) args() (accel, cpu string) {
	if a == KVM {
		return "kvm", "host"
	}
	return "tcg,thread=single", "max"
}

// probeTime is generous: with KVM the probe takes two seconds.
const probeTime = 25 * time.Second

// Probe finds the accelerator that Run would find for a configuration.
func Probe(ctx context.Context, cfg Config) (Accel, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return "", err
	}
	return probe(ctx, cfg)
}

// probe finds the accelerator by booting with it. That /dev/kvm exists says
// little: inside another virtual machine it may abort, or never get past the
// firmware. The result holds for one QEMU on one host kernel and is cached.
func probe(ctx context.Context, cfg Config) (Accel, error) {
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return TCG, nil
	}
	kvm.Close()
	key := probeKey(ctx, cfg.QEMU)
	file := filepath.Join(cfg.CacheDir, "accelerator.json")
	if cfg.CacheDir != "" {
		if a, ok := readProbe(file, key); ok {
			return a, nil
		}
	}
	small := cfg
	small.Accel, small.Timeout, small.OnEvent, small.CutAt = KVM, probeTime, nil, nil
	small.Modules, small.Programs, small.Files, small.Disks, small.Net, small.Output = nil, nil, nil, nil, nil, false
	found := TCG
	switch out, err := boot(ctx, &small, &wire.Plan{Format: wire.Format}); {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err == nil && out.End == Finished:
		found = KVM
	}
	if cfg.CacheDir != "" {
		// A probe that cannot be remembered is repeated; that is no error.
		_ = writeProbe(file, key, found)
	}
	return found, nil
}

type probeResult struct {
	Key   string `json:"key"`
	Accel Accel  `json:"accelerator"`
}

func probeKey(ctx context.Context, qemu string) string {
	out, _ := exec.CommandContext(ctx, qemu, "--version").Output()
	first, _, _ := strings.Cut(string(out), "\n")
	var u unix.Utsname
	_ = unix.Uname(&u)
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.Join([]string{first, unix.ByteSliceToString(u.Release[:]), strings.TrimSpace(string(boot))}, "|")
}

func readProbe(file, key string) (Accel, bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", false
	}
	var r probeResult
	if json.Unmarshal(b, &r) != nil || r.Key != key || (r.Accel != KVM && r.Accel != TCG) {
		return "", false
	}
	return r.Accel, true
}

func writeProbe(file, key string, a Accel) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	b, err := json.Marshal(probeResult{Key: key, Accel: a})
	if err != nil {
		return err
	}
	return renameio.WriteFile(file, append(b, '\n'), 0o644)
}
